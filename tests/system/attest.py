#!/usr/bin/env python3
"""From the guest to the operator's screen: an endpoint enrolls and attests through the quote channel.

1. The guest's agent enrolls with a one-time token: the TPM's certificate, its keys and the proof that they are in one TPM
   come through the hypervisor.  Its evidence is that of the image's prediction: trusted.
2. The machine is off.  When the lease ends, the endpoint is stale.
3. The authority approves another kernel, so that the disk opens, but no attestation policy knows it: untrusted, and the
   server names the event.
"""

import argparse
import json
import os
import sys

import appliance as lab
import task_disk
import verifier

ENROLL = "agent enroll --token \"$(cat token)\" > results/enroll.json || exit 1\n"
TASK = r"""
set -u
agent() { %(agent)s; }
%(network)s
mount -o remount,rw / || exit 1
%(enroll)s
agent attest > results/attest.json
[ $? != 3 ] || exit 1  # 0 and 1 are verdicts
gatehouse-channel status --json > results/status.json || exit 1
mount -o remount,ro /
echo "evidence sent"
"""
BOOT_TIMEOUT = 240
GUEST_TIMEOUT = 420


class Check:
    def __init__(self):
        self.failed = 0

    def __call__(self, what, ok, found=""):
        print(f"{'ok    ' if ok else 'FAILED'} {what}{': ' + str(found) if found != '' else ''}", flush=True)
        self.failed += not ok


def boot(options, box, server, name, enroll):
    """One boot of the appliance; the guest's results as a directory."""
    work = os.path.join(options.output, "work", name)
    logs = os.path.join(options.output, "logs", name)
    os.makedirs(work)
    files = [("ca.pem", server.ca)]
    if enroll:
        token = os.path.join(work, "token")
        with open(token, "w", encoding="ascii") as file:
            file.write(server.enrollment_token())
        files.append(("token", token))
    task = os.path.join(work, "task.img")
    task_disk.make(task, TASK % {"agent": verifier.agent_command('"$@"'), "network": verifier.NETWORK,
                                 "enroll": ENROLL if enroll else ""}, files)
    extra = verifier.qemu_arguments(server.port)
    print(f"boot {name}: serial log {logs}/serial.log", flush=True)
    with box.machine(options.emulator, logs, options.cpus, snapshot=False, task=task, extra=extra) as machine:
        machine.wait_for_line(r"gatehouse: guest starts", BOOT_TIMEOUT)
        machine.wait_for_exit(GUEST_TIMEOUT)
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
    results = boot(options, box, server, "enrolled", enroll=True)
    enrolled = load(results, "enroll.json")
    check("the guest enrolls through the quote channel", enrolled["state"] == "approved", enrolled)
    endpoint = server.endpoint()
    check("by the certificate of its TPM's vendor", endpoint["vendor"] == "swtpm", endpoint["vendor"])
    check("as evidence of a measured hypervisor", endpoint["source"] == "hypervisor", endpoint["source"])
    attested = load(results, "attest.json")
    check("the verdict that the guest is told", attested["verdict"] == "trusted", attested["failures"])
    last = server.last()
    check("the server's verdict", last["state"] == "trusted", last["reason"])
    check("no rule fails", not failing(last["verdict"]), failing(last["verdict"]))
    claimed = load(results, "status.json")["disks"][0]
    check("the vault's identity is claimed", claimed["generation"] >= 1 and claimed["sealed_name"].startswith("000b"),
          f"generation {claimed['generation']}, name {claimed['sealed_name'][:20]}...")


def other_kernel(options, box, server, check):
    partition = lab.BootPartition(box.image)
    partition.write("/gatehouse/kernel", partition.read("/gatehouse/kernel") + b"\0", options.output)
    box.sign()  # by the authority: the disk opens
    results = boot(options, box, server, "other-kernel", enroll=False)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--cpus", type=int, default=1)
    options = parser.parse_args()
    work = os.path.join(options.output, "work")
    lab.remove(work)
    os.makedirs(work)
    box = lab.Appliance(options.build, os.path.join(work, "appliance"))
    os.makedirs(box.directory)
    box.make_ready()
    check = Check()
    with verifier.AttestationServer(options.build, os.path.join(work, "server")) as server:
        server.trust_vendor(box)
        server.expect(box)
        first_boot(options, box, server, check)
        stale = server.wait_for_state("stale", 2 * verifier.LEASE_S + 60)
        check("off and out of its lease, the endpoint is stale", stale["state"] == "stale", stale["reason"])
        other_kernel(options, box, server, check)
    print("all held" if check.failed == 0 else f"{check.failed} did not hold")
    return 0 if check.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
