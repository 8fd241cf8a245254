"""Software TPMs (swtpm): made, kept in a directory each, and run for a machine or for programs of the host.

    create_tpm_state("tpm", banks=["sha256", "sha384"])  # a new TPM: keys, and which PCR banks are active
    with HostTpm("tpm") as tpm:                          # the same TPM for host programs, while no machine runs
        subprocess.run(["tpm2_pcrread"], env=tpm.environment)
"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile

from waiting import PATIENCE, wait_until

DEFAULT_BANKS = ("sha1", "sha256", "sha384", "sha512")


class TpmError(OSError):
    """What failed, and where to look."""


def listens(path):
    """Whether a UNIX socket there takes connections: its file is there before (/proc/net/unix, SO_ACCEPTCON)."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        return any(words[3] == "00010000" and words[-1] == path for words in map(str.split, file))


def end_process(process, grace=20):
    """Ends a process, and waits for it; by force if it does not end in time."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def die_with_parent():
    """In the child: be ended when the thread that started it ends (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class SoftwareTpm:
    """One swtpm process over one state directory.  Sockets live in a short path of their own (sun_path is short)."""

    def __init__(self, state, log, for_host):
        if not os.path.isdir(state):
            raise TpmError(f"{state}: no such TPM state; make one with create_tpm_state")
        self.lock = open(os.path.join(state, ".lock"), "w", encoding="ascii")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            raise TpmError(f"{state}: this TPM is in use by another machine or program") from None
        self.sockets = tempfile.mkdtemp(prefix="swtpm-")
        self.data = os.path.join(self.sockets, "tpm")
        self.control = self.data + ".ctrl"
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={self.control}",
                   "--log", f"file={log},level=2,truncate"]
        if for_host:
            command += ["--server", f"type=unixio,path={self.data}", "--flags", "not-need-init,startup-clear"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        needed = [self.control] + ([self.data] if for_host else [])
        try:
            wait_until("swtpm's sockets", lambda: self.process.poll() is not None or all(map(listens, needed)), error=TpmError)
            if self.process.poll() is not None:
                raise TpmError(f"swtpm ended with status {self.process.returncode}; its log is {log}")
        except TpmError:
            self.stop()
            raise

    def stop(self):
        end_process(self.process)
        shutil.rmtree(self.sockets, ignore_errors=True)
        self.lock.close()


def create_tpm_state(state, banks=DEFAULT_BANKS, endorsement_key=True, vendor=None):
    """Makes directory `state` hold a new TPM 2.0 (whatever was there is removed) with these PCR banks active.  `vendor` is
    a directory for the TPM vendor's CA, made by the first TPM of it: then the endorsement keys have certificates (in NV
    0x01c00002 and 0x01c00016) by VENDOR/issuercert.pem, whose own is by VENDOR/swtpm-localca-rootca-cert.pem."""
    shutil.rmtree(state, ignore_errors=True)
    os.makedirs(state)
    command = ["swtpm_setup", "--tpm2", "--tpm-state", state, "--pcr-banks", ",".join(banks), "--overwrite"]
    if endorsement_key:
        command += ["--createek", "--ecc"]
    if vendor:
        command += ["--create-ek-cert", "--config", _vendor_configuration(os.path.abspath(vendor))]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, check=False)
    if result.returncode != 0:
        raise TpmError(f"swtpm_setup failed for {state}:\n{result.stdout}")


def _vendor_configuration(vendor):
    """The CA's configuration in its own directory; the path of the file that swtpm_setup takes."""
    os.makedirs(vendor, exist_ok=True)
    files = {
        "ca.conf": f"statedir = {vendor}\nsigningkey = {vendor}/signkey.pem\nissuercert = {vendor}/issuercert.pem\n"
                   f"certserial = {vendor}/certserial\n",
        "ca.options": "--platform-manufacturer gatehouse\n--platform-version 1\n--platform-model test\n",
        "setup.conf": f"create_certs_tool = {shutil.which('swtpm_localca')}\ncreate_certs_tool_config = {vendor}/ca.conf\n"
                      f"create_certs_tool_options = {vendor}/ca.options\n",
    }
    for name, text in files.items():
        with open(os.path.join(vendor, name), "w", encoding="utf-8") as file:
            file.write(text)
    return os.path.join(vendor, "setup.conf")


class HostTpm:
    """The TPM in `state`, started up, for programs on the host, at locality 0; shut down in order at the end."""

    def __init__(self, state, log=None):
        self.state = os.path.abspath(state)
        self.log = log or os.path.join(self.state, "swtpm-host.log")
        self.swtpm = None

    @property
    def tcti(self):
        return f"swtpm:path={self.swtpm.data}"

    @property
    def environment(self):
        return dict(os.environ, TPM2TOOLS_TCTI=self.tcti, TSS2_TCTI=self.tcti)

    def __enter__(self):
        self.swtpm = SoftwareTpm(self.state, self.log, for_host=True)
        return self

    def __exit__(self, *_):
        try:
            subprocess.run(["tpm2_shutdown", "--clear"], env=self.environment, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False)
        finally:
            self.swtpm.stop()
