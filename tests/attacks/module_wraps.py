"""The initrd's entry is so large that its end wraps around."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["size {initrd} 0xfffffffffffff000"])
