"""What the fleet's test is made of: software TPMs with certificates, databases, servers, agents, a webhook's receiver."""
import base64
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.parse

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import harness  # noqa: E402  (their place is known only now)
from quote import qualifying_data  # noqa: E402
from software_tpm import HostTpm, create_tpm_state  # noqa: E402
from waiting import PATIENCE, wait_until  # noqa: E402


def run(*command, check=True, **more):
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=PATIENCE, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def start(command, log, output=os.devnull, **more):
    with open(log, "a") as errors, open(output, "a") as said:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=errors, **more)


def as_der(pem_path):
    text = pathlib.Path(pem_path).read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN"):])


class Tpm:
    """A software TPM with endorsement certificates by the vendor whose CA is in the directory `ca`."""

    def __init__(self, directory, ca):
        self.directory = pathlib.Path(directory)
        state = self.directory / "state"
        create_tpm_state(state, banks=["sha256"], endorsement_key=False, vendor=ca)
        self.device = HostTpm(state).__enter__()

    @property
    def tcti(self):
        return self.device.tcti

    def tool(self, *command):
        return run(*command, env=self.device.environment, cwd=self.directory)

    def pcrs(self):
        """Values of PCRs 0-9 and 14, hex by number."""
        self.tool("tpm2_pcrread", "sha256:0,1,2,3,4,5,6,7", "-o", "low.bin")
        self.tool("tpm2_pcrread", "sha256:8,9,14", "-o", "high.bin")
        values = (self.directory / "low.bin").read_bytes() + (self.directory / "high.bin").read_bytes()
        return {pcr: values[32 * i:32 * i + 32].hex() for i, pcr in enumerate([*range(10), 14])}

    def extend(self, pcr, text):
        self.tool("tpm2_pcrextend", f"{pcr}:sha256={hashlib.sha256(text.encode()).hexdigest()}")

    def ek_hash(self, handle="0x81010001"):
        self.tool("tpm2_readpublic", "-c", handle, "-f", "tpmt", "-o", "ek.tpmt")
        return hashlib.sha256((self.directory / "ek.tpmt").read_bytes()).hexdigest()

    def stop(self):
        self.device.__exit__()


class Sqlite:
    kind = "sqlite"

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / "gatehouse.db"
        self.url = f"sqlite:{self.path}"

    def execute(self, sql):
        import sqlite3
        connection = sqlite3.connect(self.path, timeout=PATIENCE)
        with connection:
            connection.executescript(sql)
        connection.close()

    def break_audit(self):
        self.execute("DROP TRIGGER audit_no_update; UPDATE audit SET who = 'nobody' WHERE number = 2;")

    def stop(self):
        pass


