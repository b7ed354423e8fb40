"""Disk pools: a disk with a partition table, its partitions are the volumes.

Nothing is cut short: a partition is made exactly where and as large as planned, under
the name that was asked for, or not at all.
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
    identity,
    in_use,
    partitions,
    system,
)
from storagectl.errors import (
    ConfigUnsupported,
    InvalidArgument,
    NoSupport,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    PoolBuilt,
    ProbeFailed,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
    VolumeNotFound,
)
from storagectl.model import Extent, SourceExtent, Volume
from storagectl.tools import blkid, blockdev, parted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends.partitions import Place
    from storagectl.backends.troubles import Trouble
    from storagectl.host.bulk import Mover
    from storagectl.model import Pool
    from storagectl.tools.parted import Partition, PartitionTable

DEFAULT_LABEL = "dos"

# Labels that libblkid mixes up or misses, and for which libvirt asks parted instead.
PARTED_ONLY = frozenset(("dvh", "pc98", "bsd"))

# Labels whose partitions begin and end with a cylinder.
CYLINDRIC = frozenset(("sun", "pc98"))

# What stands between a map's name and a partition's number, after udev's rules.
MAPPED_SEPARATORS = ("", "p", "-part")


class Disk(Backend):
    """A disk; one partition table holds all its volumes."""

    delete_function = "virStorageBackendDiskDeleteVol"
    one_layout = True
    own_permissions = False
    goes_by_name = True
    runs = False
    fills_in_place = True

    @property
    def device(self) -> str:
        return self.pool.source.devices[0].path

    @property
    def label(self) -> str:
        """The partition table the pool wants; a pool that doesn't say gets libvirt's default."""
        wanted = self.pool.source.format
        return DEFAULT_LABEL if wanted in (None, "unknown") else wanted

    def settled(self) -> Pool:
        return self.pool.replace(source=self.pool.source.replace(format=self.label))

    def is_active(self) -> bool:
        return os.path.exists(self.device)

    def needs(self) -> Needs:
        return Needs(tools=("parted", "wipefs"), devices=(self.device,), files=True)

    def identities(self, *, built: bool) -> dict[str, dict[str, str]]:
        return identity.of_devices(self.host, [self.device])

    def mistaken(
        self, known: dict[str, dict[str, str]], *, build: bool
    ) -> Iterator[tuple[str, dict[str, str]]]:
        return identity.changes(self.host, [self.device], known)

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        if troubles.has_medium(self.device):
            yield from troubles.of_disk(self)

    def start(self) -> None:
        devices.settle(self.host)
        self._require_device()
        if self.host.expects(self.device):
            return  # `build` makes the table that is wanted
        found = devices.signatures(self.host, self.device)
        superblocks = [name for name in found if name not in blkid.TABLES]
        if superblocks:
            raise self._mismatch(superblocks)
        label = self._label_on_disk()
        if label is None:
            if self.label in PARTED_ONLY:
                raise OperationFailed("Unrecognized disk label found, requires build")
            raise ProbeFailed(f"Device '{self.device}' is unrecognized, requires build")
        if label != self.label:
            if self.label in PARTED_ONLY:
                raise OperationFailed(
                    "Known, but different label format present, requires build --overwrite"
                )
            raise self._mismatch([label])

    def _mismatch(self, found: list[str]) -> OperationInvalid:
        return OperationInvalid(
            f"Format of device '{self.device}' does not match the expected format '{self.label}'",
            hint=f"found on '{self.device}': {', '.join(found)}",
        )

    def _require_device(self) -> None:
        if not os.path.exists(self.device):
            raise InvalidArgument(f"device path '{self.device}' doesn't exist")

    def devices_of_users(self) -> list[str]:
        return [self.device]

    def kept_when_stopped(self) -> str:
        return f"{self.device} with its partitions"

    def build(self, *, overwrite: bool, no_overwrite: bool) -> None:
        """Write an empty partition table, on an unused device only."""
        device = devices.resolved(self.device)
        if not os.path.exists(device):
            if overwrite:
                raise SystemFailure(
                    f"Failed to open storage volume with path '{device}': No such file or directory"
                )
            raise ProbeFailed(f"Failed to create filesystem probe for device {device}")
        if self.label == "lvm2":
            raise ConfigUnsupported("a partition table of format 'lvm2' cannot be made")
        if not overwrite:
            self._require_empty()
        in_use.require_unused(self.host, device)
        in_use.require_no_group(self.host, device)
        self.host.find_tool("parted")
        devices.clear_edges(self.host, device)
        self._parted(parted.mklabel(device, self.label), changes=True)
        if not self.host.expect(device) and self._label_on_disk() is None:
            raise OperationFailed(f"no partition table was made on '{device}'")

    def unbuilt(self) -> str:
        if not os.path.exists(self.device):
            return SOURCE
        found = devices.signatures(self.host, self.device)
        if any(name not in blkid.TABLES for name in found):
            return SOURCE
        return "" if self._label_on_disk() == self.label else SOURCE

    def _require_empty(self) -> None:
        """Refuse a device that holds a signature, a partition table, or data of any kind."""
        device, wanted = self.device, self.label
        found = devices.signatures(self.host, device)
        label = None
        if all(name in blkid.TABLES for name in found):
            label = self._label_on_disk()
        if wanted in PARTED_ONLY and label == wanted:
            raise OperationInvalid(f"Disk label already formatted using '{wanted}'")
        if wanted in PARTED_ONLY and label is not None and found:
            raise OperationFailed(
                "Known, but different label format present, requires build --overwrite"
            )
        if label is not None or found:
            raise devices.occupied(device, wanted, [label] if label else found)
        if devices.holds_data(device):
            raise PoolBuilt(
                f"Device '{device}' holds data of an unknown format, forced overwrite is necessary"
            )

    def delete(self) -> None:
        """Wipe the partition table of an unused device."""
        device = devices.resolved(self.device)
        if not os.path.exists(device):
            raise SystemFailure(
                f"Failed to open storage volume with path '{device}': No such file or directory"
            )
        in_use.require_unused(self.host, device)
        in_use.require_no_group(self.host, device)
        devices.clear_edges(self.host, device)
        self.host.try_change(blockdev.reread(device))
        devices.settle(self.host)

    # What is there

    def _table(self) -> PartitionTable:
        """Read the partition table.  Raises: ToolFailed where parted can't."""
        self._require_device()
        if self.host.expects(self.device):
            raise OperationUnsupported(
                f"a dry run cannot tell what the partitions of '{self.device}' are after a change"
            )
        try:
            return parted.parse_table(self._parted(parted.print_table(self.device)))
        except ToolFailed as error:
            if parted.UNRECOGNISED in error.stderr:
                error.hint = f"not built? to stop the pool: {stopping(self.pool.name)}"
            raise

    def _parted(self, argv: list[str], *, changes: bool = False) -> str:
        """Run parted on the disk and return its output.

        parted opens the disk for writing even to print it.  On its close udev would take all
        partitions away and make them anew, but not those of a locked disk.

        Raises: ResourceBusy when another process has the disk locked and it is to be changed.
        """
        with self.host.disk_locked(self.device) as holder:
            if changes and holder:
                raise ResourceBusy(f"'{self.device}' is being worked on by {holder}")
            try:
                return (self.host.change if changes else self.host.query)(argv)
            finally:
                devices.settle(self.host)

    def _label_on_disk(self) -> str | None:
        """Return the label that parted finds, None where it finds none."""
        if devices.device_size(self.device) == 0:
            return None
        try:
            return self._table().label
        except ToolFailed as error:
            if parted.UNRECOGNISED in error.stderr:
                return None
            raise

    def state(self) -> PoolState:
        table = self._table()
        data = [part for part in table.partitions if part.kind != parted.EXTENDED]
        ends = [part.end for part in table.partitions] + [free.end for free in table.free]
        return PoolState(
            capacity=max(ends, default=0),
            allocation=sum(part.end - part.start for part in data),
            available=sum(free.end - free.start for free in table.free),
            free_extents=tuple(Extent(free.start, free.end) for free in table.free),
        )

    def layouts(self) -> list[Layout]:
        """Return the disk's partitions and free ranges; of an extended one what is inside."""
        table = self._table()
        ranges = [
            Range(os.path.basename(self._node(part.number)), part.start, part.end)
            for part in table.partitions
            if part.kind != parted.EXTENDED
        ]
        ranges += [Range("", free.start, free.end) for free in table.free]
        return [Layout(self.device, table.size, tuple(sorted(ranges, key=lambda r: r.start)))]

    def volumes(self, *, details: bool) -> Iterator[Volume]:
        table = self._table()
        links = self.links()
        for part in table.partitions:
            yield self._volume(table, part, links, details=details)

    def volume(self, name: str) -> Volume | None:
        table = self._table()
        part = self._find(table, name)
        return self._volume(table, part, self.links(), details=True) if part else None

    def links(self) -> dict[int, str]:
        return devices.stable_links(self.pool.target, os.path.basename(self.device))

    def _find(self, table: PartitionTable, name: str) -> Partition | None:
        for part in table.partitions:
            if os.path.basename(self._node(part.number)) == name:
                return part
        return None

    def _node(self, number: int) -> str:
        """Return the device node of a partition, whatever link the pool was defined with.

        A device-mapper device is known by its name, not by the dm-N that the name leads
        to.  Source: libvirt 9.0.0 src/storage/parthelper.c.  How the names of its partitions
        go is seen from those that are there.
        """
        source = self.pool.source.devices[0]
        if not devices.is_mapped(source.path):
            return blockdev.partition_path(os.path.realpath(source.path), number)
        known = devices.mapped_partitions(source.path)
        if number in known:
            return known[number]
        for other, node in known.items():
            if node.endswith(str(other)):
                return f"{node.removesuffix(str(other))}{number}"
        return blockdev.partition_path(
            source.path, number, separator=source.part_separator == "yes"
        )

    def _volume(
        self,
        table: PartitionTable,
        part: Partition,
        links: dict[int, str],
        *,
        details: bool,
    ) -> Volume:
        node = self._node(part.number)
        number = devices.device_number(node)
        path = node if number is None else links.get(number, node)
        volume = Volume(name=os.path.basename(node), key=path, path=path, type="block")
        if not details:
            return volume
        volume.extents = [SourceExtent(self.device, part.start, part.end)]
        volume.format = "none"
        volume.capacity = volume.allocation = volume.physical = part.end - part.start
        if number is not None:
            volume.physical = devices.device_size(node)
            volume.permissions, volume.timestamps = blocks.looks(node)
        if part.kind == parted.EXTENDED:
            volume.allocation = sum(
                other.end - other.start
                for other in table.partitions
                if other.kind == parted.LOGICAL
            )
        elif number is not None:
            volume.capacity = volume.allocation = volume.physical
        return volume

    # Making and removing partitions

    def create_volume(self, volume: Volume, *, metadata: bool) -> None:
        if volume.capacity == 0:
            raise NoSupport("volume capacity required for this storage pool")
        volume = blocks.with_header(self, volume)
        table = self._table()
        grain = self._grain(table)
        extended = partitions.is_extended(table, volume)
        place = partitions.plan(table, volume.capacity, extended=extended, grain=grain)
        node = self._node(place.number)
        if not self._may_be_called(volume.name, node, place.number):
            raise misnamed(volume.name, node)
        if devices.device_number(self.device) is None:
            raise VolumeNotFound(f"no storage vol with matching path '{node}'")
        system.require_other_disk(self.device)
        if not devices.is_mapped(self.device):
            # a device-mapper disk is held by its own partitions
            in_use.require_unclaimed(self.device)
        words = partitions.mkpart_words(table.label, place.kind, volume.format)
        try:
            self._parted(parted.mkpart(self.device, words, place.start, place.end), changes=True)
            self.host.expect(self.device)
            if not self.host.expect(node) and not devices.wait_until(
                lambda: self._is_partition(self._node(place.number), place)
            ):
                raise OperationFailed(f"device '{node}' of the new partition did not appear")
            node = self._node(place.number)
            if volume.name != os.path.basename(node):
                raise misnamed(volume.name, node)
            blocks.encrypt(self, volume, node)
        except BaseException:
            with contextlib.suppress(StorageError):
                self._undo(table, place)
            raise

    def create_volume_from(
        self, volume: Volume, source: Volume, mover: Mover, *, metadata: bool, reflink: bool
    ) -> None:
        blocks.create_from(
            self, volume, source, mover,
            make=lambda wanted: self.create_volume(wanted, metadata=metadata),
            metadata=metadata, reflink=reflink,
        )  # fmt: skip

    def _may_be_called(self, name: str, node: str, number: int) -> bool:
        """Tell whether a new partition may get a name; only of the first map it is not certain."""
        expected = os.path.basename(node)
        if not devices.is_mapped(self.device) or devices.mapped_partitions(self.device):
            return name == expected
        disk = os.path.basename(self.device)
        return name in {expected, *(f"{disk}{between}{number}" for between in MAPPED_SEPARATORS)}

    def _grain(self, table: PartitionTable) -> int:
        """Return the size of the units, in bytes, that the table's partitions are made of."""
        if table.label not in CYLINDRIC:
            return table.sector_size
        text = self._parted(parted.print_cylinders(self.device))
        return parted.parse_cylinder_sectors(text) * table.sector_size

    def grain(self, volume: Volume) -> int:
        return self._grain(self._table())

    def _undo(self, before: PartitionTable, place: Place) -> None:
        """Remove what a failed create left in the table, and only that."""
        left = [
            part
            for part in self._table().partitions
            if part not in before.partitions
            and (part.number, part.start) == (place.number, place.start)
        ]
        for part in left:
            self._parted(parted.rm(self.device, part.number), changes=True)

    def _is_partition(self, node: str, place: Place | Partition) -> bool:
        """Tell whether the kernel's partition at a node is the one in the table."""
        kernel = devices.kernel_partition(node)
        return (
            kernel is not None
            and kernel.disk == devices.device_number(self.device)
            and kernel.number == place.number
            and kernel.start in (None, place.start)
            and (place.kind == parted.EXTENDED or kernel.size in (None, place.end - place.start))
        )

    def delete_volume(self, volume: Volume) -> None:
        table = self._table()
        part = self._find(table, volume.name)
        if part is None:
            raise VolumeNotFound(f"no storage vol with matching path '{volume.path}'")
        logical = [other for other in table.partitions if other.kind == parted.LOGICAL]
        if part.kind == parted.EXTENDED and logical:
            inside = ", ".join(os.path.basename(self._node(other.number)) for other in logical)
            raise OperationInvalid(
                f"extended partition '{volume.name}' still has logical partitions: {inside}"
            )
        self._require_removable(part)
        moved = [other for other in logical if part.kind == parted.LOGICAL]
        # parted numbers the logical partitions after a removed one anew
        for other in moved:
            if other.number > part.number:
                self._require_removable(other)
        last = max((part, *moved), key=lambda other: other.number)
        gone = self._node(last.number)
        system.require_other_disk(self.device)
        self._parted(parted.rm(self.device, part.number), changes=True)
        self.host.expect(self.device)
        # a mac table has entries for what is free, and the kernel nodes for them
        if not self.host.plans and not devices.wait_until(
            lambda: not self._is_partition(gone, last)
        ):
            raise OperationFailed(f"device '{gone}' of the removed partition is still there")

    def names_lost_without(self, volume: Volume) -> list[str]:
        """Source: parted, which numbers the logical partitions after a removed one anew."""
        table = self._table()
        part = self._find(table, volume.name)
        if part is None or part.kind not in (parted.LOGICAL, parted.EXTENDED):
            return []
        return [
            os.path.basename(self._node(other.number))
            for other in table.partitions
            if other.kind == parted.LOGICAL and other.number > part.number
        ]

    def _require_removable(self, part: Partition) -> None:
        """Refuse a partition that is in use, or that the kernel sees elsewhere."""
        node = self._node(part.number)
        if devices.device_number(node) is not None:
            self._require_partition(node, part)
            in_use.require_unused(self.host, node)

    def _require_partition(self, path: str, part: Partition) -> None:
        if not self._is_partition(path, part):
            raise OperationFailed(f"'{path}' is not partition {part.number} of '{self.device}'")

    def check_path(self, volume: Volume) -> None:
        """Refuse a file beside an image, and what the kernel has not read the table anew for."""
        part = self._find(self._table(), volume.name)
        if part is not None:
            self._require_partition(volume.path, part)

    def check_content(self, volume: Volume, deed: str) -> None:
        """Refuse an extended partition: it holds where the logical ones are, and not them."""
        part = self._find(self._table(), volume.name)
        if part is not None and part.kind == parted.EXTENDED:
            raise NoSupport(f"cannot {deed} extended partition '{volume.path}'")


def stopping(name: str) -> str:
    import shlex

    return f"storagectl pool-destroy {shlex.quote(name)}"


def misnamed(name: str, node: str) -> InvalidArgument:
    return InvalidArgument(f"invalid partition name '{name}', expected '{os.path.basename(node)}'")


BACKENDS = {"disk": Disk}
