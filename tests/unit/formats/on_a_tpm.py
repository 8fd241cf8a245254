"""Evidence of a software TPM as tpm2-tools write it, a policy that accepts it, and `attest verify` of both."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(sys.argv.pop(1))
NONCE = "00112233445566778899aabbccddeeff"
PCRS = range(8)


def run(*arguments, status=0, env=None):
    done = subprocess.run([str(one) for one in arguments], capture_output=True, text=True, env=env, check=False)
    if done.returncode != status:
        raise AssertionError(f"{arguments[:3]}: status {done.returncode}, not {status}: {done.stdout}{done.stderr}")
    return done.stdout


class OnATpm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.place = pathlib.Path(cls.scratch.name)
        (cls.place / "tpm").mkdir()
        socket = cls.place / "socket"
        swtpm = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={cls.place}/tpm", "--flags", "startup-clear",
             "--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"],
            stderr=subprocess.DEVNULL)
        cls.addClassCleanup(swtpm.wait)
        cls.addClassCleanup(swtpm.terminate)
        while not (socket.exists() and pathlib.Path(f"{socket}.ctrl").exists()):
            assert swtpm.poll() is None, "swtpm ended"
            time.sleep(0.01)
        cls.env = os.environ | {"TPM2TOOLS_TCTI": f"swtpm:path={socket}"}
        tpm = lambda *arguments: run(*arguments, env=cls.env)  # noqa: E731
        tpm("tpm2_createek", "-c", cls.place / "ek.ctx", "-G", "rsa", "-u", cls.place / "ek.pub")
        tpm("tpm2_createak", "-C", cls.place / "ek.ctx", "-c", cls.place / "ak.ctx", "-G", "ecc", "-g", "sha256", "-s",
            "ecdsa", "-u", cls.place / "ak.pub")
        tpm("tpm2_flushcontext", "-t")
        tpm("tpm2_readpublic", "-c", cls.place / "ak.ctx", "-f", "pem", "-o", cls.place / "ak.pem")
        tpm("tpm2_flushcontext", "-t")
        tpm("tpm2_pcrextend", "7:sha256=" + "01" * 32)
        cls.tools = cls.quote("tools", "serialized")
        values = (cls.quote("values", "values") / "pcrs.out").read_bytes()
        cls.values = {pcr: values[32 * pcr:32 * (pcr + 1)] for pcr in PCRS}
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", cls.place / "authority.key")
        run("openssl", "ec", "-in", cls.place / "authority.key", "-pubout", "-out", cls.place / "authority.pub")
        cls.policy = cls.make_policy("good", cls.values)

    @classmethod
    def quote(cls, name, form):
        place = cls.place / name
        place.mkdir()
        run("tpm2_quote", "-c", cls.place / "ak.ctx", "-l", "sha256:" + ",".join(map(str, PCRS)), "-q", NONCE, "-g",
            "sha256", "-m", place / "quote.out", "-s", place / "sig.out", "-o", place / "pcrs.out", "-F", form, env=cls.env)
        run("tpm2_flushcontext", "-t", env=cls.env)
        (place / "ak.pub").write_bytes((cls.place / "ak.pub").read_bytes())
        return place

    @classmethod
    def make_policy(cls, name, values):
        path = cls.place / (name + ".json")
        pcrs = [f"--pcr=sha256:{pcr}={value.hex()}" for pcr, value in values.items()]
        run(BIN / "policyctl", "attestation-policy", "--name", name, "--version", 1, *pcrs, "-o", path)
        run(BIN / "policyctl", "sign-attestation-policy", path, "--key", cls.place / "authority.key", "-o",
            path.with_suffix(".jws"))
        return path.with_suffix(".jws")

    def verify(self, evidence, status, *more, nonce=NONCE, policy=None, key=None):
        return json.loads(run(BIN / "attest", "verify", evidence, "--nonce", nonce, "--ak", key or self.place / "ak.pem",
                              "--policy", policy or self.policy, "--authority", self.place / "authority.pub", "--json",
                              *more, status=status))
