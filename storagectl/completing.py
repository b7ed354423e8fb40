"""What a shell can offer for a word that is typed, a line each: `storagectl --complete KIND`.

Called at every TAB by the completions, so it imports no click, and asks for nothing that
takes long.  Nothing is an error here: what can't be found out is not offered.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TYPE_CHECKING

from storagectl.errors import StorageError
from storagectl.host import Host
from storagectl.pools import Pools
from storagectl.pooltypes import POOL_TYPES
from storagectl.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from storagectl.pools import Entry

# Seconds: whoever presses TAB does not wait for a file server that is gone.
LIMITS = {"answer": 0.5, "command": 2.0}
DEVICES = "/dev"
LINKS = ("mapper", "disk/by-id")
SYS_BLOCK = "/sys/class/block"
URI_VARIABLES = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")
LIBVIRT_FILES = ("/etc/libvirt/libvirt.conf", "~/.config/libvirt/libvirt.conf")

# What acts on a terminal: controls, bytes that old ones take for such, and what turns the
# direction of writing.  A shell shows what is offered as it is.
ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\udc80-\udc9f]")


def offer(args: list[str]) -> None:
    """Print what can be offered: `[--root DIR] [--connect URI] KIND [WORD]`.

    WORD is the pool whose volumes or formats are meant, or the volume whose pools are.
    """
    root = os.environ.get("STORAGECTL_ROOT") or None
    uri = None
    while args[:1] in (["--root"], ["--connect"]) and len(args) > 1:
        if args[0] == "--root":
            root = args[1]
        else:
            uri = args[1]
        del args[:2]
    kind, word = [*args, "", ""][:2]
    find = KINDS.get(kind)
    if find is None:
        return
    found: list[str] = []
    with contextlib.suppress(StorageError, OSError):
        host = Host(LIMITS)
        system = None if root is not None else serves_system(uri)
        pools = Pools(Store(host, root, system=system, readonly=True), host)
        found += find(pools, word)
    lines = dict.fromkeys(line for line in found if line and not ACTING.search(line))
    sys.stdout.buffer.write(b"".join(os.fsencode(line) + b"\n" for line in lines))


def serves_system(uri: str | None) -> bool | None:
    """Tell whose pools are meant, None for those of whoever asks.

    Only where something says so the URI is looked at: that imports click.
    """
    given = uri or any(map(os.environ.get, URI_VARIABLES))
    if not given and not any(map(os.path.exists, map(os.path.expanduser, LIBVIRT_FILES))):
        return None
    from storagectl.commands import connection

    return connection.serves_system(connection.effective(uri or connection.from_environment()))


def all_pools(pools: Pools, _: str) -> Iterator[str]:
    return (entry.name for entry in pools.all())


def active_pools(pools: Pools, _: str) -> Iterator[str]:
    return (entry.name for entry in pools.all() if entry.active)


def inactive_pools(pools: Pools, _: str) -> Iterator[str]:
    return (entry.name for entry in pools.all() if not entry.active)


def persistent_pools(pools: Pools, _: str) -> Iterator[str]:
    return (entry.name for entry in pools.all() if entry.persistent)


def uuids(pools: Pools, _: str) -> Iterator[str]:
    return (entry.pool.uuid for entry in pools.all())


def pools_with(pools: Pools, volume: str) -> list[str]:
    """Return the running pools that have a volume of that name; all where none has."""
    running = [entry for entry in pools.all() if entry.active]
    having = [entry.name for entry in running if volume in volume_names(entry)]
    return having or [entry.name for entry in running]


def volumes(pools: Pools, pool: str) -> Iterator[str]:
    """Yield the volumes of a pool, or of all that run."""
    for entry in [pools.find(pool)] if pool else pools.all():
        yield from volume_names(entry)


def volume_names(entry: Entry) -> list[str]:
    """Return the names of a pool's volumes in order; none where it is inactive, or fails."""
    with contextlib.suppress(StorageError, OSError):
        if entry.active:
            return sorted(volume.name for volume in entry.backend.volumes(details=False))
    return []


def volume_formats(pools: Pools, pool: str) -> Iterable[str]:
    """Return the formats that volumes of a pool can have."""
    return POOL_TYPES[pools.find(pool).pool.type].volume_formats


def devices(*_: object) -> Iterator[str]:
    """Yield block devices that have a size, and the names that last."""
    for name in sorted(os.listdir(SYS_BLOCK)):
        with contextlib.suppress(OSError), open(f"{SYS_BLOCK}/{name}/size") as stream:
            if stream.read().strip() != "0" and not name.startswith(("ram", "zram")):
                yield f"{DEVICES}/{name.replace('!', '/')}"
    for folder in LINKS:
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(f"{DEVICES}/{folder}")):
                if name != "control":
                    yield f"{DEVICES}/{folder}/{name}"


def secrets(pools: Pools, _: str) -> Iterator[str]:
    return (secret.uuid for secret in pools.secrets.all())


def users(*_: object) -> Iterator[str]:
    import pwd

    return (entry.pw_name for entry in pwd.getpwall())


def groups(*_: object) -> Iterator[str]:
    import grp

    return (entry.gr_name for entry in grp.getgrall())


KINDS: dict[str, Callable[[Pools, str], Iterable[str]]] = {
    "device": devices,
    "group": groups,
    "pool-active": active_pools,
    "pool-all": all_pools,
    "pool-inactive": inactive_pools,
    "pool-persistent": persistent_pools,
    "pool-uuid": uuids,
    "pool-with": pools_with,
    "secret": secrets,
    "user": users,
    "volume": volumes,
    "volume-format": volume_formats,
}
