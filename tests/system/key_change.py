#!/usr/bin/env python3
"""The disk's key is changed while the guest works on the disk: `sealed-key rotate dek --online`, then the machine does the rest.

In its first boot the guest asks for windows of the change beside its own writes, and the machine is killed in the midst. The
second boot goes on, to the end, beside fio's verification. Then the header is of one key, the content is right, and the key
before opens nothing.
"""

import json
import os
import sys
import time

import appliance as lab
import checks
import task_disk

WINDOWS = 40  # by hand, in the first boot
KEPT = 16 << 20  # bytes at the beginning of the scratch partition that stay as they are

FIRST = rf"""
set -eu
mount -o remount,rw /
head -c {KEPT} /dev/urandom | tee /var/kept | dd of=/dev/sda5 bs=1M iflag=fullblock oflag=direct conv=notrunc status=none
sha256sum < /var/kept > /var/kept.sum
sync
gatehouse-channel convert --json > /var/first
for _ in $(seq {WINDOWS}); do gatehouse-channel convert > /dev/null; done
sha256sum < /var/kept | cmp - /var/kept.sum
echo "key-change: under way" > /dev/ttyS0
fio --name=beside --filename=/dev/sda5 --offset={KEPT} --size=24M --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \
    --bsrange=512-131072 --verify=crc32c --verify_fatal=1 --loops=100 > /dev/null &
gatehouse-channel convert --until-done > /dev/null
echo "key-change: at its end already" > /dev/ttyS0
"""

SECOND = rf"""
set -eu
gatehouse-channel convert --json > results/before
sha256sum < /var/kept | cmp - /var/kept.sum
check() {{ dd if=/dev/sda5 bs=1M count={KEPT >> 20} iflag=direct status=none | sha256sum | cmp - /var/kept.sum; }}
check
gatehouse-channel convert --until-done > results/convert &
fio --name=beside --filename=/dev/sda5 --offset={KEPT} --size=24M --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \
    --bsrange=512-131072 --verify=crc32c --verify_fatal=1 --output-format=terse > results/fio
wait $!
check
gatehouse-channel convert --json > results/after
gatehouse-channel status --json > results/status
sha256sum < /var/kept | cmp - /var/kept.sum
cut -d' ' -f1 /var/kept.sum > results/sum
sync
"""


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return file.read()


def kept_by(box, table):
    """The first MiB of the scratch partition as that table's key decrypts it."""
    place = lab.partitions(box.image)["guest-scratch"]
    extent = next(e for e in table if e["first"] <= place.start < e["first"] + e["sectors"])
    xts = lab.OpenSslXts(extent["key"])
    number = extent["iv_offset"] + place.start - extent["first"]
    with open(box.image, "rb") as image:
        image.seek(place.start * lab.SECTOR)
        plain = b"".join(xts.decrypt(image.read(lab.SECTOR), number + sector) for sector in range(KEPT // lab.SECTOR))
    xts.close()
    return plain


def main():
    options = checks.arguments(__doc__)
    work = options.work
    box = lab.Appliance(options.build, work)
    box.make_ready(bundle=("--change-in-use",))
    check = checks.Check()
    table_before = box.dm_table()
    said = json.loads(box.tool("sealed-key", "rotate", "dek", box.image, "--recovery-key", box.path("recovery.key"), "--online",
                               "--json"))
    check("the change is begun, and no more", said["percent"] == 0, f"{said['percent']} %")

    task = os.path.join(work, "first.img")
    task_disk.make(task, FIRST)
    with box.machine(options.emulator, os.path.join(options.output, "logs", "first"), cpus=2, snapshot=False,
                     task=task) as machine:
        machine.wait_for_line("key-change: ", lab.BOOT_TIMEOUT + lab.GUEST_TIMEOUT)
        time.sleep(5)  # of windows and writes; whatever comes of it
        machine.kill()
        text = machine.serial_text()
    check("it was killed in the midst", "under way" in text and "at its end already" not in text)

    task = os.path.join(work, "second.img")
    task_disk.make(task, SECOND)
    with box.machine(options.emulator, os.path.join(options.output, "logs", "second"), cpus=2, snapshot=False,
                     task=task) as machine:
        machine.wait_for_exit(lab.BOOT_TIMEOUT + lab.GUEST_TIMEOUT)
    status = task_disk.results(task, work)
    results = os.path.join(work, "results")
    check("the guest's content, in its second boot", status == 0,
          f"status {status}: {read(results, 'output') if status is not None else 'no results'}")
    if status != 0:
        return check.status()
    before, after = json.loads(read(results, "before")), json.loads(read(results, "after"))
    check("the second boot went on", before["active"] and before["sectors_done"] > WINDOWS * 512, str(before))
    check("to the end", after["was_under_way"] and not after["active"], str(after))
    state = json.loads(box.tool("sealed-key", "status", box.image, "--json"))
    check("the vault is of one key", state["state"] == "provisioned" and state["percent"] == 100, f"{state['state']}, {state['percent']} %")
    table = box.dm_table()
    check("which is another one", all(a["key"] != b["key"] for a, b in zip(table, table_before)))
    found, old = kept_by(box, table), kept_by(box, table_before)
    check("the content opens by it", lab.hashlib.sha256(found).hexdigest() == read(results, "sum").strip())
    check("and no sector by the one before", all(found[at:at + lab.SECTOR] != old[at:at + lab.SECTOR]
                                                 for at in range(0, KEPT, lab.SECTOR)))
    return check.status()


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
