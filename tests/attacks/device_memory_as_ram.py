"""A graphics card's memory is called usable and the kernel put there: the card changes it after its hash."""

from harness import Attack

ATTACK = Attack("device", "no key is released", extra=["-device", "VGA,addr=5.0"],
                operations=["range 0xfd000000 0x1000000 1", "place {kernel} 0xfd000000"])
