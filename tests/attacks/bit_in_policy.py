"""One bit of the policy bundle is changed on the boot partition."""

from harness import Attack, bit_flip

ATTACK = Attack("disk", "PCR 17 and 18 not as approved", change=bit_flip("/gatehouse/policy.bundle", near=b"gatehouse-demo"))
