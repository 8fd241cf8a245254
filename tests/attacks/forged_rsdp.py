"""The RSDP's copy names a root table that is not there."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released", operations=["rsdp 19 0xf0", "rsdp 0 0"])
