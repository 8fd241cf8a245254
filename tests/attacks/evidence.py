"""What attacks on evidence share: a quote taken in the guest, and the verifier's answer."""

import os
import subprocess

from harness import lab

NONCE = "5a" * 32
QUOTE = f"gatehouse-channel quote --nonce {NONCE} -o $results/evidence && echo quoted"


def verify(box, results, nonce=NONCE, record=None, key=None):
    """(exit status of attest verify, the line that says why)"""
    appliance = box.shared.appliance
    done = subprocess.run([os.path.join(box.options.build, "bin", "attest"), "verify", os.path.join(results, "evidence"),
                           "--nonce", nonce, "--ak", key or appliance.path("ak.pem"), "--image", appliance.image, "--record",
                           record or appliance.path("endpoint.record"), "--enrollment",
                           appliance.path("enrollment.pub")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.strip().splitlines() or ["no output"]
    return done.returncode, next((line for line in lines if "fail" in line.lower()), lines[-1])


def change(results, name, how):
    path = os.path.join(results, "evidence", name)
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(how(data))


__all__ = ["NONCE", "QUOTE", "change", "lab", "verify"]
