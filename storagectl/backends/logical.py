"""Logical pools: an LVM volume group, its logical volumes are the volumes.

What LVM would do to volumes that were not named, as snapshots of a removed one, is refused
beforehand.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl.backends import blocks, devices, qemu
from storagectl.backends.volume_group import VolumeGroup
from storagectl.errors import (
    InvalidArgument,
    NoSupport,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    ResourceBusy,
    StorageError,
    ToolFailed,
    VolumeExists,
)
from storagectl.host.files import is_staged, staged_path
from storagectl.model import BackingStore, SourceExtent, Volume
from storagectl.tools import lvm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storagectl.host.bulk import Mover
    from storagectl.tools.lvm import LogicalVolume

VOLUME_MODE = 0o600


class Logical(VolumeGroup):
    """The logical volumes of a group; its metadata holds all of them."""

    delete_function = "virStorageBackendLogicalDeleteVol"
    one_layout = True
    shrinks_allocation = True
    keeps_references = True

    def refresh(self) -> None:
        devices.settle(self.host)
        self.state()
        for _ in self.volumes(details=True):
            pass

    def volumes(self, *, details: bool) -> Iterator[Volume]:
        """Yield the active volumes, but for unfinished ones.

        Thin pools hold thin volumes and are none themselves.
        """
        for volume in self._logical_volumes():
            if volume.active and volume.kind not in lvm.INNER_POOLS and not is_staged(volume.name):
                yield self._volume(volume, details=details)

    def volume(self, name: str) -> Volume | None:
        for volume in self._logical_volumes():
            if volume.name == name and volume.active and volume.kind not in lvm.INNER_POOLS:
                return self._volume(volume, details=True)
        return None

    def volume_name_at(self, path: str) -> str | None:
        if path.startswith("/") and not path.startswith(self.pool.target + "/"):
            return None
        return super().volume_name_at(path)

    def _volume(self, found: LogicalVolume, *, details: bool) -> Volume:
        path = self._path(found.name)
        volume = Volume(name=found.name, key=found.uuid, path=path, type="block")
        if not details:
            return volume
        volume.capacity = volume.allocation = volume.physical = found.size
        if found.kind == lvm.THIN:
            volume.allocation = found.used
        if found.origin is not None:
            origin = self._path(found.origin)
            volume.backing = BackingStore(origin)
            if devices.device_number(origin) is not None:
                permissions, timestamps = blocks.looks(origin)
                volume.backing.permissions = permissions
                volume.backing.timestamps = timestamps
        volume.extents = [SourceExtent(*place) for place in found.places]
        if devices.device_number(path) is not None:
            volume.capacity = volume.physical = devices.device_size(path)
            volume.permissions, volume.timestamps = blocks.looks(path)
        return volume

    # Changes

    def create_volume(self, volume: Volume, *, metadata: bool) -> None:
        """Make a volume; one that takes several steps is hidden meanwhile."""
        volume = blocks.with_header(self, volume)
        before = self._sweep()
        if volume.encryption is None and self._creation(volume, before)[1] is None:
            self._make(volume, before)
        else:
            self._finish(volume, lambda hidden: self._make(hidden, before))

    def _make(self, volume: Volume, before: list[LogicalVolume]) -> None:
        argv, size = self._creation(volume, before)
        path = self._path(volume.name)
        try:
            self.host.change(argv)
            if size is not None:
                self.host.change(lvm.lvextend(path, size))
            self._require_node(path)
            blocks.encrypt(self, volume, path)
            self._give_away(volume)
        except BaseException as error:
            others = isinstance(error, ToolFailed) and lvm.EXISTS in error.stderr
            if not others and volume.name not in {other.name for other in before}:
                with contextlib.suppress(StorageError):
                    self._undo(volume.name)
            raise

    def _give_away(self, volume: Volume) -> None:
        wanted = volume.permissions
        mode = VOLUME_MODE if wanted.mode is None else wanted.mode
        place = os.path.realpath(self._path(volume.name))
        self.host.set_owner_and_mode(place, wanted.owner, wanted.group, mode)

    def _sweep(self) -> list[LogicalVolume]:
        """Remove unfinished volumes of processes that were killed; return all others.

        Nobody else makes one meanwhile: the layout is locked.
        """
        found = self._logical_volumes()
        for volume in found:
            if is_staged(volume.name) and not volume.open:
                self.host.try_change(lvm.lvremove(self._path(volume.name)))
        return [volume for volume in found if not is_staged(volume.name)]

    def _finish(self, volume: Volume, make: Callable[[Volume], None]) -> None:
        """Have a volume made under a hidden name, which is its own when it is complete."""
        if self.host.plans:
            make(volume)
            return
        hidden = os.path.basename(staged_path(""))
        with qemu.shown_as(hidden, volume.name):
            make(volume.replace(name=hidden))
            try:
                self.host.change(lvm.lvrename(self.group, hidden, volume.name))
                self._require_node(self._path(volume.name))
            except BaseException:
                with contextlib.suppress(StorageError):
                    self._undo(hidden)
                raise
        self._give_away(volume)

    def _require_node(self, path: str) -> None:
        devices.settle(self.host)
        if not self.host.expect(path) and not devices.wait_until(
            lambda: devices.device_number(path) is not None
        ):
            raise OperationFailed(f"device '{path}' did not appear")

    def _creation(self, volume: Volume, found: list[LogicalVolume]) -> tuple[list[str], int | None]:
        """Return the command that makes a volume, and the size it is to be extended to then.

        libvirt makes a snapshot of nothing where the allocation is less than the capacity,
        which is lost when that is used up; here it is a thin volume.
        """
        name, capacity = volume.name, volume.capacity
        if volume.backing is not None:
            origin = self._origin(volume.backing.path, found)
            path = self._path(origin.name)
            if origin.kind != lvm.THIN:
                return lvm.snapshot(path, name, volume.allocation), None
            if 0 < capacity < origin.size:
                raise InvalidArgument(
                    f"a snapshot of '{path}' cannot be smaller than its {origin.size} bytes"
                )
            size = whole_extents(capacity, origin)
            return lvm.snapshot_thin(path, name), size if size > origin.size else None
        if volume.allocation >= capacity:
            return lvm.lvcreate(self.group, name, capacity), None
        return lvm.lvcreate_thin(self.group, name, capacity, self._thin_pool(found).name), None

    def _thin_pool(self, found: list[LogicalVolume]) -> LogicalVolume:
        """Return the thin pool with the most space left."""
        pools = [other for other in found if other.kind == lvm.THIN_POOL]
        if not pools:
            raise OperationUnsupported(
                f"an allocation below the capacity needs a thin pool, and volume group"
                f" '{self.group}' has none",
                hint="leave the allocation out, or make one: lvcreate --type thin-pool"
                f" --size SIZE --name NAME {self.group}",
            )
        return max(pools, key=lambda pool: pool.size - pool.used)

    def _origin(self, backing: str, found: list[LogicalVolume]) -> LogicalVolume:
        """Return what a new volume is to be a snapshot of."""
        number = devices.device_number(backing)
        for other in found:
            path = self._path(other.name)
            if path == backing or (number is not None and devices.device_number(path) == number):
                if other.kind in lvm.SNAPSHOTS:
                    raise OperationUnsupported(f"'{path}' is a snapshot; LVM has none of snapshots")
                return other
        raise InvalidArgument(f"backing volume '{backing}' is not in volume group '{self.group}'")

    def _undo(self, name: str) -> None:
        """Remove what a failed create left, if anything."""
        if name in {volume.name for volume in self._logical_volumes()}:
            self.host.change(lvm.lvremove(self._path(name)))

    def create_volume_from(
        self, volume: Volume, source: Volume, mover: Mover, *, metadata: bool, reflink: bool
    ) -> None:
        """Make a volume of its own and fill it; it has room for all of the content."""
        whole = volume.replace(allocation=volume.capacity, backing=None)

        def make(hidden: Volume) -> None:
            blocks.create_from(
                self, hidden, source, mover,
                make=lambda wanted: self._make(blocks.with_header(self, wanted), self._sweep()),
                metadata=metadata, reflink=reflink,
            )  # fmt: skip

        self._finish(whole, make)

    def delete_volume(self, volume: Volume) -> None:
        devices.settle(self.host)
        found = self._logical_volumes()
        require_no_snapshots(volume, lost_without(volume, found))
        self._require_unused(volume, found)
        self.host.change(lvm.lvremove(volume.path))
        devices.settle(self.host)
        if not self.host.plans and not devices.wait_until(
            lambda: devices.device_number(volume.path) is None
        ):
            raise OperationFailed(f"device '{volume.path}' is still there")

    def _require_unused(self, volume: Volume, found: list[LogicalVolume]) -> None:
        for other in found:
            if other.name == volume.name and other.open:
                raise ResourceBusy(
                    f"logical volume '{volume.name}' is in use: {self._user(volume.name)}"
                )

    def rename_volume(self, volume: Volume, name: str) -> None:
        devices.settle(self.host)
        if not lvm.is_valid_name(name):
            raise InvalidArgument(f"'{name}' cannot be the name of a logical volume")
        found = self._logical_volumes()
        if name in {other.name for other in found}:
            raise VolumeExists(name)
        self._require_unused(volume, found)
        self.host.change(lvm.lvrename(self.group, volume.name, name))
        self._require_node(self._path(name))

    def rounded(self, volume: Volume, capacity: int) -> int:
        return whole_extents(capacity, self._named(volume, self._logical_volumes()))

    def grain(self, volume: Volume) -> int:
        return self._named(volume, self._logical_volumes()).extent_size

    def _named(self, volume: Volume, found: list[LogicalVolume]) -> LogicalVolume:
        for other in found:
            if other.name == volume.name:
                return other
        raise OperationFailed(f"logical volume '{volume.name}' is gone")

    def resize_volume(self, volume: Volume, capacity: int, *, allocate: bool, shrink: bool) -> None:
        devices.settle(self.host)
        volumes = self._logical_volumes()
        found = self._named(volume, volumes)
        if found.kind in lvm.SNAPSHOTS:
            raise NoSupport(f"logical volume '{volume.path}' is a snapshot and cannot be resized")
        if found.kind == lvm.THIN and allocate:
            raise OperationUnsupported(
                f"thin volume '{volume.path}' takes its blocks as they are written"
            )
        size = whole_extents(capacity, found)
        if size > found.size:
            if found.kind != lvm.THIN:
                self._require_room(size - found.size)
            self.host.change(lvm.lvextend(volume.path, size))
        elif size < found.size:
            self._require_unused(volume, volumes)
            self.host.change(lvm.lvreduce(volume.path, size))
        devices.settle(self.host)
        if self.host.plans or devices.device_number(volume.path) is None:
            return
        now = devices.device_size(volume.path)  # LVM rounds up to whole stripes
        if now < size or (size < found.size and now >= found.size):
            raise OperationFailed(f"device '{volume.path}' has not the size of {size} bytes")

    def _require_room(self, wanted: int) -> None:
        free = self._require_group().free
        if wanted > free:
            raise OperationFailed(
                "Not enough space left in storage pool",
                hint=f"volume group '{self.group}' has {free} of {wanted} more bytes",
            )

    def check_wipe(self, volume: Volume) -> None:
        """Refuse a volume that has not the room for being written as a whole.

        Its snapshots keep what is overwritten, and one that is full has lost all.
        """
        volumes = self._logical_volumes()
        for found in volumes:
            if found.name != volume.name:
                continue
            if found.kind in lvm.SNAPSHOTS:
                raise NoSupport(
                    f"logical volume '{volume.path}' is sparse, volume wipe not supported"
                )
            snapshots = snapshots_of(volume, volumes)
            require_no_snapshots(
                volume, [one for one in snapshots if not one.holds_all_of(found.size)]
            )
            # what is mapped may be shared with any other volume of the pool, and is then copied
            alone = [one.pool for one in volumes].count(found.pool) == 1
            wanted = found.size - found.used if alone else found.size
            for pool in volumes:
                room = pool.size - pool.used
                if pool.name == found.pool and wanted > room:
                    raise OperationFailed(
                        f"thin pool '{pool.name}' has {room} bytes left, too few to overwrite"
                        f" all of '{volume.path}'"
                    )


def snapshots_of(volume: Volume, found: list[LogicalVolume]) -> list[LogicalVolume]:
    """Return the snapshots of a volume that keep what it loses; thin ones do not."""
    return [one for one in found if one.kind in lvm.SNAPSHOTS and one.origin == volume.name]


def lost_without(volume: Volume, found: list[LogicalVolume]) -> list[LogicalVolume]:
    """Return the volumes that LVM removes together with one.

    Those are its snapshots, and thin volumes that have it as their external origin, as it is
    not in their pool.  Source: lvmthin(7), "Thin snapshot of an external origin".
    """
    own = next((one.pool for one in found if one.name == volume.name), None)
    return snapshots_of(volume, found) + [
        one
        for one in found
        if one.kind == lvm.THIN and one.origin == volume.name and one.pool != own
    ]


def require_no_snapshots(volume: Volume, snapshots: list[LogicalVolume]) -> None:
    if snapshots:
        raise OperationInvalid(
            f"logical volume '{volume.name}' has snapshots, which would be lost:"
            f" {', '.join(snapshot.name for snapshot in snapshots)}"
        )


def whole_extents(size: int, volume: LogicalVolume) -> int:
    """Round a size up to whole extents of a volume's group."""
    return -(-size // volume.extent_size) * volume.extent_size


BACKENDS = {"logical": Logical}
