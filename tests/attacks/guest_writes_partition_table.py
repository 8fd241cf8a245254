"""The guest writes to both partition tables."""

from harness import Attack

ATTACK = Attack("guest", guest="refuses_writes 0 1 2 33 $(($(blockdev --getsz $disk) - 1)) $(($(blockdev --getsz $disk) - 33))")
