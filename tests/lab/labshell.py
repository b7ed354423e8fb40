"""storagectl in the guest: in this process, where a new one takes a second, or in its own."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import inprocess

if TYPE_CHECKING:
    from pathlib import Path

    from inprocess import Answer


class LabShell:
    """storagectl with definitions of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *args: str) -> Answer:
        return inprocess.storagectl(self.root, *args)

    def ok(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.status, done.stderr) == (0, ""), (args, done)
        return done.stdout

    def fails(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.status, done.stdout) == (1, "\n"), (args, done)
        return done.stderr

    def process(self, *args: str, under: tuple[str, ...] = ()) -> str:
        """Run the installed program, below another one such as strace."""
        argv = [*under, "storagectl", "--root", str(self.root), *args]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), (args, done.stdout, done.stderr)
        return done.stdout

    def state(self, pool: str) -> str:
        return re.findall(r"^State: +(\w+)", self.ok("pool-info", pool), re.MULTILINE)[0]

    def volumes(self, pool: str) -> dict[str, str]:
        """Return the paths of a pool's volumes by name."""
        lines = self.ok("-q", "vol-list", pool).splitlines()
        return dict(re.fullmatch(r" (\S+) +(\S+)", line).groups() for line in lines)  # type: ignore[union-attr,misc]

    def capacity(self, pool: str) -> int:
        return int(re.findall(r"<capacity.*>(\d+)<", self.ok("pool-dumpxml", pool))[0])
