"""The program in a forked process, where something happens to it at a point of its run.

A point is one of the calls that touch files, by its number: with a fork each run takes
milliseconds, so that every point can have its turn.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import inprocess

from storagectl.host import files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CALLS = (
    "chmod", "chown", "copy_file_range", "fchmod", "fchown", "fdatasync", "fsync", "ftruncate",
    "link", "lseek", "mkdir", "open", "posix_fallocate", "pread", "pwrite", "read", "rename",
    "rmdir", "sendfile", "symlink", "unlink", "write",
)  # fmt: skip
READING = ("lseek", "pread", "read")
LIMIT_S = 60
NEVER = 1 << 62


class Outcome(NamedTuple):
    """How a run ended: its exit status, or minus the signal; what it said and called."""

    status: int
    stderr: str = ""
    calls: Sequence[str] = ()
    seconds: float = 0


def forked(
    root: Path,
    *words: object,
    before: Callable[[int, str], object] | None = None,
    kill_after_s: float | None = None,
    watch: Callable[[Callable[[str], None]], None] | None = None,
) -> Outcome:
    """Run a command; `before` is told each call's number and name just before it is made.

    `watch(tell)` has what counts as a call told by its name, by default CALLS.
    """
    reader, writer = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        work(writer, root, [str(word) for word in words], before, watch or watch_calls)
    os.close(writer)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    with open(reader, "rb") as stream:
        answer = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        return Outcome(status)
    assert status == 0, answer
    return Outcome(*json.loads(answer), time.monotonic() - began)


def watch_calls(tell: Callable[[str], None]) -> None:
    """Have each of CALLS told."""

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            try:
                tell(name)
            except OSError as error:
                if isinstance(arguments[0], str):
                    error.filename = arguments[0]
                raise
            return real(*arguments, **settings)

        return call

    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))


def work(
    writer: int,
    root: Path,
    words: list[str],
    before: Callable[[int, str], object] | None,
    watch: Callable[[Callable[[str], None]], None],
) -> None:
    """Be the forked process; it never returns."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(LIMIT_S)
        calls: list[str] = []

        def tell(name: str) -> None:
            calls.append(name)
            if before is not None:
                before(len(calls) - 1, name)

        # whether a file is old enough to be kept in mind is no matter of chance
        files.KNOWN.clear()
        files.SETTLED_NS = NEVER
        watch(tell)
        answer = inprocess.storagectl(root, *words)
        told = json.dumps([answer.status, answer.stderr, calls]).encode()
        with open(writer, "wb") as stream:
            stream.write(told)
        status = 0
    except BaseException as error:
        with open(writer, "wb") as stream:
            stream.write(repr(error).encode())
    finally:
        os._exit(status)


def at(number: int, action: Callable[[], object]) -> Callable[[int, str], None]:
    """Do something before the call of that number."""

    def before(count: int, name: str) -> None:
        if count == number:
            action()

    return before


def sending(number: int, signum: int) -> Callable[[int, str], None]:
    """Send ourselves a signal before the call of that number."""
    return at(number, lambda: os.kill(os.getpid(), signum))


def failing(number: int, code: int) -> Callable[[int, str], None]:
    """Have the call of that number fail with an errno, as the kernel would make it fail."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return at(number, fail)
