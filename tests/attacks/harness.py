#!/usr/bin/env python3
"""The red team: each file of this directory but this one is an attack on a provisioned appliance, and what must be seen of it.

An attack file has a docstring (who does what; the first line is shown by --list) and ATTACK = Attack(...), where
`attacker` is what he holds: launcher, firmware, disk, device, guest, network or operator.  All attacks get copies of one
appliance, made at the start of the run.  A machine runs until a measured program refuses, the guest starts, or the
attack's own `until` is seen.
"""

import argparse
import concurrent.futures
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))
sys.modules.setdefault("harness", sys.modules[__name__])  # attack files import it by that name

import appliance as lab  # noqa: E402

ATTACKERS = ("launcher", "firmware", "disk", "device", "guest", "network", "operator")
ROLES = {"policy": 1, "approval": 2, "kernel": 3, "initrd": 4, "command-line": 5, "record": 6, "machine-approval": 7}
REFUSED = r"no key is released"
STOPPED = r"slb: stopped|gatehouse: stopped|launcher: stopped"
STARTED = r"gatehouse: guest starts"
AT_ONCE = 2


class Seen:
    """What an attack led to: the serial line, and the response codes of TPM2_Unseal from the TPM's own log."""

    def __init__(self, text, codes, ended):
        self.text, self.codes, self.ended = text.replace("\r", ""), codes, ended

    @property
    def key_released(self):
        return 0 in self.codes or "vault opened" in self.text

    @property
    def refusal(self):
        match = re.search(rf"[^\n]*(?:{REFUSED}|{STOPPED})[^\n]*", self.text)
        return match[0].strip() if match else ""

    @property
    def last_line(self):
        lines = re.findall(r"^(?:launcher|slb|gatehouse|attack|guest|initrd): .*$", self.text, re.MULTILINE)
        return lines[-1] if lines else "nothing on the serial line"


class Box:
    """One attack's own copy of the appliance, and what an attacker can do to it."""

    def __init__(self, original, directory, options):
        self.options, self.directory = options, directory
        lab.remove(directory)
        os.makedirs(directory)
        subprocess.run(["cp", "-a", "--sparse=always", "--reflink=auto", original.directory + "/.", directory], check=True)
        self.appliance = lab.Appliance(options.build, directory)
        self.boot = lab.BootPartition(self.appliance.image)

    def path(self, name):
        return os.path.join(self.directory, name)

    def edit(self, file, how):
        """Changes a file of the boot partition; how(bytes) -> bytes."""
        self.boot.write(file, how(self.boot.read(file)), self.directory)

    def patch_disk(self, offset, data):
        with open(self.appliance.image, "r+b") as image:
            image.seek(offset)
            image.write(data)

    def hostile_launcher(self, operations, files):
        """Puts the hostile launcher in place, with its operations and files (name -> bytes) as modules."""
        with open(os.path.join(self.options.build, "attacks", "launcher.elf"), "rb") as file:
            self.boot.write("/gatehouse/launcher.elf", file.read(), self.directory)
        modules = ["    module2 /gatehouse/attack attack"]
        self.boot.write("/gatehouse/attack", "\n".join(operations).encode() + b"\n", self.directory)
        for number, (name, data) in enumerate(files.items()):
            self.boot.write(f"/gatehouse/file{number}", data, self.directory)
            modules.append(f"    module2 /gatehouse/file{number} file {name}")
        self.edit("/grub/grub.cfg", lambda text: text.replace(b"\n}", "\n".join(["", *modules, "}"]).encode(), 1))


