"""Taking over the pools that libvirt has: their definitions, and which of them start at boot.

libvirt's files are read and never written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import StorageError, SystemFailure, XmlError
from storagectl.poolxml import parse_pool
from storagectl.store import SUFFIX, names_in, user_folder
from storagectl.xmltree import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.pools import Pools

IMPORTED, AUTOSTARTED = "imported", "imported, autostarted"
UNCHANGED, KEPT = "is here already", "is here already, and differs"
TRANSIENT = "is transient, and stays libvirt's"


class Folders(NamedTuple):
    """Where libvirt has the definitions of pools, and those of its running pools."""

    definitions: str
    state: str


SYSTEM = Folders("/etc/libvirt/storage", "/run/libvirt/storage")


class Result(NamedTuple):
    """How a pool fared; `active` tells that a daemon of libvirt has it running now."""

    name: str
    active: bool
    outcome: str = ""
    error: StorageError | None = None


def of_user() -> Folders:
    """Return the folders of a session daemon.  Source: libvirt 9.0.0 storageStateInitialize."""
    run = os.environ.get("XDG_RUNTIME_DIR") or user_folder("XDG_CACHE_HOME", "~/.cache")
    return Folders(
        os.path.join(user_folder("XDG_CONFIG_HOME", "~/.config"), "libvirt/storage"),
        os.path.join(run, "libvirt/storage/run"),
    )


def import_pools(pools: Pools, folders: Folders) -> Iterator[Result]:
    """Define each pool of libvirt's that is not here, and tell of each, by name.

    One that is here stays as it is, so that a second run changes nothing.
    """
    defined = names_in(folders.definitions)
    started = names_in(folders.state) if daemon_runs(folders.state) else set()
    for name in sorted(defined | started):
        active = name in started
        if name not in defined:
            yield Result(name, active, TRANSIENT)
            continue
        try:
            with pools.host.attempt():
                outcome = import_pool(pools, folders.definitions, name)
            yield Result(name, active, outcome)
        except StorageError as error:
            yield Result(name, active, error=error)


def import_pool(pools: Pools, folder: str, name: str) -> str:
    """Define one pool unless there is one of that name.  Returns: what became of it.

    A link is not followed: an error shows what is in a file that is no definition.
    """
    path = os.path.join(folder, name + SUFFIX)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as stream:
            pool = parse_pool(stream.read(LIMIT + 1))
    except OSError as error:
        raise SystemFailure(f"cannot read '{path}': {error.strerror}") from error
    if pool.name != name:
        raise XmlError(
            f"Storage pool config filename '{path}' does not match pool name '{pool.name}'"
        )
    own = pools.store.definition(name)
    if own is not None:
        return UNCHANGED if own == pool else KEPT
    autostart = os.path.lexists(os.path.join(folder, "autostart", name + SUFFIX))
    pools.define(pool, autostart=autostart)
    return AUTOSTARTED if autostart else IMPORTED


def daemon_runs(folder: str) -> bool:
    """Tell whether a daemon of libvirt has the state of pools in a folder for its own.

    Source: libvirt 9.0.0 storageStateInitialize, which writes `driver.pid`.
    """
    try:
        with open(os.path.join(folder, "driver.pid"), encoding="ascii") as stream:
            return os.path.exists(f"/proc/{int(stream.read())}")
    except (OSError, ValueError):
        return False
