"""Files that are read once for as long as they are the same, and lines of which no more is read."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from storagectl.commands.lines import CHUNK, read_line
from storagectl.host import Host, files, libc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LATER_NS = 10 * files.SETTLED_NS


class Opened:
    """How often os.open was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        opened = os.open

        def counted(*args: object, **named: object) -> int:
            self.count += 1
            return opened(*args, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", counted)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    files.KNOWN.clear()
    yield Opened(monkeypatch)
    files.KNOWN.clear()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has just been written was written long ago."""
    now = files.time.time_ns
    monkeypatch.setattr(files.time, "time_ns", lambda: now() + LATER_NS)


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "definition"
    path.write_bytes(b"one")
    before = opened.count
    assert [files.content(str(path)) for _ in range(3)] == [b"one"] * 3
    assert opened.count == before + 1
    path.write_bytes(b"longer")
    assert files.content(str(path)) == b"longer"
    new = tmp_path / "new"
    new.write_bytes(b"equal!")
    new.replace(path)
    assert files.content(str(path)) == b"equal!"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        files.content(str(path))


def test_a_file_that_has_just_been_written_is_read_each_time(
    tmp_path: Path, opened: Opened
) -> None:
    """Two changes within a tick of the clock may leave the same times."""
    path = tmp_path / "definition"
    path.write_bytes(b"x" * 3 * files.READ_SIZE)
    status = path.stat()
    assert len(files.content(str(path))) == 3 * files.READ_SIZE
    before = opened.count
    files.content(str(path))
    assert opened.count == before + 1
    assert status.st_size == 3 * files.READ_SIZE


@pytest.mark.usefixtures("settled")
def test_a_file_that_others_may_write_by_now_is_refused(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "definition"
    path.write_bytes(b"ours")
    path.chmod(0o600)
    host = Host()
    assert host.read_file(str(path)) == b"ours"
    path.chmod(0o666)
    with pytest.raises(PermissionError, match="others may have written it"):
        host.read_file(str(path))
    assert files.content(str(path)) == b"ours"
    with pytest.raises(PermissionError):
        host.read_file(str(path))
    assert opened.count


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe that is stdin."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield reader, writer


def test_no_more_than_a_line_is_taken_from_a_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    long = b"x" * (3 * CHUNK + 7)
    os.write(writer, b"one\n\rtwo\r" + long + b"\nthe rest\nof it")
    assert [read_line(b"\r\n") for _ in range(4)] == [b"one", b"", b"two", long]
    assert os.read(reader, 8) == b"the rest"
    assert read_line(b"\n") == b""
    os.close(writer)
    assert [read_line(b"\n") for _ in range(2)] == [b"of it", None]


def test_what_was_printed_is_flushed_before_a_pipe_is_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = pipe
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, write_through=False))
    sys.stdout.write("prompt")
    os.write(writer, b"there\nhal")
    assert read_line(b"\n") == b"there"
    assert printed.getvalue() == b""
    answers: list[bytes | None] = []
    asking = threading.Thread(target=lambda: answers.append(read_line(b"\n")), daemon=True)
    asking.start()
    deadline = time.monotonic() + 30
    while printed.getvalue() != b"prompt":
        asking.join(0.01)
        assert time.monotonic() < deadline
    os.write(writer, b"f\n")
    asking.join(30)
    assert answers == [b"half"]
    os.close(writer)


def test_a_function_that_fails_tells_why() -> None:
    assert libc.function("tee")(-1, -1, 1, 0) == -1
    assert isinstance(libc.failure(), OSError)
    with pytest.raises(OSError, match="nosuchfunction"):
        libc.function("nosuchfunction")
