"""The partition table says that the disk has no vault, its checksums right."""

import struct
import zlib

from harness import Attack, lab


def no_vault(box):
    with open(box.appliance.image, "r+b") as file:
        size = file.seek(0, 2) // lab.SECTOR
        for place in (1, size - 1):
            file.seek(place * lab.SECTOR)
            header = bytearray(file.read(lab.SECTOR))
            entries, count, entry_size = struct.unpack_from("<QII", header, 72)
            file.seek(entries * lab.SECTOR)
            table = bytearray(file.read(count * entry_size))
            number = next(i for i in range(count) if "gatehouse-vault".encode("utf-16-le") in table[i * 128:i * 128 + 128])
            table[number * 128] ^= 1
            struct.pack_into("<I", header, 88, zlib.crc32(table))
            struct.pack_into("<I", header, 16, 0)
            struct.pack_into("<I", header, 16, zlib.crc32(header[:92]))
            file.seek(entries * lab.SECTOR)
            file.write(table)
            file.seek(place * lab.SECTOR)
            file.write(header)


ATTACK = Attack("disk", "boot vault: on no disk", change=no_vault)
