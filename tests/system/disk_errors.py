#!/usr/bin/env python3
"""Refused commands beside load: nothing is lost, nothing hangs, and the guest keeps its command queueing.

The guest sends refused commands, one after the other, beside fio at queue depth 32: the drive must not be left in error by
them, so Linux sees no failed read or write and never turns NCQ off.  What was written is verified, and compared with what
the host decrypts.
"""

import os
import sys

import appliance as lab
import checks
import disk
import task_disk

TASK = r"""
set -u
disk=/dev/sda
scratch=/dev/sda5
fail() { echo "FAILED: $*"; dmesg > results/dmesg-failed; tail -60 results/dmesg-failed; exit 1; }
load() {
    fio --name="$1" --filename=$scratch --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=512-131072 \
        --blockalign=512 --size=24M --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed="$2" \
        --output-format=terse > "results/fio-$1"
}
depth=$(cat /sys/block/sda/device/queue_depth)

echo "refused commands beside load"
dmesg -C
(
    set +e
    refused=0
    while [ ! -e /run/load-ended ]; do
        # SECURITY ERASE PREPARE, READ BUFFER, a captive SMART self-test, a vendor's code
        for command in "85 06 20 00 00 00 00 00 00 00 00 00 00 00 f3 00" "85 06 20 00 00 00 00 00 00 00 00 00 00 00 e4 00" \
            "85 06 20 00 d4 00 00 00 81 00 4f 00 c2 00 b0 00" "85 06 20 00 00 00 00 00 00 00 00 00 00 00 fa 00"; do
            # shellcheck disable=SC2086
            if sg_raw $disk $command > /dev/null 2>> results/sg; then touch results/executed; fi
            refused=$((refused + 1))
        done
    done
    echo $refused > results/refused
) &
load first 1 || fail "fio beside refused commands"
load second 2 || fail "fio beside refused commands"
touch /run/load-ended
wait
[ ! -e results/executed ] || fail "a refused command was executed"
[ "$(cat results/refused)" -ge 20 ] || fail "only $(cat results/refused) commands were refused"
dmesg > results/dmesg-refused
if grep -E "failed command: (READ|WRITE) FPDMA|NCQ disabled|hard resetting" results/dmesg-refused; then
    fail "refused commands cost reads and writes"
fi
[ "$(cat /sys/block/sda/device/queue_depth)" = "$depth" ] || fail "NCQ is off"

dd if=$scratch bs=1M iflag=direct 2> /dev/null | sha256sum | cut -d' ' -f1 > results/sha256
sync
echo "all done"
"""


def main():
    options = checks.arguments(__doc__, cpus={"type": int, "default": 2})
    work = options.work
    logs = os.path.join(options.output, "logs")
    box = lab.Appliance(options.build, work)
    box.make_ready()
    task = os.path.join(work, "task.img")
    task_disk.make(task, TASK)
    with box.machine(options.emulator, logs, options.cpus, snapshot=False, task=task) as machine:
        machine.wait_for_line(r"gatehouse: guest starts", lab.BOOT_TIMEOUT)
        machine.wait_for_exit(lab.GUEST_TIMEOUT)
        text = machine.serial_text()
    print(f"serial log: {logs}/serial.log")
    wrong = disk.judge(box, task, work)
    if wrong:
        print("\n".join(line for line in text.replace("\r", "").splitlines() if "guest:" in line)[-6000:])
        print("\n".join(wrong))
        return 1
    with open(os.path.join(work, "results", "refused"), encoding="ascii") as file:
        print(f"{int(file.read())} commands refused")
    return 0


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
