"""A device's memory is moved over the machine's."""

from harness import Attack

ATTACK = Attack("launcher", "device memory over RAM", rogues=("addr=10.0",),
                operations=["config 0x80 0x18 4 0x10000000", "config 0x80 4 2 2"])
