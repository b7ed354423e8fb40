"""The program's own options, read as getopt_long reads them: in order, up to the command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.errors import ClientError, Mistyped, UsageError
from storagectl.record import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.commands.session import Settings

LEAST_INT, MOST_INT = -(1 << 31), (1 << 31) - 1
MOST_DEBUG = 4
HISTORY_SIZE, MOST_HISTORY = 500, 500_000
NO_MEANING = " (accepted for virsh's sake: no meaning here)"


class ProgramOption(Row):
    """An option before the command.  One with `=` in `value` takes it in the same word only."""

    short: str
    long: str
    value: str
    help: str

    def label(self) -> str:
        """Return the option as virsh's help shows it."""
        if not self.short:
            return f"     --{self.long}{self.value}"
        if not self.long:
            return f"-{self.short}"
        separator = " " if self.value.startswith("<") else "=" if self.value else ""
        return f"-{self.short} | --{self.long}{separator}{self.value}"


OPTIONS = (
    ProgramOption("c", "connect", "URI", "hypervisor connection URI"),
    ProgramOption("d", "debug", "NUM", "debug level [0-4]" + NO_MEANING),
    ProgramOption("", "dry-run", "", "print what would be done, as a bash script; change nothing"),
    ProgramOption("e", "escape", "<char>", "set escape sequence for console" + NO_MEANING),
    ProgramOption("h", "help", "", "this help"),
    ProgramOption("", "json", "", "print JSON, a document for each command"),
    ProgramOption(
        "k", "keepalive-interval", "NUM",
        "keepalive interval in seconds, 0 for disable" + NO_MEANING,
    ),
    ProgramOption(
        "K", "keepalive-count", "NUM",
        "number of possible missed keepalive messages" + NO_MEANING,
    ),
    ProgramOption("l", "log", "FILE", "output logging to file"),
    ProgramOption("", "no-pkttyagent", "", "suppress registration of pkttyagent" + NO_MEANING),
    ProgramOption("q", "quiet", "", "quiet mode"),
    ProgramOption("r", "readonly", "", "connect readonly"),
    ProgramOption("", "root", "=DIR", "definitions and state below DIR, not in /etc and /run"),
    ProgramOption("t", "timing", "", "print timing information"),
    ProgramOption("", "verbose", "", "show each command of the host's on stderr before it runs"),
    ProgramOption("v", "", "", "short version"),
    ProgramOption("V", "", "", "long version"),
    ProgramOption("", "version", "[=TYPE]", "version, TYPE is short or long (default short)"),
)  # fmt: skip
OWN = ("root", "json", "dry-run", "verbose")


class Given(Row):
    """An option as it was given: `-k` or `--keepalive-interval`, and its value."""

    option: ProgramOption
    name: str
    value: str


def read_options(args: list[str]) -> Iterator[Given | list[str]]:
    """Yield each option, then the words from the command on.

    Raises: UsageError where the reading comes to what is no option.
    Source: getopt_long(3) with `+` and `:`, and the words of virsh 9.0.0.
    """
    left = list(args)
    while left and left[0].startswith("-") and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            option = by_long_name(name)
            if option is None:
                raise UsageError(
                    f"unsupported option '{word}'. See --help.",
                    mistyped=Mistyped(
                        f"--{name}", lambda: [f"--{row.long}" for row in OPTIONS if row.long]
                    ),
                )
            if equals and not option.value:
                raise UsageError(f"unsupported option '-{option.short}'. See --help.")
            if not equals and option.value and option.value[0] != "[":
                value = taken(left, option)
            yield Given(option, f"--{option.long}", value)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            option = next((row for row in OPTIONS if row.short == letter), None)
            if option is None:
                raise UsageError(f"unsupported option '-{letter}'. See --help.")
            value = ""
            if option.value:
                value, letters = letters or taken(left, option), ""
            yield Given(option, f"-{letter}", value)
    yield left


def by_long_name(name: str) -> ProgramOption | None:
    """Return the option of that name, or the only one of virsh's that begins with it."""
    for row in OPTIONS:
        if row.long == name:
            return row
    found = [row for row in OPTIONS if row.long.startswith(name) and row.long not in OWN]
    return found[0] if len(found) == 1 and name else None


def taken(left: list[str], option: ProgramOption) -> str:
    """Take the value of an option from the words behind it."""
    if not left:
        short = f"'-{option.short}'/" if option.short else ""
        raise UsageError(f"option {short}'--{option.long}' requires an argument")
    return left.pop(0)


