"""Commands that change the state of a pool."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from storagectl.commands.command import command, flag, value
from storagectl.commands.pool_define import build_options, if_inactive_option
from storagectl.commands.session import exclusive
from storagectl.errors import ClientError, PoolNotFound

if TYPE_CHECKING:
    from storagectl.commands.session import Facts, Session
    from storagectl.pools import Entry


def pool_option(function: Any) -> Any:
    """Declare the pool that a command works on."""
    return value("pool", "pool name or uuid", required=True)(function)


def if_active_option(function: Any) -> Any:
    """Declare that a pool which does not run, or is not there, is no error."""
    return flag("if-active", "succeed and do nothing where no such pool is active")(function)


def if_exists_option(function: Any) -> Any:
    """Declare that a pool which is not there is no error."""
    return flag("if-exists", "succeed and do nothing where there is no such pool")(function)


@command("pool-build", "Build a given pool.", "Failed to build pool {pool}", changes=True)
@pool_option
@flag("no-overwrite", "do not overwrite any existing data")
@flag("overwrite", "overwrite any existing data")
@if_inactive_option
def pool_build(
    session: Session, pool: str, no_overwrite: bool, overwrite: bool, if_inactive: bool
) -> None:
    from storagectl import poollife

    if poollife.build(
        session.pools, pool, overwrite=overwrite, no_overwrite=no_overwrite, if_inactive=if_inactive
    ):
        session.done(f"Pool {pool} built", "built", pool=session.pool(pool))
    else:
        words = f"Pool {pool} is active: nothing to build"
        session.done(words, "nothing", pool=session.pool(pool))


@command("pool-start", "Start a pool.", "Failed to start pool {pool}", changes=True)
@pool_option
@build_options
@if_inactive_option
def pool_start(
    session: Session,
    pool: str,
    build: bool,
    no_overwrite: bool,
    overwrite: bool,
    if_inactive: bool,
) -> None:
    from storagectl import poollife

    session.pools.find(pool)
    exclusive(overwrite=overwrite, no_overwrite=no_overwrite)
    if poollife.start(
        session.pools,
        pool,
        build=build,
        overwrite=overwrite,
        no_overwrite=no_overwrite,
        if_inactive=if_inactive,
    ):
        session.done(f"Pool {pool} started", "started", pool=session.pool(pool))
    else:
        words = f"Pool {pool} is active: nothing to start"
        session.done(words, "nothing", pool=session.pool(pool))


@command(
    "pool-destroy",
    "Forcefully stop a given pool. Raw data in the pool is untouched",
    "Failed to destroy pool {pool}",
    changes=True,
)
@pool_option
@if_active_option
def pool_destroy(session: Session, pool: str, if_active: bool) -> None:
    stop(session, pool, "destroyed", if_active=if_active)


@command(
    "pool-stop",
    "Stop a given pool, as pool-destroy does. Data in the pool is untouched",
    "Failed to stop pool {pool}",
    changes=True,
)
@pool_option
@if_active_option
def pool_stop(session: Session, pool: str, if_active: bool) -> None:
    stop(session, pool, "stopped", if_active=if_active)


def stop(session: Session, pool: str, done: str, *, if_active: bool) -> None:
    from storagectl import poollife

    """Stop a pool, and tell who sits at a terminal what that took away and what it did not."""
    entry = poollife.stop(session.pools, pool, if_active=if_active)
    if entry is None:
        session.done(f"Pool {pool} is not active: nothing to stop", "nothing")
        return
    before = session.facts.pool_reference(entry) if session.json else None
    session.done(f"Pool {pool} {done}", done, pool=session.pool(entry.name, before))
    session.note(what_is_left(entry))


def what_is_left(entry: Entry) -> str:
    """Return what goes and what stays when a pool stops, in a line."""
    gone = [words for words in (entry.backend.gone_when_stopped(),) if words]
    kept = [entry.backend.kept_when_stopped()]
    if entry.persistent:
        kept.append("the definition: pool-start starts it again")
    else:
        gone.append("the pool itself, which had no definition")
    return f"Gone: {' and '.join(gone) or 'nothing'}. Kept: {' and '.join(kept)}."


@command("pool-delete", "Delete a given pool.", "Failed to delete pool {pool}", changes=True)
@pool_option
@if_exists_option
def pool_delete(session: Session, pool: str, if_exists: bool) -> None:
    from storagectl import poollife

    try:
        poollife.delete(session.pools, pool)
    except PoolNotFound:
        if not if_exists:
            raise
        session.done(f"Pool {pool} does not exist: nothing to delete", "nothing")
    else:
        session.done(f"Pool {pool} deleted", "deleted", pool=session.pool(pool))


@command(
    "pool-undefine",
    "Undefine the configuration for an inactive pool.",
    "Failed to undefine pool {pool}",
    changes=True,
)
@pool_option
@if_exists_option
@flag("forget", "also of a pool that runs: drop it from the books and leave the host as it is")
def pool_undefine(session: Session, pool: str, if_exists: bool, forget: bool) -> None:
    try:
        if forget:
            backend = session.pools.forget(pool)
            gone = {name: getattr(backend.pool, name) for name in ("name", "uuid", "type")}
            session.done(f"Pool {pool} forgotten", "forgotten", pool=gone)
            left = filter(None, (backend.gone_when_stopped(), backend.kept_when_stopped()))
            session.note(f"Left as it was: {' and '.join(left)}.")
        else:
            before = session.pool_before(pool)
            session.pools.undefine(pool)
            session.done(f"Pool {pool} has been undefined", "undefined", pool=before)
    except PoolNotFound:
        session.pools.store.sweep()  # it may have been undefined by who was killed
        if not if_exists:
            raise
        session.done(f"Pool {pool} does not exist: nothing to undefine", "nothing")


@command("pool-refresh", "Refresh a given pool.", "Failed to refresh pool {pool}", changes=True)
@pool_option
@if_active_option
def pool_refresh(session: Session, pool: str, if_active: bool) -> None:
    if session.pools.refresh(pool, if_active=if_active):
        session.done(f"Pool {pool} refreshed", "refreshed", pool=session.pool(pool))
    else:
        session.done(f"Pool {pool} is not active: nothing to refresh", "nothing")


@command("pool-autostart", "Configure a pool to be automatically started at boot.", changes=True)
@pool_option
@flag("disable", "disable autostarting")
def pool_autostart(session: Session, pool: str, disable: bool) -> None:
    verb = "unmark" if disable else "mark"
    with session.doing(f"failed to {verb} pool {pool} as autostarted"):
        session.pools.set_autostart(pool, not disable)
    session.done(
        f"Pool {pool} {verb}ed as autostarted", f"autostart-{verb}ed", pool=session.pool(pool)
    )


@command("autostart", "Start every inactive pool that is marked as autostarted.", changes=True)
@flag("timing", "tell how long each pool took")
def autostart(session: Session, timing: bool) -> None:
    from storagectl.autostart import start_all

    outcomes = []
    failed = []
    with contextlib.closing(start_all(session.pools)) as results:
        for result in results:
            outcome: Facts = {
                "name": result.name,
                "started": result.started,
                "seconds": round(result.seconds, 3),
                "error": None,
            }
            outcomes.append(outcome)
            took = f" in {result.seconds:.1f} s" if timing else ""
            if result.error is not None:
                failed.append(result.name)
                result.error.action = f"Failed to autostart storage pool '{result.name}'{took}"
                outcome["error"] = session.report(result.error)
            elif result.started:
                session.tell(f"Pool {result.name} started{took}")
                sys.stdout.flush()
    session.result({"pools": outcomes})
    if failed:
        session.states_plan = True
        counts = f"{len(failed)} of {len(outcomes)}"
        raise ClientError(f"{counts} autostarted pools are not active: {', '.join(failed)}")
