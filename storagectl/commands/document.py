"""The JSON document that a command answers with, as storagectl/schemas/output-1.json has it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from storagectl.commands import output
from storagectl.commands.hints import hint_of
from storagectl.errors import StorageError, ToolFailed, code
from storagectl.store import warned

if TYPE_CHECKING:
    from typing import TextIO

VERSION = 1


def error_facts(error: StorageError) -> dict[str, Any]:
    """Return an error with the lines that stderr has, and its code.

    Of several lines the first is the action only where the error has one.
    """
    lines = error.lines()
    facts: dict[str, Any] = {
        "code": code(error),
        "action": error.action or None,
        "message": "\n".join(lines[1:] if error.action else lines),
        "hint": hint_of(error) or None,
    }
    if isinstance(error, ToolFailed):
        facts["tool"] = {
            "arguments": list(error.argv),
            "status": error.status,
            "stderr": error.stderr,
        }
    return facts


def write(stream: TextIO, facts: dict[str, Any]) -> None:
    """Print a document as one line; bytes of a name that are no UTF-8 are `\\\\udcNN` in it.

    On a terminal other characters that act on it, or are not shown, are `\\\\uNNNN` as well.
    """
    text = json.dumps({"version": VERSION, **facts}, ensure_ascii=False)
    if stream.isatty():
        text = "".join(c if output.is_visible(c) else json.dumps(c)[1:-1] for c in text)
    stream.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


class Document:
    """What a command has to answer, kept until it ends.

    Text that the command prints by the way is kept too, and is the answer of one that has
    no other.  `result` is what it found or did, `error` why it failed.
    """

    def __init__(self, command: str | None) -> None:
        self.command = command
        self.result: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.seconds: float | None = None
        warned.clear()
        self.text: list[str] = []
        output.kept = self.text

    def fail(self, error: StorageError) -> None:
        self.error = error_facts(error)

    def end(self, stream: TextIO, *, succeeded: bool) -> None:
        """Print the document; what is printed after it is printed at once again."""
        output.kept = None
        if not succeeded and self.error is None and self.result is None:
            self.error = INTERRUPTED
        if self.result is None and self.error is None:
            self.result = {"text": "".join(self.text)}
        facts: dict[str, Any] = {
            "command": self.command,
            "ok": succeeded,
            "result": self.result,
            "error": self.error,
            "warnings": list(warned),
        }
        if self.seconds is not None:
            facts["seconds"] = round(self.seconds, 6)
        write(stream, facts)


def refuse(error: StorageError) -> None:
    """Print the document of words that are no command: nothing has run."""
    document = Document(None)
    document.fail(error)
    document.end(sys.stdout, succeeded=False)


def answer(text: str) -> None:
    """Print the document of a text that no command answers with."""
    document = Document(None)
    output.write(text)
    document.end(sys.stdout, succeeded=True)


INTERRUPTED = {"code": "interrupted", "action": None, "message": "interrupted", "hint": None}
