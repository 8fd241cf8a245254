"""The guest writes S3 to the chipset's PM1 control register itself."""

from harness import Attack

# SLP_EN (bit 13) with each SLP_TYP (bits 12:10) but S5's own. The machine must be reset; nothing after it runs.
ATTACK = Attack("guest", alone=True, until="STILL-AWAKE",
                guest=r"""
port=$((0x$(od -An -tx4 -j64 -N4 /sys/firmware/acpi/tables/FACP | tr -d ' ')))
echo "guest: PM1 control at $port" > /dev/console
printf '\x00\x24' | dd of=/dev/port bs=2 seek=$port oflag=seek_bytes conv=notrunc 2> /dev/null
sleep 5
echo STILL-AWAKE > /dev/console
""", refused=lambda seen: seen.ended and "PM1 control" in seen.text and "keys wiped" in seen.text and "STILL-AWAKE" not in seen.text)
