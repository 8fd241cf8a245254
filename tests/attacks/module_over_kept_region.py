"""The initrd's entry begins below the kept region and ends inside of it."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["address {initrd} kept+0xfffffffffffff000"])
