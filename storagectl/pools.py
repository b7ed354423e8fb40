"""The rules of pools: what may be done when, whatever the type."""

from __future__ import annotations

import contextlib
from functools import cached_property, partial
from typing import TYPE_CHECKING

from storagectl import backends, events
from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    InvalidArgument,
    Mistyped,
    NoSupport,
    OperationInvalid,
    PoolActive,
    PoolInactive,
    PoolNotFound,
    StorageError,
    SystemFailure,
)
from storagectl.events import Events
from storagectl.model import Source
from storagectl.pooltypes import HOST, POOL_TYPES
from storagectl.store import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from storagectl.backends import Backend, PoolState
    from storagectl.host import Host
    from storagectl.model import Pool
    from storagectl.secrets import Secrets
    from storagectl.store import Store

UUID_LENGTH = 36


class Entry:
    """A pool as it stands: defined, started, or both."""

    def __init__(
        self,
        host: Host,
        config: Pool | None,
        marker: Pool | None,
        autostart: bool | Callable[[], bool],
    ) -> None:
        """Where `autostart` is a function, that tells it when it is asked for."""
        self.host = host
        self.config = config
        self.marker = marker
        self._autostart = autostart
        self.unknown: StorageError | None = None
        """Why the host could not say whether the pool runs."""

    @cached_property
    def autostart(self) -> bool:
        """Whether the pool is started at boot."""
        return self._autostart() if callable(self._autostart) else self._autostart

    @property
    def pool(self) -> Pool:
        """The definition in force: the running one, or the persistent one."""
        pool = self.marker if self.config is None or self.active else self.config
        assert pool is not None
        return pool

    @property
    def name(self) -> str:
        return self.pool.name

    @property
    def persistent(self) -> bool:
        return self.config is not None

    @cached_property
    def active(self) -> bool:
        """Whether the pool was started and the host agrees that it runs."""
        if self.marker is None:
            return False
        backend = backends.load(self.marker, self.host)
        try:
            return backend.is_foreseen() or backend.is_active()
        except StorageError as error:
            self.unknown = error
            return False

    @property
    def exists(self) -> bool:
        """A transient pool that the host has stopped is gone."""
        return self.persistent or self.active or self.unknown is not None

    @cached_property
    def backend(self) -> Backend:
        return backends.load(self.pool, self.host)

    def state(self) -> PoolState | None:
        """Measure a running pool; None where it is inactive."""
        return self.backend.state() if self.active else None

    def described(self, *, inactive: bool) -> Pool:
        """Return the definition as it is dumped: a running pool with what it is like now.

        A running pool has two definitions only when it was redefined meanwhile.
        """
        if not self.active or (inactive and self.config not in (None, self.marker)):
            assert self.config is not None
            return self.config
        state = self.backend.state()
        pool = self.pool.replace(
            capacity=state.capacity,
            allocation=state.allocation,
            available=state.available,
        )
        if state.permissions is not None:
            pool.permissions = state.permissions
        if state.free_extents:
            source = pool.source
            device = source.devices[0].replace(free_extents=list(state.free_extents))
            pool.source = source.replace(devices=[device, *source.devices[1:]])
        return pool

    def require_known(self) -> None:
        """Raise what kept the host from saying whether the pool runs."""
        if not self.active and self.unknown is not None:
            raise self.unknown

    def require_active(self) -> None:
        self.require_known()
        if not self.active:
            raise PoolInactive(
                f"storage pool '{self.name}' is not active",
                hint=f"to start it: {typed('storagectl pool-start', self.name)}",
            )

    def require_stopped(self, word: str = "still") -> None:
        self.require_known()
        if self.active:
            raise PoolActive(
                f"storage pool '{self.name}' is {word} active",
                hint=f"to stop it: {typed('storagectl pool-destroy', self.name)}",
            )


