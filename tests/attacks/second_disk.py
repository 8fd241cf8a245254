"""A thief's disk, sealed to the same TPM and public policy, is at the second port."""

from harness import Attack, Lab

ATTACK = Attack("disk", disks=lambda box: [box.appliance.image, box.shared.thief().image],
                until=rf"guest: no task disk|{Lab.MARK}|machine is reset",
                refused=lambda seen: seen.came_to_an_end and seen.text.count("vault opened") <= 1 and Lab.MARK not in seen.text)
