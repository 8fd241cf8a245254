#!/usr/bin/python3
"""ear_by_others_test.py BIN CDDL: results of `attest verify`, each profile in each form, read by others' implementations: the
signature by PyJWT or ruby-cose, the claims by Debian's cddl. And what is no such result is refused by the same."""

import base64
import copy
import hashlib
import json
import pathlib
import sys
import unittest

from cryptography.hazmat.primitives import serialization

CDDL = sys.argv.pop(2)
# pylint: disable=wrong-import-position  # on_a_tpm takes BIN
from on_a_tpm import NONCE, OnATpm  # noqa: E402
from others import Refused  # noqa: E402
from read_ear import conform, read  # noqa: E402

SUBMODULE = "gatehouse"
LABELS = {  # of a profile and form: its nonce's place in a submodule, status, ueid
    ("ietf", "jwt"): ("eat_nonce", "ear_status", "ueid"), ("ietf", "cwt"): (10, 1000, 256),
    ("veraison", "jwt"): (None, "ear.status", "ueid"), ("veraison", "cwt"): (None, 1000, 256)}
OPTIONAL = {"exp", "iss", "ueid", "ear_trustworthiness_vector", "ear.trustworthiness-vector", "ear_appraisal_policy_ids",
            "ear.appraisal-policy-id", "eat_nonce", "ear.veraison.annotated-evidence", 4, 1, 256, 1001, 1003, 10, -70000}

VECTORS = {"ear_trustworthiness_vector", "ear.trustworthiness-vector", 1001}


def coded(content):
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def places(value, path=()):
    """Each claim, but not what is within the annotated evidence: any text may stand there."""
    for label, one in value.items():
        yield *path, label
        if isinstance(one, dict) and label not in ("ear.veraison.annotated-evidence", -70000):
            yield from places(one, (*path, label))


class EarByOthers(OnATpm):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        numbers = serialization.load_pem_public_key((cls.place / "authority.pub").read_bytes()).public_numbers()
        key = {"crv": "P-256", "kty": "EC", "x": coded(numbers.x.to_bytes(32, "big")),
               "y": coded(numbers.y.to_bytes(32, "big"))}
        key["kid"] = coded(hashlib.sha256(json.dumps(key, separators=(",", ":")).encode()).digest())  # RFC 7638
        cls.jwks = cls.place / "jwks.json"
        cls.jwks.write_text(json.dumps({"keys": [key]}))

    def result(self, profile, form, *, status=0, **verdict) -> pathlib.Path:
        path = self.place / f"{profile}.{status}.{form}"
        self.verify(self.tools, status, "--result", path, "--result-key", self.place / "authority.key", "--result-profile",
                    profile, "--result-form", form, **verdict)
        return path

    def each(self):
        return [(profile, form, read(CDDL, self.result(profile, form), self.jwks)) for profile, form in LABELS]

    def test_is_read(self):
        for profile in ("ietf", "ietf-04", "veraison"):
            for form in ("jwt", "cwt"):
                nonce, status, _ = LABELS[profile.split("-")[0], form]
                names = ("warning", "contraindicated") if form == "jwt" else (32, 96)
                with self.subTest(profile=profile, form=form):
                    good = read(CDDL, self.result(profile, form), self.jwks)
                    submodule = good["submods" if form == "jwt" else 266][SUBMODULE]
                    self.assertEqual(submodule[status], names[0], "a TPM alone")
                    if nonce:
                        wanted = bytes.fromhex(NONCE)
                        self.assertEqual(submodule[nonce], coded(wanted) if form == "jwt" else wanted)
                    bad = read(CDDL, self.result(profile, form, status=1, nonce="ff" * 16), self.jwks)
                    self.assertEqual(bad["submods" if form == "jwt" else 266][SUBMODULE][status], names[1])

    def test_signature_of_another_or_changed(self):
        other = self.place / "other.json"
        keys = json.loads(self.jwks.read_text())
        keys["keys"][0]["kid"] = "another"
        other.write_text(json.dumps(keys))
        for profile, form, _ in self.each():
            path = self.result(profile, form)
            content = path.read_bytes()
            # The last byte of a CWT is the signature's; that of a JWT holds bits that nobody reads.
            last = -1 if form == "cwt" else -2
            changed = bytearray(content)
            changed[last] = ord("B" if content[last] == ord("A") else "A")
            path.write_bytes(changed)
            self.assertRaises(Refused, read, CDDL, path, self.jwks)
            path.write_bytes(content)
            self.assertRaises(Refused, read, CDDL, path, other)
            read(CDDL, path, self.jwks)

    def test_profile_of_another(self):
        for profile, form, claims in self.each():
            for another in {"ietf", "ietf-04", "veraison"} - {profile}:
                self.assertRaises(Refused, conform, CDDL, claims, another, form)

    def test_claim_missing_renamed_empty_of_another_type_or_unknown(self):
        refused = 0
        for profile, form, claims in self.each():
            if profile == "ietf":
                ueid = bytes([1]) + bytes(32)
                claims[LABELS[profile, form][2]] = coded(ueid) if form == "jwt" else ueid
                conform(CDDL, claims, profile, form)
            for path in list(places(claims)):
                in_vector = any(label in VECTORS for label in path[:-1])
                for kind in ("missing", "renamed", "type", "unknown", "empty"):
                    broken = copy.deepcopy(claims)
                    inside = broken
                    for label in path[:-1]:
                        inside = inside[label]
                    value = inside.pop(path[-1])
                    if kind == "missing":
                        if path[-1] in OPTIONAL or in_vector or path in (("ear_status",), (1000,)):
                            continue
                    elif kind == "renamed":
                        # Of a vector's only claim cddl does not say that it is unknown; of one beside others it does.
                        if path[-1] == SUBMODULE or in_vector and not inside:
                            continue
                        inside["renamed" if form == "jwt" else 77] = value
                    elif kind == "type":
                        inside[path[-1]] = 2.5
                    elif kind == "empty":
                        if not isinstance(value, (dict, list)) or profile == "veraison" and path[-1] in VECTORS:
                            continue
                        inside[path[-1]] = type(value)()
                    else:
                        inside[path[-1]] = value
                        inside["unknown" if form == "jwt" else 77] = 1
                    with self.subTest(path=path, kind=kind):
                        self.assertRaises(Refused, conform, CDDL, broken, profile, form)
                        refused += 1
        self.assertGreater(refused, 200)


if __name__ == "__main__":
    unittest.main()
