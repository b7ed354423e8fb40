"""Copies are equal byte for byte and as sparse as what they are copied from."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storagectl.errors import InvalidArgument
from storagectl.host import bulk

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096

# Runs of data (a byte to fill with) or of nothing, in blocks; and a crooked end.
layouts = st.tuples(
    st.lists(st.tuples(st.booleans(), st.integers(1, 6), st.integers(1, 255)), max_size=8),
    st.integers(0, BLOCK - 1),
)


@contextmanager
def files(count: int) -> Iterator[list[int]]:
    opened = [os.memfd_create(f"h6-{number}") for number in range(count)]
    try:
        yield opened
    finally:
        for fd in opened:
            os.close(fd)


def lay_out(fd: int, layout: tuple[list[tuple[bool, int, int]], int]) -> bytes:
    """Write runs and holes to a file and return its content."""
    runs, tail = layout
    content = bytearray()
    for is_data, blocks, byte in runs:
        piece = bytes([byte if is_data else 0]) * blocks * BLOCK
        if is_data:
            os.pwrite(fd, piece, len(content))
        content += piece
    content += bytes(tail)
    os.ftruncate(fd, len(content))
    return bytes(content)


def whole(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size + 1, 0)


@given(layouts)
def test_data_ranges_are_what_is_not_holes(
    layout: tuple[list[tuple[bool, int, int]], int],
) -> None:
    with files(1) as (fd,):
        content = lay_out(fd, layout)
        ranges = list(bulk.data_ranges(fd, 0, len(content)))
        covered = bytearray(len(content))
        last = 0
        for start, end in ranges:
            assert last <= start < end <= len(content)
            covered[start:end] = content[start:end]
            last = end
        assert covered == content


@given(layouts, st.data())
@settings(max_examples=60)
def test_copy_data_of_any_window(
    layout: tuple[list[tuple[bool, int, int]], int], data: st.DataObject
) -> None:
    with files(2) as (source, target):
        content = lay_out(source, layout)
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, len(content) - start))
        at = data.draw(st.integers(0, 3 * BLOCK))
        os.ftruncate(target, at + length)
        bulk.Mover().copy_data(source, target, start, at, length)
        assert whole(target) == bytes(at) + content[start : start + length]
        # a range of data that begins elsewhere in a block may take one more, of eight sectors
        parts = len(list(bulk.data_ranges(source, start, start + length)))
        assert os.fstat(target).st_blocks <= os.fstat(source).st_blocks + 8 * (parts + 1)


@given(layouts, st.data())
@settings(max_examples=60)
def test_copy_with_holes_over_old_data(
    layout: tuple[list[tuple[bool, int, int]], int], data: st.DataObject
) -> None:
    with files(2) as (source, target):
        content = lay_out(source, layout)
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, len(content) - start))
        at = data.draw(st.integers(0, 2 * BLOCK))
        after = data.draw(st.integers(0, 2 * BLOCK))
        old = b"\xee" * (at + length + after)
        os.pwrite(target, old, 0)
        bulk.Mover().copy_with_holes(source, target, start, at, length)
        assert whole(target) == old[:at] + content[start : start + length] + old[:after]


def test_holes_are_kept_on_a_real_disk() -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        os.pwrite(source.fileno(), b"x" * BLOCK, 8 << 20)
        source.truncate(64 << 20)
        target.truncate(64 << 20)
        bulk.Mover().copy_data(source.fileno(), target.fileno(), 0, 0, 64 << 20)
        assert os.pread(target.fileno(), BLOCK, 8 << 20) == b"x" * BLOCK
        assert os.fstat(target.fileno()).st_blocks * 512 < 1 << 20


def test_punching_gives_space_back() -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.truncate(4 << 20)
        os.pwrite(target.fileno(), b"x" * (4 << 20), 0)
        os.fsync(target.fileno())
        before = os.fstat(target.fileno()).st_blocks
        bulk.Mover().copy_with_holes(source.fileno(), target.fileno(), 0, 0, 4 << 20)
        assert os.fstat(target.fileno()).st_blocks < before
        assert not any(whole(target.fileno()))


def test_punching_does_not_grow_a_file() -> None:
    with files(1) as (fd,):
        os.pwrite(fd, b"x" * BLOCK, 0)
        bulk.punch(fd, 0, 4 * BLOCK)
        assert os.fstat(fd).st_size == BLOCK
        bulk.punch(fd, 0, 0)
        bulk.punch(fd, 0, -1)
        assert whole(fd) == bytes(BLOCK)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM])
def test_copy_range_without_help_of_the_kernel(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*args: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    check_copy()


def test_copy_range_when_the_kernel_copies_little_and_then_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.copy_file_range
    left = [1000, 0]

    def little(source: int, target: int, count: int, at: int, to: int) -> int:
        allowed = left.pop(0)
        return real(source, target, allowed, at, to) if allowed else 0

    monkeypatch.setattr(os, "copy_file_range", little)
    check_copy()
    assert left == []


def check_copy() -> None:
    content = os.urandom((2 << 20) + 17)
    with files(2) as (source, target):
        os.write(source, content)
        bulk.Mover().copy(source, target, 5, 3, len(content) - 5)
        assert whole(target) == bytes(3) + content[5:]


def test_s53_copy_range_passes_real_errors_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with files(2) as (source, target), pytest.raises(OSError, match="No space left"):
        bulk.Mover().copy(source, target, 0, 0, 10)


def test_copy_range_past_the_end_is_an_error() -> None:
    with files(2) as (source, target):
        os.write(source, b"short")
        with pytest.raises(OSError, match="unexpected end of file"):
            bulk.Mover().copy(source, target, 0, 0, 10)


def piped(content: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


@pytest.mark.parametrize(
    ("given_bytes", "room", "whole_input", "fits"),
    [
        (b"", 0, True, True), (b"abc", 3, True, True), (b"abc", 10, True, True),
        (b"abcd", 3, True, False), (b"abcd", 3, False, True), (b"a", 0, True, False),
        (b"a", -5, True, False), (b"", -5, True, True),
    ],
)  # fmt: skip
def test_stream_in_limits(given_bytes: bytes, room: int, whole_input: bool, fits: bool) -> None:
    pipe = piped(given_bytes)
    with files(1) as (target,):
        os.pwrite(target, b"." * 20, 0)
        try:
            if fits:
                bulk.Mover().stream_in(pipe, target, room, 7, whole=whole_input)
            else:
                with pytest.raises(InvalidArgument, match=rf"than the {max(room, 0)} bytes"):
                    bulk.Mover().stream_in(pipe, target, room, 7, whole=whole_input)
        finally:
            os.close(pipe)
        written = given_bytes[: max(room, 0)]
        assert whole(target) == (b"." * 7 + written).ljust(20, b".")


def test_stream_out_in_order_and_whole() -> None:
    content = os.urandom(40_000)
    with files(1) as (source,):
        os.write(source, content)
        reading, writing = os.pipe()
        bulk.Mover().stream_out(source, writing, 100, 39_000)
        os.close(writing)
        with open(reading, "rb") as stream:
            assert stream.read() == content[100:39_100]
        with pytest.raises(OSError, match="unexpected end of file"):
            bulk.Mover().stream_out(source, os.open(os.devnull, os.O_WRONLY), 39_999, 2)


def test_zero_is_exact() -> None:
    with files(1) as (fd,):
        os.pwrite(fd, b"x" * (3 << 20), 0)
        bulk.Mover().zero(fd, 10, (2 << 20) + 5)
        assert whole(fd) == b"x" * 10 + bytes((2 << 20) + 5) + b"x" * ((1 << 20) - 15)


def test_allocate_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, at, count: asked.append((at, count)))
    bulk.allocate(-1, 5, bulk.STEP * 2 + 1)
    assert asked == [(5, bulk.STEP), (5 + bulk.STEP, bulk.STEP), (5 + 2 * bulk.STEP, 1)]
    asked.clear()
    bulk.allocate(-1, 0, 0)
    assert asked == []


def test_allocate_really_reserves() -> None:
    with tempfile.TemporaryFile() as file:
        bulk.allocate(file.fileno(), 0, 1 << 20)
        assert os.fstat(file.fileno()).st_size == 1 << 20
        assert os.fstat(file.fileno()).st_blocks * 512 >= 1 << 20


def test_reflink_says_where_it_cannot() -> None:
    with files(2) as (source, target), pytest.raises(OSError):  # noqa: PT011
        bulk.reflink(source, target)
