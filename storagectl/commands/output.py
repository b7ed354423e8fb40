"""Words on stdout: virsh's tables, labels and sizes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import unicodedata
from typing import TYPE_CHECKING

from storagectl.errors import UsageError
from storagectl.units import pretty

if TYPE_CHECKING:
    from collections.abc import Sequence


def write(text: str) -> None:
    """Print text as it is."""
    sys.stdout.write(text)


log_path: str | None = None


def error(line: str) -> None:
    """Print a line of an error on stderr, and add it to the file that --log names."""
    sys.stderr.write(f"error: {line}\n")
    if log_path is not None:
        log(line)


def open_log(path: str) -> None:
    """Add all errors from now on to a file.  Raises: UsageError where that can't be."""
    global log_path
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as cause:
        raise UsageError("failed to open the log file. check the log file path") from cause
    log_path = os.path.abspath(path)


def log(line: str) -> None:
    """Add a line of an error to the log; one that can't be written is no error."""
    assert log_path is not None
    now = time.strftime("%Y.%m.%d %H:%M:%S", time.gmtime())
    with (
        contextlib.suppress(OSError),
        open(log_path, "a", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        stream.write(f"[{now} storagectl {os.getpid()}] ERROR {line}\n")


def size(value: int) -> str:
    """Return a size in bytes as virsh shows it: `10.00 MiB`."""
    number, unit = pretty(value)
    return f"{number:.2f} {unit}"


def visible(text: str) -> str:
    """Return text with control characters and stray bytes as \\xNN, safe on a terminal."""
    if text.isprintable():
        return text
    shown = []
    for character in text:
        if character.isprintable():
            shown.append(character)
        else:
            shown.extend(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    return "".join(shown)


def width(text: str) -> int:
    """Return how many columns text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, quiet: bool) -> str:
    """Return virsh's table: one space, the widest cell, two spaces; no trailing spaces.

    Source: libvirt 9.0.0 tools/vsh-table.c.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    shown = rows if quiet else [header, *rows]
    if not shown:
        return ""
    widths = [max(map(width, column)) for column in zip(*shown, strict=True)]
    lines = [
        "".join(
            f" {cell}{' ' * (wide - width(cell) + 2)}"
            for cell, wide in zip(row[:-1], widths[:-1], strict=True)
        )
        + f" {row[-1]}"
        for row in shown
    ]
    if not quiet:
        lines.insert(1, "-" * sum(wide + 3 for wide in widths))
    return "\n".join(lines) + "\n"


def labelled(label: str, value: str) -> str:
    """Return a line `Label:          value`."""
    return f"{label + ':':<15} {value}\n"
