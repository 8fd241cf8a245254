"""What ci/tcb and ci/lint share: --help, running a tool, and what ninja has recorded of a build."""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def die(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(3)


def option_parser(text):
    """A parser whose help is `text`, which has a line "usage: ..."."""
    parser = argparse.ArgumentParser(usage=text.split("usage: ")[1].split("\n")[0])
    parser.format_help = lambda: text
    return parser


def run(*command, check=True):
    """The finished process, its output as text; with `check` only if its exit status is 0."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        die(f"{command[0]} is not installed: run ci/setup")
    if check and done.returncode != 0:
        die(f"failed: {' '.join(map(str, command[:8]))}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done


def files_read(build, objects=()):
    """{object: the files that the compiler or the assembler read for it}, of valid records; of `objects`, or of all."""
    read, current = {}, None
    for line in run("ninja", "-C", str(build), "-t", "deps", *objects).stdout.splitlines():
        if not line.startswith("    "):
            current = line.split(": #deps ")[0] if line.endswith("(VALID)") else None
            if current is not None:
                read[current] = set()
        elif current is not None:
            read[current].add((build / line.strip()).resolve())
    return read
