#!/usr/bin/env python3
"""acpi = machine: the guest gets the machine's own ACPI tables, and the disk opens only on an approved machine model.

1. Without an approval of the machine no key is released; the console says what PCR 19 is.
2. The authority approves that value.  The guest runs with the machine's tables; a model is learned from its evidence, whose
   PCR 19 is the approved one; verifiers with the model accept the quote, those without it do not.
3. The same disk and TPM in a machine with one more table: no key.
4. Approved as well, that machine runs, and a verifier that knows the first model alone names the table.
"""

import json
import os
import re
import secrets
import subprocess
import sys

import appliance as lab
import checks
import task_disk

TASK = """
set -u
for table in /sys/firmware/acpi/tables/[A-Z]*; do
    [ ! -f "$table" ] || echo "${table##*/} $(od -An -c -j10 -N6 "$table" | tr -d ' ')" >> results/tables
done
gatehouse-channel quote --nonce "$(cat nonce)" -o results/evidence || exit 1
echo "quote fetched"
"""
PCR_19 = r"gatehouse: PCR 19 ([0-9a-f]{64})"
REFUSED = r"[^\n]*no key is released"


class Lab:
    def __init__(self, options):
        self.options = options
        self.check = checks.Check()
        self.box = lab.Appliance(options.build, self.path("appliance"))
        os.makedirs(self.box.directory)

    def path(self, name):
        return os.path.join(self.options.work, name)

    def machine(self, name, tables, task):
        """With `tables` beside its own. The task disk is a device, of which firmware's tables tell: there is always one."""
        extra = []
        for signature in tables:
            with open(self.path(signature), "wb") as file:
                file.write(bytes(64))
            extra += ["-acpitable", f"sig={signature},oem_id=OTHERS,data={self.path(signature)}"]
        logs = os.path.join(self.options.output, "logs", name)
        print(f"boot {name}: serial log {logs}/serial.log", flush=True)
        return self.box.machine(self.options.emulator, logs, self.options.cpus, self.options.firmware, extra=extra,
                                task=task)

    def refused(self, name, tables=()):
        """A boot that must release no key: (its last line, PCR 19)."""
        task = self.path(f"{name}.img")
        task_disk.make(task, "exit 1\n")
        with self.machine(name, tables, task) as machine:
            line = machine.wait_for_line(REFUSED, lab.BOOT_TIMEOUT)[0]
            text = machine.serial_text()
        unsealed = lab.unseal_results(os.path.join(self.options.output, "logs", name, "swtpm.log"))
        self.check("the TPM releases no key", 0 not in unsealed, f"{line.strip()}; TPM2_Unseal: {unsealed}")
        return line, re.search(PCR_19, text)[1]

    def runs(self, name, tables=()):
        """A boot of the guest: (evidence directory, nonce, {table: OEM id}, PCR 19)."""
        nonce = secrets.token_hex(32)
        work = self.path(name)
        os.makedirs(work)
        with open(os.path.join(work, "nonce"), "w", encoding="ascii") as file:
            file.write(nonce)
        task = os.path.join(work, "task.img")
        task_disk.make(task, TASK, [("nonce", os.path.join(work, "nonce"))])
        with self.machine(name, tables, task) as machine:
            line = machine.wait_for_line(rf"gatehouse: guest starts|{REFUSED}", lab.BOOT_TIMEOUT)[0]
            if "guest starts" not in line:
                raise lab.ApplianceError(f"{name}: {line.strip()}")
            machine.wait_for_exit(lab.GUEST_TIMEOUT)
            value = re.search(PCR_19, machine.serial_text())[1]
        status = task_disk.results(task, work)
        self.check("the guest runs and fetches a quote", status == 0, f"status {status}")
        with open(os.path.join(work, "results", "tables"), encoding="ascii") as file:
            seen = dict(line.split(None, 1) for line in file.read().splitlines())
        return os.path.join(work, "results", "evidence"), nonce, seen, value

    def approve(self, value):
        self.box.tool("policyctl", "machine", "approve", "--key", self.box.path("authority.pem"), "--policy-ref",
                      lab.POLICY_REFERENCE, "--pcr19", value, "--image", self.box.image, "--install")

    def learn(self, evidence, output):
        said = self.box.tool("policyctl", "machine", "learn", evidence, "-o", output, "--json")
        return json.loads(said)["pcr19"]["sha256"]

    def verify(self, evidence, nonce, *how):
        """(exit status, {rule: detail} of what fails)."""
        box = self.box
        done = subprocess.run([os.path.join(box.build, "bin", "attest"), "verify", evidence, "--nonce", nonce, "--ak",
                               box.path("ak.pem"), "--record", box.path("endpoint.record"), "--enrollment",
                               box.path("enrollment.pub"), "--json", *how], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 1):
            raise lab.ApplianceError(f"attest verify: {done.stderr.strip()}")
        rules = json.loads(done.stdout)["rules"]
        return done.returncode, {rule["rule"]: rule["detail"] for rule in rules if not rule["ok"]}

    def policy(self, model):
        """A signed attestation policy that knows one machine model."""
        self.box.tool("policyctl", "attestation-policy", "--name", "model", "--version", "1", "--image", self.box.image,
                      "--machine-model", model, "--acpi", "machine", "-o", self.path("policy.json"))
        self.box.tool("policyctl", "sign-attestation-policy", self.path("policy.json"), "--key",
                      self.box.path("authority.pem"), "-o", self.path("policy.jws"))
        return ["--policy", self.path("policy.jws"), "--authority", self.box.path("authority.pub")]

    def make_ready(self):
        self.box.make_authorities()
        self.box.make_bundle("--acpi", "machine")
        self.box.make_tpm()
        self.box.build_image()
        self.box.provision("--acpi", "machine")
        self.box.record()
        self.box.sign()


