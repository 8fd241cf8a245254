"""The disk is put into another machine, whose TPM has another storage root key."""

from harness import Attack, lab


def another_tpm(box):
    lab.machine.create_tpm_state(box.path("other-tpm"))
    return box.path("other-tpm")


ATTACK = Attack("disk", "storage root key", tpm_state=another_tpm)
