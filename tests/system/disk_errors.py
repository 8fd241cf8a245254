#!/usr/bin/env python3
"""Refused commands beside load: nothing is lost, nothing hangs, and the guest keeps its command queueing.

The guest sends refused commands, one after the other, beside fio at queue depth 32: the drive must not be left in error by
them, so Linux sees no failed read or write and never turns NCQ off.  What was written is verified, and compared with what
the host decrypts.
"""

import os
import sys

import checks
import disk
import task_disk

TASK = r"""
set -u
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
load first 1 24M 0 || fail "fio beside refused commands"
load second 2 24M 0 || fail "fio beside refused commands"
touch /run/load-ended
wait
[ ! -e results/executed ] || fail "a refused command was executed"
[ "$(cat results/refused)" -ge 20 ] || fail "only $(cat results/refused) commands were refused"
dmesg > results/dmesg-refused
if grep -E "failed command: (READ|WRITE) FPDMA|NCQ disabled|hard resetting" results/dmesg-refused; then
    fail "refused commands cost reads and writes"
fi
[ "$(cat /sys/block/sda/device/queue_depth)" = "$depth" ] || fail "NCQ is off"

hash_scratch
echo "all done"
"""


def main():
    options = checks.arguments(__doc__, cpus={"type": int, "default": 2})
    status = disk.run(options, lambda box, path: task_disk.make(path, disk.GUEST + TASK))
    if status == 0:
        with open(os.path.join(options.work, "results", "refused"), encoding="ascii") as file:
            print(f"{int(file.read())} commands refused")
    return status


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
