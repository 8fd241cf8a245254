#!/usr/bin/env python3
"""The initrd by itself, without hypervisor: which disk it takes root from, and that whatever goes wrong resets the machine.

The plain guest is started by the emulator, which gives it the hypervisor's ACPI table.  Nobody gets a shell: the machine ends
(the emulator does not restart it) within seconds, after one line that says why.
"""

import os
import re
import shutil
import sys

import appliance as lab
import checks

LINE = "boot=gatehouse ro panic=10 systemd.import_credentials=no console=ttyS0,115200"
SHELL = r"\(initramfs\)|# $|emergency mode|Give root password|sh: can't access tty"


def guest(options, work):
    image = os.path.join(work, "guest.raw")
    lab.run([os.path.join(lab.ROOT, "image", "build-appliance"), "--measured", os.path.join(options.build, "measured"),
             "--include", os.path.join(lab.ROOT, "tests", "guests", "appliance"), "--output", image])
    for name in ("kernel", "initrd"):
        with open(os.path.join(work, name), "wb") as file:
            file.write(lab.BootPartition(image).read(f"/gatehouse/{name}"))
    return image


def damaged(image, output, offset):
    """A copy whose partition guest-root has 1 KiB of nonsense at `offset`."""
    shutil.copyfile(image, output)
    with open(output, "r+b") as file:
        file.seek(lab.partitions(image)["guest-root"].start * lab.SECTOR + offset)
        file.write(os.urandom(1024))
    return output


def boot(options, work, name, disks, table=lab.boot_disk_table(), line=LINE, extra=()):
    """The serial text up to the machine's end, or to systemd's first line."""
    arguments = ["-kernel", os.path.join(work, "kernel"), "-initrd", os.path.join(work, "initrd"), "-append", line, *extra]
    if table is not None:
        path = os.path.join(work, name + ".table")
        with open(path, "wb") as file:
            file.write(table)
        arguments += ["-acpitable", f"sig=GTHS,oem_id=GATEHS,data={path}"]
    with lab.machine.Machine(options.emulator, disks=disks, memory_mb=512, snapshot=True, extra=arguments,
                             log_dir=os.path.join(options.output, "logs", name)) as machine:
        try:
            machine.wait_for_line(r"Run /init[\s\S]*(EXT4-fs \(sd..\): mounted[^\n]*[\s\S]*systemd\[1\]|" + SHELL + ")",
                                  lab.BOOT_TIMEOUT)
        except lab.machine.MachineError as error:
            if machine.process.poll() is None:
                raise lab.ApplianceError(f"{name}: neither a root nor a reset: {error}") from None
        return machine.serial_text()


def root_of_port(port):
    """Disks are probed side by side: which letter a port's disk has is not the same each time."""
    return rf"sd {port}:0:0:0: \[(sd\w)\] Attached[\s\S]*EXT4-fs \((?:\1)4\): mounted"


def main():
    options = checks.arguments(__doc__)
    work = options.work
    good = guest(options, work)
    ruined = damaged(good, os.path.join(work, "ruined.raw"), 1024)
    nameless = damaged(good, os.path.join(work, "nameless.raw"), -lab.partitions(good)["guest-root"].start * lab.SECTOR + 512)
    thief = ["-drive", f"if=none,id=thief,format=raw,snapshot=on,file={good}"]
    reset = "the machine is reset"
    cases = [
        ("first of two disks", dict(disks=[good, ruined]), root_of_port(0)),
        ("second of two disks", dict(disks=[ruined, good], table=lab.boot_disk_table(port=1)), root_of_port(1)),
        ("ruined root, a good one beside it", dict(disks=[ruined, good]), "cannot be mounted: " + reset),
        ("ruined root, a good one on virtio", dict(disks=[ruined], extra=[*thief, "-device", "virtio-blk-pci,drive=thief"]),
         "cannot be mounted: " + reset),
        ("ruined partition table", dict(disks=[nameless, good]), "no partition guest-root[^\n]*" + reset),
        ("the disk is missing", dict(disks=[good], table=lab.boot_disk_table(port=3)), "no partition guest-root[^\n]*" + reset),
        ("no table", dict(disks=[good], table=None), "table GTHS[^\n]*" + reset),
        ("lost command line", dict(disks=[good], line="console=ttyS0,115200 break=top init=/bin/sh"),
         "command line is not[^\n]*" + reset),
        ("break= on the line", dict(disks=[ruined], line=LINE + " break=mount"), "cannot be mounted: " + reset),
    ]
    check = checks.Check()
    for name, how, expected in cases:
        text = boot(options, work, re.sub(r"\W+", "-", name), **how)
        found = re.search(expected, text)
        shell = re.search(SHELL, text)
        check(name, bool(found) and not shell, (found[0].splitlines()[-1] if found else "not " + expected) +
              (", a shell" if shell else ""))
    lab.remove(work)
    return check.status()


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
