#!/usr/bin/python3
"""read_cel.py CDDL CBOR JSON: holds a log in both encodings to cel.cddl with Debian's cddl, each record to be the next of its
PCR, and both to say the same; of a short one sees each member refused that is missing, renamed, beside others or of another
type. Prints how many records they have."""

import copy
import json
import pathlib
import sys

import cbor2
from others import HERE, Refused, hold

NAMES = {0: "recnum", 1: "pcr", 3: "digests", 9: "content_type", 10: "content"}
DIGEST = {0: "hashAlg", 1: "digest"}
CONTENT = {0: "event_type", 1: "event_data"}
ALGORITHMS = {4: "sha1", 11: "sha256", 12: "sha384", 13: "sha512", 18: "sm3_256"}
SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, "sm3_256": 32}
CONTENT_TYPES = {5: "pcclient_std"}
TYPES = {0x3: "EV_NO_ACTION", 0x4: "EV_SEPARATOR", 0xd: "EV_IPL", 0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
         0x80000007: "EV_EFI_ACTION", 0x800000e0: "EV_EFI_VARIABLE_AUTHORITY"}


class Form:
    """CBOR, of bytes, or JSON, of text."""

    def __init__(self, cddl, name, dump):
        self.cddl, self.name, self.dump = cddl, name, dump

    def one(self, rule, value):
        grammar = (HERE / "cel.cddl").read_text()
        hold(self.cddl, f"start = {self.name}-{rule}\n{grammar}", self.dump(value))

    def record(self, record, key):
        self.one("record", record)
        # Of a list of maps, cddl looks at the first alone.
        for digest in record[key]:
            self.one("digest", digest)
            algorithm, value = digest.values()
            size = len(value) if isinstance(value, bytes) else len(value) / 2
            if size != SIZES[ALGORITHMS.get(algorithm, algorithm)]:
                raise Refused("a digest of a wrong size")
        algorithms = [list(digest.values())[0] for digest in record[key]]
        if len(set(algorithms)) != len(algorithms):
            raise Refused("a bank is there twice")


def conform(form, log, recnum, pcr, digests):
    """Of a long log the records that are not like one before."""
    if not isinstance(log, list):
        raise Refused("no array")
    following, shapes = {}, set()
    for record in log:
        shape = str([(type(value), len(value) if isinstance(value, list) else 0) for value in record.values()])
        if shape not in shapes or len(log) < 10:
            form.record(record, digests)
        shapes.add(shape)
        if record[recnum] != following.get(record[pcr], 0):
            raise Refused("not the next of its PCR")
        following[record[pcr]] = record[recnum] + 1


def refused_if_broken(form, record, digests):
    """How many ways to break it there are; each must be refused."""
    def places(value, path=()):
        if isinstance(value, list):
            value = dict(enumerate(value))
        for key, one in value.items() if isinstance(value, dict) else ():
            yield *path, key
            yield from places(one, (*path, key))

    ways = 0
    for path in list(places(record)):
        for kind in ("type", "missing", "renamed", "more"):
            broken = copy.deepcopy(record)
            inside = broken
            for key in path[:-1]:
                inside = inside[key]
            if kind == "type":
                inside[path[-1]] = 2.5
            elif not isinstance(inside, dict):
                continue
            elif kind == "more":
                inside["other" if isinstance(path[-1], str) else 99] = 0
            else:
                value = inside.pop(path[-1])
                if kind == "renamed":
                    inside["other" if isinstance(path[-1], str) else 99] = value
            ways += 1
            try:
                form.record(broken, digests)
            except (Refused, KeyError, AttributeError, TypeError):
                continue
            raise AssertionError(f"{kind} at {path} is accepted")
    return ways


def as_json(record):
    """What the CBOR record says in the other's words; a type that is not in TYPES stays a number."""
    named = {NAMES[key]: value for key, value in record.items()}
    named["digests"] = [{DIGEST[0]: ALGORITHMS[one[0]], DIGEST[1]: one[1].hex()} for one in named["digests"]]
    named["content_type"] = CONTENT_TYPES[named["content_type"]]
    content = {CONTENT[key]: value for key, value in named["content"].items()}
    content["event_type"] = TYPES.get(content["event_type"], content["event_type"])
    return named | {"content": content | {"event_data": content["event_data"].hex()}}


def main():
    cddl = sys.argv[1]
    raw, text = pathlib.Path(sys.argv[2]).read_bytes(), pathlib.Path(sys.argv[3]).read_text()
    cbor, words = cbor2.loads(raw), json.loads(text)
    assert cbor2.dumps(cbor, canonical=True) == raw, "not deterministic"
    forms = [(Form(cddl, "cbor", cbor2.dumps), cbor, 0, 1, 3),
             (Form(cddl, "json", json.dumps), words, "recnum", "pcr", "digests")]
    for form, log, recnum, pcr, digests in forms:
        form.one("log", log)
        conform(form, log, recnum, pcr, digests)
        if 0 < len(log) < 10:
            assert refused_if_broken(form, log[0], digests) > 20
    assert len(cbor) == len(words)
    for one, other in zip(cbor, words):
        said = as_json(one)
        if isinstance(said["content"]["event_type"], int) and isinstance(other["content"]["event_type"], str):
            assert other["content"]["event_type"].startswith("EV_")
            said["content"]["event_type"] = other["content"]["event_type"]
        assert said == other, (said, other)
        assert list(said) == list(other), "in another order"
    print(len(cbor))


if __name__ == "__main__":
    main()
