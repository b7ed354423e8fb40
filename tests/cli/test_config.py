"""config.toml: what it sets acts, and what it can't set is an error that names it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from inprocess import storagectl

from storagectl import config
from storagectl.config import Config
from storagectl.errors import StorageError
from storagectl.host import Host
from storagectl.host.commands import LIMITS

SOURCES = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Have a pool `images` that runs, with a volume `v`."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/v").write_bytes(b"data")
    target = str(tmp_path / "images")
    assert storagectl(tmp_path, "pool-define-as", "images", "dir", "--target", target).status == 0
    assert storagectl(tmp_path, "pool-start", "images").status == 0
    return tmp_path


def configure(root: Path, text: str | bytes) -> Path:
    file = root / "etc/storagectl/config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


# What is wrong


WIPE = "zero, nnsa, dod, bsi, gutmann, schneier, pfitzner7, pfitzner33, random, trim"
SECONDS = "seconds, above 0 and up to 1000000"
UNSUPPORTED = "unsupported configuration: "


@pytest.mark.parametrize(
    ("text", "cause", "meant"),
    [
        ("confrim = true", f"{UNSUPPORTED}unknown key 'confrim'", "confirm"),
        ("nosuch = 1", f"{UNSUPPORTED}unknown key 'nosuch'", None),
        ('confirm = "yes"', f"{UNSUPPORTED}key 'confirm' must be true or false", None),
        ("confirm = 1", f"{UNSUPPORTED}key 'confirm' must be true or false", None),
        ('wipe-algorithm = "rot13"', f"{UNSUPPORTED}key 'wipe-algorithm' must be one of {WIPE}",
         None),
        ('output = "xml"', f"{UNSUPPORTED}key 'output' must be one of text, json", None),
        ("output = 1", f"{UNSUPPORTED}key 'output' must be one of text, json", None),
        ("tool-path = '/bin'",
         f"{UNSUPPORTED}key 'tool-path' must be a list of absolute folders", None),
        ("tool-path = []",
         f"{UNSUPPORTED}key 'tool-path' must be a list of absolute folders", None),
        ("tool-path = ['/bin', '.']",
         f"{UNSUPPORTED}key 'tool-path' must be a list of absolute folders", None),
        ("wipe-algorithm = []", f"{UNSUPPORTED}key 'wipe-algorithm' must be one of {WIPE}", None),
        ("time-limits = 3", f"{UNSUPPORTED}key 'time-limits' must be a table", None),
        ("[time-limits]\nmuont = 3", f"{UNSUPPORTED}unknown key 'time-limits.muont'",
         "time-limits.mount"),
        ("[time-limits]\nmount = 0", f"{UNSUPPORTED}key 'time-limits.mount' must be {SECONDS}",
         None),
        ("[time-limits]\nmount = -1.5", f"{UNSUPPORTED}key 'time-limits.mount' must be {SECONDS}",
         None),
        ("[time-limits]\nmount = nan", f"{UNSUPPORTED}key 'time-limits.mount' must be {SECONDS}",
         None),
        ("[time-limits]\nmount = inf", f"{UNSUPPORTED}key 'time-limits.mount' must be {SECONDS}",
         None),
        ("[time-limits]\nmount = true", f"{UNSUPPORTED}key 'time-limits.mount' must be {SECONDS}",
         None),
        ("[time-limits]\nmount = 1000001",
         f"{UNSUPPORTED}key 'time-limits.mount' must be {SECONDS}", None),
        ("confirm\n", "configuration file syntax error: Expected '=' after a key in a key/value"
         " pair (at line 1, column 8)", None),
        ("a = " + "[" * 5000, "configuration file syntax error: nested too deeply", None),
        (b"# ok\nconfirm = true # \xff", "configuration file syntax error: line 2 is not UTF-8",
         None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    root: Path, text: str | bytes, cause: str, meant: str | None
) -> None:
    file = configure(root, text)
    expected = f"error: failed to read the configuration '{file}'\nerror: {cause}\n"
    for args in (["pool-list"], ["vol-delete", "v", "images"]):
        assert storagectl(root, *args) == (1, "\n", expected)
    hint = f"hint: did you mean '{meant}'?\n" if meant else ""
    assert storagectl(root, "pool-list", hints=True).stderr == expected + hint
    assert (root / "images/v").exists()
    assert storagectl(root, "help", "pool-list").status == 0


def test_a_file_that_cannot_be_read(root: Path) -> None:
    (root / "etc/storagectl/config.toml").mkdir()
    done = storagectl(root, "pool-list")
    assert (done.status, len(done.stderr.splitlines())) == (1, 2)
    assert "config.toml': Is a directory\n" in done.stderr


# Which files count


def test_a_file_that_the_user_may_not_read_does_not_count(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's is in a folder that storagectl makes for root only."""
    file = configure(root, "nosuch = 1")

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(config.os, "open", refuse)
    Config().read(str(file))


