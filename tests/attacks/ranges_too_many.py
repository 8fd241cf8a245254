"""The launch block counts more memory ranges than it can hold."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["block {memory_count} 4 0xffffffff"])
