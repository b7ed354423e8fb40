"""The program: run the command line and end with virsh's exit status."""

from __future__ import annotations

import sys
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130

# What click imports for the sake of its own help: with what it imports in turn, a
# quarter of click's start-up time.
SELDOM_NEEDED = ("inspect",)


class Deferred(ModuleType):
    """A module whose code runs when something of it is first used.

    importlib.util.LazyLoader would load it at the next `import` statement already
    (Python 3.11: that asks for __spec__).
    """

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        return getattr(import_module(name), attribute)


def main() -> None:
    """Run one command and exit."""
    read_names_as_utf8()
    fill_closed_streams()
    for name in SELDOM_NEEDED:
        sys.modules.setdefault(name, Deferred(name))
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def run(args: list[str]) -> int:
    """Run the command line and return the exit status."""
    import signal

    if args[:1] == ["--complete"]:
        from storagectl.completing import offer

        offer(args[1:])
        return 0
    from storagectl.commands import cli, report
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
        report(error)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        close_quietly()
        return 128 + signal.SIGPIPE
    except OSError as error:
        close_quietly()
        named = f": '{error.filename}'" if error.filename else ""
        sys.stderr.write(f"error: {error.strerror}{named}\n")
        return EXIT_FAILURE
    return status


def read_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding for files.

    Definitions are UTF-8, and names in them are those of files, byte for byte.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        import os

        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def fill_closed_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: no file of ours may take its place."""
    import os

    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def end(signum: int, frame: object) -> None:
    """Leave on a signal by way of every clean-up."""
    raise SystemExit(128 + signum)


def close_quietly() -> None:
    """Keep Python from flushing to a stdout that is gone."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    main()
