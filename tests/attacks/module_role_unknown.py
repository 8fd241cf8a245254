"""An entry has a role that nobody knows."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["role {initrd} 99"])
