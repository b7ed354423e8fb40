"""The command status: all pools on one screen, once or again and again."""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING, Any

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.picture import PLAIN, Paper, details, overview, summary, text
from storagectl.commands.session import exclusive
from storagectl.errors import ClientError
from storagectl.status import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from storagectl.commands.session import Session
    from storagectl.status import PoolStatus

EVERY_S = "2"
LOOK_S = 0.1
NONE = (
    "No pools. A first one: storagectl pool-define-as NAME dir --target FOLDER --build,"
    " storagectl pool-start NAME"
)


@command(
    "status",
    "Shows every pool with its state, type, source and how full it is, or why it is broken.",
    "failed to show the pools",
)
@value("pool", "pool name or uuid; all where none is given", rest=True)
@flag("volumes", "show the volumes, each below the one it is based on, and maps of the devices")
@value(
    "watch",
    "show it again every so many seconds (2), until Ctrl-C",
    number=True,
    named_only=True,
    otherwise=EVERY_S,
)
def status(session: Session, pool: Sequence[str], volumes: bool, watch: int | None) -> None:
    if watch is not None and watch < 1:
        raise ClientError("--watch is at least one second")

    exclusive(watch=watch is not None, json=session.json)

    def look() -> list[PoolStatus]:
        return examine(session.pools, pool, volumes=volumes, maps=volumes or bool(pool))

    if session.json:
        found = look()
        session.result({"pools": [session.facts.of_status(one) for one in found]})
    elif watch is None:
        show(look())
    elif sys.stdout.isatty() and not new_console().is_dumb_terminal:
        watch_screen(look, watch)
    else:
        follow(look, watch)


def new_console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def show(rows: Sequence[PoolStatus]) -> None:
    """Print what pools look like, drawn for a terminal, plain for anything else."""
    if sys.stdout.isatty():
        console = new_console()
        for part in picture(rows, Paper(console.width, False)):
            console.print(part)
    else:
        output.write(plain(rows))


def plain(rows: Sequence[PoolStatus]) -> str:
    """Return what pools look like as text without any escapes; no line is cut or broken."""
    from rich.console import Console

    drawn = io.StringIO()
    console = Console(
        file=drawn, width=PLAIN.width, color_system=None, force_terminal=False,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    for part in picture(rows, PLAIN):
        console.print(part)
    return "".join(line.rstrip() + "\n" for line in drawn.getvalue().splitlines())


def picture(rows: Sequence[PoolStatus], paper: Paper) -> list[Any]:
    """Return the parts of the screen from top to bottom."""
    if not rows:
        return [text(NONE)]
    parts: list[Any] = [overview(rows, paper)]
    for row in rows:
        parts += details(row, paper)
    return [*parts, text(""), text(summary(rows), "dim")]


def follow(look: Callable[[], list[PoolStatus]], seconds: int) -> None:
    """Print all of it again and again, for a log; each time with the time of day."""
    while True:
        output.write(f"{time.strftime('%H:%M:%S')}\n{plain(look())}\n")
        sys.stdout.flush()
        time.sleep(seconds)


def watch_screen(look: Callable[[], list[PoolStatus]], seconds: int) -> None:
    """Keep the screen up to date until Ctrl-C, and give the terminal back as it was.

    Each time all of it is written over what was there, so that nothing flickers.
    """
    from rich.live import Live

    console = new_console()
    rows = look()
    with Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        while True:
            size = console.size
            live.update(screen(rows, console), refresh=True)
            until = time.monotonic() + seconds
            while time.monotonic() < until and console.size == size:
                time.sleep(LOOK_S)
            if time.monotonic() >= until:
                rows = look()


def screen(rows: Sequence[PoolStatus], console: Console) -> Any:
    """Return what fits on the terminal: of too many pools those that are in trouble first."""
    from rich.console import Group
    from rich.text import Text

    paper = Paper(console.width, False)
    room = console.height - 1
    parts: list[Any] = [overview(rows, paper)] if rows else [text(NONE)]
    for row in rows:
        parts += details(row, paper)
    left_out = ""
    lines = console.render_lines(Group(*parts), pad=False)
    if len(lines) > room:
        order = sorted(range(len(rows)), key=lambda number: not rows[number].is_trouble)
        kept = [rows[number] for number in sorted(order[: max(room - 1, 1)])]
        parts = [overview(kept, paper), *(part for row in kept for part in details(row, paper))]
        lines = console.render_lines(Group(*parts), pad=False)[:room]
        left_out = f"{len(rows) - len(kept)} more pools" if len(kept) < len(rows) else "more below"
    drawn = Text("\n").join(
        Text.assemble(*((piece.text, piece.style or "") for piece in line)) for line in lines
    )
    notes = (left_out, summary(rows) if rows else "", f"{time.strftime('%H:%M:%S')}, Ctrl-C ends")
    foot = text("; ".join(filter(None, notes)), "dim")
    foot.truncate(console.width, overflow="ellipsis")
    return Group(drawn, foot)
