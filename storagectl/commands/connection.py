"""What the URI of a connection stands for here: the pools of the system, or of the user."""

from __future__ import annotations

import os
from functools import lru_cache

from storagectl.commands import clientconf
from storagectl.errors import InternalError, StorageError

DRIVERS = ("storage", "qemu")
SYSTEM, SESSION = "/system", "/session"
ACTION = "failed to connect to the hypervisor"


def effective(given: str | None) -> str:
    """Return the URI that is meant by one that was given, or by none, or by an alias.

    One that the environment has counts as given.

    Raises: StorageError for a libvirt.conf that cannot be read.
    """
    try:
        configured = clientconf.settings()
        uri = given or clientconf.default_uri(configured)
        own = "storage://" + (SYSTEM if os.geteuid() == 0 else SESSION)
        return clientconf.resolved(configured, own if uri is None else uri)
    except StorageError as error:
        error.action = ACTION
        raise


def from_environment() -> str | None:
    """Return the URI that the environment has for where none is given."""
    names = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")
    return next(filter(None, map(os.environ.get, names)), None)


@lru_cache(maxsize=8)
def serves_system(uri: str) -> bool:
    """Tell whether a URI stands for the system's pools; otherwise it is the user's own.

    Raises: StorageError for what is not served.
    """
    scheme, colon, rest = uri.partition(":")
    driver, _, transport = scheme.partition("+")
    if not colon:
        raise StorageError(
            f"no connection driver available for URI '{uri}' does not include a driver name",
            action=ACTION,
        )
    if driver not in DRIVERS:
        raise StorageError(f"no connection driver available for {uri}", action=ACTION)
    host, slash, path = rest[2:].partition("/") if rest[:2] == "//" else ("", "", rest)
    path = slash + path
    if host or transport not in ("", "unix") or "?" in path:
        raise StorageError(
            f"unsupported configuration: {uri}: only storage:///system and storage:///session"
            " of this machine are served",
            action=ACTION,
        )
    if path not in (SYSTEM, SESSION):
        raise InternalError(
            f"unexpected {driver} URI path '{path}', try {driver}:///system", action=ACTION
        )
    return path == SYSTEM


def canonical(uri: str) -> str:
    """Return a URI as libvirt writes it: with the slashes of a host that is not named."""
    scheme, _, rest = uri.partition(":")
    return uri if rest.startswith("//") else f"{scheme}://{rest}"
