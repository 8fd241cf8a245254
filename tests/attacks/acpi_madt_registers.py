"""The MADT says that the local APIC is where the IOMMU's registers are."""

from forgery import forged_table

ATTACK = forged_table('echo "local APIC at $(number APIC 36 4)"; [ $(number APIC 36 4) = fee00000 ]')
