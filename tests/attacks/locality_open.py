"""Locality 0 of the TPM is left in use, so that the processor cannot measure the SLB."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released|stopped", operations=["locality 0"])
