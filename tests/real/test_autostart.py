"""Autostarted pools on real mounts, up to the signal in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from inprocess import put_on_tool_path
from scratch import is_mounted, make, run
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from scratch import Program, Scratch

pytestmark = pytest.mark.root


@pytest.fixture
def pools(ctl: Program, scratch: Scratch) -> dict[str, Path]:
    """Two fs pools and a folder in one of them, all marked; their targets."""
    found = {}
    for name in ("one", "two"):
        device = scratch.loop()
        make("ext4", device)
        found[name] = scratch.folder / name
        ctl.ok("pool-define-as", name, "fs", "--source-dev", device, "--source-format", "ext4",
               "--target", found[name])  # fmt: skip
        ctl.ok("pool-build", name)
    found["a-folder"] = found["two"] / "images"
    ctl.ok("pool-define-as", "a-folder", "dir", "--target", found["a-folder"])
    ctl.ok("pool-start", "two")
    ctl.ok("pool-build", "a-folder")
    ctl.ok("pool-destroy", "two")
    for name in found:
        ctl.ok("pool-autostart", name)
    return found


def test_all_come_up(ctl: Program, pools: dict[str, Path]) -> None:
    done = ctl.ok("autostart").split("\n")
    assert sorted(done) == ["", "", *(f"Pool {name} started" for name in sorted(pools))]
    assert done.index("Pool two started") < done.index("Pool a-folder started")
    assert is_mounted(pools["one"])
    assert is_mounted(pools["two"])
    assert ctl.ok("autostart") == "\n"


def test_s49_some_of_six_fail(ctl: Program, scratch: Scratch, pools: dict[str, Path]) -> None:
    """The others come up; the exit status says that not all did, and JSON which and why.

    One is on a file server that refuses at once, and another waits for the one that fails.
    """
    device = scratch.loop()
    for name, words in (
        ("one-is-empty", ("fs", "--source-dev", device, "--source-format", "ext4")),
        ("server", ("netfs", "--source-host", "127.0.0.1", "--source-path", "/nowhere")),
        ("within", ("dir",)),
    ):
        target = scratch.folder / name if name != "within" else scratch.folder / "one-is-empty/x"
        ctl.ok("pool-define-as", name, *words, "--target", target)
        ctl.ok("pool-autostart", name)
    (scratch.folder / "one-is-empty").mkdir()
    (scratch.folder / "server").mkdir()
    done = ctl.run("--json", "autostart")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: 3 of 6 autostarted pools are not active: one-is-empty, server, within\n"
    )
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    fared = {pool["name"]: pool for pool in answer["result"]["pools"]}
    assert fared.keys() == {*pools, "one-is-empty", "server", "within"}
    for name, pool in fared.items():
        assert pool["started"] == (pool["error"] is None) == (name in pools), pool
    assert all(is_mounted(pools[name]) for name in ("one", "two"))


@pytest.mark.parametrize(
    ("signum", "whom"),
    [(signal.SIGINT, "all of us"), (signal.SIGTERM, "all of us"), (signal.SIGTERM, "us")],
)
def test_signal(
    ctl: Program,
    scratch: Scratch,
    pools: dict[str, Path],
    signum: int,
    whom: str,
) -> None:
    """Caught between a mount and its end: nothing stays mounted, and nothing runs on."""
    tools = scratch.folder / "tools"
    tools.mkdir()
    slow = tools / "mount"
    # its helper goes on by itself, as mount.nfs does
    slow.write_text(f"#!/bin/sh\n{shutil.which('mount')} \"$@\"\nsh -c 'sleep 300; :'\n")
    slow.chmod(0o755)
    put_on_tool_path(ctl.root, tools)
    with ctl.start("autostart") as child:
        wait_for(lambda: all(is_mounted(pools[name]) for name in ("one", "two")), "no mount")
        (os.kill if whom == "us" else os.killpg)(child.pid, signum)
        out, errors = child.communicate(timeout=30)
    assert (child.returncode, out, errors.strip()) == (128 + signum, "\n", "")
    assert not is_mounted(pools["one"])
    assert not is_mounted(pools["two"])
    assert run("pgrep", "-f", str(scratch.folder), check=False) == ""
    assert run("pgrep", "-f", "sleep 300", check=False) == ""
    assert os.listdir(ctl.root / "run/storagectl/storage") == []
    slow.unlink()
    ctl.ok("autostart")
