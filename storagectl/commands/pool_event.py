"""Waiting for what happens to pools."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click

from storagectl import events
from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.errors import ClientError

if TYPE_CHECKING:
    from storagectl.commands.session import Session
    from storagectl.watching import Watcher

# milliseconds are an int.  Source: libvirt 9.0.0 vshCommandOptTimeoutToMs
LONGEST_TIMEOUT_S = (2**31 - 1) // 1000


@command("pool-event", "List event types, or wait for storage pool events to occur")
@value("pool", "filter by storage pool name or uuid")
@value("event", "which event type to wait for: one of --list, volume, or all")
@flag("loop", "loop until timeout or interrupt, rather than one-shot")
@value("timeout", "timeout seconds", number=True)
@flag("list", "list valid event types")
@flag("timestamp", "show timestamp for each printed event")
def pool_event(
    session: Session,
    pool: str | None,
    event: str | None,
    loop: bool,
    timeout: int | None,
    list: bool,
    timestamp: bool,
) -> None:
    if list:
        output.write("".join(f"{type}\n" for type in events.TYPES))
        session.result({"types": events.TYPES})
        return
    if event is None:
        raise ClientError("either --list or --event <type> is required")
    if event not in (*events.TYPES, *events.OWN_TYPES):
        raise ClientError(f"unknown event type {event}")
    if timeout is not None and not 0 < timeout <= LONGEST_TIMEOUT_S:
        raise ClientError(
            f"Numeric value '{timeout}' for <timeout> option is malformed or out of range"
        )
    uuid = None if pool is None else session.pools.find(pool).pool.uuid
    received = 0
    ended = "received"
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with session.pools.events.listening(volumes=event in events.OWN_TYPES) as listener:
            with contextlib.suppress(OSError):
                listener.output = sys.stdout.fileno()
            for heard in source(session, listener, event, uuid).events(deadline):
                if event not in (heard.type, events.ALL) or uuid not in (None, heard.uuid):
                    continue
                received += 1
                if session.json:
                    show_as_json(heard)
                else:
                    show(heard, timestamp=timestamp)
                if not loop:
                    break
            else:
                ended = "timeout"
                output.write("event loop timed out\n")
    except KeyboardInterrupt:
        ended = "interrupted"
        output.write("event loop interrupted\n")
    output.write(f"events received: {received}\n")
    session.result({"received": received, "ended": ended})
    if not received:
        raise click.exceptions.Exit(1)


def source(
    session: Session, listener: events.Listener, event: str, uuid: str | None
) -> events.Listener | Watcher:
    """Return what gives the events: for volumes that is also the kernel."""
    if event in events.TYPES:
        return listener
    from storagectl.watching import Watcher

    return Watcher(session.pools, listener, uuid)


def show(event: events.Event, *, timestamp: bool) -> None:
    """Print an event, at once: a script may wait for it."""
    now = ""
    if timestamp:
        from datetime import UTC, datetime

        now = f"{datetime.now(UTC):%F %T.%f}"[:-3] + "+0000: "
    detail = f": {event.detail}" if event.detail else ""
    if event.volume is not None:
        detail += f" {output.visible(event.volume)}"
    output.write(f"{now}event '{event.type}' for storage pool {event.pool}{detail}\n")
    sys.stdout.flush()


def show_as_json(event: events.Event) -> None:
    """Print an event as a document of its own, at once."""
    from datetime import UTC, datetime

    from storagectl.commands.document import write

    facts = {
        "type": event.type,
        "detail": event.detail or None,
        "pool": {"name": event.pool, "uuid": event.uuid},
        "volume": event.volume,
        "time": f"{datetime.now(UTC):%FT%T.%f}Z",
    }
    write(sys.stdout, {"command": "pool-event", "event": facts})
    sys.stdout.flush()
