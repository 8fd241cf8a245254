"""One bit of the vault id in the endpoint's record is changed."""

from harness import Attack, bit_flip

ATTACK = Attack("disk", "endpoint record", change=bit_flip("/gatehouse/endpoint.record", at=60))
