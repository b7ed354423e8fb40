"""What every command works with: the machine, the pools, and how much to say."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.commands.connection import effective, serves_system
from storagectl.errors import ClientError, StorageError
from storagectl.host import Host
from storagectl.pools import Pools
from storagectl.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.volumes import Volumes


class Settings:
    """How the program was called.  In the shell, `connect` and `quit` change it."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.uri: str | None = None
        self.readonly = False
        self.quiet = False
        self.timing = False
        self.interactive = False
        self.ended = False

    @property
    def connected_to(self) -> str:
        return effective(self.uri)


class Session:
    """One run of one command; the next one looks at the machine anew."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.quiet = settings.quiet
        self.has_data_on_stdout = False

    def connect(self) -> None:
        """Find the folders of the pools.  Raises: StorageError for a URI that is not served."""
        settings = self.settings
        self.system = serves_system(settings.connected_to)
        self.host = Host()
        store = Store(self.host, settings.root, system=self.system, readonly=settings.readonly)
        self.pools = Pools(store, self.host)

    @cached_property
    def volumes(self) -> Volumes:
        from storagectl.volumes import Volumes

        return Volumes(self.pools)

    def say(self, words: str) -> None:
        """Print a line that --quiet leaves out."""
        if not self.quiet:
            output.write(words + "\n")

    @contextlib.contextmanager
    def doing(self, action: str) -> Iterator[None]:
        """Name what the block tries, for the first line of its errors."""
        try:
            yield
        except StorageError as error:
            if error.action is None:
                error.action = action
            raise

    def finish(self, seconds: float) -> None:
        """End a command's output as virsh does, with an empty line or the time it took."""
        if self.has_data_on_stdout:
            return
        if self.settings.timing:
            output.write(f"\n(Time: {output.decimal(seconds * 1000, 3)} ms)\n\n")
        else:
            self.say("")


def read_line(ends: bytes) -> bytes | None:
    """Return what stdin has up to one of these bytes, None at its end.

    Byte by byte: what follows is for whoever reads next, the shell, a command or a tool.
    """
    line = bytearray()
    stdin = sys.stdin.fileno()
    while byte := os.read(stdin, 1):
        if byte in ends:
            return bytes(line)
        line += byte
    return bytes(line) or None


MAX_FILE = 10 << 20


def read_file(path: str) -> bytes:
    """Return the content of a file that the user named.  Raises: ClientError."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        verb = "read" if isinstance(error, IsADirectoryError) else "open"
        raise ClientError(f"Failed to {verb} file '{path}': {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ClientError(f"Failed to open file '{path}': Value too large for defined data type")
    return data


def exclusive(**chosen: bool) -> None:
    """Refuse options that exclude each other, named as keywords."""
    given = [name.replace("_", "-") for name, value in chosen.items() if value]
    if len(given) > 1:
        raise ClientError(f"Options --{given[0]} and --{given[1]} are mutually exclusive")
