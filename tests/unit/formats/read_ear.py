#!/usr/bin/python3
"""read_ear.py CDDL DIRECTORY: verifies signed results (PROFILE.*.jwt, PROFILE.*.cwt) with PyJWT and ruby-cose, the key from
jwks.json, and holds their claims to ear.cddl with Debian's cddl."""

import hashlib
import json
import pathlib
import re
import sys

import cbor2
import jwt
from others import HERE, Refused, has_empty_map, hold, signed

URI = {"ietf": "tag:ietf.org,2026:rats/ear#03", "ietf-04": "tag:ietf.org,2026:rats/ear#04",
       "veraison": "tag:github.com,2023:veraison/ear"}


def conform(cddl, claims, profile, form):
    """Refused if the claims are not as ear.cddl has them for the profile; form is "jwt" or "cwt"."""
    chosen = 1 if form == "jwt" else 2
    grammar = re.sub(r"JC<([^,<>]+), ([^,<>]+)>", lambda match: match[chosen], (HERE / "ear.cddl").read_text())
    start = f"start = {profile.split('-')[0]}-ear\nprofile = \"{URI[profile]}\"\n"
    hold(cddl, start + grammar, json.dumps(claims) if form == "jwt" else cbor2.dumps(claims))
    # Veraison's vector may be empty.
    if not claims["submods" if form == "jwt" else 266] or profile != "veraison" and has_empty_map(claims):
        raise Refused("an empty map")


def read_jwt(path, jwks):
    text = path.read_text()
    header = jwt.get_unverified_header(text)
    assert header["typ"] == "eat+jwt"
    keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(jwks.read_text())).keys}
    try:
        return jwt.decode(text, keys[header["kid"]], algorithms=["ES256"], options={"verify_exp": False})
    except (jwt.InvalidTokenError, KeyError) as error:
        raise Refused(error) from error


def read_cwt(path, jwks):
    claims = cbor2.loads(signed(path, jwks))
    assert sorted_by_encoding(claims), "not deterministic"
    return claims


def sorted_by_encoding(value):
    """RFC 8949, 4.2.1: by the bytes of the keys' encodings; cbor2's canonical form has RFC 7049's order, shorter first."""
    if isinstance(value, dict):
        keys = [cbor2.dumps(key) for key in value]
        return keys == sorted(keys) and all(sorted_by_encoding(one) for one in value.values())
    if isinstance(value, list):
        return all(sorted_by_encoding(one) for one in value)
    return True


def read(cddl, path, jwks):
    """The claims of a result that stands the signature's and the grammar's test; else Refused."""
    profile, form = path.name.split(".")[0], path.suffix[1:]
    claims = (read_jwt if form == "jwt" else read_cwt)(path, jwks)
    conform(cddl, claims, profile, form)
    return claims


def main():
    cddl, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    jwks = directory / "jwks.json"
    for one in json.loads(jwks.read_text())["keys"]:
        needed = json.dumps({name: one[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
        assert hashlib.sha256(needed.encode()).digest() == jwt.utils.base64url_decode(one["kid"]), "RFC 7638"
    results = sorted(directory.glob("*.?wt"))
    for path in results:
        read(cddl, path, jwks)
    print(f"{len(results)} results read")


if __name__ == "__main__":
    main()
