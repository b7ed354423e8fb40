"""Lines from a terminal: editing, history and completion by readline, imported only here."""

from __future__ import annotations

import atexit
import contextlib
import os
import readline
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from storagectl.commands import COMMANDS, find
from storagectl.commands.command import Flag, Value, option_name
from storagectl.commands.reader import named, split
from storagectl.commands.session import Session
from storagectl.errors import StorageError
from storagectl.store import user_folder

if TYPE_CHECKING:
    from storagectl.commands.command import Command
    from storagectl.commands.session import Settings

# What stands in a line with the value of a secret.
TELLING = ("secret-set-value", "base64")


class Terminal:
    """Asks for lines, and offers what could be typed next.

    `history` is how many lines the next one remembers, None to leave its file alone.
    """

    def __init__(self, settings: Settings, history: int | None) -> None:
        self.settings = settings
        self.offered: list[str] = []
        assert isinstance(sys.stdin, TextIOWrapper)
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        readline.set_completer_delims(" \t\n;\"'\\=")
        readline.set_completer(self.complete)
        readline.parse_and_bind("tab: complete")
        readline.set_auto_history(False)
        if history is None:
            return
        readline.set_history_length(history)
        with contextlib.suppress(StorageError):
            folder = os.path.join(user_folder("XDG_CACHE_HOME", "~/.cache"), "storagectl")
            path = os.path.join(folder, "history")
            with contextlib.suppress(OSError):
                readline.read_history_file(path)
            atexit.register(save_history, path)

    def ask(self, prompt: str) -> str | None:
        """Return the line that is typed, None at the end of it all."""
        sys.stdout.flush()
        try:
            line = input(prompt)
        except EOFError:
            return None
        if line and not any(word in line for word in TELLING):
            readline.add_history(line)
        return line

    def complete(self, text: str, state: int) -> str | None:
        """Return one of what a word can become; readline asks with growing `state`."""
        if state == 0:
            before = readline.get_line_buffer()[: readline.get_begidx()]
            offered = [word for word in self.offers(before) if word.startswith(text)]
            self.offered = [word for word in offered or files(text) if is_plain(word)]
            if len(self.offered) == 1 and not self.offered[0].endswith("/"):
                self.offered = [self.offered[0] + " "]
        return self.offered[state] if state < len(self.offered) else None

    def offers(self, before: str) -> list[str]:
        """Return the words that can follow what stands before the one that is typed."""
        words: list[str] = []
        try:
            for word in split(before):
                words = [] if word is None else [*words, word]
        except StorageError:
            return []
        found = find(words[0]) if words else None
        if found is None:
            return [] if words else list(COMMANDS)
        options = {option_name(param): param for param in found.params}
        last = words[-1].removeprefix("--").removesuffix("=")
        asked = options.get(last)
        if words[-1].startswith("--") and isinstance(asked, Value) and asked.otherwise is None:
            return self.values(last, words)
        offered = [f"--{name}" for name in options if f"--{name}" not in words]
        return offered + self.values(self.next_value(found, words[1:]), words)

    def next_value(self, command: Command, words: list[str]) -> str:
        """Return the option that a word without a name is the value of."""
        values = [
            option_name(param) for param in command.params
            if isinstance(param, Value) and not param.named_only
        ]  # fmt: skip
        flags = {f"--{option_name(param)}" for param in command.params if isinstance(param, Flag)}
        with contextlib.suppress(StorageError):
            given = named(command, [*(w for w in words if w not in flags), "\0"]) or []
            for word in given:
                name, _, value = word.removeprefix("--").partition("=")
                if value == "\0":
                    return name
        return values[0] if values and not words else ""

    def values(self, option: str, words: list[str]) -> list[str]:
        """Return the names of pools and volumes that the value of an option can be."""
        with contextlib.suppress(StorageError, OSError):
            session = Session(self.settings)
            session.connect()
            pools = [entry.name for entry in session.pools.all()]
            if option in ("pool", "inputpool"):
                return pools
            if option == "vol":
                return [
                    volume.name
                    for pool in pools if pool in words
                    for volume in session.volumes.all(pool, details=False)
                ]  # fmt: skip
        return []


def is_plain(word: str) -> bool:
    """Tell whether a word may be typed as it is, and shown."""
    try:
        return word.isprintable() and list(split(word)) == [word]
    except StorageError:
        return False


def files(text: str) -> list[str]:
    """Return the files whose path begins with a text; folders end with a slash."""
    folder, start = os.path.split(text)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return []
    found = []
    for name in names:
        if name.startswith(start) and (start or not name.startswith(".")):
            path = os.path.join(folder, name)
            found.append(path + "/" if os.path.isdir(path) else path)
    return found


def save_history(path: str) -> None:
    """Keep the history for the next shell, for the user only."""
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        readline.write_history_file(path)
