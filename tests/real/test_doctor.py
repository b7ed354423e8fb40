"""doctor on real devices: what it finds is mended by the command that it prints."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from scratch import MIB, Program, Scratch, make, nothing_changed, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program on the path, for the commands that it prints."""
    script = tmp_path / "storagectl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m storagectl "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def findings(ctl: Program, *pool: str) -> list[tuple[str, str]]:
    """Return what is wrong, each with the command that mends it."""
    done = ctl.run("doctor", *pool)
    assert done.stderr == ""
    found = re.findall(r"^  \w+: (.*)\n    (?:mend|look): (.*)$", done.stdout, re.M)
    assert done.returncode == (1 if found else 0)
    return found


def mend(ctl: Program, pool: str, words: str) -> None:
    """Do what doctor says of the one thing that is wrong, and see that nothing is any more."""
    ((what, command),) = findings(ctl, pool)
    assert words in what
    run(*shlex.split(command))
    assert findings(ctl, pool) == []


def test_a_disk_without_a_partition_table(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    ctl.ok("pool-define-as", "d", "disk", "--source-dev", device, "--target", "/dev")
    with nothing_changed(ctl.root, [device]):
        found = findings(ctl)
    assert len(found) == 1
    mend(ctl, "d", f"'{device}' has no partition table")
    ctl.ok("pool-start", "d")
    assert findings(ctl) == []


def test_a_disk_with_another_table(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    run("parted", "--script", device, "mklabel", "msdos")
    ctl.ok("pool-define-as", "d", "disk", "--source-dev", device, "--source-format", "gpt",
           "--target", "/dev")  # fmt: skip
    ((what, command),) = findings(ctl, "d")
    assert what.endswith("has another content than the definition says, gpt: dos")
    assert command.endswith("pool-edit d")


def fs_pool(ctl: Program, scratch: Scratch, device: str) -> Path:
    target = scratch.folder / "target"
    target.mkdir()
    ctl.ok("pool-define-as", "f", "fs", "--source-dev", device, "--source-format", "ext4",
           "--target", target)  # fmt: skip
    return target


def test_a_device_without_a_file_system(ctl: Program, scratch: Scratch) -> None:
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4")
    fs_pool(ctl, scratch, scratch.loop())
    mend(ctl, "f", "has no file system")
    ctl.ok("pool-start", "f")
    assert findings(ctl) == []


def test_something_else_is_mounted_at_the_target(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    make("ext4", device)
    target = fs_pool(ctl, scratch, device)
    scratch.mount("none", "target", "-t", "tmpfs")
    ctl.refused("pool-start", "f")
    mend(ctl, "f", f"something else is mounted at '{target}'")
    ctl.ok("pool-start", "f")


def test_a_device_that_is_mounted_elsewhere(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    make("ext4", device)
    fs_pool(ctl, scratch, device)
    scratch.mount(device, "elsewhere")
    mend(ctl, "f", f"is in use: mounted on {scratch.folder}/elsewhere")


def test_a_pool_that_was_unmounted_by_hand(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    make("ext4", device)
    target = fs_pool(ctl, scratch, device)
    ctl.ok("pool-start", "f")
    run("umount", target)
    mend(ctl, "f", "the host has stopped it meanwhile")
    assert ctl.state("f") == "running"


def test_a_device_that_is_gone(ctl: Program, scratch: Scratch) -> None:
    fs_pool(ctl, scratch, "/dev/disk/by-id/nosuch")
    ((what, command),) = findings(ctl, "f")
    assert what == "device '/dev/disk/by-id/nosuch' does not exist"
    assert command.startswith("lsblk ")


def test_a_group_that_is_not_there(ctl: Program, scratch: Scratch) -> None:
    if not shutil.which("vgs"):
        pytest.skip("needs LVM")
    device = scratch.loop(64 * MIB)
    ctl.ok("pool-define-as", "v", "logical", "--source-dev", device, "--source-name",
           f"sctest-{os.getpid()}")  # fmt: skip
    ((what, command),) = findings(ctl, "v")
    assert what.startswith("there is no volume group")
    assert command.endswith("pool-build v")
