"""Another program with the hypervisor's header is in the hypervisor's place."""

from harness import Attack

ATTACK = Attack("launcher", "PCR 17 and 18 not as approved", operations=["poke kept+0x201000 8 0xf4f4f4f4f4f4f4f4"])
