#!/usr/bin/env python3
"""A fleet's life in real time: a server with many endpoints in its database, each of which attests in its turn over a
connection of its own, while pages are looked at and what is old is dropped. Loopback only.

usage: fleet.py --build DIR [--database sqlite|postgresql] [--endpoints N] [--interval S] [--minutes M] [--json FILE]
                [--directory DIR]

Of a thousand endpoints one is silent, and must have become stale; of each the first run is older than the history is
kept, and must be gone. The present run of each began before that, and must stay.

Exit status: 0 if every endpoint was heard that attested, 1 if not, 2 usage, 3 failure.
"""
import argparse
import hashlib
import http.client
import json
import os
import pathlib
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "server")]
import harness  # noqa: E402  (its place is known only now)
from attestation import Browser  # noqa: E402
from fleet_parts import Postgresql, Sqlite  # noqa: E402

SILENT_EACH = 1000
DAY = 86400
HISTORY_DAYS = 90
PAGES = {"overview": "/", "list": "/endpoints", "search": "/endpoints?q=site-123", "stale": "/endpoints?state=stale",
         "endpoint": "/endpoints/{endpoint}", "audit": "/audit"}
BEGUN = time.monotonic()


def say(text):
    print(f"{time.monotonic() - BEGUN:7.0f} s  {text}", file=sys.stderr, flush=True)


def id_of(i):
    return f"00{i:024}"


class Sql:
    """What differs between the databases."""

    def __init__(self, database):
        self.database = database
        self.sqlite = database.kind == "sqlite"
        if self.sqlite:
            self.connection = sqlite3.connect(database.path, isolation_level=None)
            self.connection.create_function("sha256_of", 1, lambda i: hashlib.sha256(str(i).encode()).digest(),
                                            deterministic=True)
            for name, value in (("synchronous", "OFF"), ("cache_size", "-400000"), ("foreign_keys", "OFF")):
                self.connection.execute(f"PRAGMA {name} = {value}")

    def close(self):
        if self.sqlite:
            self.connection.close()

    def settle(self):
        """After rows were made in bulk: what a database does by itself when it is left alone."""
        if self.sqlite:
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            self.execute("VACUUM ANALYZE")
            self.execute("CHECKPOINT")

    def execute(self, sql):
        if self.sqlite:
            self.connection.execute(sql)
        else:
            subprocess.run([self.database.programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql,
                            self.database.url], check=True, cwd="/")

    def ask(self, sql):
        """The first column of the rows, as text."""
        if self.sqlite:
            return [str(row[0]) for row in self.connection.execute(sql)]
        return subprocess.run([self.database.programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c",
                               sql, self.database.url], check=True, cwd="/", capture_output=True,
                              text=True).stdout.split()

    def columns(self, table):
        if self.sqlite:
            return self.ask(f"SELECT name FROM pragma_table_info('{table}')")
        return self.ask(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' "
                        "AND table_schema = 'public' ORDER BY ordinal_position")

    def digits(self, value, width):
        return f"printf('%0{width}d', {value})" if self.sqlite else f"lpad(({value})::text, {width}, '0')"

    def hexadecimal(self, value):
        return f"printf('%064x', {value})" if self.sqlite else f"lpad(to_hex(({value})::bigint), 64, '0')"

    def certificate(self):
        return "sha256_of(i)" if self.sqlite else "sha256(i::text::bytea)"

    def numbers(self, first, last):
        if self.sqlite:
            return f"(WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n)"
        return f"generate_series({first}, {last})"

    def empty(self):
        return "x''" if self.sqlite else "''::bytea"


