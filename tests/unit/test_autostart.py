"""Pools started at the same time: who waits for whom, who is tried again, who is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from waiting import wait_for

from storagectl import autostart, poollife
from storagectl.backends.directory import Directory
from storagectl.errors import OperationFailed, OperationTimeout, ResourceBusy
from storagectl.host import Host, worker
from storagectl.model import Device, Pool, Source
from storagectl.pools import Pools
from storagectl.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UUID = "11111111-1111-4111-8111-{:012x}"


class Played(Pools):
    """Pools whose starts are played: what they do, by name, and what they did, in files."""

    def __init__(self, folder: Path) -> None:
        host = Host()
        super().__init__(Store(host, str(folder / "state")), host)
        self.folder = folder
        self.plays: dict[str, Callable[[], bool | None]] = {}

    def add(
        self, name: str, play: Callable[[], bool | None] = lambda: None,
        target: str = "", type: str = "dir", device: str = "",
    ) -> None:  # fmt: skip
        source = Source(devices=[Device(device)] if device else [])
        uuid = UUID.format(len(self.plays))
        self.store.define(Pool(type, name, uuid, source=source, target=target or f"/{name}"))
        self.store.set_autostart(name, True)
        self.plays[name] = play

    def play(self, key: str) -> bool:
        with open(self.folder / "log", "a") as log:
            log.write(f"{key}\n")
        was_active = self.plays[key]() is False
        self.mark(key)
        return not was_active

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split()

    def mark(self, name: str) -> None:
        (self.folder / f"{name}-up").touch()

    def is_up(self, name: str) -> bool:
        return (self.folder / f"{name}-up").exists()

    def needs(self, name: str) -> Callable[[], None]:
        def play() -> None:
            if not self.is_up(name):
                raise OperationFailed(f"no {name}")

        return play

    def run(self) -> dict[str, autostart.Result]:
        return {result.name: result for result in autostart.start_all(self)}


@pytest.fixture(autouse=True)
def _starts_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poollife, "start", lambda pools, key, if_inactive: pools.play(key))


@pytest.fixture
def pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    """Have pools whose starts may take long, each in a process of its own."""
    monkeypatch.setattr(Directory, "starts_at_once", False)
    return Played(tmp_path)


def fail() -> None:
    raise OperationFailed("broken", hint="mend it")


def test_nothing_to_do(pools: Played) -> None:
    assert pools.run() == {}


def test_one_that_fails_holds_nobody_back(pools: Played) -> None:
    pools.add("a")
    pools.add("b", fail)
    pools.add("c", lambda: False)
    pools.add("not-marked")
    pools.store.set_autostart("not-marked", False)
    results = pools.run()
    assert sorted(results) == ["a", "b", "c"]
    assert list(results)[2] == "b"
    assert results["a"].started
    assert not results["c"].started
    assert results["c"].error is None
    error = results["b"].error
    assert error is not None
    assert (error.lines(), error.hint) == (["operation failed: broken"], "mend it")


def test_all_at_the_same_time(pools: Played) -> None:
    """Each waits until the others have begun."""

    def meet() -> None:
        wait_for(lambda: sorted(pools.log()) == ["a", "b", "c"], "not all begin")

    for name in ("a", "b", "c"):
        pools.add(name, meet)
    assert all(result.started for result in pools.run().values())


def test_no_more_than_so_many(pools: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autostart, "MOST", 2)
    crowd = []

    def count() -> None:
        (pools.folder / f"in-{os.getpid()}").touch()
        time.sleep(0.1)
        crowd.append(len(list(pools.folder.glob("in-*"))))
        (pools.folder / f"in-{os.getpid()}").unlink()
        assert crowd[-1] <= 2

    for name in "abcde":
        pools.add(name, count)
    assert [result.started for result in pools.run().values()] == [True] * 5


def test_tried_again_when_others_are_up(pools: Played) -> None:
    """c needs b, b needs a: nothing tells, so they are tried until they have what they need."""
    pools.add("1-c", pools.needs("2-b"))
    pools.add("2-b", pools.needs("3-a"))
    pools.add("3-a", lambda: time.sleep(0.3))
    pools.add("4-x", fail)
    results = pools.run()
    assert sorted(name for name in results if results[name].started) == ["1-c", "2-b", "3-a"]
    assert results["4-x"].error is not None
    assert 1 < pools.log().count("1-c") < 4
    assert pools.log().count("4-x") < 5


def test_not_tried_again_when_nothing_has_changed(pools: Played) -> None:
    pools.add("a", fail)
    pools.add("b", fail)
    pools.run()
    assert sorted(pools.log()) == ["a", "b"]


def test_retry_does_not_wait_for_a_slow_one(
    pools: Played, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(autostart, "PATIENCE_S", 0.5)
    pools.add("a", pools.needs("b"))
    pools.add("b", lambda: time.sleep(0.2))
    pools.add("slow", lambda: wait_for(lambda: pools.is_up("a"), "a is not up"))
    assert [result.started for result in pools.run().values()] == [True] * 3


def test_what_failed_slowly_is_not_tried_for_nothing(
    pools: Played, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(autostart, "PATIENCE_S", 0.3)

    def fail_late() -> None:
        wait_for(lambda: pools.is_up("b"), "b is not up")
        time.sleep(0.5)
        fail()

    pools.add("a", fail_late)
    pools.add("b")
    assert pools.run()["a"].error is not None
    assert pools.log().count("a") == 1


def test_time_limit(pools: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autostart, "LIMIT_S", 3.0)
    pools.add("good")

    def hang() -> None:
        try:
            signal.pause()
        finally:
            pools.mark("cleaned")

    pools.add("hangs", hang)
    pools.add("in-it", target="/mnt/x", device="/hangs/image")
    pools.add("needs-it", pools.needs("hangs"))
    began = time.monotonic()
    results = pools.run()
    assert 3 < time.monotonic() - began < 60
    assert results["good"].started
    error = results["hangs"].error
    assert isinstance(error, OperationTimeout)
    assert error.lines() == ["Timed out during operation: not started within 3 seconds"]
    assert pools.is_up("cleaned")
    assert results["needs-it"].error is not None
    assert pools.log().count("hangs") == 1


def test_killed_when_it_does_not_clean_up(
    pools: Played, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(autostart, "LIMIT_S", 5.0)
    monkeypatch.setattr(worker, "GRACE_S", 0.2)
    monkeypatch.setattr(worker, "TICK_S", 0.05)

    def stay() -> None:
        while True:
            with contextlib.suppress(SystemExit):
                (pools.folder / "pid").write_text(str(os.getpid()))
                time.sleep(60)

    pools.add("stays", stay)
    assert isinstance(pools.run()["stays"].error, OperationTimeout)
    pid = int((pools.folder / "pid").read_text())
    wait_for(lambda: not alive(pid), "it stays")


def alive(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
        os.kill(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return False
    return True


def test_in_the_file_system_of_another(pools: Played) -> None:
    """A folder below a mount that is not there yet would be another folder."""
    pools.add("a", target="/mnt/b/images")
    pools.add("b", lambda: time.sleep(0.3), type="fs", target="/mnt/b", device="/dev/x")
    pools.add("c", target="/mnt/bcd")
    pools.add("d", type="fs", target="/mnt/d", device="/mnt/b/image")
    pools.add("e", target="/mnt/f/images")
    pools.add("f", fail, type="fs", target="/mnt/f", device="/dev/y")
    results = pools.run()
    assert set(pools.log()[:3]) == {"b", "c", "f"}
    assert {"a", "b", "c", "d"} == {name for name in results if results[name].started}
    assert list(results).index("b") < min(list(results).index("a"), list(results).index("d"))
    error = results["e"].error
    assert error is not None
    assert error.lines() == [
        "Requested operation is not valid: it lies in the file system of storage pool 'f',"
        " which is down"
    ]
    assert "e" not in pools.log()


def test_a_process_that_just_ends(pools: Played) -> None:
    pools.add("dies", lambda: os.kill(os.getpid(), signal.SIGKILL))
    pools.add("good")
    results = pools.run()
    assert results["good"].started
    error = results["dies"].error
    assert error is not None
    assert error.lines() == ["internal error: the process that was to start it has ended"]


def test_a_bug_is_seen(pools: Played, capfd: pytest.CaptureFixture[str]) -> None:
    pools.add("bug", lambda: 1 // 0 == 1)
    assert pools.run()["bug"].error is not None
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_an_error_of_the_system(pools: Played) -> None:
    def play() -> None:
        os.mkdir("/proc/self/x")

    pools.add("a", play)
    error = pools.run()["a"].error
    assert error is not None
    assert error.lines() == ["No such file or directory: '/proc/self/x'"]


def test_long_and_odd_answers(pools: Played) -> None:
    text = "\udcff" + "x" * 200_000

    def play() -> None:
        raise OperationFailed(text)

    pools.add("a", play)
    error = pools.run()["a"].error
    assert error is not None
    assert error.lines() == [f"operation failed: {text}"]


def test_interrupted(pools: Played) -> None:
    """Starts under way are undone; a second signal does not cut that short."""

    def hang() -> None:
        try:
            signal.pause()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            pools.mark("cleaned")

    pools.add("good")
    pools.add("hangs", hang)
    results = autostart.start_all(pools)
    assert next(results).name == "good"
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    timer.join()
    assert pools.is_up("cleaned")
    assert not pools.is_up("hangs")


def test_closed_early(pools: Played) -> None:
    pools.add("good")
    pools.add("hangs", lambda: signal.pause())
    results = autostart.start_all(pools)
    assert next(results).name == "good"
    results.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# Pools that start at once


class Counted(Played):
    """Pools that note in which process they were started."""

    def play(self, key: str) -> bool:
        (self.folder / f"{key}-by-{os.getpid()}").touch()
        return super().play(key)

    def processes(self, name: str) -> list[int]:
        paths = self.folder.glob(f"{name}-by-*")
        return [int(path.name.rpartition("-")[2]) for path in paths]


def test_two_hundred_folders_take_no_process(tmp_path: Path) -> None:
    pools = Counted(tmp_path)
    for number in range(200):
        pools.add(f"d{number:03}")
    pools.add("bad", fail)
    pools.add("fs", type="fs", device="/dev/none")
    results = pools.run()
    assert len(results) == 202
    assert [name for name, result in results.items() if result.error] == ["bad"]
    assert results["bad"].error is not None
    assert (results["bad"].error.detail, results["bad"].error.code) == (
        "operation failed: broken", "operation-failed",
    )  # fmt: skip
    mine = os.getpid()
    assert all(pools.processes(f"d{number:03}") == [mine] for number in range(200))
    assert mine not in pools.processes("fs")


def test_no_pool_waits_for_one_that_another_process_holds(tmp_path: Path) -> None:
    """That one gets a process of its own, which may wait as long as a lock may take."""
    pools = Counted(tmp_path)
    mine = os.getpid()

    def held() -> None:
        if os.getpid() == mine:
            assert pools.host.limits["lock"] == 0
            raise ResourceBusy("pool 'held' is being changed by process 1")
        assert "lock" not in pools.host.limits

    pools.add("held", held)
    pools.add("other")
    results = pools.run()
    assert all(result.error is None for result in results.values())
    assert len(pools.processes("held")) == 2
    assert pools.processes("other") == [mine]
    assert pools.host.limits == {}


def test_every_pool_has_a_process_where_a_server_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = Counted(tmp_path)
    mounts = "41 29 0:44 / /mnt rw,relatime - nfs4 nas:/x rw\n"
    monkeypatch.setattr(Host, "mounts", lambda self: mounts)
    pools.add("d")
    assert pools.run()["d"].started
    assert os.getpid() not in pools.processes("d")
