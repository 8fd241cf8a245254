"""The event log that is shown with a quote is changed: one bit of the kernel's event, so that another was started.

The log need not be of another boot for this: what is quoted is its replay, which each boot's own log alone gives.
"""

from evidence import QUOTE, change, verify

from harness import Attack


def judge(box, results):
    def other_kernel(log):
        at = log.index(b"guest kernel") if b"guest kernel" in log else log.index(b"kernel")
        return log[:at - 40] + bytes([log[at - 40] ^ 1]) + log[at - 39:]
    good, said = verify(box, results)
    change(results, "eventlog.bin", other_kernel)
    status, why = verify(box, results)
    return good == 0 and status == 1, why if good == 0 else said


ATTACK = Attack("network", guest=QUOTE, judge=judge)
