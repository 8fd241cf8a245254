"""The disk is put into another machine, whose TPM has another storage root key."""

import os

from harness import Attack, lab


def another_tpm(box):
    other = lab.Appliance(box.options.build, box.path("other"))
    os.makedirs(other.directory)
    other.make_tpm()
    other.make_storage_root()
    return other.tpm


ATTACK = Attack("disk", "storage root key", tpm_state=another_tpm)
