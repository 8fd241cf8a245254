#!/usr/bin/env python3
"""The red team: each file of this directory that has ATTACK is an attack on a provisioned appliance, and what must be seen of it.

Such a file has a docstring (who does what; the first line is shown by --list) and ATTACK = Attack(...), where
`attacker` is what he holds: launcher, firmware, disk, device, guest, network or operator.  All attacks get copies of one
appliance, made at the start of the run.  A machine runs until a measured program refuses, the guest starts, or the
attack's own `until` is seen.

An attack from inside has `guest`, a bash script: exit status 0 if it got nothing, with what it found in its output.  All
such scripts that want the same machine run in one boot of it, one after the other.
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
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))
sys.modules.setdefault("harness", sys.modules[__name__])  # attack files import it by that name

import appliance as lab  # noqa: E402
import task_disk  # noqa: E402
from machine import serial_logs  # noqa: E402

ATTACKERS = ("launcher", "firmware", "disk", "device", "guest", "network", "operator")
ROLES = {"policy": 1, "approval": 2, "kernel": 3, "initrd": 4, "command-line": 5, "record": 6, "machine-approval": 7}
BLOCK = {"hypervisor_size": 12, "kept_base": 16, "module_count": 60, "memory_count": 128}  # launch/launch_block.hpp
REFUSED = r"no key is released"
STOPPED = r"slb: stopped|gatehouse: stopped|launcher: stopped"
STARTED = r"gatehouse: guest starts"
AT_ONCE = 2
SCRIPT_TIMEOUT = 120  # seconds, by the guest's clock
# Of a guest's script: results go to the directory "$results"; all are variables of the environment.
GUEST = r"""
set -u
disk=/dev/sda
for controller in /sys/bus/pci/devices/*; do [ "$(cat "$controller/class")" != 0x010601 ] || break; done
kept=$(od -An -tx8 -j44 -N8 /sys/firmware/acpi/tables/GTHS | tr -d ' ')
kept=$((0x$kept - {mailbox:#x}))
probe=$PWD/probe
bare=$PWD/controller
config() {{ dd if="$1/config" bs=1 skip=$(($2)) count="$3" 2> /dev/null | od -An -v -tx"$3" | tr -d ' '; }}
set_config() {{ printf "$3" | dd of="$1/config" bs="${{#3}}" seek=$(($2)) oflag=seek_bytes conv=notrunc 2> /dev/null; }}
memory() {{ "$probe" memory "$1" "${{2:-64}}"; }}  # bytes, as hexadecimal digits
is_nothing() {{ [ -n "$1" ] && [ -z "${{1//f/}}" ]; }}  # it was read, and is all ones
# The control: a sector of the root's partition is written, with what it holds.
can_write() {{
    local place=$((root + root_sectors - 1))
    dd if=$disk of=sector bs=512 skip=$place count=1 iflag=direct 2> /dev/null &&
        dd if=sector of=$disk bs=512 seek=$place count=1 oflag=direct conv=notrunc 2> /dev/null || {{
        echo "control: the disk takes no write"
        return 1
    }}
}}
refuses_writes() {{  # to sectors
    local sector
    can_write || return 1
    for sector; do
        if dd if=/dev/zero of=$disk bs=512 seek=$sector count=1 oflag=direct conv=notrunc 2> /dev/null; then
            echo "a write to sector $sector went through"
            return 1
        fi
    done
    echo "no write went through"
}}
# The control: what is there is read: in the kept region the mailbox, of devices the firmware's flash. (Debian's kernel gives
# no program the registers that one of its drivers uses.)
can_read() {{
    local place there
    for place in $((kept + {mailbox:#x})) $((0xffffffc0)); do
        there=$(memory $place)
        if [ -z "$there" ] || is_nothing "$there"; then printf 'control: nothing is read at %x\n' $place; return 1; fi
    done
}}
"""
MAILBOX_OFFSET = 0x40000  # of the kept region (hypervisor/launch/layout.hpp)


class Seen:
    """What an attack led to: the serial line, and the response codes of TPM2_Unseal from the TPM's own log."""

    def __init__(self, text, codes, ended):
        self.text, self.codes, self.ended = text.replace("\r", ""), codes, ended
        self.watched = None  # what the attack's own `watch` returned

    @property
    def key_released(self):
        return 0 in self.codes or "vault opened" in self.text

    @property
    def refusal(self):
        match = re.search(rf"[^\n]*(?:{REFUSED}|{STOPPED})[^\n]*", self.text)
        return match[0].strip() if match else ""

    @property
    def is_stopped(self):
        """No key, and not for want of time: a program refused, or the machine's end came."""
        return not self.key_released and bool(self.refusal or self.ended)

    @property
    def came_to_an_end(self):
        """No key, by is_stopped; or the guest ran to its end, its task or a reset."""
        return self.is_stopped or bool(re.search(r"guest: no task disk|machine is reset", self.text))

    @property
    def last_line(self):
        lines = re.findall(r"^(?:launcher|slb|gatehouse|attack|guest|initrd): .*$", self.text, re.MULTILINE)
        return lines[-1] if lines else "nothing on the serial line"


class Lab:
    """What all attacks of a run share: the appliance, and made when they are first asked for, another endpoint of its fleet
    and a thief's disk, which is sealed to the appliance's TPM by what everybody may know."""

    MARK = "THE-THIEFS-ROOT-RUNS"

    def __init__(self, options, appliance=None):
        """`options` are those of main(); `appliance`, if there is a ready one."""
        self.options = options
        self.lock = threading.Lock()
        self.others = {}
        self.appliance = appliance
        if appliance is None:
            self.appliance = lab.Appliance(options.build, os.path.join(options.output, "appliance"))
            os.makedirs(self.appliance.directory)
            self.appliance.make_ready(bundle=("--change-in-use",))  # the most that a policy allows

    def _other(self, name, make):
        with self.lock:
            if name not in self.others:
                other = lab.Appliance(self.options.build, os.path.join(self.options.output, name))
                lab.remove(other.directory)
                os.makedirs(other.directory)
                make(other)
                self.others[name] = other
            return self.others[name]

    def endpoint(self):
        return self._other("endpoint", lambda other: other.make_ready(self.appliance))

    def _make_plain(self, other):
        """A disk with the appliance's labels, a root of the thief's, and no vault."""
        other.join(self.appliance)
        other.build_image()
        mark = other.path("gatehouse-task")
        with open(mark, "w", encoding="ascii") as file:
            file.write(f"#!/bin/bash\nwhile :; do echo {self.MARK} > /dev/console; sleep 1; done\n")
        goal = "/usr/local/sbin/gatehouse-task"
        offset = lab.partitions(other.image)["guest-root"].start * lab.SECTOR
        lab.run(["debugfs", "-w", "-f", "/dev/stdin", f"{other.image}?offset={offset}"],
                input=f"rm {goal}\nwrite {mark} {goal}\nset_inode_field {goal} mode 0100755\n".encode())
        for number, (name, partition) in enumerate(lab.partitions(self.appliance.image).items(), 1):
            if name in lab.partitions(other.image):
                lab.run(["sfdisk", "--quiet", "--part-uuid", other.image, str(number), partition.id])

    def plain_disk(self):
        return self._other("plain", self._make_plain)

    def _make_thief(self, other):
        lab.run(["cp", "--sparse=always", self.others["plain"].image, other.image])
        other.join(self.appliance)
        shutil.copytree(self.appliance.tpm, other.tpm)
        other.provision()
        for name in ("/gatehouse/policy.approval", "/gatehouse/endpoint.record"):
            lab.BootPartition(other.image).write(name, lab.BootPartition(self.appliance.image).read(name), other.directory)

    def thief(self):
        self.plain_disk()
        return self._other("thief", self._make_thief)


class Box:
    """One attack's own copy of the appliance, and what an attacker can do to it."""

    KEPT_SIZE = 0xc00000  # hypervisor/launch/layout.hpp

    def __init__(self, shared, directory):
        self.shared, self.options, self.directory = shared, shared.options, directory
        original = shared.appliance
        lab.remove(directory)
        os.makedirs(directory)
        # The appliance's own: boxes may lie in the same folder.
        names = [entry.path for entry in os.scandir(original.directory)
                 if entry.is_file() or entry.name in ("tpm", "tpm-vendor")]
        subprocess.run(["cp", "-a", "--sparse=always", "--reflink=auto", *names, directory], check=True)
        self.appliance = lab.Appliance(self.options.build, directory)
        self.appliance.identity = original.identity
        self.boot = lab.BootPartition(self.appliance.image)

    def path(self, name):
        return os.path.join(self.directory, name)

    def edit(self, file, how):
        """Changes a file of the boot partition; how(bytes) -> bytes."""
        self.boot.write(file, how(self.boot.read(file)), self.directory)

    def delete(self, file):
        lab.run(["mdel", "-i", self.boot.drive, f"::{file}"])

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
    """`operations` and `files` are for the hostile launcher (launcher/operations.hpp); {kernel} and the other roles, and fields
    of the launch block, stand for their numbers.  `change(box)` alters the copy.  `refusal` is what the wall must say; `refused(seen)` replaces that
    test where there is another.  `until` ends the run earlier or later than the launch's own end.  `watch(machine, box)`
    looks at the machine before it is switched off; what it returns is `seen.watched`.

    `guest` is a script for the guest (GUEST has its variables and functions); `judge(box, results)` also judges what it
    left in its directory: (refused, why); `probe` and `bare` (guest/*.cpp) are there, too.  `alone`: not in one boot with others, and it
    need not come to its end."""

    def __init__(self, attacker, refusal=None, operations=(), files=None, change=None, refused=None, cpus=1, until=None,
                 watch=None, guest=None, judge=None, alone=False, **machine):
        if attacker not in ATTACKERS or sum(x is not None for x in (refusal, refused, guest)) == 0:
            raise ValueError("attacker is one of " + ", ".join(ATTACKERS) + "; refusal, refused or guest is needed")
        self.attacker, self.refusal, self.change, self.cpus = attacker, refusal, change, cpus
        names = {name.replace("-", "_"): number for name, number in ROLES.items()} | BLOCK
        self.operations = [operation.format(**names) for operation in operations]
        self.files, self.own_test, self.machine = files or {}, refused, machine
        self.watch, self.guest, self.judge, self.alone = watch, guest, judge, alone
        self.until = re.compile("|".join(filter(None, [REFUSED, STOPPED, until or STARTED])))

    def boot_key(self, name):
        """Attacks of one key share a boot."""
        if self.guest is None or self.alone:
            return name
        return repr((self.operations, sorted(self.files), self.change, self.cpus, sorted(self.machine.items())))

    def boot(self, box, logs, task=None, until=None, timeout=lab.BOOT_TIMEOUT):
        """`timeout` bounds a failure: an attack has its end."""
        if self.operations or self.files:
            box.hostile_launcher(self.operations, self.files)
        if self.change:
            self.change(box)
        lab.remove(logs)
        settings = {"tpm_state": box.appliance.tpm, **self.machine}
        settings = {key: value(box) if callable(value) else value for key, value in settings.items()}
        until = until or self.until
        with box.appliance.machine(box.options.emulator, logs, max(self.cpus, box.options.cpus), box.options.firmware,
                                   task=task, **settings) as machine:
            end = time.monotonic() + timeout
            while not until.search(machine.serial_text()) and machine.process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            watched = self.watch(machine, box) if self.watch else None
            seen = Seen(machine.serial_text(), [], machine.process.poll() is not None)
        seen.watched = watched
        seen.codes = lab.unseal_results(os.path.join(logs, "swtpm.log"))
        return seen

    def run(self, box, logs):
        task = None
        if self.guest is not None:
            task = box.path("task.img")
            task_disk.make(task, guest_task(box, {"alone": self}), guest_files(box))
        return self.verdict(self.boot(box, logs, task, timeout=lab.BOOT_TIMEOUT + (SCRIPT_TIMEOUT if task else 0)))

    def verdict(self, seen):
        """(refused, the line that says why)"""
        if self.own_test:
            why = seen.refusal or seen.last_line
            return bool(self.own_test(seen)), f"{why} {seen.watched}" if self.watch else why
        refused = not seen.key_released and re.search(self.refusal, seen.refusal) and not re.search(STARTED, seen.text)
        return bool(refused), seen.refusal or seen.last_line


def guest_files(box):
    return [(name, os.path.join(box.options.build, "attacks", name)) for name in ("probe", "controller")]


def guest_task(box, attacks):
    """The text of a task that runs the scripts of all attacks."""
    places = lab.partitions(box.appliance.image)
    text = GUEST.format(mailbox=MAILBOX_OFFSET)
    for name in ("boot", "vault", "root"):
        place = places.get(f"gatehouse-{name}") or places[f"guest-{name}"]
        text += f"{name}={place.start}\n{name}_sectors={place.size}\n"
    text += "export disk controller kept probe bare boot boot_sectors vault vault_sectors root root_sectors\n"
    text += "export -f config set_config memory is_nothing can_read can_write refuses_writes\n"
    for name, attack in attacks.items():
        text += (f"export results=$PWD/results/{name}\nmkdir -p $results\ncat > {name}.sh <<'END-OF-SCRIPT'\n{attack.guest}\n"
                 f"END-OF-SCRIPT\ntimeout {SCRIPT_TIMEOUT} bash {name}.sh > $results/output 2>&1\nstatus=$?\n"
                 f"echo $status > $results/status\necho \"{name}: status $status, $(tail -n 1 $results/output)\"\n")
    return text


def run_in_guest(attacks, box, logs):
    """Several attacks from inside, in one boot: name -> (refused, why)."""
    task = box.path("task.img")
    task_disk.make(task, guest_task(box, attacks), guest_files(box))
    first = next(iter(attacks.values()))
    until = re.compile(f"{REFUSED}|{STOPPED}|guest: power off|machine is reset")
    seen = first.boot(box, logs, task, until, lab.BOOT_TIMEOUT + SCRIPT_TIMEOUT * len(attacks))
    results = box.path("guest")
    os.makedirs(results)
    whole = task_disk.results(task, results)
    rows = {}
    for name, attack in attacks.items():
        place = os.path.join(results, "results", name)
        try:
            with open(os.path.join(place, "status"), encoding="ascii") as file:
                status = file.read().strip()
            with open(os.path.join(place, "output"), encoding="utf-8", errors="replace") as file:
                said = (file.read().strip().splitlines() or ["nothing"])[-1]
            rows[name] = (status == "0", said)
            if attack.own_test and not attack.own_test(seen):
                rows[name] = (False, seen.last_line)
            elif attack.judge and status == "0":
                rows[name] = attack.judge(box, place)
        except OSError:
            rows[name] = (False, f"the guest's task gave no results (status {whole}): {seen.refusal or seen.last_line}")
    return rows


def bit_flip(file, **where):
    """A `change`: one bit of a file of the boot partition (lab.flip_bit)."""
    return lambda box: box.edit(file, lambda data: lab.flip_bit(data, **where))


def all_attacks():
    names = sorted(name[:-3] for name in os.listdir(HERE) if name.endswith(".py") and name != "harness.py")
    sys.path.insert(0, HERE)
    modules = {name: importlib.import_module(name) for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "ATTACK")}


def perform(shared, attacks):
    """The rows of attacks (name -> Attack) that share a boot."""
    start = time.monotonic()
    first = next(iter(attacks))
    logs = os.path.join(shared.options.output, "logs", first if len(attacks) == 1 else "guest-" + first)
    box = None
    try:
        box = Box(shared, os.path.join(shared.options.output, "work", first))
        in_guest = attacks[first].guest is not None and not attacks[first].alone
        found = run_in_guest(attacks, box, logs) if in_guest else {first: attacks[first].run(box, logs)}
    except Exception as error:  # pylint: disable=broad-except
        found = {name: (False, f"{type(error).__name__}: {error}") for name in attacks}
    finally:
        if box and not shared.options.keep:
            lab.remove(box.directory)
    if not all(found[name][0] for name in attacks):
        serial_logs.failed(os.path.join(logs, "serial.log"))
    seconds = (time.monotonic() - start) / len(attacks)
    return [{"name": name, "attacker": attacks[name].attacker, "refused": bool(found[name][0]), "found": found[name][1],
             "seconds": round(seconds, 1)} for name in attacks]


def run_all(attacks, options):
    lab.remove(options.output)
    shared = Lab(options)
    boots = {}
    for name, module in attacks.items():
        boots.setdefault(module.ATTACK.boot_key(name), {})[name] = module.ATTACK
    rows = []
    longest_first = sorted(boots.values(), key=lambda names: next(iter(names.values())).guest is None)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for done in concurrent.futures.as_completed([pool.submit(perform, shared, names) for names in longest_first]):
            for row in done.result():
                rows.append(row)
                print(f"{'refused' if row['refused'] else 'NOT REFUSED':<12}{row['attacker']:<10}{row['name']:<34}"
                      f"{row['seconds']:6.1f} s  {row['found']}", flush=True)
    for other in (shared.appliance, *shared.others.values()):
        lab.remove(other.directory)
    return sorted(rows, key=lambda row: row["name"])


def main():
    parser = argparse.ArgumentParser(prog="ci/attack", description="Attacks a provisioned appliance on the emulated machine."
                                     " Exit status: 0 all refused, 1 not all, 2 usage, 3 failure.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="name them, and what each is")
    parser.add_argument("--json", metavar="FILE", help='write {"attacks": [{"name", "attacker", "refused", ...}...]}')
    parser.add_argument("--keep", action="store_true", help="leave each attack's copy of the appliance")
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="processors of the machine, at least (1)")
    parser.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
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
    sys.exit(serial_logs.run(main))
