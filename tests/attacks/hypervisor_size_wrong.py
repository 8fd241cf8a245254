"""The launch block gives the hypervisor a size that is not its own."""

from harness import Attack

ATTACK = Attack("launcher", "no key", operations=["block {hypervisor_size} 4 0x1000"])
