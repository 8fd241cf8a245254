#!/usr/bin/env python3
"""Two attestation servers on one PostgreSQL that is restarted, stopped, killed and out of room, while they are used.

usage: outages.py --build DIR

What was acknowledged is there afterwards, and what was refused is told as such: by 503 or 507, within bounds. The full disk needs
root, for a file system of its own. Exit status: as unittest's.
"""
import argparse
import base64
import http.client
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import unittest

from fleet_parts import PATIENCE, Agent, Postgresql, Refused, Server, Tpm, run, wait_until

BUILD = pathlib.Path()
ROOM_MB = 192


class Writer(threading.Thread):
    """Writes groups to one server, and those that were acknowledged into a list."""

    def __init__(self, server, token, name):
        super().__init__(daemon=True)
        self.server, self.token, self.name = server, token, name
        self.acknowledged, self.refusals = [], []  # of groups; of codes
        self.ended = threading.Event()
        self.error = None
        self.start()

    def run(self):
        number = 0
        try:
            while not self.ended.wait(0.02):
                number += 1
                self.write(f"{self.name}-{number:06}")
        except Exception as error:
            self.error = error

    def write(self, group):
        try:
            self.server.rest(self.token).put(f"/v1/groups/{group}", {})
        except Refused as refusal:
            assert (refusal.status, refusal.code) in ((503, "database_away"), (507, "disk_full")), refusal
            self.refusals.append(refusal.code)
        except (OSError, http.client.HTTPException):  # this server itself was restarted
            self.refusals.append("lost")
        else:
            self.acknowledged.append(group)

    def wait_for(self, what, count):
        wait_until(f"{self.name}: {what}", lambda: self.error or count())
        if self.error:
            raise self.error

    def wait_for_more(self):
        before = len(self.acknowledged)
        self.wait_for("more that is acknowledged", lambda: len(self.acknowledged) > before + 3)

    def wait_for_refusal(self):
        before = len(self.refusals)
        self.wait_for("a refusal", lambda: len(self.refusals) > before)
        return self.refusals[-1]

    def end(self):
        self.ended.set()
        self.join(PATIENCE)
        assert not self.is_alive(), f"{self.name}: a request has no answer"
        if self.error:
            raise self.error


class Outages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="gatehouse-outages-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.root = pathlib.Path(cls.temporary.name)
        cls.root.chmod(0o755)  # PostgreSQL's user goes through
        cls.room = cls.root / "room"
        cls.room.mkdir()
        mounted = run("mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m,mode=0755", "gatehouse-outages", cls.room, check=False)
        cls.bounded = mounted.returncode == 0
        if cls.bounded:
            cls.addClassCleanup(run, "umount", "-l", cls.room)
        cls.database = Postgresql(cls.room)
        cls.addClassCleanup(cls.database.kill)
        cls.servers = [Server(BUILD, cls.root / "one", cls.database.url).start()]
        cls.servers.append(Server(BUILD, cls.root / "two", cls.database.url))
        cls.servers[1].data.mkdir(mode=0o700)
        shutil.copy2(cls.servers[0].data / "master.key", cls.servers[1].data)
        cls.servers[1].start()
        for server in cls.servers:
            cls.addClassCleanup(server.stop)
        cls.token = cls.servers[0].console("token", "create", "test", "--role", "admin").stdout.strip()
        cls.tpm = Tpm(cls.root / "tpm", cls.root / "vendor")
        cls.addClassCleanup(cls.tpm.stop)
        cls.agent = Agent(BUILD, cls.root / "agent", cls.tpm, cls.servers[0], "kiosk")
        cls.admin().put(f"/v1/endorsements/{cls.tpm.ek_hash()}", {"group": "default"})
        cls.agent("enroll")
        cls.used = []  # evidence whose nonce a server has taken

    @classmethod
    def admin(cls, which=0):
        return cls.servers[which].rest(cls.token)

    def attest(self, which):
        """No policy is assigned: that the nonce is good once does not depend on it."""
        endpoint = self.servers[which].rest(identity=self.agent.identity)
        evidence = self.agent.evidence(base64.b64decode(endpoint.post("/v1/attestations/nonce", {})["nonce"]))
        self.assertEqual(endpoint.post("/v1/attestations", evidence)["verdict"], "untrusted")
        self.used.append(evidence)

    def setUp(self):
        self.writers = [Writer(server, self.token, f"{self.id().rsplit('_', 1)[1]}-{i}")
                        for i, server in enumerate(self.servers)]
        self.addCleanup(lambda: [writer.ended.set() for writer in self.writers])
        for writer in self.writers:
            writer.wait_for_more()
        self.attest(0)

    def check_all(self):
        """Both go on, and all that was acknowledged is there; no evidence is taken twice."""
        for writer in self.writers:
            writer.wait_for_more()
        for writer in self.writers:
            writer.end()
        acknowledged = {group for writer in self.writers for group in writer.acknowledged}
        for which, server in enumerate(self.servers):
            there = set(self.admin(which).get("/v1/groups")["names"])
            self.assertEqual(acknowledged - there, set(), "acknowledged, and lost")
            self.assertTrue(self.admin(which).get("/v1/audit/verify")["ok"])
            endpoint = server.rest(identity=self.agent.identity)
            for evidence in self.used:
                with self.assertRaises(Refused) as caught:
                    endpoint.post("/v1/attestations", evidence)
                self.assertEqual((caught.exception.status, caught.exception.code), (409, "nonce"))
            self.attest(which)
        print(f"{self.id().rsplit('.', 1)[1]}: {len(acknowledged)} acknowledged, refused: "
              f"{sorted(set(sum((writer.refusals for writer in self.writers), [])))}", file=sys.stderr)

    def test_servers_that_restart_in_turn(self):
        for kill in (False, True):
            for i, server in enumerate(self.servers):
                server.stop(kill)
                self.writers[1 - i].wait_for_more()
                server.start()
                self.writers[i].wait_for_more()
        self.assertEqual({"lost"} | set(self.writers[0].refusals + self.writers[1].refusals), {"lost"})
        self.check_all()

    def test_a_database_that_is_killed(self):
        self.database.kill()
        for writer in self.writers:
            self.assertEqual(writer.wait_for_refusal(), "database_away")
        self.database.start()
        self.check_all()

    def test_a_database_that_is_stopped_and_resumed(self):
        self.database.signal(signal.SIGSTOP)
        try:
            for writer in self.writers:
                self.assertEqual(writer.wait_for_refusal(), "database_away")
        finally:
            self.database.signal(signal.SIGCONT)
        self.check_all()

    def test_a_disk_that_is_full(self):
        if not self.bounded:
            self.skipTest("no file system of its own could be mounted for the database")
        ballast = self.room / "ballast"
        with open(ballast, "wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass  # no more fits
        for writer in self.writers:
            self.assertIn(writer.wait_for_refusal(), ("disk_full", "database_away"))
        ballast.unlink()
        if self.database.process.poll() is not None:  # it ends when there is no room for its journal
            self.database.start()
        self.check_all()


def main():
    global BUILD
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), required=True)
    arguments, rest = parser.parse_known_args()
    BUILD = arguments.build
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
