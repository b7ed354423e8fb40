"""Moving the data of volumes between descriptors, as fast as cp and as sparse as the source.

Every function works in steps of at most STEP bytes, so that Ctrl-C is heard.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP = 64 << 20
BUFFER = 1 << 20
PAGE = 4096
ZEROS = bytes(BUFFER)
FICLONE = 0x40049409  # Source: linux/fs.h
NOT_HERE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EBADF, errno.EPERM}
)


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


def copy_data(
    source: int, target: int, source_offset: int, target_offset: int, length: int
) -> None:
    """Copy a range but for the holes of the source: the target reads as zeros already."""
    for start, stop in data_ranges(source, source_offset, source_offset + length):
        copy_range(source, target, start, target_offset + start - source_offset, stop - start)


def copy_nonzero(
    source: int, target: int, source_offset: int, target_offset: int, length: int
) -> None:
    """Copy a range but for its zeros, page by page: the target reads as zeros already."""
    for start, stop in data_ranges(source, source_offset, source_offset + length):
        while start < stop:
            block = os.pread(source, min(BUFFER, stop - start), start)
            if not block:
                raise OSError(errno.EIO, "unexpected end of file")
            if block != ZEROS[: len(block)]:
                write_nonzero(target, block, target_offset + start - source_offset)
            start += len(block)


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


def copy_with_holes(
    source: int, target: int, source_offset: int, target_offset: int, length: int
) -> None:
    """Copy a range and make the target read as zeros where the source has holes."""
    position = source_offset
    end = source_offset + length
    for start, stop in (*data_ranges(source, source_offset, end), (end, end)):
        punch(target, target_offset + position - source_offset, start - position)
        copy_range(source, target, start, target_offset + start - source_offset, stop - start)
        position = stop


def stream_in(source: int, target: int, room: int, offset: int, *, whole: bool) -> None:
    """Copy what a pipe gives, up to `room` bytes; with `whole` more than that is an error."""
    end = offset + room
    while offset < end:
        block = os.read(source, min(BUFFER, end - offset))
        if not block:
            return
        write_all(target, block, offset)
        offset += len(block)
    if whole and os.read(source, 1):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def stream_out(source: int, target: int, offset: int, length: int) -> None:
    """Copy a range to a pipe or device, in order."""
    end = offset + length
    while offset < end:
        view = memoryview(os.pread(source, min(BUFFER, end - offset), offset))
        if not view:
            raise OSError(errno.EIO, "unexpected end of file")
        offset += len(view)
        while view:
            view = view[os.write(target, view) :]


def punch(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeros, giving its space back where the target can.

    Source: fallocate(2), FALLOC_FL_KEEP_SIZE 0x01 and FALLOC_FL_PUNCH_HOLE 0x02.
    """
    import ctypes

    if length <= 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate64(fd, 0x03, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        code = ctypes.get_errno()
        if code not in NOT_HERE:
            raise OSError(code, os.strerror(code))
        zero(fd, offset, length)


def copy_range(
    source: int, target: int, source_offset: int, target_offset: int, length: int
) -> None:
    """Copy every byte of a range, inside the kernel where it can."""
    in_kernel = True
    while length > 0:
        if in_kernel:
            try:
                done = os.copy_file_range(
                    source, target, min(length, STEP), source_offset, target_offset
                )
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise
                done = 0
            in_kernel = done > 0
        else:
            block = os.pread(source, min(length, BUFFER), source_offset)
            if not block:
                raise OSError(errno.EIO, "unexpected end of file")
            write_all(target, block, target_offset)
            done = len(block)
        source_offset += done
        target_offset += done
        length -= done


def write_all(fd: int, block: bytes | memoryview, offset: int) -> None:
    """Write a whole block at an offset."""
    view = memoryview(block)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done


def zero(fd: int, offset: int, length: int) -> None:
    """Write zeros over a range and make them last."""
    while length > 0:
        done = min(length, BUFFER)
        write_all(fd, ZEROS[:done], offset)
        offset += done
        length -= done
    os.fdatasync(fd)


def allocate(fd: int, offset: int, length: int) -> None:
    """Reserve disk space for a range, keeping what is there."""
    while length > 0:
        done = min(length, STEP)
        os.posix_fallocate(fd, offset, done)
        offset += done
        length -= done


def reflink(source: int, target: int) -> None:
    """Make the target share all blocks of the source.  Raises: OSError where it can't.

    Source: ioctl_ficlone(2).
    """
    import fcntl

    fcntl.ioctl(target, FICLONE, source)
