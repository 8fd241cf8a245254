"""A provisioned appliance: an image, its TPM and its keys, made with the operator's own tools; and what tests do to it.

Everything here is what an operator types, but for damage() and friends, which are what an attacker does with the disk in
another computer.
"""

import ctypes
import ctypes.util
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "platform"))

import machine  # noqa: E402  (its place is known only now)
import task_disk  # noqa: E402

POLICY_REFERENCE = "gatehouse-demo"
COUNTER_LIMIT = 1
SECTOR = 512
MEMORY = 768  # MiB
# Seconds until the guest starts, and from then to the end of its task: on a busy machine. They only bound a failure.
BOOT_TIMEOUT = 450
GUEST_TIMEOUT = 1200


class ApplianceError(Exception):
    """A step failed; the text names it and the reason."""


def run(command, **keywords):
    """Runs a command; its output on success, ApplianceError with what it said otherwise."""
    if "input" not in keywords:
        keywords["stdin"] = subprocess.DEVNULL
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **keywords)
    if result.returncode != 0:
        said = (result.stderr + result.stdout).decode(errors="replace").strip()
        raise ApplianceError(f"{os.path.basename(command[0])} {command[1] if len(command) > 1 else ''} ended with"
                             f" status {result.returncode}: {said[-2000:]}")
    return result.stdout


class Partition:
    def __init__(self, start, size, name, kind, identity):
        self.start, self.size, self.name, self.kind, self.id = start, size, name, kind, identity  # sectors; GUIDs


def partitions(image):
    table = json.loads(run(["sfdisk", "--json", image]))["partitiontable"]
    return {entry.get("name", str(number)): Partition(entry["start"], entry["size"], entry.get("name"), entry["type"],
                                                      entry["uuid"])
            for number, entry in enumerate(table["partitions"])}


class BootPartition:
    """Files of the boot partition, which is plain: anybody with the disk can change them."""

    def __init__(self, image):
        self.drive = f"{image}@@{partitions(image)['gatehouse-boot'].start * SECTOR}"

    def read(self, name):
        return run(["mcopy", "-i", self.drive, f"::{name}", "-"])

    def write(self, name, data, work):
        source = os.path.join(work, "boot-file")
        with open(source, "wb") as file:
            file.write(data)
        run(["mcopy", "-o", "-i", self.drive, source, f"::{name}"])
        os.unlink(source)


