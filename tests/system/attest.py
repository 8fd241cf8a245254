#!/usr/bin/env python3
"""From the guest to the operator's screen: an endpoint enrolls and attests through the quote channel.

1. The guest's agent enrolls with a one-time token: the TPM's certificate, its keys and the proof that they are in one TPM
   come through the hypervisor.  The recovery key goes into the server's escrow, by the agent; the server gives an administrator
   what opens the vault, and the agent sends nothing of another one.  Then it runs as its systemd unit says, and attests by itself; its evidence is that of the
   image's prediction: trusted.
2. The machine is off.  When the lease ends, the endpoint is stale.
3. The authority approves another kernel, so that the disk opens, but no attestation policy knows it: untrusted, and the
   server names the event.
"""

import base64
import json
import os
import sys

import appliance as lab
import checks
import task_disk
import verifier

# As an operator does it, with the files as they are shipped.  The enrollment has no verdict: one in the agent's state is
# the service's.
ENROLL = f"""
install -D -m 644 agent.toml /etc/gatehouse/agent.toml
install -m 644 ca.pem /etc/gatehouse/ca.pem
sed -i -e 's|^#server = .*|server = "https://{verifier.SERVER_ADDRESS}:{verifier.SERVER_PORT}"|' \\
    -e 's|^#ca_file = |ca_file = |' /etc/gatehouse/agent.toml
attestation-agent enroll --token "$(cat token)" --json > results/enroll.json || exit 1
! attestation-agent escrow other.escrow --name other > results/other 2>&1 || exit 1
attestation-agent escrow own.escrow --name recovery --json > results/escrow.json || exit 1
install -m 644 attestation-agent.service /etc/systemd/system/
systemctl mask --runtime systemd-networkd-wait-online  # the network is up, by hand
systemctl daemon-reload
systemctl start attestation-agent || exit 1
for i in $(seq 6000); do
    ! grep -q '"verdict"' /var/lib/gatehouse-agent/state.json || break
    sleep 0.1
done
cat /proc/$(systemctl show --value --property MainPID attestation-agent)/status > results/process
systemctl stop attestation-agent || exit 1
journalctl --unit attestation-agent --output cat > results/journal
"""
ATTEST = """
attestation-agent attest --json > results/attest.json
[ $? != 3 ] || exit 1  # 0 and 1 are verdicts
"""
TASK = """
set -u
%(network)s
mount -o remount,rw / || exit 1
%(agent)s
gatehouse-channel status --json > results/status.json || exit 1
mount -o remount,ro /
echo "evidence sent"
"""
RAW_IO = f"{1 << 17:016x}"  # CAP_SYS_RAWIO, as /proc shows it


def boot(options, box, server, name, agent, files=()):
    """One boot of the appliance, in which the agent does what the script `agent` says; the guest's results as a directory."""
    work = os.path.join(options.work, name)
    logs = os.path.join(options.output, "logs", name)
    os.makedirs(work, exist_ok=True)
    task = os.path.join(work, "task.img")
    task_disk.make(task, TASK % {"network": verifier.NETWORK, "agent": agent}, files)
    extra = verifier.qemu_arguments(server.port)
    print(f"boot {name}: serial log {logs}/serial.log", flush=True)
    with box.machine(options.emulator, logs, options.cpus, snapshot=False, task=task, extra=extra) as machine:
        machine.wait_for_line(r"gatehouse: guest starts", lab.BOOT_TIMEOUT)
        machine.wait_for_exit(lab.GUEST_TIMEOUT)
    status = task_disk.results(task, work)
    results = os.path.join(work, "results")
    if status != 0:
        with open(os.path.join(results, "output"), encoding="utf-8", errors="replace") as file:
            raise lab.ApplianceError(f"boot {name}: the guest's task ended with status {status}: {file.read()[-2000:]}")
    return results


def load(results, name):
    with open(os.path.join(results, name), encoding="utf-8") as file:
        return json.load(file)


def failing(verdict):
    return {finding["rule"]: finding["detail"] for finding in verdict["findings"] if not finding["ok"]}


