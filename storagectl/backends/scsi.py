"""SCSI pools: the disks that a host adapter shows.  None is made or deleted."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from storagectl.backends import Backend, PoolState, blocks, devices, in_use, vhba
from storagectl.errors import InternalError, InvalidArgument, ResourceBusy, StorageError, XmlError
from storagectl.model import Volume
from storagectl.tools import scsi_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends.troubles import Trouble
    from storagectl.model import Adapter, PciAddress, Pool

# Direct access and CD-ROM.  Source: SPC-4, peripheral device type.
DISK_TYPES = ("0", "5")

SERIAL_LIMIT_S = 5.0

ADDRESS = re.compile(r"(\d+):(\d+):(\d+):(\d+)")


class Lun(NamedTuple):
    """A disk: its volume's name, its device node (`/dev/sda`), and its folder in sysfs."""

    name: str
    node: str
    folder: str


def find_luns(prefix: str) -> list[Lun]:
    """Return the disks at SCSI addresses that begin with `HOST:` or `HOST:CHANNEL:TARGET:`."""
    found = []
    for address, folder in disks_at(prefix):
        for block in devices.listing(f"{folder}/block")[:1]:
            found.append(Lun(f"unit:{address.partition(':')[2]}", f"/dev/{block}", folder))
    return found


