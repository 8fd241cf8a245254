"""A change of the disk key was cut; both copies of the header are made to say that nothing is under way."""

import vaults

from harness import Attack


def say_idle(box):
    vaults.cut_change_of_key(box)
    for offset, copy in zip(vaults.COPIES, vaults.headers(box)):
        cursor = vaults.find_cursor(copy)
        if cursor is not None:  # the other copy may be of the state before
            vaults.write(box, offset + cursor, bytes(24))
        else:
            vaults.write(box, offset, bytes(len(copy)))


ATTACK = Attack("disk", change=say_idle,
                refused=lambda seen: "bad MAC: vault header" in seen.refusal and "vault opened" not in seen.text)