class Pools:
    """All pools of one store."""

    def __init__(self, store: Store, host: Host) -> None:
        self.store = store
        self.host = host
        self.events = Events(store)
        self._kept: contextlib.ExitStack | None = None

    @cached_property
    def secrets(self) -> Secrets:
        from storagectl.secrets import Secrets

        return Secrets(self.store, self.host)

    def all(
        self, unread: dict[str, StorageError] | None = None, *, starting: bool = False
    ) -> list[Entry]:
        """Return every pool, sorted as virsh sorts them.

        Those whose files the system does not let us read are left out, with a warning, and
        get into `unread`.  With `starting` there are also those that a command is about to start,
        whose storage is taken although they don't run yet.
        """
        autostarted = self.store.autostarted()
        defined, started = self.store.defined(), self.store.started()
        found = []
        for name in defined | started:
            try:
                entry = self._read(
                    name, name in autostarted, defined=name in defined, started=name in started
                )
            except SystemFailure as error:
                warn(f"ignoring pool '{name}': {error.detail}")
                if unread is not None:
                    unread[name] = error
                continue
            found.append(entry)
        # asked before the host: one that has just been started runs by then
        taken = [
            entry
            for entry in found
            if starting
            and entry.config is None
            and entry.marker is not None
            and self.store.is_being_changed(entry.marker.name)
        ]
        ask_together(self.host, (entry.marker for entry in found))
        self._ask_once(found)
        found = [entry for entry in found if entry.exists or entry in taken]
        found.sort(key=lambda entry: ((name := entry.name).lower(), name))
        known: dict[str, str] = {}
        for entry in found:
            pool = entry.pool
            name = known.setdefault(pool.uuid, pool.name)
            if name != pool.name:
                path = self.store.definition_path(pool.name)
                warn(f"{path}: pool '{name}' has the same UUID {pool.uuid}")
        return found

    @contextlib.contextmanager
    def asking_once(self) -> Iterator[None]:
        """Keep what is heard of pools that can be asked about together, for a list of them."""
        try:
            with contextlib.ExitStack() as self._kept:
                yield
        finally:
            self._kept = None

    def _ask_once(self, entries: list[Entry]) -> None:
        """Find out which pools are active that can be asked about together."""
        by_type: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.marker is not None and POOL_TYPES[entry.marker.type].module:
                by_type.setdefault(entry.marker.type, []).append(entry)
        with contextlib.ExitStack() as stack:
            for kind, alike in by_type.items():
                asked_once = backends.of_type(kind).asked_once
                if asked_once is not None and (self._kept is not None or len(alike) > 1):
                    (self._kept or stack).enter_context(asked_once(self.host))
                    for entry in alike:
                        entry.active  # noqa: B018

    def _read(
        self,
        name: str,
        autostart: bool | Callable[[], bool],
        *,
        defined: bool = True,
        started: bool = True,
    ) -> Entry:
        """Return a pool that may be `defined` and may be `started`."""
        config = self.store.definition(name) if defined else None
        marker = self.store.marker(name, config) if started else None
        return Entry(self.host, config, marker, autostart)

    def by_name(self, name: str) -> Entry | None:
        """Return the pool of that name."""
        if "/" in name or "\0" in name:
            return None
        entry = self._read(name, partial(self.store.is_autostarted, name))
        return entry if entry.exists else None

    def by_uuid(self, uuid: str) -> Entry | None:
        """Return the pool of that UUID.  Raises: OperationInvalid where several have it."""
        found = [entry for entry in self.all() if entry.pool.uuid == uuid.lower()]
        if len(found) > 1:
            names = ", ".join(f"'{entry.name}'" for entry in found)
            raise OperationInvalid(
                f"pools {names} have the same UUID {uuid.lower()}",
                action=f"failed to get pool '{uuid}'",
            )
        return found[0] if found else None

    def find(self, key: str) -> Entry:
        """Return the pool of that name or UUID.  Raises: PoolNotFound."""
        try:
            entry = self.by_uuid(key) if len(key) == UUID_LENGTH else None
            entry = entry or self.by_name(key)
        except SystemFailure as error:
            error.action = f"failed to get pool '{key}'"
            raise
        if entry is None:
            raise no_such_pool(self.store, key)
        return entry

    def exists(self, key: str) -> bool:
        """Tell whether there is a pool of that name or UUID."""
        try:
            self.find(key)
        except PoolNotFound:
            return False
        return True

    @contextlib.contextmanager
    def changing(self, key: str, function: str) -> Iterator[Entry]:
        """Look a pool up and hold its lock; the entry is read again under the lock.

        Raises: OperationDenied where no `function` of libvirt may change anything.
        """
        name = self.find(key).name
        self.store.require_writable(function)
        with self.store.lock(name):
            self.store.require_known_format(name)
            yield self._again(key, name)

    @contextlib.contextmanager
    def using(self, key: str) -> Iterator[Entry]:
        """Look a pool up and hold it for work on its volumes."""
        name = self.find(key).name
        with self.store.lock_for_volumes(name):
            yield self._again(key, name)

    def _again(self, key: str, name: str) -> Entry:
        """Return the pool of that key under the lock of `name`, which others may have taken over.

        Raises: PoolNotFound.
        """
        entry = self.find(key)
        if entry.name != name:
            raise no_such_pool(self.store, key)
        return entry

    def define(self, pool: Pool, *, if_missing: bool = False, autostart: bool = False) -> bool:
        """Keep a definition, also of a pool that is running with another one.

        With `autostart` the pool is started at boot.

        Returns: False where `if_missing` and one of that name is defined.
        """
        from storagectl import identities
        from storagectl.conflicts import require_unique

        self.store.require_writable("virStoragePoolDefineXML")
        backend = backends.load(pool, self.host)
        with self.store.lock(pool.name), self.store.registry():
            if if_missing and self.store.definition(pool.name) is not None:
                return False
            require_unique(self, pool, starting=False)
            with identities.remembered_anew(self.store, backend):
                self.store.define(pool, autostart=autostart)
            self.events.tell(pool, events.DEFINED)
            return True

    def undefine(self, key: str) -> None:
        """Forget an inactive pool.  What it is made of stays."""
        if self._is_unreadable(key):
            self.store.require_writable("virStoragePoolUndefine")
            with self.store.lock(key), self.store.registry():
                if self._is_unreadable(key):
                    self.store.discard(key)
                    return
        with self.changing(key, "virStoragePoolUndefine") as entry, self.store.registry():
            entry.require_stopped()
            with contextlib.ExitStack() as undo:
                self.store.mark_stopped(entry.name)
                if entry.marker is not None:
                    undo.callback(self.store.mark_started, entry.marker)
                self.store.undefine(entry.name)
                undo.pop_all()
            self.events.tell(entry.pool, events.UNDEFINED)

    def _is_unreadable(self, name: str) -> bool:
        """Tell whether there are files of a pool that say nothing, and none that says it runs."""
        if name not in self.store.names() or not self.store.is_unreadable(name):
            return False
        try:
            return self.by_name(name) is None
        except SystemFailure:
            marker = self._marker(name)
            return marker is None or not Entry(self.host, None, marker, False).active

    def _marker(self, name: str) -> Pool | None:
        """Return what a pool was started with, None where that can't be read."""
        try:
            return self.store.marker(name)
        except SystemFailure:
            return None

    def forget(self, key: str) -> Backend:
        """Drop a pool from our books, running or not, without touching anything of the host's.

        The host is not asked whether it runs: it may hang.  Returns: the pool as it was.
        Raises: PoolNotFound.
        """
        name = self._known(key).name
        self.store.require_writable("virStoragePoolUndefine")
        with self.store.lock(name), self.store.registry():
            pool = self._known(name)
            # the mark goes last: what runs is known as long as anything of the pool is
            with contextlib.ExitStack() as undo:
                definition = self.store.definition(name)
                if definition is not None:
                    autostart = self.store.is_autostarted(name)
                    self.store.undefine(name)
                    undo.callback(self.store.define, definition, autostart=autostart)
                self.store.mark_stopped(name)
                undo.pop_all()
            self.events.tell(pool, events.UNDEFINED)
        return backends.load(pool, self.host)

    def _known(self, key: str) -> Pool:
        """Return what our books say of a pool, the running definition first."""
        found = []
        for name in self.store.names():
            with contextlib.suppress(SystemFailure):
                pool = self.store.marker(name) or self.store.definition(name)
                found += [] if pool is None else [pool]
        by_uuid = (pool for pool in found if pool.uuid == key.lower())
        by_name = (pool for pool in found if pool.name == key)
        pool = next(by_uuid, None) or next(by_name, None)
        if pool is None:
            raise no_such_pool(self.store, key)
        return pool

    def refresh(self, key: str, *, if_active: bool = False) -> bool:
        """Look at a running pool anew; nothing is cached, so this only checks it.

        Returns: False where `if_active` and nothing of that name runs.
        """
        try:
            self.find(key)
            self.store.require_writable("virStoragePoolRefresh")
            with self.using(key) as entry:
                if if_active and not entry.active:
                    return False
                entry.require_active()
                entry.backend.refresh()
                self.events.tell(entry.pool, events.REFRESHED)
                return True
        except PoolNotFound:
            if not if_active:
                raise
            return False

    def set_autostart(self, key: str, wanted: bool) -> None:
        """Say whether a pool is started at boot."""
        with self.changing(key, "virStoragePoolSetAutostart") as entry:
            if not entry.persistent:
                raise InternalError("pool has no config file")
            self.store.set_autostart(entry.name, wanted)

    def find_sources(self, kind: str, wanted: bytes | str | None) -> list[Source]:
        """Return what pools of a type could be made of, by what a <source> document says.

        Types that need no host read no document.
        Source: libvirt 9.0.0 storageConnectFindPoolSources and what it calls.
        """
        self.store.require_writable("virConnectFindStoragePoolSources")
        from storagectl.poolxml import parse_source

        row = POOL_TYPES.get(kind)
        if row is None:
            raise InternalError(f"unknown storage pool type {kind}")
        find = backends.of_type(kind).find_sources
        if find is None:
            raise NoSupport(f"pool type '{kind}' does not support source discovery")
        asked = Source()
        if HOST in row.needs:
            if wanted is None:
                raise InvalidArgument(f"hostname must be specified for {kind} sources")
            asked = parse_source(wanted, row)
            if len(asked.hosts) != 1:
                raise ConfigUnsupported("Expected exactly 1 host for the storage pool")
        return find(self.host, asked)


def ask_together(host: Host, pools: Iterable[Pool | None]) -> None:
    """Foresee that the folders of pools are asked about: servers that are gone cost one wait."""
    host.asks_together(
        pool.target
        for pool in filter(None, pools)
        if POOL_TYPES[pool.type].module and backends.of_type(pool.type).is_folder
    )


def no_such_pool(store: Store, key: str) -> PoolNotFound:
    return PoolNotFound(
        f"no storage pool with matching name '{key}'",
        action=f"failed to get pool '{key}'",
        mistyped=Mistyped(key, store.names),
    )


def require_absolute(pool: Pool) -> None:
    """Raise InvalidArgument for a target that would be another folder from elsewhere."""
    if not pool.target.startswith("/"):
        raise InvalidArgument(f"target path '{pool.target}' is not absolute")


def typed(words: str, name: str) -> str:
    """Return words of a command line with a name that a shell takes as it is."""
    import shlex

    return f"{words} {shlex.quote(name)}"
