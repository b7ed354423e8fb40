"""What happens in folders, as the kernel tells it.  Source: inotify(7) and linux/inotify.h."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import SystemFailure
from storagectl.host import libc

if TYPE_CHECKING:
    from collections.abc import Iterator

MOVED_FROM, MOVED_TO = 0x40, 0x80
CREATE, DELETE = 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
ONLYDIR = 0x1000000

ADDED = CREATE | MOVED_TO
REMOVED = DELETE | MOVED_FROM
ENDED = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED

HEADER = struct.Struct("iIII")
MOST_BYTES = 1 << 20

LIMITS = {
    errno.EMFILE: "fs.inotify.max_user_instances, or the limit of open files",
    errno.ENOSPC: "fs.inotify.max_user_watches",
}


class Change(NamedTuple):
    """What the kernel tells: of which watch, bits that say what happened, and a name in it."""

    watch: int
    what: int
    name: str


class Inotify:
    """Folders that are watched, and one descriptor that can be read when one has changed."""

    def __init__(self) -> None:
        self.fd = libc.function("inotify_init1")(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise failure("cannot watch folders")

    def watch(self, folder: str) -> int:
        """Watch a folder.  Returns: the watch, the same again for the same folder."""
        wanted = ADDED | REMOVED | DELETE_SELF | MOVE_SELF | ONLYDIR
        watch = libc.function("inotify_add_watch")(self.fd, os.fsencode(folder), wanted)
        if watch < 0:
            raise failure(f"cannot watch '{folder}'")
        return watch

    def forget(self, watch: int) -> None:
        """Watch a folder no more; one that is gone is not watched anyway."""
        libc.function("inotify_rm_watch")(self.fd, watch)

    def changes(self) -> Iterator[Change]:
        """Yield all that has happened since the last time, without waiting."""
        while True:
            try:
                data = os.read(self.fd, MOST_BYTES)
            except BlockingIOError:
                return
            yield from parse(data)

    def close(self) -> None:
        os.close(self.fd)


def parse(data: bytes) -> Iterator[Change]:
    """Yield what a read has given: structs inotify_event, each followed by a padded name."""
    place = 0
    while place < len(data):
        watch, what, _, length = HEADER.unpack_from(data, place)
        place += HEADER.size
        name = data[place : place + length].rstrip(b"\0")
        place += length
        yield Change(watch, what, os.fsdecode(name))


def failure(what: str) -> SystemFailure:
    error = libc.failure()
    limit = LIMITS.get(error.errno or 0)
    return SystemFailure(f"{what}: {error.strerror}", hint=f"the limit is {limit}" if limit else "")
