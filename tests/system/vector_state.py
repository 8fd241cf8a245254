#!/usr/bin/env python3
"""Encryption by VAES, and a guest whose vector registers are full: it does not notice.

The machine's processor has VAES (the other system tests' has not). In the guest a program keeps patterns in all ymm registers
while fio reads and writes on the same processor, so that commands complete, and the hypervisor encrypts, between any two of
its instructions. What was written is verified, and compared with what the host decrypts.
"""

import os
import sys

import appliance as lab
import checks
import disk
import task_disk

LEAST_ROUNDS = 50

TASK = r"""
set -u
scratch=/dev/sda5
fail() { echo "FAILED: $*"; touch /run/stop; exit 1; }
gatehouse-channel log > results/hypervisor.log || fail "the hypervisor's log"
grep -q vaes /proc/cpuinfo || fail "a processor without VAES"

echo "fio beside a program that watches its registers"
./vectors /run/stop > results/vectors 2>&1 &
watcher=$!
for seed in 1 2 3; do
    fio --name=$seed --filename=$scratch --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=512-65536 \
        --blockalign=512 --size=16M --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=$seed \
        --output-format=terse > results/fio-$seed || fail "fio"
done
touch /run/stop
wait $watcher || { cat results/vectors; fail "registers have changed"; }
cat results/vectors
dd if=$scratch bs=1M iflag=direct 2> /dev/null | sha256sum | cut -d' ' -f1 > results/sha256
sync
echo "all done"
"""


def main():
    options = checks.arguments(__doc__)
    work = options.work
    logs = os.path.join(options.output, "logs")
    box = lab.Appliance(options.build, work)
    box.make_ready()
    task = os.path.join(work, "task.img")
    task_disk.make(task, TASK, [("vectors", os.path.join(options.build, "bin", "vectors"))])
    with box.machine(options.emulator, logs, snapshot=False, task=task, cpu_options="+vaes") as machine:
        machine.wait_for_line(r"gatehouse: guest starts", lab.BOOT_TIMEOUT)
        machine.wait_for_exit(lab.GUEST_TIMEOUT)
        text = machine.serial_text()
    print(f"serial log: {logs}/serial.log")
    wrong = disk.judge(box, task, work)
    if not wrong:
        with open(os.path.join(work, "results", "vectors"), encoding="ascii") as file:
            rounds = int(file.read().split()[0])
        print(f"{rounds} rounds")
        if rounds < LEAST_ROUNDS:
            wrong.append(f"the registers were looked at in {rounds} rounds only")
        with open(os.path.join(work, "results", "hypervisor.log"), encoding="utf-8") as file:
            if "disk: encryption by VAES" not in file.read() + text:
                wrong.append("the hypervisor has not used VAES")
    if wrong:
        print(disk.said_by_guest(text))
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
