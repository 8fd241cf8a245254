"""The launch block counts more modules than it can hold."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["block {module_count} 4 0xffffffff"])
