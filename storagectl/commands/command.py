"""A command: the options it has, and how it is run and its errors told.

On top of click this adds what virsh has and click has not: any option that takes a value may
also be given by its position, which `reader` sees to.
"""

from __future__ import annotations

import sys
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from storagectl.commands import output
from storagectl.errors import ClientError, StorageError, SystemFailure, UsageError
from storagectl.units import COMMAND_LIMIT, LONGEST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storagectl.commands.session import Session, Settings

# What every command takes that changes something.
DRY_RUN = "dry-run"
DRY_RUN_HELP = "print what would be done, as a bash script; change nothing"


class Option(click.Option):
    """An option whose help is kept as it is: click would load `inspect` to tidy it."""

    def __init__(self, declarations: Sequence[str], *, help: str, **settings: Any) -> None:
        super().__init__(declarations, **settings)
        self.help = help


class Flag(Option):
    """An option without a value."""

    def __init__(self, declarations: Sequence[str], *, help: str, **settings: Any) -> None:
        super().__init__(declarations, help=help, is_flag=True, **settings)


class Value(Option):
    """An option with a value; in declared order it may also be given by position."""

    def __init__(
        self,
        declarations: Sequence[str],
        *,
        help: str,
        named_only: bool = False,
        number: bool = False,
        multiple: bool = False,
        wraps: bool = False,
        rest: bool = False,
        empty: bool = False,
        otherwise: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(declarations, help=help, multiple=multiple or rest, **settings)
        self.named_only = named_only
        self.wraps = wraps
        self.rest = rest
        self.empty = empty
        self.otherwise = otherwise
        self.value_name = "number" if number else "string"

    def check(self, text: str) -> None:
        """Raise ClientError, in virsh's words, for a value that is never right."""
        if not text and not self.empty:
            raise ClientError(
                f"Failed to get option '{option_name(self)}': Option argument is empty"
            )
        if self.value_name == "number" and not is_number(text, signed=self.wraps):
            raise ClientError(
                f"Numeric value '{text}' for <{option_name(self)}> option is malformed"
                " or out of range"
            )


# What every command takes besides its own options.
COMMON: dict[str, Flag | Value] = {
    "help": Flag(["--help"], help="print what the command does and takes"),
    "json": Flag(["--json"], help="print one JSON document, also about an error"),
    "verbose": Flag(["--verbose"], help="show each command of the host's before it runs"),
}


def is_number(text: str, *, signed: bool) -> bool:
    """Tell whether a text is a number of at most 64 bits, as strtoull reads it."""
    digits = text.lstrip(" \t\n\v\f\r")
    digits = digits[1:] if digits.startswith(("+", "-") if signed else "+") else digits
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > LONGEST_NUMBER:
        return False
    return int(digits) <= COMMAND_LIMIT


def option_name(param: click.Parameter) -> str:
    """Return `source-dev` for the option --source-dev."""
    return param.opts[0].removeprefix("--")


def flag(name: str, summary: str) -> Callable[[Any], Any]:
    """Declare an option without a value."""
    return click.option(f"--{name}", cls=Flag, help=summary)


def value(
    name: str, summary: str, *, number: bool = False, **settings: Any
) -> Callable[[Any], Any]:
    """Declare an option with a value, which may be given by position unless it is `named_only`.

    A number that `wraps` may be negative, as virsh's --length -1 for all.  One that takes
    the `rest` has all words that no other option takes.  `empty` lets it be empty.
    `otherwise` is the number that it has when it is given without one.
    """
    kind = int if number else str
    return click.option(f"--{name}", cls=Value, help=summary, type=kind, number=number, **settings)


class Command(click.Command):
    """A command that reads its arguments and reports its errors as virsh does."""

    failure: str | None = None
    connects = True
    lenient = False
    changes = False

    @cached_property
    def own(self) -> dict[str, Flag | Value]:
        """The command's own options by their names, in declared order."""
        return {option_name(p): p for p in self.params if isinstance(p, Flag | Value)}

    @cached_property
    def options(self) -> dict[str, Flag | Value]:
        """All options by their names."""
        return COMMON | self.own

    @cached_property
    def by_place(self) -> list[tuple[str, Value]]:
        """The options that values without a name are for, in their order."""
        return [
            (name, option)
            for name, option in self.options.items()
            if isinstance(option, Value) and not option.named_only
        ]

    @cached_property
    def required(self) -> list[str]:
        """The names of the options that must be given."""
        return [name for name, option in self.options.items() if option.required]

    @cached_property
    def unset(self) -> dict[str, Any]:
        """What the function gets for options that are not given."""
        return {
            param.name: False if isinstance(param, Flag) else () if param.multiple else None
            for param in self.own.values()
            if param.expose_value and param.name is not None
        }

    def run(self, settings: Settings, named: Sequence[str]) -> bool:
        """Run with arguments that `named` has read.  Returns: whether it succeeded."""
        from storagectl.commands.session import Session

        session = Session(
            settings,
            json=settings.json or "--json" in named,
            dry_run=settings.dry_run or f"--{DRY_RUN}" in named,
            verbose=settings.verbose or "--verbose" in named,
        )
        session.begin(self.name)
        before = time.monotonic()
        succeeded = False
        outcome = "interrupted"
        try:
            if "--help" in named:
                self.show_help()
            else:
                if session.dry_run and not self.changes:
                    raise UsageError(self.lacks(DRY_RUN))
                if self.connects:
                    session.connect()
                self.call(session, self.values(named))
                session.show_plan()
            succeeded = True
        except StorageError as error:
            outcome = error.lines()[-1]
            session.show_plan(only_stated=True)
            session.fail(error)
        except click.exceptions.Exit as done:
            succeeded = done.exit_code == 0
            outcome = "failed"
        finally:
            seconds = time.monotonic() - before
            if self.changes and not session.dry_run and "--help" not in named:
                from storagectl.commands.journal import record

                assert self.name is not None
                what = "succeeded" if succeeded else outcome
                record(
                    self.name,
                    named,
                    options=settings.whose,
                    pools=session.touched,
                    outcome=what,
                    seconds=seconds,
                )
            session.finish(seconds, succeeded=succeeded)
            sys.stdout.flush()  # a later command must not run where nobody reads any more
        return succeeded

    def lacks(self, option: str) -> str:
        """Return virsh's words for an option that the command has not."""
        return f"command '{self.name}' doesn't support option --{option}"

    def show_help(self) -> None:
        """Print what the command does, in virsh's layout."""
        from storagectl.commands.help import command_help

        output.write(command_help(self))

    def values(self, named: Sequence[str]) -> dict[str, Any]:
        """Return the value of every option, by the name that the function has for it.

        Raises: ClientError for a value that its option never takes.
        """
        by_option, values = self.own, self.unset.copy()
        for word in named:
            name, _, text = word[2:].partition("=")
            param = by_option.get(name)
            if param is None or not param.expose_value:
                assert name in (DRY_RUN, *COMMON)
                continue
            assert param.name is not None
            if isinstance(param, Flag):
                values[param.name] = True
                continue
            param.check(text)
            if param.multiple:
                values[param.name] += (text,)
            else:
                values[param.name] = int(text) if param.value_name == "number" else text
        return values

    def call(self, session: Session, values: dict[str, Any]) -> None:
        """Call the function; its errors get the command's first line."""
        assert self.callback is not None
        assert self.name is not None
        try:
            if session.dry_run and values.get("print_xml"):
                raise ClientError("Options --print-xml and --dry-run are mutually exclusive")
            if session.config.confirm and not session.dry_run:
                from storagectl.commands.confirm import confirm

                confirm(self.name, values)
            self.call_back(session, values)
        except StorageError as error:
            if error.action is None and self.failure:
                error.action = self.failure.format(**values)
            raise

    def call_back(self, session: Session, values: dict[str, Any]) -> None:
        """Call the function; an error of the system's that names a file is one of ours."""
        assert self.callback is not None
        try:
            self.callback(session, **values)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            raise SystemFailure(f"{error.strerror}: '{error.filename}'") from error


def command(
    name: str,
    summary: str,
    failure: str | None = None,
    *,
    connects: bool = True,
    lenient: bool = False,
    changes: bool = False,
) -> Callable[[Any], Any]:
    """Make a function a command; `failure` is the first line of its errors.

    One that is `lenient` passes over words that it does not know.  One that `changes`
    the machine can be asked what it would do.
    """

    def declare(function: Any) -> Command:
        made = click.command(name, cls=Command, help=summary, add_help_option=False)(function)
        made.failure = failure
        made.connects = connects
        made.lenient = lenient
        made.changes = changes
        if changes:
            made.params.append(Flag([f"--{DRY_RUN}"], help=DRY_RUN_HELP, expose_value=False))
        return made

    return declare
