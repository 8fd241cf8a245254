"""SYSCFG's enable bits for fixed ranges, variable ranges and TOP_MEM2 are off."""

from harness import Attack

ATTACK = Attack("firmware", "no key is released|stopped", operations=["msr 0xc0010010 0"])
