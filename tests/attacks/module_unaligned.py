"""The kernel's entry is not at a page's start."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["address {kernel} 0x2000001"])
