"""A device says that it is a second IOMMU."""

from forgery import place

from harness import Attack

# Refused, or one more that is told what the true one is told: the first still refuses.
ATTACK = Attack("device", operations=place(), rogues=("addr=10.0,class=0x0806,iommu-cap=on",),
                refused=lambda seen: not seen.key_released)