def multiply(database, count):
    """Makes a fleet of the one endpoint that has enrolled and attested. The server does not run meanwhile."""
    sql = Sql(database)
    now = int(time.time())
    [model] = sql.ask("SELECT id FROM endpoints ORDER BY id DESC LIMIT 1")
    [newest] = sql.ask("SELECT max(number) FROM history")
    identity = f"'00' || {sql.digits('i', 24)}"
    hostname = f"'kiosk-' || {sql.digits('i', 7)} || '.site-' || {sql.digits('i % 4000', 3)} || '.example'"
    ek = sql.hexadecimal("i")
    present = f"{newest} + i * 2"
    begun = now - (HISTORY_DAYS + 10) * DAY
    tables = [
        ("endpoints", "id", {
            "id": identity, "hostname": hostname, "search": f"{hostname} || ' ' || {identity} || ' ' || {ek}",
            "ek_hash": ek, "ek_key": ek, "certificate": sql.certificate(), "next_certificate": sql.empty(),
            "last_seen": f"{now} - i % 300", "since": f"{begun}",
            "lease_until": f"CASE WHEN i % {SILENT_EACH} = 0 THEN {now} ELSE {now + DAY} END",
            "enrolled": f"{begun} - i % {DAY}", "run": present, "run_length": "30000"}),
        ("evidence", "endpoint", {"endpoint": identity, "number": present}),
        ("event_logs", "endpoint", {"endpoint": identity}),
        ("outcomes", "endpoint", {"endpoint": identity}),
        ("ek_endorsements", "endpoint", {"endpoint": identity, "ek_hash": ek}),
        ("history", "endpoint", {"number": f"{newest} + i * 2 - 1", "endpoint": identity, "time": f"{begun - DAY}",
                                 "until": str(begun)}),
        ("history", "endpoint", {"number": present, "endpoint": identity, "time": str(begun)}),
    ]
    at_once = 50_000
    for first in range(1, count + 1, at_once):
        numbers = sql.numbers(first, min(first + at_once - 1, count))
        sql.execute("BEGIN" if sql.sqlite else "SELECT 1")
        for table, key, changes in tables:
            names = sql.columns(table)
            values = ", ".join(changes.get(name, f"model.{name}") for name in names)
            sql.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {numbers} AS fleet(i), "
                        f"{table} AS model WHERE model.{key} = '{model}'" if not sql.sqlite else
                        f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {numbers} AS fleet, "
                        f"{table} AS model WHERE model.{key} = '{model}'")
        sql.execute(f"INSERT INTO tpm_keys (key_hash, endpoint) SELECT {ek}, {identity} FROM {numbers} AS fleet"
                    + ("" if sql.sqlite else "(i)"))
        if sql.sqlite:
            sql.execute("COMMIT")
        if (first // at_once) % 4 == 3:
            say(f"{first + at_once - 1:,} endpoints")
    # Numbers go on behind them.
    if not sql.sqlite:
        sql.execute(f"SELECT setval(pg_get_serial_sequence('history', 'number'), {int(newest) + 2 * count + 1})")
    sql.settle()
    sql.close()


def size_mb(database):
    """Of the database with its journals."""
    if database.kind == "sqlite":
        paths = [pathlib.Path(f"{database.path}{end}") for end in ("", "-wal", "-shm")]
    else:
        paths = (database.directory / "data").rglob("*")
    return sum(one.stat().st_size for one in paths if one.is_file()) / 1e6


class Server(harness.Server):
    def memory_mb(self, field="VmRSS"):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(field + r":\s+(\d+) kB", status).group(1)) / 1024


def database_memory_mb(database):
    """Of PostgreSQL's processes, what is shared counted once."""
    if database.kind == "sqlite":
        return 0
    total = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (path / "comm").read_text().strip() != "postgres":
                continue
            total += int(re.search(r"^Pss:\s+(\d+) kB", (path / "smaps_rollup").read_text(), re.MULTILINE).group(1))
        except (OSError, AttributeError):
            continue  # ended meanwhile
    return total / 1024


class Watch:
    """Looks at pages, memory and disk each minute."""

    def __init__(self, server, database, endpoints, token, generator):
        self.server, self.database, self.endpoints, self.token = server, database, endpoints, token
        self.generator = generator
        self.pages = {name: [] for name in PAGES}
        self.minutes = []
        self.browser = None
        self.failures = []
        self.error = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        try:
            begun = time.monotonic()
            while True:
                for name, path in PAGES.items():
                    endpoint = id_of(len(self.minutes) * 7919 % self.endpoints + 1)
                    self.see(name, path.format(endpoint=endpoint))
                self.minutes.append({"s": round(time.monotonic() - begun), "disk_mb": round(size_mb(self.database)),
                                     "memory_mb": round(self.server.memory_mb()),
                                     "database_memory_mb": round(database_memory_mb(self.database)),
                                     **{f"{name}_ms": round(times[-1], 1) for name, times in self.pages.items() if times},
                                     "failed_pages": len(self.failures)})
                say(" ".join(f"{name} {value}" for name, value in self.minutes[-1].items() if name != "s"))
                if self.ended.wait(60):
                    return
        except Exception as error:  # told when the watch ends, which is now
            self.error = error
            self.generator.terminate()

    def see(self, name, path):
        """A page that does not come is counted; the hour goes on, with a new session."""
        try:
            if self.browser is None:
                self.browser = Browser(self.server.place, self.server.ca)
                self.browser.log_in(self.token)
            self.pages[name].append(self.browser.page_ms(path, 1, "</html>")[0])
        except (http.client.HTTPException, OSError) as error:
            self.failures.append(f"{name}: {error!r}")
            self.browser = None
            say(f"failed: {self.failures[-1]}")

    def end(self):
        self.ended.set()
        self.thread.join()
        if self.error:
            raise self.error


