"""One bit of the initrd is changed on the boot partition."""

from harness import Attack, bit_flip

ATTACK = Attack("disk", "PCR 17 and 18 not as approved", change=bit_flip("/gatehouse/initrd", at=1_000_000))
