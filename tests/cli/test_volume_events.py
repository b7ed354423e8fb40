"""pool-event of volumes: what this program does, and what anybody does in folders."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from inprocess import storagectl
from waiting import wait_for

from storagectl import events, watching
from storagectl.errors import StorageError, SystemFailure
from storagectl.host import Host, inotify, libc
from storagectl.pools import Pools
from storagectl.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).resolve().parents[2]


class Listener:
    """`storagectl pool-event` as a process of its own, which watches `folders` folders."""

    def __init__(self, root: Path, *words: str, folders: int) -> None:
        argv = [sys.executable, "-m", "storagectl", "--root", str(root), "pool-event", *words]
        self.heard = b""
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="surrogateescape", env={**os.environ, "PYTHONPATH": str(SOURCES)},
        )  # fmt: skip
        self.wait_for(folders)

    def wait_for(self, folders: int) -> None:
        """Wait until it watches that many folders."""
        wait_for(lambda: watched(self.process.pid) == folders, "it does not watch", self.process)

    def hear(self, count: int) -> list[str]:
        """Read lines of its output, at once when they are there."""
        assert self.process.stdout is not None
        while self.heard.count(b"\n") < count:
            assert select.select([self.process.stdout], [], [], 30)[0], self.heard
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, (self.heard, self.process.communicate())
            self.heard += data
        *lines, self.heard = self.heard.split(b"\n", count)
        return [line.decode() for line in lines]

    def end(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=30)


def watched(pid: int) -> int:
    """Return how many folders a process watches, -1 where it is not ready to."""
    count = -1
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            if os.readlink(f"/proc/{pid}/fd/{info.name}") == "anon_inode:inotify":
                count = info.read_text().count("inotify wd:")
        except OSError:
            continue
    return count


@contextmanager
def listening(root: Path, *words: str, folders: int = 1) -> Iterator[Listener]:
    listener = Listener(root, *words, folders=folders)
    try:
        yield listener
    finally:
        listener.process.kill()
        listener.process.communicate()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "pool"
    path.mkdir()
    return path


@pytest.fixture
def root(tmp_path: Path, target: Path) -> Path:
    """Definitions with a running pool `p` that has a volume `old`."""
    (target / "old").write_bytes(b"x" * 4096)
    root = tmp_path / "root"
    ok(root, "pool-define-as", "p", "dir", "--target", str(target))
    ok(root, "pool-start", "p")
    return root


def ok(root: Path, *words: str) -> None:
    done = storagectl(root, *words)
    assert (done.status, done.stderr) == (0, ""), done


def created(*names: str, pool: str = "p") -> list[str]:
    return [f"event 'volume' for storage pool {pool}: Created {name}" for name in names]


def deleted(*names: str, pool: str = "p") -> list[str]:
    return [f"event 'volume' for storage pool {pool}: Deleted {name}" for name in names]


def state(word: str, pool: str = "p") -> str:
    return f"event 'lifecycle' for storage pool {pool}: {word}"


def test_what_we_do_is_told_once(root: Path) -> None:
    with listening(root, "--event", "volume", "--loop") as listener:
        ok(root, "vol-create-as", "p", "a", "4096")
        ok(root, "vol-clone", "a", "b", "p")
        ok(root, "vol-upload", "old", "/proc/self/cmdline", "p")  # replaced: it has been there
        ok(root, "vol-rename", "b", "c", "p")
        ok(root, "vol-delete", "a", "p")
        ok(root, "vol-delete", "old", "p")
        expected = [*created("a", "b"), *deleted("b"), *created("c"), *deleted("a", "old")]
        assert sorted(listener.hear(6)) == sorted(expected)
        assert listener.end() == ("event loop interrupted\nevents received: 6\n\n", "")


def test_what_others_do(root: Path, target: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with listening(root, "--event", "volume", "--loop") as listener:
        (target / "file").write_text("x")
        (target / "file").write_text("y")
        (target / "folder").mkdir()
        (target / "link").symlink_to("/etc/passwd")
        (target / "twin").hardlink_to(target / "file")
        assert listener.hear(4) == created("file", "folder", "link", "twin")
        (target / "old").rename(elsewhere)
        elsewhere.rename(target / "file")  # replaces it
        os.rename(target / "file", target / "moved")
        (target / "folder").rmdir()
        (target / "link").unlink()
        assert listener.hear(5) == [
            *deleted("old", "file"), *created("moved"), *deleted("folder", "link"),
        ]  # fmt: skip


def test_what_is_no_volume_is_not_told_of(root: Path, target: Path) -> None:
    with listening(root, "--event", "volume", "--loop") as listener:
        os.mkfifo(target / "pipe")
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(target / "socket"))
        (target / "dangling").symlink_to("nowhere")
        (target / "two\nlines").touch()
        (target / ".storagectl-x.part").touch()
        (target / "old" / "..").exists()
        for name in ("pipe", "socket", "dangling", "two\nlines", ".storagectl-x.part"):
            (target / name).unlink()
        (target / os.fsdecode(b"\xff")).touch()
        assert listener.hear(1) == created("\\xff")


def test_pools_that_come_and_go(root: Path, tmp_path: Path, target: Path) -> None:
    other = tmp_path / "other"
    with listening(root, "--event", "all", "--loop") as listener:
        ok(root, "pool-create-as", "q", "dir", "--target", str(other), "--build")
        assert listener.hear(1) == [state("Started", "q")]
        (other / "a").touch()
        assert listener.hear(1) == created("a", pool="q")
        ok(root, "pool-stop", "q")
        assert listener.hear(1) == [state("Stopped", "q")]
        (other / "b").touch()
        ok(root, "pool-refresh", "p")
        assert listener.hear(1) == ["event 'refresh' for storage pool p"]
        ok(root, "pool-undefine", "p", "--forget")
        assert listener.hear(1) == [state("Undefined")]
        (target / "b").touch()
        ok(root, "pool-define-as", "p", "dir", "--target", str(target))
        assert listener.hear(1) == [state("Defined")]


def test_one_pool_only(root: Path, tmp_path: Path, target: Path) -> None:
    ok(root, "pool-create-as", "q", "dir", "--target", str(tmp_path / "q"), "--build")
    with listening(root, "p", "--event", "all", "--loop") as listener:
        (tmp_path / "q/a").touch()
        ok(root, "pool-refresh", "q")
        (target / "a").touch()
        assert listener.hear(1) == created("a")


def test_two_pools_with_one_folder(root: Path, target: Path) -> None:
    text = (root / "etc/storagectl/storage/p.xml").read_text()
    uuid = text.partition("<uuid>")[2].partition("</uuid>")[0]
    twin = text.replace(">p<", ">twin<").replace(uuid, uuid[:-4] + "0000")
    (root / "etc/storagectl/storage/twin.xml").write_text(twin)
    ok(root, "pool-start", "twin")
    with listening(root, "--event", "all", "--loop") as listener:
        (target / "a").touch()
        assert sorted(listener.hear(2)) == [*created("a"), *created("a", pool="twin")]
        ok(root, "pool-stop", "twin")
        assert listener.hear(1) == [state("Stopped", "twin")]
        (target / "b").touch()
        assert listener.hear(1) == created("b")
        ok(root, "pool-start", "twin")
        assert listener.hear(1) == [state("Started", "twin")]
        (target / "c").touch()
        assert sorted(listener.hear(2)) == [*created("c"), *created("c", pool="twin")]


def test_a_folder_that_goes_away_and_comes_back(root: Path, target: Path) -> None:
    (target / "old").unlink()
    with listening(root, "--event", "all", "--loop") as listener:
        target.rename(f"{target}2")
        listener.wait_for(0)
        target.mkdir()
        ok(root, "pool-refresh", "p")
        listener.wait_for(1)
        (target / "a").touch()
        assert listener.hear(2) == ["event 'refresh' for storage pool p", *created("a")]


def test_the_first_event_ends_it(root: Path, target: Path) -> None:
    with listening(root, "--event", "volume") as listener:
        (target / "a").touch()
        out, err = listener.process.communicate(timeout=30)
    assert (out, err) == (created("a")[0] + "\nevents received: 1\n\n", "")
    assert listener.process.returncode == 0


def test_a_timeout(root: Path) -> None:
    done = storagectl(root, "pool-event", "--event", "volume", "--timeout", "1")
    assert done == (1, "event loop timed out\nevents received: 0\n\n", "")
    assert os.listdir(root / "run/storagectl/events") == []


@pytest.mark.parametrize("event", ["lifecycle", "all"])
def test_it_ends_when_nobody_reads_any_more(root: Path, event: str) -> None:
    """At once, and not with the next event, which may be days away."""
    with listening(root, "--event", event, "--loop", folders=1 if event == "all" else -1) as heard:
        folder = root / "run/storagectl/events"
        wait_for(lambda: folder.is_dir() and any(folder.iterdir()), "no events", heard.process)
        assert heard.process.stdout is not None
        heard.process.stdout.close()
        assert heard.process.wait(30) == 128 + signal.SIGPIPE
        assert heard.process.stderr is not None
        assert heard.process.stderr.read() == ""
        heard.process.stdout = None
    assert list(folder.iterdir()) == []


def test_json_lines(root: Path, target: Path) -> None:
    with listening(root, "--event", "all", "--loop", "--json") as listener:
        (target / 'a"ö').touch()
        ok(root, "pool-stop", "p")
        first, second = map(json.loads, listener.hear(2))
        (last,) = listener.end()[0].splitlines()
    assert first["event"]["volume"] == 'a"ö'
    assert (first["event"]["type"], first["event"]["detail"]) == ("volume", "Created")
    assert first["event"]["pool"]["name"] == "p"
    assert (second["event"]["detail"], second["event"]["volume"]) == ("Stopped", None)
    assert json.loads(last)["result"] == {"received": 2, "ended": "interrupted"}


def test_virshs_events_stay_as_they_are(root: Path, target: Path) -> None:
    """Those who listen for them hear nothing of volumes, and are told nothing of them."""
    pools = Pools(Store(Host(), str(root)), Host())
    with pools.events.listening() as listener, pools.events.listening(volumes=True) as other:
        ok(root, "vol-create-as", "p", "a", "4096")
        assert listener.read() == []
        assert [event.volume for event in other.read()] == ["a"]
        ok(root, "pool-refresh", "p")
        assert (
            listener.read()
            == other.read()
            == [events.Event("p", pools.find("p").pool.uuid, events.REFRESHED)]
        )
    assert storagectl(root, "pool-event", "--list").stdout == "lifecycle\nrefresh\n\n"


def watcher(root: Path) -> tuple[Pools, watching.Watcher, Any]:
    pools = Pools(Store(Host(), str(root)), Host())
    stack = pools.events.listening(volumes=True)
    return pools, watching.Watcher(pools, stack.__enter__(), None), stack


def test_what_was_made_before_the_folder_was_watched_is_told(root: Path) -> None:
    """Between the start of a pool and our look at its folder."""
    pools, made, stack = watcher(root)
    try:
        ok(root, "vol-create-as", "p", "early", "4096")
        heard = made.events(time.monotonic() + 30)
        assert next(heard)[2:] == ("Created", "early")
        ok(root, "vol-delete", "early", "p")
        ok(root, "vol-create-as", "p", "early", "4096")
        assert [next(heard)[2:] for _ in range(2)] == [("Deleted", "early"), ("Created", "early")]
        pools.events.tell_of_volume(pools.find("p").pool, events.CREATED, "early")
        ok(root, "pool-refresh", "p")
        assert next(heard).type == events.REFRESH
    finally:
        stack.__exit__(None, None, None)


@pytest.mark.parametrize("starting", [False, True])
def test_what_changes_during_the_first_look_is_told_once(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch, starting: bool
) -> None:
    """Right before and right after the kernel begins to tell of the folder."""
    watch = inotify.Inotify.watch

    def changing(self: inotify.Inotify, folder: str) -> int:
        (target / "before").touch()
        (target / "old").unlink()
        number = watch(self, folder)
        (target / "after").touch()
        (target / "gone").unlink()
        return number

    (target / "gone").touch()
    _, made, stack = watcher(root)
    heard = made.events(time.monotonic() + 30)
    try:
        if starting:
            ok(root, "pool-stop", "p")
            assert next(heard).detail == events.STOPPED
            ok(root, "pool-start", "p")
        monkeypatch.setattr(inotify.Inotify, "watch", changing)
        if starting:
            assert next(heard).detail == events.STARTED
        told = [next(heard)[2:] for _ in range(4)]
        assert told == [
            ("Deleted", "gone"), ("Deleted", "old"), ("Created", "after"), ("Created", "before"),
        ]  # fmt: skip
        (target / "last").touch()
        assert next(heard)[2:] == ("Created", "last")
    finally:
        stack.__exit__(None, None, None)


def test_what_was_gone_before_it_was_looked_at(root: Path, target: Path) -> None:
    """Its maker tells of it; of what others made nobody knows what it was."""
    _, made, stack = watcher(root)
    try:
        heard = made.events(time.monotonic() + 30)
        ok(root, "pool-refresh", "p")
        assert next(heard).type == events.REFRESH
        for _ in range(2):
            ok(root, "vol-create-as", "p", "short", "4096")
            ok(root, "vol-delete", "short", "p")
            (target / "others").touch()
            (target / "others").unlink()
            ok(root, "pool-refresh", "p")
            assert [next(heard)[2:] for _ in range(3)] == [
                ("Created", "short"), ("Deleted", "short"), ("", None),
            ]  # fmt: skip
    finally:
        stack.__exit__(None, None, None)


def test_more_than_the_kernel_keeps(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost is found by looking at the folder."""
    _, made, stack = watcher(root)
    try:
        heard = made.events(time.monotonic() + 30)
        ok(root, "pool-refresh", "p")
        assert next(heard).type == events.REFRESH
        (target / "b").touch()
        (target / "old").unlink()
        lost = [inotify.Change(-1, inotify.OVERFLOW, "")]
        monkeypatch.setattr(made.inotify, "changes", lambda: iter(lost))
        assert [next(heard)[2:] for _ in range(2)] == [("Deleted", "old"), ("Created", "b")]
    finally:
        stack.__exit__(None, None, None)