def apply(settings: Settings, args: list[str]) -> list[str] | None:
    """Do what the options say, in their order.

    Returns: the words from the command on; None where an option has answered already.
    """
    settings.root = os.environ.get("STORAGECTL_ROOT") or None
    settings.json = json_is_default()
    debug = MOST_DEBUG
    check_debug_variable()
    if os.environ.get("VIRSH_LOG_FILE"):
        output.open_log(os.environ["VIRSH_LOG_FILE"])
    for given in read_options(args):
        if isinstance(given, list):
            if debug == MOST_DEBUG:
                check_debug_variable()
            return given
        option, name, value = given
        match option.long or option.short:
            case "connect":
                settings.uri = value
            case "debug":
                level = number(value, 10, f"option {name} takes a numeric argument")
                if 0 <= level <= MOST_DEBUG:
                    debug = level
                else:
                    output.error(f"ignoring debug level {level} out of range [0-{MOST_DEBUG}]")
            case "escape":
                require_escape(value)
            case "keepalive-interval" | "keepalive-count":
                if number(value, 0, f"Invalid value for option {name}") < 0:
                    raise UsageError(f"option {name} requires a positive integer argument")
            case "log":
                output.open_log(value)
            case "quiet":
                settings.quiet = True
            case "readonly":
                settings.readonly = True
            case "timing":
                settings.timing = True
            case "json":
                settings.json = True
            case "no-pkttyagent":
                pass
            case "root":
                settings.root = value
            case "dry-run":
                settings.dry_run = True
            case "verbose":
                settings.verbose = True
            case "help":
                from storagectl.commands.help import program_help

                answer(settings, program_help())
                return None
            case _:
                answer(settings, version_text(long=name == "-V" or value == "long"))
                return None
    raise AssertionError


def check_debug_variable() -> None:
    """Report a VIRSH_DEBUG that is no level; virsh does so before the options and after them."""
    refusal = "VIRSH_DEBUG not set with a valid numeric value"
    text = os.environ.get("VIRSH_DEBUG")
    try:
        known = text is None or 0 <= number(text, 10, refusal) <= MOST_DEBUG
    except UsageError:
        known = False
    if not known:
        output.error(refusal)


def history_size() -> int:
    """Return how many lines the shell remembers.  Raises: ClientError in virsh's words."""
    refusal = "Bad $VIRSH_HISTSIZE value."
    found = number(os.environ.get("VIRSH_HISTSIZE", str(HISTORY_SIZE)), 10, refusal)
    if not 0 <= found <= MOST_HISTORY:
        raise ClientError(f"$VIRSH_HISTSIZE value should be between 0 and {MOST_HISTORY}")
    return found


def number(text: str, base: int, refusal: str) -> int:
    """Return what strtol reads.  Raises: UsageError where it reads no int, or not all."""
    digits = text.lstrip(" \t\n\v\f\r")
    octal = base == 0 and digits.lstrip("+-").isdecimal() and digits.lstrip("+-").startswith("0")
    try:
        if digits[-1:].isspace() or "_" in digits or not digits.isascii():
            raise ValueError
        found = int(digits, 8 if octal else base)
    except ValueError:
        raise UsageError(refusal) from None
    if not LEAST_INT <= found <= MOST_INT:
        raise UsageError(refusal)
    return found


def require_escape(text: str) -> None:
    """Raise UsageError for what is neither one character nor ^ and a letter or one of @[\\]^_."""
    one = len(text) == 1 and text != "^" and text.isascii()
    control = len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_"
    if not one and not control:
        raise UsageError(f"Invalid string '{text}' for escape sequence")


def json_is_default() -> bool:
    """Tell whether STORAGECTL_OUTPUT asks for JSON.  Raises: UsageError for what it can't be."""
    asked = os.environ.get("STORAGECTL_OUTPUT", "")
    if asked not in ("", "text", "json"):
        raise UsageError(f"STORAGECTL_OUTPUT is neither text nor json: '{asked}'")
    return asked == "json"


def answer(settings: Settings, text: str) -> None:
    """Print a text that answers an option."""
    if settings.json:
        from storagectl.commands import document

        document.answer(text)
    else:
        output.write(text)


def version_text(*, long: bool) -> str:
    """Return the version; the long form tells which pools are served."""
    from storagectl import __version__
    from storagectl.pooltypes import POOL_TYPES

    if not long:
        return __version__ + "\n"
    served = " ".join(row.name for row in POOL_TYPES.values() if row.module)
    return (
        f"Storagectl command line tool {__version__}\n\nServes without a daemon:\n"
        f" Storage: {served}\n"
        " Connections: storage:///system storage:///session\n"
    )
