"""Pools, volumes and secrets as plain data for JSON: whatever their records have, under one name.

Sizes are bytes, times ISO 8601 in UTC with nanoseconds, modes octal digits as in the XML.
What is not known, or not there, is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storagectl.errors import Inaccessible, PoolNotFound, StorageError
from storagectl.pooltypes import POOL_TYPES
from storagectl.record import Record
from storagectl.store import warn

if TYPE_CHECKING:
    from storagectl.model import SecretDefinition, Source, Volume
    from storagectl.pools import Entry, Pools
    from storagectl.status import PoolStatus
    from storagectl.volumes import Volumes

BILLION = 10**9
# Of a volume's definition while it is made; a volume that is there has them not.
PASSING = ("allocation_given", "keeps_backing", "looks")


def plain(value: Any) -> Any:
    """Return a record and all it has as dicts and lists."""
    if isinstance(value, Record):
        found = {}
        for name, part in value.__dict__.items():
            if name.endswith("_ns"):
                found[name.removesuffix("_ns")] = time(part)
            elif name == "mode" and isinstance(part, int):
                found[name] = f"0{part:o}"
            elif name not in PASSING:
                found[name] = plain(part)
        return found
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def time(nanoseconds: int) -> str:
    """Return nanoseconds since 1970 as `2026-11-29T08:30:00.000000000Z`."""
    from datetime import UTC, datetime, timedelta

    seconds, rest = divmod(nanoseconds, BILLION)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def pool_reference(entry: Entry) -> dict[str, Any]:
    """Return what a pool is called, which is all there is to say of one that is gone."""
    return {"name": entry.name, "uuid": entry.pool.uuid, "type": entry.pool.type}


def of_pool(
    entry: Entry, *, inactive: bool = False, measured: bool = True, tolerant: bool = False
) -> dict[str, Any]:
    """Return all about a pool; unless `measured` without sizes, and `active` for its state.

    With `inactive` it is the definition of the next start that is told.  If `tolerant`, a pool
    that can't be measured has no sizes, and there is a warning.
    """
    pool, state = entry.pool, "active" if entry.active else "inactive"
    known = entry.active and measured
    if known:
        try:
            pool, state = entry.described(inactive=inactive), "running"
        except Inaccessible:
            known, state = False, "inaccessible"
        except StorageError as error:
            if not tolerant:
                raise
            known, state = False, "running"
            warn(f"pool '{entry.name}': {error.lines()[-1]}")
    elif inactive:
        pool = entry.described(inactive=True)
    facts: dict[str, Any] = {
        **pool_reference(entry),
        "state": state,
        "active": entry.active,
        "persistent": entry.persistent,
        "autostart": entry.autostart,
    }
    facts.update((name, part) for name, part in plain(pool).items() if name not in facts)
    facts["permissions"] = facts["permissions"] if pool.permissions else None
    facts["target"] = facts["target"] or None
    if not known:
        facts.update(capacity=None, allocation=None, available=None)
    return facts


def of_source(source: Source) -> dict[str, Any]:
    facts: dict[str, Any] = plain(source)
    return facts


def volume_reference(volume: Volume, entry: Entry) -> dict[str, Any]:
    """Return what a volume is called, which is all there is to say of one that is gone."""
    return called(volume, entry.name)


def called(volume: Volume, pool: str) -> dict[str, Any]:
    return {
        "name": volume.name,
        "pool": pool,
        "key": volume.key,
        "path": volume.path,
        "type": volume.type,
    }


def of_volume(volume: Volume, entry: Entry) -> dict[str, Any]:
    """Return all about a volume; the format is the pool's default where it has none."""
    return volume_facts(volume, entry.name, entry.pool.type)


def volume_facts(volume: Volume, pool: str, pool_type: str) -> dict[str, Any]:
    """Return all about a volume of a pool of that name and type."""
    facts = {**called(volume, pool), **plain(volume)}
    default = POOL_TYPES[pool_type].volume_default
    facts["format"] = volume.format or default
    facts["permissions"] = facts["permissions"] if volume.permissions else None
    backing = facts["backing"]
    if backing is not None:
        backing["format"] = backing["format"] or default
    return facts


def of_secret(secret: SecretDefinition) -> dict[str, Any]:
    facts: dict[str, Any] = plain(secret)
    return facts


def of_status(status: PoolStatus) -> dict[str, Any]:
    """Return what status shows of a pool; what it was not asked for, or can't say, is None."""
    found = status.measured
    return {
        "name": status.name,
        "uuid": status.uuid or None,
        "type": None if status.type == "-" else status.type,
        "source": None if status.source == "-" else status.source,
        "state": status.state,
        "why": status.why or None,
        "autostart": status.autostart,
        "persistent": status.persistent,
        "capacity": found and found.capacity,
        "allocation": found and found.allocation,
        "available": found and found.available,
        "volumes": None if status.links is None else [
            {
                "depth": len(link.last),
                "volume": volume_facts(link.volume, status.name, status.type),
            }
            for link in status.links
        ],
        "devices": [
            {
                "path": layout.device,
                "size": layout.size,
                "extents": [
                    {"volume": part.name or None, "start": part.start, "end": part.end}
                    for part in layout.ranges
                ],
            }
            for layout in status.layouts
        ],
        "paths": None if status.paths is None else {
            name: [way._asdict() for way in ways] for name, ways in status.paths.items()
        },
    }  # fmt: skip


def of_types() -> list[dict[str, Any]]:
    """Return what each type of pools is capable of, as pool-capabilities has it."""

    def formats(default: str | None, known: tuple[str, ...]) -> dict[str, Any] | None:
        return None if default is None else {"default": default, "known": list(known)}

    return [
        {
            "name": row.name,
            "supported": row.module is not None,
            "pool_formats": formats(row.pool_default, row.pool_formats),
            "volume_formats": formats(row.volume_default, row.volume_formats),
        }
        for row in POOL_TYPES.values()
    ]


def changed_pool(pools: Pools, key: str, before: dict[str, Any] | None) -> dict[str, Any]:
    """Return all about a pool that a command has changed, `before` where that is gone.

    What can't be read any more is a warning: the change is done.
    """
    try:
        return of_pool(pools.find(key))
    except StorageError as error:
        if before is None or not isinstance(error, PoolNotFound):
            warn(error.lines()[-1])
        return before or {"name": key}


def changed_volume(volumes: Volumes, name: str, pool: str) -> dict[str, Any]:
    """Return all about a volume that a command has made or changed, as `changed_pool`."""
    try:
        found = volumes.find(name, pool)
    except StorageError as error:
        warn(error.lines()[-1])
        return {"name": name, "pool": pool}
    return of_volume(found.volume, found.entry)
