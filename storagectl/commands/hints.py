"""The last line of an error on a terminal: what would help.  Imported only where it is shown."""

from __future__ import annotations

import os
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from storagectl.commands import output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storagectl.errors import StorageError

# How much two words must have in common at least, 0 to 1.
LIKENESS = 0.65


def hint_of(error: StorageError) -> str:
    """Return what would help with an error, "" where nothing is known."""
    if error.hint or error.mistyped is None:
        return error.hint
    from storagectl.errors import StorageError

    try:
        elsewhere = error.mistyped.elsewhere
        if elsewhere is not None and (found := elsewhere()):
            return found
        meant = closest(error.mistyped.word, error.mistyped.known())
    except (StorageError, OSError):
        return ""
    return f"did you mean '{output.visible(meant)}'?" if meant else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of the known words that a mistyped one is most like.

    Case does not count, nor `_` for `-`, nor which part comes first: `list_pools` is pool-list.
    Of a path the last part counts.
    """
    folder, name = os.path.split(word)
    wanted = {shape(name), shape(turned(name))}
    best, best_likeness = None, LIKENESS
    for other in sorted(set(known) - {word}):
        other_folder, other_name = os.path.split(other)
        if alike(shape(folder), shape(other_folder)) < LIKENESS:
            continue
        likeness = max(alike(one, shape(other_name)) for one in wanted)
        if likeness > best_likeness:
            best, best_likeness = other, likeness
    return best


def alike(one: str, other: str) -> float:
    """Return how much two words have in common; 0 where a quick look tells that it is little."""
    matcher = SequenceMatcher(None, one, other)
    if matcher.real_quick_ratio() < LIKENESS or matcher.quick_ratio() < LIKENESS:
        return 0
    return matcher.ratio()


def shape(word: str) -> str:
    """Return a word without what is easily mistaken."""
    return word.lower().replace("_", "-")


def turned(word: str) -> str:
    """Return `pool-list` for `list-pool`."""
    first, dash, last = word.replace("_", "-").partition("-")
    return last + dash + first if first else word
