"""The rules of volumes: what may be done when, whatever the pool's type."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl import backends, events
from storagectl.errors import (
    ConfigUnsupported,
    Inaccessible,
    InternalError,
    InvalidArgument,
    Mistyped,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    PoolNotFound,
    StorageError,
    SystemFailure,
    ToolMissing,
    VolumeElsewhere,
    VolumeExists,
    VolumeNameTaken,
    VolumeNotFound,
    VolumesInactive,
)
from storagectl.model import BackingStore, Permissions, Volume
from storagectl.pools import typed
from storagectl.pooltypes import POOL_TYPES
from storagectl.record import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends import Backend
    from storagectl.host.bulk import Mover
    from storagectl.pools import Entry, Pools


class Found(Row):
    """A volume and the pool that has it."""

    entry: Entry
    volume: Volume


class Volumes:
    """The volumes of all running pools."""

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self.host = pools.host

    def all(self, key: str, *, details: bool) -> list[Volume]:
        """Return the volumes of a running pool, sorted as virsh sorts them."""
        entry = self._running(key)
        found = entry.backend.volumes(details=details)
        if details:
            found = (self._with_secret(Found(entry, volume)).volume for volume in found)
        return sorted(found, key=lambda volume: (volume.name.lower(), volume.name))

    def sizes(self, key: str) -> Iterator[Volume]:
        """Return the volumes of a running pool, with sizes, in no order and none kept."""
        return self._running(key).backend.sizes()

    def places(self, key: str) -> Iterator[tuple[str, str]]:
        """Return the names and the paths of the volumes of a running pool, as `sizes` does."""
        return self._running(key).backend.places()

    def _running(self, key: str) -> Entry:
        entry = self.pools.find(key)
        entry.require_active()
        return entry

    def find(self, key: str, pool: str | None, *, pool_option: str | None = "pool") -> Found:
        """Return the volume of that name in `pool`, or of that key or path in any pool.

        Raises: VolumeNotFound, VolumesInactive, VolumeElsewhere.
        Source: libvirt 9.0.0 virshCommandOptVolBy in tools/virsh-volume.c.
        """
        wanted = None
        if pool is not None:
            wanted = self.pools.find(pool)
            if not wanted.active:
                if wanted.unknown is not None:
                    wanted.unknown.action = f"failed to get vol '{key}'"
                    raise wanted.unknown
                raise VolumesInactive(
                    f"pool '{pool}' is not active",
                    hint=f"to start it: {typed('storagectl pool-start', wanted.name)}",
                )
            try:
                volume = wanted.backend.volume(key)
            except (InternalError, SystemFailure, ToolMissing) as error:
                error.action = error.action or f"failed to get vol '{key}'"
                raise
            if volume is not None:
                return self._with_secret(Found(wanted, volume))
        found = self.at(key, wanted)
        if found is None:
            raise self._not_found(key, pool, pool_option)
        if wanted is not None and found.entry.name != wanted.name:
            raise VolumeElsewhere(
                f"Requested volume '{key}' is not in pool '{pool}'",
                hint=f"it is in pool '{found.entry.name}'",
            )
        return self._with_secret(found)

    def look_up(self, key: str, pool: str | None) -> Found | None:
        """Return the volume as `find` does, None where there is none, or no such pool.

        Raises: VolumesInactive for a pool that is not active: what it has can't be told.
        """
        try:
            return self.find(key, pool)
        except (PoolNotFound, VolumeNotFound, VolumeElsewhere):
            return None

    def find_to_delete(self, key: str, pool: str | None, *, missing_ok: bool) -> Found | None:
        """Return the volume as `find` does; None where there is none and that is right.

        What a deletion that was killed has left of it goes.
        """
        try:
            return self.find(key, pool)
        except (PoolNotFound, VolumeNotFound, VolumeElsewhere):
            for entry in self.pools.all() if not self.pools.store.readonly else []:
                target = entry.pool.target
                named = pool in (entry.name, entry.pool.uuid) or os.path.dirname(key) == target
                if named and entry.backend.is_folder and entry.active:
                    self.host.sweep(target)
            if not missing_ok:
                raise
            return None

    def _with_secret(self, found: Found) -> Found:
        """Add to an encrypted volume the secret whose usage is its path, where there is one."""
        encryption = found.volume.encryption
        if encryption is not None:
            secret = self.pools.secrets.of_volume(found.volume.path)
            encryption.secrets = [secret] if secret is not None else []
        return found

    def at(self, key: str, first: Entry | None) -> Found | None:
        """Return the volume with that key or path, looking in `first` before the others."""
        path = sanitized(key)
        others = self.pools.all() if "/" in key or first is None else []
        for entry in (*([first] if first else []), *others):
            if not entry.active:
                continue
            try:
                name = entry.backend.volume_name_at(
                    entry.backend.stable_path(path) if entry.backend.stable_links else path
                )
                volume = entry.backend.volume(name) if name is not None else None
            except Inaccessible:
                raise
            except (StorageError, OSError):
                continue
            if volume is not None:
                return Found(entry, volume)
        return None

    def find_backing(self, key: str, pool: str) -> Volume:
        """Return the volume of that name in `pool`, or of that key or path in any pool."""
        entry = self.pools.find(pool)
        volume = entry.backend.volume(key) if entry.active else None
        found = Found(entry, volume) if volume else self.at(key, None)
        if found is None:
            raise self._not_found(key, pool, None)
        return found.volume

    def _not_found(self, key: str, pool: str | None, pool_option: str | None) -> VolumeNotFound:
        action = f"failed to get vol '{key}'"
        if pool is None and pool_option:
            action += f", specifying --{pool_option} might help"
        clean = sanitized(key)
        shown = f"'{key}'" if clean == key else f"'{key}' ({clean})"
        return VolumeNotFound(
            f"no storage vol with matching path {shown}",
            action=action,
            mistyped=Mistyped(
                key,
                lambda: self._known(pool, paths="/" in key),
                lambda: self._where(key, pool_option) if pool is None and pool_option else "",
            ),
        )

    def _where(self, name: str, pool_option: str) -> str:
        """Return how to say which pool's volume of that name is meant, "" where none has one."""
        for entry in self.pools.all():
            with contextlib.suppress(StorageError, OSError):
                if entry.active and entry.backend.volume(name) is not None:
                    return f"pool '{entry.name}' has it: " + typed(f"--{pool_option}", entry.name)
        return ""

    def _known(self, pool: str | None, *, paths: bool) -> Iterator[str]:
        """Yield the names, or the paths, of the volumes of a pool, or of all that run."""
        for entry in self.pools.all() if pool is None else [self.pools.find(pool)]:
            with contextlib.suppress(StorageError, OSError):
                for volume in entry.backend.volumes(details=False) if entry.active else ():
                    yield volume.path if paths else volume.name

    def create(
        self, pool: str, volume: Volume, *, metadata: bool, allow_backing: bool = False
    ) -> None:
        """Create an empty volume in a running pool."""
        from storagectl import references

        self.pools.store.require_writable("virStorageVolCreateXML")
        with self.pools.using(pool) as entry:
            backend = self._prepare(entry, volume, "create_volume")
            backing = volume.backing
            if backing is not None and not (
                references.is_raw(volume) or references.is_raw(backing)
            ):
                path = os.path.join(entry.pool.target, backing.path)
                references.require_known_files(self, volume.name, path, allowed=allow_backing)
            with self._layout(backend), already_exists(backend, volume.name):
                backends.require(backend, "create_volume")(volume, metadata=metadata)
            self.pools.events.tell_of_volume(entry.pool, events.CREATED, volume.name)

    def create_from(
        self,
        pool: str,
        volume: Volume,
        source: Found,
        mover: Mover,
        *,
        metadata: bool,
        reflink: bool,
        allow_backing: bool = False,
    ) -> None:
        """Create a volume with the content of another one, which may be in another pool."""
        from storagectl import references

        self.pools.store.require_writable("virStorageVolCreateXMLFrom")
        with self.holding(source, reading=True), self.pools.using(pool) as entry:
            volume.capacity = max(volume.capacity, source.volume.capacity)
            if not volume.allocation_given:
                volume.allocation = volume.capacity
            backend = self._prepare(entry, volume, "create_volume_from")
            references.require_known(self, source.volume, allowed=allow_backing)
            if volume.keeps_backing and source.volume.backing is not None:
                require_qcow2(volume, source.volume)
                volume.backing = source.volume.backing
            with (
                self._layout(backend),
                already_exists(backend, volume.name),
                self._filling(backend, volume.name),
            ):
                source.entry.backend.check_content(source.volume, "copy")
                require_in_place(source)
                backends.require(backend, "create_volume_from")(
                    volume, source.volume, mover, metadata=metadata, reflink=reflink
                )
            self.pools.events.tell_of_volume(entry.pool, events.CREATED, volume.name)

    def linked(self, source: Found, name: str) -> Volume:
        """Return the definition of a volume that reads from another one what it has not itself."""
        from storagectl.backends import files
        from storagectl.tools import qemu_img

        volume = source.volume
        files.require_known(volume)
        if "qcow2" not in POOL_TYPES[source.entry.pool.type].volume_formats:
            raise OperationUnsupported(
                f"a pool of type '{source.entry.pool.type}' has no volumes that are based on others"
            )
        if volume.format not in qemu_img.BASES or volume.encryption is not None:
            kind = "encrypted" if volume.encryption else f"in format '{volume.format}'"
            raise OperationUnsupported(f"volume '{volume.name}' is {kind}: nothing is based on it")
        return Volume(
            name,
            capacity=volume.capacity,
            format="qcow2",
            compat="1.1",
            permissions=volume.permissions,
            backing=BackingStore(volume.path, volume.format),
        )

    def give(self, pool: str, volume: Volume, wanted: Permissions) -> None:
        """Let a new volume have another owner, group or mode than its definition says."""
        if not wanted:
            return
        entry = self.pools.find(pool)
        if not entry.backend.own_permissions:
            raise OperationUnsupported(
                f"a volume of a pool of type '{entry.pool.type}' has no owner and mode of its own"
            )
        now = volume.permissions
        volume.permissions = Permissions(
            now.mode if wanted.mode is None else wanted.mode,
            now.owner if wanted.owner is None else wanted.owner,
            now.group if wanted.group is None else wanted.group,
            now.label,
        )

    def _prepare(self, entry: Entry, volume: Volume, operation: str) -> Backend:
        self.pools.store.require_known_format(entry.name)
        entry.require_active()
        backends.require(entry.backend, operation)
        require_plain_name(volume.name)
        if entry.backend.volume(volume.name) is not None:
            kind = VolumeExists if operation == "create_volume" else VolumeNameTaken
            error = kind(volume.name)
            error.hint = self._how_complete(entry, volume.name)
            raise error
        return self._with_passphrases(entry.backend)

    def _with_passphrases(self, backend: Backend) -> Backend:
        backend.passphrase_of = self.pools.secrets.passphrase
        return backend

    @contextlib.contextmanager
    def holding(self, found: Found, *, reading: bool = False) -> Iterator[Entry]:
        """Hold the pool of a volume for work on it.

        Raises: PoolInactive, PoolNotFound, and VolumeNotFound where it is another pool by now.
        """
        with self.pools.using(found.entry.name) as entry:
            if not reading:
                self.pools.store.require_known_format(entry.name)
            entry.require_active()
            if entry.pool != found.entry.pool:
                raise no_such_volume(found.volume)
            yield entry

    def delete(self, found: Found, *, snapshots: bool) -> None:
        """Delete a volume and its data."""
        self.pools.store.require_writable("virStorageVolDelete")
        with self.holding(found) as entry:
            method = backends.require(entry.backend, "delete_volume")
            if snapshots:
                raise StorageError(
                    f"unsupported flags (0x2) in function {entry.backend.delete_function}"
                )
            with self._layout(entry.backend):
                require_unmoved(found)
                method(found.volume)
                self.pools.store.forget_filling(entry.name, found.volume.name)
            self.pools.events.tell_of_volume(entry.pool, events.DELETED, found.volume.name)

    def _filling(self, backend: Backend, name: str) -> contextlib.AbstractContextManager[None]:
        if not backend.fills_in_place or self.host.plans:
            return contextlib.nullcontext()
        return self.pools.store.filling(backend.pool.name, name)

    def _how_complete(self, entry: Entry, name: str) -> str:
        """Return what to do with a volume that is not complete because its copy was cut short."""
        if not entry.backend.fills_in_place or not self.pools.store.is_incomplete(entry.name, name):
            return ""
        return f"not complete, its copy was cut short: {typed('storagectl vol-delete', name)} " + (
            typed("--pool", entry.name)
        )

    @contextlib.contextmanager
    def _layout(self, backend: Backend) -> Iterator[None]:
        if backend.one_layout:
            with self.pools.store.layout(backend.pool.name):
                self.require_same(backend)
                yield
        else:
            yield

    def require_same(self, backend: Backend) -> None:
        """Refuse a running pool whose device is gone and another one has its name."""
        from storagectl import identities

        if backend.goes_by_name:
            identities.require_same(self.pools.store, backend)

    def resize(
        self,
        found: Found,
        capacity: int,
        *,
        delta: bool,
        shrink: bool,
        allocate: bool,
        allow_backing: bool = False,
    ) -> None:
        """Change a volume's capacity to, or with `delta` by, a number of bytes.

        Source: libvirt 9.0.0 storageVolResize in src/storage/storage_driver.c.
        """
        from storagectl import references

        self.pools.store.require_writable("virStorageVolResize")
        with self.holding(found) as entry:
            volume = found.volume
            if capacity == 0 and not delta and not shrink:
                raise StorageError(
                    "capacity in virStorageVolResize cannot be zero without 'delta' or 'shrink'"
                    " flags set"
                )
            if delta:
                change = -min(capacity, volume.capacity) if shrink else capacity
                capacity = volume.capacity + change
            capacity = entry.backend.rounded(volume, capacity)
            if capacity < volume.allocation and not entry.backend.shrinks_allocation:
                raise InvalidArgument("can't shrink capacity below existing allocation")
            if capacity < volume.capacity and not shrink:
                raise InvalidArgument(
                    "Can't shrink capacity below current capacity unless shrink flag explicitly"
                    " specified"
                )
            if allocate and entry.backend.state().available < capacity - volume.allocation:
                raise OperationFailed("Not enough space left in storage pool")
            resize = backends.require(self._with_passphrases(entry.backend), "resize_volume")
            references.require_known(self, volume, allowed=allow_backing)
            require_unmoved(found)
            resize(volume, capacity, allocate=allocate, shrink=shrink)

    def rename(self, found: Found, name: str) -> None:
        """Give a volume another name, which nothing may have, unless something relies on it."""
        from storagectl import references

        self.pools.store.require_writable("virStorageVolRename")
        with self.holding(found) as entry:
            rename = backends.require(entry.backend, "rename_volume")
            require_plain_name(name)
            if entry.backend.volume(name) is not None:
                raise VolumeExists(name)
            references.require_unreferenced(self, found)
            with self._layout(entry.backend), already_exists(entry.backend, name):
                require_unmoved(found)
                rename(found.volume, name)
            self.pools.events.tell(entry.pool, events.REFRESHED)
            self.pools.events.tell_of_volume(entry.pool, events.DELETED, found.volume.name)
            self.pools.events.tell_of_volume(entry.pool, events.CREATED, name)


