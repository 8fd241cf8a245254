#!/usr/bin/env python3
"""Measures AES-256-XTS: gigabytes a second and instructions of ata/xts beside OpenSSL's EVP, in one run on one core.

usage: xts.py --build DIR [--json FILE] [--seconds S]

Exit status: 0 if every target is met, 1 if one is not, 2 usage, 3 failure.
"""
import argparse
import json
import pathlib
import subprocess
import sys

OWN = ("aes-ni", "vaes")
THEIRS = ("openssl-sectors", "openssl-unit")
# At 512-byte sectors in 4 KiB, as a multiple of what OpenSSL makes of one 4 KiB unit; and of which instructions.
TARGET_CASE = "512/4096"
LEAST = {"aes-ni": 1.0, "vaes": 1.9}
REPETITIONS = 5
PATIENCE = 3600


def run(*command):
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: status {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def measure(program, seconds):
    """{"SECTOR/BYTES": {"encrypt"|"decrypt": {what: GB/s}}}: the best of some repetitions, in random order."""
    shortest = seconds / REPETITIONS
    report = run(program, "--benchmark_format=json", f"--benchmark_repetitions={REPETITIONS}",
                 "--benchmark_enable_random_interleaving=true", f"--benchmark_min_time={shortest:g}")
    cases = {}
    for row in report["benchmarks"]:
        if row["run_type"] != "iteration":
            continue
        what, direction, shape = row["run_name"].split("/", 2)
        shape = "/".join(shape.split("/")[:2])
        found = cases.setdefault(shape, {}).setdefault(direction, {})
        found[what] = max(found.get(what, 0), round(row["bytes_per_second"] / 1e9, 3))
    if not cases:
        raise RuntimeError(f"{program}: no figures")
    return cases


def verdicts(cases):
    rows = []
    for direction, found in cases[TARGET_CASE].items():
        rows += [(what, direction, round(found[what] / found["openssl-unit"], 2), least)
                 for what, least in LEAST.items() if what in found]
    return rows


def table(cases, instructions):
    whats = [what for what in (*OWN, *THEIRS) if what in instructions]
    own = [what for what in OWN if what in whats]
    lines = ["GB/s on one core; in brackets, instructions for each 512 bytes", ""]
    head = f"{'sector':>6} {'bytes':>6}  {'':<8}" + "".join(f"{what:>17}" for what in whats)
    lines.append(head + "".join(f"{what:>14}/sectors {'/unit':>7}" for what in own))
    for sector, size in sorted(tuple(map(int, shape.split("/"))) for shape in cases):
        shape = f"{sector}/{size}"
        for direction in ("encrypt", "decrypt"):
            found = cases[shape][direction]
            line = f"{sector:>6} {size:>6}  {direction:<8}"
            for what in whats:
                count = instructions[what].get(shape) if direction == "encrypt" else None
                counted = f" ({count:,.0f})" if count else ""
                line += f"{f'{found[what]:.2f}' + counted:>17}"
            lines.append(line + "".join(f"{found[what] / found['openssl-sectors']:>21.2f}x"
                                        f"{found[what] / found['openssl-unit']:>7.2f}x" for what in own))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    program = arguments.build / "bin/xts-bench"
    try:
        instructions = run(program, "--instructions")
        cases = measure(program, arguments.seconds)
        rows = verdicts(cases)
        if arguments.json:
            figures = {"gb_per_s": cases, "instructions_per_512": instructions,
                       "targets": [dict(zip(("what", "direction", "to_openssl_unit", "at_least"), row)) for row in rows]}
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    except (RuntimeError, OSError, subprocess.TimeoutExpired, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(table(cases, instructions))
    print()
    for what, direction, ratio, least in rows:
        print(f"{what:<8}{direction:<9}512-byte sectors in 4 KiB, to one OpenSSL unit: {ratio:.2f}   > {least:<4}"
              f"{'ok' if ratio > least else 'MISSED'}")
    return 0 if all(ratio > least for _, _, ratio, least in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
