#!/usr/bin/env python3
"""End to end: software TPMs with endorsement certificates, the real server, the real agent; TLS and client certificates.

usage: fleet.py --build DIR --database sqlite|postgresql [--only STEP]...
       fleet.py --list

With PostgreSQL, which the test starts, two server processes share the database, each taking part.  A step is run by
itself with --only, its number or a part of its name, after the steps that it needs; --list names them.
"""
import argparse
import base64
import json
import pathlib
import shutil
import ssl
import struct
import sys
import unittest

from fleet_parts import (Agent, Authority, Pages, Postgresql, Receiver, Refused, Server, Sqlite, Tpm, as_der, run,
                         temporary_directory, tls_refusal, verified_payload, wait_until)

ARGUMENTS = argparse.Namespace(build=None, database=None)
ROOT = pathlib.Path(__file__).resolve().parents[2]
PROFILES = {"ietf": "tag:ietf.org,2026:rats/ear#03", "ietf-04": "tag:ietf.org,2026:rats/ear#04",
            "veraison": "tag:github.com,2023:veraison/ear"}


def needs(*numbers):
    """Of a step: those that must have been before it, which need others."""
    def mark(step):
        step.needs = numbers
        return step
    return mark


def policy(name, version, pcrs):
    """Its lease is longer than the test: who turns stale does so by an earlier end, in the database."""
    return {"gatehouse_attestation_policy": 1, "name": name, "version": version, "source": "tpm", "lease_s": 3600,
            "pcrs": {"sha256": {str(pcr): [value] for pcr, value in pcrs.items()}}}


