"""What is mounted, read anew only when the kernel tells that it has changed."""

from __future__ import annotations

import os
import select
from functools import lru_cache

PATH = "/proc/self/mountinfo"


class Mounts:
    """The kernel's list, kept open: poll(2) tells of each change once.  Source: proc(5)."""

    def __init__(self) -> None:
        self.stream = open(PATH, "rb", buffering=0)  # noqa: SIM115
        self.changes = select.poll()
        self.changes.register(self.stream, select.POLLPRI)
        self.known: str | None = None

    def text(self) -> str:
        if self.known is None or self.changes.poll(0):
            self.stream.seek(0)
            self.known = self.stream.read().decode("utf-8", "surrogateescape")
        return self.known


def mounts() -> str:
    """Return /proc/self/mountinfo as it is now.  Raises: OSError."""
    return _of_process(os.getpid()).text()


@lru_cache(maxsize=1)
def _of_process(_: int) -> Mounts:
    """Return the list of this process: one that a fork shared would be told for both."""
    return Mounts()
