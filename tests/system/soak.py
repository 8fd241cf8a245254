#!/usr/bin/env python3
"""Many short runs of the disk test, several machines at once, for hours; what a machine leaves behind when it fails is kept.

Each worker has an appliance of its own and boots it again and again with the disk test's task (disk.py), on 1, 2 and 4
processors in turn; guest and host must agree on every run.  A machine that fails is halted where it is, and saved:
DIR/failed/N has its memory, registers, disk and logs.  Exit status 0 if no run failed, 1 if any did.
"""

import argparse
import os
import shutil
import sys
import threading
import time

import appliance as lab
import disk
import machine as platform

RUN_TIMEOUT = 3600  # seconds, of one run on a machine that is much too busy
PROCESSORS = (2, 1, 4)


class Soak:
    def __init__(self, options):
        self.options = options
        self.end = time.monotonic() + options.hours * 3600
        self.lock = threading.Lock()
        self.started = self.ended = self.failures = 0

    def next_run(self):
        """The run's number, or None if it is time to stop."""
        with self.lock:
            if time.monotonic() > self.end or self.started >= self.options.runs:
                return None
            self.started += 1
            return self.started

    def over(self, number, processors, seconds, wrong):
        with self.lock:
            self.ended += 1
            self.failures += bool(wrong)
            print(f"{time.strftime('%T')} run {number}: {processors} CPUs, {seconds:.0f} s, {'; '.join(wrong) or 'ok'}", flush=True)

    def work(self, worker):
        directory = os.path.join(self.options.output, f"machine-{worker}")
        lab.remove(directory)
        os.makedirs(directory)
        box = lab.Appliance(self.options.build, directory)
        box.make_ready()
        while (number := self.next_run()) is not None:
            processors = self.options.cpus or PROCESSORS[number % len(PROCESSORS)]
            begin = time.monotonic()
            try:
                wrong = self.run(box, number, processors)
            except (lab.ApplianceError, platform.MachineError, OSError) as error:
                wrong = [str(error)]
            self.over(number, processors, time.monotonic() - begin, wrong)

    def run(self, box, number, processors):
        task, logs = box.path("task.img"), box.path("logs")
        disk.make_task(box, task)
        with box.machine(self.options.emulator, logs, processors, snapshot=False, task=task,
                         extra=["-no-shutdown"]) as machine:
            ended = self.wait(machine)
            text = machine.serial_text()
            wrong = [] if ended else [f"still runs after {RUN_TIMEOUT} s"]
            if not wrong and "triple fault" in text:
                wrong = ["the guest shut down (triple fault)"]
            if not wrong and "guest: task ends with status 0" not in text:
                wrong = ["the guest's task failed"]
            if wrong:
                self.keep(machine, number)
        wrong = wrong or disk.judge(box, task, box.directory)
        if wrong:
            kept = self.failed(number)
            shutil.copytree(logs, os.path.join(kept, "logs"), dirs_exist_ok=True)
            shutil.copy(box.image, kept)
        return wrong

    @staticmethod
    def wait(machine):
        """Until the machine has switched itself off, which leaves it standing with its memory; False: it has not."""
        end = time.monotonic() + RUN_TIMEOUT
        while machine.qmp("query-status")["status"] != "shutdown":
            if time.monotonic() > end:
                return False
            time.sleep(2)
        return True

    def failed(self, number):
        directory = os.path.join(self.options.output, "failed", str(number))
        os.makedirs(directory, exist_ok=True)
        return directory

    def keep(self, machine, number):
        directory = self.failed(number)
        machine.qmp("stop")
        with open(os.path.join(directory, "registers"), "w", encoding="ascii") as file:
            file.write(machine.monitor("info registers -a"))
        machine.qmp("pmemsave", val=0, size=lab.MEMORY << 20, filename=os.path.join(directory, "memory"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("build", "emulator", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--hours", type=float, default=8)
    parser.add_argument("--runs", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--machines", type=int, default=4, help="at once (4)")
    parser.add_argument("--cpus", type=int, help="of each machine (2, 1 and 4 in turn)")
    options = parser.parse_args()
    options.output = os.path.abspath(options.output)
    lab.remove(os.path.join(options.output, "failed"))
    soak = Soak(options)
    workers = [threading.Thread(target=soak.work, args=(number,)) for number in range(options.machines)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{soak.ended} runs, {soak.failures} failed" + (f": {options.output}/failed" if soak.failures else ""))
    return 0 if soak.ended and not soak.failures else 1


if __name__ == "__main__":
    sys.exit(main())
