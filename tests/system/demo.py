#!/usr/bin/env python3
"""The demonstration: one dynamic launch from power-on to an attested guest on an encrypted disk, then what an attacker tries.

Called by ci/demo, which has set everything up.  Each row of the table at the end is a claim: what was expected, what was
found, and whether it held; what was found comes from serial lines, from the TPM's own log of commands, from the disk
image, or from the exit status of a verifier.
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "attacks"))

import appliance as lab  # noqa: E402  (attacks' place is known only now)
import harness  # noqa: E402
from machine import serial_logs  # noqa: E402
from quote import qualifying_data  # noqa: E402
import task_disk  # noqa: E402
import verifier  # noqa: E402

# A measured program that does not go on says so, in one line that ends like this.
REFUSED = r"no key is released"
STARTED = r"gatehouse: guest starts"

GUEST_TASK = r"""
set -u
echo "kernel $(uname -r) on $(nproc) processors, $(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) MiB"
findmnt -n -o SOURCE,FSTYPE / > results/root
uname -a > results/uname
mount -o remount,rw /
echo "written by the guest $(cat nonce)" > /var/gatehouse-demo
sync
grep -c . /proc/partitions > /dev/null && cat /proc/partitions > results/partitions
gatehouse-channel status --json > results/status.json || exit 1
gatehouse-channel quote --nonce "$(cat nonce)" -o results/evidence || exit 1
gatehouse-channel log > results/hypervisor.log || exit 1
echo "quote fetched"
""" + verifier.NETWORK + f"""
{verifier.agent_command('enroll --token "$(cat token)"')} > results/enroll.json || exit 1
{verifier.agent_command("attest")} > results/attest.json
mount -o remount,ro /
echo "evidence sent"
"""


class Table:
    def __init__(self):
        self.rows = []

    def add(self, name, expected, found, ok):
        self.rows.append({"name": name, "expected": str(expected), "found": str(found), "ok": bool(ok)})
        say(f"  {'holds' if ok else 'DOES NOT HOLD'}: {name}: {found}")
        if not ok:
            serial_logs.failed()

    def compare(self, name, expected, found):
        self.add(name, expected, found, expected == found)

    def ok(self):
        return all(row["ok"] for row in self.rows)

    def print(self):
        def cut(text, width):
            return text if len(text) <= width else text[:width - 3] + "..."
        print()
        print(f"{'':6}{'claim':<42} {'expected':<38} found")
        for row in self.rows:
            print(f"{'ok' if row['ok'] else 'FAILED':<6}{cut(row['name'], 42):<42} {cut(row['expected'], 38):<38}"
                  f" {cut(row['found'], 60)}")
        held = sum(row["ok"] for row in self.rows)
        print(f"{held} of {len(self.rows)} claims hold")


started = time.monotonic()
terminal = sys.stdout.isatty()


def say(text):
    if terminal:
        sys.stdout.write("\r\033[K")
    print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)


def step(text, action, *arguments):
    """Announces a step, runs it, returns its value."""
    if terminal:
        sys.stdout.write(f"\r\033[K[{time.monotonic() - started:6.1f} s] {text} ...")
        sys.stdout.flush()
    value = action(*arguments)
    say(text)
    return value


def serial_lines(machine):
    """Lines of launcher, SLB and hypervisor."""
    return [line for line in machine.serial_text().replace("\r", "").splitlines()
            if line.startswith(("launcher: ", "slb: ", "gatehouse: "))]


def watch(machine, pattern, timeout):
    """Waits for a line, showing those of the launch as they come."""
    shown = 0
    deadline = time.monotonic() + timeout
    expression = re.compile(pattern)
    while True:
        lines = serial_lines(machine)
        for line in lines[shown:]:
            say("    " + line)
        shown = len(lines)
        text = machine.serial_text()
        if expression.search(text):
            return text
        if machine.process.poll() is not None:
            return machine.serial_text()
        if time.monotonic() > deadline:
            return text
        time.sleep(0.1)


def prepare(options):
    box = lab.Appliance(options.build, options.work)
    lab.remove(options.work)
    os.makedirs(options.work)
    step("policy authority's and enrollment authority's keys (openssl)", box.make_authorities)
    step("policy bundle of the fleet (policyctl bundle)", box.make_bundle)
    step("software TPM", box.make_tpm)
    step("appliance image (image/build-appliance)", box.build_image)
    partition = lab.partitions(box.image)["guest-root"]
    with open(box.image, "rb") as image:
        image.seek(partition.start * lab.SECTOR + 1024)
        superblock = image.read(1024)
    step("vault and encryption in place (sealed-key provision)", box.provision)
    step("the endpoint's record, which pins its vault (policyctl record)", box.record)
    predicted = step("expected PCR values from the image alone (policyctl predict)", box.predict)
    step("approval by the authority (policyctl sign)", box.sign)
    return box, predicted, superblock


def good_boot(options, box, predicted, superblock, table):
    with verifier.AttestationServer(options.build, os.path.join(options.work, "server")) as server:
        say(f"attestation server at 127.0.0.1:{server.port}")
        server.trust_vendor(box)
        server.expect(box)
        boot_with(options, box, predicted, superblock, server, table)


def boot_with(options, box, predicted, superblock, server, table):
    say(f"boot: {options.firmware.upper()}, {options.cpus} processors")
    nonce = secrets.token_hex(32)
    nonce_file = os.path.join(options.work, "nonce")
    with open(nonce_file, "w", encoding="ascii") as file:
        file.write(nonce)
    task = os.path.join(options.work, "task.img")
    token_file = os.path.join(options.work, "token")
    with open(token_file, "w", encoding="ascii") as file:
        file.write(server.enrollment_token())
    files = [("nonce", nonce_file), ("token", token_file), ("ca.pem", server.ca)]
    task_disk.make(task, GUEST_TASK, files)
    logs = os.path.join(options.logs, "boot")
    with box.machine(options.emulator, logs, options.cpus, options.firmware, snapshot=False, task=task,
                     extra=verifier.qemu_arguments(server.port)) as machine:
        text = watch(machine, STARTED + "|" + REFUSED, lab.BOOT_TIMEOUT)
        say("    the guest boots")
        try:
            machine.wait_for_exit(lab.GUEST_TIMEOUT)
        except Exception as error:  # pylint: disable=broad-except
            say(f"    {error}")
        text = machine.serial_text()

    def line(pattern):
        match = re.search(pattern, text)
        return match.group(0).strip() if match else "no such line"

    table.add("dynamic launch", "SKINIT, SLB, hypervisor measured", line(r"slb: hypervisor measured[^\r\n]*"),
              "launcher: SKINIT" in text and "slb: hypervisor measured" in text)
    for pcr in (17, 18):
        table.compare(f"PCR {pcr} (SHA-256) as predicted", predicted["pcrs"]["sha256"][str(pcr)],
                      line(rf"(?<=gatehouse: PCR {pcr} )[0-9a-f]+"))
    codes = lab.unseal_results(os.path.join(logs, "swtpm.log"))
    table.add("the TPM releases the key", "TPM2_Unseal succeeds", f"TPM2_Unseal response codes {codes}",
              0 in codes and "vault opened" in text)
    table.add("PCRs 17, 18 and 19 capped afterwards", "before the guest starts",
              line(r"gatehouse: PCR 17, 18 and 19 capped"),
              re.search(r"17, 18 and 19 capped[\s\S]*guest starts", text))
    results = os.path.join(options.work, "guest")
    lab.remove(results)
    os.makedirs(results)
    status = task_disk.results(task, results)
    results = os.path.join(results, "results")
    root = read_text(os.path.join(results, "root")).strip()
    table.add("Debian boots from the encrypted root", "task status 0, ext4 root",
              f"status {status}, {read_text(os.path.join(results, 'uname')).split()[2:3]}, {root}",
              status == 0 and "ext4" in root)
    table.add("the vault is invisible to the guest", "no vault partition", "partitions " + " ".join(re.findall(
        r"sd\w+", read_text(os.path.join(results, "partitions")))),
        "sda4" in read_text(os.path.join(results, "partitions")) and
        not re.search(r"\bsda3\b", read_text(os.path.join(results, "partitions"))))
    disk_rows(options, box, superblock, nonce, table)
    quote_rows(options, box, nonce_file, os.path.join(results, "evidence"), predicted, table)
    endpoint = server.endpoint() or {"state": "not enrolled", "vendor": "", "source": ""}
    table.add("endpoint enrolled through the quote channel", "trusted, by its TPM's certificate",
              f"{endpoint['state']}, vendor {endpoint['vendor']}, source {endpoint['source']}",
              (endpoint["state"], endpoint["vendor"], endpoint["source"]) == ("trusted", "swtpm", "hypervisor"))


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def disk_rows(options, box, superblock, nonce, table):
    partition = lab.partitions(box.image)["guest-root"]
    with open(box.image, "rb") as image:
        image.seek(partition.start * lab.SECTOR)
        sample = image.read(16 << 20)
    is_plain = superblock[56:58] == b"\x53\xef" and sample[1080:1082] == b"\x53\xef"
    table.add("the disk holds ciphertext", "no ext4 magic, random bytes",
              f"magic {sample[1080:1082].hex()}, random: {lab.looks_random(sample)}",
              not is_plain and lab.looks_random(sample))
    plain = os.path.join(options.work, "decrypted-root.img")
    box.decrypt_partition("guest-root", plain)
    check = subprocess.run(["e2fsck", "-f", "-n", plain], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, check=False)
    written = subprocess.run(["debugfs", "-R", "cat /var/gatehouse-demo", plain], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout.strip()
    os.unlink(plain)
    table.add("dm-crypt's parameters decrypt it", "clean file system, the guest's file",
              f"e2fsck status {check.returncode}, file: {written[:40]}",
              check.returncode == 0 and nonce in written)


def verify(options, box, evidence, nonce):
    """(exit status, last line) of attest verify, with the endpoint's own record."""
    done = subprocess.run([os.path.join(options.build, "bin", "attest"), "verify", evidence, "--nonce", nonce, "--ak",
                           box.path("ak.pem"), "--image", box.image, "--record", box.path("endpoint.record"), "--enrollment",
                           box.path("enrollment.pub")],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, (done.stdout.strip().splitlines() or ["no output"])[-1]


def quote_rows(options, box, nonce_file, evidence, predicted, table):
    nonce = read_text(nonce_file)
    status, last = verify(options, box, evidence, nonce)
    table.add("quote verified outside, of this vault (attest verify)", "exit status 0", f"status {status}: {last}", status == 0)
    status, _ = verify(options, box, evidence, secrets.token_hex(32))
    table.add("the same quote for another nonce", "refused, exit status 1", f"status {status}", status == 1)
    try:
        with open(os.path.join(evidence, "claims.bin"), "rb") as file:
            qualified = qualifying_data(bytes.fromhex(nonce), file.read())
    except OSError:
        qualified = ""
    check = subprocess.run(["tpm2_checkquote", "-u", box.path("ak.pem"), "-m", os.path.join(evidence, "quote.msg"), "-s",
                            os.path.join(evidence, "quote.sig"), "-g", "sha256", "-q", qualified],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           check=False)
    table.add("tpm2_checkquote accepts the quote", "exit status 0", f"status {check.returncode}", check.returncode == 0)
    log = subprocess.run(["tpm2_eventlog", os.path.join(evidence, "eventlog.bin")], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    section = re.search(r"sha256:((?:\n\s+\d+\s*:.*)+)", log.stdout)
    replayed = dict(re.findall(r"(\d+)\s*:\s*0x([0-9a-fA-F]+)", section[1])) if section else {}
    expected = predicted["pcrs_capped"]["sha256"]
    table.add("tpm2_eventlog replays to the PCRs", "PCR 17 and 18 as predicted, 19",
              f"status {log.returncode}, " + ", ".join(f"PCR {pcr} {replayed.get(pcr, 'missing')[:12]}..."
                                                       for pcr in ("17", "18", "19")),
              log.returncode == 0 and "19" in replayed and all(replayed.get(pcr, "").lower() == expected[pcr]
                                                                for pcr in ("17", "18")))


# Files of tests/attacks: claim, attack.
ATTACKS = (
    ("one bit in the hypervisor", "bit_in_hypervisor"),
    ("one bit in the SLB", "bit_in_slb"),
    ("one bit in the guest kernel", "bit_in_kernel"),
    ("one bit in the initrd", "bit_in_initrd"),
    ("one bit in the command line", "bit_in_command_line"),
    ("one bit in the policy bundle", "bit_in_policy"),
    ("hypervisor started without SKINIT", "no_skinit"),
    ("vault in another machine", "other_tpm"),
    ("record deleted", "record_missing"),
    ("a thief's disk beside the own", "second_disk"),
    ("a processor table that lies", "aps_hidden"),
    ("an ACPI table with code of the launcher's", "acpi_ssdt"),
    ("a device armed before the launch", "dma_armed_stubborn"),
    ("an IOMMU that refuses nothing", "iommu_lies"),
    ("root file system ruined", "root_ruined"),
)


def attacks(options, box, table):
    """One boot of a changed copy of the appliance each."""
    options.keep = False
    shared = harness.Lab(options, box)
    known = harness.all_attacks()
    for claim, name in ATTACKS:
        row = step(f"attack: {claim}", harness.perform, shared, {name: known[name].ATTACK})[0]
        table.add(claim, known[name].ATTACK.refusal or known[name].__doc__.strip().splitlines()[0], row["found"], row["refused"])
    for other in shared.others.values():
        lab.remove(other.directory)


def main():
    parser = argparse.ArgumentParser(prog="ci/demo", description="From power-on to an attested guest on an encrypted disk,"
                                     " on the emulated machine; then what an attacker tries. Exit status 0 if all held.")
    parser.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    parser.add_argument("--cpus", type=int, choices=range(1, 9), default=1, metavar="N", help="processors, 1 to 8 (1)")
    parser.add_argument("--json", metavar="FILE", help="write the table there")
    parser.add_argument("--no-attacks", action="store_true", help="only the good boot")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--emulator", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--output", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work = os.path.join(options.output, "work")
    options.logs = os.path.join(options.output, "logs")
    lab.remove(options.logs)
    table = Table()
    failure = None
    try:
        box, predicted, superblock = prepare(options)
        good_boot(options, box, predicted, superblock, table)
        if not options.no_attacks:
            attacks(options, box, table)
    except Exception as error:  # pylint: disable=broad-except
        failure = error
        table.add("demonstration", "runs to its end", f"{type(error).__name__}: {error}", False)
    table.print()
    print(f"serial and TPM logs: {options.logs}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"rows": table.rows}, file, indent=2)
            file.write("\n")
    if failure is not None:
        print(f"ci/demo: {failure}", file=sys.stderr)
        return 3
    return 0 if table.ok() else 1


if __name__ == "__main__":
    sys.exit(serial_logs.run(main))
