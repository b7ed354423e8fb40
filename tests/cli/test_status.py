"""status as a user sees it: in a pipe, on a terminal, and while it is watched."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from inprocess import storagectl
from terminals import everything

SOURCES = Path(__file__).resolve().parents[2]
SMOOTH = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A running pool `on` with two volumes, and one `off` that is not started."""
    for name in ("on", "off"):
        target = tmp_path / name
        target.mkdir()
        done = storagectl(tmp_path, "pool-define-as", name, "dir", "--target", str(target))
        assert done.status == 0
    assert storagectl(tmp_path, "pool-start", "on").status == 0
    for name in ("a.img", "b.img"):
        (tmp_path / "on" / name).write_bytes(b"x" * 4096)
    return tmp_path


def config(root: Path, name: str) -> Path:
    return root / "etc/storagectl/storage" / f"{name}.xml"


def rows(shown: str) -> dict[str, str]:
    return {line.split()[0]: line for line in shown.splitlines() if line}


def test_a_line_for_each_pool(root: Path) -> None:
    done = storagectl(root, "status")
    assert (done.status, done.stderr) == (0, "")
    found = rows(done.stdout)
    assert re.fullmatch(rf"on +running +dir +{root}/on +[#.]{{10}} +\d+ % .* free of .*",
                        found["on"])  # fmt: skip
    assert re.fullmatch(rf"off +inactive +dir +{root}/off +-", found["off"])
    assert done.stdout.endswith("\n2 pools: 1 running, 1 inactive\n\n")
    assert "\x1b" not in done.stdout


def test_no_pools(tmp_path: Path) -> None:
    done = storagectl(tmp_path, "status")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("No pools. A first one: storagectl pool-define-as")


def test_pools_by_name_and_uuid(root: Path) -> None:
    uuid = storagectl(root, "pool-uuid", "off").stdout.strip()
    assert set(rows(storagectl(root, "status", "on").stdout)) == {"Pool", "on", "1"}
    shown = storagectl(root, "-q", "status", uuid.upper(), "--pool", "on").stdout
    assert set(rows(shown)) == {"Pool", "on", "off", "2"}


def test_a_pool_that_is_not_there(root: Path) -> None:
    done = storagectl(root, "status", "on", "nosuch")
    assert (done.status, done.stdout) == (1, "\n")
    assert done.stderr == (
        "error: failed to get pool 'nosuch'\n"
        "error: Storage pool not found: no storage pool with matching name 'nosuch'\n"
    )


def test_volumes(root: Path) -> None:
    shown = storagectl(root, "status", "--volumes").stdout
    assert re.search(r"^on\n  a\.img +raw +4\.0 KiB +4\.0 KiB used\n  b\.img ", shown, re.M)
    assert "off\n" not in shown.partition("\n\n")[2]


def test_broken_pools_tell_why_and_the_others_are_shown(root: Path) -> None:
    config(root, "bad").write_text("<pool")
    config(root, "other").write_text(config(root, "off").read_text())
    text = config(root, "off").read_text().replace("<name>off<", "<name>gone<")
    text = re.sub("<uuid>.*</uuid>", "<uuid>11111111-1111-4111-8111-111111111111</uuid>", text)
    config(root, "gone").write_text(text.replace("type='dir'", "type='zfs'"))
    config(root, "evil\x1b[31m\n").write_text("x")
    done = storagectl(root, "status")
    assert (done.status, done.stderr) == (0, "")
    found = rows(done.stdout)
    assert re.fullmatch(r"bad +broken +- +- +line 1: .*", found["bad"])
    assert found["other"].endswith("the definition is that of pool 'off'")
    assert found["gone"].split()[1] == "broken"
    assert r"evil\x1b[31m\x0a" in done.stdout
    assert "\x1b" not in done.stdout
    assert re.search("^on +running", done.stdout, re.M)
    assert "5 pools" not in done.stdout
    assert "6 pools: 1 running, 1 inactive, 4 broken" in done.stdout


def test_a_pool_whose_folder_cannot_be_read_is_broken_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storagectl.backends.directory import Directory
    from storagectl.errors import SystemFailure

    def fails(_: object) -> None:
        raise SystemFailure("cannot open directory '/x': Permission denied")

    monkeypatch.setattr(Directory, "state", fails)
    done = storagectl(root, "status", "--volumes")
    assert done.status == 0
    assert rows(done.stdout)["on"].endswith("cannot open directory '/x': Permission denied")


