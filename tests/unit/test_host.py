"""The seam to the machine: tools, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from fakehost import FakeHost, WrongCommand

from storagectl import host as host_module
from storagectl.errors import (
    OperationFailed,
    ResourceBusy,
    SystemFailure,
    ToolFailed,
    ToolMissing,
    ToolTalkative,
    ToolTimeout,
)
from storagectl.host import Host, changes, files
from storagectl.host.commands import TOOL_PATH
from storagectl.host.files import is_staged, locked, publish, staged_path, system_errors


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture(params=[0o000, 0o077], ids=["umask-000", "umask-077"])
def any_umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# Tools


def test_find_tool_takes_the_first_in_path(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        script(tmp_path / name, "h6-tool", "exit 0")
    host = Host(tool_path=[f"{tmp_path}/one", f"{tmp_path}/two"])
    assert host.find_tool("h6-tool") == f"{tmp_path}/one/h6-tool"
    assert host.has_tool("h6-tool")


def test_find_tool_leaves_out_what_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "one" / "h6-tool").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "h6-tool").write_text("not executable")
    host = Host(tool_path=[f"{tmp_path}/one", f"{tmp_path}/two"])
    assert not host.has_tool("h6-tool")


def test_s26_the_path_and_the_working_directory_of_the_caller_count_for_nothing(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, "h6-tool", "exit 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:.:/usr/bin:")
    assert host.tool_path == TOOL_PATH
    with pytest.raises(ToolMissing):
        host.find_tool("h6-tool")


def test_missing_tool_names_the_package() -> None:
    host = Host(tool_path=["/nowhere"])
    with pytest.raises(ToolMissing) as caught:
        host.query(["mkfs.xfs", "/dev/x"])
    assert caught.value.lines() == ["Cannot find 'mkfs.xfs' in path: No such file or directory"]
    assert caught.value.hint == "install the package xfsprogs"
    with pytest.raises(ToolMissing) as caught:
        host.query(["h6-unheard-of"])
    assert caught.value.hint == ""


@pytest.mark.tools
def test_s26_environment_of_children(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_MESSAGES", "de_DE.UTF-8")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LVM_SYSTEM_DIR", "/tmp/evil")
    for name in ("PYTHONPATH", "IFS", "TMPDIR", "HOME", "BASH_ENV", "PASSWD", "TZ"):
        monkeypatch.setenv(name, "/evil")
    assert host.query(["env"]).splitlines() == [f"PATH={':'.join(TOOL_PATH)}", "LC_ALL=C"]


@pytest.mark.tools
def test_children_have_no_stdin_and_none_of_our_files(host: Host, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w"):
        listed = host.query(["sh", "-c", "readlink /proc/self/fd/0; ls -l /proc/$$/fd"])
    assert listed.splitlines()[0] == "/dev/null"
    assert str(tmp_path) not in listed


@pytest.mark.tools
def test_tool_failed_says_what_ran_and_why(host: Host, tmp_path: Path) -> None:
    tool = str(script(tmp_path, "tool", "echo out; echo 'no way' >&2; exit 7"))
    with pytest.raises(ToolFailed) as caught:
        host.change([tool, "a b", "$(id)"])
    assert caught.value.lines() == [
        f"internal error: Child process ({tool} 'a b' '$(id)') unexpected exit status 7: no way\n"
    ]
    assert host.query([tool], ok=(0, 7)) == "out\n"


@pytest.mark.tools
def test_tool_killed_by_a_signal(host: Host) -> None:
    with pytest.raises(ToolFailed, match="unexpected fatal signal 9$"):
        host.change(["sh", "-c", "kill -9 $$"])


@pytest.mark.tools
def test_s48_a_tool_that_takes_too_long_ends_with_its_children(host: Host, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    tool = script(tmp_path, "tool", f"sleep 60 & echo $$ $! > {pids}; wait")
    with pytest.raises(ToolTimeout) as caught:
        host.change([str(tool), "-x"], limit_s=5)
    assert caught.value.lines() == [
        f"internal error: Child process ({tool} -x) did not end within 5 s"
    ]
    for pid in pids.read_text().split():
        status = Path(f"/proc/{pid}/status")
        with contextlib.suppress(FileNotFoundError):
            deadline = time.monotonic() + 5
            while "State:\tZ" not in status.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert host.query(["echo", "in time"], limit_s=60) == "in time\n"


@pytest.mark.tools
def test_s63_output_has_a_bound(host: Host, tmp_path: Path) -> None:
    """100 MB are not read; what a tool complains of is cut in the middle."""
    endless = str(script(tmp_path, "endless", "exec yes"))
    with pytest.raises(ToolTalkative) as caught:
        host.query([endless], limit_s=60)
    assert caught.value.lines() == [
        f"internal error: Child process ({endless}) printed more than 32 MiB"
    ]
    loud = script(
        tmp_path, "loud", "echo first >&2; yes | head -c 3000000 >&2; echo last >&2; exit 5"
    )
    with pytest.raises(ToolFailed) as failed:
        host.change([str(loud)], limit_s=60)
    assert failed.value.stderr.startswith("first\ny\n")
    assert failed.value.stderr.endswith("y\nlast\n")
    assert "\n...\n" in failed.value.stderr
    assert len(failed.value.stderr) < 70_000


@pytest.mark.tools
def test_s63_a_daemon_that_a_tool_leaves_behind_is_not_waited_for(
    host: Host, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    daemon = script(tmp_path, "daemon", f"echo started; setsid sleep 40 & echo $! >{pid}")
    began = time.monotonic()
    assert host.change([str(daemon)], limit_s=35) == "started\n"
    assert time.monotonic() - began < 30
    os.kill(int(pid.read_text()), 9)


@pytest.mark.tools
def test_s63_a_tool_that_closes_its_output_and_stays_is_ended(host: Host, tmp_path: Path) -> None:
    silent = script(tmp_path, "silent", "exec >&- 2>&-; sleep 60")
    with pytest.raises(ToolTimeout):
        host.query([str(silent)], limit_s=0.5)


def test_s48_a_file_system_that_does_not_answer(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()
    real = os.statvfs
    monkeypatch.setattr(host_module, "ANSWER_WAIT_S", 0.05)
    monkeypatch.setattr(os, "statvfs", lambda path: gone.wait() if "x" in path else real(path))
    mounts = "41 29 0:51 / /x rw - nfs4 h:/x rw,vers=4.2\n"
    monkeypatch.setattr(host, "mounts", lambda: mounts)
    try:
        assert not host.responds("/x")
        assert host.responds("/")
        assert host.responds("/nothing/here")
        mounts = "41 29 259:0 / / rw - ext4 /dev/vda rw\n"
        assert host.responds("/x")
    finally:
        gone.set()


def test_s48_what_answers_late_is_there_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()
    monkeypatch.setattr(os, "statvfs", lambda path: back.wait(30))
    monkeypatch.setattr(host, "mounts", lambda: "41 29 0:51 / /x rw - nfs4 h:/x rw\n")
    monkeypatch.setattr(host, "limits", {"answer": 0.0})
    assert not host.responds("/x")
    (question,) = host.questions.values()
    assert not host.responds("/x")
    assert list(host.questions.values()) == [question]
    back.set()
    monkeypatch.setattr(question, "_until", time.monotonic() + 30)
    assert host.responds("/x")


def test_ports_are_asked_at_the_same_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    met = threading.Barrier(3)

    def reach(name: str, port: int, seconds: float) -> None:
        met.wait(30)
        if name == "away":
            raise OperationFailed(f"cannot reach '{name}' at port {port}: no route")

    monkeypatch.setattr(host, "require_reachable", reach)
    ports = [("nas", 2049), ("away", 2049), ("nas", 3260)]
    said = {("away", 2049): "cannot reach 'away' at port 2049: no route"}
    assert host.unreachable(ports, 30) == said
    never = threading.Event()
    monkeypatch.setattr(host, "require_reachable", lambda *_: never.wait(30))
    late = {("nas", 1): "cannot reach 'nas' at port 1: timed out"}
    assert host.unreachable([("nas", 1)], 0.01) == late
    never.set()


@pytest.mark.tools
def test_tool_that_cannot_be_run(host: Host, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"\x7fELF nonsense")
    tool.chmod(0o755)
    with pytest.raises(SystemFailure, match=f"cannot run '{tool}': Exec format error"):
        host.query([str(tool)])


@pytest.mark.tools
def test_output_that_is_not_utf8_survives(host: Host) -> None:
    assert host.query(["printf", r"a\377b"]).encode("utf-8", "surrogateescape") == b"a\xffb"


@pytest.mark.tools
def test_s05_no_shell_reads_arguments(host: Host, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    word = f"$(touch {canary})`touch {canary}`; touch {canary}\n'"
    assert host.query(["printf", "%s", word]) == word
    assert not canary.exists()


@pytest.mark.tools
def test_converse_fails_as_the_program_does(host: Host) -> None:
    host.converse(["true"])
    with pytest.raises(ToolFailed, match="unexpected exit status 1"):
        host.converse(["false"])


# The fake itself


def test_fake_host_refuses_what_the_script_has_not() -> None:
    fake = FakeHost((["a"], "out", 0), (["b"], "bad", 3))
    assert fake.query(["a"]) == "out"
    with pytest.raises(ToolFailed, match="unexpected exit status 3: bad"):
        fake.query(["b"])
    with pytest.raises(WrongCommand, match="unexpected"):
        fake.query(["a"])
    with pytest.raises(WrongCommand, match="expected"):
        FakeHost((["a"], "", 0)).query(["b"])
    with pytest.raises(WrongCommand, match="not run"), FakeHost((["a"], "", 0)):
        pass


# Files written as a whole


@pytest.mark.usefixtures("any_umask")
def test_s25_write_atomic_has_exactly_its_mode(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "file"
    host.write_atomic(str(path), "one")
    assert (path.read_text(), mode_of(path)) == ("one", 0o600)
    host.write_atomic(str(path), "two", 0o640)
    assert (path.read_text(), mode_of(path)) == ("two", 0o640)
    assert os.listdir(tmp_path) == ["file"]


def test_write_atomic_replaces_a_symlink_and_not_its_target(host: Host, tmp_path: Path) -> None:
    """S24."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "file").symlink_to(victim)
    host.write_atomic(str(tmp_path / "file"), "new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("planted", ["symlink", "dangling", "hardlink", "fifo", "file"])
def test_s24_a_planted_temporary_file_is_never_used(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    """Even somebody who guesses the random name gets nothing but an error."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))
    monkeypatch.setattr(Host, "sweep", lambda self, folder: None)  # it would be gone by then
    trap = Path(staged_path(str(tmp_path)))
    victim = tmp_path / "victim"
    if planted != "dangling":
        victim.write_text("precious")
    if planted in ("symlink", "dangling"):
        trap.symlink_to(victim)
    elif planted == "hardlink":
        trap.hardlink_to(victim)
    elif planted == "fifo":
        os.mkfifo(trap)
    else:
        trap.write_text("planted")
    for action in (
        lambda: host.write_atomic(str(tmp_path / "file"), "new"),
        lambda: host.staged(str(tmp_path / "file")).__enter__(),
        lambda: host.replacing(str(tmp_path / "file")).__enter__(),
    ):
        with pytest.raises((SystemFailure, FileExistsError)):
            action()
    assert not (tmp_path / "file").exists()
    assert victim.exists() == (planted != "dangling")
    if victim.exists():
        assert victim.read_text() == "precious"


def test_s53_write_atomic_leaves_the_old_file_when_it_fails(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    host.write_atomic(str(path), "old")
    for call in ("fsync", "rename", "fchmod"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(errno.ENOSPC))
            with pytest.raises(SystemFailure, match=f"cannot write '{path}': No space left"):
                host.write_atomic(str(path), "new")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["file"]


def failing(code: int) -> object:
    def fail(*args: object, **named: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_s52_write_atomic_syncs_file_then_renames_then_syncs_folder(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(fd: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def note_rename(old: str, new: str) -> None:
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    host.write_atomic(str(tmp_path / "file"), "x")
    assert done == ["file", "rename", "folder"]


def test_link_replaces_and_leaves_nothing_else(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "link"
    host.link("one", str(path))
    host.link("two", str(path))
    assert os.readlink(path) == "two"
    monkeypatch.setattr(os, "symlink", failing(errno.EIO))
    with pytest.raises(SystemFailure, match="Failed to create symlink .* to 'three'"):
        host.link("three", str(path))
    assert os.listdir(tmp_path) == ["link"]
    assert os.readlink(path) == "two"


# Staged files


@pytest.mark.usefixtures("any_umask")
def test_s25_staged_has_exactly_its_mode_from_the_start(host: Host, tmp_path: Path) -> None:
    with host.staged(str(tmp_path / "v"), 0o600) as staged:
        assert mode_of(Path(staged)) == 0o600
        assert is_staged(os.path.basename(staged))
        assert not (tmp_path / "v").exists()
        Path(staged).write_text("content")
    assert (tmp_path / "v").read_text() == "content"
    assert mode_of(tmp_path / "v") == 0o600
    assert os.listdir(tmp_path) == ["v"]


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_s54_staged_leaves_nothing_after_a_failure(
    host: Host, tmp_path: Path, problem: type[BaseException]
) -> None:
    with pytest.raises(problem), host.staged(str(tmp_path / "v")):
        raise problem
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("hard_links", [True, False])
def test_s57_staged_never_replaces(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr(files, "renamed_new", lambda path, new: False)
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    path = tmp_path / "v"
    with pytest.raises(FileExistsError), host.staged(str(path)) as staged:  # noqa: PT012
        Path(staged).write_text("second")
        path.write_text("first")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["v"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_s22_staged_never_follows_a_planted_link(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr(files, "renamed_new", lambda path, new: False)
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    victim = tmp_path / "victim"
    with pytest.raises(FileExistsError), host.staged(str(tmp_path / "v")) as staged:  # noqa: PT012
        Path(staged).write_text("new")
        (tmp_path / "v").symlink_to(victim)
    assert not victim.exists()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_publish_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(files, "renamed_new", lambda path, new: False)
    monkeypatch.setattr(os, "link", failing(code))
    (tmp_path / "part").write_text("x")
    publish(str(tmp_path / "part"), str(tmp_path / "v"))
    assert os.listdir(tmp_path) == ["v"]
    assert (tmp_path / "v").read_text() == "x"


def test_publish_gives_the_name_back_when_the_last_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "renamed_new", lambda path, new: False)
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os, "rename", failing(errno.EIO))
    (tmp_path / "part").write_text("x")
    with pytest.raises(OSError, match="Input/output"):
        publish(str(tmp_path / "part"), str(tmp_path / "v"))
    assert os.listdir(tmp_path) == ["part"]


def test_s51_sweep_removes_what_a_killed_process_left(host: Host, tmp_path: Path) -> None:
    left = Path(staged_path(str(tmp_path)))
    left.write_text("half")
    (tmp_path / ".storagectl-mine").write_text("not staged")
    (tmp_path / "x.part").write_text("not staged")
    with host.staged(str(tmp_path / "v")) as staged:
        host.sweep(str(tmp_path))
        assert os.path.exists(staged)
        assert not left.exists()
    assert sorted(os.listdir(tmp_path)) == [".storagectl-mine", "v", "x.part"]


def test_s24_sweep_follows_no_link_and_hangs_on_no_fifo(host: Host, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path(staged_path(str(tmp_path))).symlink_to(victim)
    os.mkfifo(staged_path(str(tmp_path)))
    host.sweep(str(tmp_path))
    assert victim.read_text() == "precious"
    host.sweep(str(tmp_path / "missing"))


def test_a_file_swept_before_its_lock_is_made_anew(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S57: another process may sweep between open(2) and the lock."""
    real, swept = files.lock_byte, []

    def lock(fd: int, byte: int, kind: int, *, wait: bool = False) -> bool:
        if not swept:
            swept.append(os.readlink(f"/proc/self/fd/{fd}"))
            os.unlink(swept[0])
        return real(fd, byte, kind, wait=wait)

    monkeypatch.setattr(changes, "lock_byte", lock)
    with host.staged(str(tmp_path / "v")) as staged:
        assert staged != swept[0]
    assert os.listdir(tmp_path) == ["v"]
    swept.clear()
    host.write_atomic(str(tmp_path / "f"), "text")
    assert swept
    assert (tmp_path / "f").read_text() == "text"


# Replacing a file of the user's


def test_replacing_makes_a_new_file_with_the_users_umask(host: Host, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with host.replacing(str(tmp_path / "out")) as fd:
            os.write(fd, b"x")
            assert not (tmp_path / "out").exists()
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "out") == 0o640
    assert os.listdir(tmp_path) == ["out"]


def test_s56_replacing_keeps_the_old_file_until_the_end(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("old")
    out.chmod(0o604)
    with pytest.raises(KeyboardInterrupt), host.replacing(str(out)) as fd:  # noqa: PT012
        os.write(fd, b"half")
        raise KeyboardInterrupt
    assert out.read_text() == "old"
    with host.replacing(str(out)) as fd:
        os.write(fd, b"new")
        assert out.read_text() == "old"
    assert (out.read_text(), mode_of(out)) == ("new", 0o604)
    assert os.listdir(tmp_path) == ["out"]


def test_replacing_goes_through_the_users_own_link(host: Host, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "out").symlink_to("real")
    with host.replacing(str(tmp_path / "out")) as fd:
        os.write(fd, b"new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_replacing_writes_a_pipe_in_place(host: Host) -> None:
    """Also one that has no name but /dev/fd/N, as /dev/stdout in a pipeline."""
    reading, writing = os.pipe()
    with host.replacing(f"/dev/fd/{writing}") as fd:
        os.write(fd, b"data")
    os.close(writing)
    assert os.read(reading, 10) == b"data"
    os.close(reading)


# Opening volumes


def test_opened_for_reading_follows_a_link(host: Host, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "v").symlink_to("real")
    with host.opened(str(tmp_path / "v")) as fd:
        assert os.read(fd, 2) == b"x"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"y")


def test_s22_opened_for_writing_refuses_a_link(host: Host, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "v").symlink_to("real")
    with (
        pytest.raises(OSError, match="symbolic links"),
        host.opened(str(tmp_path / "v"), write=True),
    ):
        pass
    assert (tmp_path / "real").read_text() == "x"


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "device"])
@pytest.mark.parametrize("write", [True, False])
def test_s22_opened_takes_files_and_disks_only(
    host: Host, tmp_path: Path, kind: str, write: bool
) -> None:
    path = tmp_path / "v"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/null")
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    with pytest.raises(OSError), host.opened(str(path), write=write):  # noqa: PT011
        pass


def test_s22_a_disk_swapped_for_a_file_is_refused(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the open."""
    (tmp_path / "v").write_text("x")
    fake = os.stat_result((stat.S_IFBLK | 0o600, *[0] * 9))
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lambda path: fake)
        with (
            pytest.raises(OSError, match="not a regular file or block device"),
            host.opened(str(tmp_path / "v"), write=True),
        ):
            pass


def test_s22_links_are_followed_for_writing_only_where_the_host_keeps_them(
    host: Host, tmp_path: Path
) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "v").symlink_to("real")
    with pytest.raises(OSError), host.opened(str(tmp_path / "v"), write=True):  # noqa: PT011
        pass
    with host.opened(str(tmp_path / "v"), write=True, follow=True) as fd:
        assert os.pread(fd, 1, 0) == b"x"


@pytest.mark.parametrize(("first", "second", "fine"), [
    (False, False, True), (False, True, False), (True, False, False), (True, True, False),
])  # fmt: skip
def test_s57_a_volume_has_many_readers_or_one_writer(
    host: Host, tmp_path: Path, first: bool, second: bool, fine: bool
) -> None:
    path = tmp_path / "v"
    path.write_text("x")
    with host.opened(str(path), write=first):
        if fine:
            with host.opened(str(path), write=second):
                pass
        else:
            with (
                pytest.raises(ResourceBusy, match=f"'{path}' is being worked on"),
                host.opened(str(path), write=second),
            ):
                pass


def test_lock_of_udev_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.touch()
    with path.open() as udev, path.open() as ours:
        fcntl.flock(udev, fcntl.LOCK_SH)
        assert not locked(ours.fileno(), fcntl.LOCK_EX, 0)
        threading.Timer(0.05, fcntl.flock, (udev, fcntl.LOCK_UN)).start()
        assert locked(ours.fileno(), fcntl.LOCK_EX, 10)


# Folders, owners, flags


@pytest.mark.usefixtures("any_umask")
def test_make_folder(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "d"
    assert host.make_folder(str(path), 0o711)
    assert mode_of(path) == 0o711
    assert not host.make_folder(str(path), 0o700)
    assert mode_of(path) == 0o711
    (tmp_path / "f").write_text("")
    with pytest.raises(SystemFailure, match="cannot create directory '.*/f': File exists"):
        host.make_folder(str(tmp_path / "f"), 0o700)


def test_s22_set_owner_and_mode_never_follows_a_link(host: Host, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    victim.chmod(0o644)
    (tmp_path / "v").symlink_to(victim)
    with pytest.raises(SystemFailure, match="cannot change permissions of"):
        host.set_owner_and_mode(str(tmp_path / "v"), None, None, 0o777)
    assert mode_of(victim) == 0o644
    host.set_owner_and_mode(str(victim), os.getuid(), os.getgid(), 0o640)
    assert mode_of(victim) == 0o640


def test_set_nocow_where_the_file_system_has_none(host: Host) -> None:
    """tmpfs has no such flag: that matters to who asked only."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        host.set_nocow(folder, None)
        for wanted in ("yes", "no"):
            with pytest.raises(SystemFailure, match=f"COW flag on '{folder}', not btrfs"):
                host.set_nocow(folder, wanted)
        with (
            tempfile.TemporaryFile(dir=folder) as stream,
            pytest.raises(SystemFailure, match="COW flag on '/p/v', not btrfs"),
        ):
            host.set_nocow_of(stream.fileno(), "/p/v")


def test_remove(host: Host, tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    Path(path).write_text("")
    host.remove(path)
    host.remove(path, missing_ok=True)
    with pytest.raises(SystemFailure, match=f"cannot unlink file '{path}': No such file"):
        host.remove(path)


def test_remove_folder_is_never_recursive(host: Host, tmp_path: Path) -> None:
    """S42."""
    (tmp_path / "d" / "e").mkdir(parents=True)
    with pytest.raises(SystemFailure, match="^failed so: Directory not empty$"):
        host.remove_folder(str(tmp_path / "d"), "failed so")
    assert (tmp_path / "d" / "e").is_dir()


def test_system_errors_leaves_other_errors_alone() -> None:
    with pytest.raises(SystemFailure, match="^what: Permission denied$"), system_errors("what"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with pytest.raises(KeyError), system_errors("what"):
        raise KeyError


def test_s55_ctrl_c_ends_the_child_first(tmp_path: Path) -> None:
    """An interrupted storagectl leaves no tool running behind it."""
    pid = tmp_path / "pid"
    text = f"sleep 0.5; echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60"
    tool = script(tmp_path, "tool", text)
    program = textwrap.dedent(f"""\
        import os, signal, threading, time
        from storagectl.host import Host
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def interrupt():
            while not os.path.exists({str(tmp_path / "pid")!r}):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            Host().change([{str(tool)!r}])
        except KeyboardInterrupt:
            print("interrupted")
        """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "interrupted\n"
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


@pytest.mark.tools
def test_s28_a_secret_file_is_for_the_tools_run_meanwhile(tmp_path: Path) -> None:
    host = Host()
    with host.secret_file(b"first") as one, host.secret_file(b"second \0") as two:
        assert host.query(["cat", one, two, one]) == "firstsecond \0first"
    with pytest.raises(ToolFailed, match="No such file"):
        host.query(["cat", one])


def test_s57_a_lease_is_waited_for(tmp_path: Path) -> None:
    """Else an image would be taken for raw data while another process asks who has it open."""
    path = tmp_path / "image"
    path.write_bytes(b"x")
    script = (
        "import fcntl, signal, sys, time\n"
        "told = []\n"
        "signal.signal(signal.SIGIO, lambda *_: told.append(1))\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print('leased', flush=True)\n"
        "while not told: time.sleep(0.01)\n"
        "fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)\n"
    )
    argv = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "leased\n"
        with pytest.raises(BlockingIOError):
            os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.close(files.open_file(str(path), os.O_RDONLY | os.O_NONBLOCK))
        assert other.wait(30) == 0


# Folders for what the user edits


def test_s51_a_scratch_folder_of_a_killed_process_is_swept(host: Host, tmp_path: Path) -> None:
    """Not one in use, whatever file the editor has put there."""
    left = Path(staged_path(str(tmp_path)))
    (left / "deep").mkdir(parents=True)
    (left / "deep/file").write_text("edited")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("precious")
    link = Path(staged_path(str(tmp_path)))
    with host.scratch(str(tmp_path)) as folder:
        assert mode_of(Path(folder)) == 0o700
        (Path(folder) / "new").write_text("edited")
        os.rename(f"{folder}/new", f"{folder}/file")
        host.sweep_scratch(str(tmp_path))
        assert (Path(folder) / "file").read_text() == "edited"
    assert os.listdir(tmp_path) == ["victim"]
    link.symlink_to("victim")
    host.sweep_scratch(str(tmp_path))
    host.sweep_scratch(str(tmp_path / "missing"))
    assert (tmp_path / "victim/file").read_text() == "precious"


def test_a_scratch_folder_swept_before_its_lock_is_made_anew(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = fcntl.flock, []

    def lock(fd: int, how: int) -> None:
        if not swept:
            swept.append(os.readlink(f"/proc/self/fd/{fd}"))
            os.rmdir(swept[0])
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    with host.scratch(str(tmp_path)) as folder:
        assert folder != swept[0]
    assert os.listdir(tmp_path) == []


def test_s53_a_scratch_folder_that_cannot_be_made(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in ("mkdir", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(errno.EMFILE))
            with (
                pytest.raises(SystemFailure, match="cannot create a folder in .*: Too many open"),
                host.scratch(str(tmp_path)),
            ):
                pass
        assert os.listdir(tmp_path) == []
