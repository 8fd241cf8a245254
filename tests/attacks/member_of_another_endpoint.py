"""Another endpoint's disk is in the machine beside its own."""

from harness import Attack

ATTACK = Attack("disk", disks=lambda box: [box.appliance.image, box.shared.endpoint().image],
                refused=lambda seen: seen.text.count("vault opened") == 1 and "it stays absent" in seen.text)
