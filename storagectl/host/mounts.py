"""What is mounted, read anew only when the kernel tells that it has changed."""

from __future__ import annotations

import os
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import select

PATH = "/proc/self/mountinfo"


class Mounts:
    """The kernel's list, kept open: poll(2) tells of each change once.  Source: proc(5)."""

    def __init__(self) -> None:
        self.stream = open(PATH, "rb", buffering=0)  # noqa: SIM115
        self.known: str | None = None

    @cached_property
    def changes(self) -> select.poll:
        """What tells of changes since the file was opened; asked from the second look on."""
        import select

        changes = select.poll()
        changes.register(self.stream, select.POLLPRI)
        return changes

    def text(self) -> str:
        if self.known is None or self.changes.poll(0):
            self.stream.seek(0)
            self.known = self.stream.read().decode("utf-8", "surrogateescape")
        return self.known


def mounts() -> str:
    """Return /proc/self/mountinfo as it is now.  Raises: OSError."""
    return _of_process().text()


def mount_of(fd: int) -> str:
    """Return what tells the mount that an open file was found in from all others.

    Source: proc_pid_fdinfo(5), `mnt_id: 25`.
    """
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as stream:
        return next((line for line in stream if line.startswith("mnt_id:")), "")


def is_mount_point(fd: int, folder: str) -> bool:
    """Tell whether an open file is mounted in its folder: no other file can take its place."""
    place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        return mount_of(fd) != mount_of(place)
    finally:
        os.close(place)


@cache
def _of_process() -> Mounts:
    """Return the list of this process: one that a fork shared would be told for both."""
    return Mounts()


os.register_at_fork(after_in_child=_of_process.cache_clear)
