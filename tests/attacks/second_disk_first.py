"""The same at the first port: the thief's boot loader runs."""

from harness import Attack, Lab

ATTACK = Attack("disk", disks=lambda box: [box.shared.thief().image, box.appliance.image],
                until=rf"guest: no task disk|{Lab.MARK}|machine is reset",
                refused=lambda seen: seen.came_to_an_end and seen.text.count("vault opened") <= 1 and Lab.MARK not in seen.text)
