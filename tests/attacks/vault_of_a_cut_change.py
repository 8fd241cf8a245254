"""The vault as it was in the midst of a change of the disk key, journals and the key before in it, is put back after its end."""

import vaults

from harness import Attack


def put_back(box):
    vaults.cut_change_of_key(box)
    then = vaults.whole(box)
    vaults.demand_rotated(box, "dek")
    vaults.write(box, 0, then)


# The TPM releases what the slot asks for: it is the right machine.
ATTACK = Attack("disk", change=put_back, refused=lambda seen: "not of the same time" in seen.refusal and
                "vault opened" not in seen.text)
