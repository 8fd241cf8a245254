"""The launch block has another magic number."""

from harness import Attack

ATTACK = Attack("launcher", "launch block|no key", operations=["block 0 4 0"])