class Appliance:
    """An endpoint of a fleet.  `directory` holds appliance.raw, tpm/ (state), tpm-vendor/ (its vendor's CA), ak.pem,
    recovery.key, endpoint.record, predicted.json, and the fleet's: policy.bundle, the policy authority's authority.pem and
    .pub, the enrollment authority's enrollment.pem and .pub."""

    FLEET = ("authority.pem", "authority.pub", "enrollment.pem", "enrollment.pub", "policy.bundle")

    def __init__(self, build, directory):
        self.build, self.directory = build, directory
        self.image = self.path("appliance.raw")
        self.tpm = self.path("tpm")
        self.identity = {}  # what provision() answered: srk_name, vault_id ...

    def path(self, name):
        return os.path.join(self.directory, name)

    def tool(self, name, *arguments, **keywords):
        return run([os.path.join(self.build, "bin", name), *arguments], **keywords)

    # --- the operator's steps ---------------------------------------------------------------------------------

    def make_authorities(self):
        """The keys of those who approve images, and of those who say which vault an endpoint has."""
        for name in ("authority", "enrollment"):
            run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path(name + ".pem")])
            run(["openssl", "ec", "-in", self.path(name + ".pem"), "-pubout", "-out", self.path(name + ".pub")])

    def join(self, fleet):
        """In place of make_authorities() and make_bundle(): another appliance's."""
        for name in self.FLEET:
            shutil.copy(fleet.path(name), self.path(name))

    def make_tpm(self, banks=("sha1", "sha256", "sha384", "sha512")):
        machine.create_tpm_state(self.tpm, banks=banks, vendor=self.path("tpm-vendor"))

    def make_storage_root(self):
        with machine.HostTpm(self.tpm) as tpm:
            return self.tool("sealed-key", "srk-name", "--tcti", tpm.tcti).decode().split()[-1]

    def make_bundle(self, *options):
        self.tool("policyctl", "bundle", "--enrollment", self.path("enrollment.pub"), "--authority",
                  self.path("authority.pub"), "--policy-ref", POLICY_REFERENCE, "-o", self.path("policy.bundle"), *options)

    def build_image(self, guest=os.path.join(ROOT, "tests", "guests", "appliance")):
        # A busy machine's emulator may lose the timer's interrupts that Linux counts to see whether it has a timer.
        with open(os.path.join(ROOT, "image", "cmdline"), encoding="ascii") as shipped, open(
                self.path("cmdline"), "w", encoding="ascii") as line:
            line.write(shipped.read().strip() + " no_timer_check\n")
        run([os.path.join(ROOT, "image", "build-appliance"), "--measured", os.path.join(self.build, "measured"),
             "--policy", self.path("policy.bundle"), "--command-line", self.path("cmdline"), "--include", guest, "--output", self.image] +
            [f"--guest-program={os.path.join(self.build, 'bin', program)}"
             for program in ("gatehouse-channel", "attestation-agent-guest")])

    def provision(self, *options, tpm_state=None):
        with machine.HostTpm(tpm_state or self.tpm) as tpm:
            output = self.tool("sealed-key", "provision", self.image, "--tcti", tpm.tcti, "--authority",
                               self.path("authority.pub"), "--policy-ref", POLICY_REFERENCE, "--recovery-key-out",
                               self.path("recovery.key"), "--ak-out", self.path("ak.pem"), "--json", *options)
        self.identity = json.loads(output)

    def record(self):
        """As the enrollment authority: which vault the endpoint has."""
        self.tool("policyctl", "record", "--key", self.path("enrollment.pem"), "--srk-name", self.identity["srk_name"],
                  "--vault-id", self.identity["vault_id"], "--label", os.path.basename(self.directory), "-o",
                  self.path("endpoint.record"), "--image", self.image, "--install")

    def predict(self):
        output = self.tool("policyctl", "predict", self.image, "--vault-id", self.identity["vault_id"], "--json")
        with open(self.path("predicted.json"), "wb") as file:
            file.write(output)
        return json.loads(output)

    def sign(self):
        self.tool("policyctl", "sign", "--key", self.path("authority.pem"), "--counter-limit", str(COUNTER_LIMIT),
                  "--image", self.image, "--install")

    def make_ready(self, fleet=None, bundle=(), provision=()):
        """All of the steps, in order; as one more endpoint of a fleet if that is given, else with options for its bundle;
        and with options for provision()."""
        if fleet:
            self.join(fleet)
        else:
            self.make_authorities()
            self.make_bundle(*bundle)
        self.make_tpm()
        self.build_image()
        self.provision(*provision)
        self.record()
        self.predict()
        self.sign()
        self.boot_hash = sha256_of_partition(self.image, "gatehouse-boot")

    # --- running it -------------------------------------------------------------------------------------------

    def machine(self, emulator, logs, cpus=1, firmware="bios", tpm_state=None, snapshot=True, task=None, memory=MEMORY,
                extra=(), disks=None, iommu="amd", **options):
        """`disks` are those of the AHCI ports in order (its own alone); other options as machine.Machine's."""
        extra = list(extra) + (task_disk.qemu_arguments(task) if task else [])
        return machine.Machine(emulator, disks=disks or [self.image], cpus=cpus, firmware=firmware, memory_mb=memory,
                               tpm_state=tpm_state or self.tpm, iommu=iommu, log_dir=logs, snapshot=snapshot, extra=extra,
                               **options)

    # --- the disk in another computer -------------------------------------------------------------------------

    def dm_table(self):
        """(sectors, device sector of the first, cipher, key, IV offset) of each encrypted extent, as dm-crypt takes it."""
        table = self.tool("sealed-key", "export-dmsetup", self.image, "--recovery-key", self.path("recovery.key"), "--show")
        extents = []
        for line in table.decode().splitlines():
            match = re.search(r"(\d+) (\d+) crypt (\S+) (\S+) (\d+) (\S+) (\d+)", line)
            if match:
                extents.append({"sectors": int(match[2]), "cipher": match[3], "key": bytes.fromhex(match[4]),
                                "iv_offset": int(match[5]), "first": int(match[7])})
        if not extents:
            raise ApplianceError("sealed-key export-dmsetup printed no dm-crypt table")
        return extents

    def decrypt_partition(self, name, output):
        """Writes the plaintext of an encrypted partition, by dm-crypt's parameters but with OpenSSL's AES-XTS."""
        partition = partitions(self.image)[name]
        extent = next(e for e in self.dm_table()
                      if e["first"] <= partition.start and partition.start + partition.size <= e["first"] + e["sectors"])
        if extent["cipher"] != "aes-xts-plain64":
            raise ApplianceError(f"cipher {extent['cipher']} is not dm-crypt's aes-xts-plain64")
        number = extent["iv_offset"] + partition.start - extent["first"]
        xts = OpenSslXts(extent["key"])
        with open(self.image, "rb") as source, open(output, "wb") as sink:
            source.seek(partition.start * SECTOR)
            for sector in range(partition.size):
                sink.write(xts.decrypt(source.read(SECTOR), number + sector))
        xts.close()