def test_a_pool_to_be_started_at_boot_that_is_not_running(root: Path) -> None:
    storagectl(root, "pool-autostart", "off")
    assert rows(storagectl(root, "status").stdout)["off"].endswith("autostarted, not running")


def test_as_json(root: Path) -> None:
    config(root, "bad").write_text("<pool")
    done = storagectl(root, "--json", "status", "--volumes")
    assert (done.status, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["ok"], document["command"], document["warnings"]) == (True, "status", [])
    bad, off, on = document["result"]["pools"]
    assert (bad["state"], bad["uuid"], bad["capacity"]) == ("broken", None, None)
    assert bad["why"].startswith("line 1: ")
    assert (off["state"], off["why"], off["volumes"]) == ("inactive", None, None)
    assert on["state"] == "running"
    assert on["capacity"] == on["allocation"] + on["available"]
    assert [(v["volume"]["name"], v["depth"]) for v in on["volumes"]] == [
        ("a.img", 0),
        ("b.img", 0),
    ]
    done = storagectl(root, "--json", "status", "--watch")
    assert done.status == 1
    assert "--watch and --json are mutually exclusive" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "x", "-1"])
def test_seconds_that_are_none(root: Path, seconds: str) -> None:
    done = storagectl(root, "status", f"--watch={seconds}")
    assert done.status == 1
    assert done.stderr.startswith("error: ")


# As processes of their own


def start(root: Path, *words: str, **settings: object) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "storagectl", "--root", str(root), "status", *words]
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "TERM": "xterm"}
    env.pop("NO_COLOR", None)
    env |= settings.pop("env", {})  # type: ignore[arg-type, operator]
    return subprocess.Popen(argv, env=env, **settings)  # type: ignore[call-overload, no-any-return]


def test_watching_into_a_pipe_prints_it_again_and_again(root: Path) -> None:
    process = start(root, "--watch", "1", "on", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    shown = b"".join(process.stdout.readline() for _ in range(12))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert len(re.findall(rb"^\d\d:\d\d:\d\d$", shown, re.M)) == 2
    assert shown.count(b"on     running") == 2


class Terminal:
    """A process on a pseudo-terminal of a given size."""

    def __init__(self, root: Path, *words: str, columns: int = 80, **env: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self.before = termios.tcgetattr(slave)
        self.process = start(root, *words, env=env, stdin=slave, stdout=slave, stderr=slave)
        self.slave = slave
        self.shown = ""

    def read_until(self, words: str, seconds: float = 30) -> str:
        deadline = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self.read()
        return self.shown

    def read(self) -> None:
        if select.select([self.master], [], [], 0.2)[0]:
            self.shown += os.read(self.master, 65536).decode()

    def end(self) -> int:
        status = self.process.wait(30)
        assert termios.tcgetattr(self.slave) == self.before
        os.close(self.slave)
        self.shown += everything(self.master).decode()
        return status


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_it_has_colours(root: Path, columns: int) -> None:
    terminal = Terminal(root, columns=columns)
    assert terminal.end() == 0
    assert "\x1b[32mrunning" in terminal.shown
    lines = SMOOTH.sub("", terminal.shown).splitlines()
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours(root: Path, env: dict[str, str]) -> None:
    terminal = Terminal(root, **env)
    assert terminal.end() == 0
    assert "running" in terminal.shown
    assert not re.search(r"\x1b\[[0-9;]*3\d", terminal.shown)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watching_on_a_terminal_gives_it_back(root: Path, number: int) -> None:
    terminal = Terminal(root, "--watch", "1")
    terminal.read_until("Ctrl-C ends")
    first = len(terminal.shown)
    assert storagectl(root, "pool-start", "off").status == 0
    terminal.read_until("2 running")
    assert "\x1b[2J" not in terminal.shown[first:]
    terminal.process.send_signal(number)
    assert terminal.end() == (130 if number == signal.SIGINT else 143)
    shown = terminal.shown
    assert shown.count("\x1b[?1049h") == shown.count("\x1b[?1049l") == 1
    assert shown.index("\x1b[?1049h") < shown.index("running") < shown.index("\x1b[?1049l")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "Traceback" not in shown


def test_a_resized_terminal_is_drawn_anew_at_once(root: Path) -> None:
    terminal = Terminal(root, "--watch", "60")
    terminal.read_until("Ctrl-C ends")
    assert " free of " not in terminal.shown
    termios.tcsetwinsize(terminal.slave, (24, 200))
    terminal.read_until(" free of ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
