"""The launch block has no command line: one module fewer is counted."""

from harness import Attack

ATTACK = Attack("launcher", "no key is released", operations=["block {module_count} 4 4"])
