"""The MCFG's window on configuration space is another one than the hypervisor watches."""

from forgery import forged_table

ATTACK = forged_table('echo "window at $(number MCFG 44 8)"; [ ! -e MCFG ] || [ $(number MCFG 44 8) != 00000000d0000000 ]')
