"""Two entries say that they are the kernel."""

from harness import Attack

ATTACK = Attack("launcher", "launch block", operations=["role {initrd} {kernel}"])
