"""The launch block names another kept region than the SLB is in."""

from harness import Attack

ATTACK = Attack("launcher", "launch block|no key|kept", operations=["block {kept_base} 8 0x4000000"])
