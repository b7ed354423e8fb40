"""The command line: every command's name and summary, and virsh's way of reading arguments.

The table names the module of each command, so that only the one that runs is
imported.  On top of click this adds what virsh has and click has not: any option
that takes a value may also be given by its position.
"""

from __future__ import annotations

import sys
import time
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from storagectl.commands import output
from storagectl.errors import ClientError, Mistyped, StorageError, SystemFailure, UsageError
from storagectl.record import Row
from storagectl.units import COMMAND_LIMIT, LONGEST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from storagectl.commands.session import Session, Settings


class CommandInfo(Row):
    """Where a command lives, and its one-line summary."""

    module: str
    summary: str


COMMANDS = {
    "apply": CommandInfo("apply", "make pools and volumes what files say"),
    "autostart": CommandInfo(
        "pool_life", "start every inactive pool that is marked as autostarted"
    ),
    "cd": CommandInfo("builtin", "change the current directory"),
    "connect": CommandInfo("builtin", "(re)connect to hypervisor"),
    "doctor": CommandInfo("doctor", "tell why pools do not start, and what mends it"),
    "echo": CommandInfo("builtin", "echo arguments. Used for internal testing."),
    "exit": CommandInfo("builtin", "quit this interactive terminal"),
    "find-storage-pool-sources": CommandInfo(
        "pool_sources", "discover potential storage pool sources"
    ),
    "find-storage-pool-sources-as": CommandInfo(
        "pool_sources", "find potential storage pool sources"
    ),
    "help": CommandInfo("help", "print help"),
    "import": CommandInfo("pool_import", "take over the definitions of libvirt's pools"),
    "pool-autostart": CommandInfo("pool_life", "autostart a pool"),
    "pool-build": CommandInfo("pool_life", "build a pool"),
    "pool-capabilities": CommandInfo("pool_show", "storage pool capabilities"),
    "pool-create": CommandInfo("pool_define", "create a pool from an XML file"),
    "pool-create-as": CommandInfo("pool_define", "create a pool from a set of args"),
    "pool-define": CommandInfo(
        "pool_define",
        "define an inactive persistent storage pool or modify an existing persistent one from"
        " an XML file",
    ),
    "pool-define-as": CommandInfo("pool_define", "define a pool from a set of args"),
    "pool-delete": CommandInfo("pool_life", "delete a pool"),
    "pool-destroy": CommandInfo("pool_life", "destroy (stop) a pool"),
    "pool-dumpxml": CommandInfo("pool_show", "pool information in XML"),
    "pool-edit": CommandInfo("pool_define", "edit XML configuration for a storage pool"),
    "pool-event": CommandInfo("pool_event", "Storage Pool Events"),
    "pool-exists": CommandInfo("pool_show", "tell by the exit status whether there is a pool"),
    "pool-info": CommandInfo("pool_show", "storage pool information"),
    "pool-list": CommandInfo("pool_show", "list pools"),
    "pool-name": CommandInfo("pool_show", "convert a pool UUID to pool name"),
    "pool-refresh": CommandInfo("pool_life", "refresh a pool"),
    "pool-start": CommandInfo("pool_life", "start a (previously defined) inactive pool"),
    "pool-stop": CommandInfo("pool_life", "stop a pool; its data stays"),
    "pool-undefine": CommandInfo("pool_life", "undefine an inactive pool"),
    "pool-uuid": CommandInfo("pool_show", "convert a pool name to pool UUID"),
    "pool-used-by": CommandInfo("used_by", "list what uses a pool"),
    "pwd": CommandInfo("builtin", "print the current directory"),
    "quit": CommandInfo("builtin", "quit this interactive terminal"),
    "secret-define": CommandInfo("secret", "define or modify a secret from an XML file"),
    "secret-dumpxml": CommandInfo("secret", "secret attributes in XML"),
    "secret-get-value": CommandInfo("secret", "Output a secret value"),
    "secret-list": CommandInfo("secret", "list secrets"),
    "secret-set-value": CommandInfo("secret", "set a secret value"),
    "secret-undefine": CommandInfo("secret", "undefine a secret"),
    "status": CommandInfo("status", "show all pools on one screen"),
    "uri": CommandInfo("builtin", "print the hypervisor canonical URI"),
    "vol-clone": CommandInfo("vol_create", "clone a volume."),
    "vol-create": CommandInfo("vol_create", "create a vol from an XML file"),
    "vol-create-as": CommandInfo("vol_create", "create a volume from a set of args"),
    "vol-create-from": CommandInfo("vol_create", "create a vol, using another volume as input"),
    "vol-delete": CommandInfo("vol_change", "delete a vol"),
    "vol-download": CommandInfo("vol_change", "download volume contents to a file"),
    "vol-dumpxml": CommandInfo("vol_show", "vol information in XML"),
    "vol-exists": CommandInfo("vol_show", "tell by the exit status whether there is a vol"),
    "vol-info": CommandInfo("vol_show", "storage vol information"),
    "vol-key": CommandInfo("vol_show", "returns the volume key for a given volume name or path"),
    "vol-list": CommandInfo("vol_show", "list vols"),
    "vol-name": CommandInfo("vol_show", "returns the volume name for a given volume key or path"),
    "vol-path": CommandInfo("vol_show", "returns the volume path for a given volume name or key"),
    "vol-pool": CommandInfo("vol_show", "returns the storage pool for a given volume key or path"),
    "vol-rename": CommandInfo("vol_change", "rename a vol"),
    "vol-resize": CommandInfo("vol_change", "resize a vol"),
    "vol-upload": CommandInfo("vol_change", "upload file contents to a volume"),
    "vol-used-by": CommandInfo("used_by", "list what uses a vol"),
    "vol-wipe": CommandInfo("vol_change", "wipe a vol"),
}


