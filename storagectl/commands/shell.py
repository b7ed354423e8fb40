"""The interactive shell: commands from a terminal, or from whatever stdin is.

Nothing is kept between two lines but what `connect` and `cd` say.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from storagectl.commands import report
from storagectl.commands.cli import perform
from storagectl.commands.options import history_size
from storagectl.commands.reader import read, split
from storagectl.commands.session import read_line
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
        report(error)
    if not settings.quiet:
        sys.stdout.write(WELCOME)
    ask = asking_on_terminal(settings, history) if on_terminal() else ask_plainly
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
    sys.stdout.write("\n")


def run(line: str, settings: Settings) -> None:
    """Run a line; nothing of it where a part of it is not understood."""
    try:
        calls = read(split(line))
    except UsageError as error:
        report(error)
    else:
        perform(calls, settings)


def on_terminal() -> bool:
    """Tell whether somebody types and sees the answers."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def ask_plainly(prompt: str) -> str | None:
    """Return the next line of stdin, shown after the prompt as virsh does; None at the end."""
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = read_line(b"\r\n")
    if line is None:
        return None
    shown = os.fsdecode(line.replace(b"\0", b""))
    sys.stdout.write(shown + "\n")
    return shown


def asking_on_terminal(settings: Settings, history: int | None) -> Callable[[str], str | None]:
    """Return what asks with line editing, history and completion."""
    from storagectl.commands.terminal import Terminal

    return Terminal(settings, history).ask
