#!/usr/bin/env python3
"""Users' own tools on the mediated disk: what it says that it can do, it does; what is refused costs nothing.

hdparm, smartctl, sg3-utils and fstrim in the guest, with a policy that allows TRIM and shows disks without a vault.  Nothing
that is refused ends in error handling, a failed read or the loss of NCQ.  What was trimmed is zeros on the emulator's medium,
so it is noise for the guest, what was not is as before, and outside of the guest's partitions no sector has changed.  A
foreign disk beside the own one can be read and not written, and so can a CD be, whose file system is mounted.
"""

import hashlib
import os
import secrets
import sys

import appliance as lab
import checks
import disk
import task_disk

FOREIGN_SIZE = 4 << 20
CD_FILE_SIZE = 3_000_001
TRIMMED = 48  # MiB from the beginning of the partition: 4 MiB that are trimmed as they are; before them is a file system

TASK = r"""
set -u
# Disks are named in the order in which the kernel is through with them: the foreign one may be sda.
scratch=$(grep -l PARTNAME=guest-scratch /sys/class/block/*/uevent)
scratch=/dev/$(basename "${scratch%/uevent}")
disk=${scratch%[0-9]}
foreign=/dev/$(ls /sys/bus/scsi/devices/1:0:0:0/block)
block=/sys/block/${disk#/dev/}
fail() { echo "FAILED: $*"; dmesg > results/dmesg-failed; tail -60 results/dmesg-failed; exit 1; }
works() { "$@" > results/said 2>&1 || { cat results/said; fail "status $? of: $*"; }; }
says() { grep -Eq -e "$1" results/said || { cat results/said; fail "does not say: $1"; }; }
keeps_quiet_of() { if grep -E -e "$1" results/said; then fail "says: $1"; fi; }
refused() { if "$@" > results/said 2>&1; then cat results/said; fail "went through: $*"; fi; }
trouble="ata[0-9.]*: |failed command|I/O error|NCQ disabled|resetting"  # of libata, which is silent about what works
depth=$(cat $block/device/queue_depth)
dmesg -C

echo "identification"
works hdparm -I $disk
says "48-bit Address feature set"
# hdparm tells of TRIM only for drives of newer standards than the emulator's.
[ "$(cat $block/queue/discard_max_bytes)" -gt 0 ] || fail "no TRIM"
keeps_quiet_of "Deterministic read ZEROs|SCT|Security Mode feature set|Host Protected Area|DOWNLOAD_MICROCODE|WRITE_UNCORRECTABLE"
works sg_sat_identify $disk
works sg_inq $disk
works sg_vpd -p ai $disk
works sg_vpd -p bl $disk
works sg_vpd -p lbpv $disk
says "LBPRZ\): 0"
works sg_readcap -l $disk
says "lbpme=1, lbprz=0"
works sg_opcodes -o 0x28 $disk
works sg_turs $disk

echo "health, and what is said of self-tests"
works smartctl -a $disk
says "overall-health self-assessment test result: PASSED"
says "Self-test supported"
keeps_quiet_of "^\s*(Selective|Conveyance) Self-test supported|read failed|Input/output error"
works smartctl -t short $disk
works smartctl -l selftest $disk
says "Short offline"
works smartctl -s on $disk
works hdparm -C $disk
works hdparm -W $disk
works hdparm -A1 $disk

echo "refused, and nothing else happens"
refused smartctl -s off $disk
refused smartctl -t conveyance $disk
refused sg_raw $disk 85 06 20 00 00 00 00 00 00 00 00 00 00 00 f3 00
refused sg_raw -r 512 $disk 85 08 0e 00 00 00 01 00 00 00 00 00 00 00 e4 00
refused sg_sat_read_gplog --log=0x30 $disk
# hdparm does not look for an abort in the sense data that the kernel makes of it, and tells of no error.
for option in -N --dco-identify; do
    hdparm $option $disk > results/said 2>&1
    says "sb\\[\\]:  70 00 0b 00 00 00 00 0a 04 51 "
done
for _ in 1 2 3 4 5; do
    refused smartctl -s off $disk
    works dd if=$disk of=/dev/null bs=64k count=64 iflag=direct
done
dmesg > results/dmesg
! grep -E "$trouble" results/dmesg || fail "what was refused cost more than itself"
[ "$(cat $block/device/queue_depth)" = "$depth" ] || fail "NCQ is off"

echo "TRIM of a range"
works dd if=/dev/urandom of=$scratch bs=1M oflag=direct conv=notrunc count=$(($(blockdev --getsize64 $scratch) >> 20))
before=$(dd if=$scratch bs=1M skip=$trimmed count=4 iflag=direct 2> /dev/null | sha256sum)
works blkdiscard -f -o ${trimmed}M -l 4M $scratch
works dd if=$scratch of=/run/trimmed bs=1M skip=$trimmed count=4 iflag=direct
[ "$(sha256sum < /run/trimmed)" != "$before" ] || fail "nothing was trimmed"
[ "$(gzip -c < /run/trimmed | wc -c)" -gt $((4 << 20)) ] || fail "what was trimmed is no noise"
dd if=$scratch bs=1M skip=$trimmed count=4 iflag=direct 2> /dev/null | cmp - /run/trimmed || fail "noise that changes"
dmesg > results/dmesg
! grep -E "$trouble" results/dmesg || fail "TRIM cost errors"
refused blkdiscard -f -o 0 -l 1M $disk
refused blkdiscard -f ${disk}2
dmesg -C

echo "fstrim"
works mkfs.ext4 -q -F -E nodiscard $scratch ${trimmed}M
mkdir -p /run/scratch
works mount $scratch /run/scratch
head -c 8M /dev/urandom > /run/scratch/kept
head -c 8M /dev/urandom > /run/scratch/removed
sync
for file in kept removed; do
    filefrag -b512 -e /run/scratch/$file | sed -En 's/^ *[0-9]+: *[0-9]+\.\. *[0-9]+: *([0-9]+)\.\. *[0-9]+: *([0-9]+):.*/\1 \2/p' > results/$file
    [ -s results/$file ] || fail "no extents of $file"
done
sha256sum /run/scratch/kept > results/sum
rm /run/scratch/removed
sync
works fstrim -v /run/scratch
says "[1-9][0-9]* bytes. trimmed"
works umount /run/scratch
works mount $scratch /run/scratch
works sha256sum --quiet -c results/sum
works umount /run/scratch
works e2fsck -f -n $scratch
dmesg > results/dmesg
! grep -E "$trouble" results/dmesg || fail "TRIM cost errors"
[ "$(cat $block/device/queue_depth)" = "$depth" ] || fail "NCQ is off"

echo "a CD drive"
dmesg -C
cd=/dev/$(ls /sys/bus/scsi/devices/2:0:0:0/block)
cmp -n "$(stat -c %s cd.iso)" $cd cd.iso || fail "the CD is not as it is"
mkdir -p /run/cd
works mount -t iso9660 -o ro $cd /run/cd
cmp /run/cd/data.bin cd-data || fail "the file on the CD is not as it is"
works umount /run/cd
works sg_inq $cd
works sg_readcap $cd
works sg_raw -r 512 $cd 85 08 0e 00 00 00 01 00 00 00 00 00 00 40 a1 00  # IDENTIFY PACKET DEVICE
# WRITE (10), WRITE BUFFER, MODE SELECT (10), BLANK, a vendor's packet
for packet in "2a 00 00 00 00 14 00 00 01 00" "3b 05 00 00 00 00 00 08 00 00" "55 10 00 00 00 00 00 08 00 00" \
    "a1 01 00 00 00 00 00 00 00 00 00 00" "d8 00 00 00 00 00 00 00 00 00 00 00"; do
    # shellcheck disable=SC2086
    refused sg_raw -s 2048 -i cd.iso $cd $packet
    says "Illegal Request"
done
# A disk's commands on it, and a packet device's on the disk: READ SECTORS EXT, WRITE DMA EXT; IDENTIFY PACKET DEVICE
refused sg_raw -r 512 $cd 85 08 0e 00 00 00 01 00 00 00 00 00 00 40 24 00
refused sg_raw -s 512 -i cd.iso $cd 85 0d 06 00 00 00 01 00 00 00 00 00 00 40 35 00
refused sg_raw -r 512 $disk 85 08 0e 00 00 00 01 00 00 00 00 00 00 40 a1 00
echo 3 > /proc/sys/vm/drop_caches
cmp -n "$(stat -c %s cd.iso)" $cd cd.iso || fail "the CD has changed"
dmesg > results/dmesg
! grep -E "$trouble" results/dmesg || fail "the CD cost errors"

echo "a disk without a vault"
cmp $foreign foreign || fail "the foreign disk is not as it is"
refused dd if=/dev/zero of=$foreign bs=4k count=1 oflag=direct conv=notrunc
cmp $foreign foreign || fail "the foreign disk has changed"

dd if=$scratch bs=1M iflag=direct 2> /dev/null | sha256sum | cut -d' ' -f1 > results/sha256
sync
echo "all done"
"""


