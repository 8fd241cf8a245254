"""The firmware's shadow RAM, which may be made to ignore writes, is called usable."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released", operations=["retype 0xf0000 1"], cpus=2)
