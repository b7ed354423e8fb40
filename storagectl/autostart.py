"""Starting all pools that are marked for it, as at boot: at the same time, each with a limit.

Some pools need others: a folder in the file system of another pool, a volume group on the
LUNs of another.  The first can be told from the paths, so such a pool waits.  The second
can't, so what has failed is tried again when other pools have come up since it began, or,
when it took long and so would hold up everything once more, since it failed.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from storagectl import backends, poollife
from storagectl.errors import (
    InternalError,
    OperationInvalid,
    OperationTimeout,
    ResourceBusy,
    StorageError,
    code,
)
from storagectl.host import any_served, worker
from storagectl.pooltypes import POOL_TYPES

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping

    from storagectl.model import Pool
    from storagectl.pools import Pools

LIMIT_S = 90.0  # what systemd gives to a mount
PATIENCE_S = 5.0  # those that have failed don't wait for a pool that takes longer
MOST = 32

STARTED, ACTIVE, FAILED = "started", "active", "failed"


class Result(NamedTuple):
    """How a pool fared; one that was active before is neither `started` nor has an `error`."""

    name: str
    started: bool
    error: StorageError | None
    seconds: float


def start_all(pools: Pools) -> Generator[Result, None, None]:
    """Start the autostarted pools, and tell of each when nothing more is done for it.

    When the iteration is closed before its end, starts that are under way are undone.
    """
    limit_s = pools.host.limits.get("autostart", LIMIT_S)
    unread: dict[str, StorageError] = {}
    entries = pools.all(unread)
    marked = {entry.name: entry.config for entry in entries if entry.autostart and entry.config}
    for name in sorted(unread.keys() & pools.store.autostarted()):
        yield Result(name, False, unread[name], 0.0)
    outer = {name: around(pool, marked.values()) for name, pool in marked.items()}
    if pools.host.plans:
        yield from plan_all(pools, outer)
        return
    left = set(marked)
    up: set[str] = set()
    last_up = 0.0
    running: dict[str, worker.Worker] = {}
    since: dict[str, float] = {}
    failed: dict[str, Result] = {}
    at_once = starting_at_once(pools, marked)

    def due() -> list[str]:
        """Return what may be started now: for the first time, or once more."""
        calm = all(process.age_s > PATIENCE_S for process in running.values())
        names = [
            name
            for name in sorted(left - running.keys())
            if outer[name] <= up and (name not in since or (calm and since[name] < last_up))
        ]
        return names[: MOST - len(running)]

    def ended() -> Iterator[Result]:
        """Yield what the processes came to that are over, and forget them."""
        worker.wait(running.values())
        for name, process in list(running.items()):
            if process.is_over():
                del running[name]
                yield outcome(name, process, limit_s)

    try:
        while names := due() or list(running):
            results: list[Result] = []
            for name in names:
                if name in running:
                    continue
                pools.store.touched.add(name)
                result = start_here(pools, name) if name in at_once else None
                since[name] = time.monotonic()
                if result is None:
                    running[name] = worker.Worker(partial(attempt, pools, name), limit_s)
                else:
                    results.append(result)
            for result in (*results, *(ended() if running else ())):
                name = result.name
                if result.error is None:
                    up.add(name)
                    last_up = time.monotonic()
                elif not isinstance(result.error, OperationTimeout):
                    failed[name] = result
                    if result.seconds > PATIENCE_S:
                        since[name] = time.monotonic()
                    continue
                left.remove(name)
                yield result
    finally:
        worker.end_all(running.values())
    for name in sorted(left):
        yield failed.get(name) or Result(name, False, not_tried(outer[name] - up), 0.0)


def starting_at_once(pools: Pools, marked: Mapping[str, Pool]) -> set[str]:
    """Return the names of the pools whose start waits for nothing, and needs no process to do so.

    Where something is mounted from a server none is: a folder may lead there.
    """
    if any_served(pools.host.mounts()):
        return set()
    return {
        name
        for name, pool in marked.items()
        if POOL_TYPES[pool.type].module and backends.of_type(pool.type).starts_at_once
    }


def start_here(pools: Pools, name: str) -> Result | None:
    """Start a pool in this process; None where that would have to wait for another process."""
    began = time.monotonic()
    limits = pools.host.limits
    pools.host.limits = {**limits, "lock": 0.0}
    try:
        result = told(name, attempt(pools, name), time.monotonic() - began)
    finally:
        pools.host.limits = limits
    busy = result.error is not None and result.error.code == code(ResourceBusy)
    return None if busy else result


def plan_all(pools: Pools, outer: dict[str, set[str]]) -> Iterator[Result]:
    """Plan the starts in turn, those first that others lie in."""
    left, up = set(outer), set[str]()
    while due := sorted(name for name in left if outer[name] <= up):
        for name in due:
            left.remove(name)
            try:
                with pools.host.attempt():
                    started = poollife.start(pools, name, if_inactive=True)
            except StorageError as error:
                yield Result(name, False, error, 0.0)
            else:
                up.add(name)
                yield Result(name, started, None, 0.0)
    for name in sorted(left):
        yield Result(name, False, not_tried(outer[name] - up), 0.0)


def around(pool: Pool, others: Collection[Pool]) -> set[str]:
    """Return the names of the pools whose file systems have this one's target or source."""
    paths = [pool.target, *(device.path for device in pool.source.devices)]
    return {
        other.name
        for other in others
        if POOL_TYPES[other.type].mount_options
        and any(path.startswith(other.target.rstrip("/") + "/") for path in paths)
    }


def not_tried(missing: set[str]) -> StorageError:
    names = ", ".join(f"'{name}'" for name in sorted(missing))
    return OperationInvalid(f"it lies in the file system of storage pool {names}, which is down")


def attempt(pools: Pools, name: str) -> str:
    """Start one pool and put into words what came of it, for `outcome` to read."""
    try:
        return STARTED if poollife.start(pools, name, if_inactive=True) else ACTIVE
    except StorageError as error:
        return "\0".join((FAILED, error.lines()[-1], error.hint, code(error)))
    except OSError as error:
        return "\0".join((FAILED, f"{error.strerror}: '{error.filename}'", "", "system-failure"))


def outcome(name: str, process: worker.Worker, limit_s: float) -> Result:
    """Return what a process came to."""
    if process.answer:
        return told(name, process.answer, process.age_s)
    error: StorageError = InternalError("the process that was to start it has ended")
    if process.told_to_end:
        error = OperationTimeout(f"not started within {limit_s:.0f} seconds")
    return Result(name, False, error, process.age_s)


def told(name: str, answer: str, seconds: float) -> Result:
    """Return what the words of `attempt` say."""
    state, *words = answer.split("\0")
    error: StorageError | None = None
    if state == FAILED:
        error = StorageError(words[0], hint=words[1])
        error.code = words[2]
    return Result(name, state == STARTED, error, seconds)
