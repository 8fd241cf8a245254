#!/usr/bin/env python3
"""attest_others_test.py BIN: what tpm2-tools make with a software TPM, judged by `attest verify`; and the same in Keylime's and
go-attestation's form."""

import base64
import json
import subprocess
import unittest

from on_a_tpm import BIN, NONCE, OnATpm, run


class Others(OnATpm):
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

    def test_the_keys_and_values_own_forms(self):
        """The pinned key as the TPM writes it; tpm2_quote's PCR file beside a quote under this project's names."""
        area = (self.place / "ak.pub").read_bytes()
        for name, content in (("ak.tss", area), ("ak.tpmt", area[2:])):
            with self.subTest(name):
                (self.place / name).write_bytes(content)
                self.verify(self.tools, 0, key=self.place / name)
        ours = self.place / "ours"
        ours.mkdir()
        for source, name in (("quote.out", "quote.msg"), ("sig.out", "quote.sig"), ("pcrs.out", "pcrs.bin"), ("ak.pub", "ak.pub")):
            (ours / name).write_bytes((self.tools / source).read_bytes())
        self.assertEqual(self.refused(self.verify(ours, 1)), {"nonce"})  # this project's agents quote a digest
        pcrs = bytearray((ours / "pcrs.bin").read_bytes())
        pcrs[pcrs.index(self.values[7])] ^= 1
        (ours / "pcrs.bin").write_bytes(pcrs)
        self.assertIn("log", self.refused(self.verify(ours, 1)))

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
