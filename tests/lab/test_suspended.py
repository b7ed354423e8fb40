"""S48: a device-mapper map that is suspended, as while multipathd has no path or LVM moves one.

Who reads or writes it waits until it is resumed.  Commands on other pools do not, and a tool that
waits is ended at its limit.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB, run
from inprocess import Answer
from labshell import LabShell

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_S, SHORT_S = 1000, 3
HANGS_S = 120


@pytest.fixture
def shell(tmp_path: Path) -> LabShell:
    return LabShell(tmp_path / "root")


@contextmanager
def linear() -> Iterator[str]:
    """A map; what it is called.

    It starts inside of the device below, where LVM would find its label a second time.
    """
    with devices.loop(65 * MiB) as under:
        name = f"labheld{os.getpid()}"
        table = f"0 {64 * MiB // 512} linear {under} {MiB // 512}"
        run("dmsetup", "create", name, "--table", table)
        devices.settle()
        try:
            yield name
        finally:
            devices.settle()
            run("dmsetup", "remove", "--retry", name)


@contextmanager
def suspended(name: str) -> Iterator[None]:
    run("dmsetup", "suspend", name)
    try:
        yield
    finally:
        run("dmsetup", "resume", name)


def ask(shell: LabShell, *words: str, limit_s: int) -> Answer:
    """Run the program as a user has it, with that limit for tools, and see that it ends."""
    configuration = Path(shell.root, "etc/storagectl/config.toml")
    names = ("answer", "query", "command", "unmount")
    configuration.write_text("[time-limits]\n" + "".join(f"{n} = {limit_s}\n" for n in names))
    configuration.chmod(0o644)
    argv = ["storagectl", "--root", shell.root, *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANGS_S, check=False)
    print(words, done)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_s48_other_pools_answer(shell: LabShell, tmp_path: Path) -> None:
    """At once: with a limit longer than the test nothing meets it."""
    for name in ("held", "other"):
        (tmp_path / name).mkdir()
    with linear() as name:
        run("mkfs.ext4", "-q", f"/dev/mapper/{name}")
        shell.ok("pool-define-as", "p", "fs", "--source-dev", f"/dev/mapper/{name}",
                 "--source-format", "ext4", "--target", str(tmp_path / "held"))  # fmt: skip
        shell.ok("pool-start", "p")
        shell.ok("pool-create-as", "other", "dir", "--target", str(tmp_path / "other"))
        try:
            with suspended(name):
                for line in (
                    "pool-list --details", "pool-info p", "vol-create-as other v 1M",
                    "vol-list other --details", "pool-destroy other", "status",
                ):  # fmt: skip
                    done = ask(shell, *line.split(), limit_s=LONG_S)
                    assert (done.status, done.stderr) == (0, ""), (line, done)
        finally:
            shell.ok("pool-destroy", "p")


@pytest.mark.parametrize("kind", ["disk", "logical"])
def test_s48_a_tool_that_waits_for_it_is_ended(shell: LabShell, tmp_path: Path, kind: str) -> None:
    """The pool on it is told of, and works when it is resumed."""
    with linear() as name:
        device = f"/dev/mapper/{name}"
        if kind == "disk":
            shell.ok("pool-define-as", "p", "disk", "--source-dev", device, "--source-format",
                     "gpt", "--target", "/dev/mapper")  # fmt: skip
        else:
            shell.ok("pool-define-as", "p", "logical", "--source-dev", device)
        with devices.group_removed("p", device):
            shell.ok("pool-build", "p", *(["--overwrite"] if kind == "disk" else []))
            shell.ok("pool-start", "p")
            (tmp_path / "other").mkdir()
            shell.ok("pool-create-as", "other", "dir", "--target", str(tmp_path / "other"))
            try:
                with suspended(name):
                    done = ask(shell, "pool-list", "--all", limit_s=SHORT_S)
                    assert done.status == 0
                    told = done.stderr.startswith("warning: pool 'p': ")
                    assert told == (kind == "logical"), done
                    done = ask(shell, "vol-list", "p", limit_s=SHORT_S)
                    assert (done.status, done.stderr.count("\n")) == (1, 2), done
                    assert done.stderr.endswith(f" did not end within {SHORT_S} s\n")
                    done = ask(shell, "vol-list", "other", limit_s=LONG_S)
                    assert (done.status, done.stderr) == (0, ""), done
                assert "p" in shell.ok("pool-list", "--name").split()
                shell.ok("vol-list", "p")
            finally:
                shell.ok("pool-destroy", "p")
