"""The firmware has not locked SMM: who comes later may change its code, which the hypervisor does not see."""

from harness import Attack

ATTACK = Attack("firmware", "SMM is not locked", cpu_options="smm-lock=off")
