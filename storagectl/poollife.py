"""The life of pools: built, started, stopped and deleted, whatever the type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl import backends, events, identities
from storagectl.conflicts import require_unique
from storagectl.errors import (
    OperationDenied,
    OperationFailed,
    PoolActive,
    PoolNotFound,
    StorageError,
)
from storagectl.pools import require_absolute
from storagectl.store import warn

if TYPE_CHECKING:
    from storagectl.backends import Backend
    from storagectl.host import Host
    from storagectl.model import Pool
    from storagectl.pools import Entry, Pools


def create(
    pools: Pools,
    pool: Pool,
    *,
    build: bool = False,
    overwrite: bool = False,
    no_overwrite: bool = False,
    if_inactive: bool = False,
) -> bool:
    """Start a pool that need not be defined; it is forgotten when it stops.

    Returns: False where `if_inactive` and one of that name is active.
    """
    pools.store.require_writable("virStoragePoolCreateXML")
    backend = backends.load(pool, pools.host)
    require_privilege(pools.host, backend, "started")
    with pools.store.lock(pool.name):
        with pools.store.registry():
            there = pools.by_name(pool.name) if if_inactive else None
            if there is not None and there.active:
                return False
            require_unique(pools, pool, starting=True)
            # what is built is nobody else's from here on
            early = backend.runs or build or overwrite or no_overwrite
            if early:
                pools.store.mark_started(backend.intended())
        bring_up(pools, backend, build=build, overwrite=overwrite, no_overwrite=no_overwrite)
        if not early:
            with pools.store.registry():
                require_unique(pools, pool, starting=True)
                pools.store.mark_started(pool)
        settle(pools, backend)
        pools.events.tell(backend.pool, events.STARTED)
        return True


def start(
    pools: Pools,
    key: str,
    *,
    build: bool = False,
    overwrite: bool = False,
    no_overwrite: bool = False,
    if_inactive: bool = False,
) -> bool:
    """Start an inactive pool, after building it where that is asked for.

    Returns: False where `if_inactive` and it is active.
    """
    with pools.changing(key, "virStoragePoolCreate") as entry:
        if entry.active:
            if if_inactive:
                return False
            raise PoolActive(f"storage pool '{entry.name}' is already active")
        backend = backends.load(entry.pool, pools.host)
        require_privilege(pools.host, backend, "started")
        early = backend.runs or build or overwrite or no_overwrite
        if early:
            pools.store.mark_started(backend.intended())
        elif entry.marker is not None:
            pools.store.mark_stopped(entry.name)
        bring_up(
            pools,
            backend,
            build=build,
            overwrite=overwrite,
            no_overwrite=no_overwrite,
            before=entry.marker,
        )
        if not early:
            pools.store.mark_started(entry.pool)
        settle(pools, backend)
        pools.events.tell(backend.pool, events.STARTED)
        return True


def stop(pools: Pools, key: str, *, if_active: bool = False) -> Entry | None:
    """Stop a running pool.  Data stays; a transient pool is forgotten.

    Returns: what was stopped, None where `if_active` and nothing of that name runs.
    """
    try:
        with pools.changing(key, "virStoragePoolDestroy") as entry:
            if if_active and not entry.active:
                return None
            entry.require_active()
            require_privilege(pools.host, entry.backend, "stopped")
            entry.backend.stop()
            pools.store.mark_stopped(entry.name)
            pools.events.tell(entry.pool, events.STOPPED)
            return entry
    except PoolNotFound:
        if not if_active:
            raise
        return None


def build(
    pools: Pools,
    key: str,
    *,
    overwrite: bool = False,
    no_overwrite: bool = False,
    if_inactive: bool = False,
) -> bool:
    """Build the source or target of an inactive pool.

    Returns: False where `if_inactive` and it is active.
    """
    with pools.changing(key, "virStoragePoolBuild") as entry:
        if entry.active and if_inactive:
            return False
        entry.require_stopped("already")
        if overwrite and no_overwrite:
            raise StorageError(
                "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and"
                " 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE' are mutually exclusive"
            )
        require_absolute(entry.pool)
        if entry.backend.one_layout:
            require_privilege(pools.host, entry.backend, "built")
        identities.require_same(pools.store, entry.backend, build=True)
        try:
            entry.backend.build(overwrite=overwrite, no_overwrite=no_overwrite)
        except BaseException:
            entry.backend.unbuild()
            raise
        identities.remember(pools.store, entry.backend)
        settle(pools, entry.backend)
        pools.events.tell(entry.pool, events.CREATED)
        return True


def delete(pools: Pools, key: str) -> None:
    """Delete what an inactive pool is made of.  The definition stays."""
    with pools.changing(key, "virStoragePoolDelete") as entry:
        entry.require_stopped()
        delete = backends.require(entry.backend, "delete")
        if entry.backend.one_layout:
            require_privilege(pools.host, entry.backend, "deleted")
        identities.require_same(pools.store, entry.backend)
        delete()
        pools.events.tell(entry.pool, events.DELETED)


def bring_up(
    pools: Pools,
    backend: Backend,
    *,
    build: bool,
    overwrite: bool,
    no_overwrite: bool,
    before: Pool | None = None,
) -> None:
    """Start a pool; when that fails stop it, unless it ran before, and put back its mark.

    Where a started pool has something run the mark comes first: a process that dies in
    between leaves a pool that the host says is inactive, never one that runs and is
    forgotten.  Else it comes last, for there it alone makes the pool active; but before
    a build, so that nobody else has the source meanwhile.
    """
    pool = backend.pool
    backend.secret_of = lambda auth: pools.secrets.value_for(auth)
    try:
        require_absolute(pool)
        if build or overwrite or no_overwrite:
            identities.require_same(pools.store, backend, build=True)
            backend.build(overwrite=overwrite, no_overwrite=no_overwrite)
        else:
            identities.require_same(pools.store, backend)
        ran = backend.runs and backend.is_active()
        backend.start()
        try:
            if not backend.is_foreseen():
                backend.state()
                if not backend.is_active():
                    raise OperationFailed("it was started without an error, and does not run")
            if pools.store.definition(pool.name) is not None:
                identities.remember(pools.store, backend)
        except BaseException:
            if not ran:
                stop_again(backend)
            raise
    except BaseException:
        backend.unbuild()
        if before is None:
            pools.store.mark_stopped(pool.name)
        else:
            pools.store.mark_started(before)
        raise


def stop_again(backend: Backend) -> None:
    """Stop what a start that has failed did start; that it can't be stopped is only told."""
    try:
        backend.stop()
    except StorageError as error:
        warn(f"pool '{backend.pool.name}' could not be stopped again: {error.lines()[-1]}")


def settle(pools: Pools, backend: Backend) -> None:
    """Keep what the host's tools were told where the definition had left it open."""
    pool, settled = backend.pool, backend.settled()
    if settled == pool:
        return
    if pools.store.definition(pool.name) == pool:
        pools.store.define(settled)
    if pools.store.marker(pool.name) == pool:
        pools.store.mark_started(settled)


def require_privilege(host: Host, backend: Backend, done: str) -> None:
    """Raise, before anything is done, where it takes root and we are not."""
    if backend.needs().root and not host.is_root():
        kind = backend.pool.type
        raise OperationDenied(f"a pool of type {kind} is {done} by root only")
