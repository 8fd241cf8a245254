"""The HPET's registers are called usable memory."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released", operations=["range 0xfed00000 0x1000 1"])
