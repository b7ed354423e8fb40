"""Questions before what cannot be undone: where the configuration wants them, on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from storagectl.commands import output
from storagectl.commands.lines import read_line
from storagectl.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Question(NamedTuple):
    """What is asked before a command; with `option`, only where that was given."""

    text: str
    option: str = ""


QUESTIONS = {
    "pool-build": Question("Build pool {pool} over what is on its device", "overwrite"),
    "pool-create": Question("Build the pool over what is on its device", "overwrite"),
    "pool-create-as": Question("Build pool {name} over what is on its device", "overwrite"),
    "pool-delete": Question("Delete pool {pool} and what is in it"),
    "pool-start": Question("Build pool {pool} over what is on its device", "overwrite"),
    "pool-undefine": Question("Forget the definition of pool {pool}"),
    "secret-undefine": Question("Forget secret {secret} and its value"),
    "vol-delete": Question("Delete vol {vol}"),
    "vol-resize": Question("Cut off the end of vol {vol}", "shrink"),
    "vol-upload": Question("Overwrite vol {vol}"),
    "vol-wipe": Question("Overwrite all of vol {vol}"),
}
AGREED = (b"y", b"yes")


def confirm(command: str, values: Mapping[str, Any]) -> None:
    """Ask whether a command is meant; where nobody is there to answer, it is.

    Raises: StorageError for any answer but yes.
    """
    question = QUESTIONS.get(command)
    if question is None or values.get("print_xml"):
        return
    if not question.option or values[question.option]:
        ask(command, question.text.format(**values))


def ask(command: str, text: str) -> None:
    """Ask a question on a terminal.  Raises: StorageError for any answer but yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    sys.stdout.flush()
    output.put(sys.stderr, f"{text}? [y,n]: ")
    sys.stderr.flush()
    answer = read_line(b"\r\n")
    if answer is None:
        sys.stderr.write("\n")
    if (answer or b"").strip().lower() not in AGREED:
        raise StorageError(
            "not confirmed, nothing was changed", action=f"{command} has not been run"
        )
