"""The endpoint's record is deleted, so that the boot looks like the first one."""

from harness import Attack

ATTACK = Attack("disk", "endpoint record", change=lambda box: box.delete("/gatehouse/endpoint.record"))
