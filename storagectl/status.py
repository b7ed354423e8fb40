"""What all pools look like at the moment, for one screen: a broken one is a row, not an error."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import Inaccessible, StorageError, ToolFailed
from storagectl.pools import Entry, ask_together, no_such_pool
from storagectl.pooltypes import POOL_TYPES
from storagectl.store import Unusable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from storagectl.backends import Layout, Path, PoolState
    from storagectl.model import Pool, Volume
    from storagectl.pools import Pools

# How libxml2 names the place of an error in a document.
PLACE = re.compile(r"^\(\w+\):(\d+): ")

RUNNING, INACTIVE, INACCESSIBLE, BROKEN = "running", "inactive", "inaccessible", "broken"


class Link(NamedTuple):
    """A volume in the tree of a pool.

    `last` says for each level, from the outermost to its own, whether nothing follows there;
    it is empty for a volume that is based on no other of the pool.  `outside` is the backing
    store of such a volume, where it has one.
    """

    volume: Volume
    last: tuple[bool, ...]
    outside: str


class PoolStatus(NamedTuple):
    """A pool.  `why` tells what is wrong with it, in one line; `divides` whether it can be full.

    `growth` is how many bytes its sparse files may yet take of what is available.
    What could not be measured, or was not asked for, is None.
    """

    name: str
    uuid: str
    type: str
    source: str
    state: str
    why: str = ""
    autostart: bool = False
    persistent: bool = True
    divides: bool = True
    measured: PoolState | None = None
    links: tuple[Link, ...] | None = None
    growth: int = 0
    layouts: tuple[Layout, ...] = ()
    paths: dict[str, list[Path]] | None = None

    @property
    def is_trouble(self) -> bool:
        """Whether somebody should look at it."""
        return bool(self.why)


def examine(
    pools: Pools, wanted: Sequence[str] = (), *, volumes: bool = False, maps: bool = False
) -> list[PoolStatus]:
    """Look at all pools, or at those wanted by name or UUID, sorted as virsh sorts them.

    `maps` asks how devices are divided and what paths lead to them.
    Raises: PoolNotFound for a wanted one that is not there; SystemFailure where the folder of
    definitions can't be read.
    """
    autostarted = pools.store.autostarted()
    found = [_entry(pools, name, name in autostarted) for name in pools.store.names()]
    ask_together(pools.host, (one.marker for one in found if isinstance(one, Entry)))
    known = sorted(
        (one for one in found if isinstance(one, PoolStatus) or one.exists),
        key=lambda one: (one.name.lower(), one.name),
    )
    if wanted:
        known = list(_chosen(pools, known, wanted))
    return [
        one if isinstance(one, PoolStatus) else _look(one, volumes=volumes, maps=maps)
        for one in known
    ]


def _entry(pools: Pools, name: str, autostart: bool) -> Entry | PoolStatus:
    """Return a pool, or what is wrong with its definition."""
    store = pools.store
    try:
        config, marker = store.read(store.config, name), store.read(store.markers, name)
        return Entry(pools.host, config, marker, autostart)
    except (StorageError, OSError) as error:
        return PoolStatus(name, "", "-", "-", BROKEN, words(error), autostart)


def _chosen(
    pools: Pools, known: Collection[Entry | PoolStatus], wanted: Sequence[str]
) -> Iterator[Entry | PoolStatus]:
    left = set(wanted)
    for one in known:
        uuid = one.uuid if isinstance(one, PoolStatus) else one.pool.uuid
        names = {key for key in wanted if key == one.name or key.lower() == uuid}
        left -= names
        if names:
            yield one
    for key in wanted:
        if key in left:
            raise no_such_pool(pools.store, key)


def _look(entry: Entry, *, volumes: bool, maps: bool) -> PoolStatus:
    """Measure a pool; what fails is said in its `why`."""
    pool = entry.pool
    status = PoolStatus(
        pool.name,
        pool.uuid,
        pool.type,
        source_words(pool),
        INACTIVE,
        autostart=entry.autostart,
        persistent=entry.persistent,
    )
    try:
        backend = entry.backend
        if not entry.active:
            return status._replace(why="" if not entry.autostart else "autostarted, not running")
        status = status._replace(
            state=RUNNING,
            divides=backend.create_volume is not None,
            measured=entry.state(),
        )
        if volumes:
            listed = sorted(backend.volumes(details=True), key=lambda v: (v.name.lower(), v.name))
            growth = sum(max(v.capacity - v.allocation, 0) for v in listed if v.type == "file")
            status = status._replace(links=tuple(chains(listed)), growth=growth)
        if maps and backend.layouts is not None:
            status = status._replace(layouts=tuple(backend.layouts()))
        if maps and backend.paths is not None:
            status = status._replace(paths=backend.paths())
    except Inaccessible as error:
        return status._replace(state=INACCESSIBLE, why=words(error))
    except (StorageError, OSError) as error:
        return status._replace(state=BROKEN, why=words(error))
    return status


def words(error: StorageError | OSError) -> str:
    """Return what went wrong in one line; of a broken document only what is wrong with it, of a
    tool that failed what it said."""
    if isinstance(error, Unusable):
        return PLACE.sub(r"line \1: ", error.reason.partition("\n")[0])
    if isinstance(error, ToolFailed) and error.stderr.strip():
        text = f"{os.path.basename(error.argv[0])}: {error.stderr}"
    elif isinstance(error, StorageError):
        text = f"{error.lines()[-1]}; {error.hint}" if error.hint else error.lines()[-1]
    else:
        text = f"{error.strerror}: '{error.filename}'" if error.filename else str(error.strerror)
    return " ".join(text.split())


def source_words(pool: Pool) -> str:
    """Return what a pool is made of: its server and what that serves, its devices, its folder."""
    source = pool.source
    parts = [f"{host.name}:{host.port}" if host.port else host.name for host in source.hosts]
    if source.dir is not None:
        return f"{','.join(parts)}:{source.dir}" if parts else source.dir
    parts += [device.path for device in source.devices]
    if source.adapter is not None:
        adapter = source.adapter
        parts.append(adapter.name or adapter.wwpn or adapter.type)
    if source.name and not source.devices:
        parts.append(source.name)
    if not parts and POOL_TYPES[pool.type].conflict == "type":
        return "-"
    return " ".join(parts) or pool.target or "-"


def chains(volumes: Sequence[Volume]) -> Iterator[Link]:
    """Yield volumes so that each follows the one that it is based on, in their order.

    Those that are based on each other in a circle come last, each by itself.
    """
    at = {volume.path: volume for volume in volumes}
    above: dict[str, list[Volume]] = {}
    for volume in volumes:
        if volume.backing is not None and volume.backing.path in at:
            above.setdefault(volume.backing.path, []).append(volume)
    shown: set[str] = set()
    bases = [v for v in volumes if v.backing is None or v.backing.path not in at]
    for base in (*bases, *volumes):
        if base.path in shown:
            continue
        outside = base.backing.path if base.backing is not None else ""
        stack = [Link(base, (), outside)]
        while stack:
            link = stack.pop()
            shown.add(link.volume.path)
            yield link
            own = [v for v in above.get(link.volume.path, []) if v.path not in shown]
            pushed = [
                Link(volume, (*link.last, number == len(own)), "")
                for number, volume in enumerate(own, 1)
            ]
            stack += reversed(pushed)
