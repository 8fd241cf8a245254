"""The task disk: how a host hands the test guest a script and gets its results back.

The guest's half is tests/guests/appliance (gatehouse-task).  The disk's first half is a tar file with `run`, a bash
script, and what else it needs; into the second half the guest writes a tar file of results/: what `run` left there, its
output (results/output) and its exit status (results/status).
"""

import io
import os
import tarfile

SIZE = 64 << 20
SERIAL = "gatehouse-task"


def make(path, script, files=(), size=SIZE):
    """Writes a task disk: the text of `run`, and (name, host path) pairs of further files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        data = script.encode()
        run = tarfile.TarInfo("run")
        run.size, run.mode = len(data), 0o755
        tar.addfile(run, io.BytesIO(data))
        for name, source in files:
            tar.add(source, arcname=name)
    if buffer.tell() > size // 2:
        raise ValueError(f"the task needs {buffer.tell()} bytes, more than half of the disk")
    with open(path, "wb") as disk:
        disk.write(buffer.getvalue())
        disk.truncate(size)


def qemu_arguments(path):
    """What a machine needs to have the disk.  It is behind the IOMMU, as every device of a real machine; and
    behind a root port, where it can be reset: what cannot gets no DMA."""
    return ["-drive", f"if=none,id=task,format=raw,file={path}", "-device", "pcie-root-port,id=task-port,chassis=1",
            "-device", f"virtio-blk-pci,drive=task,bus=task-port,serial={SERIAL},iommu_platform=on,disable-legacy=on"]


def results(path, directory):
    """Unpacks results/ into `directory`; returns the task's exit status, or None if the guest wrote no results."""
    with open(path, "rb") as disk:
        disk.seek(os.path.getsize(path) // 2)
        data = disk.read()
    if not any(data[:512]):
        return None
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", ignore_zeros=False) as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()) or os.path.isabs(member.name) or ".." in member.name.split("/"):
                continue
            tar.extract(member, directory, filter="data") if hasattr(tarfile, "data_filter") else tar.extract(
                member, directory)
    with open(os.path.join(directory, "results", "status"), encoding="ascii") as file:
        return int(file.read())
