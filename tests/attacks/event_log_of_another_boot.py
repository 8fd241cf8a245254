"""The event log that is shown with a quote is changed: one bit of a digest of the kernel, as if another had been started.

It is not the log of another boot; the verifier asks of each event that it is the image's, and of all that they give the PCRs.
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
