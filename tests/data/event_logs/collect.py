#!/usr/bin/env python3
"""Collects the event log that firmware writes on the emulated machine, as test data.

    collect.py EMULATOR bios|uefi OUTPUT

The log is looked for in the machine's memory (a first event of type EV_NO_ACTION with "Spec ID Event03", or one of
SHA-1 alone that begins with EV_S_CRTM_VERSION or "Spec ID Event00"); of several copies the longest is taken, up to its
last event.  tpm2_eventlog OUTPUT prints it.
"""

import os
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../platform"))
from machine import Machine, MachineError, create_tpm_state  # noqa: E402

MEMORY_MB = 256
LEGACY = struct.Struct("<II20sI")


def agile_size(memory, start):
    """Size of a crypto-agile log that starts here, 0 if there is none."""
    pcr, kind, digest, size = LEGACY.unpack_from(memory, start)
    if (pcr, kind, digest) != (0, 3, bytes(20)) or not 29 <= size < 256:
        return 0
    count = struct.unpack_from("<I", memory, start + 56)[0]
    if not 1 <= count <= 5:
        return 0
    sizes = dict(struct.unpack_from("<HH", memory, start + 60 + 4 * i) for i in range(count))
    at = start + LEGACY.size + size
    while True:
        pcr, kind, digests = struct.unpack_from("<III", memory, at)
        if pcr > 23 or digests != count or (kind > 0x20 and kind & 0xffffff00 != 0x80000000):
            return at - start
        end = at + 12
        for _ in range(digests):
            algorithm = struct.unpack_from("<H", memory, end)[0]
            if algorithm not in sizes:
                return at - start
            end += 2 + sizes[algorithm]
        at = end + 4 + struct.unpack_from("<I", memory, end)[0]


def legacy_size(memory, start):
    """The same of a log of SHA-1 alone."""
    at = start
    while True:
        pcr, kind, digest, size = LEGACY.unpack_from(memory, at)
        if pcr > 23 or kind > 0x20 or size > 4096 or (digest == bytes(20) and kind != 3):
            return at - start
        at += LEGACY.size + size


def longest_log(memory):
    best = b""
    for magic, header, measure in ((b"Spec ID Event03\0", 32, agile_size), (b"Spec ID Event00\0", 32, legacy_size)):
        at = memory.find(magic)
        while at >= 0:
            try:
                size = measure(memory, at - header)
            except struct.error:
                size = 0
            if size > len(best):
                best = memory[at - header:at - header + size]
            at = memory.find(magic, at + 1)
    return best


def main(emulator, firmware, output):
    with tempfile.TemporaryDirectory() as directory:
        state, image = os.path.join(directory, "tpm"), os.path.join(directory, "memory")
        create_tpm_state(state, banks=("sha1", "sha256", "sha384"))
        disk = os.path.join(directory, "disk")
        with open(disk, "wb") as file:  # an MBR that stops
            file.write(b"\xfa\xf4\xeb\xfc".ljust(510, b"\0") + b"\x55\xaa")
            file.truncate(1 << 20)
        log = b""
        with Machine(emulator, cpus=1, firmware=firmware, memory_mb=MEMORY_MB, tpm_state=state, disks=[disk],
                     log_dir=directory) as machine:
            quiet = 0
            for _ in range(120):
                time.sleep(1)
                machine.qmp("pmemsave", val=0, size=MEMORY_MB << 20, filename=image)
                with open(image, "rb") as file:
                    found = longest_log(file.read())
                quiet = quiet + 1 if found and len(found) == len(log) else 0
                log = found
                if quiet == 8:
                    break
        if not log:
            raise MachineError("no event log in memory")
    with open(output, "wb") as file:
        file.write(log)
    print(f"{output}: {len(log)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (MachineError, OSError) as error:
        sys.exit(f"error: {error}")
