"""The guest resets the machine by a four-byte OUT that ends in the reset register: the keys would stay in memory."""

from harness import Attack

# The byte at 0xcf9 is the last of four.
ATTACK = Attack("guest", alone=True, until="STILL-RUNS",
                guest=r"""
echo "guest: OUT to 0xcf6" > /dev/console
$probe outl 0xcf6 0x06000000
sleep 5
echo STILL-RUNS > /dev/console
""", refused=lambda seen: seen.ended and "OUT to 0xcf6" in seen.text and "keys wiped" in seen.text and "STILL-RUNS" not in seen.text)
