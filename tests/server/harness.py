"""A running attestation-server, clients for it, and an endpoint whose TPM is a few keys of openssl.

Python's standard library only, and the openssl program for keys. Everything is bound to loopback and to ports that
the system chooses.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from waiting import PATIENCE  # noqa: E402  (its place is known only now)

OPEN_LIMITS = """
[limits]
anonymous = [100000.0, 100000]
enrollment = [100000.0, 100000]
pages = [100000.0, 100000]
failures = [100000.0, 100000]
endpoint = [100000.0, 100000]
"""
# Nobody is cut off for a machine that is busy; what tests these limits has its own.
LONG_TIMEOUTS = "[timeouts]\n" + "".join(f"{name} = 900.0\n" for name in ("handshake", "head", "body", "idle", "answer", "stop"))
# What no answer may tell of the inside.
INTERNALS = re.compile(rb"sqlite|select |insert |exception|std::|\.cpp|\.hpp|terminate|/tmp/|errno|openssl|backtrace|0x[0-9a-f]{8}",
                       re.IGNORECASE)


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def code(self):
        return self.json()["error"]["code"]


def check_answer(answer):
    """What holds for each answer whatsoever."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers.get("x-content-type-options") == "nosniff", headers
    assert "max-age=" in headers.get("strict-transport-security", ""), headers
    assert "server" not in headers, headers
    assert headers.get("cache-control"), headers
    if answer.status >= 400 and answer.body and headers.get("content-type", "").startswith("application/json"):
        error = json.loads(answer.body)
        assert set(error) == {"error"} and set(error["error"]) == {"code", "message"}, error
        assert re.fullmatch(r"[a-z0-9_]+", error["error"]["code"]), error
        assert not INTERNALS.search(answer.body), answer.body
    if answer.status in (429, 503):
        assert int(headers.get("retry-after", 0)) > 0, headers
    return answer


