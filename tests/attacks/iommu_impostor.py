"""A device says that it is an IOMMU, where the machine has none: it does what registers do and guards nothing."""

from forgery import impostor

from harness import Attack

ATTACK = Attack("device", "IOMMU", iommu=None, operations=impostor(), rogues=("addr=10.0,class=0x0806,iommu-cap=on",))