class Postgresql:
    """A server of its own, on a socket in the directory, no network."""
    kind = "postgresql"

    def __init__(self, directory):
        self.directory = pathlib.Path(directory) / "postgresql"
        self.directory.mkdir()
        self.programs = max(pathlib.Path("/usr/lib/postgresql").iterdir(), key=lambda one: int(one.name)) / "bin"
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(self.directory, "postgres")
        run(*self.user, self.programs / "initdb", "-D", self.directory / "data", "-U", "gatehouse", "-A", "trust", "-E",
            "UTF8", "--locale=C", cwd="/")
        self.start()
        self.psql("CREATE DATABASE gatehouse", database="postgres")
        self.url = self.url_of("gatehouse")

    def start(self):
        """Also after kill(): it does not start while processes of before have not ended."""
        def run_it():
            # Not by runuser, which resumes who is stopped.
            as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if self.user else {}
            self.process = start(
                [self.programs / "postgres", "-D", self.directory / "data", "-k", self.directory,
                 "-c", "listen_addresses="], self.directory.parent / "postgresql.log", cwd="/", **as_user)

        def answers():
            if self.process.poll() is not None:
                run_it()
            return self.psql("SELECT 1", database="postgres", check=False).returncode == 0
        run_it()
        wait_until("PostgreSQL", answers)

    def signal(self, number):
        """To all of its processes."""
        main = self.process.pid
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(path.parent.name) == main or int(fields[1]) == main:
                os.kill(int(path.parent.name), number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait(timeout=PATIENCE)

    def url_of(self, database):
        return f"postgresql://gatehouse@/{database}?host={self.directory}"

    def psql(self, sql, database="gatehouse", check=True):
        return run(self.programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url_of(database),
                   check=check, cwd="/")

    def execute(self, sql):
        self.psql(sql)

    def break_audit(self):
        self.execute("ALTER TABLE audit DISABLE TRIGGER ALL; UPDATE audit SET who = 'nobody' WHERE number = 2;")

    def copy(self, name):
        dump = run(self.programs / "pg_dump", self.url, cwd="/").stdout
        self.psql(f"CREATE DATABASE {name}", database="postgres")
        run(self.programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url_of(name), input=dump, cwd="/")
        return self.url_of(name)

    def stop(self):
        pid = int((self.directory / "data/postmaster.pid").read_text().split()[0])
        os.kill(pid, 2)  # fast shutdown
        self.process.wait(timeout=PATIENCE)


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status = status
        try:
            self.code = json.loads(body)["error"]["code"]
            self.message = json.loads(body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            self.code = self.message = ""


class Rest:
    """The REST interface, over verified TLS 1.3: with a token, a client certificate, or nothing."""

    def __init__(self, place, ca, token="", identity=None):
        self.place, self.token = place, token
        self.context = ssl.create_default_context(cafile=ca)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        if identity:
            self.context.load_cert_chain(identity)

    def ask(self, method, path, body=None, content_type="application/json", accept=None):
        """The answer, as what it is; with `accept`, its bytes."""
        host, port = self.place.rsplit(":", 1)
        connection = http.client.HTTPSConnection(host, int(port), context=self.context, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = content_type
            body = body if isinstance(body, str) else json.dumps(body)
        if accept:
            headers["Accept"] = accept
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if accept and answer.status < 300:
            return content
        text = content.decode()
        if answer.status >= 300:
            raise Refused(answer.status, text)
        return json.loads(text) if answer.getheader("Content-Type", "").startswith("application/json") else text

    def get(self, path):
        return self.ask("GET", path)

    def put(self, path, body):
        return self.ask("PUT", path, body)

    def post(self, path, body):
        return self.ask("POST", path, body)


class Pages:
    """A browser: the web page over verified TLS 1.3, with cookies and, if given, a client certificate."""

    def __init__(self, server, identity=None):
        self.rest = server.rest(identity=identity)
        self.cookies = {}
        self.text = ""

    def ask(self, method, path, body=None):
        host, port = self.rest.place.rsplit(":", 1)
        connection = http.client.HTTPSConnection(host, int(port), context=self.rest.context, timeout=PATIENCE)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                self.cookies.update([value.split(";")[0].split("=", 1)])
        self.text = answer.read().decode()
        connection.close()
        return answer.status, self.text

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, form):
        """With the anti-forgery token of the page that was shown last; of the log-in page for /log-in."""
        if path == "/log-in":
            self.get(path)
        csrf = self.text.split('name="csrf" value="')[1].split('"')[0]
        return self.ask("POST", path, urllib.parse.urlencode({**form, "csrf": csrf}))


class Server(harness.Server):
    """With the limits that it comes with."""

    def __init__(self, build, directory, database_url):
        super().__init__(build / "bin/attestation-server", config="", directory=directory, database=database_url,
                         started=False)

    def rest(self, token="", identity=None):
        return Rest(self.place, self.ca, token, identity)

    def stop(self, kill=False):
        self.end(signal.SIGKILL if kill else signal.SIGTERM)


class Agent:
    """attestation-agent on a machine with this TPM, configured by a file."""

    def __init__(self, build, directory, tpm, server, hostname):
        self.program = build / "bin/attestation-agent"
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.tpm = tpm
        self.state = self.directory / "state"
        self.hostname = hostname
        self.configure(server)

    def configure(self, server, ca=None):
        self.config = self.directory / "agent.toml"
        self.config.write_text(f'server = "{server.url}"\nca_file = "{ca or server.ca}"\nstate = "{self.state}"\n'
                               f'source = "{self.tpm.tcti}"\nhostname = "{self.hostname}"\n')

    def __call__(self, command, *options, status=0):
        done = run(self.program, command, "--config", self.config, *options, check=False)
        if done.returncode != status:
            raise AssertionError(f"{self.hostname}: {command}: status {done.returncode}, not {status}\n"
                                 f"{done.stdout}{done.stderr}")
        return json.loads(done.stdout) if "--json" in options else done.stdout + done.stderr

    @property
    def endpoint(self):
        return self("status", "--json", status=self.last_status())["endpoint_id"]

    def last_status(self):
        return run(self.program, "status", "--config", self.config, check=False).returncode

    @property
    def identity(self):
        return self.state / "identity.pem"

    def daemon(self):
        return start([self.program, "run", "--config", self.config], self.directory / "journal")

    def attestation_key(self):
        """The agent's key, for tpm2-tools: what the agent sends can be made by stock tools."""
        blob = (self.state / "ak.blob").read_bytes()
        size = 2 + int.from_bytes(blob[:2], "big")
        (self.tpm.directory / "ak.pub").write_bytes(blob[:size])
        (self.tpm.directory / "ak.priv").write_bytes(blob[size:])
        self.tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc256:aes128cfb", "-a",
                      "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt", "-c", "srk.ctx")
        self.tpm.tool("tpm2_flushcontext", "-t")
        self.tpm.tool("tpm2_load", "-C", "srk.ctx", "-u", "ak.pub", "-r", "ak.priv", "-c", "ak.ctx")
        self.tpm.tool("tpm2_flushcontext", "-t")

    def evidence(self, nonce):
        """Evidence by tpm2_quote."""
        self.attestation_key()
        self.tpm.tool("tpm2_quote", "-c", "ak.ctx", "-l", "sha256:0,1,2,3,4,5,6,7,8,9,14", "-g", "sha256",
                      "-q", qualifying_data(nonce, b""), "-m", "quote.msg", "-s", "quote.sig")
        self.tpm.tool("tpm2_flushcontext", "-t")
        parts = {"quote": (self.tpm.directory / "quote.msg").read_bytes(),
                 "signature": (self.tpm.directory / "quote.sig").read_bytes(),
                 "pcr_values": b"".join(bytes.fromhex(value) for value in self.tpm.pcrs().values()),
                 "claims": b"", "event_log": b"", "nonce": nonce}
        return {"source": "tpm", **{name: base64.b64encode(value).decode() for name, value in parts.items()}}


class Authority:
    """Who signs policies: a P-256 key, and JWS by openssl(1)."""

    def __init__(self, directory):
        self.key = pathlib.Path(directory) / "authority.pem"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
        self.public = run("openssl", "ec", "-in", self.key, "-pubout").stdout

    def sign(self, policy):
        text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
                        for part in ({"alg": "ES256", "typ": "gatehouse-policy+jws"}, policy))
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), check=True,
                             capture_output=True).stdout
        return text + "." + base64.urlsafe_b64encode(raw_signature(der)).decode().rstrip("=")


