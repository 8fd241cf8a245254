"""The kernel's entry has no byte."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["size {kernel} 0"])
