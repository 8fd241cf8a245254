#!/usr/bin/env python3
"""Collects the ACPI tables that firmware makes on the emulated machine, as test data.

    collect.py EMULATOR bios|uefi OUTPUT

OUTPUT is a sequence of { u64 physical address, u32 size, bytes }, little-endian: the RSDP, the RSDT of a revision 0
RSDP or the XSDT, and every table that it lists.
"""

import os
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../platform"))
from machine import Machine, MachineError, create_tpm_state  # noqa: E402

MEMORY_MB = 256


def find_rsdp(memory):
    """Where the RSDP is, or the newer one of two; None before the firmware has made one."""
    found = []
    at = memory.find(b"RSD PTR ")
    while at >= 0:
        if at % 4 == 0 and sum(memory[at:at + 20]) % 256 == 0:
            found.append(at)
        at = memory.find(b"RSD PTR ", at + 1)
    return max(found, key=lambda place: memory[place + 15], default=None)


def collect(memory, rsdp):
    revision = memory[rsdp + 15]
    size = 36 if revision >= 2 else 20
    chunks = [(rsdp, memory[rsdp:rsdp + size])]

    def add(address):
        length = struct.unpack_from("<I", memory, address + 4)[0]
        chunks.append((address, memory[address:address + length]))
        return chunks[-1][1]

    root_address, entry = ((struct.unpack_from("<Q", memory, rsdp + 24)[0], "<Q") if revision >= 2
                           else (struct.unpack_from("<I", memory, rsdp + 16)[0], "<I"))
    root = add(root_address)
    for at in range(36, len(root), struct.calcsize(entry)):
        add(struct.unpack_from(entry, root, at)[0])
    return chunks


def main(emulator, firmware, output):
    with tempfile.TemporaryDirectory() as directory:
        state, image = os.path.join(directory, "tpm"), os.path.join(directory, "memory")
        create_tpm_state(state, banks=("sha256",))
        with Machine(emulator, cpus=4, firmware=firmware, memory_mb=MEMORY_MB, tpm_state=state, iommu="amd",
                     log_dir=directory) as machine:
            for _ in range(60):
                time.sleep(1)
                machine.qmp("pmemsave", val=0, size=MEMORY_MB << 20, filename=image)
                with open(image, "rb") as file:
                    memory = file.read()
                rsdp = find_rsdp(memory)
                if rsdp is not None:
                    break
            else:
                raise MachineError("no RSDP in memory after 60 s")
            time.sleep(2)  # the tables are patched after they have been placed
            machine.qmp("pmemsave", val=0, size=MEMORY_MB << 20, filename=image)
            with open(image, "rb") as file:
                memory = file.read()
    with open(output, "wb") as file:
        for address, content in collect(memory, find_rsdp(memory)):
            print(f"{address:#010x} {len(content):6} {content[:8 if content[:3] == b'RSD' else 4].decode('ascii')}")
            file.write(struct.pack("<QI", address, len(content)) + content)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (MachineError, OSError) as error:
        sys.exit(f"error: {error}")
