"""A thief's disk, its vault sealed to the same TPM and public policy, is in the machine instead of its own."""

from harness import Attack, Lab

# Its boot partition has the victim's record and approval.
ATTACK = Attack("disk", "boot vault: on no disk", disks=lambda box: [box.shared.thief().image],
                until=rf"guest: no task disk|{Lab.MARK}|machine is reset")
