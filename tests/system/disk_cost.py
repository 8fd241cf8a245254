#!/usr/bin/env python3
"""A ratchet: what a 4K read and a 4K write cost may not grow by more than 5 %.

Counted in the emulated machine by the means of `ci/bench disk` (tests/bench/README.md): exits and the hypervisor's instructions of a
transfer at depth 1. The guest's own are left out: they change with its kernel, and with whether it sleeps before the disk answers.
No time is taken. disk_cost.json has what was recorded; `--record` writes it anew.
"""

import dataclasses
import json
import os
import sys

import appliance as lab
import checks

sys.path.insert(0, os.path.join(lab.ROOT, "tests", "bench"))

import disk as bench  # noqa: E402  (its place is known only now)

RECORDED = os.path.join(lab.HERE, "disk_cost.json")
GROWTH = 0.05
FIGURES = ("exits_per_io", "hypervisor_instructions_per_io")
CASES = [dataclasses.replace(case, transfers=400) for case in bench.CASES if case.name in ("read-4k-qd1", "write-4k-qd1")]
REPETITIONS = 5  # of which the median counts


def main():
    options = checks.arguments(__doc__, record={"action": "store_true"})
    measured = bench.Bench(options, options.work)
    measured.box.make_ready()
    found = {case: {name: figures[name] for name in FIGURES}
             for case, figures in measured.measure("gatehouse", CASES, REPETITIONS, alone=False).items()}
    if options.record:
        with open(RECORDED, "w", encoding="ascii") as file:
            json.dump(found, file, indent=2)
            file.write("\n")
    with open(RECORDED, encoding="ascii") as file:
        recorded = json.load(file)
    check = checks.Check()
    for case, figures in found.items():
        for name, value in figures.items():
            before = recorded[case][name]
            check(f"{case}, {name}: at most {1 + GROWTH:.0%} of {before}", value <= before * (1 + GROWTH),
                  f"{value}, {value / before - 1:+.2%}")
    return check.status()


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
