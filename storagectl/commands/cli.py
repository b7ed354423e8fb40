"""The program from its arguments to its exit status: options, then commands, then the shell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.commands.options import apply
from storagectl.commands.reader import read, split
from storagectl.commands.session import Settings
from storagectl.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storagectl.commands.reader import Call


def main(args: list[str]) -> int:
    """Run what the arguments say.  Returns: the exit status, which is the last command's.

    A single word after the options is a text of its own: `"pool-list; vol-list images"`.
    """
    output.log_path = None
    settings = Settings()
    try:
        return obey(args, settings)
    except StorageError as error:
        if settings.json or asks_for_json(args):
            from storagectl.commands import document

            document.refuse(error)
        raise


def asks_for_json(words: Sequence[str]) -> bool:
    """Tell whether words of which some are not understood, or a text of them, have --json."""
    return "--json" in words or (bool(words) and "--json" in words[-1].split())


def obey(args: list[str], settings: Settings) -> int:
    """Read the options and run what follows them.  Returns: the exit status."""
    words = apply(settings, args)
    if words is None:
        return 0
    settings.json = settings.json or is_json_configured(settings)
    if words == [""]:
        return settings.failure
    calls = read(split(words[0]) if len(words) == 1 else words)
    if settings.uri:
        from storagectl.commands.connection import serves_system

        serves_system(settings.connected_to)
    if not words:
        from storagectl.commands.shell import converse

        settings.config = None
        converse(settings)
        return 0
    return 0 if perform(calls, settings) else settings.failure


def is_json_configured(settings: Settings) -> bool:
    """Tell whether config.toml asks for JSON, which STORAGECTL_OUTPUT overrules.

    What is wrong with the file is told by the commands that go by it.
    """
    if os.environ.get("STORAGECTL_OUTPUT"):
        return False
    from storagectl.commands.connection import serves_system
    from storagectl.config import load

    try:
        settings.config = load(settings.root, system=serves_system(settings.connected_to))
    except StorageError:
        return False
    return settings.config.output == "json"


def perform(calls: Sequence[Call], settings: Settings) -> bool:
    """Run commands in turn, whatever the ones before came to.  Returns: whether the last succeeded.

    `quit` ends it.
    """
    succeeded = True
    settings.planner = None
    for call in calls:
        settings.failure = 1
        succeeded = call.run(settings)
        settings.config = None
        if settings.ended:
            break
    return succeeded
