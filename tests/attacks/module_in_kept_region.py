"""The command line's entry points into the kept region."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["address {command_line} kept+0x200000"])
