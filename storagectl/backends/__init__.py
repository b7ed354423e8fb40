"""How each pool type does its work on the host.

A backend is a class; an operation that it has a method for is supported.  The
slots that a type lacks are None here, and `require` is the one place that
turns None into libvirt's refusal.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from storagectl.errors import InternalError, NoSupport
from storagectl.pooltypes import POOL_TYPES
from storagectl.record import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from storagectl.backends.troubles import Trouble
    from storagectl.host import Host
    from storagectl.model import Auth, Encryption, Extent, Permissions, Pool, Source, Volume


SOURCE, TARGET = "source", "target"


class PoolState(Row):
    """What a running pool looks like now; sizes in bytes.

    `permissions` are the target's where the type shows them, `free_extents` those
    of the source device of a disk pool.
    """

    capacity: int
    allocation: int
    available: int
    permissions: Permissions | None = None
    free_extents: tuple[Extent, ...] = ()


class Range(Row):
    """Bytes [start, end) of a device, and what is there; no name means that they are free."""

    name: str
    start: int
    end: int


class Layout(Row):
    """How a device is divided; what is in none of the ranges is the table's or metadata.

    The ranges are in the order of the device; a device that is missing has none.
    """

    device: str
    size: int
    ranges: tuple[Range, ...]


class Path(Row):
    """A way to a disk: its node's name, its SCSI address, and what is the matter with it."""

    node: str
    address: str
    active: bool
    failures: int


class Port(Row):
    """Where a server must answer, and the command that asks it what it has."""

    host: str
    number: int
    ask: tuple[str, ...]


class Needs(Row):
    """What a start takes: host tools, servers, source devices, and whether root alone can.

    `files` says that a device may be a regular file.
    """

    tools: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    devices: tuple[str, ...] = ()
    root: bool = True
    files: bool = False