def disks_at(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the address of each disk, whether or not it has a node yet, and its folder in sysfs."""
    for address in devices.listing(f"{devices.SYS}/bus/scsi/devices"):
        folder = f"{devices.SYS}/bus/scsi/devices/{address}"
        if (
            ADDRESS.fullmatch(address)
            and address.startswith(prefix)
            and devices.read_line(f"{folder}/type") in DISK_TYPES
        ):
            yield address, folder


class Luns(Backend):
    """The LUNs below one address; scsi and iscsi pools differ in how they get there."""

    @property
    def serial_with_port(self) -> bool:
        """Whether one serial may be seen through several ports."""
        return False

    def address(self) -> str:
        """Return how the SCSI addresses of the pool's LUNs begin.  Raises: StorageError."""
        raise NotImplementedError

    def scan(self) -> None:
        """Make the kernel look for new LUNs.  Raises: StorageError."""
        raise NotImplementedError

    def find_new(self) -> None:
        """Look for LUNs, and wait for a bounded time until they have their nodes and links."""
        self.scan()
        prefix = self.address()
        devices.wait_until(
            lambda: all(devices.listing(f"{folder}/block") for _, folder in disks_at(prefix))
        )
        devices.settle(self.host)

    def refresh(self) -> None:
        self.find_new()
        self.state()

    def state(self) -> PoolState:
        total = sum(devices.device_size(lun.node) for lun, _ in self._with_paths())
        return PoolState(capacity=total, allocation=total, available=0)

    def _with_paths(self) -> Iterator[tuple[Lun, str]]:
        """Yield each LUN with its path in the target folder; one that has none is no volume.

        Source: libvirt 9.0.0 virStorageBackendSCSINewLun.
        """
        target = self.pool.target
        links = self.links()
        for lun in find_luns(self.address()):
            if target.rstrip("/") == "/dev":
                yield lun, lun.node
                continue
            if not target.startswith("/dev/"):
                name = os.path.basename(lun.node)
                raise InvalidArgument(f"unable to use target path '{target}' for dev '{name}'")
            number = devices.device_number(lun.node)
            if number in links:
                yield lun, links[number]

    def volumes(self, *, details: bool) -> Iterator[Volume]:
        for lun, path in self._with_paths():
            if not details:
                yield Volume(lun.name, path, path, "block")
                continue
            volume = self._inspect(lun, path)
            if volume is not None:
                yield volume

    def volume(self, name: str) -> Volume | None:
        for lun, path in self._with_paths():
            if lun.name == name:
                return self._inspect(lun, path)
        return None

    def volume_name_at(self, path: str) -> str | None:
        found = list(self._with_paths())
        for lun, own in found:
            if path == own:
                return lun.name
        if "/" not in path:
            for lun, own in found:
                if path == self._key(lun, own):
                    return lun.name
        return None

    def _inspect(self, lun: Lun, path: str) -> Volume | None:
        return blocks.inspect(lun.name, path, self._key(lun, path))

    def _key(self, lun: Lun, path: str) -> str:
        """Return what identifies a LUN wherever it is seen; its path where it has no serial.

        A LUN that does not answer is not asked: that could take minutes.
        """
        if devices.read_line(f"{lun.folder}/state") != "running":
            return path
        argv = scsi_id.serial(lun.node, export=self.serial_with_port)
        try:
            said = self.host.query(argv, limit_s=SERIAL_LIMIT_S)
        except StorageError:
            return path
        return scsi_id.parse_serial(said, export=self.serial_with_port) or path

    def require_luns_unused(self) -> None:
        """Refuse to take away a disk that is in use, or a partition of it.  Nothing is read.

        Raises: ResourceBusy.
        """
        for lun in find_luns(self.address()):
            folder = devices.folder_of(lun.node)
            if folder is None:
                continue
            for place in in_use.related(folder):
                node = f"/dev/{devices.node_name(place)}"
                user = in_use.user_of_device(place) or ", ".join(in_use.openers(node))
                if user:
                    raise ResourceBusy(f"device '{node}' is in use: {user}")


class Scsi(Luns):
    """A SCSI host, given by name, by its parent's PCI address, or as a Fibre Channel vHBA."""

    # what `start` says of a vHBA that it made
    _managed: str | None = None

    @property
    def adapter(self) -> Adapter:
        assert self.pool.source.adapter is not None
        return self.pool.source.adapter

    @property
    def serial_with_port(self) -> bool:
        return self.adapter.type == "fc_host"

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        if not active:
            yield from troubles.of_adapter(self)

    def host_name(self) -> str:
        """Return the name of the SCSI host, `host3`, which need not exist.

        Raises: InternalError for a name that is none, XmlError where nothing is as described.
        Source: libvirt 9.0.0 getAdapterName in src/storage/storage_backend_scsi.c.
        """
        adapter = self.adapter
        if adapter.type == "fc_host":
            found = vhba.find(adapter.wwnn, adapter.wwpn)
            if found is None:
                raise XmlError(
                    f"Failed to find SCSI host with wwnn='{adapter.wwnn}', wwpn='{adapter.wwpn}'"
                )
            return found
        if adapter.parent_address is not None:
            return self._host_at(adapter.parent_address, adapter.unique_id)
        name = adapter.name or ""
        host = vhba.host_named(name)
        if host is None:
            raise InternalError(f"Invalid adapter name '{name}' for SCSI pool")
        return host

    def known_host(self) -> str | None:
        """Return the name of the SCSI host where it can be told."""
        try:
            return self.host_name()
        except StorageError:
            return None

    def known_hosts(self) -> set[str]:
        """Return the names of a vHBA, of the host it belongs to, and of the parent it is to get."""
        found = self.known_host()
        names = {found, found and vhba.parent_of(found), vhba.host_named(self.adapter.parent or "")}
        return {name for name in names if name}

    def _host_at(self, address: PciAddress, unique_id: int | None) -> str:
        place = f"{address.domain:04x}:{address.bus:02x}:{address.slot:02x}.{address.function:x}"
        folder = f"{devices.SYS}/class/scsi_host"
        for name in sorted(devices.listing(folder)):
            parents = os.path.realpath(f"{folder}/{name}").split("/")
            if place in parents and devices.read_line(f"{folder}/{name}/unique_id") == str(
                unique_id
            ):
                return name
        raise XmlError(f"Failed to find scsi_host using PCI '{place}' and unique_id='{unique_id}'")

    def address(self) -> str:
        return f"{self.host_name().removeprefix('host')}:"

    def is_active(self) -> bool:
        try:
            return os.path.isdir(f"{devices.SYS}/class/scsi_host/{self.host_name()}")
        except StorageError:
            return False

    def scan(self) -> None:
        path = f"{devices.SYS}/class/scsi_host/{self.host_name()}/scan"
        self.host.tell_kernel(path, "- - -", f"Could not open '{path}' to trigger host scan")

    def start(self) -> None:
        """Look for LUNs; make the vHBA first where there is none with these names.

        Source: libvirt 9.0.0 createVport in src/storage/storage_backend_scsi.c.
        """
        adapter = self.adapter
        if adapter.type == "fc_host":
            existing = vhba.find(adapter.wwnn, adapter.wwpn)
            if existing is None:
                vhba.create(self.host, adapter)
                self._managed = adapter.managed or "yes"
                if self.is_foreseen():
                    devices.settle(self.host)
                    return
            else:
                self._require_parent(existing)
        try:
            self.find_new()
            if self._managed:
                # the fabric tells of LUNs when it pleases
                devices.wait_until(lambda: bool(find_luns(self.address())))
        except BaseException:
            if self._managed:
                vhba.delete(self.host, adapter)
            raise

    @property
    def runs(self) -> bool:  # type: ignore[override]
        return self.adapter.type == "fc_host"

    def intended(self) -> Pool:
        """Return the definition, which says whose a vHBA is that is yet to be made."""
        adapter = self.adapter
        if not self.runs or adapter.managed or vhba.find(adapter.wwnn, adapter.wwpn) is not None:
            return self.pool
        source = self.pool.source.replace(adapter=adapter.replace(managed="yes"))
        return self.pool.replace(source=source)

    def is_foreseen(self) -> bool:
        return self.host.expects(f"{self.adapter.wwnn}:{self.adapter.wwpn}")

    def _require_parent(self, existing: str) -> None:
        wanted = self.adapter.parent
        parent = vhba.parent_of(existing) or existing
        if wanted is not None and vhba.host_named(wanted) not in (parent, existing):
            raise XmlError(
                f"Parent attribute '{wanted}' does not match parent 'scsi_{parent}' determined for"
                f" the 'scsi_{existing}' wwnn/wwpn lookup."
            )

    def settled(self) -> Pool:
        if not self._managed:
            return self.pool
        adapter = self.adapter.replace(managed=self._managed)
        return self.pool.replace(source=self.pool.source.replace(adapter=adapter))

    @property
    def _owns_adapter(self) -> bool:
        """Whether the adapter was made by the start of the pool, so that the stop deletes it."""
        return self.adapter.type == "fc_host" and (self._managed or self.adapter.managed) == "yes"

    def gone_when_stopped(self) -> str:
        return "the virtual adapter and the devices of its LUNs" if self._owns_adapter else ""

    def kept_when_stopped(self) -> str:
        return "the LUNs in the SAN" if self._owns_adapter else super().kept_when_stopped()

    def settled_as(self, config: Pool) -> Pool:
        own, adapter = self.pool.source.adapter, config.source.adapter
        if own is None or adapter is None or own.managed is not None:
            return self.pool
        own = own.replace(managed=adapter.managed)
        return self.pool.replace(source=self.pool.source.replace(adapter=own))

    def stop(self) -> None:
        if self._owns_adapter:
            devices.settle(self.host)
            self.require_luns_unused()
            vhba.delete(self.host, self.adapter)


def share_adapter(one: Scsi, other: Scsi) -> bool:
    """Tell whether two pools are of one SCSI host, or of a vHBA and the host below it.

    Source: libvirt 9.0.0 virStoragePoolObjSourceFindDuplicateCb in src/conf/virstorageobj.c.
    """
    virtual, plain = (
        [pool for pool in (one, other) if (pool.adapter.type == "fc_host") is wanted]
        for wanted in (True, False)
    )
    if len(virtual) == 2:
        first, second = (pool.adapter for pool in virtual)
        return (first.wwnn, first.wwpn) == (second.wwnn, second.wwpn)
    hosts = [pool.known_host() for pool in plain]
    if None in hosts:
        return False
    return hosts[0] in (virtual[0].known_hosts() if virtual else hosts[1:])


BACKENDS = {"scsi": Scsi}
