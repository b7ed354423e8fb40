"""What two pools may not share: a name, a UUID, a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl.errors import PoolActive, PoolExists, SourceConflict
from storagectl.pools import typed
from storagectl.pooltypes import POOL_TYPES

if TYPE_CHECKING:
    from storagectl.host import Host
    from storagectl.model import Pool
    from storagectl.pools import Entry, Pools


def require_unique(
    pools: Pools, pool: Pool, *, starting: bool, entries: list[Entry] | None = None
) -> None:
    """Raise for a name, UUID or source that another pool has.

    Source: libvirt 9.0.0 virStoragePoolObjSourceFindDuplicate, virStoragePoolObjIsDuplicate.
    """
    if entries is None:
        known = pools.all(starting=True)
        entries = [entry for entry in known if entry.exists or entry.name != pool.name]
    for other in entries:
        if other.name != pool.name and share_source(pools.host, pool, other.pool):
            raise SourceConflict(
                f"Storage source conflict with pool: '{other.name}'",
                hint=how_to_use(other),
            )
    for other in entries:
        if other.pool.uuid != pool.uuid:
            continue
        if other.name != pool.name:
            raise PoolExists(
                f"pool '{other.name}' is already defined with uuid {other.pool.uuid}",
                hint="without its <uuid> the document defines a pool with one of its own",
            )
        if starting and other.active:
            raise PoolActive(f"pool is already active as '{other.name}'")
        return
    for other in entries:
        if other.name == pool.name:
            raise PoolExists(
                f"pool '{other.name}' already exists with uuid {other.pool.uuid}",
                hint=f"to change it: {typed('storagectl pool-edit', other.name)}, or give the"
                f" document <uuid>{other.pool.uuid}</uuid>",
            )


def share_source(host: Host, one: Pool, other: Pool) -> bool:
    """Tell whether two pools would be made of the same storage."""
    if POOL_TYPES[one.type].conflict == POOL_TYPES[other.type].conflict == "adapter":
        from storagectl.backends.scsi import Scsi, share_adapter

        return share_adapter(Scsi(one, host), Scsi(other, host))
    return bool(conflict_keys(one) & conflict_keys(other))


def conflict_keys(pool: Pool) -> set[tuple[object, ...]]:
    """Return what no other pool may have in common with this one."""
    source = pool.source
    kind = POOL_TYPES[pool.type].conflict
    match kind:
        case "target":
            return {(kind, pool.target)}
        case "device":
            return {(kind, device.path) for device in source.devices}
        case "export":
            return {(kind, source.dir, host.name, host.port) for host in source.hosts[:1]}
        case "initiator":
            return {(kind, device.path, source.initiator) for device in source.devices[:1]}
        case _:
            return {(kind,)} if kind else set()


def how_to_use(other: Entry) -> str:
    """Return, for people, which pool has a source already, and how to get at it."""
    import shlex

    state, command = ("active", "vol-list") if other.active else ("inactive", "pool-start")
    return (
        f"pool '{other.name}' ({other.pool.uuid}, {state}) has that source:"
        f" storagectl {command} {shlex.quote(other.name)}"
    )
