"""The disk controller's registers are moved to the TPM's, where the hypervisor's writes to the one would reach the other."""

from harness import Attack

ATTACK = Attack("launcher", operations=["config 0xfa 0x24 4 0xfed40000", "config 0xfa 4 2 2"],
                refused=lambda seen: not seen.key_released and "disk controller 0xfa: out of range: disk controller: ABAR" in seen.text)
