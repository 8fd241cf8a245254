"""The kernel is put into a device's memory, which the device changes by itself after the hash."""

from forgery import MEMORY, OWN_MEMORY, EACH, arm

from harness import Attack

ATTACK = Attack("device", "no key is released", rogues=("addr=10.0",),
                operations=[f"range {MEMORY:#x} 0x1000000 1", f"place {{kernel}} {MEMORY:#x}", *arm(EACH | OWN_MEMORY, 0x100000, 50)])
