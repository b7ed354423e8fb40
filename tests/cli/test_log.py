"""What the system's log, and the file of --log, are told of commands that change something."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

from storagectl.commands import journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAMP = r"\[\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d storagectl \d+\] INFO "
TOOK = r" \(\d+\.\d{3} s\)"


@pytest.fixture(autouse=True)
def no_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "no-socket"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def records(log: Path) -> list[str]:
    """Return the records without the time and the user."""
    found = []
    for line in log.read_text().splitlines():
        if re.match(STAMP, line):
            words = re.fullmatch(STAMP + rf"user {os.getuid()}(?: \([^)]*\))?: (.*)", line)
            assert words, line
            found.append(words[1])
    return found


def test_changes_are_logged_with_pool_outcome_and_time(
    root: Path, log: Path, tmp_path: Path
) -> None:
    target = tmp_path / "pool"
    own = ["-l", str(log)]
    assert storagectl(root, *own, "pool-define-as", "p", "dir", "--target", str(target)).status == 0
    uuid = storagectl(root, "pool-uuid", "p").stdout.strip()
    for line in (
        f"pool-start {uuid} --build", "vol-create-as p v 1K", "vol-create-as p v 1K", "pool-list",
        f"vol-delete {target}/v", "vol-delete --help", "vol-create-as p w 1K --dry-run",
        "pool-destroy nosuch",
    ):  # fmt: skip
        storagectl(root, *own, line)
    ctl = f"storagectl --root {root} "
    expected = (
        f"pool p: {ctl}pool-define-as --name=p --type=dir --target={target}: succeeded",
        f"pool p: {ctl}pool-start --pool={uuid} --build: succeeded",
        f"pool p: {ctl}vol-create-as --pool=p --name=v --capacity=1K: succeeded",
        f"pool p: {ctl}vol-create-as --pool=p --name=v --capacity=1K: storage volume 'v' exists"
        " already",
        f"pool p: {ctl}vol-delete --vol={target}/v: succeeded",
        f"{ctl}pool-destroy --pool=nosuch: Storage pool not found: no storage pool with matching"
        " name 'nosuch'",
    )
    found = records(log)
    assert [re.sub(TOOK + "$", "", line) for line in found] == list(expected)
    assert all(re.search(TOOK + "$", line) for line in found)


# The system's log


@pytest.fixture(params=[socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["datagrams", "stream"])
def system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[socket.socket]:
    """A log in the place of the machine's."""
    path = str(tmp_path / "system")
    monkeypatch.setattr(journal, "SOCKET", path)
    with socket.socket(socket.AF_UNIX, request.param) as log:
        log.bind(path)
        log.settimeout(30)
        yield log


def heard(log: socket.socket) -> str:
    """Return the next line without its time, process and user; it is a line of its own."""
    if log.type == socket.SOCK_STREAM:
        connection = log.accept()[0]
        with connection:
            data = b"".join(iter(lambda: connection.recv(65536), b""))
        assert data.endswith(b"\0")
        data = data[:-1]
    else:
        data = log.recv(65536)
    line = data.decode()
    assert line.isprintable()
    words = re.fullmatch(
        rf"<30>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d storagectl\[{os.getpid()}\]: "
        rf"user {os.getuid()}(?: \([^)]*\))?: (.*)" + TOOK, line,
    )  # fmt: skip
    assert words, line
    return words[1]


def test_the_systems_log(root: Path, log: Path, system: socket.socket) -> None:
    if system.type == socket.SOCK_STREAM:
        system.listen()
    for words in (["-l", str(log)], []):
        storagectl(root, *words, "pool-list", "--all")
        storagectl(root, *words, "pool-define-as", "a\nb", "dir", "--target", "/t")
        assert heard(system) == (
            f"storagectl --root {root} pool-define-as $'--name=a\\nb' --type=dir --target=/t:"
            " invalid char in name: "
        )
    assert len(records(log)) == 1


@pytest.mark.parametrize("system", [socket.SOCK_DGRAM], indirect=True)
def test_a_log_that_takes_nothing_holds_nobody_up(
    root: Path, system: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WAIT_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"x", journal.SOCKET)
    done = storagectl(root, "pool-define-as", "p", "dir", "--target", "/t")
    assert done.status == 0
    assert re.fullmatch("warning: cannot write to the system's log: .*\n", done.stderr)


def test_a_log_without_a_reader_is_told(root: Path, system: socket.socket) -> None:
    system.close()
    done = storagectl(root, "pool-define-as", "p", "dir", "--target", "/t")
    warning = "warning: cannot write to the system's log: Connection refused\n"
    assert (done.status, done.stderr) == (0, warning)


# The file


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_s25_the_log_is_its_owners_alone(root: Path, log: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        storagectl(root, "-l", str(log), "pool-info", "nosuch")
    finally:
        os.umask(before)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["a\n[x] INFO user 0: b", "a\x1b[2J", "a\r", "a\u202eb", "a\x85b"])
