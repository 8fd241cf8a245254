"""One bit of the guest's kernel is changed on the boot partition."""

from harness import Attack, bit_flip

ATTACK = Attack("disk", "PCR 17 and 18 not as approved", change=bit_flip("/gatehouse/kernel", at=2_000_000))
