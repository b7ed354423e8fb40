"""Why a pool does not start: all that can be wrong with it and with our files, found by looking.

Nothing is changed.  What a pool type needs, and what can be wrong with its source, its backend
tells; here are definitions, markers, secrets, and what pools have in common.
"""

from __future__ import annotations

import contextlib
import os
import stat
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from storagectl import backends, conflicts
from storagectl.backends.devices import listing
from storagectl.backends.troubles import ERROR, WARNING, Trouble, edit, of_device, own
from storagectl.errors import OperationInvalid, StorageError, ToolMissing
from storagectl.host.files import is_staged, locked_by_others
from storagectl.packages import everywhere, install
from storagectl.pools import Entry, ask_together, no_such_pool, require_absolute
from storagectl.status import words
from storagectl.store import SUFFIX, Unusable, names_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.host import Host
    from storagectl.model import Pool
    from storagectl.pools import Pools
    from storagectl.store import Store

    Unreachable = dict[tuple[str, int], str]

REACH_S = 3.0
SYSTEM_CONFIG = "/etc/storagectl/storage"
SYSTEMD = "/run/systemd/system"
SERVICE = "storagectl-autostart"
UNITS = "/etc/systemd/system"
OTHERS_READ, OTHERS_WRITE = 0o077, 0o022


class Finding(NamedTuple):
    """A trouble, and the pool that it is of; "" for one of no pool."""

    pool: str
    trouble: Trouble


