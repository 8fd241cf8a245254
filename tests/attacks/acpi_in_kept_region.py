"""The RSDP's root table is in the kept region: who reads it takes what is there for tables."""

from harness import STARTED, Attack

# Not refused but harmless: nobody reads it, the guest's tables being the hypervisor's own (acpi = minimal).
# Bytes 16-19: the table's address; the kept region's is not known here, but is somewhere near the memory's end.
ATTACK = Attack("launcher", operations=["rsdp 15 0", "rsdp 18 0x20", "rsdp 19 0x2f"],
                refused=lambda seen: seen.is_stopped or STARTED in seen.text)
