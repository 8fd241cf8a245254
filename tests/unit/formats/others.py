"""What others' programs make of ours: Debian's cddl, ruby-cose."""

import pathlib
import subprocess
import tempfile

import cbor2

HERE = pathlib.Path(__file__).parent


class Refused(Exception):
    pass


def hold(cddl, grammar, value):
    """Refused if the value, of bytes (CBOR) or text (JSON), is not as the grammar's first rule has it."""
    json = isinstance(value, str)
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        (place / "grammar").write_text(grammar)
        (place / "value").write_bytes(value.encode() if json else value)
        done = subprocess.run([cddl, "--ci", "validate", "--cddl", place / "grammar", "--json" if json else "--cbor",
                               place / "value"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused((done.stderr + done.stdout)[:2000])


def has_empty_map(value):
    """cddl takes one where the grammar wants a member at least."""
    if isinstance(value, cbor2.CBORTag):
        return has_empty_map(value.value)
    if isinstance(value, dict):
        return not value or any(map(has_empty_map, value.values()))
    return isinstance(value, list) and any(map(has_empty_map, value))


def signed(path, jwks):
    """The payload of a COSE_Sign1 that a key of the set has signed; else Refused."""
    assert cbor2.loads(path.read_bytes()).tag == 18
    done = subprocess.run(["ruby", HERE / "read_cose.rb", jwks, path], capture_output=True, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr.decode())
    return done.stdout
