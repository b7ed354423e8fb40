"""Scripts of dry runs, run by bash on real servers and devices."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB, run
from shell import Shell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    if not os.path.lexists("/dev/stdin"):  # no init has made it in this guest
        os.symlink("/proc/self/fd/0", "/dev/stdin")
    return Shell(tmp_path / "root")


def by_script(shell: Shell, *words: str) -> None:
    """Ask what a command would do, which does nothing, and do that."""
    before = devices.snapshot(), devices.pvs()
    script = shell.ok(*words, "--dry-run")
    assert (devices.snapshot(), devices.pvs()) == before, words
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, script, done.stdout, done.stderr)
    devices.settle()


def life(shell: Shell, build: bool, *changes: tuple[str, ...]) -> None:
    """Have a defined pool built, started, changed, stopped and forgotten by scripts."""
    if build:
        by_script(shell, "pool-build", "p")
    by_script(shell, "pool-start", "p")
    assert shell.state("p") == "running"
    for words in changes:
        by_script(shell, *words)
    by_script(shell, "pool-destroy", "p")
    assert shell.state("p") == "inactive"
    by_script(shell, "pool-undefine", "p")
    assert shell.run("pool-exists", "p").status == 1


def test_logical(shell: Shell) -> None:
    with devices.loop() as device, devices.group_removed("labdry", device):
        by_script(shell, "pool-define-as", "p", "logical", "--source-dev", device,
                  "--source-name", "labdry")  # fmt: skip
        life(
            shell,
            True,
            ("vol-create-as", "p", "v", "8M"),
            ("vol-create-as", "p", "w", "4M"),
            ("vol-resize", "v", "12M", "p"),
            ("vol-delete", "w", "p"),
        )
        sizes = run("lvs", "--noheadings", "--units", "b", "-o", "lv_name,lv_size", "labdry")
        assert sizes.split() == ["v", f"{12 * MiB}B"]


def test_netfs(shell: Shell, tmp_path: Path) -> None:
    with devices.nfs_server(), devices.folder() as folder, devices.nfs_export(folder):
        by_script(shell, "pool-define-as", "p", "netfs", "--source-host", "127.0.0.1",
                  "--source-path", folder, "--target", str(tmp_path / "mnt"))  # fmt: skip
        life(shell, True, ("vol-create-as", "p", "v", "1M"), ("vol-clone", "v", "w", "p"),
             ("vol-delete", "v", "p"))  # fmt: skip
        assert run("ls", folder).split() == ["w"]


def test_iscsi(shell: Shell) -> None:
    with devices.iscsid(), devices.iscsi_target() as target:
        try:
            by_script(shell, "pool-define-as", "p", "iscsi", "--source-host", "127.0.0.1",
                      "--source-dev", target.iqn, "--target", "/dev/disk/by-path")  # fmt: skip
            life(shell, False)
            assert target.iqn not in devices.sessions()
        finally:
            devices.logout(target)


def test_scsi_and_mpath(shell: Shell) -> None:
    with devices.scsi_debug() as (host,):
        by_script(shell, "pool-define-as", "p", "scsi", "--adapter-name", host.name,
                  "--target", "/dev/disk/by-id")  # fmt: skip
        life(shell, False)
    by_script(shell, "pool-define-as", "p", "mpath", "--target", "/dev/mapper")
    life(shell, False)