class FleetTest(unittest.TestCase):
    """One fleet's life, step by step; a step says what it needs of those before it."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = temporary_directory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.root = root = pathlib.Path(cls.temporary.name)
        root.chmod(0o755)  # PostgreSQL's user goes through
        cls.database = (Sqlite if ARGUMENTS.database == "sqlite" else Postgresql)(root)
        cls.addClassCleanup(cls.database.stop)
        cls.server = Server(ARGUMENTS.build, root / "server", cls.database.url).start()
        cls.addClassCleanup(lambda: cls.server.stop())
        cls.other = cls.server
        if cls.database.kind == "postgresql":
            cls.other = Server(ARGUMENTS.build, root / "other", cls.database.url)
            cls.other.data.mkdir(mode=0o700)
            shutil.copy2(cls.server.data / "master.key", cls.other.data)
            cls.other.start()
            cls.addClassCleanup(lambda: cls.other.stop())
        cls.tpms = [cls.make_tpm(i) for i in range(3)]
        cls.agents = [Agent(ARGUMENTS.build, root / f"agent{i}", tpm, cls.server, f"kiosk-{i}")
                      for i, tpm in enumerate(cls.tpms)]
        cls.authority = Authority(root)
        cls.receiver = Receiver("a shared secret")
        cls.addClassCleanup(cls.receiver.stop)
        token = cls.server.console("token", "create", "test", "--role", "admin").stdout.strip()
        cls.admin = cls.server.rest(token)
        cls.reader = cls.other.rest(cls.admin.post("/v1/tokens", {"name": "reader", "role": "read-only"})["token"])

    @classmethod
    def make_tpm(cls, i):
        tpm = Tpm(cls.root / f"tpm{i}", cls.root / "vendor")
        cls.addClassCleanup(tpm.stop)
        return tpm

    def state_of(self, agent):
        return self.reader.get(f"/v1/endpoints/{agent.endpoint}")["state"]

    def last_of(self, agent):
        return self.reader.get(f"/v1/endpoints/{agent.endpoint}/attestations/last")

    def expect_that_others_read_the_last_of(self, agent):
        """In each profile and form that may be asked for, with the key set that the other server publishes."""
        place = self.root / "results"
        place.mkdir()
        (place / "jwks.json").write_text(self.reader.get("/.well-known/jwks.json"))
        for name, profile in PROFILES.items():
            for form in ("jwt", "cwt"):
                (place / f"{name}.last.{form}").write_bytes(self.reader.ask(
                    "GET", f"/v1/endpoints/{agent.endpoint}/attestations/last",
                    accept=f'application/eat+{form}; eat_profile="{profile}"'))
        cddl = run("bash", ROOT / "ci/setup", "--print-cddl").stdout.strip()
        said = run("/usr/bin/python3", ROOT / "tests/unit/formats/read_ear.py", cddl, place).stdout
        self.assertEqual(said, "6 results read\n")

    def add_policy(self, version, pcrs):
        self.admin.ask("POST", "/v1/policies", self.authority.sign(policy("kiosks", version, pcrs)), "application/jose")

    def assign(self, version, stage):
        self.admin.put(f"/v1/assignments/default/kiosks/{version}", {"stage": stage})

    def refused(self, status, call, *arguments):
        with self.assertRaises(Refused) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.status, status, caught.exception)
        return caught.exception

    def test_01_the_first_start_tells_the_next_step_once(self):
        self.assertIn("First start. The administrator's token", self.server.said)
        self.assertIn("curl --cacert ca.pem", self.server.said)
        first = self.server.said.split("shown this once:\n\n")[1].split()[0]
        self.assertEqual(self.server.rest(first).get("/v1/counts")["trusted"], 0)
        self.server.stop()
        self.server.start()
        self.admin.place = self.server.place
        if self.other is self.server:
            self.reader.place = self.server.place
        for agent in self.agents:
            agent.configure(self.server)
        self.assertNotIn("First start", self.server.said)

    def test_02_tls_is_1_3_and_verified_by_both(self):
        self.assertEqual(tls_refusal(self.server.place, self.server.ca), "")
        self.assertTrue(tls_refusal(self.server.place, self.server.ca, maximum_version=ssl.TLSVersion.TLSv1_2))
        self.refused(401, self.server.rest().get, "/v1/counts")
        self.refused(401, self.server.rest("no token").get, "/v1/counts")
        agent = self.agents[0]
        agent.configure(self.server, ca=self.root / "vendor/swtpm-localca-rootca-cert.pem")
        self.assertIn("its certificate is not accepted", agent("enroll", status=3))
        agent.configure(self.server)

    def test_03_the_ca_is_found_by_its_pin_and_by_no_other(self):
        pin = self.server.said.split("ca_pin of agents): ")[1].split()[0]
        agent = self.agents[0]
        config = agent.config.read_text()
        agent.config.write_text("".join(line for line in config.splitlines(True) if not line.startswith("ca_file")))
        wrong = agent("enroll", "--ca-pin", pin[:-1] + ("0" if pin[-1] != "0" else "1"), status=3)
        self.assertIn("shows no CA certificate with SHA-256", wrong)
        self.assertFalse((agent.state / "ca.pem").exists())
        self.assertIn("waits for an operator", agent("enroll", "--ca-pin", pin, status=1))
        self.assertEqual(as_der(agent.state / "ca.pem"), as_der(self.server.ca))

    @needs(3)
    def test_04_an_unknown_vendors_tpm_waits_for_an_operator(self):
        agent = self.agents[0]
        waiting = self.reader.get("/v1/enrollments?state=waiting")["items"]
        self.assertEqual([one["hostname"] for one in waiting], ["kiosk-0"])
        self.assertFalse(waiting[0]["endorsed"])
        self.assertIn("ek chain", waiting[0]["reason"])
        self.assertEqual(waiting[0]["ek_hash"], self.tpms[0].ek_hash())
        agent("enroll", status=1)  # the same one goes on
        self.assertEqual(self.reader.get("/v1/enrollments?state=waiting")["items"], waiting)
        self.assertEqual(agent("status", "--json", status=1)["enrollment"], waiting[0]["id"])
        self.refused(403, self.reader.post, f"/v1/enrollments/{waiting[0]['id']}/approve", {"group": "default"})
        self.admin.post(f"/v1/enrollments/{waiting[0]['id']}/approve", {"group": "default"})
        self.assertIn("enrolled as", agent("enroll"))
        self.assertFalse((agent.state / "pending.pem").exists())
        self.assertEqual(self.state_of(agent), "new")

    def test_05_a_token_approves_one_tpm_of_a_known_vendor(self):
        vendor = self.root / "vendor"
        roots = [base64.b64encode(as_der(vendor / "swtpm-localca-rootca-cert.pem")).decode()]
        issuers = [base64.b64encode(as_der(vendor / "issuercert.pem")).decode()]
        token = self.admin.post("/v1/enrollment-tokens", {"group": "default"})["token"]
        agent = self.agents[1]
        self.assertIn("waits", agent("enroll", "--token", token, status=1))  # a token does not make up for an EK
        type(self).vendor = {"roots": roots, "intermediates": issuers, "revocations": []}
        self.admin.put("/v1/vendors/swtpm", self.vendor)
        agent("enroll", "--again", "--token", token, status=1)  # goes on with the one that waits
        shutil.rmtree(agent.state)
        self.assertIn("enrolled as", agent("enroll", "--token", token))
        self.assertEqual(self.reader.get(f"/v1/endpoints/{agent.endpoint}")["vendor"], "swtpm")
        self.assertIn("token: unknown, used or expired", self.agents[2]("enroll", "--token", token, status=3))

    @needs(4, 5)
    def test_06_a_registered_endorsement_key_is_approved(self):
        self.admin.put(f"/v1/endorsements/{self.tpms[2].ek_hash()}", {"group": "default"})
        self.assertIn("enrolled as", self.agents[2]("enroll"))
        self.assertEqual(self.reader.get("/v1/counts")["new"], 3)

    @needs(4)
    def test_07_without_a_policy_nothing_is_accepted(self):
        answer = self.agents[0]("attest", "--json", status=1)
        self.assertEqual(answer["verdict"], "untrusted")
        self.assertTrue(any("policy" in one for one in answer["failures"]), answer["failures"])
        self.assertEqual(self.state_of(self.agents[0]), "untrusted")
        self.assertIn("untrusted", self.agents[0]("status", status=1))

    @needs(6)
    def test_08_a_reported_policy_has_no_effect_and_an_enforced_one_has(self):
        self.admin.put("/v1/actions/hook", {"kind": "webhook", "target": self.receiver.url, "secret": "a shared secret"})
        self.admin.put("/v1/policy-authorities/site", {"public_key": self.authority.public})
        self.add_policy(1, self.tpms[0].pcrs())
        self.assign(1, "report")
        agent = self.agents[0]
        self.assertEqual(agent("attest", "--json", status=1)["verdict"], "untrusted")
        [staged] = self.reader.get("/v1/assignments")["items"]
        self.assertEqual((staged["stage"], staged["covered"], staged["would_pass"], staged["would_fail"]),
                         ("report", 3, 1, 0))
        self.assertEqual(self.reader.get("/v1/assignments/default/kiosks/1/refused"), {"items": [], "next": None})
        self.assign(1, "enforce")
        answer = agent("attest", "--json")
        self.assertEqual((answer["verdict"], answer["failures"]), ("unmeasured", []))
        self.assertEqual(self.state_of(agent), "unmeasured")
        self.assertEqual(agent("status", "--json")["last"]["verdict"], "unmeasured")
        result = verified_payload(answer["result"], self.reader.get("/v1/result-key"), self.root)
        self.assertEqual(result["submods"]["gatehouse"]["ear.status"], "warning")
        self.assertEqual(result["gatehouse.source"], "tpm")
        self.assertTrue(result["submods"]["gatehouse"]["ear.appraisal-policy-id"].startswith("kiosks:1:"))
        self.expect_that_others_read_the_last_of(agent)

    @needs(8)
    def test_09_a_policy_that_the_authority_did_not_sign_is_refused(self):
        good = self.authority.sign(policy("kiosks", 7, self.tpms[0].pcrs()))
        for bad in (good[:-8] + "AAAAAAAA", good.replace(".", ".e30", 1), "no jws"):
            self.refused(422, self.admin.ask, "POST", "/v1/policies", bad, "application/jose")

    @needs(8)
    def test_10_the_pcr_that_changed_is_named(self):
        agent, tpm = self.agents[1], self.tpms[1]
        agent("attest")
        tpm.extend(5, "another boot loader")
        answer = agent("attest", "--json", status=1)
        self.assertEqual(answer["verdict"], "untrusted")
        [failure] = answer["failures"]
        self.assertIn("pcrs", failure)
        self.assertIn("PCR 5", failure)
        verdict = self.last_of(agent)["verdict"]
        wrong = [one for one in verdict["pcrs"] if one["expected"] != one["found"]]
        self.assertEqual([(one["pcr"], one["found"]) for one in wrong], [(5, tpm.pcrs()[5])])
        explained = self.reader.get(f"/v1/endpoints/{agent.endpoint}/explain?policy=kiosks&version=1")["differences"]
        self.assertTrue(any("PCR 5" in one and tpm.pcrs()[5] in one for one in explained), explained)

    @needs(10)
    def test_11_a_roll_out_accepts_old_and_new(self):
        agent, tpm = self.agents[1], self.tpms[1]
        self.add_policy(2, tpm.pcrs())
        self.assertEqual(self.reader.get(f"/v1/endpoints/{agent.endpoint}/explain?policy=kiosks&version=2")
                         ["differences"], [])
        self.assign(2, "report")
        self.assertEqual(agent("attest", "--json", status=1)["verdict"], "untrusted")
        self.assign(2, "enforce")
        agent("attest")
        self.agents[0]("attest")
        self.assertEqual(self.last_of(agent)["policy"], "kiosks:2")
        self.assertEqual(self.last_of(self.agents[0])["policy"], "kiosks:1")
        self.admin.ask("DELETE", "/v1/assignments/default/kiosks/1")
        self.agents[0]("attest", status=1)
        self.assign(1, "enforce")
        self.agents[0]("attest")

    @needs(8)
    def test_12_a_nonce_is_good_once_wherever_it_came_from(self):
        agent = self.agents[0]
        first = self.server.rest(identity=agent.identity)
        second = self.other.rest(identity=agent.identity)
        nonce = base64.b64decode(first.post("/v1/attestations/nonce", {})["nonce"])
        evidence = agent.evidence(nonce)
        self.assertEqual(second.post("/v1/attestations", evidence)["verdict"], "unmeasured")
        self.assertEqual(self.refused(409, first.post, "/v1/attestations", evidence).code, "nonce")
        self.assertEqual(self.refused(409, second.post, "/v1/attestations", evidence).code, "nonce")
        # Another endpoint's nonce, and one that nobody gave.
        nonce = base64.b64decode(self.server.rest(identity=self.agents[1].identity)
                                 .post("/v1/attestations/nonce", {})["nonce"])
        self.refused(409, first.post, "/v1/attestations", agent.evidence(nonce))
        self.refused(409, first.post, "/v1/attestations", agent.evidence(bytes(32)))
        # Another endpoint's evidence: good in all but its key.
        nonce = base64.b64decode(first.post("/v1/attestations/nonce", {})["nonce"])
        answer = first.post("/v1/attestations", self.agents[1].evidence(nonce))
        self.assertEqual(answer["verdict"], "untrusted")
        self.assertTrue(any("signature" in one for one in answer["failures"]), answer["failures"])
        agent("attest")

    @needs(8)
    def test_13_the_daemon_attests_when_wanted_and_recovers_from_being_killed(self):
        agent = self.agents[0]

        def seen():
            return self.reader.get(f"/v1/endpoints/{agent.endpoint}")["last_seen"]

        def journal():
            return (agent.directory / "journal").read_text()
        for _ in range(2):
            begun = journal().count("verdict: unmeasured") if (agent.directory / "journal").exists() else 0
            daemon = agent.daemon()
            self.addCleanup(daemon.kill)
            wait_until("the first attestation", lambda: journal().count("verdict: unmeasured") > begun)
            self.admin.post(f"/v1/endpoints/{agent.endpoint}/attest-now", {})
            wait_until("the wanted one", lambda: journal().count("verdict: unmeasured") > begun + 1)
            daemon.kill()
            daemon.wait()
        self.assertIn("evidence is wanted", journal())
        self.assertGreater(seen(), 0)
        agent("attest")

    @needs(8)
    def test_14_who_is_silent_turns_stale_and_is_on_the_revocation_list(self):
        agent, endpoint = self.agents[0], self.agents[0].endpoint
        self.assertEqual(self.state_of(agent), "unmeasured")
        self.database.execute(f"UPDATE endpoints SET lease_until = last_seen - 1 WHERE id = '{endpoint}'")
        wait_until("stale", lambda: self.state_of(agent) == "stale")
        self.assertEqual([one["id"] for one in self.reader.get("/v1/endpoints?state=stale")["items"]], [endpoint])

        def listed():
            jws = self.reader.get("/v1/revocations")
            payload = verified_payload(jws, self.reader.get("/v1/result-key"), self.root)
            return {one["id"]: one for one in payload["endpoints"]}
        wait_until("the list", lambda: endpoint in listed())
        self.assertEqual(listed()[endpoint]["ek_hash"], self.tpms[0].ek_hash())
        # It is shown as stale from the moment on; the server's next round notes it, and tells the actions.
        wait_until("stale in its history", lambda: "stale" in [
            one["state"] for one in self.reader.get(f"/v1/endpoints/{endpoint}/attestations")["items"]])
        agent("attest")
        wait_until("off the list", lambda: endpoint not in listed())

    @needs(4)
    def test_15_escrow_is_opaque_and_for_administrators(self):
        agent, endpoint = self.agents[0], self.agents[0].endpoint
        vault = bytes(range(32))
        kept = self.root / "Desk-7.escrow"
        kept.write_bytes(b"GHESCROW" + struct.pack("<II", 1, 205) + vault + bytes(157))
        self.assertIn(vault.hex(), agent("escrow", kept, "--name", "recovery"))
        agent("escrow", kept, "--name", "recovery")  # once more is the same
        self.assertIn("'name' may only have", agent("escrow", kept, status=3))
        blob = base64.b64encode(kept.read_bytes()).decode()
        kept.write_bytes(kept.read_bytes()[:-1] + b"x")
        self.assertIn("another blob is kept", agent("escrow", kept, "--name", "recovery", status=3))
        kept.write_text("8000-0001\n")  # the key itself is not sent
        self.assertIn("is no escrow blob", agent("escrow", kept, "--name", "key", status=3))
        self.assertEqual(self.admin.get(f"/v1/endpoints/{endpoint}/escrow")["names"], ["recovery"])
        self.assertEqual(self.admin.get(f"/v1/endpoints/{endpoint}/escrow/recovery")["blob"], blob)
        self.refused(403, self.reader.get, f"/v1/endpoints/{endpoint}/escrow/recovery")
        audited = self.reader.get("/v1/audit?limit=500")["items"]
        self.assertTrue(any(one["action"].startswith("escrow") and one["subject"].startswith(endpoint)
                            and one["who"] == "test" for one in audited), [one["action"] for one in audited])

    @needs(8)
    def test_16_a_retired_endpoint_is_refused_until_it_enrolls_again(self):
        agent, endpoint = self.agents[2], self.agents[2].endpoint
        agent("attest")
        self.admin.post(f"/v1/endpoints/{endpoint}/retire", {"reason": "sold"})
        self.server.stop(kill=True)  # what was acknowledged is on disk
        self.server.start()
        self.admin.place = self.server.place
        if self.other is self.server:
            self.reader.place = self.server.place
        for one in self.agents:
            one.configure(self.server)
        self.assertEqual(self.reader.get(f"/v1/endpoints/{endpoint}")["state"], "retired")
        self.assertNotIn("result", self.reader.get(f"/v1/endpoints/{endpoint}/attestations/last"))
        agent("attest", status=3)
        self.assertTrue(agent("status", "--json", status=0)["trouble"])
        journal = agent.directory / "journal"
        daemon = agent.daemon()
        self.addCleanup(daemon.kill)
        wait_until("the hint", lambda: "enroll --again" in journal.read_text())
        daemon.kill()
        daemon.wait()
        # A person retired it, so a person lets it in again: its registered key alone does not.
        self.assertIn("waits for an operator", agent("enroll", "--again", status=1))
        [waiting] = self.reader.get("/v1/enrollments?state=waiting")["items"]
        self.assertIn("retired", waiting["reason"])
        self.assertEqual(waiting["replaces"], endpoint)
        self.admin.post(f"/v1/enrollments/{waiting['id']}/approve", {"group": "default"})
        # The daemon takes it up, although there is a certificate: the void one. The token is not needed any more.
        agent.config.write_text(agent.config.read_text() + f'token_file = "{agent.directory}/gone"\n')
        begun = len(journal.read_text())
        daemon = agent.daemon()
        self.addCleanup(daemon.kill)
        wait_until("the daemon's new enrollment", lambda: "verdict: unmeasured" in journal.read_text()[begun:])
        self.assertIn("enrolled as", journal.read_text()[begun:])
        daemon.kill()
        daemon.wait()
        agent.configure(self.server)
        agent("attest")
        self.assertEqual(self.state_of(agent), "unmeasured")
        history = self.reader.get(f"/v1/endpoints/{agent.endpoint}/attestations")["items"]
        self.assertGreaterEqual(len(history), 1)

    @needs(8)
    def test_17_another_enrollment_of_the_same_tpm_ends_the_old_certificate(self):
        agent = self.agents[2]
        before = self.root / "before.pem"
        shutil.copy(agent.identity, before)
        agent("enroll", "--again")
        agent("attest")
        self.refused(401, self.server.rest(identity=before).post, "/v1/attestations/nonce", {})

    @needs(6)
    def test_18_a_certificate_is_renewed_and_the_new_one_takes_over(self):
        agent = self.agents[2]
        key, request = self.root / "new.key", self.root / "new.csr"
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-out", request, "-subj", "/CN=x")
        old = self.server.rest(identity=agent.identity)
        made = old.post("/v1/certificate", {"csr": request.read_text()})["certificate"]
        fresh = self.root / "new.pem"
        fresh.write_text(key.read_text() + made)
        self.server.rest(identity=fresh).post("/v1/attestations/nonce", {})
        self.refused(401, old.post, "/v1/attestations/nonce", {})
        agent("enroll", "--again")

    @needs(8)
    def test_19_a_connection_key_opens_connections_until_the_certificate_is_superseded(self):
        agent = self.agents[1]
        kept = agent.state / "connection-key.json"
        agent("attest")
        self.assertEqual(kept.stat().st_mode & 0o777, 0o600)
        key, before = kept.read_text(), self.opened_by_key()
        agent("attest")
        self.assertEqual(self.opened_by_key(), before + 1)
        self.assertEqual(kept.read_text(), key)
        # What the server does not take is made good by the certificate, and replaced.
        damaged = json.loads(key)
        for name in "identity", "key":
            with self.subTest(damaged=name):
                value = bytearray(base64.b64decode(damaged["key"][name]))
                value[-1] ^= 1
                changed = {**damaged["key"], name: base64.b64encode(value).decode()}
                kept.write_text(json.dumps({**damaged, "key": changed}))
                agent("attest")
                self.assertEqual(self.opened_by_key(), before + 1)
        kept.write_text("{")
        agent("attest")
        agent("attest")
        self.assertEqual(self.opened_by_key(), before + 2)
        # Nobody shows a certificate with a key: one that was made under another CA, or for another URL, is not used.
        kept.write_text(json.dumps({**json.loads(kept.read_text()), "server": "00" * 32}))
        agent("attest")
        self.assertEqual(self.opened_by_key(), before + 2)
        # Replaced at the server: whoever comes with one of before needs the certificate, and gets a new key.
        old, opened = kept.read_text(), self.opened_by_key()
        self.admin.post("/v1/connection-key/rotation", {})
        agent("attest")
        self.assertEqual(self.opened_by_key(), opened)
        self.assertNotEqual(kept.read_text(), old)
        agent("attest")
        self.assertEqual(self.opened_by_key(), opened + 1)
        # The old certificate's key is as good as the old certificate.
        old = kept.read_text()
        token = self.admin.post("/v1/enrollment-tokens", {"group": "default", "lifetime_s": 600})["token"]
        agent("enroll", "--again", "--token", token)
        self.assertFalse(kept.exists())
        kept.write_text(old)
        agent("attest")
        self.assertNotEqual(kept.read_text(), old)

    @needs(8)
    def test_20_a_running_agent_leaves_its_connection_and_key_with_their_ca(self):
        agent, kept = self.agents[1], self.agents[1].state / "connection-key.json"
        ca = agent.directory / "ca.pem"
        ca.write_bytes(pathlib.Path(self.server.ca).read_bytes())
        agent.configure(self.server, ca)
        self.addCleanup(agent.configure, self.server)
        agent("attest")
        daemon = agent.daemon()
        self.addCleanup(daemon.kill)
        before = self.reader.get(f"/v1/endpoints/{agent.endpoint}")["last_seen"]
        wait_until("an attestation", lambda: "verdict: " in (agent.directory / "journal").read_text())
        old, by_key = json.loads(kept.read_text()), self.opened_by_key()
        ca.write_text(ca.read_text() + "\n")  # others, to who compares them
        self.admin.post(f"/v1/endpoints/{agent.endpoint}/attest-now", {})
        wait_until("another key", lambda: kept.exists() and json.loads(kept.read_text())["server"] != old["server"])
        self.assertEqual(self.opened_by_key(), by_key)
        self.assertNotEqual(json.loads(kept.read_text())["key"]["key"], old["key"]["key"])
        self.assertGreaterEqual(self.reader.get(f"/v1/endpoints/{agent.endpoint}")["last_seen"], before)
        daemon.kill()
        daemon.wait()

    @needs(8)
    def test_21_what_a_server_has_said_does_not_steer_a_terminal(self):
        agent = self.agents[1]
        state = agent.state / "state.json"
        before = state.read_text()
        self.addCleanup(state.write_text, before)
        said = json.loads(before)
        said["trouble"] = "a\u001b[2J\u009b1m\nb"
        state.write_text(json.dumps(said))
        for option in (), ("--json",):
            with self.subTest(option=option):
                text = run(agent.program, "status", "--config", agent.config, *option, check=False).stdout
                for steering in "\x1b", "\x9b", "m\nb":
                    self.assertNotIn(steering, text)

    def opened_by_key(self):
        """Connections that a connection key has opened at the agents' server."""
        text = self.server.rest(self.admin.token).ask("GET", "/metrics")
        return int(next(line for line in text.splitlines() if line.startswith("gatehouse_tls_opened_by_key_total")).split()[1])

    @needs(8)
    def test_22_who_lost_the_tpms_vendor_is_untrusted_until_it_is_back(self):
        agent = self.agents[1]
        agent("attest")
        self.assertEqual(self.state_of(agent), "unmeasured")
        self.admin.ask("DELETE", "/v1/vendors/swtpm")
        wait_until("the check of the endpoints", lambda: self.state_of(agent) == "untrusted")
        endpoint = self.reader.get(f"/v1/endpoints/{agent.endpoint}")
        self.assertEqual(endpoint["reason"], "endorsement: EK certificate: no vendor is trusted any more")
        self.assertIn(endpoint["reason"], agent("attest", status=1))
        self.admin.put("/v1/vendors/swtpm", self.vendor)
        wait_until("the next one", lambda: not self.reader.get(f"/v1/endpoints/{agent.endpoint}")["endorsement_fault"])
        agent("attest")
        self.assertEqual(self.state_of(agent), "unmeasured")

    @needs(11, 14, 16)
    def test_23_webhooks_are_signed_and_retried(self):
        wait_until("the delivery that was refused first",
                   lambda: any(number == self.receiver.refused[0] for number, _ in self.receiver.events)
                   if self.receiver.refused else False)
        endpoint = self.agents[0].endpoint

        def changes():
            return {(event["from"], event["to"]) for _, event in self.receiver.events if event["endpoint"] == endpoint}
        wait_until("every change of the endpoint", lambda: changes() >= {
            ("untrusted", "unmeasured"), ("unmeasured", "untrusted"), ("unmeasured", "stale"), ("stale", "unmeasured")})
        # The server that was killed right then may have claimed it: another delivers it once the claim is over, a minute.
        wait_until("the retirement", lambda: any(event["to"] == "retired" for _, event in self.receiver.events))
        self.assertEqual(self.receiver.faults, [])
        self.assertIn("PCR 5", " ".join(event["reason"] for _, event in self.receiver.events))

    @needs(4)
    def test_24_an_operator_logs_in_with_a_client_certificate(self):
        key, request, identity = self.root / "olga.key", self.root / "olga.csr", self.root / "olga.pem"
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-out", request, "-subj", "/CN=first-admin")  # the name is the server's to give
        made = self.server.console("token", "create", "olga", "--role", "operator", "--csr", request).stdout
        identity.write_text(key.read_text() + made)
        olga = Pages(self.server, identity)
        self.assertIn("Continue as <bdi>olga</bdi>", olga.get("/log-in")[1])
        self.assertEqual(olga.post("/log-in", {"with": "certificate"})[0], 303)
        status, page = olga.get("/")
        self.assertEqual((status, "olga" in page, "operator" in page), (200, True, True))
        self.assertEqual(olga.get("/tokens")[0], 403)
        # Its session is of no use without it, nor is its certificate an endpoint's, nor an endpoint's an operator's.
        thief = Pages(self.server)
        thief.cookies = dict(olga.cookies)
        self.assertEqual(thief.get("/")[0], 303)
        self.refused(401, self.server.rest(identity=identity).post, "/v1/attestations/nonce", {})
        endpoint = Pages(self.server, self.agents[0].identity)
        self.assertNotIn("Continue as", endpoint.get("/log-in")[1])
        self.assertEqual(endpoint.post("/log-in", {"with": "certificate"})[0], 401)
        self.assertEqual(olga.post("/log-in", {"with": "certificate"})[0], 303)
        self.server.console("token", "revoke", "olga")
        self.assertEqual(olga.get("/")[0], 303)
        self.assertNotIn("Continue as", olga.get("/log-in")[1])

    @needs(8)
    def test_25_a_backup_made_while_running_is_restored_whole(self):
        counts = self.admin.get("/v1/counts")
        if self.database.kind == "sqlite":
            copy = self.root / "backup.db"
            self.server.console("backup", copy)
            self.admin.post(f"/v1/endpoints/{self.agents[2].endpoint}/retire", {"reason": "after the backup"})
            self.server.stop()
            self.assertNotEqual(self.server.console("restore", copy, check=False).returncode, 0)  # there is one
            self.server.console("restore", copy, "--force")
            restored = self.server
        else:
            told = self.server.console("backup", self.root / "backup.db", check=False)
            self.assertEqual((told.returncode, "pg_dump" in told.stderr), (2, True), told.stderr)
            restored = Server(ARGUMENTS.build, self.root / "restored", self.database.copy("restored"))
            restored.data.mkdir(mode=0o700)
            shutil.copy2(self.server.data / "master.key", restored.data)
        restored.start()
        self.addCleanup(restored.stop)
        self.assertEqual(restored.rest(self.admin.token).get("/v1/counts"), counts)
        agent = self.agents[0]
        agent.configure(restored)
        agent("attest")  # CA, certificates and keys are the same

    @needs(16, 22)
    def test_26_the_audit_log_is_whole_and_a_change_is_found(self):
        self.assertEqual(self.server.console("audit", "verify").returncode, 0)
        exported = self.server.console("audit", "export").stdout.splitlines()
        entries = [json.loads(line) for line in exported]
        self.assertEqual([one["number"] for one in entries], list(range(1, len(entries) + 1)))
        for action in ("endpoint.approve", "endpoint.state", "policy.assign", "vendor.add", "vendor.remove",
                       "endorsement.register", "endpoint.endorsement"):
            self.assertIn(action, {one["action"] for one in entries})
        retired = [one for one in entries if one["action"] == "endpoint.state" and one["detail"]["to"] == "retired"]
        self.assertEqual((retired[0]["who"], retired[0]["detail"]["reason"]), ("test", "sold"))
        self.database.break_audit()
        broken = self.server.console("audit", "verify", check=False)
        self.assertEqual(broken.returncode, 1, broken.stdout)
        self.assertIn("2", broken.stdout)


