"""One bit of the SLB is changed on the boot partition."""

from harness import Attack, bit_flip

ATTACK = Attack("disk", "PCR 17 and 18 not as approved", change=bit_flip("/gatehouse/slb.bin", near=b"started at"))
