#!/usr/bin/env python3
"""Measures the disk of the emulated machine: plain, encrypted by dm-crypt in the guest, and behind Gatehouse.

The same guest, one processor, the disk image in memory, O_DIRECT. fio in the guest does a set number of transfers at random
places of a partition; a plugin of the emulator (counter.c) counts instructions and VMRUNs between fio's begin and its end
(mark.c). What fio does besides is measured by a run with one transfer, and taken off. README.md says what each figure is.

Exit status: 0 measured, 2 usage, 3 failure.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "system"), HERE]

import appliance as lab  # noqa: E402  (their places are known only now)
import disk_report as report  # noqa: E402
import task_disk  # noqa: E402

CONFIGURATIONS = ("plain", "dmcrypt", "gatehouse")
# Block size, depth, transfers: enough that the guest's clock, 250 ticks a second, is noise.
SHAPES = {"4k-qd1": (4096, 1, 4000), "4k-qd32": (4096, 32, 4000), "128k-qd1": (128 << 10, 1, 2000),
          "256k-qd1": (256 << 10, 1, 1000), "1m-qd1": (1 << 20, 1, 300)}
EQUAL_KB = 128  # what Linux gives a plain disk that looks like one behind a bridge to parallel ATA
FREE_SHAPES = ("256k-qd1", "1m-qd1")  # those that a limit on the command's size divides
MEMORY_DISK = "/dev/shm"
MEASURE_TIMEOUT = 3600  # seconds, of all cases in one machine; it only bounds a failure


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    direction: str
    size: int
    depth: int
    transfers: int
    equal: bool = True  # commands of at most EQUAL_KB, for all three; else each as its guest chooses


CASES = [Case(f"{direction}-{name}{'' if equal else '-free'}", direction, *shape, equal)
         for equal in (True, False) for direction in ("read", "write") for name, shape in SHAPES.items()
         if equal or name in FREE_SHAPES]

# The rest of the script is a line for each run of fio, in the order in which the counter's lines are read.
TASK = r"""
set -eu
disk=/dev/sda
device=/dev/sda5
queue=/sys/block/sda/queue
echo none > $queue/scheduler
# Nothing else writes: the root's journal would, every few seconds. The mount says "ro" before its superblock is written.
echo u > /proc/sysrq-trigger
until dmesg | grep -q 'Emergency Remount complete'; do sleep 0.1; done
# Nor does udev read the partition whenever fio has closed it. (dmsetup waits for udev.)
[ -n "$key" ] || udevadm control --stop-exec-queue
free_kb=$(cat $queue/max_sectors_kb)
modprobe -a dm_crypt aesni_intel

limit() {
    [ ! -e /dev/mapper/encrypted ] || dmsetup remove --retry encrypted
    echo "$1" > $queue/max_sectors_kb
    [ -n "$key" ] || return 0
    dmsetup create encrypted --table "0 $(blockdev --getsz $disk"5") crypt aes-xts-plain64 $key 0 $disk"5" 0"
    device=/dev/mapper/encrypted
    # The cipher of a table is the one of most users.
    awk '$1 == "name" { name = $3 } $1 == "driver" { driver = $3 } $1 == "refcnt" && name == "xts(aes)" && $3 > 1 { print driver }' \
        /proc/crypto > results/cipher
    grep -q aesni results/cipher || { echo "dm-crypt does not use AES-NI: $(cat results/cipher)"; exit 1; }
}
transfer() { # NAME RW SIZE DEPTH TRANSFERS
    fio --name="$1" --filename=$device --direct=1 --ioengine=libaio --rw="$2" --bs="$3" --iodepth="$4" \
        --io_size=$(($3 * $5)) --norandommap --randseed=11 --exec_prerun="$PWD/mark begin" --exec_postrun="$PWD/mark end" \
        --output-format=json --output="results/$1.json"
    echo "$1"
}
"""


def runs(cases, repetitions):
    """(file name, case, transfers) of each run of fio, in order: first one transfer of each, then the repetitions. The first
    of all comes twice: fio and its libraries are not in memory yet."""
    yield "warm-up", cases[0], 1
    for equal in (True, False):
        these = [case for case in cases if case.equal == equal]
        for repetition in range(repetitions + 1):
            for case in these:
                yield f"{case.name}.{repetition}", case, case.transfers if repetition else 1


def script(cases, repetitions, key):
    lines, equal = [f"key={key}", TASK], None
    for name, case, transfers in runs(cases, repetitions):
        if case.equal != equal:
            equal = case.equal
            lines.append(f"limit {EQUAL_KB if equal else '$free_kb'}; cat $queue/max_sectors_kb > results/limit-{equal}")
        lines.append(f"transfer {name} rand{case.direction} {case.size} {case.depth} {transfers}")
    return "\n".join(lines) + "\n"


def code_of(elf):
    """First and last address of the hypervisor's code."""
    symbols = {words[2]: words[0] for words in map(str.split, lab.run(["nm", elf]).decode().splitlines()) if len(words) == 3}
    return f"0x{symbols['image_start']}", f"0x{symbols['image_rodata']}"


