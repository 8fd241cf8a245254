"""The record, signed by the fleet's own key, is another endpoint's."""

from harness import Attack, lab


def exchange(box):
    other = lab.BootPartition(box.shared.endpoint().image)
    box.boot.write("/gatehouse/endpoint.record", other.read("/gatehouse/endpoint.record"), box.directory)


ATTACK = Attack("disk", "boot vault: on no disk", change=exchange)
