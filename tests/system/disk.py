#!/usr/bin/env python3
"""Disk integrity and refusals, in a guest on the mediated disk; what the guest wrote is compared on the host.

The guest runs fio with verification (random sizes and offsets, queue depth 32) on a partition, then ext4 under load,
unmounted and checked; it tries to write where it must not and to read the vault; it sends an ATA command that is not on
the allow-list, and looks for the controller's registers where they can be reached by ports (AHCI).  The host then decrypts the partition with dm-crypt's parameters and compares its hash with the guest's.
"""

import hashlib
import os
import sys

import appliance as lab
import checks
import task_disk

# What tasks on the disk begin with.
GUEST = r"""
disk=/dev/sda
scratch=/dev/sda5
fail() { echo "FAILED: $*"; dmesg > results/dmesg-failed; tail -25 results/dmesg-failed; exit 1; }
load() {  # NAME SEED SIZE FIRST: writes at depth 32, in sizes of 512 bytes to 128 KiB, then reads all again
    fio --name="$1" --filename=$scratch --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=512-131072 \
        --blockalign=512 --randseed="$2" --size="$3" --offset="$4" --verify=crc32c --verify_fatal=1 --do_verify=1 \
        --output-format=terse > "results/fio-$1"
}
hash_scratch() {  # for judge()
    dd if=$scratch bs=1M iflag=direct 2> /dev/null | sha256sum | cut -d' ' -f1 > results/sha256
    sync
}
"""
TASK = r"""
set -eu

if [ "$kind" = ahci ]; then
    echo "the controller's registers have no second way, by ports (AHCI 1.3.1, 2.4)"
    for controller in /sys/bus/pci/devices/*; do [ "$(cat "$controller/class")" != 0x010601 ] || break; done
    ports=$(sed -n 5p "$controller/resource" | cut -d' ' -f1)
    [ $((ports)) != 0 ] || fail "the controller has no ports to try"
    register=$(dd if=/dev/port bs=1 skip=$((ports + 0x14)) count=4 2> /dev/null | od -An -tx1 | tr -d ' ')
    [ "$register" = ffffffff ] || fail "register 0 is $register by the ports at $ports"
else
    echo "the disk is on the IDE controller, and by DMA"
    controller=$(readlink -f /sys/block/sda | sed 's#/ata[0-9].*##')
    case $(cat "$controller/class") in 0x0101*) ;; *) fail "sda is at $controller" ;; esac
    cat "$controller"/ata*/link*/dev*/ata_device/dev*/xfer_mode | grep -q DMA || fail "the disk does no DMA"
fi

echo "fio: random sizes and offsets, depth 32, verified"
# Each block is written once: fio cannot verify blocks that later ones of another size overlap.
fio --name=raw --filename=$scratch --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=512-262144 \
    --blockalign=512 --size=56M --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 \
    --output-format=terse > results/fio-raw || fail "fio on the partition"
fio --name=large --filename=$scratch --direct=1 --ioengine=libaio --iodepth=32 --rw=write --bs=1M --size=56M \
    --verify=crc32c --verify_fatal=1 --output-format=terse > results/fio-large || fail "fio with 1 MiB blocks"
fio --name=small --filename=$scratch --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bs=4k --size=56M \
    --verify=crc32c --verify_fatal=1 --randseed=9 --output-format=terse > results/fio-small ||
    fail "fio with 4 KiB blocks"

echo "ext4 under load"
mkfs.ext4 -q -F $scratch
mkdir -p /run/scratch
mount $scratch /run/scratch
for worker in 1 2 3 4; do
    ( mkdir /run/scratch/$worker
      for i in $(seq 40); do
          head -c $((RANDOM * 4)) /dev/urandom > /run/scratch/$worker/$i
          [ $((i % 3)) != 0 ] || rm /run/scratch/$worker/$((i - 1))
          [ $((i % 10)) != 0 ] || sync
      done ) &
done
wait
(cd /run/scratch && find . -type f -exec sha256sum {} + | sort -k2) > results/files
umount /run/scratch
e2fsck -f -n $scratch > results/e2fsck || fail "e2fsck"
mount -o ro $scratch /run/scratch
(cd /run/scratch && sha256sum --quiet -c "$OLDPWD/results/files") || fail "files changed"
umount /run/scratch

echo "where the guest must not write"
boot=$(cat /sys/class/block/sda2/start)
for sector in 0 1 2 $boot $((boot + 5000)) $vault $(($(blockdev --getsz $disk) - 1)); do
    if dd if=/dev/zero of=$disk bs=512 seek=$sector count=1 oflag=direct conv=notrunc 2>> results/dd; then
        fail "a write to sector $sector went through"
    fi
done
echo "the vault reads as zeros"
dd if=$disk bs=512 skip=$vault count=$vault_sectors iflag=direct 2> /dev/null | cmp -n $((vault_sectors * 512)) - /dev/zero ||
    fail "the vault can be read"

echo "READ BUFFER is refused, and the disk goes on"
if sg_raw -r 512 $disk 85 08 0e 00 00 00 01 00 00 00 00 00 00 00 e4 00 > results/read-buffer 2>&1; then
    fail "READ BUFFER was executed"
fi
echo "SECURITY ERASE PREPARE is refused"
if sg_raw $disk 85 06 20 00 00 00 00 00 00 00 00 00 00 00 f3 00 > results/security 2>&1; then
    fail "a SECURITY command was executed"
fi
hash_scratch
echo "all done"
"""


