"""What a failed test shows of its emulated machines: the end of the serial line, and what the guest's kernel said before.

A machine tells when it starts; what fails is the last one that did, unless it is said which.
"""
import os
import re
import signal
import sys
import traceback

LINES = 60
KERNEL_LINES = 40
# Control sequences (ECMA-48: CSI, OSC and two-character ones), and what else is no text.
CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f]")
KERNEL = re.compile(r"\[ *\d+\.\d{6}\] ")

_last = None
_failed = []


def started(path):
    global _last
    _last = os.path.abspath(path)


def failed(path=None):
    """What does not hold was found on this machine: its log is to be shown at the end."""
    path = os.path.abspath(path) if path else _last
    if path and path not in _failed:
        _failed.append(path)


def excerpt(path):
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            lines = [line for line in CONTROL.sub("", file.read()).split("\n") if line.strip()]
    except OSError as error:
        return f"--- {error}\n"
    kernel = [line for line in lines[:-LINES] if KERNEL.match(line)][-KERNEL_LINES:]
    parts = [("the kernel's last messages before them", kernel), (f"the last {LINES} lines", lines[-LINES:])]
    return "".join(f"--- {path}: {what}\n" + "".join(f"    {line}\n" for line in part) for what, part in parts if part)


def show():
    for path in _failed:
        print(excerpt(path), end="", flush=True)


def _end(*_):
    raise TimeoutError("the test's time is over")


def run(main):
    """The exit status of a test's `main`; if it is not 0, what shows why has been printed, before ctest's patience
    (GATEHOUSE_TEST_TIMEOUT, seconds) is at its end."""
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(max(0, int(os.environ.get("GATEHOUSE_TEST_TIMEOUT", 0)) - 60))
    try:
        status = main()
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc(file=sys.stdout)
        failed()
        status = 3
    if status != 0:
        if not _failed:
            failed()
        show()
    return status