class Report(NamedTuple):
    """What was looked at, and what was found, the worst first within each pool."""

    pools: tuple[str, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        return sum(found.trouble.severity == severity for found in self.findings)


def examine(pools: Pools, key: str | None = None) -> Report:
    """Look at one pool by name or UUID, or at all of them and at what is around them.

    Raises: PoolNotFound; SystemFailure where the folder of definitions can't be read.
    """
    store = pools.store
    entries: dict[str, Entry] = {}
    broken: list[Finding] = []
    for name in sorted(store.names(), key=lambda name: (name.lower(), name)):
        config, marker, troubles = _read(store, name)
        broken += [Finding(name, trouble) for trouble in troubles]
        if config is not None or marker is not None:
            entries[name] = Entry(pools.host, config, marker, store.is_autostarted(name))
    names = sorted({*entries, *(finding.pool for finding in broken)})
    if key is not None:
        uuids = {name: _definition(entry).uuid for name, entry in entries.items()}
        names = [name for name in names if key == name or key.lower() == uuids.get(name)]
        if not names:
            raise no_such_pool(store, key)
    found = [finding for finding in broken if finding.pool in names]
    looked_at = [entries[name] for name in names if name in entries]
    ask_together(pools.host, map(_definition, looked_at))
    unreachable = _unreachable(pools.host, looked_at)
    for entry in looked_at:
        name = _definition(entry).name
        found += [Finding(name, trouble) for trouble in of_pool(pools, entry, unreachable)]
    found += [one for one in of_conflicts(pools, entries) if one.pool in names]
    if key is None:
        around = (*of_files(store), *of_boot(store, list(entries.values())))
        found += [Finding("", trouble) for trouble in around]
    found.sort(key=lambda one: (one.pool.lower(), one.pool, one.trouble.severity != ERROR))
    return Report(tuple(names), tuple(found))


def _definition(entry: Entry) -> Pool:
    pool = entry.config or entry.marker
    assert pool is not None
    return pool


def _unreachable(host: Host, entries: list[Entry]) -> Unreachable:
    """Return why ports of servers that the pools need do not answer, all asked at once."""
    ports: set[tuple[str, int]] = set()
    for entry in entries:
        with contextlib.suppress(StorageError):
            needed = backends.load(_definition(entry), host).needs().ports
            ports.update((port.host, port.number) for port in needed)
    return host.unreachable(sorted(ports), REACH_S)


# Definitions and markers


def _read(store: Store, name: str) -> tuple[Pool | None, Pool | None, list[Trouble]]:
    """Return the definition and the marker of a pool, and what is wrong with their files."""
    found: list[Pool | None] = []
    troubles: list[Trouble] = []
    for folder in (store.config, store.markers):
        try:
            found.append(store.read(folder, name))
        except Unusable as error:
            found.append(None)
            troubles.append(_of_document(store, error))
        except StorageError as error:
            found.append(None)
            path = os.path.join(folder, name + SUFFIX)
            command = ("ls", "-l", path)
            troubles.append(Trouble(ERROR, "file-refused", error.detail, command, mends=False))
    return found[0], found[1], troubles


def _of_document(store: Store, error: Unusable) -> Trouble:
    """Tell of a file that is no definition; one that nobody has written by hand can go."""
    path, why = error.path, words(error)
    if os.path.dirname(path) == store.markers:
        what = f"the runtime file '{path}' is broken: {why}"
        return Trouble(ERROR, "marker-broken", what, ("rm", path))
    if error.other is not None:
        new = os.path.join(store.config, error.other + SUFFIX)
        new = f"{path}.unused" if os.path.exists(new) else new
        what = f"'{path}' is called after another pool than '{error.other}', which it defines"
        return Trouble(ERROR, "definition-misnamed", what, ("mv", path, new))
    what = f"the definition '{path}' is broken: {why}"
    return Trouble(ERROR, "definition-broken", what, (*editor(), path))


def editor() -> list[str]:
    """Return the words of the user's editor."""
    import shlex

    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        return shlex.split(wanted) or ["vi"]
    except ValueError:
        return [wanted]


def of_pool(pools: Pools, entry: Entry, unreachable: Unreachable) -> Iterator[Trouble]:
    """Yield what is wrong with one pool."""
    try:
        if not entry.exists:
            path = os.path.join(pools.store.markers, _definition(entry).name + SUFFIX)
            what = "the host has stopped the transient pool, its runtime file is left"
            yield Trouble(WARNING, "marker-stale", what, ("rm", path))
            return
        backend = entry.backend
    except StorageError as error:
        yield Trouble(ERROR, "type-unserved", error.detail, edit(_definition(entry).name))
        return
    if entry.marker is not None and not entry.active:
        what = "it was started, but the host has stopped it meanwhile"
        yield Trouble(WARNING, "marker-stale", what, own("pool-start", entry.name))
    try:
        require_absolute(entry.pool)
    except StorageError as error:
        yield Trouble(ERROR, "target-relative", error.detail, edit(entry.name))
        return
    needed = list(_of_needs(pools, entry, unreachable))
    yield from needed
    if any(trouble.code == "needs-root" for trouble in needed):
        return
    found: list[Trouble] = list(_of_identity(pools, entry))
    yield from found
    try:
        at_server = () if entry.active or needed else backend.unoffered()
        for trouble in (*backend.troubles(active=entry.active), *at_server):
            found.append(trouble)
            yield trouble
        yield from _of_secret(pools, entry)
        if entry.active and not found:
            backend.state()
    except ToolMissing:
        if not needed:
            raise
    except (StorageError, OSError) as error:
        if not needed and not found:
            command = own("pool-refresh" if entry.active else "pool-start", entry.name)
            yield Trouble(ERROR, "not-readable", words(error), command, mends=False)


def _of_identity(pools: Pools, entry: Entry) -> Iterator[Trouble]:
    """Yield that a pool which is to be started has another device than it was defined with."""
    from storagectl import identities

    try:
        if not entry.active:
            identities.require_same(pools.store, entry.backend)
    except OperationInvalid as error:
        command = ("lsblk", "--output", "NAME,SIZE,TYPE,WWN,SERIAL,UUID")
        yield Trouble(ERROR, "device-changed", error.detail, command, mends=False)
    except StorageError:
        return  # what cannot be asked is found out below


def _of_needs(pools: Pools, entry: Entry, unreachable: Unreachable) -> Iterator[Trouble]:
    """Yield what is missing of what a start needs."""
    needs = entry.backend.needs()
    for tool in needs.tools:
        if not pools.host.has_tool(tool):
            packages = everywhere(tool)
            what = f"the tool '{tool}' is not installed" + (f" ({packages})" if packages else "")
            yield Trouble(ERROR, "tool-missing", what, install(tool, pools.host))
    if needs.root and not pools.host.is_root():
        what = f"a pool of type {entry.pool.type} is started by root only"
        path = pools.store.definition_path(entry.name)
        yield Trouble(ERROR, "needs-root", what, ("sudo", "storagectl", "pool-define", path))
    for device in needs.devices:
        yield from of_device(device, entry.name, file=needs.files)
    for port in needs.ports:
        if (port.host, port.number) in unreachable:
            what = unreachable[port.host, port.number]
            yield Trouble(ERROR, "server-unreachable", what, port.ask, mends=False)


def _of_secret(pools: Pools, entry: Entry) -> Iterator[Trouble]:
    """Yield what is wrong with the secret that a source's <auth> names."""
    auth = entry.pool.source.auth
    if auth is None:
        return
    try:
        pools.secrets.value_for(auth)
    except StorageError as error:
        what = f"the secret of user '{auth.username}' is of no use: {error.detail}"
        uuid = auth.secret_uuid or pools.secrets.uuid_for(auth)
        command = ("storagectl", "secret-list") if uuid is None else (
            "storagectl", "secret-set-value", uuid, "--interactive"
        )  # fmt: skip
        yield Trouble(ERROR, "secret-missing", what, command, mends=uuid is not None)


def of_conflicts(pools: Pools, entries: dict[str, Entry]) -> Iterator[Finding]:
    """Yield definitions that have the source or the UUID of another pool, at the later one."""
    known = [entry for entry in entries.values() if _exists(entry)]
    for one, other in combinations(known, 2):
        later, first = (one, other) if other.active and not one.active else (other, one)
        code = ""
        if one.pool.uuid == other.pool.uuid:
            code, what = "uuid-conflict", f"pool '{first.name}' has the same UUID"
        elif _share_source(pools, one, other):
            code, what = "source-conflict", f"pool '{first.name}' has the same source"
        if code:
            command = own("pool-undefine", later.name)
            yield Finding(later.name, Trouble(ERROR, code, what, command))


def _exists(entry: Entry) -> bool:
    try:
        return entry.exists
    except StorageError:
        return False


def _share_source(pools: Pools, one: Entry, other: Entry) -> bool:
    try:
        return conflicts.share_source(pools.host, one.pool, other.pool)
    except StorageError:
        return False


# Our files as a whole


def of_files(store: Store) -> Iterator[Trouble]:
    """Yield files of ours that others may read or change, that lead nowhere, or are left over."""
    secrets = os.path.join(os.path.dirname(store.config), "secrets")
    fleeting = os.path.join(store.run, "secrets")
    folders = (store.config, store.autostart, secrets, store.run, store.markers, store.locks)
    for folder in (*folders, fleeting):
        yield from _of_mode(folder, OTHERS_WRITE, "folder")
    for folder in (store.config, store.markers):
        for name in sorted(names_in(folder)):
            yield from _of_mode(os.path.join(folder, name + SUFFIX), OTHERS_WRITE, "definition")
    for folder in (secrets, fleeting):
        for name in sorted(listing(folder)):
            yield from _of_mode(os.path.join(folder, name), OTHERS_READ, "secret")
    for name in sorted(names_in(store.autostart)):
        if not store.is_autostarted(name):
            path = os.path.join(store.autostart, name + SUFFIX)
            what = f"the autostart link '{path}' leads to no definition"
            yield Trouble(WARNING, "autostart-dangling", what, ("rm", path))
    for folder in (store.config, store.autostart, store.markers, secrets, fleeting):
        for name in sorted(filter(is_staged, listing(folder))):
            path = os.path.join(folder, name)
            if not _is_locked(path):
                what = f"'{path}' is left of a command that was killed"
                yield Trouble(WARNING, "file-left", what, ("rm", path))


def _of_mode(path: str, forbidden: int, kind: str) -> Iterator[Trouble]:
    """Yield what is wrong with owner and mode of a file of ours."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISLNK(status.st_mode):
        return
    mode = stat.S_IMODE(status.st_mode)
    verb = "read" if mode & forbidden & ~OTHERS_WRITE else "change"
    if mode & forbidden:
        wanted = "700" if stat.S_ISDIR(status.st_mode) else "600"
        what = f"others can {verb} the {kind} '{path}' (mode {mode:04o})"
        yield Trouble(ERROR, f"{kind}-mode", what, ("chmod", wanted, path))
    if status.st_uid not in (os.geteuid(), 0):
        what = f"the {kind} '{path}' belongs to user {status.st_uid}"
        yield Trouble(ERROR, f"{kind}-owner", what, ("chown", str(os.geteuid()), path))


def _is_locked(path: str) -> bool:
    """Tell whether a command is at work on an unfinished file."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return locked_by_others(fd)
        finally:
            os.close(fd)
    return False


def of_boot(store: Store, entries: list[Entry]) -> Iterator[Trouble]:
    """Yield that nothing starts the autostarted pools at boot, where systemd is init."""
    if store.config != SYSTEM_CONFIG or not os.path.isdir(SYSTEMD):
        return
    if not any(entry.autostart for entry in entries):
        return
    unit = f"{SERVICE}.service"
    wants = (name for name in listing(UNITS) if name.endswith(".wants"))
    if not any(os.path.lexists(os.path.join(UNITS, name, unit)) for name in wants):
        what = "autostarted pools are not started at boot: the service is not enabled"
        yield Trouble(WARNING, "boot-service", what, ("systemctl", "enable", unit))
