"""attestation-server as its clients see it: TLS, HTTP, roles, limits of size, the tools on the same data."""

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

import harness
from harness import Endpoint, Server

PROGRAM = ""
ENDPOINT_ROUTES = [("POST", "/v1/attestations/nonce"), ("POST", "/v1/attestations"), ("GET", "/v1/attestations/wanted"),
                   ("POST", "/v1/certificate"), ("PUT", "/v1/escrow")]
GET = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n"


def status_of(text):
    found = re.match(r"HTTP/1\.1 (\d{3}) ", text)
    return int(found.group(1)) if found else 0


class Rest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="gatehouse-rest-")
        cls.server = Server(PROGRAM)
        cls.endpoint = Endpoint(cls.directory.name).enroll(cls.server)
        cls.tokens = {"admin": cls.server.token}
        for role in ("read-only", "operator"):
            answer = cls.server.admin("POST", "/v1/tokens", {"name": "test-" + role, "role": role})
            assert answer.status == 201, answer.body
            cls.tokens[role] = answer.json()["token"]

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.directory.cleanup()

    # --- TLS and client certificates

    def test_refuses_tls_1_2(self):
        context = self.server.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises(ssl.SSLError):
            self.server.connect(context=context)
        with self.server.connect() as connection:
            self.assertEqual(connection.version(), "TLSv1.3")

    def test_endpoint_routes_need_a_certificate(self):
        for method, path in ENDPOINT_ROUTES:
            with self.subTest(path=path):
                answer = self.server.call(method, path, {} if method != "GET" else None)
                self.assertEqual((answer.status, answer.code()), (401, "no_certificate"))
                answer = self.server.call(method, path, {} if method != "GET" else None, token=self.server.token)
                self.assertEqual(answer.status, 401, "an operator's token is no endpoint's certificate")
        answer = self.server.call("POST", "/v1/attestations/nonce", {}, certificate=self.endpoint.certificate)
        self.assertEqual(answer.status, 200)
        self.assertEqual(len(base64.b64decode(answer.json()["nonce"])), 32)

    def test_refuses_a_certificate_of_another_ca(self):
        path = os.path.join(self.directory.name, "other.pem")
        harness.openssl("req", "-x509", "-new", "-key", self.endpoint.key, "-subj", "/CN=" + self.endpoint.id, "-days",
                        "1", "-addext", "extendedKeyUsage=clientAuth", "-out", path)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            with self.server.connect((path, self.endpoint.key)) as connection:
                connection.sendall(GET.format("/healthz", "").encode())
                if not connection.recv(1):
                    raise ConnectionError("closed")

    def test_refuses_a_superseded_certificate_on_an_open_connection_too(self):
        endpoint = Endpoint(self.directory.name, "renewing").enroll(self.server)
        old = endpoint.certificate
        with self.server.client(old) as client:
            answer = client.call("POST", "/v1/certificate", {"csr": endpoint.csr()})
            self.assertEqual(answer.status, 200, answer.body)
            new = endpoint.keep_certificate(answer.json()["certificate"], "new.pem")
            answer = self.server.call("POST", "/v1/attestations/nonce", {}, certificate=new)
            self.assertEqual(answer.status, 200, answer.body)
            answer = client.call("POST", "/v1/attestations/nonce", {})
            self.assertEqual((answer.status, answer.code()), (401, "certificate_refused"))

    def test_a_retired_endpoint_is_shut_out(self):
        endpoint = Endpoint(self.directory.name, "retiring").enroll(self.server)
        answer = self.server.admin("POST", f"/v1/endpoints/{endpoint.id}/retire", {"reason": "sold"})
        self.assertEqual(answer.status, 204, answer.body)
        answer = self.server.call("POST", "/v1/attestations/nonce", {}, certificate=endpoint.certificate)
        self.assertEqual((answer.status, answer.code()), (401, "retired"))

    # --- roles

    def operator_routes(self):
        document = self.server.call("GET", "/v1/openapi.json").json()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["x-access"] in ("read-only", "operator", "admin"):
                    yield method.upper(), re.sub(r"{version}", "1", re.sub(r"{(?!version)\w+}", "none", path)), operation

    def test_each_operator_route_by_each_role(self):
        ranks = ["read-only", "operator", "admin"]
        clients = {role: self.server.client(token=token) for role, token in self.tokens.items()}
        checked = 0
        for method, path, operation in self.operator_routes():
            content = operation.get("requestBody", {}).get("content", {"": None})
            kind = next(iter(content))
            body = None if not kind else "x" if kind == "application/jose" else "{}"
            headers = {"Content-Type": kind} if kind else {}
            least = ranks.index(operation["x-access"])
            with self.subTest(operation=operation["operationId"]):
                answer = self.server.call(method, path, body, headers=headers)
                self.assertEqual((answer.status, answer.code()), (401, "no_token"))
                answer = self.server.call(method, path, body, certificate=self.endpoint.certificate, headers=headers)
                self.assertEqual(answer.status, 401, "an endpoint is no operator")
                for rank, role in enumerate(ranks):
                    answer = clients[role].call(method, path, body, headers)
                    if rank < least:
                        self.assertEqual((role, answer.status), (role, 403))
                    else:
                        self.assertNotIn(answer.status, (401, 403, 404 if "none" not in path else 0, 405, 415, 500),
                                         (role, answer.body))
                    checked += 1
        self.assertGreaterEqual(checked, 35 * 3)
        for client in clients.values():
            client.connection.close()

    def test_refused_tokens_are_written_down(self):
        for token in ("gh_unknown", "nonsense", "gh_" + "a" * 500, "gh_\u00e9"):
            answer = self.server.call("GET", "/v1/counts", headers={"Authorization": f"Bearer {token}".encode("latin-1")})
            self.assertEqual(answer.status, 401)
            self.assertIn("WWW-Authenticate", answer.headers)
        entries = self.server.admin("GET", "/v1/audit?limit=500").json()["items"]
        self.assertIn(("token.refused", "/v1/counts"), [(one["action"], one["subject"]) for one in entries])

    # --- the tools on the same data, while the server runs

    def test_tokens_by_the_command_line_work_at_once(self):
        token = self.server.command("token", "create", "console-made", "--role", "operator").strip()
        self.assertEqual(self.server.call("PUT", "/v1/groups/by-console", token=token).status, 204)
        self.assertIn("console-made", self.server.command("token", "list"))
        self.assertNotIn(token, self.server.command("token", "list", "--json"))
        self.server.command("token", "revoke", "console-made")
        self.assertEqual(self.server.call("GET", "/v1/counts", token=token).status, 401)
        self.server.command("token", "create", "x", "--role", "god", status=2)

    def test_audit_by_rest_and_by_command(self):
        answer = self.server.admin("GET", "/v1/audit/export")
        self.assertEqual(answer.headers["Content-Type"], "application/x-ndjson")
        self.assertEqual(answer.headers.get("Transfer-Encoding"), "chunked")
        lines = answer.body.decode().splitlines()
        exported = self.server.command("audit", "export").splitlines()
        self.assertEqual(lines, exported[:len(lines)])
        numbers = [json.loads(line)["number"] for line in lines]
        self.assertEqual(numbers, list(range(1, len(lines) + 1)))
        self.assertIn("good", self.server.command("audit", "verify"))
        self.assertTrue(self.server.admin("GET", "/v1/audit/verify").json()["ok"])

    def test_openapi_by_rest_and_by_command(self):
        answer = self.server.call("GET", "/v1/openapi.json")
        self.assertEqual(answer.body.decode(), self.server.command("openapi"))
        again = self.server.call("GET", "/v1/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
        self.assertEqual((again.status, again.body), (304, b""))
        self.assertEqual(self.server.call("GET", "/v1/ca").body.decode(), self.server.command("ca"))

    def test_console_makes_no_server_where_there_is_none(self):
        with tempfile.TemporaryDirectory(prefix="gatehouse-none-") as directory:
            data = os.path.join(directory, "data")
            for arguments in (["import-vendors", directory, "--dry-run"], ["import-vendors", directory], ["token", "list"],
                              ["ca"], ["audit", "verify"], ["backup", os.path.join(directory, "copy")]):
                done = subprocess.run([self.server.program, *arguments, "--data", data], capture_output=True, text=True,
                                      check=False)
                self.assertEqual(done.returncode, 2, done)
                self.assertIn("--data", done.stderr)
                self.assertIn(data, done.stderr)
                self.assertEqual(os.listdir(directory), [])
        # A dry run of a server that is there leaves its vendors as they are.
        before = self.server.admin("GET", "/v1/vendors").json()
        with tempfile.TemporaryDirectory(prefix="gatehouse-collection-") as directory:
            os.mkdir(os.path.join(directory, "Dry"))
            with open(os.path.join(directory, "Dry", "ca.pem"), "w", encoding="ascii") as file:
                file.write(self.server.pem)
            said = self.server.command("import-vendors", directory, "--dry-run")
        self.assertIn("nothing was written", said)
        self.assertEqual(self.server.admin("GET", "/v1/vendors").json(), before)

    # --- operators' daily work

    def test_an_enrollment_waits_for_an_operator(self):
        endpoint = Endpoint(self.directory.name, "waiting<b>")
        endpoint.directory, endpoint.name = endpoint.directory, "waiting<b>"
        challenge = self.server.call("POST", "/v1/enrollments", endpoint.request()).json()
        path = f"/v1/enrollments/{challenge['id']}"
        secret = endpoint.activate(challenge)
        status = self.server.call("POST", path + "/activation", {"secret": harness.b64(secret)}).json()
        self.assertEqual(status["state"], "waiting")
        waiting = self.server.call("GET", "/v1/enrollments?state=waiting", token=self.tokens["read-only"]).json()
        self.assertIn(challenge["id"], [one["id"] for one in waiting["items"]])
        self.assertEqual(self.server.admin("POST", path + "/approve", {"group": "lab"}).status, 200)
        for secret, status in ((bytes(32), (401, 403)), (b"x", (400, 401, 403)), (secret, (200,))):
            answer = self.server.call("GET", path, headers={"Authorization": "Enrollment " + harness.b64(secret)})
            self.assertIn(answer.status, status, answer.body)
        self.assertEqual(answer.json()["state"], "approved")
        self.assertIn("BEGIN CERTIFICATE", answer.json()["certificate"])

    def test_escrow_comes_back_to_an_admin_only(self):
        answer = self.server.call("PUT", "/v1/escrow", {"name": "recovery", "blob": harness.b64(b"opaque" * 1000)},
                                  certificate=self.endpoint.certificate)
        self.assertEqual(answer.status, 204, answer.body)
        path = f"/v1/endpoints/{self.endpoint.id}/escrow"
        self.assertEqual(self.server.admin("GET", path).json()["names"], ["recovery"])
        self.assertEqual(self.server.call("GET", path + "/recovery", token=self.tokens["operator"]).status, 403)
        blob = self.server.admin("GET", path + "/recovery").json()["blob"]
        self.assertEqual(base64.b64decode(blob), b"opaque" * 1000)
        self.assertEqual(self.server.call("DELETE", path + "/recovery", token=self.tokens["operator"]).status, 403)
        self.assertEqual(self.server.admin("DELETE", path + "/recovery").status, 204)
        self.assertEqual(self.server.admin("GET", path).json()["names"], [])

    def test_a_wish_for_evidence_reaches_the_endpoint(self):
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(
            self.server.call("GET", "/v1/attestations/wanted", certificate=self.endpoint.certificate)))
        waiting.start()
        wish = self.server.admin("POST", f"/v1/endpoints/{self.endpoint.id}/attest-now")
        self.assertEqual(wish.status, 202)
        waiting.join(harness.PATIENCE)
        self.assertEqual(answers[0].json(), {"attest": True})

    def test_lists_of_the_fleet(self):
        page = self.server.admin("GET", "/v1/endpoints?limit=1&search=" + self.endpoint.id).json()
        self.assertEqual([one["id"] for one in page["items"]], [self.endpoint.id])
        moved = self.server.admin("PUT", "/v1/groups/other").status, self.server.admin(
            "PATCH", "/v1/endpoints/" + self.endpoint.id, {"group": "other"}).json()["group"]
        self.assertEqual(moved, (204, "other"))
        self.assertEqual(self.server.admin("GET", f"/v1/endpoints/{self.endpoint.id}/attestations/last").code(),
                         "no_attestation")
        self.assertGreaterEqual(self.server.admin("GET", "/v1/counts").json()["new"], 1)

    def test_results_by_profile(self):
        path = f"/v1/endpoints/{self.endpoint.id}/attestations/last"
        for accept, code in (('application/eat+jwt; eat_profile="tag:ietf.org,2026:rats/ear#03"', "no_attestation"),
                             ('application/eat+jwt; eat_profile="tag:example.com,2026:x"', "not_acceptable"),
                             ("nonsense", "bad_accept")):
            answer = self.server.call("GET", path, token=self.server.token, headers={"Accept": accept})
            self.assertEqual(answer.code(), code)
        keys = self.server.call("GET", "/.well-known/jwks.json").json()["keys"]
        self.assertEqual({one["alg"] for one in keys}, {"ES256"})

    def test_metrics(self):
        text = self.server.call("GET", "/metrics").body.decode()
        for name in ("gatehouse_http_requests_total{route=\"enroll\",status=\"201\"}", "gatehouse_database_up 1",
                     "gatehouse_connections ", "gatehouse_http_request_duration_seconds_bucket",
                     "gatehouse_endpoints{state=\"new\"}", "gatehouse_queue_length "):
            self.assertIn(name, text)

    # --- requests that are not as they should be

    def test_methods(self):
        head = self.server.call("HEAD", "/v1/ca")
        get = self.server.call("GET", "/v1/ca")
        self.assertEqual((head.status, head.body, head.headers["Content-Length"]), (200, b"", str(len(get.body))))
        options = self.server.call("OPTIONS", "/v1/endpoints/x")
        self.assertEqual((options.status, options.headers["Allow"]), (204, "GET, HEAD, PATCH, OPTIONS"))
        for method in ("TRACE", "DELETE", "FOO", "CONNECT"):
            answer = self.server.call(method, "/v1/ca")
            self.assertEqual((method, answer.status, answer.headers["Allow"]), (method, 405, "GET, HEAD, OPTIONS"))
        self.assertEqual(self.server.call("DELETE", "/").status, 405)
        self.assertEqual(self.server.call("GET", "/v1/nothing").status, 404)

    def test_targets(self):
        for target in ("/v1/../healthz", "/v1/%2e%2e/healthz", "//v1/ca", "/v1//ca", "/v1%2fca", "/v1/ca/", "/v1/%00",
                       "https://localhost/v1/ca", "*", "/v1/ca#", "/v1/%zz", "/v1/groups/%ff", "/v1\\ca", "/v1/ca?x=1",
                       "/v1/ca?", "/../../etc/passwd", "/..%2f..%2fetc/passwd"):
            with self.subTest(target=target):
                text = self.server.raw(GET.format(target, "").encode())
                self.assertEqual(status_of(text), 200 if target == "/v1/ca?" else 400, text[:200])

    def test_smuggling(self):
        tail = "\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        post = "POST /v1/enrollments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for fields, status in (("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
                               ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 400),
                               ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n", 400),
                               ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n", 501),
                               ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n", 400),
                               ("X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", 400),
                               ("X: a\nContent-Length: 2\r\n\r\n{}", 400),
                               ("Content-Length : 2\r\n\r\n{}", 400),
                               ("Content-Length: 2,2\r\n\r\n{}", 400),
                               ("Host: other\r\nContent-Length: 2\r\n\r\n{}", 400)):
            with self.subTest(fields=fields):
                text = self.server.raw((post + fields + tail).encode())
                self.assertEqual(status_of(text), status, text[:300])
                self.assertEqual(text.count("HTTP/1.1 "), 1, "what follows a malformed request is not one")
        for host in ("a b", "a/b", "user@localhost", "<script>", "localhost:99999999", ""):
            text = self.server.raw(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            self.assertEqual((host, status_of(text)), (host, 400))
            self.assertNotIn("<script>", text)

    def test_pipelined_requests_are_answered_in_order(self):
        data = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in ("/healthz", "/v1/nothing", "/v1/ca"))
        text = self.server.raw((data + GET.format("/healthz", "")).encode())
        self.assertEqual(re.findall(r"HTTP/1\.1 (\d+)", text), ["200", "404", "200", "200"])

    def test_bodies_in_chunks_and_after_a_pause(self):
        head = (f"PUT /v1/groups/chunks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.server.token}\r\n"
                "Content-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n")
        text = self.server.raw((head + "\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n").encode())
        self.assertEqual(status_of(text), 204, text)
        with self.server.connect() as connection:
            connection.sendall((head + "Expect: 100-continue\r\n\r\n").encode())
            self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 100 "))
            connection.sendall(b"2\r\n{}\r\n0\r\n\r\n")
            self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 204 "))

    def test_limits_of_size(self):
        text = self.server.raw(GET.format("/healthz", "X: " + "a" * 17000 + "\r\n").encode())
        self.assertEqual(status_of(text), 431)
        text = self.server.raw(GET.format("/" + "a" * 17000, "").encode())
        self.assertEqual(status_of(text), 431)
        text = self.server.raw(GET.format("/healthz", "X: a\r\n" * 100).encode())
        self.assertEqual(status_of(text), 431)
        big = b"{" + b" " * (2 << 20) + b"}"
        self.assertEqual(self.server.call("POST", "/v1/enrollments", big, headers={"Content-Type": "application/json"})
                         .status, 413)
        just = b"{" + b" " * ((2 << 20) - 2) + b"}"
        self.assertEqual(self.server.call("POST", "/v1/enrollments", just, headers={"Content-Type": "application/json"})
                         .status, 400)
        small = b"{" + b" " * (20 << 10) + b"}"
        self.assertEqual(self.server.call("POST", "/v1/tokens", small, self.server.token,
                                          headers={"Content-Type": "application/json"}).status, 413)
        self.assertEqual(self.server.call("GET", "/healthz", b"body").status, 413)
        chunks = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        head = b"POST /v1/enrollments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        text = self.server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks * 70)
        self.assertEqual(status_of(text), 413)

    def test_json_bombs_and_other_bodies(self):
        deep = b'{"a":' + b"[" * 900000 + b"]" * 900000 + b"}"
        bodies = [deep, b"[" * 1000, b'{"a":' * 1000, b"[]", b"null", b'"x"', b"{", b'{"hostname":1e999999}', b"\xff\xfe",
                  b'{"hostname":"\xff"}', b"{}" * 2, b'{"ek_chain":[' + b'"",' * 100000 + b'""]}']
        for body in bodies:
            with self.subTest(body=body[:20]):
                answer = self.server.call("POST", "/v1/enrollments", body, headers={"Content-Type": "application/json"})
                self.assertEqual(answer.status, 400, answer.body)
        for body in (b'{"group":"a","group":"b"}', b'{"group":"a","x":1}', b'{"group":1}', b'{"group":null}', b"{}",
                     b'{"group":"' + b"a" * 9000 + b'"}', b'{"lifetime_s":-1,"group":"lab"}', b'{"lifetime_s":1.5,"group":"lab"}'):
            answer = self.server.call("POST", "/v1/enrollment-tokens", body, self.server.token,
                                      headers={"Content-Type": "application/json"})
            self.assertEqual(answer.status, 400, body)

    def test_content_types_and_queries(self):
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1",
                     "application/jsonx"):
            headers = {"Content-Type": kind} if kind else {}
            answer = self.server.call("POST", "/v1/enrollments", b"{}", headers=headers)
            self.assertEqual((kind, answer.status), (kind, 415))
        answer = self.server.call("POST", "/v1/enrollments", b"{}",
                                  headers={"Content-Type": "Application/JSON; charset=UTF-8"})
        self.assertEqual(answer.status, 400)
        answer = self.server.call("POST", "/v1/enrollments", b"{}",
                                  headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
        self.assertEqual(answer.status, 415)
        for query in ("limit=0", "limit=501", "limit=x", "limit=5&limit=6", "state=green", "unknown=1", "limit=-1"):
            answer = self.server.admin("GET", "/v1/endpoints?" + query)
            self.assertEqual((query, answer.status), (query, 400))

    def test_the_web_page_takes_the_other_paths(self):
        answer = self.server.call("GET", "/")
        self.assertLess(answer.status, 500)
        self.assertNotIn("application/json", answer.headers.get("Content-Type", ""))
        self.assertEqual(self.server.call("POST", "/log-in", b"{}", headers={"Content-Type": "application/json"}).status, 415)


if __name__ == "__main__":
    if "--sanitized" in sys.argv:
        sys.argv.remove("--sanitized")
    PROGRAM = sys.argv.pop(1)
    harness.raise_descriptor_limit()
    unittest.main(verbosity=2)
