"""A change of the disk key was cut; record of the key before, or journal, are others when the operator, or a boot, goes on."""

import vaults

from harness import Attack, lab

SIZES = {"is not to be found": (vaults.RECORDS, 4096), "bad MAC": (vaults.JOURNALS, 444 << 10)}


def go_on(box):
    vaults.cut_change_of_key(box)
    before = vaults.outside(box)
    for words, (offsets, size) in SIZES.items():
        kept = [vaults.read(box, offset, size) for offset in offsets]
        for offset, content in zip(offsets, kept):
            vaults.write(box, offset, lab.flip_bit(content, at=40))  # in the key, in the MAC
        status, said = vaults.rotate(box, "dek")
        if status != 3 or words not in said or vaults.outside(box) != before:
            raise lab.ApplianceError(f"sealed-key went on with a forged record or journal: status {status}: {said}")
        for offset, content in zip(offsets, kept):
            vaults.write(box, offset, content)
    for offset in vaults.RECORDS:
        vaults.write(box, offset, lab.flip_bit(vaults.read(box, offset, 4096), at=40))


# The TPM releases what the slot asks for: it is the right machine.
ATTACK = Attack("disk", change=go_on, refused=lambda seen: "record of the key before" in seen.refusal and
                "vault opened" not in seen.text)
