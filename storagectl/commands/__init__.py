"""The commands: where each one lives, and its one-line summary.

Only the module of the one that runs is imported.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from storagectl.record import Row

if TYPE_CHECKING:
    from storagectl.commands.command import Command


class CommandInfo(Row):
    """Where a command lives, and its one-line summary."""

    module: str
    summary: str


COMMANDS = {
    "apply": CommandInfo("apply", "make pools and volumes what files say"),
    "autostart": CommandInfo(
        "pool_life", "start every inactive pool that is marked as autostarted"
    ),
    "cd": CommandInfo("builtin", "change the current directory"),
    "connect": CommandInfo("builtin", "(re)connect to hypervisor"),
    "doctor": CommandInfo("doctor", "tell why pools do not start, and what mends it"),
    "echo": CommandInfo("builtin", "echo arguments. Used for internal testing."),
    "exit": CommandInfo("builtin", "quit this interactive terminal"),
    "find-storage-pool-sources": CommandInfo(
        "pool_sources", "discover potential storage pool sources"
    ),
    "find-storage-pool-sources-as": CommandInfo(
        "pool_sources", "find potential storage pool sources"
    ),
    "help": CommandInfo("help", "print help"),
    "import": CommandInfo("pool_import", "take over the definitions of libvirt's pools"),
    "pool-autostart": CommandInfo("pool_life", "autostart a pool"),
    "pool-build": CommandInfo("pool_life", "build a pool"),
    "pool-capabilities": CommandInfo("pool_show", "storage pool capabilities"),
    "pool-create": CommandInfo("pool_define", "create a pool from an XML file"),
    "pool-create-as": CommandInfo("pool_define", "create a pool from a set of args"),
    "pool-define": CommandInfo(
        "pool_define",
        "define an inactive persistent storage pool or modify an existing persistent one from"
        " an XML file",
    ),
    "pool-define-as": CommandInfo("pool_define", "define a pool from a set of args"),
    "pool-delete": CommandInfo("pool_life", "delete a pool"),
    "pool-destroy": CommandInfo("pool_life", "destroy (stop) a pool"),
    "pool-dumpxml": CommandInfo("pool_show", "pool information in XML"),
    "pool-edit": CommandInfo("pool_define", "edit XML configuration for a storage pool"),
    "pool-event": CommandInfo("pool_event", "Storage Pool Events"),
    "pool-exists": CommandInfo("pool_show", "tell by the exit status whether there is a pool"),
    "pool-info": CommandInfo("pool_show", "storage pool information"),
    "pool-list": CommandInfo("pool_show", "list pools"),
    "pool-name": CommandInfo("pool_show", "convert a pool UUID to pool name"),
    "pool-refresh": CommandInfo("pool_life", "refresh a pool"),
    "pool-start": CommandInfo("pool_life", "start a (previously defined) inactive pool"),
    "pool-stop": CommandInfo("pool_life", "stop a pool; its data stays"),
    "pool-undefine": CommandInfo("pool_life", "undefine an inactive pool"),
    "pool-uuid": CommandInfo("pool_show", "convert a pool name to pool UUID"),
    "pool-used-by": CommandInfo("used_by", "list what uses a pool"),
    "pwd": CommandInfo("builtin", "print the current directory"),
    "quit": CommandInfo("builtin", "quit this interactive terminal"),
    "secret-define": CommandInfo("secret", "define or modify a secret from an XML file"),
    "secret-dumpxml": CommandInfo("secret", "secret attributes in XML"),
    "secret-get-value": CommandInfo("secret", "Output a secret value"),
    "secret-list": CommandInfo("secret", "list secrets"),
    "secret-set-value": CommandInfo("secret", "set a secret value"),
    "secret-undefine": CommandInfo("secret", "undefine a secret"),
    "status": CommandInfo("status", "show all pools on one screen"),
    "uri": CommandInfo("builtin", "print the hypervisor canonical URI"),
    "vol-clone": CommandInfo("vol_create", "clone a volume."),
    "vol-create": CommandInfo("vol_create", "create a vol from an XML file"),
    "vol-create-as": CommandInfo("vol_create", "create a volume from a set of args"),
    "vol-create-from": CommandInfo("vol_create", "create a vol, using another volume as input"),
    "vol-delete": CommandInfo("vol_change", "delete a vol"),
    "vol-download": CommandInfo("vol_change", "download volume contents to a file"),
    "vol-dumpxml": CommandInfo("vol_show", "vol information in XML"),
    "vol-exists": CommandInfo("vol_show", "tell by the exit status whether there is a vol"),
    "vol-info": CommandInfo("vol_show", "storage vol information"),
    "vol-key": CommandInfo("vol_show", "returns the volume key for a given volume name or path"),
    "vol-list": CommandInfo("vol_show", "list vols"),
    "vol-name": CommandInfo("vol_show", "returns the volume name for a given volume key or path"),
    "vol-path": CommandInfo("vol_show", "returns the volume path for a given volume name or key"),
    "vol-pool": CommandInfo("vol_show", "returns the storage pool for a given volume key or path"),
    "vol-rename": CommandInfo("vol_change", "rename a vol"),
    "vol-resize": CommandInfo("vol_change", "resize a vol"),
    "vol-upload": CommandInfo("vol_change", "upload file contents to a volume"),
    "vol-used-by": CommandInfo("used_by", "list what uses a vol"),
    "vol-wipe": CommandInfo("vol_change", "wipe a vol"),
}

# a function of Python's cannot have this name
FUNCTIONS = {"import": "import_"}


@cache
def find(name: str) -> Command | None:
    """Return a command by its name, imported now; None where there is none."""
    info = COMMANDS.get(name)
    if info is None:
        return None
    module = import_module(f"storagectl.commands.{info.module}")
    found: Command = getattr(module, FUNCTIONS.get(name, name.replace("-", "_")))
    return found