class Backend:
    """One pool on the host.  Nothing is remembered between two calls.

    `one_layout` says that volumes are carved out of one thing, such as a partition
    table, so that two commands must not create or delete at the same time.  `stable_links`
    says that a volume's path may be a link that the host keeps for its device,
    `shrinks_allocation` that shrinking a volume gives back what it had allocated,
    `is_folder` that the target is a folder whose files are the volumes,
    `runs` that a started pool has something on the host that a stopped one has not,
    `fills_in_place` that a copy has its own name before it is complete,
    `own_permissions` that a new volume gets the owner and mode of its definition,
    `built_permissions` that `build` gives them to what a running pool shows those of,
    `keeps_references` that volumes of the pool find each other whatever their names are,
    `starts_at_once` that a start runs no tool and waits for no device, and
    `goes_by_name` that whatever has the name of the source is taken for it, also while it runs.
    `delete_function` is libvirt's, which its refusal of --delete-snapshots names.
    """

    delete_function = "virStorageBackendVolDeleteLocal"
    one_layout = False
    is_folder = False
    runs = True
    fills_in_place = False
    stable_links = True
    shrinks_allocation = False
    own_permissions = True
    built_permissions = False
    keeps_references = False
    goes_by_name = False
    starts_at_once = False

    def __init__(self, pool: Pool, host: Host) -> None:
        self.pool = pool
        self.host = host

    def is_active(self) -> bool:
        """Tell whether the host has what a started pool needs."""
        raise NotImplementedError

    def state(self) -> PoolState:
        """Measure the running pool.  Raises: StorageError when the host can't say."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Look for what has appeared or gone since the start; by default only measure."""
        self.state()

    def volumes(self, *, details: bool) -> Iterator[Volume]:
        """Yield the volumes, in no order; without details only name, key, path and type."""
        raise NotImplementedError

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the path of each volume, in no order."""
        return ((volume.name, volume.path) for volume in self.volumes(details=False))

    def sizes(self) -> Iterator[Volume]:
        """Yield the volumes, in no order; of their details only the capacity and allocation."""
        return self.volumes(details=True)

    def volume(self, name: str) -> Volume | None:
        """Return one volume by name, with details, without looking at the others."""
        raise NotImplementedError

    def links(self) -> dict[int, str]:
        """Return the links below the target that are paths of volumes, by device number."""
        from storagectl.backends import devices

        return devices.stable_links(self.pool.target)

    def stable_path(self, path: str) -> str:
        """Return the link below the target to the device at a path; the path where none is.

        Source: libvirt 9.0.0 virStorageBackendStablePath.
        """
        from storagectl.backends import devices

        links = self.links() if path.startswith("/dev/") else {}
        number = devices.device_number(path) if links else None
        return path if number is None else links.get(number, path)

    def volume_name_at(self, path: str) -> str | None:
        """Return the name of the volume that has this path or key, if one has."""
        for volume in self.volumes(details=False):
            if path in (volume.path, volume.key):
                return volume.name
        return None

    def start(self) -> None:
        """Make the source available; nothing to do for most types."""

    def stop(self) -> None:
        """Undo `start`, never touching data."""

    def devices_of_users(self) -> list[str]:
        """Return the devices, besides the sources, whose users are users of the pool."""
        return [volume.path for volume in self.volumes(details=False)]

    def other_mounts(self) -> list[str]:
        """Return where the source is mounted besides the target."""
        return []

    def gone_when_stopped(self) -> str:
        """Return what `stop` takes away, as words for people; nothing for most types."""
        return ""

    def kept_when_stopped(self) -> str:
        """Return what `stop` leaves as it is, as words for people."""
        return f"the devices below {self.pool.target}"

    def build(self, *, overwrite: bool, no_overwrite: bool) -> None:
        """Prepare the source or target; nothing to do for types that only find things."""

    def unbuild(self) -> None:
        """Take back what this `build` has made, as far as it holds no data."""

    def unbuilt(self) -> str:
        """Return what `build` has yet to make: SOURCE, with all that is in it, TARGET or nothing.

        Only looks.  Raises: StorageError when the host can't say.
        """
        return ""

    def build_rest(self, *, overwrite: bool) -> None:
        """Build what `unbuilt` finds missing; over other data only with `overwrite`."""
        if self.unbuilt():
            self.build(overwrite=overwrite, no_overwrite=False)

    def needs(self) -> Needs:
        """Return what a start takes, as far as the definition tells."""
        return Needs()

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        """Yield what keeps the pool from starting, or from running well where it is active.

        What `needs` tells of is not looked at again.  Raises: StorageError.
        """
        del active
        yield from ()

    def unoffered(self) -> Iterator[Trouble]:
        """Yield what the servers of a pool that does not run do not offer it; they do answer."""
        yield from ()

    def is_foreseen(self) -> bool:
        """Tell whether a dry run has planned what the pool is on, so that it can't be measured."""
        places = (self.pool.target, *(device.path for device in self.pool.source.devices))
        return any(map(self.host.expects, places))

    def intended(self) -> Pool:
        """Return the definition with what `start` will have decided, as far as it is known before.

        Who is killed meanwhile has noted it.
        """
        return self.pool

    def settled(self) -> Pool:
        """Return the definition with what it left open as `build` and `start` decide it."""
        return self.pool

    def settled_as(self, config: Pool) -> Pool:
        """Return the definition with what it left open as an earlier one of the pool has it."""
        return self.settled()

    def identities(self, *, built: bool) -> dict[str, dict[str, str]]:
        """Return what tells the sources from others that may get their names, for each of them.

        `built` says that the pool's source has just been built or started.
        """
        del built
        return {}

    def mistaken(
        self, known: dict[str, dict[str, str]], *, build: bool
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the sources that are not what they were known as, with what they are now.

        `build` asks about those that a build writes to.
        """
        del known, build
        yield from ()

    def check_path(self, volume: Volume) -> None:
        """Raise where what is at a volume's path is not the volume."""

    def check_content(self, volume: Volume, deed: str) -> None:
        """Raise where a volume, which is to `wipe` or the like, has no content of its own."""

    def check_wipe(self, volume: Volume) -> None:
        """Raise where the content of a volume must not be overwritten as a whole."""

    def rounded(self, volume: Volume, capacity: int) -> int:
        """Return the capacity that a volume has after it was resized to that much."""
        return capacity

    def names_lost_without(self, volume: Volume) -> list[str]:
        """Return the names that other volumes no more have when a volume is deleted."""
        return []

    def grain(self, volume: Volume) -> int:
        """Return the bytes that the capacity of a volume is a multiple of when it is made."""
        return 1

    secret_of: Callable[[Auth], str] | None = None
    """secret_of(auth): look up a secret; set by who starts a pool, for its source's <auth>."""

    passphrase_of: Callable[[Encryption], bytes] | None = None
    """passphrase_of(encryption): look up what opens a volume; set by who makes or changes one."""

    find_sources: Callable[[Host, Source], list[Source]] | None = None
    """Static.  find_sources(host, asked): what pools of the type could be made of; `asked`
    has the one host that types which need a host are asked about."""

    layouts: Callable[[], list[Layout]] | None = None
    """layouts(): how each of the running pool's devices is divided among its volumes."""

    paths: Callable[[], dict[str, list[Path]]] | None = None
    """paths(): the ways to each volume of the running pool, by the volume's name."""

    asked_once: Callable[[Host], AbstractContextManager[None]] | None = None
    """Static.  asked_once(host): what `is_active` of all pools of the type asks is asked once,
    for as long as the block takes."""

    delete: Callable[[], None] | None = None

    create_volume: Callable[..., None] | None = None
    """create_volume(volume, *, metadata): make an empty volume or leave nothing.

    `metadata` asks for preallocated metadata.  Path, key and whatever else the host
    decides need not be set in `volume`: the caller reads the new volume back by name.
    """

    create_volume_from: Callable[..., None] | None = None
    """create_volume_from(volume, source, mover, *, metadata, reflink): the same with the content
    of another volume, moved by a `host.bulk.Mover`."""

    delete_volume: Callable[[Volume], None] | None = None

    resize_volume: Callable[..., None] | None = None
    """resize_volume(volume, capacity, *, allocate, shrink); capacity in bytes."""

    rename_volume: Callable[[Volume, str], None] | None = None
    """rename_volume(volume, name): never replaces what has the name, and refuses a volume
    that is in use."""


REFUSALS = {
    "delete": "pool does not support pool deletion",
    "create_volume": "storage pool does not support volume creation",
    "create_volume_from": "storage pool does not support volume creation from an existing volume",
    "delete_volume": "storage pool does not support vol deletion",
    "rename_volume": "storage pool does not support volume renaming",
    "resize_volume": "storage pool does not support changing of volume capacity",
}


@lru_cache
def of_type(kind: str) -> type[Backend]:
    """Return the backend of a pool type, importing only its own module.

    Raises: InternalError, with libvirt's number of the type, for one we do not serve.
    """
    if POOL_TYPES[kind].module is None:
        number = list(POOL_TYPES).index(kind)
        raise InternalError(f"missing backend for pool type {number} ({kind})")
    module = import_module(f"storagectl.backends.{POOL_TYPES[kind].module}")
    found: type[Backend] = module.BACKENDS[kind]
    return found


def load(pool: Pool, host: Host) -> Backend:
    """Return the backend of a pool.  Raises: as `of_type`."""
    return of_type(pool.type)(pool, host)


def require(backend: Backend, operation: str) -> Any:
    """Return a backend's method.  Raises: NoSupport where its type has none."""
    method = getattr(backend, operation)
    if method is None:
        raise NoSupport(REFUSALS[operation])
    return method