STEPS = {int(name.split("_")[1]): name for name in sorted(dir(FleetTest)) if name.startswith("test_")}
# Two of one number would be one, and the other never run.
assert len(STEPS) == sum(name.startswith("test_") for name in dir(FleetTest)), "two steps have one number"


def with_needs(wanted):
    """The numbers of these steps and of all that they need, in order."""
    found, left = set(), list(wanted)
    while left:
        number = left.pop()
        if number not in found:
            found.add(number)
            left += getattr(getattr(FleetTest, STEPS[number]), "needs", ())
    return sorted(found)


def step(text):
    found = [number for number, name in STEPS.items() if (int(text) == number if text.isdigit() else text in name)]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text}: {len(found)} steps are called so (--list has them)")
    return found[0]


def main():
    if sys.argv[1:] == ["--list"]:
        for number, name in STEPS.items():
            needed = with_needs([number])[:-1]
            print(f"{name}{': after ' + ', '.join(map(str, needed)) if needed else ''}")
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], required=True)
    parser.add_argument("--only", type=step, action="append", metavar="STEP", default=[])
    parser.parse_args(namespace=ARGUMENTS)
    suite = unittest.TestSuite(FleetTest(STEPS[number]) for number in with_needs(ARGUMENTS.only or STEPS))
    return 0 if unittest.TextTestRunner(verbosity=2, failfast=True).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
