"""The SLB's header says that more bytes are to be measured."""

from harness import Attack

ATTACK = Attack("launcher", "no key|17 and 18 not", operations=["poke kept+2 2 0xffff"])