class Server:
    """attestation-server on a directory and a database, which outlive the process: one process at a time, started at
    once unless `started` is false. Of each: `place` (ADDRESS:PORT), `port`, `said` (what it printed until it was ready),
    `ca` and `pem` (its CA's certificate, as a file and as text), `token` (the administrator's, if it told one),
    `ready_after` (the seconds from the start of the process until it accepted connections)."""

    def __init__(self, program, config=OPEN_LIMITS + LONG_TIMEOUTS, directory=None, environment=None, database=None, started=True):
        self.program = program
        self.own = None if directory else tempfile.TemporaryDirectory(prefix="gatehouse-server-")
        self.directory = pathlib.Path(directory or self.own.name)
        self.directory.mkdir(exist_ok=True)
        self.data = self.directory / "data"
        self.config = self.directory / "server.toml"
        self.config.write_text(config, encoding="ascii")
        self.options = ["--config", self.config, "--data", self.data, *(["--database", database] if database else [])]
        self.environment = environment
        self.token = None
        self.process = None
        if started:
            self.start()

    def start(self):
        reader, writer = os.pipe()
        begun = time.monotonic()
        with open(self.directory / "log", "ab") as log, open(self.directory / "output", "wb") as output:
            self.process = subprocess.Popen(
                [self.program, "serve", "--listen", "127.0.0.1:0", "--ready-fd", str(writer), *self.options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=log, pass_fds=[writer],
                env={**os.environ, **(self.environment or {})})
        os.close(writer)
        with os.fdopen(reader) as ready:  # it ends as well if the process does
            self.place = ready.readline().strip()
        self.ready_after = time.monotonic() - begun
        assert self.place, f"the server did not start: {self.log_text()}"
        self.port = int(self.place.rsplit(":", 1)[1])
        self.said = (self.directory / "output").read_text()
        if found := re.search(r"^\s+(gh_\S+)$", self.said, re.MULTILINE):
            self.token = found.group(1)
        self.pem = self.console("ca").stdout
        self.ca = self.directory / "ca.pem"
        self.ca.write_text(self.pem)
        return self

    @property
    def url(self):
        return f"https://{self.place}"

    def log_text(self):
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    def console(self, *arguments, check=True):
        """Another command of the program on the same directory and database."""
        done = subprocess.run([self.program, *arguments, *self.options], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0 or not check, (arguments, done)
        return done

    def command(self, *arguments, status=0, with_errors=False):
        """The same with this exit status; what it printed."""
        done = self.console(*arguments, check=False)
        assert done.returncode == status, (arguments, done)
        return done.stdout + done.stderr if with_errors else done.stdout

    def end(self, how=signal.SIGTERM):
        """Ends the process; its exit status."""
        if self.process is None:
            return None
        self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        self.process = None
        return status

    def close(self):
        self.end()
        if self.own:
            self.own.cleanup()

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    # --- clients
    def context(self, certificate=None):
        context = ssl.create_default_context(cadata=self.pem)
        if certificate:
            context.load_cert_chain(*certificate)
        return context

    def connect(self, certificate=None, context=None, session=None, source="127.0.0.1"):
        raw = socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return (context or self.context(certificate)).wrap_socket(raw, server_hostname="localhost", session=session)
        except Exception:
            raw.close()
            raise

    def client(self, certificate=None, token=None):
        return Client(self, certificate, token)

    def call(self, method, path, body=None, token=None, certificate=None, headers=None):
        with Client(self, certificate, token) as client:
            return client.call(method, path, body, headers)

    def admin(self, method, path, body=None):
        return self.call(method, path, body, self.token)

    def raw(self, data, certificate=None):
        """Sends bytes as they are; what comes back until the server closes, as text."""
        with self.connect(certificate) as connection:
            got = b""
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    got += piece
            except (ConnectionError, ssl.SSLError):
                pass
            return got.decode("utf-8", "replace")


class Client:
    """Keeps one connection."""

    def __init__(self, server, certificate=None, token=None):
        self.connection = http.client.HTTPSConnection("localhost", server.port, context=server.context(certificate),
                                                      timeout=PATIENCE)
        self.connection._create_connection = lambda *_, **__: socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        self.token = token

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def call(self, method, path, body=None, headers=None):
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", "Bearer " + self.token)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, body, sent)
        response = self.connection.getresponse()
        return check_answer(Answer(response.status, dict(response.getheaders()), response.read()))


def openssl(*arguments, data=b""):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def sized(data):
    return struct.pack(">H", len(data)) + data


def b64(data):
    return base64.b64encode(data).decode()


def kdfa(key, label, context, bits):
    """TPM 2.0 Part 1, 11.4.10.2, for at most one block of SHA-256."""
    data = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.new(key, data, hashlib.sha256).digest()[:bits // 8]


class Endpoint:
    """An endpoint whose TPM is an RSA key (EK) and a P-256 key (AK): enough to enroll, not to attest."""

    EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")

    def __init__(self, directory, name="endpoint"):
        self.directory, self.name = directory, name
        self.ek, self.ak, self.key = (self.path(one) for one in ("ek.pem", "ak.pem", "key.pem"))
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.ek)
        modulus = bytes.fromhex(openssl("rsa", "-in", self.ek, "-noout", "-modulus").decode().strip().split("=")[1])
        self.ek_public = (struct.pack(">HHI", 0x0001, 0x000B, 0x000300B2) + sized(self.EK_POLICY) +
                          struct.pack(">HHH", 0x0006, 128, 0x0043) + struct.pack(">HHI", 0x0010, 2048, 0) + sized(modulus))
        for path in (self.ak, self.key):
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
        point = openssl("pkey", "-in", self.ak, "-pubout", "-outform", "DER")[-64:]
        self.ak_public = (struct.pack(">HHI", 0x0023, 0x000B, 0x00050072) + sized(b"") +
                          struct.pack(">HHHHH", 0x0010, 0x0018, 0x000B, 0x0003, 0x0010) + sized(point[:32]) +
                          sized(point[32:]))
        self.ek_hash = hashlib.sha256(self.ek_public).hexdigest()

    def path(self, name):
        return os.path.join(self.directory, f"{self.name}-{name}")

    def csr(self):
        return openssl("req", "-new", "-key", self.key, "-subj", "/CN=endpoint").decode()

    def request(self, token=""):
        return {"hostname": self.name, "source": "tpm", "ek_certificate": "", "ek_chain": [],
                "ek_public": b64(self.ek_public), "ak_public": b64(self.ak_public), "csr": self.csr(), "token": token}

    def activate(self, challenge):
        """What TPM2_ActivateCredential gives (Part 1, 24)."""
        secret = base64.b64decode(challenge["secret"])[2:]
        blob = base64.b64decode(challenge["credential_blob"])[2:]
        seed = openssl("pkeyutl", "-decrypt", "-inkey", self.ek, "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt",
                       "rsa_oaep_md:sha256", "-pkeyopt", "rsa_oaep_label:" + b"IDENTITY\0".hex(), data=secret)
        name = b"\x00\x0b" + hashlib.sha256(self.ak_public).digest()
        size = struct.unpack(">H", blob[:2])[0]
        integrity, encrypted = blob[2:2 + size], blob[2 + size:]
        key = kdfa(seed, b"INTEGRITY", b"", 256)
        assert hmac.compare_digest(hmac.new(key, encrypted + name, hashlib.sha256).digest(), integrity)
        plain = openssl("enc", "-d", "-aes-128-cfb", "-K", kdfa(seed, b"STORAGE", name, 128).hex(), "-iv", "0" * 32,
                        data=encrypted)
        return plain[2:2 + struct.unpack(">H", plain[:2])[0]]

    def keep_certificate(self, pem, name="certificate.pem"):
        path = self.path(name)
        with open(path, "w", encoding="ascii") as file:
            file.write(pem)
        self.certificate = (path, self.key)
        return self.certificate

    def enroll(self, server, group="lab"):
        server.admin("PUT", "/v1/groups/" + group)
        begun = server.call("POST", "/v1/enrollments", self.request())
        assert begun.status == 201, begun.body
        path = "/v1/enrollments/" + begun.json()["id"]
        secret = b64(self.activate(begun.json()))
        waits = server.call("POST", path + "/activation", {"secret": secret})
        assert waits.status == 200 and waits.json()["state"] == "waiting", waits.body
        approved = server.admin("POST", path + "/approve", {"group": group})
        assert approved.status == 200, approved.body
        status = server.call("GET", path, headers={"Authorization": "Enrollment " + secret}).json()
        self.id = status["endpoint_id"]
        self.keep_certificate(status["certificate"])
        return self
