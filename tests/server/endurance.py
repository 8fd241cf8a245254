"""attestation-server under clients that are slow, many, greedy or cut off, and at its own end."""

import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import harness
from harness import PATIENCE, Endpoint, Server
from waiting import wait_until

PROGRAM = ""
IDLE = 10000


def short(*limits):
    """The settings of a server of which only these time limits are short: no other ends a connection, however busy the
    machine is."""
    text = harness.OPEN_LIMITS + harness.LONG_TIMEOUTS
    for name in limits:
        assert f"\n{name} = 900.0\n" in text, name
        text = text.replace(f"\n{name} = 900.0\n", f"\n{name} = 1.0\n")
    return text


def read_to_end(connection):
    got = b""
    try:
        while piece := connection.recv(65536):
            got += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return got


def is_open(connection):
    """Whether the server has neither said anything nor closed."""
    connection.settimeout(0)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except (ConnectionError, ssl.SSLError):
        pass
    return False


def begin_handshakes(server, count=300):
    """Connections that never begin, or never end, the handshake."""
    crowd = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(count)]
    for connection in crowd[::2]:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    return crowd


def begin_requests(connect, count=150):
    """Connections that never end their request's head, or its body."""
    crowd = []
    for i in range(count):
        crowd.append(connect())
        crowd[-1].sendall((b"GET / HTTP/1.1\r\nX: ", b"POST /v1/enrollments HTTP/1.1\r\nHost: a\r\n"
                           b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n")[i % 2])
    return crowd


def begin(start):
    """Of a server: a connection to it that begins with these bytes."""
    def connect(server):
        connection = server.connect()
        connection.sendall(start)
        return connection
    return connect


def trickle(piece):
    """Of a connection: sends this every 0.2 s for ever; what the server says when it has had enough."""
    def send(connection):
        connection.settimeout(0.2)
        end, got = time.monotonic() + PATIENCE, None
        while got is None:
            assert time.monotonic() < end, "the server waits for ever"
            try:
                got = connection.recv(65536)
            except TimeoutError:
                try:
                    connection.sendall(piece)
                except (ConnectionError, ssl.SSLError):
                    got = b""  # what it said before it closed is still to be read
        connection.settimeout(PATIENCE)
        return got + read_to_end(connection)
    return send


class Slow(unittest.TestCase):
    """What a short limit ends is also open to a server with long limits, from before: there it must outlast it, for
    otherwise it was not the limit that was set."""

    @classmethod
    def setUpClass(cls):
        cls.patient = Server(PROGRAM)

    @classmethod
    def tearDownClass(cls):
        cls.patient.close()

    def assert_cut_off(self, limit, connect, see_off, said):
        """`see_off` gets what begins with `said` from what `connect` opens to a server where this limit is short."""
        server = Server(PROGRAM, short(limit))
        self.addCleanup(server.close)
        with connect(self.patient) as outlasting:
            for _ in range(2):  # one would not do: when a server looks for who is late is up to it
                with connect(server) as connection:
                    got = see_off(connection)
                self.assertTrue(got.startswith(said) if said else got == b"", got)
            self.assertTrue(is_open(outlasting), "it was another limit")

    def test_a_header_that_trickles_is_cut_off(self):
        start = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "
        self.assert_cut_off("head", begin(start), trickle(b"a"), b"HTTP/1.1 408 ")

    def test_a_body_that_trickles_is_cut_off(self):
        head = b"POST /v1/enrollments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for rest, piece in ((b"Content-Length: 1000\r\n\r\n{", b" "),
                            (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")):
            self.assert_cut_off("body", begin(head + rest), trickle(piece), b"HTTP/1.1 408 ")

    def test_an_idle_connection_ends_without_a_word(self):
        self.assert_cut_off("idle", Server.connect, read_to_end, b"")

    def test_a_handshake_that_is_not_ended_is_cut_off(self):
        self.assert_cut_off("handshake", lambda server: begin_handshakes(server, 1)[0], read_to_end, b"")

    def test_each_handshake_of_a_crowd_is_cut_off(self):
        server = Server(PROGRAM, short("handshake"))
        self.addCleanup(server.close)
        for connection in begin_handshakes(server):
            with connection:
                read_to_end(connection)  # the server ends it, however long we are willing to wait

    def test_each_request_of_a_crowd_is_cut_off(self):
        server = Server(PROGRAM, short("head", "body"))
        self.addCleanup(server.close)
        context = server.context()
        crowd = begin_requests(lambda: server.connect(context=context))
        for connection in crowd:
            with connection:
                got = read_to_end(connection)
                self.assertTrue(got.startswith(b"HTTP/1.1 408 "), got)

        def count(name):
            return int(re.search(rf"{name} (\d+)", server.call("GET", "/metrics").body.decode()).group(1))
        wait_until("the count of who was cut off", lambda: count("gatehouse_connections_timed_out_total") >= len(crowd))
        wait_until("the connections' end", lambda: count("gatehouse_connections") < 10)


class Crowd(unittest.TestCase):
    def test_slowloris_does_not_keep_others_out(self):
        server = Server(PROGRAM)  # whose limits are long: nothing thins the crowd while we look
        self.addCleanup(server.close)
        context = server.context()
        crowd = begin_handshakes(server) + begin_requests(lambda: server.connect(context=context))
        for connection in crowd:
            self.addCleanup(connection.close)
        for _ in range(20):
            self.assertEqual(server.call("GET", "/healthz").status, 200)
        self.assertTrue(all(is_open(connection) for connection in crowd), "the crowd was there all the time")

    def test_idle_connections_cost_little(self):
        count = min(IDLE, harness.raise_descriptor_limit() - 500)
        server = Server(PROGRAM)
        self.addCleanup(server.close)
        server.call("GET", "/healthz")
        before = server.memory()
        context = server.context()
        crowd, session = [], None
        began = time.monotonic()
        for i in range(count):
            connection = server.connect(context=context, session=session)
            if session is None:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                connection.recv(65536)
                session = connection.session
            crowd.append(connection)
        took = time.monotonic() - began
        for _ in range(10):
            self.assertEqual(server.call("GET", "/healthz").status, 200)
        each = (server.memory() - before) / count
        metrics = server.call("GET", "/metrics").body.decode()
        self.assertGreaterEqual(int(re.search(r"gatehouse_connections (\d+)", metrics).group(1)), count)
        print(f"{count} idle TLS connections in {took:.1f} s: {each / 1024:.1f} KiB each,"
              f" {server.memory() / 2**20:.0f} MiB in all", file=sys.stderr)
        crowd[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(crowd[-1].recv(65536).startswith(b"HTTP/1.1 200 "), "an idle connection is still good")
        for connection in crowd:
            connection.close()
        if not SANITIZED:
            self.assertLess(each, 64 << 10)

    def test_at_its_limit_the_longest_idle_makes_room(self):
        server = Server(PROGRAM, harness.OPEN_LIMITS + "max_connections = 20\n" + harness.LONG_TIMEOUTS)
        self.addCleanup(server.close)
        context = server.context()
        crowd = [server.connect(context=context) for _ in range(40)]
        self.assertEqual(server.call("GET", "/healthz").status, 200)
        for connection in crowd:
            connection.close()


    def test_a_peer_that_takes_all_connections_gets_in_its_own_way_only(self):
        server = Server(PROGRAM, harness.OPEN_LIMITS + "max_connections = 20\n" + harness.LONG_TIMEOUTS)
        self.addCleanup(server.close)
        context = server.context()
        other = server.connect(context=context, source="127.0.0.2")
        crowd = []
        for _ in range(40):
            try:
                crowd.append(server.connect(context=context))
                crowd[-1].sendall(b"GET / HTTP/1.1\r\n")  # and no more: it is not idle
            except (ConnectionError, ssl.SSLError):
                pass
        late = server.connect(context=context, source="127.0.0.3")
        for connection in (other, late):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertTrue(connection.recv(65536).startswith(b"HTTP/1.1 200 "))
        for connection in [other, late] + crowd:
            connection.close()


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="gatehouse-limits-")
        # Nothing is given back while the test runs, however long that takes.
        cls.server = Server(PROGRAM, """
open_metrics_on_loopback = false
[limits]
anonymous = [0.000001, 30]
enrollment = [0.000001, 3]
pages = [0.000001, 5]
failures = [0.000001, 4]
endpoint = [0.000001, 6]
""")
        cls.endpoint = Endpoint(cls.directory.name).enroll(cls.server)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.directory.cleanup()

    def statuses(self, count, *arguments, **keywords):
        return [self.server.call(*arguments, **keywords).status for _ in range(count)]

    def test_limits(self):
        # In one test: they share this address's buckets.
        statuses = self.statuses(8, "POST", "/v1/attestations/nonce", {}, certificate=self.endpoint.certificate)
        self.assertEqual(statuses, [200] * 6 + [429] * 2, "by endpoint")
        # One enrollment was begun by setUpClass.
        self.assertEqual(self.statuses(4, "POST", "/v1/enrollments", {}), [400] * 2 + [429] * 2, "enrollments")
        self.assertEqual([one >= 429 for one in self.statuses(7, "GET", "/")], [False] * 5 + [True] * 2, "pages")
        self.assertEqual(self.server.call("GET", "/metrics", token=self.server.token).status, 200)
        failing = self.statuses(7, "GET", "/v1/counts", token="gh_wrong")
        self.assertEqual(failing, [401] * 4 + [429] * 3, "failed tokens")
        self.assertEqual(self.server.admin("GET", "/v1/counts").status, 200, "a good token is not locked out")
        refused = [one for one in self.server.admin("GET", "/v1/audit?limit=500").json()["items"]
                   if one["action"] == "token.refused"]
        self.assertEqual(len(refused), 4, "the audit log is not flooded")
        statuses = self.statuses(40, "GET", "/v1/ca")
        self.assertEqual(statuses[0], 200)
        self.assertEqual(statuses[-1], 429, "the anonymous")
        self.assertEqual(statuses, sorted(statuses))
        self.assertEqual(self.server.call("GET", "/metrics").status, 429)
        self.assertEqual(self.server.admin("GET", "/v1/counts").status, 200)


class Ends(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="gatehouse-ends-")
        self.addCleanup(self.directory.cleanup)
        self.server = Server(PROGRAM)
        self.addCleanup(self.server.close)

    def test_stops_when_requests_are_answered(self):
        endpoint = Endpoint(self.directory.name).enroll(self.server)
        idle = self.server.connect()
        polling = self.server.connect(endpoint.certificate)
        # The second request has been read with the first, so that the connection is not idle from here on.
        polling.sendall(b"POST /v1/attestations/nonce HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                        b"GET /v1/attestations/wanted HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn(b"nonce", polling.recv(65536))
        halfway = self.server.connect()
        halfway.sendall(f"PUT /v1/groups/last HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.server.token}\r\n"
                        "Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
        self.assertTrue(halfway.recv(1000).startswith(b"HTTP/1.1 100 "))
        halfway.sendall(b"{")
        process, port = self.server.process, self.server.port
        process.send_signal(signal.SIGTERM)
        self.assertEqual(read_to_end(idle), b"")
        with self.assertRaises(OSError):  # it accepts no more
            while True:
                socket.create_connection(("127.0.0.1", port), 5).close()
        halfway.sendall(b"}")
        answer = read_to_end(halfway)
        self.assertTrue(answer.startswith(b"HTTP/1.1 204 "), answer)
        self.assertIn(b"Connection: close", answer)
        self.assertTrue(read_to_end(polling).startswith(b"HTTP/1.1 204 "))
        self.assertEqual(self.server.end(), 0)
        for connection in (idle, polling, halfway):
            connection.close()
        self.server.start()
        self.assertIsNone(re.search(r"gh_\S{20}", self.server.said), "the first token is printed once")
        self.assertIn("last", self.server.admin("GET", "/v1/groups").json()["names"])

    def test_what_was_acknowledged_outlives_kill_9(self):
        acknowledged, stop = [], threading.Event()

        def write(writer):
            with self.server.client(token=self.server.token) as client:
                for i in range(100000):
                    name = f"g{writer}-{i}"
                    try:
                        if client.call("PUT", "/v1/groups/" + name).status != 204 or stop.is_set():
                            return
                    except (OSError, ssl.SSLError, harness.http.client.HTTPException):
                        return
                    acknowledged.append(name)

        writers = [threading.Thread(target=write, args=(i,)) for i in range(8)]
        for writer in writers:
            writer.start()
        wait_until("what is acknowledged", lambda: len(acknowledged) >= 300)
        self.server.end(signal.SIGKILL)
        stop.set()
        for writer in writers:
            writer.join()
        self.server.start()
        there = set(self.server.admin("GET", "/v1/groups").json()["names"])
        self.assertEqual([name for name in acknowledged if name not in there], [])
        self.assertTrue(self.server.admin("GET", "/v1/audit/verify").json()["ok"])

    def test_reloads_its_certificate(self):
        def serial():
            with self.server.connect() as connection:
                return connection.getpeercert()["serialNumber"]

        before = serial()
        with self.server.client() as client:
            self.assertEqual(client.call("GET", "/healthz").status, 200)
            self.server.process.send_signal(signal.SIGHUP)
            wait_until("another certificate", lambda: serial() != before)
            self.assertEqual(client.call("GET", "/healthz").status, 200, "open connections go on")

    def test_backup_and_restore(self):
        backup = os.path.join(self.directory.name, "backup.db")
        self.server.admin("PUT", "/v1/groups/before")
        self.server.command("backup", backup)
        self.server.admin("PUT", "/v1/groups/after")
        self.server.command("restore", backup, "--force", status=3)  # it runs
        self.server.end()
        self.assertIn("--force", self.server.command("restore", backup, status=3, with_errors=True))
        with open(backup, "rb") as file:
            whole = file.read()
        for name, damaged in (("short", whole[:len(whole) // 2]), ("empty", b""), ("text", b"not a database" * 100)):
            path = os.path.join(self.directory.name, name)
            with open(path, "wb") as file:
                file.write(damaged)
            self.server.command("restore", path, "--force", status=3)
        forged = os.path.join(self.directory.name, "forged")
        with open(forged, "wb") as file:
            file.write(whole)
        with sqlite3.connect(forged) as database:  # who can write the file is not stopped by its triggers
            for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f"DROP TRIGGER {trigger}")
            table = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                     if "audit" in name][0]
            database.execute(f"UPDATE {table} SET subject = 'forged' WHERE number = 1")
        database.close()
        self.assertIn("audit", self.server.command("restore", forged, "--force", status=3, with_errors=True))
        self.server.command("restore", backup, "--force")
        self.server.start()
        names = self.server.admin("GET", "/v1/groups").json()["names"]
        self.assertIn("before", names)
        self.assertNotIn("after", names)
        audited = [entry["action"] for entry in self.server.admin("GET", "/v1/audit?limit=50").json()["items"]]
        self.assertIn("database.restore", audited)

    def test_one_server_for_one_directory(self):
        self.assertIn("runs here", self.server.command("serve", "--listen", "127.0.0.1:0", status=3,
                                                                                 with_errors=True))

    def test_tells_the_service_manager(self):
        path = os.path.join(self.directory.name, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(PATIENCE)
            server = Server(PROGRAM, environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"})
            self.addCleanup(server.close)
            self.assertEqual(manager.recv(100), b"READY=1")
            self.assertEqual(manager.recv(100), b"WATCHDOG=1")
            self.assertEqual(server.end(), 0)
            told = b""
            while told != b"STOPPING=1":
                told = manager.recv(100)

    def test_the_first_token_does_not_go_to_the_journal(self):
        reader, journal = os.pipe()
        self.addCleanup(os.close, reader)
        facts = os.fstat(journal)
        data = os.path.join(self.directory.name, "fresh")
        process = subprocess.Popen([PROGRAM, "serve", "--data", data, "--listen", "127.0.0.1:0"], stdout=journal,
                                   stderr=subprocess.DEVNULL,
                                   env={**os.environ, "JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"})
        os.close(journal)
        said = b""
        while b"listening on " not in said and (piece := os.read(reader, 4096)):
            said += piece
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertNotIn(b"gh_", said)
        self.assertIn(b"token create NAME --role admin", said)

    def test_settings_that_are_wrong_are_named(self):
        for text, named in (("lisen = 'x'", "lisen"), ("[limits]\nworkers = 0", "limits.workers"),
                            ("names = 'a'", "names"), ("[timeouts]\nbody = 'x'", "timeouts.body"), ("x", "server.toml:1"),
                            ("[limits]\nanonymous = [1]", "limits.anonymous"), ("listen = 'localhost'", "--listen")):
            with open(self.server.config, "w", encoding="ascii") as file:
                file.write(text)
            said = self.server.command("ca", status=2, with_errors=True)
            self.assertIn(named, said)


if __name__ == "__main__":
    SANITIZED = "--sanitized" in sys.argv
    if SANITIZED:
        sys.argv.remove("--sanitized")
        IDLE = 1000
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
