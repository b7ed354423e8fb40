"""Lists as they are asked for: rows by filters, in an order, as columns, lines or JSON.

Imported only where one of the options of list_options.py, or JSON, is given.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from storagectl.commands import output
from storagectl.commands.session import exclusive
from storagectl.errors import InvalidArgument, Mistyped
from storagectl.units import COMMAND_LIMIT, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from storagectl.commands.session import Facts, Session

T = TypeVar("T")

TEXT, SIZE, NUMBER, TIME, YES_NO = "text", "size", "number", "time", "yes or no"
ORDERED = (SIZE, NUMBER, TIME)


class Column(NamedTuple):
    """A column: its place in the facts, and whether to know it costs a look at the host."""

    name: str
    place: str
    kind: str = TEXT
    costly: bool = False

    @property
    def title(self) -> str:
        words = self.name.replace("-", " ")
        return "UUID" if words == "uuid" else words[:1].upper() + words[1:]

    def of(self, facts: Facts) -> Any:
        """Return the value in these facts, None where there is none."""
        found: Any = facts
        for part in self.place.split("."):
            if isinstance(found, list):
                found = [item[part] for item in found]
            elif found is not None:
                found = found[part]
        return ",".join(found) or None if isinstance(found, list) else found


COLUMNS = {
    "pools": (
        Column("name", "name"),
        Column("uuid", "uuid"),
        Column("type", "type"),
        Column("state", "state", costly=True),
        Column("active", "active", YES_NO),
        Column("persistent", "persistent", YES_NO),
        Column("autostart", "autostart", YES_NO),
        Column("capacity", "capacity", SIZE, costly=True),
        Column("allocation", "allocation", SIZE, costly=True),
        Column("available", "available", SIZE, costly=True),
        Column("target", "target"),
        Column("source-host", "source.hosts.name"),
        Column("source-path", "source.dir"),
        Column("source-dev", "source.devices.path"),
        Column("source-name", "source.name"),
        Column("source-format", "source.format"),
    ),
    "volumes": (
        Column("name", "name"),
        Column("path", "path"),
        Column("key", "key"),
        Column("type", "type"),
        Column("pool", "pool"),
        Column("format", "format", costly=True),
        Column("capacity", "capacity", SIZE, costly=True),
        Column("allocation", "allocation", SIZE, costly=True),
        Column("physical", "physical", SIZE, costly=True),
        Column("owner", "permissions.owner", NUMBER, costly=True),
        Column("group", "permissions.group", NUMBER, costly=True),
        Column("mode", "permissions.mode", costly=True),
        Column("modified", "timestamps.mtime", TIME, costly=True),
        Column("backing", "backing.path", costly=True),
        Column("backing-format", "backing.format", costly=True),
        Column("encryption", "encryption.format", costly=True),
    ),
    "secrets": (
        Column("uuid", "uuid"),
        Column("usage-type", "usage_type"),
        Column("usage", "usage"),
        Column("ephemeral", "ephemeral", YES_NO),
        Column("private", "private", YES_NO),
        Column("description", "description"),
    ),
}
MISSING = "-"
COMPARISON = re.compile(r"([^=!<>~]*)(!=|>=|<=|=|>|<|~)(.*)", re.DOTALL)
# A part of a line for each row: an escape, a doubled brace, a column in braces, or a lone brace.
PART = re.compile(r"\\(.?)|(\{\{|\}\})|\{([^{}]*)\}|([{}])", re.DOTALL)
ESCAPES = {"t": "\t", "n": "\n", "0": "\0", "\\": "\\"}


class Shape:
    """How one list is to be shown.  `full` says that facts which cost a look are needed."""

    def __init__(
        self,
        session: Session,
        of: str,
        *,
        format: str | None,
        sort: str | None,
        filter: tuple[str, ...],
        no_header: bool,
        bytes: bool,
    ) -> None:
        exclusive(json=session.json, format=format is not None)
        exclusive(json=session.json, no_header=no_header)
        self.session = session
        self.of = of
        self.known = {column.name: column for column in COLUMNS[of]}
        self.bytes = bytes
        self.used: list[Column] = []
        self.tests = [self._test(text) for text in filter]
        self.descending = sort is not None and sort.startswith("-")
        self.sort = None if sort is None else self._column(sort.removeprefix("-"))
        self.parts: list[str | Column] = []
        self.columns: list[Column] = []
        if format is not None and ("{" in format or "}" in format or "\\" in format):
            self.parts = self._parts(format)
        elif format is not None:
            self.columns = [self._column(name) for name in format.split(",")]
        self.full = session.json or any(column.costly for column in self.used)
        self.no_header = no_header
        session.has_data_on_stdout = no_header or bool(self.parts)

    def _column(self, name: str) -> Column:
        """Return a column that will be asked for.  Raises: InvalidArgument for an unknown one."""
        found = self.known.get(name.strip())
        if found is None:
            raise InvalidArgument(
                f"unknown column '{name}': {self.of} have {', '.join(self.known)}",
                mistyped=Mistyped(name, lambda: self.known),
            )
        self.used.append(found)
        return found

    def _test(self, text: str) -> Callable[[Facts], bool]:
        """Return what tells whether facts pass a filter such as `capacity>10G`.

        What is not known passes no comparison but != and =-.
        """
        match = COMPARISON.fullmatch(text)
        if match is None:
            raise InvalidArgument(f"filter '{text}' is not COLUMN=VALUE, or with != > < >= <= ~")
        name, sign, wanted = match.groups()
        column = self._column(name)
        if sign == "~":
            from fnmatch import fnmatchcase

            return lambda facts: fnmatchcase(self.words(column.of(facts)), wanted)
        if sign not in ("=", "!=") and column.kind not in ORDERED:
            raise InvalidArgument(f"filter '{text}': {name} has no order, only = != and ~")
        value = None if wanted == MISSING else typed(column, wanted.strip())
        match sign:
            case "=":
                return lambda facts: bool(column.of(facts) == value)
            case "!=":
                return lambda facts: bool(column.of(facts) != value)
        if value is None:
            raise InvalidArgument(f"filter '{text}': '{MISSING}' is no {column.kind}")

        def compare(facts: Facts) -> bool:
            found = column.of(facts)
            if found is None:
                return False
            passing = {
                ">": found > value,
                "<": found < value,
                ">=": found >= value,
                "<=": found <= value,
            }
            return bool(passing[sign])

        return compare

    def _parts(self, text: str) -> list[str | Column]:
        """Return the parts of a line such as `{name}\\t{path}`; \\n is added but to \\0."""
        parts: list[str | Column] = []
        position = 0
        for match in PART.finditer(text):
            parts.append(text[position : match.start()])
            position = match.end()
            escape, doubled, name, lone = match.groups()
            if lone or (escape is not None and escape not in ESCAPES):
                raise InvalidArgument(
                    f"'{match[0]}' in a format is none of {{COLUMN}} {{{{ }}}} \\t \\n \\0 \\\\"
                )
            if name is not None:
                parts.append(self._column(name))
            else:
                parts.append(ESCAPES[escape] if escape else doubled[0])
        parts.append(text[position:])
        parts = [part for part in parts if part != ""]
        if not parts or parts[-1] not in ("\n", "\0"):
            parts.append("\n")
        return parts

    def words(self, value: Any, *, pretty: bool = False) -> str:
        """Return a value as text; with `pretty` a number is a size for eyes."""
        if value is None:
            return MISSING
        if isinstance(value, bool):
            return "yes" if value else "no"
        return output.size(value) if pretty else str(value)

    def show(self, rows: Iterable[tuple[Facts, T]]) -> list[T] | None:
        """Show rows of facts that pass the filters, in order, in JSON or as --format says.

        Returns: what belongs to those rows, where neither is asked for; None otherwise.
        """
        left = [row for row in rows if all(test(row[0]) for test in self.tests)]
        column = self.sort
        if column is not None:
            unknown = [row for row in left if column.of(row[0]) is None]
            left = [row for row in left if column.of(row[0]) is not None]
            left.sort(key=lambda row: order(column.of(row[0])), reverse=self.descending)
            left += unknown
        if self.session.json:
            self.session.result({self.of: [facts for facts, _ in left]})
        elif self.parts:
            for facts, _ in left:
                output.write(
                    "".join(
                        part if isinstance(part, str) else self.words(part.of(facts))
                        for part in self.parts
                    )
                )
        elif self.columns:
            cells = [
                [
                    self.words(column.of(facts), pretty=column.kind == SIZE and not self.bytes)
                    for column in self.columns
                ]
                for facts, _ in left
            ]
            header = [column.title for column in self.columns]
            quiet = self.session.quiet or self.no_header
            output.write(output.table(header, cells, quiet=quiet))
        else:
            return [item for _, item in left]
        return None


def typed(column: Column, text: str) -> Any:
    """Return what the value of a filter stands for.  Raises: StorageError in virsh's words."""
    if column.kind == SIZE:
        return parse(text, COMMAND_LIMIT)
    if column.kind == NUMBER:
        if not (text.isascii() and text.isdecimal()):
            raise InvalidArgument(f"{column.name} '{text}' is no number")
        return int(text)
    if column.kind == YES_NO:
        if text not in ("yes", "no"):
            raise InvalidArgument(f"{column.name} '{text}' is neither yes nor no")
        return text == "yes"
    return text


def order(value: Any) -> Any:
    """Return what values are sorted by: text as virsh sorts names."""
    return (value.lower(), value) if isinstance(value, str) else value
