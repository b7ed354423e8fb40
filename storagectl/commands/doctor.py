"""The command doctor: what is wrong, and the command that mends it."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from storagectl.commands import output
from storagectl.commands.command import command, value
from storagectl.doctor import examine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storagectl.backends.troubles import Trouble
    from storagectl.commands.session import Session, Settings
    from storagectl.doctor import Report

STYLES = {"error": "bold red", "warning": "bold yellow"}
PROGRAM = "storagectl"


@command(
    "doctor",
    "Tells why pools do not start: looks at tools, devices, mounts, servers, definitions and"
    " secrets, and changes nothing. The exit status is 0 where nothing is wrong, 1 otherwise.",
    "failed to look at the pools",
)
@value("pool", "pool name or uuid; all, and what is around them, where none is given")
def doctor(session: Session, pool: str | None) -> None:
    report = examine(session.pools, pool)
    if session.json:
        session.result(facts(report, session.settings))
    else:
        show(report, session.settings)
    if report.findings:
        raise click.exceptions.Exit(1)


def facts(report: Report, settings: Settings) -> dict[str, object]:
    """Return a report as data."""
    return {
        "pools": list(report.pools),
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "findings": [
            {
                "pool": pool or None,
                "severity": trouble.severity,
                "code": trouble.code,
                "message": trouble.what,
                "command": list(runnable(trouble.command, settings)),
                "mends": trouble.mends,
            }
            for pool, trouble in report.findings
        ],
    }


def show(report: Report, settings: Settings) -> None:
    """Print a report, with colours on a terminal."""
    console = None
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    for pieces in lines(report, settings):
        if console is None:
            output.write("".join(words for words, _ in pieces) + "\n")
        else:
            from rich.text import Text

            console.print(Text.assemble(*pieces), soft_wrap=True)


def lines(report: Report, settings: Settings) -> Iterator[list[tuple[str, str]]]:
    """Yield each line as pieces of text with their style."""
    before = None
    for pool, trouble in report.findings:
        if pool != before:
            yield from ([] if before is None else [[("", "")]])
            yield [(title(pool), "bold")]
            before = pool
        yield [
            (f"  {trouble.severity}: ", STYLES[trouble.severity]),
            (output.visible(trouble.what), ""),
        ]
        if trouble.command:
            label = "mend" if trouble.mends else "look"
            yield [(f"    {label}: ", "dim"), (command_line(trouble, settings), "")]
    if report.findings:
        yield [("", "")]
    yield [(summary(report), "")]


def title(pool: str) -> str:
    return f"Pool {output.visible(pool)}" if pool else "All pools"


def summary(report: Report) -> str:
    """Return how much is wrong, in words."""
    pools = counted(len(report.pools), "pool")
    if not report.findings:
        return f"Nothing is wrong with {pools}"
    counts = [(report.count("error"), "error"), (report.count("warning"), "warning")]
    return f"{' and '.join(counted(*one) for one in counts if one[0])}; {pools} looked at"


def counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def command_line(trouble: Trouble, settings: Settings) -> str:
    """Return a command as a shell reads it, without any character that acts on a terminal."""
    return " ".join(map(quoted, runnable(trouble.command, settings)))


def runnable(argv: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Return a command, if it is one of ours with the options that name the same pools."""
    options: list[str] = []
    if settings.root is not None:
        options += ["--root", settings.root]
    if settings.uri is not None:
        options += ["--connect", settings.uri]
    place = next((n for n, word in enumerate(argv[:2], 1) if word == PROGRAM), 0)
    return (*argv[:place], *options, *argv[place:]) if place else tuple(argv)


def quoted(word: str) -> str:
    """Return a word as bash reads it; control characters and bytes as $'\\xNN'."""
    if output.visible(word) == word and "\n" not in word:
        return shlex.quote(word)
    inside = "".join(
        f"\\{character}" if character in "\\'" else
        character if output.is_visible(character) else
        "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
        for character in word
    )  # fmt: skip
    return f"$'{inside}'"
