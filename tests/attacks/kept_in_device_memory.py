"""The kept region, with the SLB and the hypervisor, is in a graphics card's memory."""

from harness import Attack

ATTACK = Attack("device", "no key is released|stopped", extra=["-device", "VGA,addr=5.0"], operations=["kept 0xfd000000"])