def policy_of_the_test(path):
    """The shipped command policy, with TRIM allowed and foreign disks shown."""
    with open(os.path.join(lab.ROOT, "policies", "ata.toml"), encoding="utf-8") as file:
        text = file.read()
    for old, new in (('other_disks = "absent"', 'other_disks = "read-only"'),
                     ('name = "TRIM"\nallow = false', 'name = "TRIM"\nallow = true')):
        if text.count(old) != 1:
            raise lab.ApplianceError(f"policies/ata.toml has no {old!r}")
        text = text.replace(old, new)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def iso_9660(name, data):
    """A CD with one file in its root (ECMA-119, sections 8.4 and 9.1): sectors of 2,048 bytes, 16 of them free, then volume
    descriptors, the root directory, the file.  Path tables, which Linux does not look at, are missing."""
    sector, root = 2048, 18

    def both(value, size):
        return value.to_bytes(size, "little") + value.to_bytes(size, "big")

    def record(identifier, first, size, flags):
        body = (b"\0" + both(first, 4) + both(size, 4) + bytes([126, 1, 1, 0, 0, 0, 0, flags, 0, 0]) + both(1, 2) +
                bytes([len(identifier)]) + identifier)
        body += bytes((len(body) + 1) % 2)  # to an even length
        return bytes([len(body) + 1]) + body

    sectors = root + 1 + -(-len(data) // sector)
    volume = bytearray(sector)
    volume[0:7] = b"\1CD001\1"
    volume[8:72] = b" " * 64
    volume[80:88] = both(sectors, 4)
    volume[120:132] = both(1, 2) + both(1, 2) + both(sector, 2)
    volume[156:190] = record(b"\0", root, sector, 2)
    volume[881] = 1
    directory = record(b"\0", root, sector, 2) + record(b"\1", root, sector, 2) + record(name, root + 1, len(data), 0)
    whole = (bytes(16 * sector) + volume + (b"\xffCD001\1").ljust(sector, b"\0") + directory.ljust(sector, b"\0") + data)
    return whole.ljust(sectors * sector, b"\0")


def outside(image):
    """A hash of what is neither of the guest's partitions, of which it works on one and runs from the other."""
    table = lab.partitions(image)
    digest, at = hashlib.sha256(), 0
    with open(image, "rb") as file:
        for own in sorted((table[name] for name in ("guest-root", "guest-scratch")), key=lambda one: one.start):
            digest.update(file.read(own.start * lab.SECTOR - at))
            at = (own.start + own.size) * lab.SECTOR
            file.seek(at)
        digest.update(file.read())
    return digest.hexdigest()


def medium_after(box, work):
    """What is wrong with the partition's sectors on the medium, as a list of texts."""
    def extents(name):
        with open(os.path.join(work, "results", name), encoding="ascii") as lines:
            return [tuple(int(number) * lab.SECTOR for number in line.split()) for line in lines]

    start = lab.partitions(box.image)["guest-scratch"].start * lab.SECTOR
    with open(box.image, "rb") as file:
        def at(extent):
            file.seek(start + extent[0])
            return file.read(extent[1])

        wrong = []
        if any(any(at(extent)) for extent in [(TRIMMED << 20, 4 << 20), *extents("removed")]):
            wrong.append("what was trimmed is on the medium still")
        if not all(lab.looks_random(at(extent)) for extent in [((TRIMMED + 4) << 20, 1 << 20), *extents("kept")]):
            wrong.append("what was not trimmed has changed on the medium")
    return wrong


def main():
    options = checks.arguments(__doc__, cpus={"type": int, "default": 2})
    work = options.work
    logs = os.path.join(options.output, "logs")
    box = lab.Appliance(options.build, work)
    policy_of_the_test(box.path("ata.toml"))
    box.make_ready(bundle=["--ata", box.path("ata.toml")])
    foreign = box.path("foreign")
    with open(foreign, "wb") as file:
        file.write(secrets.token_bytes(FOREIGN_SIZE))
    data, disc = box.path("cd-data"), box.path("cd.iso")
    with open(data, "wb") as file, open(disc, "wb") as image:
        file.write(content := secrets.token_bytes(CD_FILE_SIZE))
        image.write(iso_9660(b"DATA.BIN;1", content))
    task = box.path("task.img")
    task_disk.make(task, f"trimmed={TRIMMED}\n{TASK}", [("foreign", foreign), ("cd-data", data), ("cd.iso", disc)])
    before = outside(box.image)
    # Q35's own controller has six ports; disks take the first ones.
    cd_drive = ["-drive", f"if=none,id=cd,media=cdrom,format=raw,readonly=on,file={disc}",
                "-device", "ide-cd,drive=cd,bus=ide.2"]
    with box.machine(options.emulator, logs, options.cpus, snapshot=False, task=task, disks=[box.image, foreign],
                     extra=cd_drive) as machine:
        machine.wait_for_line(r"gatehouse: guest starts", lab.BOOT_TIMEOUT)
        machine.wait_for_exit(lab.GUEST_TIMEOUT)
        text = machine.serial_text()
    print(f"serial log: {logs}/serial.log")
    wrong = disk.judge(box, task, work)
    wrong += medium_after(box, work) if not wrong else []
    if outside(box.image) != before:
        wrong.append("sectors outside of the guest's partitions have changed")
    if wrong:
        print(disk.said_by_guest(text))
        print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
