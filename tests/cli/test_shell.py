"""One process, many commands: from stdin and on a terminal, each as fresh as a new process."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).resolve().parents[2]
ARGV = [sys.executable, "-m", "storagectl"]
PROMPT = "storagectl # "


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Make a running pool `d` and return the surroundings of a program that knows it."""
    target = tmp_path / "pool"
    target.mkdir()
    state = tmp_path / "state"
    assert storagectl(state, "pool-create-as", "d", "dir", "--target", str(target)).status == 0
    given = {name: value for name, value in os.environ.items() if "URI" not in name}
    return {
        **given, "PYTHONPATH": str(SOURCES), "STORAGECTL_ROOT": str(state), "TERM": "dumb",
        "XDG_CACHE_HOME": str(tmp_path / "cache"), "LC_ALL": "C.UTF-8",
    }  # fmt: skip


def piped(
    env: dict[str, str], text: str | bytes, *options: str
) -> subprocess.CompletedProcess[str]:
    given = text.encode() if isinstance(text, str) else text
    done = subprocess.run(
        [*ARGV, *options], input=given, capture_output=True, env=env, timeout=60, check=False
    )
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    assert "Traceback" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def answers(text: str) -> list[str]:
    """Return what stands between the prompts, without the lines that were read."""
    return [part.partition("\n")[2] for part in text.split(PROMPT)[1:-1]]


