"""What a child prints while it runs, in bounded memory and time.

Who only reads definitions does not import this.
"""

from __future__ import annotations

import os
import selectors
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

CHUNK = 1 << 16
MOST_OUTPUT = 32 << 20  # bytes; lvs prints some 400 for a volume
KEPT_ERRORS = 64 << 10  # bytes: half from the beginning, half from the end
# How long what a child has left running, such as a daemon, may still print in its name.
LINGER_S = 1.0
TICK_S = 0.5


class TooMuch(Exception):
    """A child has printed more than any tool has to say."""


class Ends:
    """The first and the last bytes of a stream."""

    def __init__(self) -> None:
        self.first, self.last = bytearray(), bytearray()
        self.lost = False

    def add(self, chunk: bytes) -> None:
        half = KEPT_ERRORS // 2
        room = half - len(self.first)
        self.first += chunk[:room]
        self.last += chunk[room:]
        self.lost = self.lost or len(self.last) > half
        del self.last[:-half]

    def text(self) -> str:
        return decoded(self.first + (b"\n...\n" if self.lost else b"") + self.last)


def gather(process: subprocess.Popen[bytes], limit_s: float | None) -> tuple[str, str]:
    """Return a child's stdout and stderr once it has ended; both streams are closed then.

    Raises: TooMuch; TimeoutError when it has not ended within `limit_s`.
    """
    deadline = None if limit_s is None else time.monotonic() + limit_s
    output, errors = bytearray(), Ends()
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        lingering: float | None = None
        while selector.get_map():
            now = time.monotonic()
            if lingering is None and process.poll() is not None:
                lingering = now + LINGER_S
            until = min((moment for moment in (deadline, lingering) if moment), default=now + 1)
            if until <= now:
                break
            for key, _ in selector.select(min(TICK_S, until - now)):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    errors.add(chunk)
                else:
                    output += chunk
                if len(output) > MOST_OUTPUT:
                    raise TooMuch
    if lingering is None and not ended(process, deadline):
        raise TimeoutError
    close(streams)
    return decoded(output), errors.text()


def ended(process: subprocess.Popen[bytes], deadline: float | None) -> bool:
    """Wait until a child that prints no more has ended.  Returns: whether it has in time."""
    import subprocess

    try:
        process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def close(streams: list[IO[bytes]]) -> None:
    for stream in streams:
        stream.close()


def decoded(data: bytes | bytearray) -> str:
    """Return output as text; stray bytes are surrogates, and line ends are those of Unix."""
    text = data.decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
