"""How far a command that moves data has come: a bar on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from storagectl.commands.command import flag
from storagectl.commands.session import exclusive
from storagectl.host.bulk import Meter, Mover

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN_AFTER_S = 0.5
SHOWN_EVERY_S = 0.1
LINE_EVERY_S = 1.0
MIB = 1 << 20


def progress_options(function: Any) -> Any:
    """Declare whether progress is shown; unless told, where stderr is a terminal."""
    function = flag("no-progress", "do not show progress")(function)
    return flag("progress", "show progress, also where stderr is not a terminal")(function)


def verify_option(function: Any) -> Any:
    return flag("verify", "read back what was written and print its checksum, as JSON")(function)


@contextlib.contextmanager
def moving(progress: bool, no_progress: bool, *, verify: bool = False) -> Iterator[Mover]:
    """Give what moves data for a command, and shows how far it is."""
    exclusive(progress=progress, no_progress=no_progress)
    terminal = sys.stderr.isatty()
    meter: Meter = Meter()
    if progress or (terminal and not no_progress):
        meter = Bar() if terminal else Lines()
    digest = None
    if verify:
        import hashlib

        digest = hashlib.sha256()
    try:
        yield Mover(meter, digest)
    finally:
        meter.end()


def verification(mover: Mover) -> dict[str, Any]:
    """Return what was verified; a converted image has no checksum."""
    digest = mover.digest
    return {
        "bytes": mover.meter.done,
        "algorithm": digest.name if digest else None,
        "checksum": digest.hexdigest() if digest else None,
        "verified": mover.verified,
    }


def verified(mover: Mover, name: str) -> str:
    """Return what was verified of a volume as a line of JSON."""
    import json

    return json.dumps({"volume": name, **verification(mover)}) + "\n"


class Timed(Meter):
    """A meter that shows something now and then, but nothing of what is over at once."""

    visible = True
    every_s = SHOWN_EVERY_S

    def __init__(self) -> None:
        self.began = self.shown = time.monotonic()

    def begin(self, total: int | None) -> None:
        super().begin(total)
        self.began = time.monotonic()
        self.shown = self.began + SHOWN_AFTER_S - self.every_s

    def advance(self, count: int) -> None:
        super().advance(count)
        now = time.monotonic()
        if now - self.shown >= self.every_s:
            self.shown = now
            self.show(now - self.began)

    def show(self, seconds: float) -> None:
        raise NotImplementedError


class Bar(Timed):
    """A bar with bytes, rate and time left, which is gone in the end."""

    bar: Any = None

    def show(self, seconds: float) -> None:
        if self.bar is None:
            self.bar = new_bar()
            self.bar.start()
            self.task = self.bar.add_task("", total=self.total)
        self.bar.update(self.task, completed=self.done, total=self.total)
        self.bar.refresh()

    def end(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def new_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TaskProgressColumn(),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        expand=True,
    )


class Lines(Timed):
    """A line each second, for a log."""

    every_s = LINE_EVERY_S

    def show(self, seconds: float) -> None:
        rate = self.done / seconds
        words = [f"{self.done / MIB:.0f} MiB", f"{rate / MIB:.0f} MiB/s"]
        if self.total:
            words[0] += f" of {self.total / MIB:.0f} MiB ({100 * self.done // self.total} %)"
            words.append(f"{(self.total - self.done) / rate:.0f} s left" if rate else "")
        sys.stderr.write(", ".join(filter(None, words)) + "\n")

    def end(self) -> None:
        if self.done:
            self.show(max(time.monotonic() - self.began, 1e-6))