class Box(lab.Appliance):
    """An appliance, and the same disk as it was before it was encrypted."""

    def build_image(self, *arguments):
        super().build_image(*arguments)
        self.plain = self.path("plain.raw")
        lab.run(["cp", "--sparse=always", self.image, self.plain])


def one_thread_at_a_time(machine):
    """Puts the emulator on one processor of the host, where its disk has only what time its processor leaves it. So a guest
    that waits for its disk has gone to sleep before the command completes, always: else that is a race, which takes between 0
    and 8,000 instructions of the guest's for each command."""
    processor = {max(os.sched_getaffinity(0))}
    guests = {cpu["thread-id"] for cpu in machine.qmp("query-cpus-fast")}
    for thread in map(int, os.listdir(f"/proc/{machine.process.pid}/task")):
        os.sched_setaffinity(thread, processor)
        if thread not in guests:
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


class Bench:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.box = Box(options.build, work)
        self.elf = os.path.join(options.build, "hypervisor", "hypervisor")

    def plain_machine(self, logs, extra):
        """The guest without Gatehouse, started by the emulator; its initrd wants to be told which disk is the root's."""
        files = {"table": lab.boot_disk_table()}
        for name in ("kernel", "initrd", "cmdline"):
            files[name] = lab.BootPartition(self.box.plain).read(f"/gatehouse/{name}")
        for name, data in files.items():
            with open(os.path.join(self.work, name), "wb") as file:
                file.write(data)
        start = ["-kernel", os.path.join(self.work, "kernel"), "-initrd", os.path.join(self.work, "initrd"), "-append",
                 files["cmdline"].decode(), "-acpitable", f"sig=GTHS,oem_id=GATEHS,data={os.path.join(self.work, 'table')}"]
        return lab.machine.Machine(self.options.emulator, disks=[self.box.plain], memory_mb=lab.MEMORY, log_dir=logs,
                                   extra=start + extra)

    def run(self, configuration, cases, repetitions, profile=False, alone=True):
        """(files of results, the counter's lines) of one machine. `alone`: on one processor (one_thread_at_a_time())."""
        task, logs = os.path.join(self.work, "task.img"), os.path.join(self.options.output, configuration)
        counts = os.path.join(logs, "counts")
        os.makedirs(logs, exist_ok=True)
        key = os.urandom(64).hex() if configuration == "dmcrypt" else ""
        task_disk.make(task, script(cases, repetitions, key),
                       [("mark", os.path.join(self.options.build, "bin", "disk-bench-mark"))])
        first, last = code_of(self.elf)
        extra = ["-plugin", f"{os.path.join(self.options.build, 'bin', 'disk-bench-counter.so')},out={counts},first={first},"
                            f"last={last},profile={'on' if profile else 'off'}"]
        begun = time.monotonic()
        if configuration == "gatehouse":
            machine = self.box.machine(self.options.emulator, logs, snapshot=False, task=task, extra=extra)
        else:
            machine = self.plain_machine(logs, extra + task_disk.qemu_arguments(task))
        with machine:
            if alone:
                one_thread_at_a_time(machine)
            self.watch(machine, len(list(runs(cases, repetitions))))
        results = os.path.join(self.work, configuration)
        lab.remove(results)
        status = task_disk.results(task, results)
        if status != 0:
            raise lab.ApplianceError(f"the guest's task ended with status {status}; serial log: {machine.serial_path}")
        report.say(f"{configuration}: measured in {time.monotonic() - begun:.0f} s")
        with open(counts, encoding="ascii") as file:
            return os.path.join(results, "results"), file.read().splitlines()

    def watch(self, machine, total):
        """Until the machine has ended, saying how far it is."""
        end = time.monotonic() + lab.BOOT_TIMEOUT + MEASURE_TIMEOUT
        said = -1
        while machine.process.poll() is None:
            if time.monotonic() > end:
                raise lab.ApplianceError(f"the machine still runs; serial log: {machine.serial_path}")
            done = len(re.findall(r"guest: \| (?:read|write)-", machine.serial_text()))
            if done != said:
                report.progress(f"{os.path.basename(machine.log_dir)}: {done} of {total} runs of fio")
                said = done
            time.sleep(1)

    def measure(self, configuration, cases, repetitions, alone=True):
        """The figures of each case: {name: {figure: value}}."""
        directory, lines = self.run(configuration, cases, repetitions, alone=alone)
        marks = [line.split() for line in lines]
        if [mark[0] for mark in marks] != ["begin", "end"] * len(list(runs(cases, repetitions))):
            raise lab.ApplianceError(f"{configuration}: {len(marks)} markers, not two for each run of fio")
        spans = [[int(end) - int(begin) for begin, end in zip(marks[at][1:], marks[at + 1][1:])]
                 for at in range(0, len(marks), 2)]
        base, found = {}, {case.name: [] for case in cases}
        for (name, case, transfers), span in zip(runs(cases, repetitions), spans):
            with open(os.path.join(directory, name + ".json"), encoding="utf-8") as file:
                text = file.read()
            job = json.loads(text[text.index("{"):])["jobs"][0]
            done = job[case.direction]
            if job["error"] or done["total_ios"] != transfers:
                raise lab.ApplianceError(f"{configuration}, {name}: fio did {done['total_ios']} transfers of {transfers}")
            if transfers == 1:
                base[case.name] = span
                continue
            instructions, hypervisor, vmruns, halts, nanoseconds = (
                (value - one) / (transfers - 1) for value, one in zip(span, base[case.name]))
            found[case.name].append({
                "mb_per_s": case.size * 1e3 / nanoseconds, "iops": 1e9 / nanoseconds, "instructions_per_io": instructions,
                "hypervisor_instructions_per_io": hypervisor, "exits_per_io": vmruns,
                "waits_per_io": halts,
                "clock_mb_per_s": done["bw_bytes"] / 1e6})
        for case in cases:
            with open(os.path.join(directory, f"limit-{case.equal}"), encoding="ascii") as file:
                limit = int(file.read())
            for one in found[case.name]:
                one["max_command_kb"] = limit
        return {name: summary(values) for name, values in found.items()}

    def profile(self, case):
        """The hypervisor's instructions of a transfer, by function: report.functions()."""
        _, lines = self.run("gatehouse", [case], 1, profile=True)
        ends = [number for number, line in enumerate(lines) if line.startswith("end")]
        blocks = {}
        for number, sign in ((ends[-2], -1), (ends[-1], 1)):
            for line in lines[number + 1:]:
                kind, address, *count = line.split()
                if kind != "block":
                    break
                blocks[address] = blocks.get(address, 0) + sign * int(count[0]) / (case.transfers - 1)
        return report.functions(self.elf, blocks)


