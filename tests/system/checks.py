"""What every system test begins with, and how it says what holds."""

import argparse
import os

import appliance as lab
from machine import serial_logs  # its run() is what a test's main() runs in


def arguments(description, **further):
    """The options of a system test, and `work`: a new, empty directory. `further`: name=keywords of add_argument()."""
    parser = argparse.ArgumentParser(description=description)
    for name in ("build", "emulator", "output"):
        parser.add_argument(f"--{name}", required=True)
    for name, keywords in further.items():
        parser.add_argument(f"--{name}", **keywords)
    options = parser.parse_args()
    options.work = os.path.join(options.output, "work")
    lab.remove(options.work)
    os.makedirs(options.work)
    return options


class Check:
    """Prints what holds and what does not; status() is the test's exit status."""

    def __init__(self):
        self.failed = 0

    def __call__(self, what, ok, found=""):
        print(f"{'ok    ' if ok else 'FAILED'} {what}{': ' + str(found) if found != '' else ''}", flush=True)
        self.failed += not ok
        if not ok:
            serial_logs.failed()

    def status(self):
        print("all held" if self.failed == 0 else f"{self.failed} did not hold")
        return 0 if self.failed == 0 else 1
