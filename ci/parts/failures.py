#!/usr/bin/env python3
"""The end of what each failed test printed, from a JUnit file of ctest.

usage: failures.py FILE...

For whoever sees only the end of a log. A file that is not there, or is cut off, is named.
"""
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

LINES = 12
TESTS = 4  # with their lines; more are named
TELLING = re.compile(r"DOES NOT HOLD|FAILED|[Ee]rror|no key is released|panic|Traceback|[Tt]ime-?out|: Failure")


def telling(text):
    """The first lines that name something that went wrong, and the last of all, in their order."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    chosen = [index for index, line in enumerate(lines) if TELLING.search(line)][:LINES // 2]
    return [lines[index] for index in sorted({*chosen, *range(max(0, len(lines) - LINES // 2), len(lines))})]


def main(paths):
    shown = 0
    for path in paths:
        try:
            cases = ElementTree.parse(path).getroot().iter("testcase")
        except (OSError, ElementTree.ParseError) as error:
            print(f"{path}: {error}")
            continue
        for case in cases:
            if case.get("status") != "fail":
                continue
            print(f"{os.path.basename(path)}: {case.get('name')}")
            shown += 1
            for line in telling(case.findtext("system-out") or "") if shown <= TESTS else ():
                print("    " + line[:300])


if __name__ == "__main__":
    main(sys.argv[1:])
