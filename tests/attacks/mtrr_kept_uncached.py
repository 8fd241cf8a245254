"""The memory above 512 MiB, the kept region in it, is uncached: caches and memory could differ."""

from harness import Attack

ATTACK = Attack("firmware", "memory type is not write-back|no key is released|stopped",
                operations=["msr 0x20e 0x20000000", "msr 0x20f 0xffe0000800"])