def test_the_user_s_own_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    system, own = "/etc/storagectl/config.toml", f"{tmp_path}/storagectl/config.toml"
    assert config.paths(None, system=False) == [system, own]
    assert config.paths(None, system=True) == [system]
    assert config.paths("/r", system=False) == ["/r/etc/storagectl/config.toml"]
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text('wipe-algorithm = "dod"\n[time-limits]\nmount = 5\nlock = 7\n')
    second.write_text("confirm = true\n[time-limits]\nmount = 6.5\n")
    found = Config()
    for path in (first, tmp_path / "none", tmp_path / "first/none", second):
        found.read(str(path))
    assert (found.confirm, found.wipe_algorithm) == (True, "dod")
    assert found.time_limits == {"mount": 6.5, "lock": 7.0}


# What it does


def test_the_wipe_algorithm(root: Path) -> None:
    """The host is not asked: trim is refused, whatever the volume."""
    configure(root, 'wipe-algorithm = "trim"')
    done = storagectl(root, "vol-wipe", "v", "images")
    assert done.stderr.endswith("error: argument unsupported: 'trim' algorithm not supported\n")
    assert storagectl(root, "vol-wipe", "v", "images", "--algorithm", "zero").status == 0
    assert (root / "images/v").read_bytes() == bytes(4)


