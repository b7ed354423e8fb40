"""Logical pools: an LVM volume group, its logical volumes are the volumes.

LVM is asked each time.  What it would do to volumes or devices that were not named (snapshots of
a removed volume, devices that are no part of the definition) is refused beforehand.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl.backends import (
    SOURCE,
    Backend,
    Layout,
    Needs,
    PoolState,
    Range,
    blocks,
    devices,
    files,
    identity,
    system,
)
from storagectl.errors import (
    ConfigUnsupported,
    InvalidArgument,
    NoSupport,
    OperationDenied,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    ProbeFailed,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
    VolumeExists,
)
from storagectl.host.files import is_staged, staged_path
from storagectl.model import BackingStore, Device, Source, SourceExtent, Volume
from storagectl.tools import lvm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storagectl.backends.troubles import Trouble
    from storagectl.host import Host
    from storagectl.host.bulk import Mover
    from storagectl.model import Pool
    from storagectl.tools.lvm import Group, LogicalVolume

# libblkid's word for a physical volume.
MEMBER = "LVM2_member"

VOLUME_MODE = 0o600

# A udev rule that was still on its way may activate what has just been stopped.
STOPS = 3


def find_groups(host: Host, asked: Source) -> list[Source]:
    """Return the volume groups, each with its devices, in the order of those.

    One inside a logical volume, as that of a guest whose disk it is, is none of the host's.
    """
    del asked  # no host is asked
    if not host.is_root():
        raise OperationDenied("LVM tells root only which volume groups there are")
    groups: dict[str, list[Device]] = {}
    for device, group in lvm.parse_physical(host.query(lvm.pvs(foreign=False))):
        if group and device.startswith("/") and volume_below(device) is None:
            groups.setdefault(group, []).append(Device(device))
    return [Source(devices=found, name=name, format="lvm2") for name, found in groups.items()]


# The groups that are known while `asked_once` is at work, by their names.
heard: dict[str, list[Group]] = {}


@contextlib.contextmanager
def asked_once(host: Host) -> Iterator[None]:
    """Ask for all groups, for many pools; one that is not among them is asked for by its name."""
    with contextlib.suppress(StorageError):
        for group in lvm.parse_groups(host.query(lvm.vgs())):
            heard.setdefault(group.name, []).append(group)
    try:
        yield
    finally:
        heard.clear()


class Logical(Backend):
    """A volume group; its metadata holds all volumes."""

    delete_function = "virStorageBackendLogicalDeleteVol"
    one_layout = True
    shrinks_allocation = True
    keeps_references = True
    find_sources = staticmethod(find_groups)
    asked_once = staticmethod(asked_once)

    def __init__(self, pool: Pool, host: Host) -> None:
        super().__init__(pool, host)
        self._labelled: list[str] = []
        self._grouped = False

    @property
    def group(self) -> str:
        """The name of the volume group.  Raises: ConfigUnsupported for one LVM can't have."""
        name = self.pool.source.name or ""
        if not lvm.is_valid_name(name):
            raise ConfigUnsupported(f"'{name}' cannot be the name of a volume group")
        return name

    @property
    def devices(self) -> list[str]:
        """The source devices.  Raises: ConfigUnsupported for what is no absolute path."""
        paths = [device.path for device in self.pool.source.devices]
        for path in paths:
            if not path.startswith("/"):
                raise ConfigUnsupported(f"source device '{path}' is not an absolute path")
        return paths

    # What is there

    def find_group(self) -> Group | None:
        """Ask for the volume group; None where there is none.

        Raises: OperationFailed where two have that name, or another machine has it.
        """
        try:
            groups = heard.get(self.group) or lvm.parse_groups(self.host.query(lvm.vgs(self.group)))
        except ToolFailed as error:
            if lvm.FOREIGN in error.stderr:
                raise OperationFailed(
                    f"volume group '{self.group}' belongs to another machine",
                    hint=error.stderr.splitlines()[0].strip(),
                ) from error
            if lvm.NOT_FOUND in error.stderr:
                return None
            raise
        if len(groups) > 1:
            raise OperationFailed(
                f"there are {len(groups)} volume groups with the name '{self.group}'",
                hint="rename one: vgrename UUID NAME, with "
                + " or ".join(group.uuid for group in groups),
            )
        return groups[0] if groups else None

    def has_our_devices(self, group: Group) -> bool:
        """Tell whether one of the pool's devices, if it names any, is in the group."""
        if not self.devices:
            return True
        return any(is_among(device, group.devices) for device in self.devices)

    def _logical_volumes(self) -> list[LogicalVolume]:
        if any(map(self.host.expects, self.devices)):
            return []  # a dry run has planned to make the group
        return lvm.parse_volumes(self.host.query(lvm.lvs(self.group)))

    def layouts(self) -> list[Layout]:
        """Return the extents of each physical volume, those of hidden volumes too."""
        found = lvm.parse_segments(self.host.query(lvm.segments()))
        return [
            Layout(one.device, one.size, tuple(Range(*place) for place in one.places))
            for one in found
            if one.group == self.group
        ]

    def is_active(self) -> bool:
        """Tell whether the group is there and what can be active in it is.

        A group without volumes has no folder below /dev, and runs all the same.
        """
        try:
            group = self.find_group()
            if group is None or refusal(group) or not self.has_our_devices(group):
                return False
            if group.volumes == 0 or self._nodes():
                return True
            volumes = self._logical_volumes()
        except (ConfigUnsupported, OperationFailed):
            return False
        return any(volume.active for volume in volumes) or all(volume.skipped for volume in volumes)

    def state(self) -> PoolState:
        group = self._require_group()
        return PoolState(
            capacity=group.size,
            allocation=group.size - group.free,
            available=group.free,
        )

    def refresh(self) -> None:
        devices.settle(self.host)
        self.state()
        for _ in self.volumes(details=True):
            pass

    def _require_group(self) -> Group:
        group = self.find_group()
        if group is None:
            raise ConfigUnsupported(f"cannot find logical volume group name '{self.group}'")
        self._require_devices(group)
        return group

    def _require_devices(self, group: Group) -> None:
        """Refuse a group that has the name but none of the pool's devices."""
        if not self.has_our_devices(group):
            raise ConfigUnsupported(
                f"cannot find any matching source devices for logical volume group '{self.group}'",
                hint=f"'{self.group}' is on {', '.join(group.devices)}",
            )
        if not self.devices:
            self._require_no_guest(group)

    def _require_no_guest(self, group: Group) -> None:
        """Refuse a group inside a logical volume that the definition does not name."""
        for device in group.devices:
            outer = volume_below(device)
            if outer is not None:
                raise OperationFailed(
                    f"volume group '{self.group}' is inside logical volume '{outer}'",
                    hint=f"if it is no guest's, name '{device}' as a source device of the pool",
                )

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

    def _path(self, name: str) -> str:
        return f"{self.pool.target}/{name}"

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

    def needs(self) -> Needs:
        paths = tuple(device.path for device in self.pool.source.devices)
        return Needs(tools=("vgs", "lvs", "pvs", "vgchange"), devices=paths)

    def identities(self, *, built: bool) -> dict[str, dict[str, str]]:
        known = identity.of_devices(self.host, self.devices)
        group = self.find_group() if built else None
        return known if group is None else {**known, self._group_words(): {"UUID": group.uuid}}

    def mistaken(
        self, known: dict[str, dict[str, str]], *, build: bool
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """A group is found on whatever its devices are called; a build writes to those named."""
        if build:
            yield from identity.changes(self.host, self.devices, known)
            return
        what = self._group_words()
        group = self.find_group() if what in known else None
        if group is not None and known[what]["UUID"] != group.uuid:
            yield what, {"UUID": group.uuid}

    def _group_words(self) -> str:
        return f"volume group {self.group}"

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        yield from troubles.of_group(self)

    # The group as a whole

    def start(self) -> None:
        devices.settle(self.host)
        if not any(map(self.host.expects, self.devices)):
            require_ours(self._require_group())
        self.host.change(lvm.vgchange(self.group, active=True))
        devices.settle(self.host)

    def stop(self) -> None:
        """Deactivate all volumes, or none when one is open."""
        devices.settle(self.host)
        self._require_closed()
        for _ in range(STOPS):
            self.host.change(lvm.vgchange(self.group, active=False))
            devices.settle(self.host)
            left = self._nodes()
            if not left or self.host.plans:
                return
        raise OperationFailed(
            f"volume group '{self.group}' is active again: {', '.join(left)}",
            hint="udev rules may activate it; see auto_activation_volume_list in lvm.conf(5)",
        )

    def _nodes(self) -> list[str]:
        """Return the names of the volumes that have a device."""
        names = devices.listing(self.pool.target)
        return [name for name in names if devices.device_number(self._path(name)) is not None]

    def gone_when_stopped(self) -> str:
        return f"the devices below {self.pool.target}"

    def kept_when_stopped(self) -> str:
        return f"volume group {self.group} with its logical volumes"

    def _require_closed(self) -> None:
        """Refuse when volumes are open; who has them open is named."""
        users = [
            f"{volume.name} ({self._user(volume.name)})"
            for volume in self._logical_volumes()
            if volume.open and volume.kind not in lvm.INNER_POOLS
        ]
        if users:
            raise ResourceBusy(
                f"volume group '{self.group}' has open logical volumes: {', '.join(users)}"
            )

    def _user(self, name: str) -> str:
        number = devices.device_number(self._path(name))
        folder = devices.sysfs_folder(number) if number is not None else None
        user = devices.user_of_device(folder) if folder is not None else None
        if user is None:
            user = ", ".join(devices.openers(self._path(name)))
        return user or "in use"

    def build(self, *, overwrite: bool, no_overwrite: bool) -> None:
        """Make the volume group on its devices; all are looked at before the first is written."""
        name, paths = self.group, self.devices
        for device in paths:
            if not os.path.exists(device):
                if overwrite:
                    raise SystemFailure(
                        f"Failed to open storage volume with path '{device}':"
                        " No such file or directory"
                    )
                raise ProbeFailed(f"Failed to create filesystem probe for device {device}")
        if len({os.path.realpath(device) for device in paths}) < len(paths):
            raise InvalidArgument(f"a device is named twice: {', '.join(paths)}")
        paths = [devices.resolved(device) for device in paths]
        for device in paths:
            devices.require_unused(self.host, device)
            if not overwrite:
                devices.require_empty(self.host, device, MEMBER)
        self._require_free_name(overwrite=overwrite)
        if overwrite:
            self._require_no_member()
        self.host.find_tool("vgcreate")
        try:
            for device in paths:
                devices.clear_edges(self.host, device)
                devices.settle(self.host)
                self.host.change(lvm.pvcreate(device))
                self._labelled.append(device)
            self.host.change(lvm.vgcreate(name, paths))
            self._grouped = True
            for device in self.devices:
                self.host.expect(device)
            if not self.host.plans and self.find_group() is None:
                raise OperationFailed(f"volume group '{name}' did not appear")
        except BaseException:
            self.unbuild()
            raise
        devices.settle(self.host)

    def unbuild(self) -> None:
        """Remove the group, which is empty, and the labels."""
        if self._grouped:
            self.host.try_change(lvm.vgremove(self.group))
        for device in self._labelled:
            self.host.try_change(lvm.pvremove(device))
        self._grouped, self._labelled = False, []

    def unbuilt(self) -> str:
        return "" if self.find_group() is not None else SOURCE

    def _require_free_name(self, *, overwrite: bool) -> None:
        """Refuse the name of a group that is there, unless this pool alone is made of it."""
        group = self.find_group()
        if group is None:
            return
        ours = all(is_among(device, self.devices) for device in group.devices)
        if not (overwrite and ours and not group.missing):
            raise OperationInvalid(
                f"volume group '{self.group}' exists already",
                hint=f"it is on {', '.join(group.devices)}",
            )

    def _require_no_member(self) -> None:
        """Refuse devices that are part of another volume group."""
        for device, group in lvm.parse_physical(self.host.query(lvm.pvs())):
            if group not in ("", self.group) and is_among(device, self.devices):
                raise ResourceBusy(f"device '{device}' is in use: part of volume group '{group}'")

    def delete(self) -> None:
        """Remove the group with its volumes, and the labels of the devices in the definition."""
        group = self.find_group()
        if group is not None:
            self._require_devices(group)
            require_ours(group)
            others = [device for device in group.devices if not is_among(device, self.devices)]
            if self.devices and others:
                raise OperationInvalid(
                    f"volume group '{self.group}' has devices that pool '{self.pool.name}' has"
                    f" not: {', '.join(others)}"
                )
            self._require_closed()
        labelled = [] if group is None else list(group.devices)
        if group is None:
            # of a deletion that was cut short the labels are left
            physical = lvm.parse_physical(self.host.query(lvm.pvs()))
            labelled = [device for device, name in physical if not name]
        labelled = [device for device in self.devices if is_among(device, labelled)]
        if group is not None or not labelled:
            self.host.change(lvm.vgremove(self.group))
            if not self.host.plans and self.find_group() is not None:
                raise OperationFailed(f"volume group '{self.group}' is still there")
        failure = None
        for device in labelled:
            try:
                self.host.change(lvm.pvremove(device))
            except StorageError as error:
                failure = failure or error
        devices.settle(self.host)
        if failure is not None:
            raise failure

    # Its volumes

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
        except BaseException:
            if volume.name not in {other.name for other in before}:
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
        with files.shown_as(hidden, volume.name):
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
        snapshots = [
            other.name
            for other in found
            if other.kind in lvm.SNAPSHOTS and other.origin == volume.name
        ]
        if snapshots:
            raise OperationInvalid(
                f"logical volume '{volume.name}' has snapshots, which would be lost:"
                f" {', '.join(snapshots)}"
            )
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
        """Refuse a volume that has not the room for being written as a whole."""
        volumes = self._logical_volumes()
        for found in volumes:
            if found.name != volume.name:
                continue
            if found.kind in lvm.SNAPSHOTS:
                raise NoSupport(
                    f"logical volume '{volume.path}' is sparse, volume wipe not supported"
                )
            for pool in volumes:
                room = pool.size - pool.used
                if pool.name == found.pool and found.size - found.used > room:
                    raise OperationFailed(
                        f"thin pool '{pool.name}' has {room} bytes left, too few to overwrite"
                        f" all of '{volume.path}'"
                    )


def refusal(group: Group) -> str | None:
    """Return why a volume group is not this machine's to start or delete."""
    if group.exported:
        return "is exported"
    if group.lock_type not in ("", "none"):
        return f"is shared by locks of type {group.lock_type}"
    return None


def require_ours(group: Group) -> None:
    """Refuse a group that is another machine's, shared, or lacks devices."""
    reason = refusal(group)
    if reason is None and group.missing:
        verb = "is" if group.missing == 1 else "are"
        reason = f"is not complete: {group.missing} of its devices {verb} missing"
    if reason is not None:
        raise OperationFailed(f"volume group '{group.name}' {reason}")


def volume_below(device: str) -> str | None:
    """Return the name of the logical volume that a device is, or is a partition or map of."""
    number = devices.device_number(device)
    folder = devices.sysfs_folder(number) if number is not None else None
    for place in system.below(folder):
        if devices.read_line(os.path.join(place, "dm", "uuid")).startswith("LVM-"):
            return devices.read_line(os.path.join(place, "dm", "name"))
    return None


def whole_extents(size: int, volume: LogicalVolume) -> int:
    """Round a size up to whole extents of a volume's group."""
    return -(-size // volume.extent_size) * volume.extent_size


def is_among(device: str, paths: list[str] | tuple[str, ...]) -> bool:
    """Tell whether a device is one of several, whatever links they are named by."""
    return os.path.realpath(device) in {os.path.realpath(path) for path in paths}


BACKENDS = {"logical": Logical}
