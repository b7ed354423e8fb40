"""Moving the data of volumes between descriptors, as fast as cp and as sparse as the source.

Everything works in steps of at most STEP bytes, so that Ctrl-C is heard and a meter moves.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from storagectl.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from hashlib import _Hash

STEP = 16 << 20
BUFFER = 1 << 20
PAGE = 4096
ZEROS = bytes(BUFFER)
FICLONE = 0x40049409  # Source: linux/fs.h
KEEP_SIZE, PUNCH_HOLE = 1, 2  # Source: linux/falloc.h
NOT_HERE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EBADF, errno.EPERM}
)


class Meter:
    """What is told how far a move of data has come.  `total` is None where nobody knows.

    `visible` says that somebody sees it, so that tools should tell theirs.
    """

    visible = False
    total: int | None = None
    done = 0

    def begin(self, total: int | None) -> None:
        """A move of that many bytes begins."""
        self.total = total
        self.done = 0

    def advance(self, count: int) -> None:
        """That many more bytes are where they belong, holes counted."""
        self.done += count

    def end(self) -> None:
        """Nothing more is moved."""


class Mover:
    """Moves data; `meter` is told of it, and `digest`, if given, sums up all that was read.

    `verified` says that what was written read back as the same.
    Offsets and lengths are bytes.  Raises: OSError, also where the source ends too early.
    """

    def __init__(self, meter: Meter | None = None, digest: _Hash | None = None) -> None:
        self.meter = meter or Meter()
        self.digest = digest
        self.verified = False

    def copy(
        self, source: int, target: int, source_offset: int, target_offset: int, length: int
    ) -> None:
        """Copy every byte of a range, inside the kernel where it can and nothing is summed."""
        in_kernel = self.digest is None
        while length > 0:
            if in_kernel:
                done = where_it_can(
                    os.copy_file_range,
                    source, target, min(length, STEP), source_offset, target_offset,
                )  # fmt: skip
                in_kernel = done > 0
                self.meter.advance(done)
            else:
                block = read(source, min(length, BUFFER), source_offset)
                write_all(target, block, target_offset)
                done = len(block)
                self._moved(block)
            start_writing(target, target_offset, done)
            source_offset += done
            target_offset += done
            length -= done

    def copy_data(
        self, source: int, target: int, source_offset: int, target_offset: int, length: int
    ) -> None:
        """Copy a range but for the holes of the source: the target reads as zeros already."""
        for start, stop in self._data(source, source_offset, length):
            self.copy(source, target, start, target_offset + start - source_offset, stop - start)

    def copy_nonzero(
        self, source: int, target: int, source_offset: int, target_offset: int, length: int
    ) -> None:
        """Copy a range but for its zeros, page by page: the target reads as zeros already."""
        for start, stop in self._data(source, source_offset, length):
            while start < stop:
                block = read(source, min(BUFFER, stop - start), start)
                if block != ZEROS[: len(block)]:
                    write_nonzero(target, block, target_offset + start - source_offset)
                    start_writing(target, target_offset + start - source_offset, len(block))
                self._moved(block)
                start += len(block)

    def copy_with_holes(
        self, source: int, target: int, source_offset: int, target_offset: int, length: int
    ) -> None:
        """Copy a range and make the target read as zeros where the source has holes."""
        position = source_offset
        end = source_offset + length
        for start, stop in (*data_ranges(source, source_offset, end), (end, end)):
            punch(target, target_offset + position - source_offset, start - position)
            self._skip(start - position)
            self.copy(source, target, start, target_offset + start - source_offset, stop - start)
            position = stop
        require_size(source, end)

    def _data(self, source: int, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a range that hold data; the holes between count as moved."""
        position = offset
        for start, stop in data_ranges(source, offset, offset + length):
            self._skip(start - position)
            yield start, stop
            position = stop
        if length:
            require_size(source, offset + length)
        self._skip(offset + length - position)

    def stream_in(self, source: int, target: int, room: int, offset: int, *, whole: bool) -> None:
        """Copy what a pipe gives, up to `room` bytes; with `whole` more than that is an error.

        Raises: InvalidArgument, OSError.
        """
        end = offset + room
        while offset < end:
            block = os.read(source, min(BUFFER, end - offset))
            if not block:
                return
            write_all(target, block, offset)
            start_writing(target, offset, len(block))
            offset += len(block)
            self._moved(block)
        if whole and os.read(source, 1):
            raise InvalidArgument(f"there is more data than the {max(room, 0)} bytes that fit")

    def stream_out(self, source: int, target: int, offset: int, length: int) -> None:
        """Copy a range to a pipe or device, or to where a file is open, in order."""
        in_kernel = self.digest is None
        end = offset + length
        while offset < end:
            if in_kernel:
                done = where_it_can(os.sendfile, target, source, offset, min(end - offset, BUFFER))
                in_kernel = done > 0
                self.meter.advance(done)
                offset += done
                continue
            block = read(source, min(BUFFER, end - offset), offset)
            view = memoryview(block)
            while view:
                view = view[os.write(target, view) :]
            offset += len(block)
            self._moved(block)

    def zero(self, fd: int, offset: int, length: int) -> None:
        """Write zeros over a range and make them last."""
        while length > 0:
            done = min(length, BUFFER)
            write_all(fd, ZEROS[:done], offset)
            start_writing(fd, offset, done)
            offset += done
            length -= done
            self.meter.advance(done)
        os.fdatasync(fd)

    def clear(self, fd: int, offset: int, length: int) -> None:
        """Make a range read as zeros, without blocks of its own where the file can do so."""
        punch(fd, offset, length)

    def read(self, fd: int, offset: int, length: int) -> None:
        """Read a range, only to sum it up."""
        for start, stop in self._data(fd, offset, length):
            while start < stop:
                block = read(fd, min(BUFFER, stop - start), start)
                self._moved(block)
                start += len(block)

    def verify(self, fd: int, offset: int, length: int) -> None:
        """Read back what was moved, from the device.  Raises: OSError where it is not the same."""
        assert self.digest is not None
        import hashlib

        os.fsync(fd)
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)
        reader = Mover(digest=hashlib.new(self.digest.name))
        assert reader.digest is not None
        reader.read(fd, offset, length)
        if reader.digest.digest() != self.digest.digest():
            raise OSError(errno.EIO, "what was written reads back differently")
        self.verified = True

    def _moved(self, block: bytes) -> None:
        self.meter.advance(len(block))
        if self.digest is not None:
            self.digest.update(block)

    def _skip(self, length: int) -> None:
        self.meter.advance(max(length, 0))
        while self.digest is not None and length > 0:
            self.digest.update(ZEROS[:length])
            length -= BUFFER


