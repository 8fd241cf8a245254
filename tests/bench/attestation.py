#!/usr/bin/env python3
"""Measures attestation: the library, the server under load, and the server with a large fleet. Loopback only.

usage: attestation.py --build DIR [--json] [--endpoints N] [--connections N] [--seconds S]

Exit status: 0 if every target is met, 1 if one is not, 2 usage, 3 failure.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import ssl
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "server"))
import harness  # noqa: E402  (its place is known only now)

# What the figures should be: the library as a share of the limit; the machine is one of two cores.
LEAST = {"library_share": 0.6, "server_per_s": 2500, "server_new_connections_per_s": 1500}
MOST = {"fleet_start_s": 2.0, "overview_ms": 50.0, "memory_mb": 300.0}
PATIENCE = 120


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command):
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Server(harness.Server):
    """The tests' server on SQLite, as it comes; only the limits on requests are out of a single machine's way."""

    def __init__(self, build, directory):
        self.path = directory / "gatehouse.db"
        self.database = f"sqlite:{self.path}"
        super().__init__(build / "bin/attestation-server", harness.OPEN_LIMITS, directory, database=self.database,
                         started=False)

    def memory_mb(self, field):
        """VmRSS, or VmHWM: the most it ever was."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(field + r":\s+(\d+) kB", status).group(1)) / 1024

    def read_only_token(self):
        return self.command("token", "create", "bench", "--role", "read-only").strip()

    def load(self, build, connections, seconds, warm_up, *more):
        return json.loads(run(build / "bin/attestation-bench", "load", "--url", self.url, "--ca", self.ca,
                              "--data", self.data, "--database", self.database, "--connections", connections,
                              "--seconds", seconds, "--warm-up", warm_up, "--server-pid", self.process.pid, *more))


