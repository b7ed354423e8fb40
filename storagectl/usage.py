"""What uses a volume or a pool: on the host, in other images, and in other pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from storagectl import conflicts
from storagectl.backends import devices, users
from storagectl.backends.users import Files, Seen, Use
from storagectl.errors import Inaccessible, StorageError
from storagectl.store import warn
from storagectl.volumes import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.model import Volume
    from storagectl.pools import Entry, Pools
    from storagectl.volumes import Found

OVERLAY, IMAGE, POOL = "overlay", "image", "pool"


class Reference(NamedTuple):
    """A file that an image of a pool is read with: its backing file, or one with its data."""

    entry: Entry
    volume: Volume
    kind: str
    path: str


def of_volume(pools: Pools, found: Found) -> Seen:
    """Return what uses a volume, and the images that are based on it, also on each other."""
    files, path = Files(pools.host), found.volume.path
    folder = found.volume.type == "dir"
    seen = users.below(files, path) if folder else users.of_paths(files, [path])
    entries = pools.all()
    on_it = [
        Use(POOL, described(entry), place, pool=entry.name)
        for entry in entries
        for place in places(entry)
        if lies_in(place, path) or files.identity(place) in seen.identities
    ]
    based = overlays(files, entries, path)
    return Seen(users.unique([*seen.uses, *based, *on_it]), seen.unseen)


def of_pool(pools: Pools, entry: Entry) -> Seen:
    """Return what uses a pool: its folder or devices, and other pools with their images."""
    files = Files(pools.host)
    target = files.real(entry.pool.target)
    own = own_devices(files, entry)
    numbers = {number for number in map(devices.device_number, own) if number is not None}
    seen = users.of_paths(files, own, numbers)
    identities = seen.identities
    uses = [use for use in seen.uses if (use.kind, use.user) != (users.MOUNT, target)]
    if entry.backend.is_folder:
        seen = users.below(files, target)
        uses += seen.uses
    mounted = {use.user for use in uses if use.kind == users.MOUNT}
    uses += [
        Use(users.MOUNT, place, entry.pool.target)
        for place in entry.backend.other_mounts()
        if place not in mounted
    ]

    def is_ours(path: str) -> bool:
        place = files.real(path)
        if entry.backend.is_folder and lies_in(place, target):
            return True
        return files.identity(place) in identities

    others = [other for other in pools.all() if other.name != entry.name]
    for other in others:
        user = described(other)
        uses += [Use(POOL, user, place, pool=other.name) for place in places(other)
                 if is_ours(place)]  # fmt: skip
        if other.active and conflicts.share_source(pools.host, entry.pool, other.pool):
            uses.append(Use(POOL, user, "the same source", pool=other.name))
    uses += based_on(references(others), is_ours)
    return Seen(users.unique(uses), seen.unseen)


def own_devices(files: Files, entry: Entry) -> list[str]:
    """Return the files and devices whose users are users of a pool; none that can't be told."""
    sources = [device.path for device in entry.pool.source.devices]
    try:
        volumes = entry.backend.devices_of_users() if entry.active else []
    except (StorageError, OSError) as error:
        if isinstance(error, Inaccessible):
            raise
        volumes = []
    known = filter(files.answers, sources)
    return [*volumes, *(path for path in known if devices.device_number(path) is not None)]


def overlays(files: Files, entries: list[Entry], path: str) -> list[Use]:
    """Return the images that are read with a file, by way of others too."""
    known = references(entries)
    uses: list[Use] = []
    left, looked_at = [path], set()
    while left:
        place = left.pop(0)
        if place in looked_at:
            continue
        looked_at.add(place)
        found = [reference for reference in known if is_same(files, reference.path, place)]
        uses += based_on(found, lambda _: True)
        left += [reference.volume.path for reference in found]
    return uses


def based_on(known: list[Reference], wanted: Callable[[str], bool]) -> list[Use]:
    """Return the images of which a file is wanted."""
    return [
        Use(
            reference.kind,
            f"{reference.volume.name} in pool {reference.entry.name}",
            reference.path,
            pool=reference.entry.name,
            volume=reference.volume.name,
        )
        for reference in known
        if wanted(reference.path)
    ]


def references(entries: list[Entry]) -> list[Reference]:
    """Return all files that images of running pools are read with."""
    found = []
    for entry in entries:
        try:
            volumes = listed(entry)
        except Inaccessible as error:
            warn(f"images of pool '{entry.name}' are left out: {error.detail}")
            continue
        for volume in volumes:
            if volume.backing is not None:
                found.append(Reference(entry, volume, OVERLAY, volume.backing.path))
            found += [Reference(entry, volume, IMAGE, path) for path in volume.data_files]
    return found


def places(entry: Entry) -> list[str]:
    """Return the paths on this host that a pool is at."""
    paths = [entry.pool.target] if entry.backend.is_folder else []
    paths += [device.path for device in entry.pool.source.devices]
    return [path for path in paths if path.startswith("/")]


def described(entry: Entry) -> str:
    return f"{entry.name} ({'active' if entry.active else 'inactive'})"


def lies_in(path: str, folder: str) -> bool:
    """Tell whether a path is that of a folder or of something in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def is_same(files: Files, one: str, other: str) -> bool:
    """Tell whether two paths lead to one file or device; without it, whether they are the same."""
    if one == other:
        return True
    identity = files.identity(one) if one.startswith("/") else None
    return identity is not None and identity == files.identity(other)
