"""The program: run the command line and end with virsh's exit status."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130

# What click imports for its own help and messages, which nobody sees, and uuid, which it
# imports, to know the system: with what they import in turn, a third of click's start-up time.
# With each what is known of it without loading it.
SELDOM_NEEDED: dict[str, dict[str, Callable[..., object]]] = {
    "gettext": {
        "gettext": lambda words: words,
        "ngettext": lambda one, several, number: one if number == 1 else several,
    },
    "inspect": {},
    "platform": {"system": lambda: os.uname().sysname},
}

# How many more objects than before make Python look for unreachable cycles (by default 700):
# what a command makes lives until it ends, or goes without that.
CYCLES_AFTER = 50_000


class Deferred(ModuleType):
    """A module whose code runs when something of it is first used, but for what is `known`.

    importlib.util.LazyLoader would load it at the next `import` statement already
    (Python 3.11: that asks for __spec__).
    """

    def __init__(self, name: str, known: Mapping[str, object]) -> None:
        super().__init__(name)
        self.__dict__.update(known)

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        return getattr(import_module(name), attribute)


def main() -> None:
    """Run one command and exit."""
    gc.set_threshold(CYCLES_AFTER)
    read_names_as_utf8()
    fill_closed_streams()
    for name, known in SELDOM_NEEDED.items():
        sys.modules.setdefault(name, Deferred(name, known))
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except SystemExit as left:
        if not isinstance(left.code, int):
            raise
        status = left.code
    leave(status)


def leave(status: int) -> NoReturn:
    """Exit after what Python has to do at its end, but for taking each module and object apart.

    That takes a tenth of the time of a short command, and the kernel does it anyway.
    """
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


def run(args: list[str]) -> int:
    """Run the command line and return the exit status."""
    import signal

    if args[:1] == ["--complete"]:
        from storagectl.completing import offer

        offer(args[1:])
        return 0
    from storagectl.commands import cli, output
    from storagectl.errors import StorageError

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, TextIOWrapper)
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        status = cli.main(args)
        sys.stdout.flush()
    except StorageError as error:
        output.report(error)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        close_quietly()
        return 128 + signal.SIGPIPE
    except OSError as error:
        close_quietly()
        named = f": '{error.filename}'" if error.filename else ""
        output.put(sys.stderr, f"error: {error.strerror}{named}\n")
        return EXIT_FAILURE
    return status


def read_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding for files.

    Definitions are UTF-8, and names in them are those of files, byte for byte.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def fill_closed_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: no file of ours may take its place.

    Lines that nobody reads are lost, as virsh's are.  Data of a volume is not: from what was stdin
    nothing can be read, to what was stdout nothing written.
    """
    for stream, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, flags)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def end(signum: int, frame: object) -> None:
    """Leave on a signal by way of every clean-up."""
    raise SystemExit(128 + signum)


def close_quietly() -> None:
    """Keep Python from flushing to a stdout that is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    main()
