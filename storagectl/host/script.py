"""A bash script, line by line: what a dry run prints."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from storagectl.host.commands import TOOL_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DELIMITER = "EOF"
# Secrets come on descriptors from this one down; below 3 are the standard streams.
FIRST_DESCRIPTOR = 9
WAIT_TENTHS = 100


class Script:
    """The lines of a script, and the secrets that it is to be given."""

    def __init__(self, tool_path: Sequence[str] = TOOL_PATH) -> None:
        self.tool_path = tool_path
        self.lines: list[str] = []
        self.secrets: list[str] = []

    def add(self, line: str) -> None:
        """Add a line as it is, unless it just repeats the last one."""
        if line not in self.lines[-1:]:
            self.lines.append(line)

    def comment(self, words: str) -> None:
        self.add(f"# {words}")

    def command(self, argv: Sequence[str], *, needed: bool = True) -> None:
        """Add a command; one that is not `needed` may fail."""
        self.add(join(argv) + ("" if needed else " || :"))

    def write(self, path: str, text: str, mode: int, prefix: Sequence[str] = ()) -> None:
        """Add what makes a whole file, or replaces it."""
        install = join([*prefix, "install", f"--mode={mode:04o}", "/dev/stdin", path])
        rows = text.split("\n")
        if rows.pop() or not "".join(rows).isprintable():
            self.add(f"printf %s {quote(text)} | {install}")
            return
        delimiter = DELIMITER
        while delimiter in rows:
            delimiter += "_"
        self.add("\n".join([f"{install} <<'{delimiter}'", *rows, delimiter]))

    def wait_for_device(self, path: str) -> None:
        """Add what waits, for a bounded time, until there is a block device."""
        place = quote(path)
        self.add(
            f"for _ in {{1..{WAIT_TENTHS}}}; do [ -b {place} ] && break; sleep 0.1; done;"
            f" [ -b {place} ]"
        )

    def secret(self, what: str) -> int:
        """Return the descriptor on which the script is to be given a secret."""
        if what not in self.secrets:
            self.secrets.append(what)
        return FIRST_DESCRIPTOR - self.secrets.index(what)

    def text(self, name: str) -> str:
        """Return the script; `name` is that of the command it stands for.

        All is in a subshell: one that it is pasted into survives a failure.
        """
        if not self.lines:
            return f"# {name} would change nothing.\n"
        head = ["#!/bin/bash", f"# What {name} would do.  It stops at the first failure.", "("]
        path = quote(os.pathsep.join(self.tool_path))
        head += ["set -eu -o pipefail", f"export LC_ALL=C PATH={path}"]
        for what in self.secrets:
            number = self.secret(what)
            head.append(f"# Secret: {visible(what)} has to come on descriptor {number},")
            head.append(f"# such as: bash SCRIPT {number}<FILE")
            words = (
                f"give {visible(what)} on descriptor {number}, such as: bash SCRIPT {number}<FILE"
            )
            head.append(
                f"[ -e /proc/self/fd/{number} ] || {{ echo {shlex.quote(words)} >&2; exit 1; }}"
            )
        return "\n".join([*head, *self.lines, ")"]) + "\n"


def quote(word: str) -> str:
    """Return a word as bash reads it; what a terminal would act on, or not show, is escaped."""
    if word.isprintable():
        return shlex.quote(word)
    shown = ""
    for character in word:
        if character in "\\'":
            shown += "\\" + character
        elif character == "\n":
            shown += "\\n"
        elif character.isprintable():
            shown += character
        else:
            shown += "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
    return f"$'{shown}'"


def visible(words: str) -> str:
    """Return words for a comment or a message: on one line, without what is not shown."""
    return "".join(character if character.isprintable() else "?" for character in words)


def join(argv: Iterable[str]) -> str:
    """Return a command line of an argument list."""
    return " ".join(map(quote, argv))


def dd(
    source: str | None,
    target: str | None,
    *,
    skip: int = 0,
    seek: int = 0,
    count: int | None = None,
    sparse: bool = False,
) -> list[str]:
    """Return what copies bytes to where they belong, changing no others.

    None is stdin or stdout.  With `sparse` zeros aren't written.
    """
    argv = ["dd", *([f"if={source}"] if source is not None else [])]
    argv += [f"of={target}"] if target is not None else []
    argv.append(f"bs={'64K' if sparse else '1M'}")
    argv.append("iflag=fullblock,skip_bytes,count_bytes")
    if target is not None:
        argv.append("oflag=seek_bytes")
    argv += [f"skip={skip}"] if skip else []
    argv += [f"seek={seek}"] if seek else []
    argv += [f"count={count}"] if count is not None else []
    if target is not None:
        argv.append("conv=notrunc,fsync" + (",sparse" if sparse else ""))
    return [*argv, "status=none"]
