#!/usr/bin/env python3
"""A disk that Gatehouse wrote, opened on a rescue system by Linux's own dm-crypt and the recovery key.

A guest under Gatehouse writes a file and a partition.  Then the disk is put into another machine, without Gatehouse and
without its TPM, where stock Linux opens it with the table that `sealed-key export-dmsetup` prints, and the partition with the
header that `sealed-key export-luks2` writes.
"""

import os
import secrets
import shutil
import sys

import appliance as lab
import checks
import task_disk

WRITE = r"""
set -eu
mount -o remount,rw /
cp nonce /var/rescue-me
mount -o remount,ro /
head -c 16M /dev/urandom | dd of=/dev/sda5 bs=1M seek=3 iflag=fullblock oflag=direct conv=notrunc status=none
dd if=/dev/sda5 bs=1M iflag=direct status=none | sha256sum | cut -d' ' -f1 > results/scratch
sync
"""

OPEN = r"""
set -eu
modprobe -a dm_crypt loop
for block in /sys/block/vd*; do
    if [ "$(< "$block/serial")" = rescued ]; then disk="/dev/${block##*/}"; fi
done
sed "s#@DISK@#$disk#" table | dmsetup create opened --readonly
part() { losetup -r -f --show -o $(($1 * 512)) --sizelimit $(($2 * 512)) /dev/mapper/opened; }
e2fsck -f -n "$(part $root)"
mkdir -p /run/rescued
mount -t ext4 -o ro,noload "$(part $root)" /run/rescued
cat /run/rescued/var/rescue-me > results/nonce
sha256sum < "$(part $scratch)" | cut -d' ' -f1 > results/scratch
dmsetup table opened | awk '{ print ($3 == "crypt" ? $3 " " $4 : $3) }' | sort -u > results/targets
umount /run/rescued
losetup -D
dmsetup remove --retry opened
DM_DISABLE_UDEV=1 LD_LIBRARY_PATH="$PWD" ./cryptsetup open --type luks2 --readonly --header luks.header \
    --key-file passphrase "$disk" by_luks2
luks2=$(losetup -r -f --show -o $((${scratch% *} * 512)) --sizelimit $((${scratch#* } * 512)) /dev/mapper/by_luks2)
sha256sum < "$luks2" | cut -d' ' -f1 > results/luks2
"""


def read(*parts):
    with open(os.path.join(*parts), encoding="ascii") as file:
        return file.read().strip()


def run_task(machine, task, directory):
    """Runs the machine to its end; the task's results in `directory`/results."""
    with machine:
        machine.wait_for_exit(lab.BOOT_TIMEOUT + lab.GUEST_TIMEOUT)
    status = task_disk.results(task, directory)
    if status != 0:
        raise lab.ApplianceError(f"the task ended with status {status}; serial log: {machine.serial_path}")


def rescue_machine(box, options, work, task):
    """Another computer: it boots the plain guest on its own disk; the appliance's disk is its second one."""
    plain = os.path.join(work, "rescue-system.raw")
    lab.run([sys.executable, os.path.join(lab.ROOT, "image", "build-appliance"), "--measured",
             os.path.join(options.build, "measured"), "--include", os.path.join(lab.ROOT, "tests", "guests", "appliance"),
             "--output", plain])
    # The initrd takes its root from the disk that a hypervisor names; here the disk of port 0 is the rescue system's own.
    table = os.path.join(work, "boot-disk-table")
    with open(table, "wb") as file:
        file.write(lab.boot_disk_table())
    for name in ("kernel", "initrd"):
        with open(os.path.join(work, name), "wb") as file:
            file.write(lab.BootPartition(plain).read(f"/gatehouse/{name}"))
    return lab.machine.Machine(
        options.emulator, disks=[plain], memory_mb=768, log_dir=os.path.join(options.output, "logs", "rescue"),
        extra=["-kernel", os.path.join(work, "kernel"), "-initrd", os.path.join(work, "initrd"), "-append",
               "boot=gatehouse ro panic=10 console=ttyS0,115200", "-acpitable", f"sig=GTHS,oem_id=GATEHS,data={table}",
               "-drive", f"if=none,id=rescued,format=raw,file={box.image}", "-device",
               "virtio-blk-pci,drive=rescued,serial=rescued", *task_disk.qemu_arguments(task)])


def cryptsetup_files():
    """This machine's cryptsetup and its libraries, but for the C library's, which the rescue system has."""
    program = shutil.which("cryptsetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    libraries = [line.split()[2] for line in lab.run(["ldd", program]).decode().splitlines() if " => /" in line]
    return [(os.path.basename(path), os.path.realpath(path)) for path in [program, *libraries]
            if not os.path.basename(path).startswith(("libc.so", "libm.so"))]


def main():
    options = checks.arguments(__doc__)
    work = options.work
    box = lab.Appliance(options.build, work)
    box.make_ready()

    nonce = os.path.join(work, "nonce")
    with open(nonce, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(16))
    task = os.path.join(work, "write.img")
    task_disk.make(task, WRITE, [("nonce", nonce)])
    run_task(box.machine(options.emulator, os.path.join(options.output, "logs", "write"), snapshot=False, task=task), task,
             os.path.join(work, "written"))

    table = os.path.join(work, "table")
    with open(table, "wb") as file:
        file.write(box.tool("sealed-key", "export-dmsetup", box.image, "--recovery-key", box.path("recovery.key"),
                            "--device", "@DISK@"))
    places = lab.partitions(box.image)
    variables = "".join(f"{name}='{places[f'guest-{name}'].start} {places[f'guest-{name}'].size}'\n"
                        for name in ("root", "scratch"))
    task = os.path.join(work, "open.img")
    header, passphrase = os.path.join(work, "luks.header"), os.path.join(work, "passphrase")
    box.tool("sealed-key", "export-luks2", box.image, "--recovery-key", box.path("recovery.key"), "--partition", "5",
             "--header-out", header)
    with open(passphrase, "w", encoding="ascii") as file:
        file.write(read(box.path("recovery.key")))
    task_disk.make(task, variables + OPEN, [("table", table), ("luks.header", header), ("passphrase", passphrase),
                                            *cryptsetup_files()])
    for file in (table, passphrase):
        os.unlink(file)
    run_task(rescue_machine(box, options, work, task), task, os.path.join(work, "opened"))
    os.unlink(task)

    check = checks.Check()
    for name, expected, found in (
            ("the file", read(nonce), read(work, "opened/results/nonce")),
            ("SHA-256 of the partition", read(work, "written/results/scratch"), read(work, "opened/results/scratch")),
            ("SHA-256 by cryptsetup", read(work, "written/results/scratch"), read(work, "opened/results/luks2")),
            ("dm targets", "crypt aes-xts-plain64 linear zero", read(work, "opened/results/targets").replace("\n", " "))):
        check(name, found == expected, f"written {expected}, found on the rescue system {found}")
    return check.status()


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
