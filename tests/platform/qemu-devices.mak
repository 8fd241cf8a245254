# The devices of the emulated machines: what the system tests attach, and nothing else.

# boards
CONFIG_I440FX=y
CONFIG_Q35=y
CONFIG_PCIE_PORT=y

# TPM
CONFIG_TPM_TIS_ISA=y
CONFIG_TPM_CRB=y
CONFIG_TPM_EMULATOR=y

# IOMMU
CONFIG_AMD_IOMMU=y
CONFIG_VTD=y

# disks
CONFIG_AHCI_ICH9=y
CONFIG_IDE_PCI=y
CONFIG_IDE_PIIX=y
CONFIG_VIRTIO_BLK=y

# the rest that a guest uses
CONFIG_VGA_PCI=y
CONFIG_E1000_PCI=y
CONFIG_E1000E_PCI_EXPRESS=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_SERIAL_ISA=y

# for tests: an exit code, a device that does DMA on request, and one that does it when it likes
CONFIG_ISA_DEBUG=y
CONFIG_EDU=y
CONFIG_GATEHOUSE_ROGUE=y
