"""Killing the program before any change that it makes to the machine, and what must hold then.

A change is a call of a public method of Host that a dry run would only plan, a host command, and
below them each system call that alters files.  They are numbered through the run of a command:
killed before number N + 1 is killed after number N, for nothing changes in between.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import shlex
import signal
import struct
import tempfile
from inspect import getmembers
from typing import TYPE_CHECKING, Any, NamedTuple

import faults
import tally

from storagectl.host import Host, files
from storagectl.host.files import is_staged
from storagectl.host.plan import Planner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from inprocess import Answer

# What a dry run plans is what changes something, but for these.
ASKING = {
    "attempt", "expect", "expects", "expected_at", "is_folder", "list_folder", "opened",
    "open_staged", "plan_tries", "plan_with_secret", "planned", "query", "read_file",
    "secret_file",
}  # fmt: skip
PLANNED = {
    name for planner in Planner.__mro__[: Planner.__mro__.index(Host)] for name in vars(planner)
}
METHODS = sorted(
    {name for name, what in getmembers(Host, callable) if name[0] != "_"} & PLANNED - ASKING
    | {"converse"}
)
CALLS = (
    "chmod", "chown", "copy_file_range", "fchmod", "fchown", "fdatasync", "fsync", "ftruncate",
    "link", "mkdir", "mkfifo", "posix_fallocate", "pwrite", "rename", "rmdir", "sendfile",
    "setxattr", "symlink", "truncate", "unlink", "write",
)  # fmt: skip


class Still:
    """While it is entered changes are not told of: they are those of a tool or of the kernel."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


still = Still()


class Run(NamedTuple):
    """How a run ended: its exit status, or minus the signal; what it said and the changes."""

    status: int
    stderr: str
    changes: Sequence[str]


def run(root: Path, *words: object, kill_before: int | None = None) -> Run:
    """Run a command in a forked process, killed before a change, or after all of them."""
    counter = mmap.mmap(-1, 4)
    with tempfile.TemporaryFile("w+") as log:

        def watch(tell: Callable[[str], None]) -> None:
            real_write = os.write

            def change(name: str) -> None:
                (number,) = struct.unpack("i", counter[:4])
                counter[:4] = struct.pack("i", number + 1)
                real_write(log.fileno(), f"{name}\n".encode())
                if number == kill_before:
                    os.killpg(0, signal.SIGKILL)

            watch_changes(change)

        outcome = faults.forked(root, *words, watch=watch)
        log.seek(0)
        return Run(outcome.status, outcome.stderr, log.read().split())


def watch_changes(tell: Callable[[str], None]) -> None:
    """Have each change told of just before it is made.  For a process of its own."""

    def told(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            if not still.depth:
                tell(name)
            return real(*arguments, **settings)

        return call

    def opened(path: Any, flags: int, *more: Any, **settings: Any) -> int:
        if flags & (os.O_CREAT | os.O_TRUNC) and not still.depth:
            tell("open")
        return real_open(path, flags, *more, **settings)

    real_open = os.open
    for name in METHODS:
        setattr(Host, name, told(f"Host.{name}", getattr(Host, name)))
    Host._spawn = told("command", Host._spawn)  # type: ignore[method-assign]
    for name in CALLS:
        setattr(os, name, told(name, getattr(os, name)))
    os.open = opened
    files.renamed_new = told("renameat2", files.renamed_new)


class Tally:
    """Interruptions of one kind: what did not hold after them, and counts for tests/tally.py."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.failures: list[str] = []

    @contextlib.contextmanager
    def trying(self, where: str, *, done: bool = True) -> Iterator[None]:
        """Note what does not hold after an interruption, which counts where it was one."""
        try:
            with tally.counted(self.kind, int(done)):
                yield
        except AssertionError as error:
            self.failures.append(f"{where}: {error}")

    def check(self) -> None:
        """Fail with what did not hold."""
        assert not self.failures, "\n".join(
            [f"{len(self.failures)} of {self.kind}", *self.failures]
        )


# What one may be told instead of success, because a killed command had come that far.
THERE = re.compile(
    "already (exists|active|formatted|defined|in use)|exists already|is not active"
    "|no storage pool with matching|[nN]o storage vol with matching|no secret with matching"
    "|No such file or directory|Volume group .* not found"
)


def mend(run: Callable[..., Answer], answer: Answer) -> bool:
    """Run the one command that the hint of an error names.  Returns: whether it names one."""
    hint = re.search("^hint: .*: storagectl (.*)$", answer.stderr, re.MULTILINE)
    return hint is not None and run(*shlex.split(hint[1])).status == 0


def repeat(run: Callable[..., Answer], words: Sequence[str]) -> None:
    """Assert that a command which was killed succeeds now, or says what is there."""
    again = run(*words)
    if again.status and mend(run, again):
        again = run(*words)
    assert again.status == 0 or THERE.search(again.stderr), again


def points(count: int, wanted: int | None, seed: int) -> list[int]:
    """Return which of the numbers 0 to `count` to try: all, or that many, spread evenly.

    The seed shifts them, so that commands of the same shape are not cut at the same change.
    """
    if wanted is None or wanted > count:
        return list(range(count + 1))
    return sorted({(seed + number * (count + 1) // wanted) % (count + 1)
                   for number in range(wanted)})  # fmt: skip


def unfinished(*folders: Path) -> list[str]:
    """Return the files below folders that are no use to anybody."""
    return [str(path) for folder in folders for path in folder.rglob("*") if is_staged(path.name)]


def documents(folders: Iterable[Path]) -> None:
    """Assert that each definition and marker is whole and of the pool that its name says."""
    from storagectl.poolxml import parse_pool

    for folder in folders:
        for path in folder.glob("*.xml"):
            if path.is_symlink() and not path.exists():
                continue
            assert parse_pool(path.read_bytes()).name == path.stem, path
