"""Events of volumes with those of pools: ours from other processes, others' from the kernel.

A volume that is a file in a folder is created or deleted when its name comes or goes, whoever
does it.  Of other volumes only what processes of this program do is heard.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from storagectl import events
from storagectl.backends.directory import listed
from storagectl.errors import PoolNotFound, StorageError
from storagectl.host import inotify
from storagectl.store import warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.events import Event, Listener
    from storagectl.pools import Entry, Pools


# Names of which only their makers can tell that they were volumes.
MOST_PASSED = 1000


class Folder:
    """The folder of a running pool: the names that are volumes.

    `untold` are those that were there at the first look, `passed` those that were gone when
    they were looked at, and `owed` those of them whose making was told.
    """

    def __init__(self, entry: Entry, watch: int, known: set[str]) -> None:
        self.pool = entry.pool
        self.target = entry.pool.target
        self.watch = watch
        self.names = known
        self.untold = set(known)
        self.passed: set[str] = set()
        self.owed: set[str] = set()

    def event(self, detail: str, name: str) -> Event:
        return events.Event(self.pool.name, self.pool.uuid, detail, name)

    def added(self, name: str) -> Iterator[Event]:
        """Tell of a name that came, unless it only replaced what had it, or is no volume."""
        if name in self.names or not listed(name):
            return
        kind = kind_of(self.target, name)
        if kind is None:
            self.passed = {name, *(self.passed if len(self.passed) < MOST_PASSED else ())}
        elif kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFBLK):
            self.names.add(name)
            yield self.event(events.CREATED, name)

    def removed(self, name: str) -> Iterator[Event]:
        self.untold.discard(name)
        if name in self.names:
            self.names.remove(name)
            yield self.event(events.DELETED, name)

    def told(self, event: Event) -> Iterator[Event]:
        """Pass on what another process tells where the kernel's word came too early or late."""
        assert event.volume is not None
        if event.detail == events.DELETED:
            if event.volume in self.owed:
                self.owed.remove(event.volume)
                yield event
        elif event.volume in self.untold:
            self.untold.remove(event.volume)
            yield event
        elif event.volume in self.passed:
            self.passed.remove(event.volume)
            self.owed.add(event.volume)
            yield event

    def compared(self, now: set[str]) -> Iterator[Event]:
        """Tell of what has changed where the kernel could not tell of each."""
        for name in sorted(self.names - now):
            yield from self.removed(name)
        for name in sorted(now - self.names):
            yield from self.added(name)


class Watcher:
    """Hears of pools and volumes, of all or, with `wanted`, of those of one UUID."""

    def __init__(self, pools: Pools, listener: Listener, wanted: str | None) -> None:
        self.pools = pools
        self.listener = listener
        self.wanted = wanted
        self.inotify = inotify.Inotify()
        self.folders: dict[str, Folder] = {}

    def events(self, deadline: float | None) -> Iterator[Event]:
        """Give each event when it happens, until a time of time.monotonic()."""
        with contextlib.closing(self.inotify):
            for entry in self.pools.all():
                with complaining(entry.name):
                    yield from self._watch(entry)
            while deadline is None or time.monotonic() < deadline:
                self.listener.wait(deadline, self.inotify.fd)
                # a process tells of a change when it is done: the kernel has told before
                told = self.listener.read()
                yield from self._seen()
                for event in told:
                    yield from self._heard(event)

    def _watch(self, entry: Entry) -> Iterator[Event]:
        """Watch a pool's folder, and give what changed while it was looked at the first time."""
        uuid = entry.pool.uuid
        if self.wanted in (None, uuid) and entry.active and entry.backend.is_folder:
            known = names(entry)
            folder = Folder(entry, self.inotify.watch(entry.pool.target), known)
            self.folders[uuid] = folder
            yield from folder.compared(names(entry))

    def _unwatch(self, uuid: str) -> None:
        folder = self.folders.pop(uuid)
        if all(other.watch != folder.watch for other in self.folders.values()):
            self.inotify.forget(folder.watch)

    def _seen(self) -> Iterator[Event]:
        """Give what the kernel tells."""
        for change in self.inotify.changes():
            if change.what & inotify.OVERFLOW:
                yield from self._compared()
            for uuid, folder in list(self.folders.items()):
                if folder.watch != change.watch:
                    continue
                if change.what & inotify.ENDED:
                    self._unwatch(uuid)
                elif change.what & inotify.ADDED:
                    yield from folder.added(change.name)
                elif change.what & inotify.REMOVED:
                    yield from folder.removed(change.name)

    def _compared(self) -> Iterator[Event]:
        for uuid, folder in self.folders.items():
            with complaining(folder.pool.name), contextlib.suppress(PoolNotFound):
                yield from folder.compared(names(self.pools.find(uuid)))

    def _heard(self, event: Event) -> Iterator[Event]:
        """Give what another process tells; who hears of a start knows its folder is watched."""
        if event.volume is not None:
            folder = self.folders.get(event.uuid)
            yield from [event] if folder is None else folder.told(event)
            return
        changed: list[Event] = []
        with complaining(event.pool), contextlib.suppress(PoolNotFound):
            if event.uuid in self.folders:
                if event.detail in (events.STOPPED, events.UNDEFINED):
                    self._unwatch(event.uuid)
            elif event.detail in (events.STARTED, events.REFRESHED):
                changed = list(self._watch(self.pools.find(event.uuid)))
        yield event
        yield from changed


@contextlib.contextmanager
def complaining(pool: str) -> Iterator[None]:
    """Go on without a pool whose folder can't be looked at, and say so."""
    try:
        yield
    except (StorageError, OSError) as error:
        words = error.lines()[-1] if isinstance(error, StorageError) else error.strerror
        warn(f"volumes of pool '{pool}' are not watched: {words}")


def names(entry: Entry) -> set[str]:
    """Return the names of a pool's volumes."""
    return {volume.name for volume in entry.backend.volumes(details=False)}


def kind_of(folder: str, name: str) -> int | None:
    """Return the kind of a file as in its mode, None of one that is gone, 0 of a broken link."""
    path = os.path.join(folder, name)
    try:
        return stat.S_IFMT(os.stat(path).st_mode)
    except OSError:
        return 0 if os.path.islink(path) else None