def make_task(box, path, kind="ahci"):
    vault = lab.partitions(box.image)["gatehouse-vault"]
    task_disk.make(path, f"kind={kind}\nvault={vault.start}\nvault_sectors={vault.size}\n{GUEST}{TASK}")


def judge(box, task, work):
    """What is wrong after a guest's run, as a list of texts; prints the hashes."""
    status = task_disk.results(task, work)
    if status != 0:
        return [f"the guest's task ended with status {status}"]
    with open(os.path.join(work, "results", "sha256"), encoding="ascii") as file:
        expected = file.read().strip()
    plain = os.path.join(work, "scratch.img")
    box.decrypt_partition("guest-scratch", plain)
    with open(plain, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    os.unlink(plain)
    print(f"partition by the guest {expected}, decrypted on the host {found}", flush=True)
    wrong = [] if found == expected else ["the partition is not what the guest read"]
    if lab.sha256_of_partition(box.image, "gatehouse-boot") != box.boot_hash:
        wrong.append("the boot partition has changed")
    return wrong


def occurs(image, text):
    """Whether the bytes are anywhere on the medium."""
    behind = b""
    with open(image, "rb") as file:
        while data := file.read(1 << 22):
            if text in behind + data:
                return True
            behind = data[-len(text):]
    return False


def said_by_guest(text):
    """The last lines of a serial log that the guest's task has written."""
    return "\n".join([line for line in text.splitlines() if "guest:" in line][-80:])


def run(options, write_task, during=None, after=None, judged=True, **machine_options):
    """A system test's exit status: boots an appliance with the task that write_task(box, path) writes, and judges it, if the
    guest lives to give results.

    during(machine, box, task), once the guest starts, works on the machine; after(box) returns what else is wrong."""
    logs = os.path.join(options.output, "logs")
    box = lab.Appliance(options.build, options.work)
    box.make_ready()
    task = os.path.join(options.work, "task.img")
    write_task(box, task)
    settings = {key: value(box) if callable(value) else value for key, value in machine_options.items()}
    print(f"serial log: {logs}/serial.log")
    with box.machine(options.emulator, logs, options.cpus, snapshot=False, task=task, **settings) as machine:
        machine.wait_for_line(r"gatehouse: guest starts", lab.BOOT_TIMEOUT)
        try:
            if during:
                during(machine, box, task)
            machine.wait_for_exit(lab.GUEST_TIMEOUT)
        finally:
            text = machine.serial_text().replace("\r", "")
    wrong = (judge(box, task, options.work) if judged else []) + (after(box) if after else [])
    if wrong:
        print(said_by_guest(text))
    for problem in wrong:
        print(problem)
    return 1 if wrong else 0


def main():
    options = checks.arguments(__doc__, cpus={"type": int, "default": 2},
                               controller={"choices": ("ahci", "ide"), "default": "ahci"})
    kind = options.controller
    return run(options, lambda box, path: make_task(box, path, kind), controller=kind)


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