def first_boot(options, box, server, check):
    token = os.path.join(options.work, "token")
    with open(token, "w", encoding="ascii") as file:
        file.write(server.enrollment_token())
    with open(box.path("own.escrow"), "rb") as own, open(box.path("other.escrow"), "wb") as other:
        blob = own.read()
        other.write(blob[:16] + bytes(32) + blob[48:])
    shipped = os.path.join(lab.ROOT, "attestation", "agent")
    files = [("ca.pem", server.ca), ("token", token)] + [(name, box.path(name)) for name in ("own.escrow", "other.escrow")] + [
        (name, os.path.join(shipped, name)) for name in ("agent.toml", "attestation-agent.service")]
    results = boot(options, box, server, "enrolled", ENROLL, files)
    enrolled = load(results, "enroll.json")
    check("the guest enrolls through the quote channel", enrolled["state"] == "approved", enrolled)
    endpoint = server.endpoint()
    check("by the certificate of its TPM's vendor", endpoint["vendor"] == "swtpm", endpoint["vendor"])
    check("as evidence of a measured hypervisor", endpoint["source"] == "hypervisor", endpoint["source"])
    check_escrow(options, results, box, server, check)
    check_service(results, check)
    # More than one where the machine is slow: the service attests again before its lease ends.
    attestations = server.attestations()
    check("the server has the service's attestation", len(attestations) >= 1, len(attestations))
    last = server.last()
    check("the server's verdict", last["state"] == "trusted", last["reason"])
    check("no rule fails", not failing(last["verdict"]), failing(last["verdict"]))
    claimed = load(results, "status.json")["disks"][0]
    check("the vault's identity is claimed", claimed["generation"] >= 1 and claimed["sealed_name"].startswith("000b"),
          f"generation {claimed['generation']}, name {claimed['sealed_name'][:20]}...")


def check_escrow(options, results, box, server, check):
    escrowed = load(results, "escrow.json")
    check("the agent says which vault's recovery key is in escrow", escrowed["vault"] == box.identity["vault_id"], escrowed)
    with open(os.path.join(results, "other"), encoding="utf-8") as file:
        said = file.read()
    check("a blob of another vault is not sent", f"this machine's is {box.identity['vault_id']}" in said, said)
    path = f"/v1/endpoints/{server.endpoint()['id']}/escrow"
    names = server.api("GET", path)["names"]
    check("the server keeps the one", names == ["recovery"], names)
    blob = os.path.join(options.work, "kept.escrow")
    with open(blob, "wb") as file:
        file.write(base64.b64decode(server.api("GET", path + "/recovery")["blob"]))
    opened = json.loads(box.tool("sealed-key", "verify-recovery", box.image, "--escrow", blob, "--escrow-private-key",
                                 box.path("escrow.pem"), "--json"))
    check("with the escrow's private key it opens the vault", opened["opens"], opened)


def check_service(results, check):
    """The agent ran as its unit says, unhurt: its sandbox was in force, and it ended when it was told to."""
    with open(os.path.join(results, "process"), encoding="utf-8") as file:
        process = dict(line.split(":", 1) for line in file)
    sandbox = {key: process[key].strip() for key in ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp")}
    check("the service has one capability, no new privileges and a system call filter",
          sandbox == {"CapBnd": RAW_IO, "CapEff": RAW_IO, "NoNewPrivs": "1", "Seccomp": "2"}, sandbox)
    with open(os.path.join(results, "journal"), encoding="utf-8", errors="replace") as file:
        journal = file.read()
    check("the verdict that the service is told", "verdict: trusted\n" in journal, journal)
    check("it is started once, and ends well when it is stopped",
          journal.count("Started attestation-agent") == 1 and "service: Deactivated successfully." in journal)


def other_kernel(options, box, server, check):
    partition = lab.BootPartition(box.image)
    partition.write("/gatehouse/kernel", partition.read("/gatehouse/kernel") + b"\0", options.output)
    box.sign()  # by the authority: the disk opens
    results = boot(options, box, server, "other-kernel", ATTEST)
    attested = load(results, "attest.json")
    check("the other kernel is told so", attested["verdict"] == "untrusted", attested["failures"])
    last = server.last()
    check("the server's verdict", last["state"] == "untrusted", last["reason"])
    why = failing(last["verdict"])
    check("the only rule that fails is that of the events", list(why) == ["events"], why)
    check("it names the event", "kernel" in why.get("events", ""), why.get("events", ""))
    bad = [event for event in last["verdict"]["events"] if not event["ok"]]
    check("the event is marked in the log", len(bad) == 1 and "kernel" in bad[0]["name"],
          [(event["number"], event["pcr"], event["name"]) for event in bad])
    check("the endpoint is untrusted", server.endpoint()["state"] == "untrusted")


def main():
    options = checks.arguments(__doc__, cpus={"type": int, "default": 1})
    box = lab.Appliance(options.build, os.path.join(options.work, "appliance"))
    os.makedirs(box.directory)
    lab.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", box.path("escrow.pem")])
    lab.run(["openssl", "ec", "-in", box.path("escrow.pem"), "-pubout", "-out", box.path("escrow.pub")])
    box.make_ready(provision=["--escrow-key", box.path("escrow.pub"), "--escrow-out", box.path("own.escrow")])
    check = checks.Check()
    with verifier.AttestationServer(options.build, os.path.join(options.work, "server")) as server:
        server.trust_vendor(box)
        server.expect(box, verifier.LEASE_S)
        first_boot(options, box, server, check)
        stale = server.wait_for_state("stale")
        check("off and out of its lease, the endpoint is stale", stale["state"] == "stale", stale["reason"])
        other_kernel(options, box, server, check)
    return check.status()


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
