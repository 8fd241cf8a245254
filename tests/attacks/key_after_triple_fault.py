"""The machine's memory is read after the guest has made its processor shut down."""

import time

from harness import Attack, lab

import key_search


def search(machine, box):
    end = time.monotonic() + 30
    while machine.qmp("query-status")["status"] != "shutdown" and time.monotonic() < end:
        time.sleep(0.2)
    wanted = key_search.needles(box.appliance.dm_table()[0]["key"])
    registers, _ = key_search.in_registers(machine, wanted)
    return {"status": machine.qmp("query-status")["status"],
            "found": registers + key_search.in_memory(machine, wanted, box.path("memory"), lab.MEMORY << 20)}


ATTACK = Attack("guest", alone=True, watch=search, timeout=240, until=r"keys wiped|\(triple fault\)", extra=["-no-shutdown"], guest=r"""
dd if=$disk of=/dev/null bs=1M count=16 iflag=direct
(sleep 1; echo triple > /sys/kernel/reboot/type; echo 1 > /sys/kernel/reboot/force; reboot -f -f) > /dev/null 2>&1 &
sleep 60
""", refused=lambda seen: seen.watched and seen.watched["status"] == "shutdown" and
                not seen.watched["found"])
