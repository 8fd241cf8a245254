"""The guest writes to the boot partition: the next boot would be the attacker's."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
for sector in $boot $((boot + 5000)) $((boot + boot_sectors - 1)); do
    if dd if=/dev/zero of=$disk bs=512 seek=$sector count=1 oflag=direct conv=notrunc 2> /dev/null; then
        echo "a write to sector $sector went through"
        exit 1
    fi
done
echo "no write went through"
""")