def test_no_name_makes_a_line_of_its_own(root: Path, log: Path, name: str) -> None:
    """S29: what a name says is no record, and does nothing to the terminal it is read on."""
    storagectl(root, "-l", str(log), "pool-define-as", name, "dir", "--target", "/t")
    storagectl(root, "-l", str(log), "pool-info", name)
    lines = log.read_text().split("\n")
    assert lines.pop() == ""
    assert all(re.match(r"\[\d{4}\.[^]]*\] (INFO|ERROR) ", line) for line in lines), lines
    assert all(character.isprintable() for line in lines for character in line)
    assert len(records(log)) == 1


def test_s29_no_secret_is_logged(root: Path, log: Path, tmp_path: Path) -> None:
    document = tmp_path / "secret.xml"
    document.write_text("<secret><usage type='iscsi'><target>t</target></usage></secret>")
    uuid = storagectl(root, "secret-define", str(document)).stdout.split()[1]
    for words in (["--base64", "c2VjcmV0"], ["c2VjcmV0"], ["--base64=c2VjcmV0"]):
        assert storagectl(root, "-l", str(log), "secret-set-value", uuid, *words).status == 0
    assert "c2VjcmV0" not in log.read_text()
    assert len(records(log)) == 3
    assert all("'--base64=***': succeeded" in line for line in records(log))


def test_who_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice\nbob")
    assert journal.user().endswith("sudo by $'alice\\nbob')")
    monkeypatch.delenv("SUDO_USER")
    assert re.fullmatch(r"user \d+(?: \(logged in as \d+\))?", journal.user())


def test_a_long_command_line_is_in_the_log(root: Path, log: Path) -> None:
    """One that were longer than what a log takes would be a change that nobody sees."""
    storagectl(root, "-l", str(log), "pool-define-as", "p", "dir", "--target", "/" + "x" * 100_000)
    (line,) = records(log)
    assert 4000 < len(line) < 10_000
    assert re.search(r"\.\.\. \(100\d+ characters\): .*" + TOOK, line)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_s53_a_log_that_cannot_be_written_fails_no_command(root: Path) -> None:
    words = ["pool-define-as p dir --target /t; pool-define-as q dir --target /u"]
    done = storagectl(root, "-l", "/dev/full", *words)
    assert (done.status, done.stderr) == (0, "error: failed to write the log file\n")
    assert storagectl(root, "pool-list", "--all", "--name").stdout.split() == ["p", "q"]


def test_a_pipe_that_nobody_reads_is_no_log(root: Path, tmp_path: Path) -> None:
    """Nothing waits for a reader."""
    os.mkfifo(tmp_path / "fifo")
    done = storagectl(root, "-l", str(tmp_path / "fifo"), "pool-list")
    assert done == (1, "", "error: failed to open the log file. check the log file path\n")


def test_the_log_of_the_configuration(root: Path, log: Path, tmp_path: Path) -> None:
    config = root / "etc/storagectl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'log = "{log}"\n')
    assert storagectl(root, "pool-define-as", "p", "dir", "--target", "/t").status == 0
    assert storagectl(root, "-l", str(tmp_path / "other"), "pool-undefine", "p").status == 0
    assert storagectl(root, "pool-info", "p").status == 1
    assert len(records(log)) == len(records(tmp_path / "other")) == 1
    assert "ERROR failed to get pool 'p'" in log.read_text()
    config.write_text(f'log = "{tmp_path}/no/folder"\n')
    done = storagectl(root, "pool-define-as", "p", "dir", "--target", "/t")
    assert (done.status, done.stderr) == (
        0, f"warning: cannot write the log '{tmp_path}/no/folder'\n",
    )  # fmt: skip


@pytest.mark.parametrize("value", ["3", '"relative"', '"/a\\u0000b"', "[]"])
def test_what_is_no_log(root: Path, value: str) -> None:
    config = root / "etc/storagectl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"log = {value}\n")
    assert "key 'log' must be an absolute path" in storagectl(root, "pool-list").stderr


def test_records_of_processes_do_not_mix(root: Path, log: Path) -> None:
    """Each is one write to the end of the file."""
    target = "/" + "x" * 3000
    argv = [sys.executable, "-m", "storagectl", "--root", str(root), "-l", str(log)]
    line = "; ".join(f"pool-define-as {{}}{n} dir --target {target}{{}}{n}" for n in range(5))
    running = [subprocess.Popen([*argv, line.format(*[name] * 10)]) for name in "abcd"]
    assert [process.wait(60) for process in running] == [0] * 4
    found = records(log)
    assert len(found) == len(log.read_text().splitlines()) == 20
    assert {line.split()[1] for line in found} == {f"{a}{n}:" for a in "abcd" for n in range(5)}
