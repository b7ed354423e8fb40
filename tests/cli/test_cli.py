"""The program as a shell runs it: words, exit statuses, signals, odd surroundings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from inprocess import put_on_tool_path

if TYPE_CHECKING:
    from collections.abc import Iterator

from storagectl.host import Host
from storagectl.store import Store

SOURCES = Path(__file__).resolve().parents[2]
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MIB = 1 << 20


class Shell:
    """Runs `storagectl --root STATE ...` and refuses any traceback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.target = folder / "pool"
        self.argv = [sys.executable, "-m", "storagectl", "--root", str(self.state)]
        self.env = {**os.environ, "PYTHONPATH": str(SOURCES)}
        for name in ("STORAGECTL_ROOT", "PYTHONUNBUFFERED"):
            self.env.pop(name, None)

    def run(self, *args: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        given = {"stdin": subprocess.DEVNULL, "capture_output": True, "env": self.env, **settings}
        if "stdout" in settings or "stderr" in settings:
            given.pop("capture_output")
        done = subprocess.run(
            [*self.argv, *args], text=True, errors="surrogateescape", timeout=30, check=False,
            **given,
        )  # fmt: skip
        assert "Traceback" not in (done.stderr or ""), done.stderr
        return done

    def ok(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def fails(self, *args: str) -> str:
        """Run what must fail after it was understood; return stderr."""
        done = self.run(*args)
        assert (done.returncode, done.stdout) == (1, "\n"), done
        return done.stderr

    def sh(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell in which $S is the program."""
        program = " ".join(f"'{word}'" for word in self.argv)
        done = subprocess.run(
            ["bash", "-c", text.replace("$S", program)],
            capture_output=True, text=True, env=self.env, timeout=30, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr + done.stdout, done
        assert "Exception ignored" not in done.stderr, done
        return done

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.argv, *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env,
        )  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def running(shell: Shell) -> Shell:
    """A shell with a running pool `d`."""
    shell.target.mkdir()
    shell.ok("pool-create-as", "d", "dir", "--target", str(shell.target))
    return shell


def test_a_whole_life(shell: Shell) -> None:
    target = str(shell.target)
    assert shell.ok("pool-list", "--all") == (
        " Name   State   Autostart\n---------------------------\n\n"
    )
    assert shell.ok("pool-define-as", "d1", "dir", "--target", target) == "Pool d1 defined\n\n"
    assert shell.ok("pool-build", "d1") == "Pool d1 built\n\n"
    assert shell.ok("pool-start", "d1") == "Pool d1 started\n\n"
    assert shell.ok("pool-autostart", "d1") == "Pool d1 marked as autostarted\n\n"
    assert shell.ok("pool-list") == (
        " Name   State    Autostart\n----------------------------\n d1     active   yes\n\n"
    )
    assert shell.ok("-q", "pool-list") == " d1   active   yes\n"
    assert shell.ok("pool-list", "--name") == f"{'d1':<20}\n\n"
    assert shell.ok("pool-define-as", "dö", "dir", "--target", "/dö") == "Pool dö defined\n\n"
    assert shell.ok("-q", "pool-list", "--inactive", "--name") == f"{'dö':<19}\n"
    assert shell.ok("-q", "pool-undefine", "dö") == ""
    uuid = shell.ok("pool-uuid", "d1").strip()
    assert UUID.fullmatch(uuid)
    assert shell.ok("pool-name", uuid) == "d1\n\n"
    assert shell.ok("pool-list", "--uuid", "--name") == f"{uuid} {'d1':<20}\n\n"
    info = shell.ok("pool-info", "d1").splitlines()
    assert info[:5] == [
        "Name:           d1",
        f"UUID:           {uuid}",
        "State:          running",
        "Persistent:     yes",
        "Autostart:      yes",
    ]
    assert [line.split()[0] for line in info[5:8]] == ["Capacity:", "Allocation:", "Available:"]
    assert f"<path>{target}</path>" in shell.ok("pool-dumpxml", "d1")

    created = shell.ok("vol-create-as", "d1", "a.raw", "1M", "--allocation", "0")
    assert created == "Vol a.raw created\n\n"
    path = f"{target}/a.raw"
    assert shell.ok("vol-path", "a.raw", "--pool", "d1") == f"{path}\n\n"
    assert shell.ok("vol-key", "a.raw", "d1") == f"{path}\n\n"
    assert shell.ok("vol-name", path) == "a.raw\n\n"
    assert shell.ok("vol-pool", path) == "d1\n\n"
    assert shell.ok("vol-pool", "--uuid", path) == f"{uuid}\n\n"
    assert shell.ok("vol-info", "a.raw", "d1") == (
        "Name:           a.raw\nType:           file\n"
        "Capacity:       1.00 MiB\nAllocation:     0.00 B\n\n"
    )
    resized = shell.ok("vol-resize", "a.raw", "3M", "d1")
    assert resized == "Size of volume 'a.raw' successfully changed to 3M\n\n"
    shrunk = shell.ok("vol-resize", "a.raw", "-1M", "d1", "--shrink")
    assert shrunk == "Size of volume 'a.raw' successfully changed by 1M\n\n"
    (shell.folder / "in").write_bytes(b"hello")
    assert shell.ok("vol-upload", "a.raw", str(shell.folder / "in"), "d1") == "\n"
    assert shell.ok("vol-clone", "a.raw", "b.raw", "d1") == "Vol b.raw cloned from a.raw\n\n"
    out = shell.folder / "out"
    assert shell.ok("vol-download", "b.raw", str(out), "d1", "--length", "7") == "\n"
    assert out.read_bytes() == b"hello\0\0"
    assert shell.ok("vol-wipe", "b.raw", "d1") == "Vol b.raw wiped\n\n"
    assert Path(target, "b.raw").read_bytes() == bytes(2 * MIB)
    assert shell.ok("vol-list", "d1").splitlines()[2:] == [
        f" a.raw   {target}/a.raw",
        f" b.raw   {target}/b.raw",
        "",
    ]
    for name in ("a.raw", "b.raw"):
        assert shell.ok("vol-delete", name, "--pool", "d1") == f"Vol {name} deleted\n\n"

    assert shell.ok("pool-refresh", "d1") == "Pool d1 refreshed\n\n"
    assert shell.ok("pool-destroy", uuid) == f"Pool {uuid} destroyed\n\n"
    assert shell.ok("pool-list") == (" Name   State   Autostart\n---------------------------\n\n")
    assert shell.ok("pool-delete", "d1") == "Pool d1 deleted\n\n"
    assert shell.ok("pool-autostart", "d1", "--disable") == "Pool d1 unmarked as autostarted\n\n"
    assert shell.ok("pool-undefine", "d1") == "Pool d1 has been undefined\n\n"
    assert not shell.target.exists()
    left = [path for path in shell.state.rglob("*") if path.is_file() and "lock" not in str(path)]
    assert left == []


def test_dumped_xml_defines_the_same_pool(shell: Shell) -> None:
    shell.ok("pool-define-as", "d1", "dir", "--target", str(shell.target))
    first = shell.ok("pool-dumpxml", "d1")
    (shell.folder / "d1.xml").write_text(first)
    shell.ok("pool-undefine", "d1")
    assert shell.ok("pool-define", str(shell.folder / "d1.xml")) == (
        f"Pool d1 defined from {shell.folder / 'd1.xml'}\n\n"
    )
    assert shell.ok("pool-dumpxml", "d1") == first


def test_failures_have_two_lines_and_status_1(running: Shell) -> None:
    assert running.fails("pool-info", "nosuch") == (
        "error: failed to get pool 'nosuch'\n"
        "error: Storage pool not found: no storage pool with matching name 'nosuch'\n"
    )
    assert running.fails("pool-undefine", "d") == (
        "error: Failed to undefine pool d\n"
        "error: Requested operation is not valid: storage pool 'd' is still active\n"
    )
    assert running.fails("pool-autostart", "d") == (
        "error: failed to mark pool d as autostarted\n"
        "error: internal error: pool has no config file\n"
    )
    assert running.fails("vol-create-as", "d", "a", "10X") == (
        "error: Malformed size 10X\nerror: invalid argument: unknown suffix 'X'\n"
    )
    assert running.fails("vol-resize", "a", "5K", "d") == (
        "error: failed to get vol 'a'\n"
        "error: Storage volume not found: no storage vol with matching path 'a'\n"
    )
    assert running.fails("pool-define", "/nowhere.xml") == (
        "error: Failed to open file '/nowhere.xml': No such file or directory\n"
    )
    assert running.fails("pool-define", "/") == ("error: Failed to read file '/': Is a directory\n")
    assert running.fails("pool-name", "x" * 36) == (
        f"error: failed to get pool '{'x' * 36}'\n"
        "error: uuidstr in virStoragePoolLookupByUUIDString must be a valid UUID\n"
    )


def test_rename(running: Shell) -> None:
    running.ok("vol-create-as", "d", "a", "4k")
    running.ok("vol-create-as", "d", "top", "4k", "--format", "qcow2", "--backing-vol", "a",
               "--backing-vol-format", "raw")  # fmt: skip
    path = f"{running.target}/a"
    assert running.fails("vol-rename", path, "b") == (
        f"error: Failed to rename vol {path} to b\n"
        "error: Requested operation is not valid: volume 'a' is the backing file of volume 'top'"
        " in pool 'd'\n"
    )
    assert running.ok("vol-rename", "top", "b", "d") == "Vol top renamed to b\n\n"
    assert sorted(os.listdir(running.target)) == ["a", "b"]


def test_usage_errors_print_nothing_else(shell: Shell) -> None:
    for args, words in (
        (("pool-info",), "command 'pool-info' requires <pool> option"),
        (("pool-bogus",), "unknown command: 'pool-bogus'"),
        (("pool-list", "--bogus"), "command 'pool-list' doesn't support option --bogus"),
    ):
        done = shell.run(*args)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {words}\n")
    assert not shell.state.exists()


def test_quiet_leaves_results_and_errors(running: Shell) -> None:
    assert running.ok("-q", "pool-refresh", "d") == ""
    done = running.run("-q", "pool-info", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert running.ok("--quiet", "pool-list", "--name") == f"{'d':<20}\n"


def test_a_definition_that_libvirt_knows_and_we_do_not(shell: Shell) -> None:
    shell.ok("pool-define-as", "d", "dir", "--target", str(shell.target))
    folder = shell.state / "etc/storagectl/storage"
    (folder / "n.xml").write_text(
        "<pool type='vstorage'><name>n</name><uuid>11111111-1111-4111-8111-000000000001</uuid>"
        "<target><path>/mnt</path></target></pool>"
    )
    assert "missing backend for pool type" in shell.fails("pool-start", "n")
    assert shell.ok("-q", "pool-list", "--all") == " d   inactive   no\n n   inactive   no\n"


# Streams


def test_s55_closed_streams(running: Shell) -> None:
    for number, closed in enumerate(("<&-", ">&-", "2>&-", "<&- >&- 2>&-")):
        done = running.sh(f"$S vol-create-as d {number} 1M {closed}; echo $?")
        assert done.stdout.endswith("0\n"), (closed, done)
    assert len(os.listdir(running.target)) == 4
    done = running.sh("$S pool-info nosuch <&- >&- 2>&-; echo $?")
    assert done.stdout == "1\n"
    done = running.sh("$S -q <&-; echo $?")
    assert (done.stdout, done.stderr) == ("storagectl # \n0\n", "")


def test_s55_no_data_is_lost_in_a_closed_stream(running: Shell) -> None:
    volume = running.target / "v"
    volume.write_bytes(b"data")
    for command in ("vol-download v - d >&-", "vol-upload v - d <&-"):
        done = running.sh(f"$S {command}; echo $?")
        assert done.stdout.endswith("1\n")
        assert done.stderr.endswith(": Bad file descriptor\n"), done
    assert volume.read_bytes() == b"data"


def test_s55_a_full_stdout_is_a_failure(running: Shell) -> None:
    done = running.sh("$S pool-list > /dev/full; echo $?")
    assert done.stdout == "1\n"
    assert done.stderr == "error: No space left on device\n"
    done = running.sh("$S pool-dumpxml d > /dev/full; echo $?")
    assert done.stdout == "1\n"


def test_s55_a_reader_that_leaves_early(running: Shell) -> None:
    for number in range(300):
        (running.target / f"volume-with-a-long-name-{number:060}").touch()
    done = running.sh("$S vol-list d | head -1")
    assert done.stdout.split() == ["Name", "Path"]
    assert done.stderr == ""
    done = running.sh("set -o pipefail; $S vol-list d | true; echo $?")
    assert done.stderr == ""
    assert done.stdout == "141\n", "as of a program that SIGPIPE ends"
    done = running.sh("$S 'vol-list d; vol-create-as d late 1M' | true")
    assert done.stderr == ""
    assert not (running.target / "late").exists()


def test_a_script_that_ends_with_its_first_error(running: Shell) -> None:
    done = running.sh("""
        set -euo pipefail
        for n in 1 2 3; do $S vol-create-as d vol$n 1M; done
        $S vol-list d | awk 'NR > 2 && NF { print $1 }' | while read -r name _; do
            $S vol-info "$name" d | grep -q Name
        done
        first=$($S pool-list --name | head -1)
        [ $first = d ]
        if $S pool-info nosuch 2>/dev/null; then echo found; fi
        $S vol-delete nosuch d 2>/dev/null || echo "not there: $?"
        echo 'vol-delete vol1 d' | $S >/dev/null
        echo reached
    """)
    assert (done.stdout.splitlines()[-2:], done.stderr) == (["not there: 1", "reached"], "")
    assert sorted(os.listdir(running.target)) == ["vol2", "vol3"]
    for line in ("$S pool-info nosuch | cat", "x=$($S pool-uuid nosuch)", "$S vol-path a d >$F"):
        line = line.replace("$F", str(running.folder / "out"))
        done = running.sh(f"set -euo pipefail; {line}; echo reached")
        assert (done.returncode, done.stdout.strip()) == (1, "")
        assert done.stderr.startswith("error: failed to get ")


def test_download_into_a_pipeline(running: Shell) -> None:
    (running.target / "a").write_bytes(b"content")
    done = running.sh("$S -q vol-download a /dev/stdout d | cat")
    assert (done.stdout, done.stderr) == ("content", "")
    done = running.sh("printf other | $S -q vol-upload a /dev/stdin d; cat $T".replace(
        "$T", str(running.target / "a")))  # fmt: skip
    assert (done.stdout, done.stderr) == ("otherct"[:5] + "nt", "")


def test_s26_a_working_directory_that_is_gone(running: Shell) -> None:
    done = running.sh("mkdir gone; cd gone; rmdir ../gone; $S -q pool-list; echo $?".replace(
        "gone", str(running.folder / "gone"), 3).replace("../", "", 1))  # fmt: skip
    assert done.stdout.endswith("0\n"), done


def test_s26_no_home_and_odd_locale(running: Shell) -> None:
    for name in ("HOME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        running.env.pop(name, None)
    running.env["LC_ALL"] = "C"
    (running.target / "ü").touch()
    assert "ü" in running.ok("vol-list", "d")
    running.env["LC_ALL"] = "xx_YY"
    assert "ü" in running.ok("vol-list", "d")


def test_s07_stray_bytes_in_file_names(running: Shell) -> None:
    Path(os.fsdecode(os.fsencode(running.target) + b"/a\xffb")).touch()
    assert "a\\xffb" in running.ok("vol-list", "d").splitlines()[2].split("   ")[0]
    (running.target / "c\x1b[2Jd").touch()
    assert "\x1b" not in running.ok("vol-list", "d")


# Signals


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=["term", "int", "hup"],
)
def test_s54_s55_a_signal_in_the_middle_leaves_nothing(
    running: Shell, number: signal.Signals, status: int
) -> None:
    """The signal comes while disk space is reserved, with the hidden file there."""
    shim = running.folder / "sitecustomize.py"
    shim.write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "real = os.posix_fallocate\n"
        "def slow(fd, at, count):\n"
        "    real(fd, at, count)\n"
        f"    open({str(running.folder / 'reserved')!r}, 'x').close()\n"
        "    time.sleep(120)\n"
        "os.posix_fallocate = slow\n"
    )
    running.env["PYTHONPATH"] += f":{running.folder}"
    process = running.start("vol-create-as", "d", "a", "1M")
    deadline = time.monotonic() + 60
    while not (running.folder / "reserved").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [path.name[:12] for path in running.target.iterdir()] == [".storagectl-"]
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert list(running.target.iterdir()) == []
    shim.unlink()
    running.ok("vol-create-as", "d", "a", "1M")


def test_s51_a_kill_in_the_middle_is_swept_up_later(running: Shell) -> None:
    shim = running.folder / "sitecustomize.py"
    shim.write_text(
        "import os, signal\n"
        "def kill(*args):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.posix_fallocate = kill\n"
    )
    path = running.env["PYTHONPATH"]
    running.env["PYTHONPATH"] += f":{running.folder}"
    assert running.run("vol-create-as", "d", "a", "1M").returncode == -signal.SIGKILL
    running.env["PYTHONPATH"] = path
    assert len(list(running.target.iterdir())) == 1
    assert running.ok("-q", "vol-list", "d") == ""
    running.ok("vol-create-as", "d", "a", "1M")
    assert os.listdir(running.target) == ["a"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.slow
def test_s51_killed_at_every_change_of_a_definition(shell: Shell) -> None:
    """kill -9 at the N-th of the calls that alter files: old or new, never broken."""
    shell.ok("pool-define-as", "d", "dir", "--target", "/one")
    uuid = shell.ok("pool-uuid", "d").strip()
    document = shell.folder / "d.xml"
    document.write_text(
        f"<pool type='dir'><name>d</name><uuid>{uuid}</uuid>"
        "<target><path>/two</path></target></pool>"
    )
    store = Store(Host(), str(shell.state))
    seen = set()
    calls = "rename,fsync,fchmod,write,unlink"
    for number in range(1, 30):
        trace = [
            "strace", "-f", "-qq", "-o", "/dev/null",
            "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={number}",
        ]  # fmt: skip
        done = subprocess.run(
            [*trace, *shell.argv, "pool-define", str(document)],
            capture_output=True, env=shell.env, check=False, timeout=30,
        )  # fmt: skip
        assert store.names() == {"d"}
        found = store.definition("d")
        assert found is not None
        seen.add(found.target)
        if done.returncode == 0:
            break
    assert done.returncode == 0
    assert number > 2
    assert seen == {"/one", "/two"}
    assert [name for name in os.listdir(store.config) if name.startswith(".")] == []


# Concurrency


def test_s57_one_winner_of_many(running: Shell) -> None:
    racing = [running.start("vol-create-as", "d", "a", "64K") for _ in range(6)]
    results = [(process.communicate(), process.returncode)[1] for process in racing]
    assert sorted(results) == [0] + [1] * 5
    assert os.listdir(running.target) == ["a"]
    racing = [
        running.start("pool-define-as", "new", "dir", "--target", f"/t{number}")
        for number in range(6)
    ]
    results = [(process.communicate(), process.returncode)[1] for process in racing]
    assert sorted(results) == [0] + [1] * 5


# Where nothing may be written, and who may not


def read_only(path: Path) -> None:
    for place in (path, *path.rglob("*")):
        place.chmod(0o555 if place.is_dir() else 0o444)


# The interpreter may be where the user can't read: everything is loaded before.
AS_NOBODY = """
import ctypes, difflib, fcntl, importlib, inspect, os, pkgutil, struct, subprocess, sys
import tempfile, traceback
import storagectl
for module in pkgutil.walk_packages(storagectl.__path__, "storagectl."):
    importlib.import_module(module.name)
os.chdir("/")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.modules["storagectl.__main__"].main()
"""


@pytest.fixture
def user() -> Iterator[Shell]:
    """A shell without privileges and without --root, in a home of its own."""
    home = Path(tempfile.mkdtemp(prefix="h6-", dir="/tmp"))
    shell = Shell(home)
    shell.argv = [sys.executable, "-m", "storagectl"]
    if os.geteuid() == 0:
        os.chown(home, 65534, 65534)
        shell.argv = [sys.executable, "-c", AS_NOBODY]
    for name in list(shell.env):
        if name.startswith("XDG_"):
            del shell.env[name]
    shell.env |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": f"{home}/config",
        "XDG_RUNTIME_DIR": f"{home}/run",
    }
    yield shell
    shutil.rmtree(home)


def test_s27_a_user_has_pools_of_his_own(user: Shell) -> None:
    home = user.folder
    for args in (
        ("pool-define-as", "mine", "dir", "--target", f"{home}/pool"),
        ("pool-start", "mine", "--build"),
        ("vol-create-as", "mine", "a", "1M"),
        ("pool-autostart", "mine"),
    ):
        done = user.run(*args)
        assert (done.returncode, done.stderr) == (0, "")
    assert (home / "config/storagectl/storage/mine.xml").stat().st_mode & 0o777 == 0o600
    assert (home / "run/storagectl/storage/mine.xml").exists()
    assert (home / "pool/a").stat().st_size == MIB
    user.env["XDG_RUNTIME_DIR"] = f"{home}/other"
    done = user.run("-q", "pool-list", "--all")
    assert done.stdout == " mine   inactive   yes\n"


def test_s27_what_a_user_may_not_touch(user: Shell) -> None:
    home = user.folder
    user.run("pool-define-as", "d", "dir", "--target", f"{home}/pool")
    user.run("pool-start", "d", "--build")
    (home / "pool/secret").write_bytes(b"")
    if os.geteuid() == 0:
        (home / "pool/secret").chmod(0o600)
    else:
        (home / "pool/secret").chmod(0o000)
    done = user.run("vol-info", "secret", "d")
    assert (done.returncode, done.stderr) == (0, "")
    done = user.run("vol-download", "secret", f"{home}/out", "d")
    assert (done.returncode, done.stdout) == (1, "\n")
    assert done.stderr == (
        "error: cannot download from volume secret\n"
        f"error: cannot open volume '{home}/pool/secret': Permission denied\n"
    )
    assert not (home / "out").exists()


def test_s53_a_state_folder_that_cannot_be_written(user: Shell) -> None:
    home = user.folder
    for args in (
        ("pool-define-as", "d", "dir", "--target", f"{home}/pool"),
        ("pool-start", "d", "--build"),
    ):
        assert user.run(*args).returncode == 0
    read_only(home / "config")
    read_only(home / "run")
    assert user.run("-q", "pool-list").stdout == " d   active   no\n"
    assert user.run("vol-list", "d").returncode == 0
    for args in (
        ("pool-define-as", "e", "dir", "--target", "/e"),
        ("pool-undefine", "d"),
        ("pool-destroy", "d"),
        ("pool-autostart", "d"),
    ):
        done = user.run(*args)
        assert (done.returncode, done.stdout) == (1, "\n"), done
        assert done.stderr.rstrip().endswith("Permission denied"), done
    assert user.run("-q", "pool-list").stdout == " d   active   no\n"
    for place in (home / "config", home / "run"):
        for path in (place, *place.rglob("*")):
            path.chmod(0o700)


def test_s27_a_state_folder_that_cannot_be_read(user: Shell) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a folder of somebody else's")
    folder = user.folder / "config/storagectl/storage"
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    done = user.run("pool-list")
    assert (done.returncode, done.stdout) == (1, "\n")
    assert done.stderr.splitlines() == [
        "error: Failed to list pools",
        f"error: cannot open directory '{folder}/autostart': Permission denied",
    ]


# Autostart


def test_s49_autostart_starts_what_it_can(shell: Shell) -> None:
    for name in ("a", "b", "c", "d"):
        target = shell.folder / name
        shell.ok("pool-define-as", name, "dir", "--target", str(target))
        if name != "b":
            target.mkdir()
        if name != "d":
            shell.ok("pool-autostart", name)
    done = shell.run("autostart")
    assert done.returncode == 1
    assert sorted(done.stdout.splitlines()) == ["", "Pool a started", "Pool c started"]
    assert done.stderr == (
        "error: Failed to autostart storage pool 'b'\n"
        f"error: cannot open directory '{shell.folder / 'b'}': No such file or directory\n"
        "error: 1 of 3 autostarted pools are not active: b\n"
    )
    (shell.folder / "b").mkdir()
    assert re.fullmatch(r"Pool b started in \d+\.\d s\n\n", shell.ok("autostart", "--timing"))
    assert shell.ok("autostart") == "\n"
    assert shell.ok("-q", "pool-list", "--name", "--inactive") == f"{'d':<20}\n"


def test_pool_edit(shell: Shell) -> None:
    shell.ok("pool-define-as", "d", "dir", "--target", "/one")
    shell.env["EDITOR"] = "sed -i s,/one,/two,"
    shell.env.pop("VISUAL", None)
    assert shell.ok("pool-edit", "d") == "Pool d XML configuration edited.\n\n"
    assert "<path>/two</path>" in shell.ok("pool-dumpxml", "d")
    assert shell.ok("pool-edit", "d") == "Pool d XML configuration not changed.\n\n"
    shell.env["EDITOR"] = "sed -i s,pool,poll,"
    assert "expecting root element of 'pool'" in shell.fails("pool-edit", "d")
    shell.env["EDITOR"] = "false"
    assert "exit status 1" in shell.fails("pool-edit", "d")
    assert "<path>/two</path>" in shell.ok("pool-dumpxml", "d")


def test_s51_pool_edit_that_is_killed_leaves_nothing_to_be_found_by_others(shell: Shell) -> None:
    shell.ok("pool-define-as", "d", "dir", "--target", "/one")
    editor = shell.folder / "editor"
    editor.write_text(
        f'#!/bin/sh\necho "$1" >{shell.folder}/seen\nstat -c %a "$(dirname "$1")" '
        f">>{shell.folder}/seen\nkill -KILL $PPID\n"
    )
    editor.chmod(0o755)
    shell.env["VISUAL"] = str(editor)
    assert shell.run("pool-edit", "d").returncode == -9
    path, mode = (shell.folder / "seen").read_text().split()
    assert path.startswith(f"{shell.state}/run/storagectl/")
    assert (os.path.basename(path), mode) == ("d.xml", "700")
    shell.ok("pool-autostart", "d")
    assert not os.path.exists(os.path.dirname(path))
    assert "<path>/one</path>" in shell.ok("pool-dumpxml", "d")


def test_sources_of_pools(shell: Shell) -> None:
    tools = shell.folder / "tools"
    tools.mkdir()
    tool = tools / "showmount"
    tool.write_text('#!/bin/sh\necho "/srv/$3  *"\n')
    tool.chmod(0o755)
    put_on_tool_path(shell.state, tools)
    found = (
        "<sources>\n  <source>\n    <host name='nas'/>\n    <dir path='/srv/nas'/>\n"
        "    <format type='nfs'/>\n  </source>\n</sources>\n"
    )
    for words in (("nas",), ("--host", "nas", "--port", "7", "--initiator", "iqn.x")):
        assert shell.ok("find-storage-pool-sources-as", "netfs", *words) == found + "\n"
    (shell.folder / "s.xml").write_text("<source><host name='nas'/></source>")
    given = str(shell.folder / "s.xml")
    for command in (("--srcSpec", given), (given,)):
        assert shell.ok("-q", "find-storage-pool-sources", "netfs", *command) == found
    tool.write_text("#!/bin/sh\necho 'RPC: Unknown host' >&2\nexit 1\n")
    shell.env["STORAGECTL_HINTS"] = "always"
    assert shell.fails("find-storage-pool-sources-as", "netfs", "nas") == (
        "error: Failed to find any netfs pool sources\n"
        "error: operation failed: no storage pools were found on host 'nas'\n"
        "hint: RPC: Unknown host\n"
    )
    del shell.env["STORAGECTL_HINTS"]
    for host, said in (
        ("a'b", "(storage_source_specification):2: attributes construct error"),
        ("-x", "XML error: Invalid value for attribute 'name' in element 'host': '-x'."),
    ):
        words = ("find-storage-pool-sources-as", "netfs", f"--host={host}")
        assert shell.fails(*words).splitlines()[1] == f"error: {said}"
    assert shell.fails("find-storage-pool-sources-as", "dir") == (
        "error: Failed to find any dir pool sources\n"
        "error: this function is not supported by the connection driver: pool type 'dir' does not"
        " support source discovery\n"
    )
    assert "No such file" in shell.fails("find-storage-pool-sources", "netfs", "/nosuch.xml")
    done = shell.run("find-storage-pool-sources-as")
    assert done.stderr == ("error: command 'find-storage-pool-sources-as' requires <type> option\n")
