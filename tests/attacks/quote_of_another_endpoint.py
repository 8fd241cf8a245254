"""A quote is shown as another endpoint's: its record pins another vault, and its key is another."""

from evidence import QUOTE, verify

from harness import Attack


def judge(box, results):
    good, said = verify(box, results)
    other = box.shared.endpoint()
    by_vault, why = verify(box, results, record=other.path("endpoint.record"))
    by_key, _ = verify(box, results, key=other.path("ak.pem"))
    return good == 0 and by_vault == by_key == 1, why if good == 0 else said


ATTACK = Attack("network", guest=QUOTE, judge=judge)
