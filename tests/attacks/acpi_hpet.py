"""The HPET's table says that it is where the TPM's registers are."""

from forgery import forged_table

ATTACK = forged_table('echo "HPET at $(number HPET 44 8)"; [ ! -e HPET ] || [ $(number HPET 44 8) = 00000000fed00000 ]')