class Attack:
    """`operations` and `files` are for the hostile launcher (launcher/operations.hpp); {kernel} and the other roles stand for
    their numbers.  `change(box)` alters the copy.  `refusal` is what the wall must say; `refused(seen)` replaces that
    test where there is another.  `until` ends the run earlier or later than the launch's own end."""

    def __init__(self, attacker, refusal=None, operations=(), files=None, change=None, refused=None, cpus=1, until=None,
                 timeout=120, **machine):
        if attacker not in ATTACKERS or (refusal is None) == (refused is None):
            raise ValueError("attacker is one of " + ", ".join(ATTACKERS) + "; refusal or refused is needed")
        self.attacker, self.refusal, self.change, self.cpus, self.timeout = attacker, refusal, change, cpus, timeout
        roles = {name.replace("-", "_"): number for name, number in ROLES.items()}
        self.operations = [operation.format(**roles) for operation in operations]
        self.files, self.own_test, self.machine = files or {}, refused, machine
        self.until = re.compile("|".join(filter(None, [REFUSED, STOPPED, until or STARTED])))

    def run(self, name, original, options):
        box = Box(original, os.path.join(options.output, "work", name), options)
        try:
            if self.operations or self.files:
                box.hostile_launcher(self.operations, self.files)
            if self.change:
                self.change(box)
            logs = os.path.join(options.output, "logs", name)
            lab.remove(logs)
            settings = {"tpm_state": box.appliance.tpm, **self.machine}
            settings = {key: value(box) if callable(value) else value for key, value in settings.items()}
            with box.appliance.machine(options.emulator, logs, self.cpus, **settings) as machine:
                end = time.monotonic() + self.timeout
                while not self.until.search(machine.serial_text()) and machine.process.poll() is None:
                    if time.monotonic() > end:
                        break
                    time.sleep(0.1)
                seen = Seen(machine.serial_text(), [], machine.process.poll() is not None)
            seen.codes = lab.unseal_results(os.path.join(logs, "swtpm.log"))
        finally:
            if not options.keep:
                lab.remove(box.directory)
        return self.verdict(seen)

    def verdict(self, seen):
        """(refused, the line that says why)"""
        if self.own_test:
            return bool(self.own_test(seen)), seen.refusal or seen.last_line
        refused = not seen.key_released and re.search(self.refusal, seen.refusal) and not re.search(STARTED, seen.text)
        return bool(refused), seen.refusal or seen.last_line


def bit_flip(file, **where):
    """A `change`: one bit of a file of the boot partition (lab.flip_bit)."""
    return lambda box: box.edit(file, lambda data: lab.flip_bit(data, **where))


def all_attacks():
    names = sorted(name[:-3] for name in os.listdir(HERE) if name.endswith(".py") and name != "harness.py")
    sys.path.insert(0, HERE)
    return {name: importlib.import_module(name) for name in names}


def run_all(attacks, options):
    lab.remove(options.output)
    original = lab.Appliance(options.build, os.path.join(options.output, "appliance"))
    os.makedirs(original.directory)
    original.make_ready()
    rows = []

    def one(name):
        start = time.monotonic()
        attack = attacks[name].ATTACK
        try:
            refused, found = attack.run(name, original, options)
        except Exception as error:  # pylint: disable=broad-except
            refused, found = False, f"{type(error).__name__}: {error}"
        return {"name": name, "attacker": attack.attacker, "refused": refused, "found": found,
                "seconds": round(time.monotonic() - start, 1)}

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for row in pool.map(one, attacks):
            rows.append(row)
            print(f"{'refused' if row['refused'] else 'NOT REFUSED':<12}{row['attacker']:<10}{row['name']:<34}"
                  f"{row['seconds']:6.1f} s  {row['found']}", flush=True)
    shutil.rmtree(original.directory, ignore_errors=True)
    return rows


def main():
    parser = argparse.ArgumentParser(prog="ci/attack", description="Attacks a provisioned appliance on the emulated machine."
                                     " Exit status: 0 all refused, 1 not all, 2 usage, 3 failure.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="name them, and what each is")
    parser.add_argument("--json", metavar="FILE", help='write {"attacks": [{"name", "attacker", "refused", ...}...]}')
    parser.add_argument("--keep", action="store_true", help="leave each attack's copy of the appliance")
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--emulator", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    options = parser.parse_args()
    attacks = all_attacks()
    unknown = [name for name in options.names if name not in attacks]
    if unknown:
        parser.error(f"no attack {unknown[0]} (--list has them)")
    if options.names:
        attacks = {name: attacks[name] for name in options.names}
    if options.list:
        for name, module in attacks.items():
            print(f"{name:<34} {module.ATTACK.attacker:<10} {module.__doc__.strip().splitlines()[0]}")
        return 0
    try:
        rows = run_all(attacks, options)
    except (lab.ApplianceError, lab.machine.MachineError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    refused = sum(row["refused"] for row in rows)
    print(f"{refused} of {len(rows)} attacks refused; logs: {options.output}/logs")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"attacks": rows}, file, indent=2)
            file.write("\n")
    return 0 if refused == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
