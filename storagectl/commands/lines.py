"""Lines of stdin, of which no byte more is taken than asked for.

What follows is for whoever reads next: the shell, a command or a tool.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import cache

CHUNK = 512
# Source: linux/splice.h.
SPLICE_F_NONBLOCK = 2


def read_line(ends: bytes) -> bytes | None:
    """Return what stdin has up to one of these bytes, None at its end.

    What was printed is to be seen before this waits.
    """
    stdin = sys.stdin.fileno()
    mode = os.fstat(stdin).st_mode
    if stat.S_ISREG(mode):
        return read_line_of_file(stdin, ends)
    if stat.S_ISFIFO(mode):
        return read_line_of_pipe(stdin, ends)
    sys.stdout.flush()
    line = bytearray()
    while byte := os.read(stdin, 1):
        if byte in ends:
            return bytes(line)
        line += byte
    return bytes(line) or None


def read_line_of_file(fd: int, ends: bytes) -> bytes | None:
    """Return what a file has up to one of these bytes, None at its end; go on behind that byte."""
    start = os.lseek(fd, 0, os.SEEK_CUR)
    line = b""
    while chunk := os.pread(fd, CHUNK, start + len(line)):
        line += chunk
        length = length_of_line(line, ends)
        if length <= len(line):
            os.lseek(fd, start + length, os.SEEK_SET)
            return line[: length - 1]
    os.lseek(fd, start + len(line), os.SEEK_SET)
    return line or None


def read_line_of_pipe(fd: int, ends: bytes) -> bytes | None:
    """Return what comes through a pipe up to one of these bytes, None at its end."""
    line = b""
    while seen := look_ahead(fd):
        line += os.read(fd, min(length_of_line(seen, ends), len(seen)))
        if line[-1] in ends:
            return line[:-1]
    return line or None


def length_of_line(data: bytes, ends: bytes) -> int:
    """Return how long the first line of data is with its end, more than all where it has none."""
    places = [place for end in ends if (place := data.find(end)) >= 0]
    return min(places, default=len(data)) + 1


def look_ahead(pipe: int) -> bytes:
    """Return some of what comes next through a pipe, and leave it there; nothing at its end.

    Raises: OSError.  Source: tee(2).
    """
    from storagectl.host import libc

    reader, writer = mirror()
    tee = libc.function("tee")
    flags = SPLICE_F_NONBLOCK
    while (length := tee(pipe, writer, CHUNK, flags)) < 0:
        failure = libc.failure()
        if failure.errno == errno.EAGAIN and flags:
            flags = 0
            sys.stdout.flush()
        elif failure.errno != errno.EINTR:
            raise failure
    return os.read(reader, length) if length else b""


@cache
def mirror() -> tuple[int, int]:
    """Return the two ends of a pipe that what is looked at is copied to."""
    return os.pipe()
