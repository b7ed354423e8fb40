"""`apply` for the pool types that need real servers and devices: twice, and after a stop."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB
from shell import Shell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "root")


def lines(shell: Shell, *words: object) -> list[str]:
    return shell.ok("apply", *map(str, words)).splitlines()[:-1]


def live(shell: Shell, file: Path, built: bool, volumes: tuple[str, ...] = ()) -> None:
    """Apply a file with the pool `p` twice, and twice again when the pool was stopped."""
    with ExitStack() as stack:
        stack.callback(shell.run, "pool-destroy", "p")
        done = [f"Pool p {did}" for did in ("defined", *["built"] * built, "started",
                                            "marked as autostarted")]  # fmt: skip
        done += [f"Vol {name} of pool p created" for name in volumes]
        assert lines(shell, file) == [*done, f"{len(done)} changes made"]
        assert lines(shell, file) == ["Nothing to change"]
        shell.ok("pool-destroy", "p")
        assert "Pool p would be started" in lines(shell, "--diff", file)
        assert lines(shell, file) == ["Pool p started", "1 change made"]
        assert lines(shell, file) == ["Nothing to change"]
        assert lines(shell, "--diff", "--detailed-exitcode", file) == ["Nothing would be changed"]


def write(folder: Path, kind: str, source: str, target: object, volumes: str = "") -> Path:
    file = folder / "p.xml"
    place = f"<target><path>{target}</path></target>" if target else ""
    listed = f"<volumes>{volumes}</volumes>" if volumes else ""
    file.write_text(
        f"<pool type='{kind}' build='yes'><name>p</name><source>{source}</source>{place}{listed}"
        "</pool>"
    )
    return file


def volume(name: str, capacity: int, more: str = "") -> str:
    return f"<volume><name>{name}</name><capacity>{capacity}</capacity>{more}</volume>"


def test_logical(shell: Shell, tmp_path: Path) -> None:
    with devices.loop() as one, devices.loop() as two, devices.group_removed("labapply", one, two):
        source = f"<device path='{one}'/><device path='{two}'/><name>labapply</name>"
        volumes = volume("a", 5 * MiB) + volume("b", 8 * MiB)
        live(shell, write(tmp_path, "logical", source, "", volumes), True, ("a", "b"))
        lines(shell, tmp_path / "p.xml")
        volumes = volume("a", 9 * MiB)
        file = write(tmp_path, "logical", source, "", volumes)
        assert lines(shell, "--resize", "--prune", "volumes", file) == [
            f"Vol a of pool p resized from {8 * MiB} to {12 * MiB} bytes",
            "Vol b of pool p deleted",
            "2 changes made",
        ]
        assert lines(shell, "--resize", "--prune", "volumes", file) == ["Nothing to change"]
        shell.ok("pool-destroy", "p")


def test_netfs(shell: Shell, tmp_path: Path) -> None:
    with (
        devices.nfs_server(),
        devices.folder() as folder,
        devices.nfs_export(folder),
    ):
        source = f"<host name='127.0.0.1'/><dir path='{folder}'/><format type='nfs'/>"
        volumes = volume("a", MiB) + volume("b", MiB, "<allocation>0</allocation>")
        live(shell, write(tmp_path, "netfs", source, tmp_path / "mnt", volumes), True, ("a", "b"))


def test_iscsi(shell: Shell, tmp_path: Path) -> None:
    with devices.iscsid(), devices.iscsi_target(1, 32 * MiB) as target:
        source = f"<host name='127.0.0.1'/><device path='{target.iqn}'/>"
        volumes = volume("unit:0:0:1", 32 * MiB)
        try:
            live(shell, write(tmp_path, "iscsi", source, "/dev/disk/by-path", volumes), False)
        finally:
            devices.logout(target)


def test_scsi(shell: Shell, tmp_path: Path) -> None:
    with devices.scsi_debug() as (host,):
        source = f"<adapter type='scsi_host' name='{host.name}'/>"
        volumes = volume("unit:0:0:0", 32 * MiB)
        live(shell, write(tmp_path, "scsi", source, "/dev/disk/by-id", volumes), False)


def test_mpath(shell: Shell, tmp_path: Path) -> None:
    live(shell, write(tmp_path, "mpath", "", "/dev/mapper"), False)
