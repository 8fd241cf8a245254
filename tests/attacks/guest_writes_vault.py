"""The guest writes to the vault's place on the disk."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
for sector in $vault $((vault + 1024)) $((vault + vault_sectors - 1)); do
    if dd if=/dev/zero of=$disk bs=512 seek=$sector count=1 oflag=direct conv=notrunc 2> /dev/null; then
        echo "a write to sector $sector went through"
        exit 1
    fi
done
echo "no write went through"
""")
