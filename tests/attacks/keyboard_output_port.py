"""The guest resets the machine by the keyboard controller's output port, bit 0 of which is the reset line."""

from harness import Attack

# Command 0xd1: the next byte for port 0x60 is the output port's. The machine goes on, or the keys are wiped first.
ATTACK = Attack("guest", alone=True, until="STILL-RUNS",
                guest=r"""
$probe outb 0x64 0xd1 && echo "guest: the command is sent" > /dev/console
$probe outb 0x60 0xfe && sleep 5 && echo STILL-RUNS > /dev/console
sleep 60
""", refused=lambda seen: "the command is sent" in seen.text and (
                    "keys wiped" in seen.text if seen.ended else "STILL-RUNS" in seen.text))
