"""The thief's disk at the first port claims the victim's vault id.

What it meets is the slot, which is wrapped for the id that was there.  The thief, who has his own keys, could wrap it anew
and make the MAC anew; this attack does not.  That such a vault is not opened either, since the id is the hash of a root
secret that he does not have, tests/unit/keyvault/volume_test.cpp shows.
"""

from harness import Attack, Lab, lab

VAULT_ID = 40  # of a header's copy (keyvault/volume/header.hpp)
COPIES = (0, 512 << 10)


def liar(box):
    image = box.path("liar.raw")
    lab.run(["cp", "--sparse=always", box.shared.thief().image, image])
    start = lab.partitions(image)["gatehouse-vault"].start * lab.SECTOR
    with open(image, "r+b") as file:
        for copy in COPIES:
            file.seek(start + copy + VAULT_ID)
            file.write(bytes.fromhex(box.shared.appliance.identity["vault_id"]))


ATTACK = Attack("disk", change=liar, disks=lambda box: [box.path("liar.raw"), box.appliance.image],
                until=rf"guest: no task disk|{Lab.MARK}|machine is reset",
                refused=lambda seen: seen.came_to_an_end and Lab.MARK not in seen.text and "port 0: vault opened" not in seen.text and
                ("port 1: vault opened" in seen.text or seen.is_stopped))
