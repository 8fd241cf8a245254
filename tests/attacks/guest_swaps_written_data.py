"""The guest stops the disk's port while writes are under way, and has other data in their place: none of them may reach the medium.

The disk is slow, so that it still works on what was stopped.
"""

from disk import occurs
from disk_storm import MARK
from harness import Attack

ATTACK = Attack("guest", alone=True, until=r"\nswap: held|\nFAILED", snapshot=False,
                disks=lambda box: [f"{box.appliance.image},throttling.iops-write=200"],
                guest=r"""
echo 8 > /proc/sys/vm/nr_hugepages
"$bare" swap "$controller" "$(cat /sys/class/block/sda5/start)" > /dev/console
""",
                watch=lambda machine, box: "plaintext is on the medium" if occurs(box.appliance.image, MARK) else "no plaintext",
                refused=lambda seen: "\nswap: held" in seen.text and seen.watched == "no plaintext")
