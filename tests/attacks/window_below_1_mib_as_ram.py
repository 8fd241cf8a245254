"""The video window below 1 MiB is called usable."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released", operations=["range 0xa0000 0x20000 1"])
