"""The claims that come with a quote say another thing: one bit of them is changed."""

from evidence import QUOTE, change, verify

from harness import Attack


def judge(box, results):
    good, said = verify(box, results)
    change(results, "claims.bin", lambda claims: claims[:-1] + bytes([claims[-1] ^ 1]))
    status, why = verify(box, results)
    return good == 0 and status == 1, why if good == 0 else said


ATTACK = Attack("network", guest=QUOTE, judge=judge)
