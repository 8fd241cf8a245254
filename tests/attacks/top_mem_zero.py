"""TOP_MEM is 0: the processor takes no address for RAM."""

from harness import Attack

ATTACK = Attack("firmware", "no key is released|stopped", operations=["msr 0xc001001a 0"])
