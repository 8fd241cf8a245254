"""A device says that it is a second IOMMU."""

from forgery import impostor

from harness import Attack

# Its registers take all that is written, and its queue completes nothing.
ATTACK = Attack("device", "IOMMU: command queue", operations=impostor(), rogues=("addr=10.0,class=0x0806,iommu-cap=on",))
