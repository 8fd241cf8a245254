"""The launch block counts more modules than it can hold."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["block 68 4 0xffffffff"])
