#!/usr/bin/env python3
"""attest_others_test.py BIN: what tpm2-tools make with a software TPM, judged by `attest verify`; and the same in Keylime's and
go-attestation's form."""

import base64
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


class Others(unittest.TestCase):
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

    def verify(self, evidence, status, *more, nonce=NONCE, policy=None):
        return json.loads(run(BIN / "attest", "verify", evidence, "--nonce", nonce, "--ak", self.place / "ak.pem",
                              "--policy", policy or self.policy, "--authority", self.place / "authority.pub", "--json",
                              *more, status=status))

    def refused(self, result):
        return {rule["rule"] for rule in result["rules"] if not rule["ok"]}

    def in_json(self, name, value):
        place = self.place / name
        place.mkdir()
        (place / "evidence.json").write_text(json.dumps(value), encoding="utf-8")
        (place / "ak.pub").write_bytes((self.place / "ak.pub").read_bytes())
        return place

    def test_tools(self):
        result = self.verify(self.tools, 0)
        self.assertEqual(result["maker"], "tpm2-tools")
        self.assertTrue(any("no event log" in one for one in result["unjudged"]))
        self.verify(self.place / "values", 0)

    def test_an_archive(self):
        archive = self.place / "tools.tar"
        run("tar", "-C", self.tools, "-cf", archive, "--format=ustar", ".")
        self.assertEqual(self.verify(archive, 0)["maker"], "tpm2-tools")

    def test_another_nonce(self):
        self.assertEqual(self.refused(self.verify(self.tools, 1, nonce="ff" * 16)), {"nonce"})

    def test_other_values_than_the_policys(self):
        other = self.make_policy("other", self.values | {7: bytes(32)})
        self.assertEqual(self.refused(self.verify(self.tools, 1, policy=other)), {"pcrs"})

    def test_values_that_were_not_quoted(self):
        changed = self.place / "changed"
        changed.mkdir()
        for path in self.tools.iterdir():
            (changed / path.name).write_bytes(path.read_bytes())
        pcrs = bytearray((self.place / "values" / "pcrs.out").read_bytes())
        pcrs[-1] ^= 1
        (changed / "pcrs.out").write_bytes(pcrs)
        self.assertIn("log", self.refused(self.verify(changed, 1)))

    def test_a_changed_signature(self):
        changed = self.place / "signature"
        changed.mkdir()
        for path in self.tools.iterdir():
            (changed / path.name).write_bytes(path.read_bytes())
        signature = bytearray((changed / "sig.out").read_bytes())
        signature[-1] ^= 1
        (changed / "sig.out").write_bytes(signature)
        self.assertIn("signature", self.refused(self.verify(changed, 1)))

    def test_keylime(self):
        part = lambda name: base64.b64encode((self.tools / name).read_bytes()).decode()  # noqa: E731
        evidence = self.in_json("keylime", {"code": 200, "status": "Success", "results": {
            "quote": "r" + ":".join(map(part, ("quote.out", "sig.out", "pcrs.out"))), "hash_alg": "sha256",
            "enc_alg": "ecc", "sign_alg": "ecdsa", "ima_measurement_list": "", "pubkey": "-"}})
        result = self.verify(evidence, 0)
        self.assertEqual(result["maker"], "Keylime")
        self.assertTrue(any("IMA" in one for one in result["unjudged"]))

    def test_go_attestation(self):
        coded = lambda content: base64.b64encode(content).decode()  # noqa: E731
        evidence = self.in_json("go", {
            "Public": coded((self.place / "ak.pub").read_bytes()[2:]),
            "Quotes": [{"Quote": coded((self.tools / "quote.out").read_bytes()),
                        "Signature": coded((self.tools / "sig.out").read_bytes())}],
            "PCRs": [{"Index": pcr, "Digest": coded(value), "DigestAlg": 5} for pcr, value in self.values.items()],
            "EventLog": None})
        self.assertEqual(self.verify(evidence, 0)["maker"], "go-attestation")

    def test_a_result_for_others(self):
        key, out = self.place / "authority.key", self.place / "result"
        self.verify(self.tools, 0, "--result", out, "--result-key", key, "--result-profile", "veraison")
        payload = out.read_text().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        self.assertEqual(claims["eat_profile"], "tag:github.com,2023:veraison/ear")
        self.assertEqual(claims["submods"]["gatehouse"]["ear.status"], "warning", "a TPM alone")
        self.verify(self.tools, 0, "--result", out, "--result-key", key, "--result-form", "cwt")
        self.assertEqual(out.read_bytes()[0], 0xd2, "COSE_Sign1's tag")
        done = subprocess.run([BIN / "attest", "verify", self.tools, "--nonce", NONCE, "--ak", self.place / "ak.pem",
                               "--policy", self.policy, "--authority", self.place / "authority.pub", "--result", out,
                               "--result-key", key, "--result-profile", "other"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("tag:ietf.org,2026:rats/ear#03", done.stderr)


if __name__ == "__main__":
    unittest.main()
