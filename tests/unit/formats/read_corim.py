#!/usr/bin/python3
"""read_corim.py FILE KEY: reads a signed CoRIM with cbor2 and cryptography, holds it to the CDDL of draft-ietf-rats-corim-10
as far as it is used here, and prints the SHA-256 of the integrity registers by measurement."""

import json
import pathlib
import sys

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

SIZES = {1: 32, 7: 48, 8: 64, "sha1": 20}


def tagged(item, tag):
    assert isinstance(item, cbor2.CBORTag) and item.tag == tag, f"tag {tag} is wanted, not {item!r}"
    return item.value


def only(item, required, optional=()):
    assert isinstance(item, dict) and set(required) <= set(item) <= set(required) | set(optional), item


def check_digests(digests):
    assert digests and isinstance(digests, list)
    for algorithm, value in digests:
        assert isinstance(value, bytes) and len(value) == SIZES[algorithm]


def check_measurement(measurement):
    only(measurement, [0, 1])
    assert isinstance(measurement[0], str)
    values = measurement[1]
    only(values, [], [2, 4, 14])
    assert values, "non-empty"
    if 2 in values:
        check_digests(values[2])
    if 4 in values:
        assert isinstance(tagged(values[4], 560), bytes)
    for register, digests in values.get(14, {}).items():
        assert isinstance(register, int)
        check_digests(digests)


def main():
    message = tagged(cbor2.loads(pathlib.Path(sys.argv[1]).read_bytes()), 18)
    key = serialization.load_pem_public_key(pathlib.Path(sys.argv[2]).read_bytes())
    protected, unprotected, payload, signature = message
    header = cbor2.loads(protected)
    only(header, [1, 3, 4, 8])
    assert (header[1], header[3], unprotected) == (-7, "application/rim+cbor", {})
    meta = cbor2.loads(header[8])
    only(meta, [0])
    only(meta[0], [0])
    der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    key.verify(der, cbor2.dumps(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA256()))

    corim = tagged(cbor2.loads(payload), 501)
    only(corim, [0, 1])
    assert isinstance(corim[0], str)
    values = {}
    for tag in corim[1]:
        mid = cbor2.loads(tagged(tag, 506))
        only(mid, [1, 4])
        only(mid[1], [0])
        only(mid[4], [0])
        for environment, measurements in mid[4][0]:
            only(environment, [0])
            only(environment[0], [1, 2])
            for measurement in measurements:
                check_measurement(measurement)
                registers = measurement[1].get(14, {})
                values[measurement[0]] = {pcr: dict(map(tuple, digests))[1].hex() for pcr, digests in registers.items()}
    print(json.dumps(values))


if __name__ == "__main__":
    main()
