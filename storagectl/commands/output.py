"""Words on stdout: virsh's tables, labels and sizes."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from functools import cache, lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING

from storagectl.errors import UsageError
from storagectl.units import pretty

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from storagectl.errors import StorageError

# Categories of what is no character, and classes of what turns the writing direction.
UNSEEN = ("Cc", "Cn", "Cs", "Zl", "Zp")
REORDERING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
SOFT_HYPHEN = "\u00ad"
# Vowels and final consonants of Korean, drawn into the letter in front of them.
JAMO = (("\u1160", "\u11ff"), ("\ud7b0", "\ud7fb"))
ROWS = 1000  # of a table that are handled together


# What is between tabs and line ends, and those.
PARTS = re.compile(r"[\n\t]|[^\n\t]+")

kept: list[str] | None = None


def write(text: str) -> None:
    """Print text, or keep it for the JSON document that will have it."""
    if kept is None:
        put(sys.stdout, text)
    else:
        kept.append(text)


def write_control(text: str) -> None:
    """Print text of our own that also moves the cursor."""
    if kept is None:
        sys.stdout.write(text)
    else:
        kept.append(text)


def put(stream: TextIO, text: str) -> None:
    """Write text as it is, or so that nothing in it acts on the terminal that gets it."""
    stream.write(inert(text) if is_terminal(stream) else text)


@lru_cache(maxsize=4)
def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream leads to a terminal, which it does or does not for good."""
    return stream.isatty()


def inert(text: str) -> str:
    """Return text with its lines and tabs, and with what else is no character as \\xNN."""
    return "".join(part if part in "\n\t" else visible(part) for part in PARTS.findall(text))


def shows_hints() -> bool:
    """Tell whether errors have a line that tells what would help: never where a program reads."""
    wanted = os.environ.get("STORAGECTL_HINTS")
    return wanted == "always" or (wanted != "never" and sys.stderr.isatty())


def echo(argv: Sequence[str]) -> None:
    """Print a command of the host's on stderr, as bash would read it, before it runs."""
    from storagectl.host.script import join

    sys.stdout.flush()
    sys.stderr.write(f"+ {join(map(without_password, argv))}\n")
    sys.stderr.flush()


def without_password(word: str) -> str:
    """Return a word of a command with the password in a list of mount options left out."""
    return re.sub(r"((?:^|,)pass(?:word|wd)?2?=)[^,]*", r"\1***", word)


log_path: str | None = None


def error(line: str) -> None:
    """Print a line of an error on stderr, and add it to the file that --log names."""
    put(sys.stderr, f"error: {line}\n")
    log("ERROR", line)


def report(found: StorageError) -> None:
    """Print an error as virsh does; on a terminal also what would help."""
    sys.stdout.flush()
    for line in found.lines():
        error(line)
    if (found.hint or found.mistyped) and shows_hints():
        from storagectl.commands.hints import hint_of

        hint = hint_of(found)
        if hint:
            put(sys.stderr, f"hint: {hint}\n")


def open_log(path: str) -> None:
    """Add what there is to log from now on to a file.  Raises: UsageError where that can't be."""
    global log_path
    try:
        os.close(opened_log(path))
    except OSError as cause:
        raise UsageError("failed to open the log file. check the log file path") from cause
    log_path = os.path.abspath(path)


def opened_log(path: str) -> int:
    """Open a log, which is its owner's alone where it is new; a pipe must have a reader."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags, 0o600)


def log(level: str, text: str) -> None:
    """Add a line to the log, if there is one; when it can't be written that is told once, as virsh.

    One write for each line: those of other processes are before or behind it.
    Source: write(2), O_APPEND; libvirt 9.0.0 vshOutputLogFile in tools/vsh.c.
    """
    global log_path
    if log_path is None:
        return
    now = time.strftime("%Y.%m.%d %H:%M:%S", time.gmtime())
    line = f"[{now} storagectl {os.getpid()}] {level} {visible(text)}\n"
    data = line.encode("utf-8", "surrogateescape")
    try:
        fd = opened_log(log_path)
        try:
            written = os.write(fd, data)
        finally:
            os.close(fd)
    except OSError:
        written = 0
    if written < len(data):
        log_path = None
        sys.stderr.write("error: failed to write the log file\n")


def size(value: int) -> str:
    """Return a size in bytes as virsh shows it: `10.00 MiB`."""
    number, unit = pretty(value)
    return f"{decimal(number, 2)} {unit}"


def decimal(number: float, places: int) -> str:
    """Return a number with the decimal point of the user's locale."""
    return f"{number:.{places}f}".replace(".", decimal_point())


