#!/usr/bin/python3
"""read_ear.py DIRECTORY: reads signed results (PROFILE.*.jwt, PROFILE.*.cwt) with PyJWT, cbor2 and cryptography, the key from
jwks.json, and holds them to the rules of draft-ietf-rats-ear-03, figures 1 and 2, RFC 9711 and draft-ietf-rats-ar4si-09."""

import hashlib
import json
import pathlib
import re
import sys

import cbor2
import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

TIERS = {"none": 0, "affirming": 2, "warning": 32, "contraindicated": 96}
VECTOR = ["instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque",
          "storage-opaque", "sourced-data"]
URI = {"ietf": "tag:ietf.org,2026:rats/ear#03", "ietf-04": "tag:ietf.org,2026:rats/ear#04",
       "veraison": "tag:github.com,2023:veraison/ear"}
LABELS = {"iss": 1, "exp": 4, "iat": 6, "eat_nonce": 10, "ueid": 256, "eat_profile": 265, "submods": 266}
EAR_LABELS = {"status": 1000, "trustworthiness-vector": 1001, "verifier-id": 1004,
              "veraison.annotated-evidence": -70000}


class Rules:
    """Where a profile and a form have each claim, and what its value must be."""

    def __init__(self, profile, cbor):
        self.cbor, self.veraison, self.uri = cbor, profile == "veraison", URI[profile]

    def label(self, name):
        if name in LABELS:
            return LABELS[name] if self.cbor else name
        if name == "policy":
            return 1003 if self.cbor else "ear.appraisal-policy-id" if self.veraison else "ear_appraisal_policy_ids"
        if self.cbor:
            return EAR_LABELS[name]
        return f"ear.{name}" if self.veraison else "ear_" + name.replace("-", "_")

    def fields(self, claims, must, may):
        known = {self.label(name): check for name, check in (must | may).items()}
        missing = [name for name in must if self.label(name) not in claims]
        assert not missing, f"missing: {missing}"
        for label, value in claims.items():
            assert label in known, f"unknown claim {label!r}"
            assert known[label](value), f"claim {label!r}: {value!r}"

    def binary(self, least, most):
        if self.cbor:
            return lambda value: isinstance(value, bytes) and least <= len(value) <= most
        return lambda value: re.fullmatch(r"[A-Za-z0-9_-]+", value) and least <= len(value) * 3 // 4 <= most

    def tier(self, value):
        return value in (TIERS.values() if self.cbor else TIERS)

    def vector(self, value):
        names = range(len(VECTOR)) if self.cbor else VECTOR
        # Veraison's may be empty; AR4SI's "non-empty" is the draft's.
        return (value or self.veraison) and all(key in names and type(one) is int and -128 <= one <= 127
                                                for key, one in value.items())

    def identity(self, value):
        return set(value) == ({0, 1} if self.cbor else {"developer", "build"}) and all(
            isinstance(one, str) for one in value.values())

    def policies(self, value):
        if self.veraison and not self.cbor:
            return isinstance(value, str)
        return isinstance(value, list) and value and all(isinstance(one, str) for one in value)

    def appraisal(self, value):
        more = {"veraison.annotated-evidence": lambda one: all(isinstance(key, str) for key in one)}
        self.fields(value, {"status": self.tier}, {
            "trustworthiness-vector": self.vector, "policy": self.policies} | (
                more if self.veraison else {"eat_nonce": self.binary(8, 64)}))
        return True

    def check(self, claims):
        whole = lambda value: type(value) is int  # noqa: E731: not a float, RFC 9711, 4.3.1
        self.fields(claims, {
            "eat_profile": lambda value: value == self.uri, "iat": whole, "verifier-id": self.identity,
            "submods": lambda value: value and all(isinstance(name, str) and self.appraisal(one)
                                                   for name, one in value.items())},
            {"exp": whole, "iss": lambda value: isinstance(value, str)} | (
                {} if self.veraison else {"status": self.tier, "ueid": self.binary(7, 33)}))


def read_jwt(text, keys):
    header = jwt.get_unverified_header(text)
    assert header["typ"] == "eat+jwt"
    return jwt.decode(text, keys[header["kid"]].key, algorithms=["ES256"], options={"verify_exp": False})


def read_cwt(message, keys):
    tagged = cbor2.loads(message)
    assert tagged.tag == 18
    protected, _, payload, signature = tagged.value
    header = cbor2.loads(protected)
    assert header[1] == -7
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    keys[header[4].decode()].key.verify(der, signed, ec.ECDSA(hashes.SHA256()))
    claims = cbor2.loads(payload)
    assert cbor2.dumps(claims, canonical=True) == payload or sorted_by_encoding(claims), "not deterministic"
    return claims


def sorted_by_encoding(value):
    """RFC 8949, 4.2.1: by the bytes of the keys' encodings; cbor2's canonical form has RFC 7049's order, shorter first."""
    if isinstance(value, dict):
        keys = [cbor2.dumps(key) for key in value]
        return keys == sorted(keys) and all(sorted_by_encoding(one) for one in value.values())
    if isinstance(value, list):
        return all(sorted_by_encoding(one) for one in value)
    return True


def main():
    directory = pathlib.Path(sys.argv[1])
    jwks = json.loads((directory / "jwks.json").read_text())
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(jwks).keys}
    for one in jwks["keys"]:
        needed = json.dumps({name: one[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
        assert hashlib.sha256(needed.encode()).digest() == jwt.utils.base64url_decode(one["kid"]), "RFC 7638"
    read = 0
    for path in sorted(directory.glob("*.?wt")):
        cbor = path.suffix == ".cwt"
        claims = read_cwt(path.read_bytes(), keys) if cbor else read_jwt(path.read_text(), keys)
        Rules(path.name.split(".")[0], cbor).check(claims)
        read += 1
    print(f"{read} results read")


if __name__ == "__main__":
    main()
