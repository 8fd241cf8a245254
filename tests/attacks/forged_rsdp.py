"""The RSDP's copy names a root table that is not there."""

from harness import STARTED, Attack

# Not refused but harmless: nobody reads it (acpi = minimal).
ATTACK = Attack("launcher", operations=["rsdp 19 0xf0", "rsdp 0 0"],
                refused=lambda seen: seen.is_stopped or STARTED in seen.text)
