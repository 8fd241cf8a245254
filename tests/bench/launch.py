#!/usr/bin/env python3
"""Counts what a launch costs: the instructions of an emulated machine from SKINIT to its guest's first.

Each appliance is booted once, on one processor, with a TPM whose active PCR banks are those of --banks; a plugin of the
emulator (counter.c) counts. The same build gives the same numbers but for how long the TPM and the disk are waited for.
README.md says what each figure is.

Exit status: 0 measured, 2 usage, 3 failure.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "system"), HERE]

import appliance as lab  # noqa: E402  (their places are known only now)
import disk_report as report  # noqa: E402

BANKS = ("sha256", "sha1,sha256", "sha1,sha256,sha384,sha512")
SLB = 0xffffffff80000000  # where its code is: hypervisor/launch/layout.hpp
HYPERVISOR = 0xffffffff80200000
HASHING = re.compile(r"sha\d|sha2|range_dec")  # BearSSL's functions, and those of hypervisor/base/sha_blocks.cpp


class Box(lab.Appliance):
    def __init__(self, build, directory, banks):
        super().__init__(build, directory)
        self.banks = banks

    def make_tpm(self):  # pylint: disable=arguments-differ
        super().make_tpm(banks=self.banks)


def end_of_code(elf):
    symbols = {words[2]: words[0] for words in map(str.split, lab.run(["nm", elf]).decode().splitlines()) if len(words) == 3}
    return int(symbols["image_rodata"], 16)


def boot(options, box, name):
    """The counter's lines of a machine that was ended as soon as its guest had started."""
    logs = os.path.join(options.output, name)
    counts = os.path.join(logs, "counts")
    os.makedirs(logs, exist_ok=True)
    plugin = os.path.join(options.build, "bin", "disk-bench-counter.so")
    last = end_of_code(os.path.join(options.build, "hypervisor", "hypervisor"))
    extra = ["-plugin", f"{plugin},out={counts},first={SLB:#x},last={last:#x},profile=on,launch=on"]
    with box.machine(options.emulator, logs, extra=extra, cpu_options=options.cpu_options) as machine:
        machine.wait_for_line(r"gatehouse: guest starts", lab.BOOT_TIMEOUT)
        machine.wait_for_line(r"Linux version", lab.BOOT_TIMEOUT)  # the guest has been entered
    with open(counts, encoding="ascii") as file:
        return file.read().splitlines()


def figures_of(options, lines):
    marks = [line.split() for line in lines if not line.startswith("block")]
    if [mark[0] for mark in marks] != ["begin", "end"]:
        raise lab.ApplianceError(f"{len(marks)} marks, not one SKINIT and one first VMRUN")
    blocks = {words[1]: int(words[2]) for words in map(str.split, lines) if words[0] == "block"}
    functions, own = {}, {}
    for name, elf, part in (
            ("slb", "slb/slb", {address: count for address, count in blocks.items() if int(address, 16) < HYPERVISOR}),
            ("hypervisor", "hypervisor", {address: count for address, count in blocks.items() if int(address, 16) >= HYPERVISOR})):
        own[name] = sum(part.values())
        for function, count in report.functions(os.path.join(options.build, "hypervisor", elf), part)[0].items():
            function = function.split("  [")[0]
            functions[function] = functions.get(function, 0) + count
    return {"instructions": int(marks[1][1]) - int(marks[0][1]), **own,
            "hashing": sum(count for function, count in functions.items() if HASHING.search(function)),
            "functions": dict(sorted(functions.items(), key=lambda one: -one[1])[:12])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("build", "emulator", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--banks", action="append", metavar="BANK,BANK...", help="the TPM's active PCR banks; more than once")
    parser.add_argument("--cpu-options", default="", metavar="OPTIONS", help="added to the CPU's, as sha-ni=off")
    options = parser.parse_args()
    options.output = os.path.abspath(options.output)
    launches = []
    try:
        for banks in options.banks or BANKS:
            report.say(f"{banks}: image, TPM, keys")
            with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as work:
                box = Box(options.build, work, banks.split(","))
                box.make_ready()
                report.say(f"{banks}: boot")
                launches.append({"banks": banks.split(","), **figures_of(options, boot(options, box, banks.replace(",", "-")))})
    except (lab.ApplianceError, lab.machine.MachineError, OSError, subprocess.SubprocessError) as error:
        report.say(f"error: {error}")
        return 3
    print(f"{'millions of instructions':<30}{'all':>9}{'SLB':>9}{'hypervisor':>12}{'hashing':>9}")
    for launch in launches:
        print(f"{' '.join(launch['banks']):<30}" + "".join(
            f"{launch[name] / 1e6:>{width}.1f}" for name, width in
            (("instructions", 9), ("slb", 9), ("hypervisor", 12), ("hashing", 9))))
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            json.dump({"launches": launches}, file, indent=2)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
