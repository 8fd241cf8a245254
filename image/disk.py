"""The appliance's disk image: its partition table, and GRUB's boot code for BIOS machines.

GRUB for BIOS is three pieces (GRUB manual, "BIOS installation"): boot.img in the first 440 bytes of the disk, which loads
the sector that it names; diskboot.img, the first sector of core.img, which loads the rest by the block list at its end;
and the rest.  grub-bios-setup would write them too, but only to block devices.
"""

import os
import struct
import uuid
import zlib

SECTOR = 512

BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")

# Offsets in boot.img (grub/i386/pc/boot.h).
BOOT_CODE_SIZE = 440     # then follow the disk signature and the table of the MBR
BOOT_PARAMETERS = (3, 90)  # the BIOS parameter block, which is a floppy's
KERNEL_SECTOR = 0x5c     # u64, where core.img starts
DRIVE_CHECK = 0x66       # a jump, to be replaced by two NOPs: the BIOS may pass a wrong drive number
# Offset in core.img: u64 first sector, u16 count, u16 segment of what follows the first sector.
BLOCK_LIST = SECTOR - 12


class DiskError(Exception):
    """What is wrong with the image."""


class Partition:
    def __init__(self, number, entry):
        kind, identity = entry[:16], entry[16:32]
        self.number = number
        self.type = uuid.UUID(bytes_le=kind)
        self.id = uuid.UUID(bytes_le=identity)
        first, last = struct.unpack_from("<QQ", entry, 32)
        self.offset = first * SECTOR
        self.size = (last - first + 1) * SECTOR
        self.name = entry[56:128].decode("utf-16-le").rstrip("\0")


class Disk:
    """An image file with a GUID partition table (UEFI specification 2.10, section 5.3)."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            file.seek(SECTOR)
            header = file.read(SECTOR)
            if header[:8] != b"EFI PART":
                raise DiskError(f"{path}: no GUID partition table")
            size, checksum = struct.unpack_from("<II", header, 12)
            if size != 92 or zlib.crc32(header[:16] + bytes(4) + header[20:size]) != checksum:
                raise DiskError(f"{path}: the partition table's header is damaged")
            entries, count, entry_size, checksum = struct.unpack_from("<QIII", header, 72)
            if entry_size != 128 or count > 128:
                raise DiskError(f"{path}: a partition table of {count} entries of {entry_size} bytes is not supported")
            file.seek(entries * SECTOR)
            table = file.read(count * entry_size)
        if zlib.crc32(table) != checksum:
            raise DiskError(f"{path}: the partition table is damaged")
        self.partitions = [Partition(number + 1, table[number * 128:number * 128 + 128]) for number in range(count)
                           if any(table[number * 128:number * 128 + 16])]

    def partition(self, name):
        found = [partition for partition in self.partitions if partition.name == name]
        if len(found) != 1:
            raise DiskError(f"{self.path}: {len(found)} partitions are named {name}, not one")
        return found[0]

    def install_bios_grub(self, boot_image, core_image):
        """Writes boot.img and core.img (bytes) to the disk, whose table stays as it is."""
        place = next((partition for partition in self.partitions if partition.type == BIOS_BOOT), None)
        if place is None:
            raise DiskError(f"{self.path}: no BIOS boot partition")
        core = bytearray(core_image)
        core += bytes(-len(core) % SECTOR)
        if len(core) > place.size:
            raise DiskError(f"{self.path}: GRUB ({len(core)} bytes) is larger than the BIOS boot partition")
        first, count, _ = struct.unpack_from("<QHH", core, BLOCK_LIST)
        if count != len(core) // SECTOR - 1 or len(boot_image) != SECTOR:
            raise DiskError("GRUB's images are not of the kind that this program knows")
        struct.pack_into("<Q", core, BLOCK_LIST, place.offset // SECTOR + 1)
        boot = bytearray(boot_image[:BOOT_CODE_SIZE])
        if boot[DRIVE_CHECK] != 0xeb:
            raise DiskError("GRUB's boot.img is not of the kind that this program knows")
        boot[BOOT_PARAMETERS[0]:BOOT_PARAMETERS[1]] = bytes(BOOT_PARAMETERS[1] - BOOT_PARAMETERS[0])
        struct.pack_into("<Q", boot, KERNEL_SECTOR, place.offset // SECTOR)
        boot[DRIVE_CHECK:DRIVE_CHECK + 2] = b"\x90\x90"
        with open(self.path, "r+b") as file:
            file.write(boot)
            file.seek(place.offset)
            file.write(core)
            file.flush()
            os.fsync(file.fileno())
