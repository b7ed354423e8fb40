"""Pools of very many volumes: all are listed, and what it takes grows with their number only.

STORAGECTL_VOLUMES=100000 makes that many, and ten times as many for the names alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

if TYPE_CHECKING:
    from pathlib import Path

VOLUMES = int(os.environ.get("STORAGECTL_VOLUMES", "1000"))
FEW = 10
MIB = 1 << 20
# What a volume may take, so that 100,000 with details take less than 200 MiB and 1,000,000 names
# less than 400, with what the program takes by itself.
OWN = 50 * MIB
DETAILED, NAMED = 150 * MIB / 100_000, 350 * MIB / 1_000_000


# Runs a command below a process that is small: a child begins with the memory of who started it.
MEASURED = """
import os, sys
child = os.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(child, 0)
print(used.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak(root: Path, *words: str) -> tuple[int, int]:
    """Run a command; return how many lines it has printed, and its most memory in bytes."""
    argv = [sys.executable, "-m", "storagectl", "--root", str(root), *words]
    with subprocess.Popen(
        [sys.executable, "-S", "-c", MEASURED, *argv],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        lines = sum(1 for _ in process.stdout)
        said = process.stderr.read()
    assert process.returncode == 0, said
    return lines, int(said) * 1024


def fill(root: Path, name: str, count: int) -> None:
    """Make a pool with that many empty volumes."""
    target = root / name
    target.mkdir()
    folder = os.open(target, os.O_RDONLY)
    try:
        for number in range(count):
            os.close(os.open(f"v{number:07}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))
    finally:
        os.close(folder)
    assert storagectl(root, "pool-create-as", name, "dir", "--target", str(target)).status == 0


@pytest.mark.parametrize(
    ("options", "count", "each"),
    [((), 10 * VOLUMES, NAMED), (("--details",), VOLUMES, DETAILED)],
    ids=["names", "details"],
)
def test_memory(tmp_path: Path, options: tuple[str, ...], count: int, each: float) -> None:
    fill(tmp_path, "few", FEW)
    fill(tmp_path, "many", count)
    lines, least = peak(tmp_path, "vol-list", "few", *options)
    more, most = peak(tmp_path, "vol-list", "many", *options)
    shutil.rmtree(tmp_path / "many")
    assert more - lines == count - FEW
    assert least < OWN
    assert most - least < each * count + 2 * MIB
