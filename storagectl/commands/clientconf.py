"""libvirt.conf, libvirt's file for its clients: the default URI and the names of others."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from storagectl.errors import ConfigFileError, InternalError, SystemFailure
from storagectl.host.files import content

if TYPE_CHECKING:
    from storagectl.commands.virconf import Settings

SYSTEM_FILE = "/etc/libvirt/libvirt.conf"


def path() -> str:
    """Return the file that counts: root's, or the user's own."""
    if os.geteuid() == 0:
        return SYSTEM_FILE
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.expanduser("~/.config")
    return os.path.join(folder, "libvirt/libvirt.conf")


def settings() -> Settings:
    """Return what the file says, nothing where none is to be seen.  Raises: StorageError."""
    file = path()
    try:
        document = content(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if not os.path.exists(file):
            return {}
        raise SystemFailure(f"Failed to open file '{file}': {error.strerror}") from error
    return read(file, document)


@lru_cache(maxsize=1)
def read(file: str, document: bytes) -> Settings:
    """Return what a file with this text says: looked at each time, and understood once.

    As it is installed it has comments only.
    """
    text = document.decode("utf-8", "surrogateescape")
    lines = map(str.strip, text.splitlines())
    if all(not line or line.startswith("#") for line in lines):
        return {}
    from storagectl.commands.virconf import Reader

    return Reader(file, text).settings()


def default_uri(given: Settings) -> str | None:
    """Return the URI that is meant where none is given."""
    if "uri_default" not in given:
        return None
    found = given["uri_default"]
    if not isinstance(found, str):
        raise InternalError(f"{path()}: expected a string for 'uri_default' parameter")
    return found


def resolved(given: Settings, name: str) -> str:
    """Return the URI that a name stands for, or the name.

    Source: libvirt 9.0.0 virConnectOpenFindURIAliasMatch.
    """
    if "uri_aliases" not in given:
        return name
    entries = given["uri_aliases"]
    wrong = f"{path()}: expected a string list for 'uri_aliases' parameter"
    if not isinstance(entries, list):
        raise InternalError(wrong)
    for entry in entries:
        if entry is None:
            raise ConfigFileError(wrong)
        alias, equals, uri = entry.partition("=")
        malformed = f"Malformed 'uri_aliases' config entry '{entry}'"
        if not equals:
            raise ConfigFileError(f"{malformed}, expected 'alias=uri://host/path'")
        plain = alias.replace("_", "a").replace("-", "a")
        if plain and not (plain.isascii() and plain.isalnum()):
            raise ConfigFileError(f"{malformed}, aliases may only contain 'a-Z, 0-9, _, -'")
        if alias == name:
            return uri
    return name