class OpenSslXts:
    """AES-256-XTS of sectors with plain64 tweaks, by libcrypto."""

    def __init__(self, key):
        self.crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
        for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_xts"):
            getattr(self.crypto, name).restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.crypto.EVP_CIPHER_CTX_new())
        cipher = ctypes.c_void_p(self.crypto.EVP_aes_256_xts())
        if self.crypto.EVP_DecryptInit_ex(self.context, cipher, None, key, bytes(16)) != 1:
            raise ApplianceError("OpenSSL refuses the key for AES-256-XTS")
        self.out = ctypes.create_string_buffer(SECTOR)
        self.length = ctypes.c_int()

    def decrypt(self, sector, number):
        tweak = number.to_bytes(16, "little")
        if (self.crypto.EVP_DecryptInit_ex(self.context, None, None, None, tweak) != 1 or
                self.crypto.EVP_DecryptUpdate(self.context, self.out, ctypes.byref(self.length), sector, SECTOR) != 1):
            raise ApplianceError("OpenSSL cannot decrypt a sector")
        return self.out.raw

    def close(self):
        self.crypto.EVP_CIPHER_CTX_free(self.context)


def boot_disk_table(function=0x00fa, port=0):
    """The body of the hypervisor's ACPI table GTHS, of use to the initrd alone: that disk and no mailbox.  Q35's own AHCI
    controller is 00:1f.2."""
    return struct.pack("<IIQHHB3x", 2, 0, 0, 0, function, port)


def unseal_results(swtpm_log):
    """Response codes of the TPM2_Unseal commands in a log of swtpm (level 2): the TPM's own word on the key."""
    with open(swtpm_log, encoding="ascii", errors="replace") as file:
        lines = [line.strip() for line in file]
    messages, current = [], None
    for line in lines:
        match = re.match(r"SWTPM_IO_(Read|Write): length (\d+)", line)
        if match:
            current = [match[1], bytearray()]
            messages.append(current)
        elif current is not None and re.fullmatch(r"([0-9A-F]{2} ?)+", line):
            current[1] += bytes.fromhex(line)
        else:
            current = None
    codes = []
    for (kind, data), (answer_kind, answer) in zip(messages, messages[1:]):
        if kind == "Read" and answer_kind == "Write" and data[6:10] == b"\x00\x00\x01\x5e" and len(answer) >= 10:
            codes.append(int.from_bytes(answer[6:10], "big"))
    return codes


def flip_bit(data, at=None, near=None):
    """`data` with one bit changed: at an offset, or in the first byte of the text `near`."""
    changed = bytearray(data)
    if near is not None:
        at = data.index(near)
    changed[at] ^= 1
    return bytes(changed)


def looks_random(data):
    """Whether bytes look like ciphertext: the chi-square statistic of their distribution over 256 values (255 degrees of
    freedom) is below 400, which a random string exceeds about once in 10^8 times, and file systems by far."""
    counts = [0] * 256
    for byte in data:
        counts[byte] += 1
    expected = len(data) / 256
    return sum((count - expected) ** 2 / expected for count in counts) < 400


def sha256_of_partition(image, name):
    partition = partitions(image)[name]
    digest = hashlib.sha256()
    with open(image, "rb") as file:
        file.seek(partition.start * SECTOR)
        for _ in range(partition.size):
            digest.update(file.read(SECTOR))
    return digest.hexdigest()


def remove(directory):
    shutil.rmtree(directory, ignore_errors=True)
