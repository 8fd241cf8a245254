"""The guest writes to both partition tables."""

from harness import Attack

ATTACK = Attack("guest", guest=r"""
for sector in 0 1 2 33 $(($(blockdev --getsz $disk) - 1)) $(($(blockdev --getsz $disk) - 33)); do
    if dd if=/dev/zero of=$disk bs=512 seek=$sector count=1 oflag=direct conv=notrunc 2> /dev/null; then
        echo "a write to sector $sector went through"
        exit 1
    fi
done
echo "no write went through"
""")
