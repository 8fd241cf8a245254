"""A disk controller beside the own one has lost its registers' address: it stays absent, and the machine runs.

Nobody's disk may stop a boot that does not need it, and nothing that is left out gets DMA."""

from harness import Attack

FOREIGN = 0x88  # 00:11.0

ATTACK = Attack("operator", operations=[f"config {FOREIGN} 0x24 4 0"], extra=("-device", "ich9-ahci,addr=11.0"),
                guest="can_write && echo 'the own disk takes writes'", refused=lambda seen: "disk controller 0x88: out of range" in seen.text)
