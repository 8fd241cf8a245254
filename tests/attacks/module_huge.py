"""The initrd's entry ends above 4 GiB."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["size {initrd} 0x100000000"])