def test_a_folder_that_cannot_be_watched_is_complained_of(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: object, folder: str) -> int:
        raise inotify.failure(f"cannot watch '{folder}'")

    monkeypatch.setattr(libc, "failure", lambda: OSError(28, os.strerror(28)))

    monkeypatch.setattr(inotify.Inotify, "watch", refuse)
    _, made, stack = watcher(root)
    try:
        assert list(made.events(time.monotonic() + 0.1)) == []
    finally:
        stack.__exit__(None, None, None)
    assert capsys.readouterr().err == (
        f"warning: volumes of pool 'p' are not watched: cannot watch '{root.parent}/pool':"
        " No space left on device\n"
    )


def test_no_folder_can_be_watched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise inotify.failure("cannot watch folders")

    monkeypatch.setattr(libc, "failure", lambda: OSError(24, os.strerror(24)))

    monkeypatch.setattr(inotify.Inotify, "__init__", refuse)
    done = storagectl(root, "pool-event", "--event", "volume", hints=True)
    assert done.status == 1
    assert done.stderr == (
        "error: cannot watch folders: Too many open files\n"
        "hint: the limit is fs.inotify.max_user_instances, or the limit of open files\n"
    )


def test_what_the_kernel_writes() -> None:
    """Two events in a row: the name is padded with zeros."""
    data = inotify.HEADER.pack(1, inotify.CREATE, 0, 16) + b"a.img".ljust(16, b"\0")
    data += inotify.HEADER.pack(2, inotify.IGNORED, 0, 0)
    assert list(inotify.parse(data)) == [(1, inotify.CREATE, "a.img"), (2, inotify.IGNORED, "")]


def test_a_folder_is_watched_once_and_one_that_is_none_not(target: Path) -> None:
    made = inotify.Inotify()
    try:
        assert made.watch(str(target)) == made.watch(str(target))
        (target / "file").touch()
        assert [change.name for change in made.changes()] == ["file"]
        with pytest.raises(SystemFailure) as caught:
            made.watch(str(target / "file"))
        assert isinstance(caught.value, StorageError)
        assert caught.value.detail == f"cannot watch '{target}/file': Not a directory"
    finally:
        made.close()
