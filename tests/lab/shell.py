"""storagectl as a test's user has it: with definitions of its own, every answer checked."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import devices
from inprocess import Answer, storagectl
from swapping import left_alone

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


class Shell:
    """storagectl with definitions of its own.

    It runs in this process: in the guest a new one costs a second each time.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def run(self, *args: str) -> Answer:
        return storagectl(self.root, *args, hints=True)

    def ok(self, *args: str) -> str:
        """Return what a command prints that has nothing to complain of.

        What is gone and what is kept when a pool stops is no complaint.
        """
        done = self.run(*args)
        said = re.sub("^Gone: .*\n", "", done.stderr)
        assert (done.status, said) == (0, ""), (args, done)
        return done.stdout

    def fails(self, *args: str) -> str:
        """Return the cause: the second line of the two that virsh prints."""
        done = self.run(*args)
        assert (done.status, done.stdout.strip()) == (1, ""), (args, done)
        first, second = re.split("^error: ", done.stderr, flags=re.MULTILINE)[1:]
        assert first.startswith(("Failed to ", "failed to ", "cannot ")), (args, done)
        return second

    def process(self, *args: str, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the installed command, as another user where one is given."""
        argv = ["storagectl", "--root", self.root, *args]
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, user=user, group=user,
            extra_groups=[],
        )  # fmt: skip

    def as_nobody_fails(self, *args: str) -> str:
        """Run a command as an ordinary user who may read these definitions."""
        for folder in (self.root, *map(str, Path(self.root).parents[:-2])):
            os.chmod(folder, 0o755)
        for folder, _, names in os.walk(self.root):
            os.chown(folder, NOBODY, NOBODY)
            for name in names:
                os.chown(os.path.join(folder, name), NOBODY, NOBODY)
        done = self.process(*args, user=NOBODY)
        for folder, _, names in os.walk(self.root):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, 0, 0)
        assert (done.returncode, done.stdout.strip()) == (1, ""), (args, done)
        assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) == 2, (args, done)
        return done.stderr

    def state(self, pool: str) -> str:
        return re.findall(r"^State: +(\w+)", self.ok("pool-info", pool), re.MULTILINE)[0]

    def volumes(self, pool: str) -> dict[str, str]:
        """Return the paths of a pool's volumes by name."""
        found = (line.split() for line in self.ok("-q", "vol-list", pool).splitlines())
        return {name: path for name, path in found}


def digest(path: str) -> str:
    """Return a sum over all of a device; emulated, SHA-256 takes ten times longer."""
    with open(path, "rb") as stream:
        found = hashlib.md5(left_alone(path, stream.read(devices.MiB)))
        return hashlib.file_digest(stream, lambda: found).hexdigest()


@contextmanager
def unchanged(*paths: str) -> Iterator[None]:
    """Prove that nobody writes to devices."""
    before = {path: digest(path) for path in paths}
    yield
    assert {path: digest(path) for path in paths} == before


@contextmanager
def without(tool: str) -> Iterator[None]:
    """Have a tool not installed."""
    with devices.folder() as folder, _instead(tool, os.path.join(folder, "none"), ""):
        yield


@contextmanager
def broken(tool: str, condition: str) -> Iterator[None]:
    """Have a tool fail where a shell's condition holds.

    $0 and "$@" are its words there, $real is the tool itself.
    """
    with devices.folder() as folder:
        real = os.path.join(folder, os.path.basename(tool))
        shutil.copy2(os.path.realpath(shutil.which(tool) or tool), real)
        script = f"""#!/bin/bash
real={real}
if {condition}; then echo "{tool}: broken on purpose" >&2; exit 5; fi
exec -a "$0" "$real" "$@"
"""
        with _instead(tool, os.path.join(folder, "script"), script):
            yield


@contextmanager
def _instead(tool: str, path: str, text: str) -> Iterator[None]:
    """Cover a tool with a file; it can be run when there is something in it."""
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, stat.S_IRUSR | (stat.S_IXUSR if text else 0))
    place = os.path.realpath(shutil.which(tool) or tool)
    devices.run("mount", "--bind", path, place)
    try:
        yield
    finally:
        devices.wait_for(f"umount {place}", lambda: is_unmounted(place))


def is_unmounted(place: str) -> bool:
    """Try to unmount; a program that udev runs may hold it still."""
    devices.run("umount", place, ok=(0, 32))
    return place not in devices.mounts()
