"""Both copies of the vault's header have a changed bit in their bodies."""

from harness import Attack, lab


def ruin(box):
    start = lab.partitions(box.appliance.image)["gatehouse-vault"].start * lab.SECTOR
    with open(box.appliance.image, "r+b") as file:
        for copy in (0, 512 << 10):
            file.seek(start + copy + 3000)
            byte = file.read(1)[0]
            file.seek(start + copy + 3000)
            file.write(bytes([byte ^ 1]))


# The TPM may release what the slot asks for: it is the right machine. The header is refused all the same.
ATTACK = Attack("disk", change=ruin, refused=lambda seen: "no key is released" in seen.text and
                "vault opened" not in seen.text and "guest starts" not in seen.text)
