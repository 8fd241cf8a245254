"""The guest's first instructions find the disk key in registers or in memory that is theirs."""

import re

from harness import STARTED, Attack, lab

import key_search


def search(machine, box):
    machine.qmp("stop")
    wanted = key_search.needles(box.appliance.dm_table()[0]["key"])
    kept = int(re.search(r"slb: started at (0x[0-9a-f]+)", machine.serial_text())[1], 16)
    registers, count = key_search.in_registers(machine, wanted)
    found = key_search.in_memory(machine, wanted, box.path("memory"), lab.MEMORY << 20)
    inside = [name for name in found if kept <= int(name.split()[-1], 16) < kept + box.KEPT_SIZE]
    return {"found": registers + [name for name in found if name not in inside], "inside": len(inside), "registers": count}


# That the hypervisor has the key itself shows that the search finds keys.
ATTACK = Attack("guest", watch=search, until=STARTED, refused=lambda seen: seen.watched and not seen.watched["found"] and
                seen.watched["inside"] and seen.watched["registers"] >= 16)
