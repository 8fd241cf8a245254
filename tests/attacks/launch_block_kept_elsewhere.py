"""The launch block names another kept region than the SLB is in."""

from harness import Attack

ATTACK = Attack("launcher", "launch block|no key|kept", operations=["block 16 8 0x4000000"])
