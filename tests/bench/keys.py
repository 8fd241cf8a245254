#!/usr/bin/env python3
"""Measures what changes of keys cost with sealed-key, beside cryptsetup, on disk images in memory that nobody else uses.

usage: keys.py --build DIR [--json FILE] [--megabytes N]

An image is provisioned with a software TPM and each of its keys is rotated, three times: the median counts.  cryptsetup
encrypts a file of as many bytes in place, and gives one another volume key: aes-xts-plain64 of 512 bits in sectors of 512,
as Gatehouse's.  All of it is offline, and safe against a cut at any moment.

Exit status: 0, 2 usage, 3 failure.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from software_tpm import HostTpm, create_tpm_state  # noqa: E402

TIMES = 3
REFERENCE = "bench"
VAULT_TYPE = "618D37B5-40B8-4F5A-8355-A2A84F2A31E0"
CHEAP = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")  # no passphrase of a person to protect
CIPHER = ("--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "512")


def run(*command, **options):
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} {command[1] if len(command) > 1 else ''}: {done.stderr.strip()}")
    return done.stdout


def timed(*command, **options):
    start = time.monotonic()
    run(*command, **options)
    return time.monotonic() - start


def fill(path, megabytes):
    """Not zeros, which a file system may keep as holes."""
    block = bytes(range(1, 256)) * 4112 + bytes(16)
    with open(path, "wb") as file:
        for _ in range(megabytes):
            file.write(block[:1 << 20])


class Endpoint:
    """An image of a boot partition, a vault and N megabytes of data, with the keys that it wants."""

    def __init__(self, build, work, tpm, megabytes):
        self.tool = build / "bin/sealed-key"
        self.environment = tpm.environment
        self.work, self.megabytes = work, megabytes
        self.image, self.recovery = work / "disk.img", work / "recovery.key"
        for name in ("authority", "next"):
            run("openssl", "genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
                work / f"{name}.pem")
            run("openssl", "pkey", "-in", work / f"{name}.pem", "-pubout", "-out", work / f"{name}.pub")

    def make(self):
        fill(self.image, self.megabytes + 8)
        for end in (0, self.megabytes + 7):
            with open(self.image, "r+b") as file:
                file.seek(end << 20)
                file.write(bytes(1 << 20))
        run("sgdisk", "-n", "1:1M:+2M", "-t", "1:ef00", "-c", "1:gatehouse-boot", "-n", "2:3M:+2M", "-t", f"2:{VAULT_TYPE}",
            "-n", f"3:5M:+{self.megabytes}M", "-t", "3:8300", self.image)
        run("mformat", "-i", f"{self.image}@@1M", "-T", "4096", "-h", "1", "-s", "1", "::")
        run("mmd", "-i", f"{self.image}@@1M", "::/gatehouse")

    def sealing(self, authority="authority"):
        return ("--tcti", self.environment["TPM2TOOLS_TCTI"], "--authority", self.work / f"{authority}.pub", "--policy-ref",
                REFERENCE)

    def time(self, *verb):
        return timed(self.tool, *verb, env=self.environment)

    def provision(self):
        self.make()
        self.recovery.unlink(missing_ok=True)
        return self.time("provision", self.image, *self.sealing(), "--recovery-key-out", self.recovery)

    def rotations(self):
        """Seconds of each verb, in this order."""
        opened = (self.image, "--recovery-key", self.recovery)
        found = {"verify-recovery": self.time("verify-recovery", *opened),
                 "sealed": self.time("rotate", "sealed", *opened, *self.sealing()),
                 "kek": self.time("rotate", "kek", *opened, *self.sealing()),
                 "authority": self.time("rotate", "authority", *opened, *self.sealing("next")),
                 "attestation-key": self.time("rotate", "attestation-key", *opened, "--tcti",
                                              self.environment["TPM2TOOLS_TCTI"]),
                 "recover": self.time("recover", *opened, *self.sealing())}
        following = self.work / "next.key"
        following.unlink(missing_ok=True)
        found["recovery"] = self.time("rotate", "recovery", *opened, "--recovery-key-out", following)
        found["dek"] = self.time("rotate", "dek", self.image, "--recovery-key", following)
        return found


def luks(work, megabytes):
    """Seconds to encrypt a file in place, and to change its volume key."""
    file, key = work / "luks.img", work / "luks.key"
    key.write_text("a passphrase of the bench")
    fill(file, megabytes + 32)  # 32 MiB of them for the header
    common = ("-q", "--force-offline-reencrypt", "--key-file", key, *CHEAP)
    encrypt = timed("cryptsetup", "reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "32M", *CIPHER, *common,
                    file)
    change = timed("cryptsetup", "reencrypt", *common, file)
    file.unlink()
    return encrypt, change


def measure(build, megabytes):
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-", dir="/dev/shm") as made:
        work = pathlib.Path(made)
        create_tpm_state(str(work / "tpm"), endorsement_key=False)
        provisions, verbs, encrypts, changes = [], [], [], []
        with HostTpm(str(work / "tpm")) as tpm:
            endpoint = Endpoint(build, work, tpm, megabytes)
            for _ in range(TIMES):
                provisions.append(endpoint.provision())
                verbs.append(endpoint.rotations())
                endpoint.image.unlink()
                encrypt, change = luks(work, megabytes)
                encrypts.append(encrypt)
                changes.append(change)
    rotate = {name: statistics.median(one[name] for one in verbs) for name in verbs[0]}
    rate = lambda seconds: round(megabytes / seconds, 1)  # noqa: E731
    return {"megabytes": megabytes, "inplace_mb_per_s": rate(statistics.median(provisions)), "inplace_guest_share": None,
            "rotate_dek_mb_per_s": rate(rotate["dek"]), "luks_encrypt_mb_per_s": rate(statistics.median(encrypts)),
            "luks_reencrypt_mb_per_s": rate(statistics.median(changes)),
            "rotate_s": {name: round(seconds, 3) for name, seconds in rotate.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--megabytes", type=int, default=512, help="to be encrypted")
    arguments = parser.parse_args()
    if arguments.megabytes < 1:
        parser.error("--megabytes: at least 1")
    try:
        figures = measure(arguments.build, arguments.megabytes)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"keys.py: {error}", file=sys.stderr)
        return 3
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{'':<24}{'sealed-key':>12}{'cryptsetup':>12}   MB/s, {figures['megabytes']} MB, offline")
    print(f"{'encrypt in place':<24}{figures['inplace_mb_per_s']:>12}{figures['luks_encrypt_mb_per_s']:>12}")
    print(f"{'change the disk key':<24}{figures['rotate_dek_mb_per_s']:>12}{figures['luks_reencrypt_mb_per_s']:>12}")
    for name, seconds in figures["rotate_s"].items():
        print(f"{name:<24}{seconds:>10} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
