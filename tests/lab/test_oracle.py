"""storagectl against virsh, for each pool type: the same script on the same fresh devices.

The comparison and its rules are those of tests/oracle/oracle.py; what may differ is listed
beside each script.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "oracle"))

import oracle  # noqa: E402  (the folder isn't a package)

SCRIPTS = HERE / "oracle"
SERVED = "/srv/oracle"
CHAP = ("lab", "secret-of-lab-1")
Given = tuple[dict[str, str], dict[str, str]]


@contextmanager
def plain(stack: ExitStack) -> Iterator[Given]:
    yield {}, {}


@contextmanager
def fs(stack: ExitStack) -> Iterator[Given]:
    device = stack.enter_context(devices.loop(320 * MiB))
    folder = stack.enter_context(devices.folder())
    for name in ("readme", "disk.raw"):
        Path(folder, name).write_bytes(b"x" * 4096)
    image = stack.enter_context(devices.sparse_file(0))
    devices.run("genisoimage", "-quiet", "-r", "-o", image, folder)
    iso = stack.enter_context(devices.loop_file(image, "--read-only"))
    yield {"DEV": device, "ISO": iso}, neutral("loop", device, iso)


@contextmanager
def netfs(stack: ExitStack) -> Iterator[Given]:
    stack.enter_context(devices.nfs_server())
    stack.enter_context(file_system(SERVED))
    env = {"EXPORT": f"{SERVED}/one", "OTHER": f"{SERVED}/two"}
    for path in env.values():
        os.mkdir(path)
        stack.enter_context(devices.nfs_export(path))
    yield env, {}


@contextmanager
def logical(stack: ExitStack) -> Iterator[Given]:
    one = stack.enter_context(devices.loop(128 * MiB))
    two = stack.enter_context(devices.loop(64 * MiB))
    yield {"DEV1": one, "DEV2": two}, neutral("loop", one, two)


@contextmanager
def disk(stack: ExitStack) -> Iterator[Given]:
    (host,) = stack.enter_context(devices.scsi_debug(size=256 * MiB))
    yield {"DISK": host.disks[0]}, neutral("sd", *host.disks)


@contextmanager
def iscsi(stack: ExitStack) -> Iterator[Given]:
    stack.enter_context(devices.iscsid())
    target = stack.enter_context(devices.iscsi_target(luns=2))
    chap = stack.enter_context(devices.iscsi_target(chap=CHAP))
    env = {"TARGET": target.iqn, "CHAPTARGET": chap.iqn, "CHAPUSER": CHAP[0], "CHAPSECRET": CHAP[1]}
    try:
        yield env, {target.iqn: "iqn.2024-01.lab:one", chap.iqn: "iqn.2024-01.lab:chap"}
    finally:
        # what iscsiadm remembers: portals, targets and interfaces
        for folder in ("nodes", "send_targets", "ifaces"):
            shutil.rmtree(f"/etc/iscsi/{folder}", ignore_errors=True)


@contextmanager
def scsi(stack: ExitStack) -> Iterator[Given]:
    (host,) = stack.enter_context(devices.scsi_debug(targets=2))
    links = "/dev/oracle"
    os.mkdir(links)
    stack.callback(shutil.rmtree, links)
    for name, disk in zip(("first", "second"), host.disks, strict=True):
        os.symlink(disk, f"{links}/{name}")
    names = {**neutral("sd", *host.disks), host.name: "hostN"}
    yield {"HOST": host.name, "DISK": host.disks[0], "LINKS": links}, names


@contextmanager
def mpath(stack: ExitStack) -> Iterator[Given]:
    path = stack.enter_context(devices.multipath())
    name = os.path.basename(os.path.realpath(path.device))
    yield {"MAP": path.name, "DM": name}, {name: "dm-N"}


TYPES: dict[str, Callable[[ExitStack], AbstractContextManager[Given]]] = {
    "dir": plain,
    "fs": fs,
    "netfs": netfs,
    "logical": logical,
    "disk": disk,
    "iscsi": iscsi,
    "scsi": scsi,
    "mpath": mpath,
}


def neutral(prefix: str, *paths: str) -> dict[str, str]:
    """Give each device a name of the length of the kernel's: tables keep their widths."""
    names = [os.path.basename(path) for path in paths]
    return {name: prefix + letter for name, letter in zip(names, "XYZ", strict=False)}


def played(kind: str, program: list[str]) -> list[oracle.Record]:
    """Run the script of a pool type on fresh devices."""
    with ExitStack() as stack:
        work = stack.enter_context(file_system(oracle.WORK))
        env, names = stack.enter_context(TYPES[kind](stack))
        return oracle.play(SCRIPTS / f"{kind}.sh", program, {**env, "WORK": work}, names)


@contextmanager
def file_system(point: str) -> Iterator[str]:
    """A small file system of its own: what is free in it is the same in every run."""
    with devices.loop(128 * MiB) as device:
        devices.run(*oracle.MKFS_WORK.split(), device)
        os.makedirs(point)
        devices.run("mount", device, point)
        try:
            os.rmdir(f"{point}/lost+found")
            yield point
        finally:
            devices.run("umount", point)
            os.rmdir(point)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", TYPES)
def test_storagectl_answers_like_virsh(kind: str) -> None:
    # what a script left that broke off
    for folder in ("/etc/libvirt", "/run/libvirt"):
        shutil.rmtree(f"{folder}/storage", ignore_errors=True)
    with devices.libvirtd() as virsh:
        expected = played(kind, list(virsh))
    actual = played(kind, ["storagectl", "--root", "{state}"])
    entries = oracle.load_intended(SCRIPTS / f"{kind}.toml")
    report = oracle.compare(expected, actual, entries)
    report.source = "virsh"
    print(report.text())
    for theirs, mine in report.open:
        print(oracle.as_entry(theirs, mine))
    assert report.good, report.summary()
