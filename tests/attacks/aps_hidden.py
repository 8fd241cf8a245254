"""The MADT tells of no processor but the first; code of the attacker's would start the other one."""

from harness import Attack

# Not refused but harmless: processors answer for themselves, before the unseal.
ATTACK = Attack("launcher", operations=["hide-aps"], cpus=2,
                refused=lambda seen: "guest starts, 2 processors" in seen.text or seen.is_stopped)
