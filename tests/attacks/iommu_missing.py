"""The machine's IOMMU is switched off in the firmware's menu."""

from harness import Attack

ATTACK = Attack("firmware", "no IOMMU", iommu=None)
