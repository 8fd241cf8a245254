"""MTRRs are off: all memory is uncached."""

from harness import Attack

ATTACK = Attack("firmware", "MTRRs are off", operations=["msr 0x2ff 0"])
