"""The other processor is not in INIT when SKINIT is executed."""

from harness import Attack

# AMD64 APM vol. 2, 15.27.8: without the APs in INIT SKINIT does not launch: the processor shuts down, and the machine ends.
ATTACK = Attack("launcher", operations=["no-park"], cpus=2,
                refused=lambda seen: seen.ended and "launcher: SKINIT" in seen.text and "slb: " not in seen.text and not seen.codes)
