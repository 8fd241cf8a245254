#!/usr/bin/env python3
"""The emulated machine with SKINIT and a software TPM, for tests and the demonstration.

Python's standard library only.  As a module:

    with Machine(emulator, disks=["disk.img"], cpus=2, firmware="uefi", tpm_state="tpm", log_dir="out") as machine:
        machine.wait_for_line(r"login:", timeout=600)
        machine.qmp("query-status")
        status = machine.wait_for_exit(timeout=600)     # or machine.kill()

`tpm_state` is a directory made by software_tpm.create_tpm_state().

As a program: `machine.py run | new-tpm | with-tpm`, see --help.

The machine is a q35 without SMM, with an AMD CPU that has SVM and SKINIT; SATA disks on its AHCI controller, in the
order given; COM1 in a file; an isa-debug-exit device at port 0xf4 (a byte v written there ends the machine with
status 2v+1).  A reset ends it too (status 0), as does power-off, so no test runs for ever by rebooting.

    tpm="tis"     TIS registers with localities 0-4; what SKINIT measures arrives through locality 4
    tpm="crb"     CRB registers with locality 0 only; SKINIT measures all the same
    iommu="amd"   AMD-Vi; amd-iommu's options are pt (off here), intremap (on here), xtsup (x2APIC destinations, off),
                  device-iotlb (off), refuses (on).  It is off until software switches it on.
    iommu="amd-pt" the same with refuses=off: it does all that it is told, but a DMA that it denies lands all the same
    iommu="intel" VT-d (for SVM-less tests only: no real machine has SKINIT and VT-d)
    controller="ide"  the disks, at most two, are the first devices of a PIIX3's channels in place of the AHCI controller's ports
    rogues=["addr=10.0,flr=on"]  hostile PCI functions: the options of one gatehouse-rogue each (README.md)
    cpu_options="smm-lock=off"   added to the CPU's: smm-lock, fix-dram (README.md), ucode-rev, phys-bits ...

Device amd-df at 0:18.0 is the function in which software opens the secure loader block to devices again after a
launch (register 384h, bit 0).  Virtio devices are behind the IOMMU only with iommu_platform=on, as in any QEMU.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import serial_logs  # noqa: E402  (their place is known only now)
from software_tpm import (DEFAULT_BANKS, HostTpm, SoftwareTpm, create_tpm_state, die_with_parent, end_process,  # noqa: E402
                          listens)
from waiting import PATIENCE, wait_until  # noqa: E402

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
CPU = "EPYC,+svm,+npt,+skinit,+svm-lock"
IOMMUS = {"amd": "amd-iommu,pt=off,intremap=on", "amd-pt": "amd-iommu,pt=on,intremap=on,refuses=off",
          "intel": "intel-iommu,intremap=on,pt=off"}


class MachineError(Exception):
    """What failed, and where to look."""


class Machine:
    """One machine.  Files in `log_dir`: serial.log, qemu.log (what the emulator says), swtpm.log, command."""

    def __init__(self, emulator, disks=(), cpus=1, firmware="bios", memory_mb=512, tpm_state=None, tpm="tis",
                 iommu=None, extra=(), log_dir=None, serial=None, uefi_variables=None, snapshot=False, cpu=CPU,
                 accelerator="tcg", rogues=(), cpu_options="", controller="ahci"):
        if controller not in ("ahci", "ide"):
            raise ValueError("controller is ahci or ide")
        if firmware not in ("bios", "uefi") or iommu not in (None, *IOMMUS) or tpm not in (None, "tis", "crb"):
            raise ValueError(f"firmware is bios or uefi; iommu {', '.join(IOMMUS)} or None; tpm tis, crb or None")
        self.log_dir = os.path.abspath(log_dir) if log_dir else tempfile.mkdtemp(prefix="machine-")
        os.makedirs(self.log_dir, exist_ok=True)
        self.serial_path = os.path.abspath(serial) if serial else os.path.join(self.log_dir, "serial.log")
        self.log_path = os.path.join(self.log_dir, "qemu.log")
        self.tpm_state = os.path.abspath(tpm_state) if tpm_state and tpm else None
        self.tpm = tpm
        self.process = self.swtpm = self._monitor = self._monitor_file = None
        self.sockets = None
        self._arguments = [
            emulator, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", "q35,smm=off" + (",kernel-irqchip=split" if accelerator != "tcg" else ""),
            "-accel", accelerator, "-cpu", ",".join(filter(None, (cpu, cpu_options))), "-smp", str(cpus),
            "-m", str(memory_mb),
            "-serial", f"file:{self.serial_path}", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
            "-device", "amd-df,addr=18.0", "-d", "guest_errors", "-D", os.path.join(self.log_dir, "guest-errors.log"),
        ]
        if iommu:
            self._arguments += ["-device", IOMMUS[iommu]]
        if firmware == "uefi":
            variables = uefi_variables or os.path.join(self.log_dir, "uefi-variables.fd")
            if not os.path.exists(variables):
                shutil.copyfile(OVMF_VARIABLES, variables)
            self._arguments += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}",
                                "-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
        if controller == "ide":
            self._arguments += ["-device", "piix3-ide,id=piix"]
        bus = "ide" if controller == "ahci" else "piix"
        for number, disk in enumerate(disks):
            self._arguments += [
                "-drive", f"if=none,id=disk{number},format=raw,cache=writeback,discard=unmap,file={disk}"
                          + (",snapshot=on" if snapshot else ""),
                "-device", f"ide-hd,drive=disk{number},bus={bus}.{number},serial=GATEHOUSE{number:04d}"]
        self._arguments += list(extra)      # before the rogues, which may be behind a bridge of these
        for options in rogues:
            self._arguments += ["-device", ",".join(filter(None, ("gatehouse-rogue", options)))]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        self.sockets = tempfile.mkdtemp(prefix="qemu-")
        monitor = os.path.join(self.sockets, "qmp")
        command = self._arguments + ["-qmp", f"unix:{monitor},server=on,wait=off"]
        try:
            if self.tpm_state:
                self.swtpm = SoftwareTpm(self.tpm_state, os.path.join(self.log_dir, "swtpm.log"), for_host=False)
                command += ["-chardev", f"socket,id=tpm,path={self.swtpm.control}",
                            "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", f"tpm-{self.tpm},tpmdev=tpm"]
            with open(os.path.join(self.log_dir, "command"), "w", encoding="utf-8") as file:
                file.write(" ".join(command) + "\n")
            open(self.serial_path, "wb").close()
            serial_logs.started(self.serial_path)
            with open(self.log_path, "wb") as log:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                preexec_fn=die_with_parent)
            wait_until("the emulator's monitor", lambda: self.process.poll() is not None or listens(monitor),
                       error=MachineError)
            if self.process.poll() is None:
                self._monitor = socket.socket(socket.AF_UNIX)
                try:
                    self._monitor.connect(monitor)
                    self._monitor_file = self._monitor.makefile("rw", encoding="utf-8")
                    self._monitor_file.readline()
                    self.qmp("qmp_capabilities")
                except (OSError, MachineError):
                    if self.process.poll() is None and not self._ended_soon():
                        raise
            if self.process.poll() not in (None, 0) and not os.path.getsize(self.serial_path):
                raise MachineError(f"the emulator ended with status {self.process.returncode}: {self._log_tail()}")
        except BaseException:
            self.kill()
            raise

    def _ended_soon(self):
        try:
            self.process.wait(20)
            return True
        except subprocess.TimeoutExpired:
            return False

    def _log_tail(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file.read().splitlines() if "TCG doesn't support requested feature" not in line]
        return " / ".join(lines[-3:]) + f" (whole log: {self.log_path})"

    def serial_text(self):
        with open(self.serial_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_for_line(self, pattern, timeout):
        """The first match of the regular expression in the serial output; fails when the machine ends without it."""
        expression = re.compile(pattern, re.MULTILINE)

        def found():
            ended = self.process.poll() is not None
            match = expression.search(self.serial_text())
            if match is None and ended:
                raise MachineError(f"the machine ended (status {self.process.returncode}) without {pattern!r} on its"
                                   f" serial line: {self.serial_path}")
            return match

        return wait_until(f"{pattern!r} on the serial line ({self.serial_path})", found, timeout, MachineError)

    def wait_for_exit(self, timeout):
        """The emulator's exit status; MachineError when it still runs after `timeout` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise MachineError(f"the machine still runs after {timeout} s; serial output: {self.serial_path}") from None

    def qmp(self, command, **arguments):
        """Runs one command of QEMU's machine protocol and returns its result."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._monitor_file.write(json.dumps(request) + "\n")
        self._monitor_file.flush()
        while True:
            line = self._monitor_file.readline()
            if not line:
                raise MachineError(f"the emulator's monitor closed during {command}")
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise MachineError(f"{command}: {answer['error']['desc']}")

    def monitor(self, line):
        """Runs one line of the human monitor and returns its output."""
        return self.qmp("human-monitor-command", **{"command-line": line})

    def kill(self):
        if self._monitor_file is not None:
            self._monitor_file.close()
            self._monitor.close()
            self._monitor_file = self._monitor = None
        end_process(self.process)
        if self.swtpm is not None:
            self.swtpm.stop()
            self.swtpm = None
        if self.sockets:
            shutil.rmtree(self.sockets, ignore_errors=True)
            self.sockets = None


def main(arguments):
    parser = argparse.ArgumentParser(description="Run the emulated machine, or work on its TPM.")
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run a machine until it ends; exit status 0 if it ended in time")
    run.add_argument("--emulator", required=True, metavar="QEMU")
    run.add_argument("--disk", action="append", default=[], metavar="IMAGE")
    run.add_argument("--cpus", type=int, default=1)
    run.add_argument("--memory", type=int, default=512, metavar="MB")
    run.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    run.add_argument("--tpm", choices=("tis", "crb"), default="tis")
    run.add_argument("--tpm-state", metavar="DIR", help="made by new-tpm; without it the machine has no TPM")
    run.add_argument("--iommu", choices=tuple(IOMMUS))
    run.add_argument("--rogue", action="append", default=[], metavar="OPTIONS", help="add a gatehouse-rogue")
    run.add_argument("--cpu-options", default="", metavar="OPTIONS", help="added to the CPU's")
    run.add_argument("--snapshot", action="store_true", help="leave the disk images unchanged")
    run.add_argument("--logs", metavar="DIR")
    run.add_argument("--until", metavar="REGEX", help="end it when the serial output has this")
    run.add_argument("--timeout", type=float, default=PATIENCE, metavar="SECONDS")
    run.add_argument("extra", nargs="*", help="further arguments of QEMU, after --")
    new = actions.add_parser("new-tpm", help="make a new software TPM")
    new.add_argument("state", metavar="DIR")
    new.add_argument("--banks", default=",".join(DEFAULT_BANKS))
    use = actions.add_parser("with-tpm", help="run a command with a TPM made available to it (TPM2TOOLS_TCTI)")
    use.add_argument("state", metavar="DIR")
    use.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        if options.action == "new-tpm":
            create_tpm_state(options.state, options.banks.split(","))
            return 0
        if options.action == "with-tpm":
            command = options.command[1:] if options.command[:1] == ["--"] else options.command
            if not command:
                parser.error("with-tpm: no command")
            with HostTpm(options.state) as tpm:
                return subprocess.run(command, env=tpm.environment, check=False).returncode
        with Machine(options.emulator, options.disk, options.cpus, options.firmware, options.memory, options.tpm_state,
                     options.tpm, options.iommu, options.extra, options.logs, snapshot=options.snapshot,
                     rogues=options.rogue, cpu_options=options.cpu_options) as machine:
            print(f"serial output: {machine.serial_path}", file=sys.stderr)
            if options.until:
                machine.wait_for_line(options.until, options.timeout)
            else:
                status = machine.wait_for_exit(options.timeout)
                print(f"the machine ended with status {status}", file=sys.stderr)
        return 0
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
