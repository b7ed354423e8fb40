"""Events of pools: what changes one tells all who listen, each by a pipe of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from storagectl.host.files import system_errors
from storagectl.record import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.model import Pool
    from storagectl.store import Store

LIFECYCLE, REFRESH = TYPES = ("lifecycle", "refresh")
# Not libvirt's: --list does not show them.
VOLUME, ALL = OWN_TYPES = ("volume", "all")
DEFINED, UNDEFINED = "Defined", "Undefined"
STARTED, STOPPED = "Started", "Stopped"
CREATED, DELETED = "Created", "Deleted"
REFRESHED = ""

# of a pipe, so that one read takes all that waits.  Source: pipe(7), PIPE CAPACITY
CAPACITY = 65536

# What the names of pipes end with whose readers know of volumes.
OF_VOLUMES = ".volumes"


class Event(Row):
    """What happened to a pool, or to a volume of it.

    Source: libvirt 9.0.0 virStoragePoolEventLifecycleType.
    """

    pool: str
    uuid: str
    detail: str
    volume: str | None = None

    @property
    def type(self) -> str:
        if self.volume is not None:
            return VOLUME
        return LIFECYCLE if self.detail else REFRESH


class Events:
    """The events of one set of pools."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = f"{store.run}/events"

    def tell(self, pool: Pool, detail: str) -> None:
        """Tell all who listen.  One that does not read misses it, and no change waits for it."""
        self._tell(self._listeners(), [pool.name, pool.uuid, detail])

    def tell_of_volume(self, pool: Pool, detail: str, name: str) -> None:
        """Tell all who listen for volumes, as `tell`."""
        names = [path for path in self._listeners() if path.endswith(OF_VOLUMES)]
        self._tell(names, [pool.name, pool.uuid, detail, name])

    def _listeners(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except OSError:
            return []

    def _tell(self, names: list[str], words: list[str]) -> None:
        if not names or self.store.host.plans:
            return
        import json

        line = json.dumps(words).encode() + b"\n"
        for name in names:
            with contextlib.suppress(OSError):
                self._write(os.path.join(self.folder, name), line)

    def _write(self, path: str, line: bytes) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # its reader was killed
                os.unlink(path)
            return
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def listening(self, *, volumes: bool = False) -> Iterator[Listener]:
        """Hear all that is told from now on, of volumes where that is asked for."""
        self.store.make_folders(self.folder)
        path = os.path.join(self.folder, f"{os.getpid()}{OF_VOLUMES if volumes else ''}")
        unheard = os.path.join(self.store.run, f"events-{os.getpid()}")
        with system_errors(f"cannot create '{path}'"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unheard)
            os.mkfifo(unheard, 0o600)
            fd = os.open(unheard, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            # whoever writes finds it open
            os.rename(unheard, path)
        try:
            yield Listener(fd)
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class Listener:
    """A pipe that events come from."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.output: int | None = None
        """A descriptor: when nobody reads any more what is written to it, waiting is over."""

    def events(self, deadline: float | None) -> Iterator[Event]:
        """Give each event when it happens, until a time of time.monotonic()."""
        while deadline is None or time.monotonic() < deadline:
            self.wait(deadline)
            yield from self.read()

    def wait(self, deadline: float | None, *others: int) -> None:
        """Wait until there is something to read, here or from another descriptor, or time is up.

        Raises: BrokenPipeError where nobody reads the output any more.
        """
        import select

        poll = select.poll()
        for fd in (self.fd, *others):
            poll.register(fd, select.POLLIN)
        if self.output is not None:
            poll.register(self.output, 0)
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        for fd, what in poll.poll(None if left is None else left * 1000):
            if fd == self.output and what & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def read(self) -> list[Event]:
        """Return what has been told since the last time, without waiting."""
        import json

        try:
            data = os.read(self.fd, CAPACITY)
        except BlockingIOError:
            return []
        return [Event(*json.loads(line)) for line in data.splitlines()]
