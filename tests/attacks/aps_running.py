"""The other processor is not in INIT when SKINIT is executed."""

from harness import Attack

# AMD64 APM vol. 2, 15.27.8: SKINIT faults, or shuts down, unless the APs are in INIT.
ATTACK = Attack("launcher", refused=lambda seen: not seen.key_released, operations=["no-park"], cpus=2, timeout=30)
