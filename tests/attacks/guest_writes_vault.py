"""The guest writes to the vault's place on the disk."""

from harness import Attack

ATTACK = Attack("guest", guest="refuses_writes $vault $((vault + 1024)) $((vault + vault_sectors - 1))")
