"""Work on many files: by threads only where the storage is slow, and the same comes out."""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING

import pytest

from storagectl.backends import images
from storagectl.backends.directory import Directory
from storagectl.host import Host, spread
from storagectl.model import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_S = 30


def fails(item: int) -> int:
    raise AssertionError(f"a thread has {item}")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have any storage count as slow."""
    monkeypatch.setattr(spread, "SLOW_S", -math.inf)


def test_fast_storage_has_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "SLOW_S", math.inf)
    assert list(spread.spread(lambda item: item + 1, fails, range(1000))) == list(range(1, 1001))


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("count", [0, 1, spread.BATCH, spread.BATCH + 1, 500])
def test_slow_storage_has_threads_from_the_second_batch_on(count: int) -> None:
    alone: list[int] = []
    together: list[int] = []

    def doing(done: list[int]) -> Callable[[int], str]:
        return lambda item: done.append(item) or str(item)  # type: ignore[func-returns-value]

    found = list(spread.spread(doing(alone), doing(together), range(count)))
    assert found == list(map(str, range(count)))
    assert alone == list(range(min(count, spread.BATCH)))
    assert sorted(together) == list(range(spread.BATCH, count))


@pytest.mark.usefixtures("slow")
def test_what_waits_waits_at_the_same_time() -> None:
    """Ten times as fast, without a clock: that many are at work at once, or all would fail."""
    barrier = threading.Barrier(10)

    def wait(item: int) -> int:
        barrier.wait(WAIT_S)
        return item

    assert list(spread.by_threads(fails, wait, list(range(1000)))) == list(range(1000))


def test_what_fails_in_a_thread_is_done_alone() -> None:
    def odd_only(item: int) -> int:
        if item % 2:
            raise ValueError(item)
        return item

    alone: list[int] = []

    def work(item: int) -> int:
        assert threading.current_thread() is threading.main_thread()
        alone.append(item)
        return -item

    found = list(spread.by_threads(work, odd_only, list(range(100))))
    assert found == [-item if item % 2 else item for item in range(100)]
    assert alone == list(range(1, 100, 2))


def test_what_fails_alone_is_an_error() -> None:
    with pytest.raises(AssertionError, match="a thread has 0"):
        list(spread.by_threads(fails, fails, [0, 1]))


def test_threads_begin_nothing_more_when_the_command_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    done: list[int] = []
    before = threading.active_count()

    def wait(item: int) -> None:
        assert ended.wait(WAIT_S)
        done.append(item)

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(spread.by_threads(fails, wait, list(range(1000))))  # type: ignore[arg-type]
    ended.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(WAIT_S)
    assert threading.active_count() <= before
    assert len(done) <= spread.THREADS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(100):
        (tmp_path / f"v{number:03}").write_bytes(b"x" * number)
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a\tb").touch()
    return tmp_path


def volumes(folder: Path) -> Iterator[object]:
    pool = Pool("dir", "d", "u", target=str(folder))
    found = Directory(pool, Host()).volumes(details=True)
    return iter(sorted(found, key=lambda volume: volume.name))


def test_a_folder_is_the_same_whether_storage_is_slow_or_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "SLOW_S", math.inf)
    list(volumes(folder))  # relatime: the first to read a file sets its access time
    alone = list(volumes(folder))
    monkeypatch.setattr(spread, "SLOW_S", -math.inf)
    threads: set[int] = set()
    real = images.inspect_in_thread

    def noted(target: str, name: str, **asked: bool) -> object:
        threads.add(threading.get_ident())
        return real(target, name, **asked)

    monkeypatch.setattr(images, "inspect_in_thread", noted)
    assert list(volumes(folder)) == alone
    assert len(alone) == 101
    assert threading.get_ident() not in threads
    assert threads
    shown = [(v.name, v.path, v.type, v.capacity, v.allocation) for v in alone]
    sizes = Directory(Pool("dir", "d", "u", target=str(folder)), Host()).sizes()
    assert sorted((v.name, v.path, v.type, v.capacity, v.allocation) for v in sizes) == shown


@pytest.mark.usefixtures("slow")
def test_only_the_main_thread_becomes_the_owner_of_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that did would make all others the owner of that file."""
    real = os.open

    def refused(path: object, *flags: int, **named: int) -> int:
        if isinstance(path, str) and path.startswith(f"{folder}/v") and not acting:
            raise PermissionError(13, "Permission denied", path)
        return real(path, *flags, **named)  # type: ignore[arg-type]

    acting: list[str] = []

    def as_owner(path: str, flags: int) -> int:
        assert threading.current_thread() is threading.main_thread()
        acting.append(path)
        try:
            return os.open(path, flags)
        finally:
            acting.pop()
            opened.append(path)

    opened: list[str] = []
    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setitem(images.inspect.__kwdefaults__, "opened", as_owner)
    assert len(list(volumes(folder))) == 101
    assert len([path for path in opened if "/v" in path]) == 100
