"""A quote of yesterday is shown for today's nonce."""

from evidence import QUOTE, verify

from harness import Attack


def judge(box, results):
    good, said = verify(box, results)
    status, why = verify(box, results, nonce="00" * 32)
    return good == 0 and status == 1, why if good == 0 else said


ATTACK = Attack("network", guest=QUOTE, judge=judge)
