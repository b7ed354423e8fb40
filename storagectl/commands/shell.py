"""The interactive shell: commands from a terminal, or from whatever stdin is.

Nothing is kept between two lines but what `connect` and `cd` say.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.commands.cli import asks_for_json, perform
from storagectl.commands.lines import read_line
from storagectl.commands.options import history_size
from storagectl.commands.reader import read, split
from storagectl.errors import ClientError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.commands.session import Settings

WELCOME = """\
Welcome to storagectl, the virtualization interactive terminal.

Type:  'help' for help with commands
       'quit' to quit

"""


def converse(settings: Settings) -> None:
    """Read lines and run them until `quit` or the end of stdin."""
    settings.interactive = True
    history = None
    try:
        history = history_size()
    except ClientError as error:
        output.report(error)
    plain = not settings.json
    if plain and not settings.quiet:
        sys.stdout.write(WELCOME)
    if on_terminal():
        ask = asking_on_terminal(settings, history)
    else:
        ask = ask_plainly if plain else ask_silently
    while not settings.ended:
        try:
            line = ask("storagectl > " if settings.readonly else "storagectl # ")
            if line is None:
                break
            run(line, settings)
        except KeyboardInterrupt:
            if not on_terminal():
                raise
            sys.stdout.write("\n")
    if plain:
        sys.stdout.write("\n")


def run(line: str, settings: Settings) -> None:
    """Run a line; nothing of it where a part of it is not understood."""
    try:
        calls = read(split(line))
    except UsageError as error:
        output.report(error)
        if settings.json or asks_for_json([line]):
            from storagectl.commands import document

            document.refuse(error)
    else:
        perform(calls, settings)


def on_terminal() -> bool:
    """Tell whether somebody types and sees the answers."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def ask_plainly(prompt: str) -> str | None:
    """Return the next line of stdin, shown after the prompt as virsh does; None at the end."""
    sys.stdout.write(prompt)
    line = ask_silently(prompt)
    if line is not None:
        output.put(sys.stdout, line + "\n")
    return line


def ask_silently(prompt: str) -> str | None:
    """Return the next line of stdin, None at the end; nothing is shown but the answers."""
    line = read_line(b"\r\n")
    return None if line is None else os.fsdecode(line.replace(b"\0", b""))


def asking_on_terminal(settings: Settings, history: int | None) -> Callable[[str], str | None]:
    """Return what asks with line editing, history and completion."""
    from storagectl.commands.terminal import Terminal

    return Terminal(settings, history).ask
