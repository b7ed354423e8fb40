"""LVM volume groups as a whole: found, made, started, stopped and deleted.

LVM is asked each time.  What it would do to devices that were not named, as those that are no
part of the definition, is refused beforehand.
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
    devices,
    identity,
    in_use,
    system,
)
from storagectl.errors import (
    ConfigUnsupported,
    InvalidArgument,
    OperationDenied,
    OperationFailed,
    OperationInvalid,
    ProbeFailed,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
)
from storagectl.model import Device, Source
from storagectl.tools import lvm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends.troubles import Trouble
    from storagectl.host import Host
    from storagectl.model import Pool
    from storagectl.tools.lvm import Group, LogicalVolume

# libblkid's word for a physical volume.
MEMBER = "LVM2_member"

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
    """Ask for all groups, for many pools; one that is not among them is asked for by its name.

    What is known already is not asked again.
    """
    if heard:
        yield
        return
    with contextlib.suppress(StorageError):
        for group in lvm.parse_groups(host.query(lvm.vgs())):
            heard.setdefault(group.name, []).append(group)
    try:
        yield
    finally:
        heard.clear()


class VolumeGroup(Backend):
    """A volume group; which of its logical volumes are volumes of the pool is another's to know."""

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
            if lvm.TWINS not in error.stderr:
                if lvm.is_without(error.stderr, self.group):
                    return None
                raise
            found = lvm.parse_groups(self.host.query(lvm.vgs()))
            groups = [group for group in found if group.name == self.group]
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

    # Its life

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

    def _path(self, name: str) -> str:
        return f"{self.pool.target}/{name}"

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
        folder = devices.folder_of(self._path(name))
        user = in_use.user_of_device(folder) if folder is not None else None
        if user is None:
            user = ", ".join(in_use.openers(self._path(name)))
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
            in_use.require_unused(self.host, device)
            if not overwrite:
                devices.require_empty(self.host, device, MEMBER)
        self._require_free_name(overwrite=overwrite)
        for device in paths if overwrite else ():
            in_use.require_no_group(self.host, device, but=name)
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
            members = list(group.devices)
        else:  # of a deletion that was cut short the labels are left
            physical = lvm.parse_physical(self.host.query(lvm.pvs()))
            members = [device for device, name in physical if not name]
        labelled = [device for device in self.devices if is_among(device, members)]
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
    folder = devices.folder_of(device)
    for place in system.below(folder):
        if devices.read_line(os.path.join(place, "dm", "uuid")).startswith("LVM-"):
            return devices.read_line(os.path.join(place, "dm", "name"))
    return None


def is_among(device: str, paths: list[str] | tuple[str, ...]) -> bool:
    """Tell whether a device is one of several, whatever links they are named by."""
    return os.path.realpath(device) in {os.path.realpath(path) for path in paths}
