"""The FADT's PM1 control port is another one: the hypervisor would watch that, and the guest sleep by the true one."""

from forgery import FORGED_PORT, forged_table

ATTACK = forged_table(f'echo "PM1 control: $(number FACP 64 4)"; [ $(number FACP 64 4) != {FORGED_PORT:08x} ]')
