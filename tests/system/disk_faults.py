#!/usr/bin/env python3
"""Faults of the disk and of the machine, in mid-transfer: as the drive would report them, and nothing acknowledged is lost.

One machine, launched three times.  First the disk is slow, then so slow that Linux's commands time out; a sector cannot be read,
beside load; and the machine is reset from outside while the guest writes.  Then the guest reboots itself while it
writes.  At last what was acknowledged before each reset is read, and the disk loses its medium.  The host decrypts the disk and
looks for the same records.
"""

import hashlib
import os
import re
import sys

import appliance as lab
import checks
import disk
import task_disk

UNREADABLE = 60 * 2048  # sector of the scratch partition
RECORD = 4096
ENOUGH = 40  # records, before a reset
# The host tells the guest to go on by a word at the end of the task disk.
GUEST = r"""
set -u
told() { dd if=/dev/vda bs=512 skip=$(($(blockdev --getsz /dev/vda) - 1)) count=1 iflag=direct 2> /dev/null | tr -d '\0'; }
ask() { echo "ask: $1"; until [ "$(told)" = "$1" ]; do sleep 0.1; done; }
record() { yes "stage $1, record $2" 2> /dev/null | head -c 4096; }
place() { echo $((($1 - 1) * 1024 + $2)); }
write_records() {  # STAGE: without an end, beside load
    ( while :; do load "beside-$1" "$1" 16M 16M; done ) > /dev/null 2>&1 &
    for ((n = 0; n < 1024; n++)); do
        record "$1" $n | dd of=$scratch bs=4096 seek=$(place "$1" $n) conv=notrunc,fsync 2> /dev/null || fail "record $n"
        echo "acknowledged $1 $n"
    done
    fail "nobody has reset the machine"
}
check_records() {  # STAGE COUNT
    for ((n = 0; n < $2; n++)); do
        dd if=$scratch bs=4096 skip=$(place "$1" $n) count=1 iflag=direct 2> /dev/null | cmp -s - <(record "$1" $n 2> /dev/null) ||
            fail "record $n of stage $1 is lost"
    done
    echo "$2 records of stage $1 are there"
}
"""

FIRST = r"""
dmesg -n 1
echo "a slow disk"
ask slow
load slow 2 2M 16M || fail "fio on a slow disk"
echo "a disk that is too slow for Linux's patience"
dmesg -C
echo 4 > /sys/block/sda/device/timeout  # seconds; a write of 128K takes eight
ask slower
(
    # What ends just after Linux has given it up, libata reports as failed: it is written again.
    for try in 1 2 3 4 5; do
        ! fio --name=slower --filename=$scratch --direct=1 --ioengine=libaio --iodepth=2 --rw=write --bs=128k --size=2M \
            --offset=16M --verify=crc32c --verify_fatal=1 --do_verify=1 --output-format=terse > results/fio-slower || exit 0
        dmesg | grep -q DID_TIME_OUT || exit 1
        echo "try $try failed by DID_TIME_OUT"
        dmesg -C
    done
    exit 1
) > /run/slower 2>&1 &
until dmesg | grep -q "(timeout)"; do sleep 0.1; done
ask fast
wait $! || fail "fio on a disk that was too slow: $(cat /run/slower)"
cat /run/slower
echo 30 > /sys/block/sda/device/timeout
echo "a sector that cannot be read, beside load"
dmesg -C
(
    for ((n = 0; n < 10; n++)); do
        if dd if=$scratch of=/dev/null bs=512 skip=$unreadable count=1 iflag=direct 2>> results/dd; then touch /run/was-read; fi
    done
) &
load beside 1 16M 0 || fail "fio beside an unreadable sector"
wait
[ ! -e /run/was-read ] || fail "the sector was read"
# Linux's error handling never had to wait: the port stopped when it was told to.
! dmesg | grep "qc timeout" || fail "the port did not stop after an error"
dd if=$scratch of=/dev/null bs=512 skip=$((unreadable - 1)) count=1 iflag=direct 2> /dev/null || fail "the sector before it"
dd if=$scratch of=/dev/null bs=512 skip=$((unreadable + 1)) count=1 iflag=direct 2> /dev/null || fail "the sector behind it"

ask reset
write_records 1
"""

SECOND = r"""
dmesg -n 1
check_records 1 $first
( until dd if=/dev/vda bs=512 skip=$(($(blockdev --getsz /dev/vda) - 1)) count=1 iflag=direct 2> /dev/null | grep -q reboot; do
      sleep 0.1
  done
  reboot -f -f ) &
ask records
write_records 2
"""

THIRD = r"""
dmesg -n 1
check_records 1 $first
check_records 2 $second
dd if=$scratch bs=1M count=$((unreadable / 2048)) iflag=direct 2> /dev/null | sha256sum | cut -d' ' -f1 > results/sha256
echo "a disk without its medium"
# What is needed from now on is in memory.
timeout 60 dd if=/dev/zero of=/dev/null bs=512 count=1 2> /dev/null
cat /usr/bin/tar /usr/bin/dd /usr/bin/stat /usr/bin/sync /usr/bin/timeout /usr/bin/systemctl /usr/bin/sleep /usr/bin/tr \
    /usr/lib/x86_64-linux-gnu/*.so* /usr/lib/x86_64-linux-gnu/systemd/*.so > /dev/null
tar -cf /run/try.tar results; stat -c %s /run/try.tar > /dev/null; systemctl --version > /dev/null
ask away
for place in 0 1 2; do
    timeout 300 dd if=$scratch of=/dev/null bs=4096 skip=$place count=1 iflag=direct 2> /dev/null
    [ $? = 1 ] || fail "a read without a medium"
    timeout 300 dd if=/dev/zero of=$scratch bs=4096 seek=$place count=1 oflag=direct conv=notrunc 2> /dev/null
    [ $? = 1 ] || fail "a write without a medium"
done
echo "reads and writes fail, none hangs"
"""


