"""Command lines: from a text, or the words that a shell has split, to commands to be run.

All commands of a line are read before the first one runs.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from storagectl.commands import COMMANDS, find
from storagectl.commands.command import Flag, is_number
from storagectl.errors import Mistyped, UsageError
from storagectl.record import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storagectl.commands.command import Command, Value
    from storagectl.commands.session import Settings

# What is anything else in a text than a part of a word, or a blank between two.
SPECIAL = frozenset("\\'\"\t;\n#")


class Call(Row):
    """A command and what it was given, all options named."""

    command: Command
    named: list[str]

    def run(self, settings: Settings) -> bool:
        return self.command.run(settings, self.named)


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
        calls.append(Call(found, named(found, own)))
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


class Words:
    """The words of a command, one at a time; the last can be put back."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = iter(words)
        self.back: list[str] = []

    def __iter__(self) -> Words:
        return self

    def __next__(self) -> str:
        return self.back.pop() if self.back else next(self.words)

    def put_back(self, word: str) -> None:
        self.back.append(word)


def named(command: Command, args: Iterable[str]) -> list[str]:
    """Return the arguments with every value named (`--pool=d1`); one may be `--help`.

    No word is taken from `args` before those in front of it have been understood.

    Raises: UsageError in virsh's words.
    Source: libvirt 9.0.0 vshCommandParse and vshCmddefGetOption in tools/vsh.c.
    """
    options = command.options
    given: list[str] = []
    seen: set[str] = set()
    rest = Words(args)
    only_data = False
    for word in rest:
        if word == "--" and not only_data:
            only_data = True
            continue
        if only_data or not (word.startswith("--") and is_alphanumeric(word[2:3])):
            name = next((n for n, p in command.by_place if n not in seen or p.rest), None)
            if name is None and command.lenient:
                continue
            if name is None:
                raise UsageError(f"unexpected data '{word}'")
            given.append(f"--{name}={word}")
            seen.add(name)
            continue
        name, equals, data = word[2:].partition("=")
        option = options.get(name)
        if option is None and command.lenient:
            continue
        if option is None:
            raise UsageError(
                command.lacks(name),
                mistyped=Mistyped(f"--{name}", lambda: [f"--{known}" for known in options]),
            )
        if name in seen and not option.multiple and name != "help":
            raise UsageError(f"option --{name} already seen")
        seen.add(name)
        if isinstance(option, Flag):
            if equals:
                raise UsageError(f"invalid '=' after option --{name}")
            given.append(word)
            continue
        if not equals:
            data = value_behind(name, option, rest)
        given.append(f"--{name}={data}")
    if "help" in seen:
        return given
    missing = [name for name in command.required if name not in seen]
    if missing:
        raise UsageError(
            *(f"command '{command.name}' requires <{name}> option" for name in missing)
        )
    return given


def value_behind(name: str, option: Value, rest: Words) -> str:
    """Take the value of an option from the words behind it.  Raises: UsageError where none is.

    An option that need not have one takes a number only.
    """
    data = next(rest, option.otherwise)
    if data is None:
        raise UsageError(f"expected syntax: --{name} <{option.value_name}>")
    if option.otherwise is not None and not is_number(data, signed=False):
        rest.put_back(data)
        return option.otherwise
    return data


def is_alphanumeric(text: str) -> bool:
    """Tell whether a text is of ASCII letters and digits."""
    return text.isascii() and text.isalnum()