def listed(entry: Entry) -> list[Volume]:
    """Return the volumes of a pool, none where it is inactive or can't list them.

    Raises: Inaccessible.
    """
    try:
        return list(entry.backend.volumes(details=True)) if entry.active else []
    except Inaccessible:
        raise
    except (StorageError, OSError):
        return []


def require_unmoved(found: Found) -> None:
    """Raise VolumeNotFound when another part of the source has the volume's name by now.

    Partitions are renumbered when a logical one before them is deleted.
    """
    volume = found.volume
    if volume.extents:
        now = found.entry.backend.volume(volume.name)
        if now is None or now.extents != volume.extents:
            raise no_such_volume(volume)


def require_in_place(found: Found) -> None:
    """Raise too when something else is at the volume's path, before its content is used."""
    require_unmoved(found)
    found.entry.backend.check_path(found.volume)


def no_such_volume(volume: Volume) -> VolumeNotFound:
    return VolumeNotFound(f"no storage vol with matching path '{volume.path}'")


def require_qcow2(volume: Volume, source: Volume) -> None:
    """Refuse a copy that cannot have the backing store of its source."""
    if volume.encryption is not None or source.encryption is not None:
        raise ConfigUnsupported("the copy of or to an encrypted volume keeps no backing store")
    if volume.format != "qcow2" or source.format != "qcow2":
        raise ConfigUnsupported(
            f"only a qcow2 copy of a qcow2 volume keeps its backing store: '{source.name}' is"
            f" {source.format}, '{volume.name}' {volume.format or 'a block device'}"
        )


