"""The MADT tells of no processor but the first; code of the attacker's would start the other one."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released", operations=["hide-aps"], cpus=2)
