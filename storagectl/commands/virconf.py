"""The format of libvirt's configuration files."""

from __future__ import annotations

import re
from typing import NoReturn

from storagectl.errors import ConfigFileError

BLANKS = re.compile(r"[ \t]*")
SPACE = re.compile(r"\s*")
BETWEEN = re.compile(r"(?:[\s;]|#[^\n]*)*")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
STRING = re.compile(r'"""(.*?)"""|"([^"\n]*)"|\'([^\'\n]*)\'', re.DOTALL)
NUMBER = re.compile(r"-?[0-9]+")

Scalar = str | None  # None for a number, which nothing here is
Settings = dict[str, Scalar | list[Scalar]]


class Reader:
    """Reads one file: lines `name = value`, where a value may be a list of strings.

    Source: libvirt 9.0.0 src/util/virconf.c; a list in a list is refused here at once.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.at = 0

    def settings(self) -> Settings:
        found: Settings = {}
        while True:
            self.skip(BETWEEN)
            if self.at == len(self.text):
                return found
            name = NAME.match(self.text, self.at)
            if name is None:
                self.fail("expecting a name")
            self.at = name.end()
            self.skip(BLANKS)
            if self.next() != "=":
                self.fail("expecting an assignment")
            self.at += 1
            self.skip(BLANKS)
            value = self.list() if self.next() == "[" else self.scalar()
            found.setdefault(name[0], value)
            self.skip(BLANKS)
            if self.next() not in ("", "\n", "\r", ";", "#"):
                self.fail("expecting a separator")

    def list(self) -> list[Scalar]:
        items: list[Scalar] = []
        self.at += 1
        self.skip(SPACE)
        while self.next() not in ("", "]"):
            if items:
                if self.next() != ",":
                    self.fail("expecting a separator in list")
                self.at += 1
                self.skip(SPACE)
                if self.next() == "]":
                    break
            items.append(self.scalar())
            self.skip(SPACE)
        if not self.next():
            self.fail("list is not closed with ]")
        self.at += 1
        return items

    def scalar(self) -> Scalar:
        found = STRING.match(self.text, self.at)
        if found is None and self.next() in ('"', "'"):
            self.fail("unterminated string")
        number = NUMBER.match(self.text, self.at)
        end = found or number
        if end is None:
            self.fail("expecting a value")
        self.at = end.end()
        return found[found.lastindex or 0] if found else None

    def next(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def fail(self, what: str) -> NoReturn:
        line = self.text.count("\n", 0, self.at) + 1
        raise ConfigFileError(f"{self.file}:{line}: {what}")
