"""The guest reads the vault."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
dd if=$disk bs=512 skip=$vault count=$vault_sectors iflag=direct 2> /dev/null | cmp -n $((vault_sectors * 512)) - /dev/zero &&
    echo "the vault reads as zeros"
""")
