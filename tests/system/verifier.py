"""An attestation server on the host's loopback, and the guest's way to it.

The operator's steps are those of the REST interface, with an administrator's token.
"""

import base64
import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import appliance as lab
from machine import PATIENCE, end_process, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST_ADDRESS = "10.0.2.15"
SERVER_ADDRESS = "10.0.2.100"  # as the guest sees it
SERVER_PORT = 8443
GROUP = "kiosks"
POLICY = "appliance"
LEASE_S = 60  # the least that a policy may give
LONG_LEASE_S = 3600  # longer than any test

# What a guest does first: the network card, and the address by hand, for there is nobody to give one.
NETWORK = f"""
modprobe e1000e
udevadm settle --timeout=600  # udev renames it
device=
for link in /sys/class/net/*; do [ ! -e "$link/device" ] || device=${{link##*/}}; done
[ -n "$device" ] || {{ echo "no network card"; exit 1; }}
ip address add {GUEST_ADDRESS}/24 dev "$device"
ip link set "$device" up
for i in $(seq 3000); do
    [ "$(cat "/sys/class/net/$device/carrier")" != 1 ] || break
    sleep 0.1
done
"""


def qemu_arguments(port):
    """A network card behind the IOMMU and a root port, where it can be reset, on a network that has one host with one port: the server's."""
    command = f"{sys.executable} {os.path.join(HERE, 'relay.py')} {port}"
    return ["-netdev", f"user,id=net,restrict=on,guestfwd=tcp:{SERVER_ADDRESS}:{SERVER_PORT}-cmd:{command}",
            "-device", "pcie-root-port,id=net-port,chassis=2", "-device", "e1000e,netdev=net,bus=net-port,romfile="]


class AttestationServer:
    """Runs while the object is entered; its state is in `directory`."""

    def __init__(self, build, directory):
        self.program = os.path.join(build, "bin", "attestation-server")
        self.directory = directory
        self.data = os.path.join(directory, "data")
        self.ca = os.path.join(directory, "ca.pem")
        self.log = os.path.join(directory, "server.log")
        self.process = None
        self.port = 0

    def __enter__(self):
        os.makedirs(self.data, mode=0o700, exist_ok=True)
        ready, given = os.pipe()
        try:
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    [self.program, "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.port}", "--name",
                     SERVER_ADDRESS, "--name", "127.0.0.1", "--ready-fd", str(given)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[given])
            os.close(given)
            given = -1
            with os.fdopen(ready, encoding="ascii") as pipe:
                ready = -1
                place = pipe.readline().strip()  # empty when the server has ended
            if not place:
                raise lab.ApplianceError(f"attestation-server does not start: {self.log}")
            self.port = int(place.rsplit(":", 1)[1])
            with open(self.ca, "wb") as file:
                file.write(lab.run([self.program, "ca", "--data", self.data]))
            token = lab.run([self.program, "token", "create", "system-test", "--role", "admin", "--data", self.data,
                             "--json"])
            self.token = json.loads(token)["token"]
        except BaseException:
            self.__exit__()
            raise
        finally:
            for descriptor in (ready, given):
                if descriptor >= 0:
                    os.close(descriptor)
        return self

    def __exit__(self, *_):
        end_process(self.process)

    def api(self, method, path, body=None, kind="application/json"):
        """The answer to a request of the administrator; ApplianceError with what the server said otherwise."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if data is not None:
            request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE,
                                        context=ssl.create_default_context(cafile=self.ca)) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise lab.ApplianceError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from None
        return json.loads(text) if text else None

    # --- the operator's steps ---------------------------------------------------------------------------------

    def trust_vendor(self, box):
        """The CA of the appliance's TPM."""
        def der(name):
            pem = lab.run(["openssl", "x509", "-in", os.path.join(box.path("tpm-vendor"), name), "-outform", "DER"])
            return base64.b64encode(pem).decode()
        self.api("PUT", "/v1/vendors/swtpm", {"roots": [der("swtpm-localca-rootca-cert.pem")],
                                              "intermediates": [der("issuercert.pem")], "revocations": []})

    def expect(self, box, lease_s=LONG_LEASE_S):
        """A group whose endpoints must run what the appliance's image has: predicted, signed by its authority."""
        policy, signed = box.path("attestation-policy.json"), box.path("attestation-policy.jws")
        box.tool("policyctl", "attestation-policy", "--name", POLICY, "--version", "1", "--reference",
                 box.path("predicted.json"), "--lease", str(lease_s), "-o", policy)
        box.tool("policyctl", "sign-attestation-policy", policy, "--key", box.path("authority.pem"), "-o", signed)
        with open(box.path("authority.pub"), encoding="ascii") as file:
            self.api("PUT", "/v1/policy-authorities/operator", {"public_key": file.read()})
        with open(signed, "rb") as file:
            self.api("POST", "/v1/policies", file.read(), "application/jose")
        self.api("PUT", f"/v1/groups/{GROUP}", {})
        self.api("PUT", f"/v1/assignments/{GROUP}/{POLICY}/1", {"stage": "enforce"})

    def enrollment_token(self):
        return self.api("POST", "/v1/enrollment-tokens", {"group": GROUP, "lifetime_s": 3600})["token"]

    def endpoint(self):
        """The only endpoint, or None."""
        rows = self.api("GET", "/v1/endpoints")["items"]
        return rows[0] if rows else None

    def last(self):
        """The only endpoint's last attestation, with its verdict."""
        return self.api("GET", f"/v1/endpoints/{self.endpoint()['id']}/attestations/last")

    def attestations(self):
        """The only endpoint's attestations, the newest first."""
        return self.api("GET", f"/v1/endpoints/{self.endpoint()['id']}/attestations")["items"]

    def wait_for_state(self, state):
        """The endpoint once it is in this state; it is polled, as a page would."""
        def reached():
            endpoint = self.endpoint()
            return endpoint if endpoint["state"] == state else None
        return wait_until(f"endpoint in state {state}", reached, 2 * LEASE_S + PATIENCE, lab.ApplianceError)


def agent_command(action):
    """Of a guest's task that has the server's CA in ca.pem: the agent's state is on the encrypted root."""
    return (f"attestation-agent --server https://{SERVER_ADDRESS}:{SERVER_PORT} --ca ca.pem"
            f" --state /var/lib/gatehouse-agent --hostname appliance {action} --json")