def test_the_output(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(root, 'output = "json"')
    for args in (["pool-uuid", "images"], ["pool-info", "nosuch"], ["nosuch"], ["pwd"]):
        assert isinstance(json.loads(storagectl(root, *args).stdout), dict)
    monkeypatch.setenv("STORAGECTL_OUTPUT", "text")
    assert storagectl(root, "pool-list", "--name").stdout.split() == ["images"]
    monkeypatch.delenv("STORAGECTL_OUTPUT")
    configure(root, 'output = "text"')
    assert storagectl(root, "pool-list", "--name").stdout.split() == ["images"]


def test_the_time_limit_of_a_lock(root: Path) -> None:
    configure(root, "[time-limits]\nlock = 0.1\n")
    lock = root / "run/storagectl/lock/images"
    with open(lock, "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = storagectl(root, "pool-destroy", "images")
    who = f"process {os.getpid()} ("
    assert f"resource busy: pool 'images' is being changed by {who}" in done.stderr


@pytest.mark.tools
def test_the_time_limit_of_host_commands(tmp_path: Path) -> None:
    """S48: each kind of command has its own."""
    for kind, run in (("query", Host.query), ("command", Host.change)):
        with pytest.raises(StorageError, match="did not end within 0 s"):
            run(Host({kind: 0.1}), ["sleep", "5"])
        assert run(Host({kind: 0.1}), ["sleep", "0.2"], limit_s=20) == ""
        others = dict.fromkeys(set(config.TIME_LIMITS) - {kind}, 0.1)
        assert run(Host(others), ["sleep", "0.2"]) == ""


@pytest.mark.tools
@pytest.mark.parametrize(
    ("tool", "kind"), [("mkfs.ext4", "format"), ("qemu-img", "copy"), ("scrub", "copy")]
)
def test_s48_what_takes_its_time_has_a_limit_of_its_own(
    tmp_path: Path, tool: str, kind: str
) -> None:
    path = tmp_path / tool
    path.write_text("#!/bin/sh\nexec sleep 5\n")
    path.chmod(0o755)
    with pytest.raises(StorageError, match="did not end within 0 s"):
        Host({kind: 0.1, "command": 60, "query": 60}).change([str(path)])


def test_every_time_limit_is_asked_for() -> None:
    """A name that no code asks for would be read and ignored."""
    source = "".join(
        path.read_text() for path in (SOURCES / "storagectl").rglob("*.py")
        if path.name != "config.py"
    )  # fmt: skip
    for name in config.TIME_LIMITS:
        assert name in LIMITS or f'limits.get("{name}"' in source


# Questions


def on_terminal(root: Path, keys: bytes, *args: str, confirm: bool = True) -> tuple[int, str]:
    """Run a command with stdin and stderr on a terminal; return its status and what it shows."""
    configure(root, f"confirm = {str(confirm).lower()}")
    outer, inner = pty.openpty()
    attributes = termios.tcgetattr(inner)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(inner, termios.TCSANOW, attributes)
    os.write(outer, keys)
    done = subprocess.run(
        [sys.executable, "-m", "storagectl", "--root", str(root), *args],
        env={**os.environ, "PYTHONPATH": str(SOURCES)}, stdin=inner, stderr=inner,
        stdout=subprocess.PIPE, check=False, timeout=30,
    )  # fmt: skip
    os.write(inner, b"\0")
    shown = b""
    while not shown.endswith(b"\0"):
        shown += os.read(outer, 4096)
    os.close(outer)
    os.close(inner)
    return done.returncode, shown[:-1].decode().replace("\r\n", "\n")


@pytest.mark.parametrize("keys", [b"n\n", b"\n", b"yep\n", b"\x04"])
def test_any_answer_but_yes_changes_nothing(root: Path, keys: bytes) -> None:
    status, shown = on_terminal(root, keys, "vol-delete", "v", "images")
    refusal = "error: vol-delete has not been run\nerror: not confirmed, nothing was changed\n"
    assert (status, shown.replace("\n", "")) == (
        1, ("Delete vol v? [y,n]: " + refusal).replace("\n", "")
    )  # fmt: skip
    assert (root / "images/v").read_bytes() == b"data"


@pytest.mark.parametrize("keys", [b"y\n", b" YES \n"])
def test_yes(root: Path, keys: bytes) -> None:
    assert on_terminal(root, keys, "vol-delete", "v", "images") == (0, "Delete vol v? [y,n]: ")
    assert not (root / "images/v").exists()


@pytest.mark.parametrize(
    ("args", "question"),
    [
        ("vol-wipe v images", "Overwrite all of vol v"),
        ("vol-upload v FILE images", "Overwrite vol v"),
        ("vol-resize v 1 images --shrink", "Cut off the end of vol v"),
        ("vol-resize v 1M images", None),
        ("vol-info v images", None),
        ("pool-destroy images", None),
        ("pool-undefine images", "Forget the definition of pool images"),
        ("pool-delete images", "Delete pool images and what is in it"),
        ("pool-build images --overwrite", "Build pool images over what is on its device"),
        ("pool-build images", None),
        ("pool-start images --overwrite", "Build pool images over what is on its device"),
        ("pool-create FILE --overwrite", "Build the pool over what is on its device"),
        ("pool-create-as x dir --target /x --overwrite",
         "Build pool x over what is on its device"),
        ("pool-create-as x dir --target /x --overwrite --print-xml", None),
        ("secret-undefine x", "Forget secret x and its value"),
        ("apply APPLY", None),
        ("apply APPLY --diff --prune volumes", None),
        ("apply APPLY --prune volumes", "Delete vol v of pool images"),
    ],
)  # fmt: skip
def test_what_is_asked_for(root: Path, args: str, question: str | None) -> None:
    (root / "file").write_bytes(b"new")
    (root / "apply.xml").write_text(
        "<pool type='dir'><name>images</name><source/>"
        f"<target><path>{root}/images</path></target><volumes/></pool>"
    )
    args = args.replace("APPLY", str(root / "apply.xml"))
    words = args.replace("FILE", str(root / "file")).split()
    status, shown = on_terminal(root, b"n\n", *words)
    asked, mark, _ = shown.partition("? [y,n]: ")
    assert (asked if mark else None) == question
    if question:
        assert status == 1
        assert "not confirmed" in shown


def test_nothing_is_asked_by_default_or_without_a_terminal(root: Path) -> None:
    assert on_terminal(root, b"", "vol-wipe", "v", "images", confirm=False) == (0, "")
    configure(root, "confirm = true")
    assert storagectl(root, "vol-delete", "v", "images") == (0, "Vol v deleted\n\n", "")


@pytest.mark.parametrize(
    ("line", "times"),
    [("pool-list", 1), ("pool-list; pool-list", 2), ("connect; pool-list; pool-list", 3)],
)
def test_each_command_reads_the_file_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, line: str, times: int
) -> None:
    read: list[str] = []
    monkeypatch.setattr(Config, "read", lambda self, path: read.append(path))
    assert storagectl(root, line).status == 0
    assert read == [str(root / "etc/storagectl/config.toml")] * times


def test_a_command_goes_by_what_the_file_says_when_it_runs(root: Path) -> None:
    file = configure(root, 'output = "json"')
    assert storagectl(root, f"cd {root}; pool-list").stdout.splitlines()[-1].startswith("{")
    file.write_text("nonsense")
    assert storagectl(root, "pool-list").status == 1


def test_tomllib_is_imported_only_for_a_file(root: Path) -> None:
    program = (
        "import atexit, sys\natexit.register(lambda: print('tomllib' in sys.modules))\n"
        "from storagectl.__main__ import main\nmain()"
    )
    for expected in ("False", "True"):
        done = subprocess.run(
            [sys.executable, "-c", program, "--root", str(root), "-q", "pool-uuid", "images"],
            env={**os.environ, "PYTHONPATH": str(SOURCES)}, text=True, check=True,
            capture_output=True,
        )  # fmt: skip
        assert done.stdout.split()[-1] == expected
        configure(root, "confirm = true")
