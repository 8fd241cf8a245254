"""The guest has a command refused, and rewrites its table, and those behind it, while the error halts the port."""

from harness import Attack

ATTACK = Attack("guest", alone=True, until=r"\nlatch: held|\nFAILED",
                guest=r"""
echo 8 > /proc/sys/vm/nr_hugepages
"$bare" latch "$controller" "$(cat /sys/class/block/sda5/start)" > /dev/console
""",
                refused=lambda seen: "\nlatch: held" in seen.text)
