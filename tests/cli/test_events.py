"""pool-event: what one process does to a pool, others hear of."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).resolve().parents[2]


class Listener:
    """`storagectl pool-event` as a process of its own."""

    def __init__(self, root: Path, *words: str) -> None:
        argv = [sys.executable, "-m", "storagectl", "--root", str(root), "pool-event", *words]
        self.folder = root / "run/storagectl/events"
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not (self.folder / str(self.process.pid)).exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def hear(self, count: int) -> list[str]:
        """Read some lines of its output, at once when they are there."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline() for _ in range(count)]

    def end(self, signal: int | None = None) -> tuple[int, str, str]:
        if signal is not None:
            self.process.send_signal(signal)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@contextmanager
def listening(root: Path, *words: str) -> Iterator[Listener]:
    listener = Listener(root, *words)
    try:
        yield listener
    finally:
        listener.process.kill()
        listener.process.communicate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def ok(root: Path, *words: str) -> None:
    done = storagectl(root, *words)
    assert done.status == 0, done


def life(root: Path, target: Path, name: str = "p") -> None:
    ok(root, "pool-define-as", name, "dir", "--target", str(target))
    ok(root, "pool-build", name)
    ok(root, "pool-start", name, "--build")
    ok(root, "vol-create-as", name, "v", "4096")
    ok(root, "vol-upload", "v", "/proc/self/cmdline", name)
    ok(root, "pool-refresh", name)
    ok(root, "vol-delete", "v", name)
    ok(root, "pool-destroy", name)
    ok(root, "pool-delete", name)
    ok(root, "pool-undefine", name)


def test_the_whole_life_of_a_pool(root: Path, tmp_path: Path) -> None:
    with (
        listening(root, "--event", "lifecycle", "--loop") as states,
        listening(root, "--event=refresh", "--loop") as refreshes,
    ):  # fmt: skip
        life(root, tmp_path / "p")
        words = ["Defined", "Created", "Started", "Stopped", "Deleted", "Undefined"]
        lines = [f"event 'lifecycle' for storage pool p: {word}\n" for word in words]
        assert states.hear(6) == lines
        expected = (0, "event loop interrupted\nevents received: 6\n\n", "")
        assert states.end(signal.SIGINT) == expected
        assert refreshes.hear(2) == ["event 'refresh' for storage pool p\n"] * 2
        assert "Traceback" not in refreshes.end(signal.SIGTERM)[2]
    assert os.listdir(states.folder) == []


def test_one_pool_once(root: Path, tmp_path: Path) -> None:
    ok(root, "pool-create-as", "mine", "dir", "--target", str(tmp_path))
    with listening(root, "mine", "--event", "lifecycle", "--timestamp") as listener:
        life(root, tmp_path / "other", "other")
        ok(root, "pool-destroy", "mine")
        status, out, err = listener.end()
    assert (status, err) == (0, "")
    event, received, _ = out.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: "
        r"event 'lifecycle' for storage pool mine: Stopped", event,
    )  # fmt: skip
    assert received == "events received: 1"


def test_a_timeout_without_events(root: Path) -> None:
    before = time.monotonic()
    done = storagectl(root, "pool-event", "--event", "lifecycle", "--timeout", "1")
    assert done == (1, "event loop timed out\nevents received: 0\n\n", "")
    assert time.monotonic() - before >= 1


def test_each_event_is_written_when_it_happens(root: Path, tmp_path: Path) -> None:
    with listening(root, "--event", "lifecycle", "--loop") as listener:
        ok(root, "pool-create-as", "p", "dir", "--target", str(tmp_path))
        assert listener.hear(1) == ["event 'lifecycle' for storage pool p: Started\n"]
        assert listener.process.poll() is None


def test_listeners_that_were_killed_or_sleep_hold_nobody_up(root: Path, tmp_path: Path) -> None:
    with listening(root, "--event", "lifecycle", "--loop") as dead:
        dead.end(signal.SIGKILL)
        assert os.listdir(dead.folder) == [str(dead.process.pid)]
    with listening(root, "--event", "refresh", "--loop") as asleep:
        asleep.process.send_signal(signal.SIGSTOP)
        ok(root, "pool-create-as", "p", "dir", "--target", str(tmp_path))
        assert os.listdir(asleep.folder) == [str(asleep.process.pid)]
        for _ in range(1200):  # more than its pipe holds
            ok(root, "pool-refresh", "p")
        asleep.process.send_signal(signal.SIGCONT)
        assert asleep.hear(500) == ["event 'refresh' for storage pool p\n"] * 500
        assert asleep.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["--list"], 0, "lifecycle\nrefresh\n\n", ""),
        (["--list", "--event", "no", "--pool", "no"], 0, "lifecycle\nrefresh\n\n", ""),
        ([], 1, "\n", "error: either --list or --event <type> is required\n"),
        (["lifecycle"], 1, "\n", "error: either --list or --event <type> is required\n"),
        (["--event", "no"], 1, "\n", "error: unknown event type no\n"),
        (
            ["--event", "refresh", "--pool", "no"], 1, "\n", "error: failed to get pool 'no'\n"
            "error: Storage pool not found: no storage pool with matching name 'no'\n",
        ),
        *(
            (["--event", "refresh", "--timeout", number], 1, "\n",
             f"error: Numeric value '{number}' for <timeout> option is malformed or out of range\n")
            for number in ("0", "-1", "x", "2147484", "3000000000")
        ),
    ],
)  # fmt: skip
def test_other_answers(root: Path, words: list[str], status: int, out: str, err: str) -> None:
    assert storagectl(root, "pool-event", *words) == (status, out, err)
    assert not root.exists()