def summary(values):
    """The median of each figure, and how far apart the repetitions are: (largest - smallest) / median."""
    medians = {name: statistics.median(value[name] for value in values) for name in values[0]}
    spread = {name: (max(value[name] for value in values) - min(value[name] for value in values)) / medians[name]
              for name in ("mb_per_s", "clock_mb_per_s", "instructions_per_io", "exits_per_io") if medians[name]}
    return {**{name: round(value, 2) for name, value in medians.items()},
            "spread": {name: round(value, 4) for name, value in spread.items()}}


@contextlib.contextmanager
def place_for_disks():
    """A directory in memory; where the machine has none, in the usual place."""
    memory = MEMORY_DISK if os.access(MEMORY_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-", dir=memory) as directory:
        yield directory


def main():
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("build", "emulator", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--svg", metavar="FILE")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--case", action="append", choices=names, metavar="CASE", dest="cases", help=", ".join(names))
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.repetitions < 1:
        parser.error("--repetitions: at least 1")
    options.output = os.path.abspath(options.output)
    cases = [case for case in CASES if case.name in (options.cases or names)]
    try:
        with place_for_disks() as work:
            bench = Bench(options, work)
            report.say("appliance: image, TPM, keys")
            bench.box.make_ready()
            if options.profile:
                case = next(case for case in cases if case.name == (options.cases or ["read-4k-qd1"])[0])
                report.print_profile(case.name, bench.profile(case))
                return 0
            found = {name: bench.measure(name, cases, options.repetitions) for name in CONFIGURATIONS}
    except (lab.ApplianceError, lab.machine.MachineError, OSError, subprocess.SubprocessError) as error:
        report.say(f"error: {error}")
        return 3
    figures = {"cases": [{"case": case.name, **{name: found[name][case.name] for name in CONFIGURATIONS}} for case in cases]}
    report.print_table(figures)
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            json.dump(figures, file, indent=2)
            file.write("\n")
    if options.svg:
        with open(options.svg, "w", encoding="ascii") as file:
            file.write(report.drawing(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