def measure(arguments, directory):
    database = (Sqlite if arguments.database == "sqlite" else Postgresql)(directory)
    server = Server(arguments.build / "bin/attestation-server", harness.OPEN_LIMITS, directory / "server",
                    database=database.url, started=False)
    generator = None
    try:
        server.start()
        generator = subprocess.Popen(
            [str(one) for one in (
                arguments.build / "bin/attestation-bench", "fleet", "--url", server.url, "--ca", server.ca, "--data",
                server.data, "--database", database.url, "--endpoints", arguments.endpoints, "--interval",
                arguments.interval, "--lease", max(60, min(arguments.interval * 3, DAY)), "--silent-each", SILENT_EACH,
                "--seconds", arguments.minutes * 60)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if generator.stdout.readline().strip() != "multiply":
            raise RuntimeError("attestation-bench did not enroll")
        server.end()
        multiply(database, arguments.endpoints)
        before = size_mb(database)
        say(f"{before / 1000:.1f} GB")
        token = server.command("token", "create", "bench", "--role", "read-only").strip()
        server.start()
        ready = server.ready_after
        watch = Watch(server, database, arguments.endpoints, token, generator)
        generator.stdin.write(f"{server.url} {server.process.pid}\n")
        generator.stdin.flush()
        said = generator.stdout.read()
        watch.end()
        if generator.wait() != 0:
            raise RuntimeError("attestation-bench failed")
        load = json.loads(said)
        say("load: " + json.dumps(load))  # kept if what follows fails
        at_most = server.memory_mb("VmHWM")
        server.end()
        sql = Sql(database)
        stale = int(sql.ask("SELECT count(*) FROM endpoints WHERE state = 4")[0])
        begun = int(time.time()) - (HISTORY_DAYS + 5) * DAY
        old = int(sql.ask(f"SELECT count(*) FROM history WHERE time < {begun - 5 * DAY - DAY // 2}")[0])
        present = int(sql.ask("SELECT count(*) FROM endpoints e JOIN history h ON h.number = e.run "
                              "WHERE h.endpoint = e.id")[0])
        rows = {table: int(sql.ask(f"SELECT count(*) FROM {table}")[0])
                for table in ("endpoints", "evidence", "history", "outcomes", "hours", "audit")}
        sql.close()
    finally:
        if generator and generator.poll() is None:
            generator.kill()
            generator.wait()
        server.end()
        database.stop()
    silent = arguments.endpoints // SILENT_EACH
    return {
        "database": arguments.database, "endpoints": arguments.endpoints, "interval_s": arguments.interval,
        "minutes": arguments.minutes, "processors": os.cpu_count(),
        "wanted_per_s": round(arguments.endpoints / arguments.interval, 1),
        "attested_per_s": round(load["attested"] / arguments.minutes / 60, 1),
        "load": load, "start_s": round(ready, 2),
        "pages_ms": {name: {"median": round(statistics.median(times), 1), "most": round(max(times), 1)}
                     for name, times in watch.pages.items() if times},
        "failed_pages": watch.failures,
        "memory_mb": round(at_most), "database_memory_mb": max(one["database_memory_mb"] for one in watch.minutes),
        "disk_gb": {"before": round(before / 1000, 2), "after": round(size_mb(database) / 1000, 2),
                    "most": round(max(one["disk_mb"] for one in watch.minutes) / 1000, 2)},
        "stale": stale, "silent": silent, "runs_too_old_left": old, "present_runs": present, "rows": rows,
        "by_minute": watch.minutes,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--endpoints", type=int, default=1_000_000)
    parser.add_argument("--interval", type=int, default=1200, help="seconds between an endpoint's attestations")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--directory", type=pathlib.Path, help="for the database; 30 GB for a million endpoints; made if it is missing")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        if arguments.directory:
            arguments.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gatehouse-fleet-", dir=arguments.directory or arguments.build) as made:
            os.chmod(made, 0o755)  # PostgreSQL runs as another user
            figures = measure(arguments, pathlib.Path(made))
    except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError, sqlite3.Error) as error:
        say(f"error: {error}")
        return 3
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps({name: value for name, value in figures.items() if name != "by_minute"}, indent=2))
    return 0 if figures["load"]["refused"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
