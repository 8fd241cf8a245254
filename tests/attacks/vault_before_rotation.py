"""Both copies of the header are those of before a rotation of KEK and disk key, kept by whoever had the disk then.

No TPM says how old a header may be: the boot opens it.  What it gives is the disk key of then, with which nothing on the disk
is encrypted any more: the guest finds no root, and nothing of a thief's in its place.
"""

import vaults

from harness import Attack, Lab


def put_back(box):
    then = vaults.headers(box)
    vaults.demand_rotated(box, "kek")
    vaults.demand_rotated(box, "dek")
    for offset, copy in zip(vaults.COPIES, then):
        vaults.write(box, offset, copy)


ATTACK = Attack("disk", change=put_back, until=rf"\(initramfs\)|guest: no task disk|{Lab.MARK}|machine is reset",
                refused=lambda seen: "vault opened" in seen.text and "machine is reset" in seen.text and
                "(initramfs)" not in seen.text and "no task disk" not in seen.text)