def multiply(path, count):
    """Makes a fleet of one endpoint that enrolled and attested: each with its evidence, log and history. Of a hundred,
    one is untrusted, one stale, one retired. The server does not run meanwhile."""
    now = int(time.time())
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; PRAGMA foreign_keys = OFF;")
    [(model,)] = connection.execute("SELECT id FROM endpoints ORDER BY id LIMIT 1").fetchall()
    connection.execute("CREATE TEMP TABLE fleet AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                       "WHERE i < ?) SELECT i, '00' || printf('%024d', i) AS id FROM n", [count])

    def clone(table, changes, order):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(changes.get(name, f"model.{name}") for name in names)
        connection.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM fleet, {table} AS model "
                           f"WHERE model.{order} = ? ORDER BY fleet.i", [model])

    state = "CASE fleet.i % 100 WHEN 1 THEN 3 WHEN 2 THEN 4 WHEN 3 THEN 5 ELSE 1 END"
    hexadecimal = "printf('%064x', fleet.i)"
    hostname = "printf('kiosk-%06d.site-%03d.example', fleet.i, fleet.i % 400)"
    clone("endpoints", {
        "id": "fleet.id", "hostname": hostname, "search": f"{hostname} || ' ' || fleet.id || ' ' || {hexadecimal}",
        "state": state, "ek_hash": hexadecimal, "ek_key": hexadecimal, "certificate": "randomblob(32)", "next_certificate": "x''",
        "last_seen": f"{now} - fleet.i % 300", "lease_until": f"{now} + 3600 + fleet.i % 300",
        "enrolled": f"{now} - 86400 - fleet.i", "run": "0"}, "id")
    clone("evidence", {"endpoint": "fleet.id"}, "endpoint")
    clone("event_logs", {"endpoint": "fleet.id"}, "endpoint")
    clone("history", {"number": "NULL", "endpoint": "fleet.id", "time": f"{now} - 86400",
                      "until": f"{now} - fleet.i % 300", "state": state}, "endpoint")
    clone("outcomes", {"endpoint": "fleet.id"}, "endpoint")
    connection.executemany("INSERT OR IGNORE INTO hours (hour, shard, trusted, unmeasured, untrusted) VALUES (?, 0, ?, 0, ?)",
                           [(now // 3600 * 3600 - 3600 * i, 12 * count, count // 8) for i in range(1, 24 * 30)])
    connection.commit()
    connection.executescript("PRAGMA wal_checkpoint(TRUNCATE);")
    connection.close()


class Browser:
    """One kept connection, with cookies."""

    def __init__(self, place, ca):
        host, port = place.rsplit(":", 1)
        self.connection = http.client.HTTPSConnection(host, int(port), timeout=PATIENCE,
                                                      context=ssl.create_default_context(cafile=ca))
        self.cookies = {}

    def ask(self, method, path, form=None):
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, urllib.parse.urlencode(form) if form is not None else None, headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        return answer.status, text

    def log_in(self, token):
        _, page = self.ask("GET", "/log-in")
        csrf = re.search(r'name="csrf" value="([^"]*)"', page)
        status, _ = self.ask("POST", "/log-in", {"csrf": csrf.group(1) if csrf else "", "token": token, "next": "/"})
        if status != 303 and status != 302:
            raise RuntimeError(f"log-in: status {status}")

    def page_ms(self, path, count, must_have):
        """The median and the worst time to the last byte."""
        times = []
        for _ in range(count):
            begun = time.monotonic()
            status, text = self.ask("GET", path)
            times.append((time.monotonic() - begun) * 1000)
            if status != 200 or must_have not in text:
                raise RuntimeError(f"{path}: status {status}, and not {must_have!r} in it")
        return statistics.median(times), max(times)


def measure(arguments, directory):
    build = arguments.build
    say("library: appraisals against plain ECDSA verifications")
    library = json.loads(run(build / "bin/attestation-bench", "library", "--seconds", arguments.seconds))
    server = Server(build, directory)
    try:
        say(f"fleet: {arguments.endpoints} endpoints")
        server.start()
        server.load(build, 1, 0.2, 0)
        server.end()
        multiply(server.path, arguments.endpoints)
        starts = []
        for _ in range(3):
            server.end()
            starts.append(server.start().ready_after)
        browser = Browser(server.place, server.ca)
        browser.log_in(server.read_only_token())
        good = 1 + sum(i % 100 not in (1, 2, 3) for i in range(1, arguments.endpoints + 1))
        overview, overview_worst = browser.page_ms("/", 30, f"{good:,}")
        search, _ = browser.page_ms("/endpoints?q=site-123", 10, "site-123")
        with_pages = server.memory_mb("VmRSS")
        say(f"server: {arguments.connections} endpoints attest as fast as they are answered")
        load = server.load(build, arguments.connections, arguments.seconds, 2)
        say("server: the same, with a TLS handshake for each attestation, by client certificate and by connection key")
        reconnecting = server.load(build, arguments.connections, arguments.seconds, 2, "--reconnect")
        by_key = server.load(build, arguments.connections, arguments.seconds, 2, "--reconnect", "--by-key")
        during, _ = browser.page_ms("/", 10, f"{good + 3 * arguments.connections:,}")
        memory = server.memory_mb("VmHWM")
    finally:
        server.end()
    figures = {
        "library_per_s": round(library["library_per_s"]),
        "ecdsa_limit_per_s": round(library["ecdsa_limit_per_s"]),
        "server_per_s": round(load["server_per_s"]),
        "server_new_connections_per_s": round(by_key["server_per_s"]),
        "fleet_start_s": round(statistics.median(starts), 3),
        "overview_ms": round(overview, 1),
        "memory_mb": round(memory),
    }
    figures["detail"] = {
        "library_share": round(library["library_per_s"] / library["ecdsa_limit_per_s"], 3),
        "processors": os.cpu_count(),
        "endpoints": arguments.endpoints,
        "database_mb": round(server.path.stat().st_size / 1e6),
        "fleet_starts_s": [round(one, 3) for one in starts],
        "overview_worst_ms": round(overview_worst, 1),
        "overview_after_load_ms": round(during, 1),
        "search_ms": round(search, 1),
        "memory_before_load_mb": round(with_pages),
        "load": load,
        "reconnecting": reconnecting,
        "reconnecting_by_key": by_key,
    }
    return figures


def verdicts(figures):
    values = {**figures, **figures["detail"]}
    rows = [(name, values[name], f">= {least}", values[name] >= least) for name, least in LEAST.items()]
    rows += [(name, values[name], f"< {most:g}", values[name] < most) for name, most in MOST.items()]
    rows.append(("refused", figures["detail"]["load"]["refused"], "none", figures["detail"]["load"]["refused"] == 0))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="gatehouse-bench-", dir=arguments.build) as directory:
            figures = measure(arguments, pathlib.Path(directory))
    except (AssertionError, RuntimeError, OSError, subprocess.TimeoutExpired, sqlite3.Error) as error:
        say(f"error: {error}")
        return 3
    figures["detail"]["seconds"] = round(time.monotonic() - begun)
    rows = verdicts(figures)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{'ecdsa_limit_per_s':<20}{figures['ecdsa_limit_per_s']:>12}")
        print(f"{'library_per_s':<20}{figures['library_per_s']:>12}")
        for name, value, target, ok in rows:
            print(f"{name:<20}{value:>12}   {target:<10} {'ok' if ok else 'MISSED'}")
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
