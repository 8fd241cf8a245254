"""An I/O range register sends the processor's reads and writes of the kept region to the bus."""

from harness import Attack

# AMD64 APM vol. 2, 7.9.2: base with RdMem (bit 4) and WrMem (bit 3) clear; mask with its enable bit.
ATTACK = Attack("firmware", "no key is released|stopped",
                operations=["msr 0xc0010016 kept+0", "msr 0xc0010017 0xffffff000800"])
