"""Who holds a lock: for the errors of those who have waited in vain.

Imported only where a lock is not free.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = "/proc"
# The process of a lock of a file description, which may have many.  Source: proc_locks(5)
NOBODY = -1


class Holder(NamedTuple):
    """A process that has a lock, alone or with others."""

    pid: int
    shared: bool


def holders(fd: int) -> list[Holder]:
    """Return who has a lock on an open file, or on bytes of it, as far as we may see them.

    Source: proc_locks(5), `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`.
    """
    file = identity(fd)
    found = list(parsed(lines(f"{PROC}/locks"), file))
    if any(holder.pid == NOBODY for holder in found):
        found = [holder for holder in found if holder.pid != NOBODY]
        found += by_descriptors(file, fd)
    return sorted(set(found))


def parsed(table: Iterable[str], file: str) -> Iterator[Holder]:
    """Yield the holders of a file in a list of locks; who only waits for one is none."""
    for line in table:
        words = line.removeprefix("lock:").split()
        if len(words) > 5 and words[1] != "->" and words[5] == file:
            yield Holder(int(words[4]), words[3] == "READ")


def by_descriptors(file: str, own: int) -> Iterator[Holder]:
    """Yield the processes that have the lock of a file description other than our `own`.

    Source: proc_pid_fdinfo(5), `lock: 1: OFDLCK  ADVISORY  WRITE -1 08:01:1234 0 EOF`.
    """
    ours = f"{PROC}/{os.getpid()}/fdinfo/{own}"
    for name in filter(str.isdecimal, listing(PROC)):
        folder = f"{PROC}/{name}/fdinfo"
        for path in (f"{folder}/{number}" for number in listing(folder)):
            for holder in parsed(lines(path, "lock:") if path != ours else (), file):
                yield Holder(int(name), holder.shared)


def identity(fd: int) -> str:
    """Return what the lists of locks call an open file: `08:01:1234`, its device and inode.

    Both are the file system's own; stat(2) of btrfs and overlayfs gives others.
    Source: proc_pid_fdinfo(5); the field `ino` since Linux 5.14.
    """
    status = os.fstat(fd)
    major, minor, inode = os.major(status.st_dev), os.minor(status.st_dev), status.st_ino
    known = dict(line.split(":", 1) for line in lines(f"{PROC}/self/fdinfo/{fd}") if ":" in line)
    inode = int(known.get("ino", inode))
    mount = known.get("mnt_id", "").strip()
    for line in lines(f"{PROC}/self/mountinfo", f"{mount} "):
        major, minor = map(int, line.split()[2].split(":"))
    return f"{major:02x}:{minor:02x}:{inode}"


def named(found: Iterable[Holder]) -> str:
    """Return who they are, for a message: `process 4711 (storagectl), 4712 (qemu-img)`."""
    shown = []
    for holder in found:
        command = "".join(lines(f"{PROC}/{holder.pid}/comm")).strip()
        clean = "".join(letter if letter.isprintable() else "?" for letter in command)
        shown.append(f"{holder.pid} ({clean})" if clean else str(holder.pid))
    return f"process {', '.join(shown)}" if shown else "another process"


def lines(path: str, start: str = "") -> list[str]:
    """Return the lines of a file of the kernel's that begin so, none where it can't be read."""
    with (
        contextlib.suppress(OSError),
        open(path, encoding="utf-8", errors="surrogateescape") as stream,
    ):
        return [line for line in stream if line.startswith(start)]
    return []


def listing(path: str) -> list[str]:
    """Return the names in a folder of the kernel's, none where it can't be read."""
    with contextlib.suppress(OSError):
        return os.listdir(path)
    return []
