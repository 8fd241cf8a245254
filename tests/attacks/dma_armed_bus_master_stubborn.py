"""The same, of a card that nothing resets."""

from forgery import WHEN_BUS_MASTER, armed_device

# The guest's half of it: command register, bus master and memory.
ATTACK = armed_device(WHEN_BUS_MASTER, "pm=off", until="bus master is set", alone=True, guest=r"""
set_config /sys/bus/pci/devices/0000:00:10.0 4 '\x06\x00'
echo "bus master is set: $(config /sys/bus/pci/devices/0000:00:10.0 4 2)" > /dev/console
sleep 60
""")
