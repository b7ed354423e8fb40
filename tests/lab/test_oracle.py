"""storagectl against virsh, for each pool type: the same script on the same fresh devices.

The comparison and its rules are those of tests/oracle/oracle.py; what may differ is listed
beside each script.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
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
def iscsi(stack: ExitStack) -> Iterator[Given]:
    stack.enter_context(devices.iscsid())
    target = stack.enter_context(devices.iscsi_target(luns=2))
    chap = stack.enter_context(devices.iscsi_target(chap=CHAP))
    env = {"TARGET": target.iqn, "CHAPTARGET": chap.iqn, "CHAPUSER": CHAP[0], "CHAPSECRET": CHAP[1]}
    yield env, {}


@contextmanager
def scsi(stack: ExitStack) -> Iterator[Given]:
    (host,) = stack.enter_context(devices.scsi_debug(targets=2))
    names = {os.path.basename(disk): f"sd{letter}" for disk, letter in zip(host.disks, "XY")}
    yield {"HOST": host.name, "DISK": os.path.basename(host.disks[0])}, {**names, host.name: "hostN"}


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
def mpath(stack: ExitStack) -> Iterator[Given]:
    path = stack.enter_context(devices.multipath())
    yield {"MAP": path.name, "DM": os.path.basename(os.path.realpath(path.device))}, {}


TYPES: dict[str, Callable[[ExitStack], object]] = {
    "netfs": netfs, "iscsi": iscsi, "scsi": scsi, "mpath": mpath,
}  # fmt: skip


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
    with devices.libvirtd() as virsh:
        expected = played(kind, list(virsh))
    actual = played(kind, ["storagectl", "--root", "{state}"])
    report = oracle.compare(expected, actual, oracle.load_intended(SCRIPTS / f"{kind}.toml"))
    report.source = "virsh"
    print(report.text())
    assert report.good, report.text()