def test_what_changes_between_two_lines_is_seen(env: dict[str, str], tmp_path: Path) -> None:
    """Files, definitions and running pools are looked at anew for each line."""
    program = subprocess.Popen(
        [*ARGV, "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
    )
    assert program.stdin is not None
    assert program.stdout is not None

    def ask(line: str) -> str:
        program.stdin.write(line + "\n")
        program.stdin.flush()
        text = ""
        while not text.endswith("end" + PROMPT):
            data = os.read(program.stdout.fileno(), 65536)
            assert data, "it has ended"
            text += data.decode()
        return text

    state = Path(env["STORAGECTL_ROOT"])
    os.read(program.stdout.fileno(), 65536)
    listing = "vol-list d; echo end"
    assert " a " not in ask(listing)
    (tmp_path / "pool/a").write_bytes(b"x" * 5)
    assert " a " in ask(listing)
    assert "5.00 B" in ask("vol-info a d; echo end")
    (tmp_path / "pool/a").write_bytes(b"x" * 7)
    assert "7.00 B" in ask("vol-info a d; echo end")
    (tmp_path / "pool/a").unlink()
    assert " a " not in ask(listing)
    names = "pool-list --all --name; echo end"
    assert "other" not in ask(names)
    assert storagectl(state, "pool-define-as", "other", "dir", "--target", "/x").status == 0
    assert "other" in ask(names)
    assert "/x<" in ask("pool-dumpxml other; echo end")
    assert storagectl(state, "pool-undefine", "other").status == 0
    assert "other" not in ask(names)
    assert storagectl(state, "pool-define-as", "other", "dir", "--target", "/y").status == 0
    assert "/y<" in ask("pool-dumpxml other; echo end")
    assert storagectl(state, "pool-destroy", "d").status == 0
    assert "d   " not in ask("pool-list --name; echo end")
    program.stdin.close()
    assert program.wait(30) == 0
    program.stdout.close()


def test_lines_are_the_same_as_commands_of_their_own(env: dict[str, str], tmp_path: Path) -> None:
    """A life of volumes through stdin prints what the commands print one by one."""
    state = Path(env["STORAGECTL_ROOT"])
    lines = [
        "vol-create-as d a 1M --allocation 0", "vol-info a d", "vol-clone a b d", "vol-list d",
        "vol-resize a 2M d", "vol-info a --pool d", "vol-dumpxml b d --xpath //name",
        "vol-delete nosuch d", "vol-create-as d a 1M", "vol-create-as d c 1X", "pool-info",
        "vol-delete a d", "vol-delete b d", "vol-list d", "pool-list", "pool-info d --bytes --x",
    ]  # fmt: skip
    together = piped(env, "".join(line + "\n" for line in lines))
    single = [storagectl(state, *line.split()) for line in lines]
    assert together.returncode == 0
    assert answers(together.stdout) == [answer.stdout for answer in single]
    assert together.stderr == "".join(answer.stderr for answer in single)
    assert sum(answer.status for answer in single) == 5


def test_thousands_of_lines(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pool/a").write_bytes(b"x")
    done = piped(env, "vol-path a d\n" * 3000, "-q")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count(f"\n{tmp_path}/pool/a\n") == 3000


def test_a_command_may_read_the_rest_of_stdin(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pool/a").write_bytes(b"0" * 10)
    done = piped(env, "pwd\nvol-upload a /dev/stdin d --length 4\nabcd", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "pool/a").read_bytes() == b"abcd000000"


def test_a_secret_is_one_line_of_stdin(env: dict[str, str], tmp_path: Path) -> None:
    uuid = "11111111-2222-3333-4444-555555555555"
    definition = tmp_path / "secret.xml"
    definition.write_text(f"<secret ephemeral='no' private='no'><uuid>{uuid}</uuid></secret>")
    lines = f"secret-define {definition}\nsecret-set-value {uuid} --interactive\nhidden\n"
    done = piped(env, lines + f"secret-get-value {uuid} --plain\necho after\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hidden" in done.stdout
    assert done.stdout.count("hidden") == 1
    assert "\nafter\n" in done.stdout


@pytest.mark.parametrize(
    "text", [b"\xff\n", b"\x1b[31m\n", b"pool-info \xff\n", b"echo " + b"x" * 99999]
)
def test_odd_lines(env: dict[str, str], text: bytes) -> None:
    done = piped(env, text)
    assert done.returncode == 0
    assert done.stdout.endswith("\n")


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
    ids=str,
)
def test_names_are_utf8_whatever_the_locale(
    env: dict[str, str], tmp_path: Path, locale: dict[str, str]
) -> None:
    """On the command line, from stdin, in definitions and as file names."""
    target = tmp_path / "pööl"
    lines = (
        f"pool-define-as ä日 dir --target {target}\npool-start ä日 --build\nvol-create-as ä日 ö 5\n"
    )
    assert piped({**env, **locale}, lines).stderr == ""
    (target / "日").write_bytes(b"")
    listed = piped({**env, **locale}, "", "-q", "vol-list", "ä日")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout == f" ö    {target}/ö\n 日   {target}/日\n"
    dumped = piped({**env, **locale}, "", "-q", "pool-dumpxml", "ä日", "--xpath", "//name")
    assert dumped.stdout == "<name>ä日</name>\n"
    error = piped({**env, **locale}, "", "-q", "vol-info", "ü", "ä日").stderr
    assert error.startswith("error: failed to get vol 'ü'\n")


def test_an_output_that_is_gone_ends_it(env: dict[str, str]) -> None:
    script = f"yes pwd | {' '.join(ARGV)} -q | head -2"
    done = subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.count("\n") == 2
    assert done.stderr == ""


# On a terminal


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, env: dict[str, str], *options: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(ARGV[0], [*ARGV, *options], env)
        self.shown = ""

    def until(self, end: str) -> str:
        """Read until the terminal shows this; return what came with it."""
        deadline = time.monotonic() + 30
        text = ""
        while end not in text:
            ready, _, _ = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"not shown: {end!r}, but {text!r}"
            text += os.read(self.fd, 65536).decode("utf-8", "replace").replace("\r", "")
        return text

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C when the program waits; CPython's readline misses one in between."""
        stat = Path(f"/proc/{self.pid}/stat")
        deadline = time.monotonic() + 30
        while stat.read_text().rpartition(") ")[2][0] != "S":
            assert time.monotonic() < deadline, "it never waits"
            time.sleep(0.01)
        self.type("\x03")

    def status(self) -> int:
        with suppress(OSError):
            while os.read(self.fd, 65536):
                pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal(env: dict[str, str]) -> Iterator[Terminal]:
    made = Terminal(env)
    made.until(PROMPT)
    yield made
    made.close()


def test_quit_and_the_end_of_input(terminal: Terminal, env: dict[str, str]) -> None:
    terminal.type("pool-info nosuch\n")
    assert "error: failed to get pool 'nosuch'" in terminal.until(PROMPT)
    terminal.type("quit\n")
    assert terminal.status() == 0
    other = Terminal(env, "-r")
    other.until("storagectl > ")
    other.type("\x04")
    assert other.status() == 0
    other.close()


def test_ctrl_c_ends_the_line_and_not_the_shell(terminal: Terminal) -> None:
    terminal.type("vol-delete precious")
    terminal.until("precious")
    terminal.interrupt()
    terminal.until(PROMPT)
    terminal.type("echo on\n")
    assert "\non\n" in terminal.until(PROMPT)
    terminal.type("exit\n")
    assert terminal.status() == 0


def test_ctrl_c_ends_a_command_and_not_the_shell(
    terminal: Terminal, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "pool/a").write_bytes(b"0")
    os.mkfifo(tmp_path / "fifo")
    terminal.type(f"vol-upload a {tmp_path}/fifo d\n")
    terminal.until("fifo d\n")
    time.sleep(0.5)
    terminal.interrupt()
    terminal.until(PROMPT)
    terminal.type("vol-list d\n")
    assert "/pool/a" in terminal.until(PROMPT)
    assert storagectl(env["STORAGECTL_ROOT"], "pool-destroy", "d").status == 0  # no lock is held


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("pool-und\t nosuch\n", "pool-undefine  nosuch"),
        ("pool-info --by\t", "pool-info --bytes "),
        ("vol-list plain\t", "vol-list plainpool "),
        ("vol-info --pool plain\t", "--pool plainpool "),
        ("vol-info --pool d --vol im\t", "--vol image.raw "),
        ("echo x; vol-list plain\t", "vol-list plainpool "),
        ("cd /pro\t", "cd /proc/"),
    ],
)
def test_completion(
    terminal: Terminal, env: dict[str, str], tmp_path: Path, typed: str, completed: str
) -> None:
    state = env["STORAGECTL_ROOT"]
    for name in ("plainpool", "plain bad"):
        target = str(tmp_path / name)
        assert storagectl(state, "pool-define-as", name, "dir", "--target", target).status == 0
    (tmp_path / "pool/image.raw").write_bytes(b"0")
    terminal.type(typed)
    terminal.until(completed)


def test_bytes_that_are_no_utf8_are_typed(terminal: Terminal) -> None:
    os.write(terminal.fd, b"pool-info \xff\xfe\n")
    assert "error: failed to get pool" in terminal.until(PROMPT)
    terminal.type("quit\n")
    assert terminal.status() == 0


def test_history_is_kept_for_its_owner(terminal: Terminal, env: dict[str, str]) -> None:
    terminal.type("echo remembered\n")
    terminal.until(PROMPT)
    terminal.type("quit\n")
    assert terminal.status() == 0
    path = Path(env["XDG_CACHE_HOME"]) / "storagectl/history"
    assert path.stat().st_mode & 0o777 == 0o600
    again = Terminal(env)
    again.until(PROMPT)
    again.type("\x1b[A\x1b[A\n")
    assert "\nremembered\n" in again.until(PROMPT)
    again.close()


def test_a_secret_is_not_in_the_history(terminal: Terminal, env: dict[str, str]) -> None:
    for line in (
        "echo one",
        "secret-set-value nosuch --base64 cGFzcw==",
        "sceret --base64 cGFzcw==",
    ):
        terminal.type(line + "\n")
        terminal.until(PROMPT)
    terminal.type("\x1b[A\n")
    assert "\none\n" in terminal.until(PROMPT)
    terminal.type("quit\n")
    assert terminal.status() == 0
    path = Path(env["XDG_CACHE_HOME"]) / "storagectl/history"
    assert path.read_text() == "echo one\necho one\nquit\n"


@pytest.mark.parametrize(
    ("size", "said", "kept"),
    [
        ("2", "", "echo 3\nquit\n"),
        ("0", "", ""),
        ("x", "error: Bad $VIRSH_HISTSIZE value.\n", "before\n"),
        ("500001", "error: $VIRSH_HISTSIZE value should be between 0 and 500000\n", "before\n"),
        ("-1", "error: $VIRSH_HISTSIZE value should be between 0 and 500000\n", "before\n"),
    ],
)
def test_the_length_of_the_history(env: dict[str, str], size: str, said: str, kept: str) -> None:
    env["VIRSH_HISTSIZE"] = size
    assert piped(env, "").stderr == said
    history = Path(env["XDG_CACHE_HOME"]) / "storagectl/history"
    history.parent.mkdir(parents=True)
    history.write_text("before\n")
    terminal = Terminal(env)
    assert terminal.until(PROMPT).startswith(said + "Welcome")
    for number in range(4):
        terminal.type(f"echo {number}\n")
        terminal.until(PROMPT)
    terminal.type("quit\n")
    assert terminal.status() == 0
    terminal.close()
    assert history.read_text() == kept


def test_stdin_leaves_no_history(env: dict[str, str], tmp_path: Path) -> None:
    piped(env, "echo secret\n")
    assert not (tmp_path / "cache").exists()