# What every command takes that changes something.
DRY_RUN = "dry-run"
DRY_RUN_HELP = "print what would be done, as a bash script; change nothing"

# a function of Python's cannot have this name
FUNCTIONS = {"import": "import_"}


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


def is_alphanumeric(text: str) -> bool:
    """Tell whether a text is of ASCII letters and digits."""
    return text.isascii() and text.isalnum()


def option_name(param: click.Parameter) -> str:
    """Return `source-dev` for the option --source-dev."""
    return param.opts[0].removeprefix("--")


def flag(name: str, summary: str) -> Callable[[Any], Any]:
    """Declare an option without a value."""
    return click.option(f"--{name}", cls=Flag, help=summary)


def value(
    name: str,
    summary: str,
    *,
    required: bool = False,
    number: bool = False,
    wraps: bool = False,
    named_only: bool = False,
    multiple: bool = False,
    rest: bool = False,
    empty: bool = False,
    otherwise: str | None = None,
) -> Callable[[Any], Any]:
    """Declare an option with a value, which may be given by position as well.

    A number that `wraps` may be negative, as virsh's --length -1 for all.  One that takes
    the `rest` has all words that no other option takes.  `empty` lets it be empty.
    `otherwise` is the number that it has when it is given without one.
    """
    return click.option(
        f"--{name}",
        cls=Value,
        help=summary,
        required=required,
        type=int if number else str,
        number=number,
        wraps=wraps,
        named_only=named_only,
        multiple=multiple,
        rest=rest,
        empty=empty,
        otherwise=otherwise,
    )


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
                self.check_values(named)
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
        """Return the value of every option, by the name that the function has for it."""
        by_option, values = self.own, dict(self.unset)
        for word in named:
            name, _, text = word.removeprefix("--").partition("=")
            param = by_option.get(name)
            if param is None or not param.expose_value:
                assert name in (DRY_RUN, *COMMON)
                continue
            assert param.name is not None
            if isinstance(param, Flag):
                values[param.name] = True
            elif param.multiple:
                values[param.name] += (text,)
            else:
                number = isinstance(param, Value) and param.value_name == "number"
                values[param.name] = int(text) if number else text
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
            with click.Context(self, obj=session):
                self.call_back(values)
        except StorageError as error:
            if error.action is None and self.failure:
                error.action = self.failure.format(**values)
            raise

    def call_back(self, values: dict[str, Any]) -> None:
        """Call the function; an error of the system's that names a file is one of ours."""
        assert self.callback is not None
        try:
            self.callback(**values)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            raise SystemFailure(f"{error.strerror}: '{error.filename}'") from error

    def check_values(self, named: Sequence[str]) -> None:
        """Raise ClientError for a value that its option never takes."""
        for word in named:
            name, equals, text = word.removeprefix("--").partition("=")
            if equals:
                option = self.own[name]
                assert isinstance(option, Value)
                option.check(text)

    def named(self, args: Iterable[str]) -> list[str]:
        """Return the arguments with every value named (`--pool=d1`); one may be `--help`.

        No word is taken from `args` before those in front of it have been understood.

        Raises: UsageError in virsh's words.
        Source: libvirt 9.0.0 vshCommandParse and vshCmddefGetOption in tools/vsh.c.
        """
        options = self.options
        given: list[str] = []
        seen: set[str] = set()
        rest = Words(args)
        only_data = False
        for word in rest:
            if word == "--" and not only_data:
                only_data = True
                continue
            if only_data or not (word.startswith("--") and is_alphanumeric(word[2:3])):
                name = next((n for n, p in self.by_place if n not in seen or p.rest), None)
                if name is None and self.lenient:
                    continue
                if name is None:
                    raise UsageError(f"unexpected data '{word}'")
                given.append(f"--{name}={word}")
                seen.add(name)
                continue
            name, equals, data = word[2:].partition("=")
            option = options.get(name)
            if option is None and self.lenient:
                continue
            if option is None:
                raise UsageError(
                    self.lacks(name),
                    mistyped=Mistyped(f"--{name}", lambda: [f"--{known}" for known in options]),
                )
            if name in seen and not option.multiple and name != "help":
                raise UsageError(f"option --{name} already seen")
            seen.add(name)
            if isinstance(option, Flag):
                if equals:
                    raise UsageError(f"invalid '=' after option --{name}")
                given.append(word)
            else:
                if not equals and option.otherwise is not None:
                    data = next(rest, option.otherwise)
                    if not is_number(data, signed=False):
                        rest.put_back(data)
                        data = option.otherwise
                elif not equals:
                    following = next(rest, None)
                    if following is None:
                        raise UsageError(f"expected syntax: --{name} <{option.value_name}>")
                    data = following
                given.append(f"--{name}={data}")
        if "help" in seen:
            return given
        missing = [name for name in self.required if name not in seen]
        if missing:
            raise UsageError(
                *(f"command '{self.name}' requires <{name}> option" for name in missing)
            )
        return given


class Call(Row):
    """A command and what it was given, all options named."""

    command: Command
    named: list[str]

    def run(self, settings: Settings) -> bool:
        return self.command.run(settings, self.named)


@cache
def find(name: str) -> Command | None:
    """Return a command by its name, imported now; None where there is none."""
    info = COMMANDS.get(name)
    if info is None:
        return None
    module = import_module(f"storagectl.commands.{info.module}")
    found: Command = getattr(module, FUNCTIONS.get(name, name.replace("-", "_")))
    return found


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


def report(error: StorageError) -> None:
    """Print an error as virsh does; on a terminal also what would help."""
    sys.stdout.flush()
    for line in error.lines():
        output.error(line)
    if (error.hint or error.mistyped) and output.shows_hints():
        from storagectl.commands.hints import hint_of

        hint = hint_of(error)
        if hint:
            output.put(sys.stderr, f"hint: {hint}\n")