def where_it_can(call: Callable[..., int], *args: int) -> int:
    """Return what a system call returns, 0 where it does not work on these descriptors."""
    try:
        return call(*args)
    except OSError as error:
        if error.errno not in NOT_HERE:
            raise
        return 0


def read(fd: int, length: int, offset: int) -> bytes:
    """Read some of a range.  Raises: OSError at the end of the file."""
    block = os.pread(fd, length, offset)
    if not block:
        raise OSError(errno.EIO, "unexpected end of file")
    return block


def start_writing(fd: int, offset: int, length: int) -> None:
    """Have the device write what is new in a range, without waiting: fsync(2) then takes less.

    Source: Linux mm/fadvise.c, POSIX_FADV_DONTNEED, which keeps pages that are being written.
    """
    os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def require_size(fd: int, size: int) -> None:
    """Raise OSError for a file that has become shorter: its lost end looks like a hole."""
    if os.lseek(fd, 0, os.SEEK_END) < size:
        raise OSError(errno.EIO, "unexpected end of file")


def data_ranges(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of [start, end) that hold data, all of it where holes aren't known.

    Source: lseek(2), SEEK_DATA and SEEK_HOLE.
    """
    while start < end:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
            hole = os.lseek(fd, data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            yield start, end
            return
        if data >= end:
            return
        yield data, min(hole, end)
        start = hole


def write_nonzero(fd: int, block: bytes, offset: int) -> None:
    """Write the pages of a block that are not all zeros, neighbours in one go."""
    view = memoryview(block)
    zeros = ZEROS[:PAGE]
    begin = None
    for at in range(0, len(block), PAGE):
        page = view[at : at + PAGE]
        if page == zeros[: len(page)]:
            if begin is not None:
                write_all(fd, view[begin:at], offset + begin)
                begin = None
        elif begin is None:
            begin = at
    if begin is not None:
        write_all(fd, view[begin:], offset + begin)


def punch(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeros, giving its space back where the target can."""
    if length > 0 and not fallocate(fd, KEEP_SIZE | PUNCH_HOLE, offset, length):
        Mover().zero(fd, offset, length)


def fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    """Call fallocate(2); False where the file can't do that."""
    from storagectl.host import libc

    if libc.function("fallocate64")(fd, mode, libc.Long(offset), libc.Long(length)) == 0:
        return True
    failure = libc.failure()
    if failure.errno not in NOT_HERE:
        raise failure
    return False


def write_all(fd: int, block: bytes | memoryview, offset: int) -> None:
    """Write a whole block at an offset."""
    view = memoryview(block)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done


def complete(old: int, new: int, start: int) -> None:
    """Give a new file, which has `start` bytes, the size, the rest and the blocks of an old one."""
    size = os.fstat(old).st_size
    os.ftruncate(new, max(size, start))
    if size > start:
        if os.fstat(old).st_blocks * 512 >= size:
            allocate(new, 0, size)
        Mover().copy_data(old, new, start, start, size - start)


def allocate(fd: int, offset: int, length: int, *, keep_size: bool = False) -> None:
    """Reserve disk space for a range, keeping what is there.

    With `keep_size` a file is not made longer where its file system can do without.
    """
    while length > 0:
        done = min(length, STEP)
        if not (keep_size and fallocate(fd, KEEP_SIZE, offset, done)):
            os.posix_fallocate(fd, offset, done)
        offset += done
        length -= done


def reflink(source: int, target: int) -> None:
    """Make the target share all blocks of the source.  Raises: OSError where it can't.

    Source: ioctl_ficlone(2).
    """
    import fcntl

    fcntl.ioctl(target, FICLONE, source)
