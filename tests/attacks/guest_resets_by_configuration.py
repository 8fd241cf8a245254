"""The guest resets the machine by a four-byte write that ends in the reset register: the keys would stay in memory."""

from harness import Attack

ATTACK = Attack("guest", alone=True, timeout=240, until="STILL-RUNS",
                guest=r"""
printf '\x00\x00\x00\x06' | dd of=/dev/port bs=4 seek=$((0xcf6)) oflag=seek_bytes conv=notrunc 2> /dev/null
printf '\x06' | dd of=/dev/port bs=1 seek=$((0xcf9)) conv=notrunc 2> /dev/null
sleep 5
echo STILL-RUNS > /dev/console
""", refused=lambda seen: seen.ended and "keys wiped" in seen.text)
