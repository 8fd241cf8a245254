#!/usr/bin/env python3
"""A hostile root in the guest: every ATA opcode in every protocol, then random command tables and register accesses.

The guest's programs (tests/guests) look at memory and at the disk as the guest sees it; the host compares the medium outside of the
partition that may be written, byte by byte, and looks for their plaintext on all of it.  This is the long form; of ctest's short one
`--step` says which of the refused opcodes are tried, `--tables` how many tables.
"""

import hashlib
import os
import re
import sys

import appliance as lab
import checks
import disk
import task_disk

MARK = b"GATEHOUSE-STORM-PLAINTEXT-MARK--"  # tests/guests/hostile.hpp
CONTROL = 1024  # sector of the partition (tests/guests/tables.cpp)
PIECE = 1 << 20
TASK = r"""
set -eu
dmesg -n 1
# The mount says "ro" before its superblock and journal are written (ext4_remount of Linux 6.1); the kernel says when they are.
echo u > /proc/sysrq-trigger
until dmesg | grep -q 'Emergency Remount complete'; do sleep 0.1; done
grep -q ' / [^ ]* ro' /proc/mounts || fail "the root can still be written"
echo "nothing else writes"

echo "opcodes"
./opcodes $disk $scratch $step || fail "opcodes"

echo "$tables random tables"
for controller in /sys/bus/pci/devices/*; do [ "$(cat "$controller/class")" != 0x010601 ] || break; done
kept=$(od -An -tx8 -j44 -N8 /sys/firmware/acpi/tables/GTHS | tr -d ' ')
kept=$((0x$kept - 0x40000))
first=$(cat /sys/class/block/sda5/start)
end=$(($(blockdev --getsz $disk) - 1))
echo 8 > /proc/sys/vm/nr_hugepages
./tables "$tables" "$seed" "$controller" "$first" 65536 "$kept" 0 1 2 33 "$boot" $((boot + 5000)) "$vault" $((vault + 1024)) \
    "$end" $((end - 32)) && echo "all held"
# The root is lost: the disk went away under it. Nothing can be started any more; the host ends the machine.
"""


def pieces(image, scratch):
    """Digests of the medium outside of the scratch partition."""
    result, at = [], 0
    begin, end = scratch.start * lab.SECTOR, (scratch.start + scratch.size) * lab.SECTOR
    with open(image, "rb") as file:
        while data := file.read(min(PIECE, begin - at) if at < begin else PIECE):
            result.append((at, hashlib.blake2b(data).digest()))
            at += len(data)
            if at == begin:
                at = file.seek(end)
    return result


class Storm:
    def __init__(self, options):
        self.options = options
        self.before, self.said = [], []

    def write_task(self, box, path):
        places = lab.partitions(box.image)
        variables = {"step": self.options.step, "tables": self.options.tables, "seed": self.options.seed, "boot": places["gatehouse-boot"].start,
                     "vault": places["gatehouse-vault"].start}
        text = "".join(f"{name}={value}\n" for name, value in variables.items())
        task_disk.make(path, text + disk.GUEST + TASK, [(name, os.path.join(box.build, "bin", f"guest-{name}"))
                                                        for name in ("opcodes", "tables")])

    def during(self, machine, box, _task):
        machine.wait_for_line(r"guest: \| nothing else writes", lab.GUEST_TIMEOUT)
        machine.qmp("stop")
        self.before = pieces(box.image, lab.partitions(box.image)["guest-scratch"])
        machine.qmp("cont")
        machine.wait_for_line(r"guest: \| (all held|FAILED|\./run)", lab.GUEST_TIMEOUT + self.options.tables // 10)
        self.said = re.findall(r"guest: \| (.*)", machine.serial_text().replace("\r", ""))
        machine.kill()

    def after(self, box):
        wrong = [f"the medium has changed at byte {at}"
                 for (at, old), (_, new) in zip(self.before, pieces(box.image, lab.partitions(box.image)["guest-scratch"]))
                 if old != new]
        if disk.occurs(box.image, MARK):
            wrong.append("plaintext is on the medium")
        print("\n".join(line for line in self.said if line.startswith(("opcodes:", "tables:"))))
        if self.said[-1:] != ["all held"]:
            return wrong + self.said[-1:]
        plain = box.path("scratch.img")
        box.decrypt_partition("guest-scratch", plain)
        with open(plain, "rb") as file:
            file.seek(CONTROL * lab.SECTOR)
            if not file.read(lab.SECTOR).startswith(MARK + self.said[-2].encode() + b"\0"):
                wrong.append("what the guest wrote last is not on the medium")
        os.unlink(plain)
        return wrong


def main():
    options = checks.arguments(__doc__, cpus={"type": int, "default": 2}, step={"type": int, "default": 1},
                               tables={"type": int, "default": 100000},
                               seed={"type": int, "default": 1})
    storm = Storm(options)
    return disk.run(options, storm.write_task, storm.during, storm.after, judged=False)


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