@cache
def decimal_point() -> str:
    """Return the decimal point that LC_NUMERIC says; a point where there is no such locale."""
    named = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_NUMERIC", "LANG"))), "C")
    if named.startswith(("C", "POSIX")):
        return "."
    import locale

    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_NUMERIC, "")
    return str(locale.localeconv()["decimal_point"])


def visible(text: str) -> str:
    """Return text with what is no character of its own as \\xNN, safe on a terminal."""
    if text.isprintable():
        return text
    shown = []
    for character in text:
        if is_visible(character):
            shown.append(character)
        else:
            shown.extend(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    return "".join(shown)


def in_table(text: str) -> str:
    """Return text as a table shows it: a \\xNN of its own is told apart from a byte."""
    return visible(text.replace("\\x", r"\x5cx"))


def is_visible(character: str) -> bool:
    """Tell whether virsh shows a character as it is, and it doesn't reorder its neighbours."""
    import unicodedata

    return (
        unicodedata.category(character) not in UNSEEN
        and unicodedata.bidirectional(character) not in REORDERING
    )


def width(text: str) -> int:
    """Return how many columns text takes on a terminal.

    Source: g_unichar_iszerowidth and g_unichar_iswide of GLib 2.74, which virsh asks.
    """
    return len(text) if text.isascii() else sum(map(columns, text))


def columns(character: str) -> int:
    """Return how many columns a character takes on a terminal."""
    import unicodedata

    if unicodedata.category(character) in ("Mn", "Me", "Cf") and character != SOFT_HYPHEN:
        return 0
    if any(first <= character <= last for first, last in JAMO):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: bool) -> str:
    """Return virsh's table: one space, the widest cell, two spaces; no trailing spaces.

    Source: libvirt 9.0.0 tools/vsh-table.c.
    """
    return "".join(table_parts(header, rows, quiet=quiet))


def table_parts(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: bool
) -> Iterator[str]:
    """Yield a table in parts of many lines, none of which is in memory longer than it takes."""
    parts = [Part(rows) for rows in batches(rows)]
    if not quiet:
        parts.insert(0, Part([header]))
    widths = [max(wide) for wide in zip(*(part.widths for part in parts), strict=True)]
    for part in parts:
        yield part.text(widths)
        if not quiet and part is parts[0]:
            yield "-" * sum(wide + 3 for wide in widths) + "\n"


def batches(rows: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    left = iter(rows)
    while batch := list(islice(left, ROWS)):
        yield batch


class Part:
    """Some rows of a table.  Where nothing in them is special they are not looked at one by one."""

    def __init__(self, rows: Sequence[Sequence[str]]) -> None:
        together = "".join(chain.from_iterable(rows))
        self.special = not (together.isascii() and together.isprintable()) or "\\x" in together
        self.rows = [tuple(map(in_table, row)) for row in rows] if self.special else rows
        measure = width if self.special else len
        self.widths = [max(map(measure, column)) for column in zip(*self.rows, strict=True)]

    def text(self, widths: Sequence[int]) -> str:
        """Return the rows as lines, with columns that wide."""
        *before, _ = widths
        if not self.special:
            line = "".join(f" %-{wide + 2}s" for wide in before) + " %s\n"
            return "".join([line % tuple(row) for row in self.rows])
        return "".join(
            "".join(
                f" {cell}{' ' * (wide - width(cell) + 2)}"
                for cell, wide in zip(row[:-1], before, strict=True)
            )
            + f" {row[-1]}\n"
            for row in self.rows
        )


def labelled(label: str, value: str) -> str:
    """Return a line `Label:          value`."""
    return f"{label + ':':<15} {value}\n"