def write_task(box, path, script=FIRST, **variables):
    text = "".join(f"{name}={value}\n" for name, value in {"unreadable": UNREADABLE, **variables}.items())
    task_disk.make(path, text + disk.GUEST + GUEST + script)


def disks(box):
    """The appliance's, of which one sector cannot be read."""
    rules = box.path("blkdebug.conf")
    sector = lab.partitions(box.image)["guest-scratch"].start + UNREADABLE
    with open(rules, "w", encoding="ascii") as file:
        file.write(f'[inject-error]\nevent = "read_aio"\nerrno = "5"\nsector = "{sector}"\nonce = "off"\n')
    return [f"blkdebug:{rules}:{box.image}"]


class GuestFailed(Exception):
    """The guest's script has said so."""


class Faults:
    """The host's part, while the machine runs."""

    def __init__(self):
        self.acknowledged = {}

    def answer(self, task, word):
        with open(task, "r+b") as file:
            file.seek(task_disk.SIZE - lab.SECTOR)
            file.write(word.encode().ljust(lab.SECTOR, b"\0"))

    def wait(self, machine, pattern):
        if "FAILED" in machine.wait_for_line(rf"guest: \| FAILED|{pattern}", lab.GUEST_TIMEOUT)[0]:
            raise GuestFailed

    def asked(self, machine, word):
        self.wait(machine, rf"guest: \| ask: {word}\b")

    def records(self, machine, stage, at_least=0):
        """How many records of the stage the guest has said to be on the disk."""
        self.wait(machine, rf"acknowledged {stage} {at_least}\b")
        return max(map(int, re.findall(rf"acknowledged {stage} (\d+)\r?\n", machine.serial_text()))) + 1

    def throttle(self, machine, **limits):
        none = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        machine.qmp("block_set_io_throttle", device="disk0", **{**none, **limits})

    def during(self, machine, box, task):
        try:
            self.stages(machine, box, task)
        except GuestFailed:
            pass  # it gives its results, and ends

    def stages(self, machine, box, task):
        for word, limits in (("slow", {"iops": 20}), ("slower", {"bps_wr": 16 << 10}), ("fast", {})):
            self.asked(machine, word)
            self.throttle(machine, **limits)
            self.answer(task, word)
        self.asked(machine, "reset")
        self.answer(task, "reset")
        self.records(machine, 1, ENOUGH)
        machine.qmp("stop")
        self.acknowledged[1] = self.records(machine, 1)
        write_task(box, task, SECOND, first=self.acknowledged[1])
        machine.qmp("cont")
        machine.qmp("system_reset")

        self.asked(machine, "records")
        self.answer(task, "records")
        self.records(machine, 2, ENOUGH)
        self.answer(task, "reboot")
        self.wait(machine, "gatehouse: keys wiped")
        machine.qmp("stop")
        self.acknowledged[2] = self.records(machine, 2)
        write_task(box, task, THIRD, first=self.acknowledged[1], second=self.acknowledged[2])
        machine.qmp("cont")

        self.asked(machine, "away")
        machine.monitor("drive_del disk0")
        self.answer(task, "away")

    def after(self, box):
        """What is wrong with the medium: what the guest read and the records, by dm-crypt's parameters, none of it in plaintext."""
        status = task_disk.results(box.path("task.img"), box.directory)
        if status != 0:
            return [f"the guest's task ended with status {status}"]
        wrong = []
        plain = box.path("scratch.img")
        box.decrypt_partition("guest-scratch", plain)
        with open(box.path("results/sha256"), encoding="ascii") as file:
            expected = file.read().strip()
        with open(plain, "rb") as file:
            if hashlib.sha256(file.read(UNREADABLE * lab.SECTOR)).hexdigest() != expected:
                wrong.append("what the guest read is not on the medium")
            for stage, count in self.acknowledged.items():
                for number in range(count):
                    file.seek(((stage - 1) * 1024 + number) * RECORD)
                    line = f"stage {stage}, record {number}\n".encode()
                    if file.read(RECORD) != (line * RECORD)[:RECORD]:
                        wrong.append(f"record {number} of stage {stage} is not on the medium")
        os.unlink(plain)
        if lab.sha256_of_partition(box.image, "gatehouse-boot") != box.boot_hash:
            wrong.append("the boot partition has changed")
        if disk.occurs(box.image, b"stage 1, record 1\n"):
            wrong.append("a record is on the medium in plaintext")
        print(f"records acknowledged before a reset: {self.acknowledged}")
        return wrong


def main():
    options = checks.arguments(__doc__, cpus={"type": int, "default": 2})
    faults = Faults()
    return disk.run(options, write_task, faults.during, faults.after, judged=False, disks=disks, extra=["-action", "reboot=reset"])


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
