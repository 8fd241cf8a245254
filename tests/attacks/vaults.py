"""What attacks on the vault's partition share: an operator's rotations, cut where wanted, and the bytes of headers and records."""

import hashlib
import os
import re
import struct
import subprocess

from harness import lab

COPIES = (0, 512 << 10)  # of the header, of the vault's partition (keyvault/volume/header.hpp)
RECORDS = (508 << 10, 1020 << 10)  # of the key before (keyvault/volume/previous_key.hpp)
JOURNALS = (64 << 10, 576 << 10)  # keyvault/volume/journal.hpp
MAC_SIZE = 32
CHANGING = 2  # the cursor's state


def place(box):
    return lab.partitions(box.appliance.image)["gatehouse-vault"]


def read(box, offset, size):
    """Of the vault's partition."""
    with open(box.appliance.image, "rb") as image:
        image.seek(place(box).start * lab.SECTOR + offset)
        return image.read(size)


def write(box, offset, data):
    box.patch_disk(place(box).start * lab.SECTOR + offset, data)


def whole(box):
    return read(box, 0, place(box).size * lab.SECTOR)


def headers(box):
    return [read(box, copy, struct.unpack("<I", read(box, copy + 12, 4))[0]) for copy in COPIES]


def outside(box):
    """Digest of everything on the disk but the vault."""
    vault = place(box)
    digest = hashlib.sha256()
    with open(box.appliance.image, "rb") as image:
        digest.update(image.read(vault.start * lab.SECTOR))
        image.seek(vault.size * lab.SECTOR, os.SEEK_CUR)
        while part := image.read(1 << 20):
            digest.update(part)
    return digest.digest()


def rotate(box, key, cut_at=None):
    """`sealed-key rotate KEY`; (exit status, what it said). `cut_at`: killed as it writes past this byte of the disk."""
    appliance = box.appliance
    command = [os.path.join(appliance.build, "bin", "sealed-key"), "rotate", key, appliance.image, "--recovery-key",
               appliance.path("recovery.key")]
    if cut_at is not None:
        command = ["prlimit", f"--fsize={cut_at}", *command]

    def run(*more):
        done = subprocess.run([*command, *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        return done.returncode, done.stdout

    if key == "dek":
        return run()
    with lab.machine.HostTpm(appliance.tpm) as tpm:
        return run("--tcti", tpm.tcti, "--authority", appliance.path("authority.pub"), "--policy-ref", lab.POLICY_REFERENCE)


def demand_rotated(box, key):
    status, said = rotate(box, key)
    if status != 0:
        raise lab.ApplianceError(f"rotate {key}: status {status}: {said}")


def cut_change_of_key(box):
    """Leaves the disk with a few windows of the root's partition under a new disk key, and the rest under the one before."""
    root = lab.partitions(box.appliance.image)["guest-root"]
    status, said = rotate(box, "dek", (root.start * lab.SECTOR) + (100 << 20))
    if status == 0 or all(find_cursor(copy) is None for copy in headers(box)):
        raise lab.ApplianceError(f"the change of the disk key was not cut: status {status}: {said}")


def find_cursor(copy):
    """Offset of the cursor in a header, if it is in the midst of a change; it is what stands before the zeros at the end."""
    end = len(copy) - MAC_SIZE
    last = len(copy[:end].rstrip(b"\0"))
    for at in range(last - 24, last):
        state, journal, first, count = struct.unpack_from("<IIQQ", copy, at)
        if state == CHANGING and journal <= 1 and first < 1 << 40 and 0 < count <= 1 << 15 and not any(copy[at + 24:end]):
            return at
    return None


def region_of_vault(box, copy):
    """Offset in a header of the region that hides the vault."""
    vault = place(box)
    return re.search(re.escape(struct.pack("<QQI", vault.start, vault.size, 2)), copy, re.DOTALL).start()
