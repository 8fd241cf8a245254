"""No memory below 640 KiB is usable: the other processor's start page would be in shadow RAM, with the launcher's code."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released", operations=["retype 0 2", "retype 0x1000 2", "retype 0xf0000 1"], cpus=2)
