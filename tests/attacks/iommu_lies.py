"""The IOMMU takes all commands and refuses nothing, as one in pass-through mode."""

from harness import Attack

ATTACK = Attack("device", "IOMMU does not refuse", iommu="amd-pt")
