#!/usr/bin/python3
"""read_corim.py CDDL FILE JWKS: verifies a signed CoRIM with ruby-cose, holds it to corim.cddl with Debian's cddl, sees each
part refused that is missing or of another type, and prints the SHA-256 of the integrity registers by measurement."""

import json
import pathlib
import sys

import cbor2
from others import HERE, Refused, has_empty_map, hold, signed

CORIM, COMID = 501, 506
SIZES = {1: 32, 7: 48, 8: 64, "sha1": 20}
REGISTERS = 14


def conform(cddl, start, content):
    hold(cddl, f"start = {start}\n" + (HERE / "corim.cddl").read_text(), content)


def comids(corim):
    return [cbor2.loads(tag.value) for tag in corim.value[1]]


def conform_payload(cddl, payload):
    conform(cddl, "tagged-corim-map", payload)
    mids = comids(cbor2.loads(payload))
    if any(map(has_empty_map, mids)):
        raise Refused("an empty map")
    # Of a list of lists or maps, cddl looks at the first alone.
    for mid in mids:
        conform(cddl, "concise-mid-tag", cbor2.dumps(mid))
        for record in mid[4][0]:
            conform(cddl, "reference-triple-record", cbor2.dumps(record))
            for measurement in record[1]:
                conform(cddl, "measurement-map", cbor2.dumps(measurement))
                for digests in (measurement[1].get(2, []), *measurement[1].get(REGISTERS, {}).values()):
                    for digest in digests:
                        conform(cddl, "digest", cbor2.dumps(digest))
                        assert len(digest[1]) == SIZES[digest[0]]


def places(value, path=()):
    """Where each member is; of a list of equals, the first."""
    if isinstance(value, list):
        value = dict(enumerate(value if len({type(one) for one in value}) > 1 else value[:1]))
    for key, one in value.items() if isinstance(value, dict) else ():
        yield *path, key
        yield from places(one, (*path, key))


def refused_if_broken(cddl, payload):
    """How many ways to break it there are; each must be refused."""
    corim = cbor2.loads(payload)
    mid = comids(corim)[0]
    ways = 0
    for path in list(places(mid)):
        for kind in ("type", "missing", "empty"):
            broken = comids(cbor2.loads(payload))[0]
            inside = broken
            for key in path[:-1]:
                inside = inside[key]
            if kind == "type":
                inside[path[-1]] = 2.5
            elif kind == "missing":
                if path[-1] in (2, 4, REGISTERS) and len(inside) > 1 and len(path) > 4 or not isinstance(inside, dict):
                    continue
                del inside[path[-1]]
            elif isinstance(inside[path[-1]], (dict, list)):
                inside[path[-1]] = type(inside[path[-1]])()
            else:
                continue
            ways += 1
            changed = cbor2.dumps(cbor2.CBORTag(CORIM, corim.value | {1: [cbor2.CBORTag(COMID, cbor2.dumps(broken))]}))
            try:
                conform_payload(cddl, changed)
            except Refused:
                continue
            raise AssertionError(f"{kind} at {path} is accepted")
    return ways


def main():
    cddl, path, jwks = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    payload = signed(path, jwks)
    protected, unprotected = cbor2.loads(path.read_bytes()).value[:2]
    assert unprotected == {}
    conform(cddl, "header", protected)
    conform_payload(cddl, payload)
    assert refused_if_broken(cddl, payload) > 20
    values = {}
    for mid in comids(cbor2.loads(payload)):
        for _, measurements in mid[4][0]:
            for measurement in measurements:
                registers = measurement[1].get(REGISTERS, {})
                values[measurement[0]] = {pcr: dict(map(tuple, digests))[1].hex() for pcr, digests in registers.items()}
    print(json.dumps(values))


if __name__ == "__main__":
    main()