def raw_signature(der):
    """r || s of an ECDSA signature in DER."""
    at, parts = 2, []
    for _ in range(2):
        size = der[at + 1]
        parts.append(der[at + 2:at + 2 + size].lstrip(b"\0").rjust(32, b"\0"))
        at += 2 + size
    return b"".join(parts)


def der_signature(raw):
    def integer(part):
        part = part.lstrip(b"\0") or b"\0"
        part = b"\0" + part if part[0] & 0x80 else part
        return bytes([2, len(part)]) + part
    body = integer(raw[:32]) + integer(raw[32:])
    return bytes([0x30, len(body)]) + body


def verified_payload(jws, public_key, directory):
    """The payload of a JWS that openssl(1) finds good."""
    head, payload, signature = jws.split(".")

    def decode(part):
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    key, text, mark = (pathlib.Path(directory) / name for name in ("result.pub", "result.txt", "result.sig"))
    key.write_text(public_key)
    text.write_text(f"{head}.{payload}")
    mark.write_bytes(der_signature(decode(signature)))
    run("openssl", "dgst", "-sha256", "-verify", key, "-signature", mark, text)
    return json.loads(decode(payload))


class Receiver:
    """A webhook's receiver that refuses its first delivery."""

    def __init__(self, secret):
        receiver = self
        self.events, self.refused, self.faults = [], [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fields = dict(part.split("=", 1) for part in self.headers["Gatehouse-Signature"].split(","))
                expected = hmac.new(secret.encode(), fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
                if not hmac.compare_digest(expected, fields["v1"]):
                    receiver.faults.append("wrong signature")
                number = self.headers["Gatehouse-Delivery"]
                if not receiver.refused:
                    receiver.refused.append(number)
                    self.send_response(500)
                else:
                    receiver.events.append((number, json.loads(body)))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def tls_refusal(place, ca, **versions):
    """Why a handshake fails; empty if it does not."""
    context = ssl.create_default_context(cafile=ca)
    for name, value in versions.items():
        setattr(context, name, value)
    host, port = place.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                return ""
    except ssl.SSLError as error:
        return str(error)


def temporary_directory():
    return tempfile.TemporaryDirectory(prefix="gatehouse-fleet-", ignore_cleanup_errors=True)
