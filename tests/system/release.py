#!/usr/bin/env python3
"""A release, as those see it who make it, check it and put it onto a disk.

1. image/release makes it; made once more, the image is the same to the bit.
2. Every file of it is read by another program than made it.
3. The image is provisioned for an endpoint; with the release's own approval, and nothing signed besides, the disk opens.
4. The next release, with another command line, says what of measured code changed, and that alone.
5. What is refused leaves nothing.

With --guest-anew, which takes minutes, the guest's root file system is made twice as well, each time in a cache of its own.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import appliance as lab
import checks

GUEST = os.path.join(lab.ROOT, "tests", "guests", "appliance")


def read_json(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return json.load(file)


def read(*parts, mode="r"):
    with open(os.path.join(*parts), mode, encoding=None if "b" in mode else "utf-8") as file:
        return file.read()


class Maker:
    def __init__(self, options, box):
        self.options, self.box = options, box

    def command(self, name, number, *further, key="authority.pem"):
        goal = os.path.join(self.options.work, name)
        return goal, [os.path.join(lab.ROOT, "image", "release"), "--build", self.options.build, "--policy",
                      self.box.path("policy.bundle"), "--key", self.box.path(key), "--release", str(number), "--counter-limit",
                      "1", "--expires", "2100-01-01", "--include", GUEST, "--output", goal, *further]

    def make(self, *arguments):
        goal, command = self.command(*arguments)
        lab.run(command)
        return goal

    def refused(self, *arguments, **keywords):
        """What is said; nothing may be left."""
        goal, command = self.command(*arguments, **keywords)
        there = os.path.exists(goal)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 3 or os.path.exists(goal) != there or os.path.exists(goal + ".partial"):
            return f"status {done.returncode}, {os.listdir(self.options.work)}"
        return done.stderr.strip()


def guest_knows(image):
    """Versions that the guest's own files tell, as the bill of materials has them: of its kernel and its C library."""
    place = f"{image}?offset={lab.partitions(image)['guest-root'].start * lab.SECTOR}"
    kernels = re.findall(r"/(\d[^/]*-amd64)/", lab.run(["debugfs", "-R", "ls -p /usr/lib/modules", place]).decode())
    library = lab.run(["debugfs", "-R", "cat /usr/lib/x86_64-linux-gnu/libc.so.6", place])
    return {f"linux-image-{kernel}" for kernel in kernels}, re.search(rb"\(Debian GLIBC ([^)]+)\)", library)[1].decode()


def check_files(options, box, release, check):
    lab.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=release)
    summed = {line.split()[1] for line in read(release, "SHA256SUMS").splitlines()}
    check("every file has its sum", summed == set(os.listdir(release)) - {"SHA256SUMS"}, sorted(summed))

    bill = read_json(release, "sbom.cdx.json")
    listed = {one["name"]: one["version"] for one in bill["components"]
              if {"name": "gatehouse:part", "value": "guest"} in one.get("properties", [])}
    kernels, library = guest_knows(os.path.join(release, "appliance.raw"))
    check("the bill of materials has the guest's kernel, and the C library that the guest says it has",
          len(kernels) == 1 and kernels <= set(listed) and listed["libc6"] == library and len(listed) > 100,
          f"{len(listed)} packages, {kernels}, libc6 {library}")
    hashes = {one["name"]: one["hashes"][0]["content"] for one in bill["components"] if one["type"] == "firmware"}
    partition = lab.BootPartition(os.path.join(release, "appliance.raw"))
    on_disk = {name: hashlib.sha256(partition.read(f"/gatehouse/{name}")).hexdigest() for name in hashes}
    check("and the measured files that are on the image", hashes == on_disk and len(hashes) == 3, sorted(hashes))

    payload = read(release, "attestation-policy.jws").split(".")[1]
    signed = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    check("what is signed is the attestation policy", signed == read_json(release, "attestation-policy.json"))
    by_corim = os.path.join(options.work, "by-corim.json")
    box.tool("policyctl", "attestation-policy", "--name", "appliance", "--version", str(signed["version"]),
             "--corim", os.path.join(release, "reference.corim"), "--corim-key", box.path("authority.pub"), "-o", by_corim)
    check("the CoRIM makes the same policy", read_json(by_corim) == signed)
    shown = box.tool("policyctl", "show", os.path.join(release, "approval"), "--json").decode()
    pcrs = read_json(release, "predicted.json")["pcrs"]["sha256"]
    check("the approval is of the predicted PCR 17 and 18", pcrs["17"] in shown and pcrs["18"] in shown, shown)