def known_machine(bench):
    line, value = bench.refused("not-approved")
    bench.check("what is missing is named", "machine approval" in line, line.strip())
    bench.approve(value)
    evidence, nonce, tables, measured = bench.runs("approved")
    bench.check("PCR 19 is what was approved", measured == value, measured)
    bench.check("the guest has the machine's own tables", tables.get("FACP", "").startswith("BOCHS") and
                tables.get("DSDT", "").startswith("BOCHS"), tables)
    bench.check("and not those of the TPM and the IOMMU", not {"TPM2", "TCPA", "IVRS"} & tables.keys(), sorted(tables))
    model = bench.path("model.json")
    learned = bench.learn(evidence, model)
    bench.check("the model that is learned has that PCR 19", learned == value, learned)
    image = ["--image", bench.box.image]
    status, why = bench.verify(evidence, nonce, *image, "--machine-model", model)
    bench.check("a verifier with the model accepts the quote", (status, why) == (0, {}), f"status {status}, {why}")
    status, why = bench.verify(evidence, nonce, *image)
    bench.check("one without it does not, by the rule acpi", status == 1 and list(why) == ["acpi"], f"status {status}, {why}")
    status, why = bench.verify(evidence, nonce, *bench.policy(model))
    bench.check("a policy with the model accepts it", (status, why) == (0, {}), f"status {status}, {why}")
    return value, model


def other_machine(bench, value, model):
    _, other = bench.refused("one-table-more", ["OTHR"])
    bench.check("PCR 19 is another", other != value, other)
    bench.approve(other)
    evidence, nonce, tables, _ = bench.runs("one-table-more-approved", ["OTHR"])
    bench.check("the guest has that table", tables.get("OTHR", "").startswith("OTHERS"), tables)
    status, why = bench.verify(evidence, nonce, "--image", bench.box.image, "--machine-model", model)
    bench.check("a verifier that knows the first model names the table", status == 1 and "OTHR" in why.get("acpi", ""),
                f"status {status}, {why}")
    bench.learn(evidence, bench.path("other.json"))
    shown = subprocess.run([os.path.join(bench.box.build, "bin", "policyctl"), "machine", "show", model,
                            bench.path("other.json")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                           check=False)
    bench.check("policyctl machine show names it, too", shown.returncode == 1 and "OTHR" in shown.stdout,
                shown.stdout.strip())


def main():
    bench = Lab(checks.arguments(__doc__, firmware={"choices": ("bios", "uefi"), "default": "bios"},
                                 cpus={"type": int, "default": 2}))
    bench.make_ready()
    other_machine(bench, *known_machine(bench))
    return bench.check.status()


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
