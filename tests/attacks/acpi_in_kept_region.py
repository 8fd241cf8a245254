"""The RSDP's root table is in the kept region: the guest would read what is there as tables."""

from harness import Attack

# Bytes 16-19: the table's address; the kept region's is not known here, but is somewhere near the memory's end.
ATTACK = Attack("launcher", operations=["rsdp 15 0", "rsdp 18 0x20", "rsdp 19 0x2f"], timeout=120,
                refused=lambda seen: seen.is_stopped or "guest starts, 1 processors" in seen.text)