def boot(options, box, release, check):
    """As an operator, from the release alone."""
    shutil.copy(os.path.join(release, "appliance.raw"), box.image)
    box.make_tpm()
    box.provision()
    box.record()
    box.tool("policyctl", "install", box.path("endpoint.record"), "--image", box.image)  # which is there: the same once more
    box.tool("policyctl", "install", os.path.join(release, "approval"), "--image", box.image)
    logs = os.path.join(options.output, "logs", "release")
    with box.machine(options.emulator, logs) as machine:
        machine.wait_for_line(r"gatehouse: guest starts", lab.BOOT_TIMEOUT)
    check("an endpoint opens its disk by the release's approval", True)


def check_next(options, maker, first, check):
    line = os.path.join(options.work, "cmdline")
    with open(line, "w", encoding="ascii") as file:
        file.write(read(lab.ROOT, "image", "cmdline").strip() + " quiet\n")
    second = maker.make("second", 2, "--previous", first, "--command-line", line)
    notes = read(second, "NOTES.md")
    changed = notes.split("is measured otherwise than in release 1\n")[1].split("##")[0].strip().splitlines()
    check("the notes name what is measured otherwise, and nothing else",
          len(changed) == 1 and changed[0].startswith("- PCR 18 command line: "), changed)
    check("no package changed", "## Packages that changed since release 1\n\nNothing." in notes)
    said = subprocess.run([os.path.join(options.build, "bin", "policyctl"), "install", os.path.join(first, "approval"), "--image",
                           os.path.join(second, "appliance.raw")], capture_output=True, text=True, check=False)
    check("the approval of before is not put on it", said.returncode == 1 and "is of another policy.bundle, kernel, initrd or cmdline" in said.stderr,
          said.stderr)
    check("the disk needs the new approval", "by its own approval alone" in notes)


def check_refusals(maker, check):
    said = maker.refused("first", 3)
    check("a release is not made over another", "exists already" in said, said)
    said = maker.refused("stranger", 3, key="enrollment.pem")
    check("a key that is not the bundle's authority is refused", "names another authority" in said, said)
    said = maker.refused("expired", 3, "--expires", "2020-13-01")
    check("so is a date that is none", "2020-13-01" in said, said)


def check_guest(options, check):
    """Made twice from the packages alone; the tools that make it are this machine's, in its cache."""
    tools = lab.run(["bash", os.path.join(lab.ROOT, "ci", "parts", "private_root"), "path"]).decode().strip()
    made = []
    for name in ("cache-1", "cache-2"):
        cache = os.path.join(options.work, name)
        os.makedirs(cache)
        os.symlink(tools, os.path.join(cache, os.path.basename(tools)))
        lab.run([os.path.join(lab.ROOT, "image", "build-appliance"), "--only-guest", "--include", GUEST],
                env=dict(os.environ, GATEHOUSE_CACHE=cache))
        guest = next(entry for entry in os.listdir(cache) if entry.startswith("guest-"))
        made.append(hashlib.sha256(read(cache, guest, "disk.raw", mode="rb")).hexdigest())
    check("the guest's root file system, made twice, is the same", made[0] == made[1], made)


def main():
    options = checks.arguments(__doc__, **{"guest-anew": {"action": "store_true"}})
    box = lab.Appliance(options.build, os.path.join(options.work, "appliance"))
    os.makedirs(box.directory)
    box.make_authorities()
    box.make_bundle()
    check = checks.Check()
    maker = Maker(options, box)
    first = maker.make("first", 1)
    again = maker.make("again", 1)
    for name in ("appliance.raw", "predicted.json", "attestation-policy.json", "sbom.cdx.json", "NOTES.md"):
        check(f"made once more, {name} is the same", read(first, name, mode="rb") == read(again, name, mode="rb"))
    check_files(options, box, first, check)
    boot(options, box, first, check)
    check_next(options, maker, first, check)
    check_refusals(maker, check)
    if options.guest_anew:
        check_guest(options, check)
    return check.status()


if __name__ == "__main__":
    sys.exit(checks.serial_logs.run(main))
