"""Another endpoint's disk, with this one's boot partition on it, is in the machine instead of its own."""

from harness import Attack, lab


def transplant(box):
    other = box.shared.endpoint().image
    place = lab.partitions(box.appliance.image)["gatehouse-boot"]
    with open(box.appliance.image, "rb") as file:
        file.seek(place.start * lab.SECTOR)
        boot = file.read(place.size * lab.SECTOR)
    lab.run(["cp", "--sparse=always", other, box.appliance.image])
    box.patch_disk(lab.partitions(other)["gatehouse-boot"].start * lab.SECTOR, boot)


ATTACK = Attack("disk", "boot vault: on no disk", change=transplant)
