"""Another program with the hypervisor's header is in the hypervisor's place."""

from harness import Attack

# What it does is its own affair; the TPM gives it no key.
ATTACK = Attack("launcher", operations=["poke kept+0x201000 8 0xf4f4f4f4f4f4f4f4"], timeout=40,
                refused=lambda seen: "hypervisor measured" in seen.text and not seen.key_released)
