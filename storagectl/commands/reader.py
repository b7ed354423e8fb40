"""Command lines: from a text, or the words that a shell has split, to commands to be run.

All commands of a line are read before the first one runs.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from storagectl.commands import COMMANDS, Call, find
from storagectl.errors import Mistyped, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# What is anything else in a text than a part of a word, or a blank between two.
SPECIAL = frozenset("\\'\"\t;\n#")


def read(words: Iterable[str | None]) -> list[Call]:
    """Return the commands that words make up; None stands between two of them.

    One whose name begins with # is none.

    Raises: UsageError for the first word that is wrong.
    """
    left = iter(words)
    calls = []
    for name in left:
        if name is None:
            continue
        own = iter(lambda: next(left, None), None)
        if name.startswith("#"):
            deque(own, maxlen=0)
            continue
        found = find(name)
        if found is None:
            raise UsageError(
                f"unknown command: '{name}'", mistyped=Mistyped(name, lambda: COMMANDS)
            )
        calls.append(Call(found, found.named(own)))
    return calls


def split(text: str) -> Iterator[str | None]:
    """Split a text into words, with None where a command ends.

    Blanks separate words; `;` and the end of a line end a command; a word that begins
    with # begins a comment.  A backslash takes the next character as it is, except in
    single quotes, and before the end of a line both are left out.

    Raises: UsageError, after the words before what is wrong.
    Source: seen with virsh 9.0.0, which lets a single quote end with the text.
    """
    if SPECIAL.isdisjoint(text):
        yield from filter(None, text.split(" "))
        return
    word: str | None = None
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and quote != "'":
            if position == len(text):
                raise UsageError("dangling \\")
            if text[position] != "\n":
                word = (word or "") + text[position]
            position += 1
        elif quote:
            if character == quote:
                quote = ""
            else:
                word = (word or "") + character
        elif character in "'\"":
            quote = character
            word = word or ""
        elif character in " \t;\n":
            if word is not None:
                yield word
                word = None
            if character in ";\n":
                yield None
        elif character == "#" and word is None:
            position = (text.find("\n", position) + 1) or len(text)
            yield None
        else:
            word = (word or "") + character
    if quote == '"':
        raise UsageError('missing "')
    if word is not None:
        yield word
