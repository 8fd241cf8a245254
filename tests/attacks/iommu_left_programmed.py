"""The IOMMU is left on, with the launcher's own device table and an exclusion range over all memory."""

from harness import Attack

REGISTERS = 0xfed80000
# Not refused but harmless: the SLB's own program takes the place of it.
ATTACK = Attack("launcher", operations=[f"poke {REGISTERS:#x} 8 0x3000001ff", f"poke {REGISTERS + 0x28:#x} 8 0xffffffff000",
                                        f"poke {REGISTERS + 0x20:#x} 8 3", f"poke {REGISTERS + 0x18:#x} 8 1"],
                refused=lambda seen: seen.is_stopped or (
                    "1 IOMMUs refuse all DMA" in seen.text and "guest starts" in seen.text))
