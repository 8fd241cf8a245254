"""The ciphertext of the root file system's superblock is ruined, for the shell that a failed mount may give."""

import os

from harness import Attack, lab


def ruin(box):
    root = lab.partitions(box.appliance.image)["guest-root"]
    box.patch_disk(root.start * lab.SECTOR + 1024, os.urandom(1024))


ATTACK = Attack("disk", change=ruin, until=r"\(initramfs\)|# $|machine is reset",
                refused=lambda seen: "machine is reset" in seen.text and "(initramfs)" not in seen.text)