def grow(volume: Volume, source: Volume, capacity: int) -> None:
    """Let the copy of a volume be larger; one that has all its blocks gets all of the larger."""
    if source.type == "dir":
        raise OperationUnsupported(f"volume '{source.name}' is a folder and has no capacity")
    if capacity < source.capacity:
        raise InvalidArgument(
            f"capacity of {capacity} bytes is less than the {source.capacity} of volume"
            f" '{source.name}'"
        )
    if volume.allocation_given and 0 < volume.capacity <= volume.allocation:
        volume.allocation = capacity
    volume.capacity = capacity


def sanitized(path: str) -> str:
    """Return a path without repeated and trailing slashes; two in front are kept.

    Source: libvirt 9.0.0 virFileSanitizePath.
    """
    clean = "/".join(part for part in path.split("/") if part)
    slashes = len(path) - len(path.lstrip("/"))
    return "/" * (slashes if slashes <= 2 else 1) + clean


def require_plain_name(name: str) -> None:
    """Raise OperationInvalid for a name that is no file name."""
    if "/" in name:
        raise OperationInvalid(f"volume name '{name}' cannot contain '/'")
    if not name or "\0" in name or "\n" in name:
        raise OperationInvalid(f"volume name '{name}' is not a file name")


@contextlib.contextmanager
def already_exists(backend: Backend, name: str) -> Iterator[None]:
    """Word the race that another process has won."""
    try:
        yield
    except FileExistsError as error:
        path = os.path.join(backend.pool.target, name)
        raise OperationInvalid(f"volume target path '{path}' already exists") from error
