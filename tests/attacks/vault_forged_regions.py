"""The header's regions say that the root file system's partition is plain; in it lies a root of the thief's."""

import struct

import vaults

from harness import Attack, Lab, lab

READ_ONLY = 1


def declare_plain(box):
    plain = box.shared.plain_disk().image
    places = lab.partitions(box.appliance.image)
    vault, root, source = places["gatehouse-vault"], places["guest-root"], lab.partitions(plain)["guest-root"]
    if root.start < vault.start or root.size != source.size:
        raise lab.ApplianceError("the partitions do not lie as this attack has them")
    with open(plain, "rb") as file:
        file.seek(source.start * lab.SECTOR)
        box.patch_disk(root.start * lab.SECTOR, file.read(source.size * lab.SECTOR))
    for offset, copy in zip(vaults.COPIES, vaults.headers(box)):
        vaults.write(box, offset + vaults.region_of_vault(box, copy),
                     struct.pack("<QQI", vault.start, root.start + root.size - vault.start, READ_ONLY))


# The TPM releases what the slot asks for: it is the right machine.
ATTACK = Attack("disk", change=declare_plain, until=rf"guest: no task disk|{Lab.MARK}|machine is reset",
                refused=lambda seen: "bad MAC: vault header" in seen.refusal and "vault opened" not in seen.text)
