"""The guest writes to the boot partition: the next boot would be the attacker's."""

from harness import Attack

ATTACK = Attack("guest", guest="refuses_writes $boot $((boot + 5000)) $((boot + boot_sectors - 1))")
