"""Commands that change the state of a pool."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from storagectl.commands import command, flag, value
from storagectl.commands.pool_define import build_options
from storagectl.commands.session import exclusive
from storagectl.errors import ClientError

if TYPE_CHECKING:
    from storagectl.commands.session import Facts, Session


def pool_option(function: Any) -> Any:
    """Declare the pool that a command works on."""
    return value("pool", "pool name or uuid", required=True)(function)


@command("pool-build", "Build a given pool.", "Failed to build pool {pool}")
@pool_option
@flag("no-overwrite", "do not overwrite any existing data")
@flag("overwrite", "overwrite any existing data")
@click.pass_obj
def pool_build(session: Session, pool: str, no_overwrite: bool, overwrite: bool) -> None:
    session.pools.build(pool, overwrite=overwrite, no_overwrite=no_overwrite)
    session.done(f"Pool {pool} built", "built", pool=session.pool(pool))


@command("pool-start", "Start a pool.", "Failed to start pool {pool}")
@pool_option
@build_options
@click.pass_obj
def pool_start(
    session: Session, pool: str, build: bool, no_overwrite: bool, overwrite: bool
) -> None:
    session.pools.find(pool)
    exclusive(overwrite=overwrite, no_overwrite=no_overwrite)
    session.pools.start(pool, build=build, overwrite=overwrite, no_overwrite=no_overwrite)
    session.done(f"Pool {pool} started", "started", pool=session.pool(pool))


@command(
    "pool-destroy",
    "Forcefully stop a given pool. Raw data in the pool is untouched",
    "Failed to destroy pool {pool}",
)
@pool_option
@click.pass_obj
def pool_destroy(session: Session, pool: str) -> None:
    before = session.pool_before(pool)
    session.pools.stop(pool)
    session.done(f"Pool {pool} destroyed", "destroyed", pool=session.pool(pool, before))


@command("pool-delete", "Delete a given pool.", "Failed to delete pool {pool}")
@pool_option
@click.pass_obj
def pool_delete(session: Session, pool: str) -> None:
    session.pools.delete(pool)
    session.done(f"Pool {pool} deleted", "deleted", pool=session.pool(pool))


@command(
    "pool-undefine",
    "Undefine the configuration for an inactive pool.",
    "Failed to undefine pool {pool}",
)
@pool_option
@click.pass_obj
def pool_undefine(session: Session, pool: str) -> None:
    before = session.pool_before(pool)
    session.pools.undefine(pool)
    session.done(f"Pool {pool} has been undefined", "undefined", pool=before)


@command("pool-refresh", "Refresh a given pool.", "Failed to refresh pool {pool}")
@pool_option
@click.pass_obj
def pool_refresh(session: Session, pool: str) -> None:
    session.pools.refresh(pool)
    session.done(f"Pool {pool} refreshed", "refreshed", pool=session.pool(pool))


@command("pool-autostart", "Configure a pool to be automatically started at boot.")
@pool_option
@flag("disable", "disable autostarting")
@click.pass_obj
def pool_autostart(session: Session, pool: str, disable: bool) -> None:
    verb = "unmark" if disable else "mark"
    with session.doing(f"failed to {verb} pool {pool} as autostarted"):
        session.pools.set_autostart(pool, not disable)
    session.done(
        f"Pool {pool} {verb}ed as autostarted", f"autostart-{verb}ed", pool=session.pool(pool)
    )


@command("autostart", "Start every inactive pool that is marked as autostarted.")
@flag("timing", "tell how long each pool took")
@click.pass_obj
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
        counts = f"{len(failed)} of {len(outcomes)}"
        raise ClientError(f"{counts} autostarted pools are not active: {', '.join(failed)}")
