"""S53, S55: names in a folder are changed for good or not at all, whatever fails or interrupts."""

from __future__ import annotations

import errno
import gc
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tally

from storagectl.errors import SystemFailure
from storagectl.host import Host, files, lasting
from storagectl.host.files import is_staged, staged_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

# nothing of this is to wait for a disk
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def replace(host: Host, folder: Path) -> None:
    with host.replacing(str(folder / "old")) as fd:
        os.write(fd, b"new")


def fill(host: Host, folder: Path) -> None:
    with host.staged(str(folder / "new")) as staged:
        Path(staged).write_text("new")


def download(host: Host, folder: Path) -> None:
    with host.replacing(str(folder / "new")) as fd:
        os.write(fd, b"new")


ACTIONS: dict[str, Callable[[Host, Path], None]] = {
    "write_atomic, new": lambda host, folder: host.write_atomic(str(folder / "new"), "new"),
    "write_atomic": lambda host, folder: host.write_atomic(str(folder / "old"), "new"),
    "write_atomic, a link": lambda host, folder: host.write_atomic(str(folder / "link"), "new"),
    "write_secret": lambda host, folder: host.write_secret(str(folder / "old"), b"new", "it"),
    "replacing, new": download,
    "replacing": replace,
    "staged": fill,
    "rename": lambda host, folder: host.rename(str(folder / "old"), str(folder / "new")),
    "rename, a folder": lambda host, folder: host.rename(str(folder / "sub"), str(folder / "new")),
    "remove": lambda host, folder: host.remove(str(folder / "old"), lasts=True),
    "remove, a link": lambda host, folder: host.remove(str(folder / "link"), lasts=True),
    "remove_secret": lambda host, folder: host.remove_secret(
        *(str(folder / name) for name in ("old", "gone", "other"))
    ),
    "link": lambda host, folder: host.link("x", str(folder / "new")),
    "link, another": lambda host, folder: host.link("x", str(folder / "link")),
    "link, for a file": lambda host, folder: host.link("x", str(folder / "old")),
}
# What has no hidden name, but is there again.
MADE_AGAIN = ("link",)

each_action = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lasting-", dir=MEMORY) as name:
        folder = Path(name)
        folder.chmod(0o755)
        begin(folder)
        yield folder
        monkeypatch.undo()


def begin(folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("old", "other"):
        (folder / name).write_text(name)
        (folder / name).chmod(0o640)
    (folder / "link").symlink_to("old")


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def picture(folder: Path, *, same: bool = True) -> dict[str, object]:
    """Return what is there, with `same` which files they are as well."""
    found: dict[str, object] = {}
    for path in folder.iterdir():
        status = path.lstat()
        content = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_text()
        which = status.st_ino if same and path.name not in MADE_AGAIN else None
        found[path.name] = (stat.S_IFMT(status.st_mode), status.st_nlink, content, which)
    return found


def folder_syncs(code: int, *, once: bool = False) -> Callable[[int], None]:
    """Return an fsync that fails of folders."""
    real, failed = os.fsync, []

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) and not (once and failed):
            failed.append(fd)
            raise OSError(code, os.strerror(code))
        real(fd)

    return fsync


@each_action
@pytest.mark.parametrize("once", [True, False], ids=["once", "for good"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_s53_a_folder_that_is_not_synced_is_as_before(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[Host, Path], None],
    code: int,
    once: bool,
) -> None:
    before = picture(folder)
    monkeypatch.setattr(os, "fsync", folder_syncs(code, once=once))
    with pytest.raises((SystemFailure, OSError)) as caught:
        action(Host(), folder)
    words = getattr(caught.value, "strerror", None) or str(caught.value)
    assert words.endswith(f"cannot sync folder '{folder}': {os.strerror(code)}")
    with tally.counted("folders that can't be synced"):
        assert picture(folder) == before
    monkeypatch.undo()
    action(Host(), folder)
    assert picture(folder) != before


@each_action
def test_each_change_syncs_its_folder_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[Host, Path], None]
) -> None:
    done: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            done.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    action(Host(), folder)
    assert len(done) == 1
    assert not [path for path in folder.iterdir() if is_staged(path.name)]


@each_action
@pytest.mark.parametrize("call", ["rename", "unlink", "link", "symlink"])
def test_s53_a_change_of_names_that_fails_once_is_undone(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[Host, Path], None],
    call: str,
) -> None:
    """Each call in turn.  A file that nothing else depends on any more may be left to a sweep."""
    before = picture(folder)
    with monkeypatch.context() as patch:
        calls = failing_once(patch, call, None)
        action(Host(), folder)
    after = picture(folder, same=False)
    for number in range(len(calls)):
        empty(folder)
        begin(folder)
        before = picture(folder)
        with monkeypatch.context() as patch:
            failing_once(patch, call, number)
            try:
                action(Host(), folder)
            except (SystemFailure, OSError):
                assert picture(folder) == before
            else:
                assert picture(folder, same=False) == after


def failing_once(patch: pytest.MonkeyPatch, name: str, number: int | None) -> list[int]:
    """Have a call of that number fail.  Returns: a list that grows with each call."""
    real, calls = getattr(os, name), []

    def call(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) - 1 == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments, **settings)

    patch.setattr(os, name, call)
    return calls


@pytest.mark.parametrize("name", ["remove", "write_atomic"])
def test_s53_what_cannot_be_undone_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The file system becomes read-only with the failure."""

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            for call in ("rename", "unlink", "link"):
                monkeypatch.setattr(os, call, refuse)
            monkeypatch.setattr(files, "renamed_new", refuse)
            refuse()

    def refuse(*arguments: object, **settings: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SystemFailure) as caught:
        ACTIONS[name](Host(), folder)
    assert str(caught.value).endswith(
        f"cannot sync folder '{folder}': Read-only file system; it cannot be undone, and may not"
        " last: Read-only file system"
    )


def test_s53_without_hard_links_the_error_says_that_the_old_file_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on vfat."""

    def refuse(*arguments: object, **settings: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    ACTIONS["write_atomic"](Host(), folder)
    assert (folder / "old").read_text() == "new"
    monkeypatch.setattr(os, "fsync", folder_syncs(errno.EIO))
    with pytest.raises(SystemFailure, match=f"last: what '{folder}/old' was is gone$"):
        Host().write_atomic(str(folder / "old"), "newer")
    assert (folder / "old").read_text() == "newer"
    assert not [path for path in folder.iterdir() if is_staged(path.name)]


@each_action
@pytest.mark.parametrize("code", sorted(lasting.NOTHING_TO_SYNC))
def test_a_file_system_that_syncs_no_folders_does_without(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[Host, Path], None],
    code: int,
) -> None:
    before = picture(folder)
    monkeypatch.setattr(os, "fsync", folder_syncs(code))
    action(Host(), folder)
    assert picture(folder) != before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_folder_that_may_not_be_listed_is_a_warning(folder: Path) -> None:
    folder.chmod(0o733)
    host, said = Host(), []
    host.warn = said.append
    with files.acting_as(65534, 65534):
        host.write_atomic(str(folder / "new"), "new")
    assert (folder / "new").read_text() == "new"
    assert said == [f"cannot sync folder '{folder}', changes may not last: Permission denied"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_s53_a_folder_is_synced_as_its_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server may not let root list it."""
    real = os.open

    def refusing(path: Any, flags: int, *more: Any, **settings: Any) -> int:
        if path == str(folder) and os.geteuid() == 0:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *more, **settings)

    os.chown(folder, 65534, 65534)
    monkeypatch.setattr(os, "open", refusing)
    host, said = Host(), []
    host.warn = said.append
    host.write_atomic(str(folder / "new"), "new")
    assert said == []


# What others do meanwhile


@pytest.mark.parametrize("name", ["write_atomic", "remove", "replacing"])
def test_s57_a_sweep_leaves_what_has_a_hidden_name_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before, hidden = picture(folder), []

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            hidden.append([path for path in folder.iterdir() if is_staged(path.name)])
            Host().sweep(str(folder))
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises((SystemFailure, OSError)):
        ACTIONS[name](Host(), folder)
    assert picture(folder) == before
    assert len(hidden[0]) == 1


def test_s57_a_new_file_of_the_same_name_is_not_replaced_when_a_removal_is_undone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(fd: int) -> None:
        (folder / "old").write_text("another's")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SystemFailure, match="cannot be undone, and may not last: File exists$"):
        ACTIONS["remove"](Host(), folder)
    assert (folder / "old").read_text() == "another's"


def test_s46_a_value_left_by_a_killed_process_is_overwritten(folder: Path) -> None:
    """Not where it has another name still: that is the value itself."""
    left = Path(staged_path(str(folder)))
    left.write_text("secret")
    kept = Path(staged_path(str(folder)))
    kept.hardlink_to(folder / "old")
    (link := Path(staged_path(str(folder)))).symlink_to("old")
    with left.open() as stream:
        Host().sweep(str(folder), secret=True)
        assert stream.read() == "\0" * 6
    assert not any(os.path.lexists(path) for path in (left, kept, link))
    assert (folder / "old").read_text() == "old"


@pytest.mark.parametrize("name", ["write_secret", "remove_secret"])
def test_s46_a_value_is_overwritten_when_it_is_gone_and_not_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with (folder / "old").open() as stream:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", folder_syncs(errno.EIO))
            with pytest.raises(SystemFailure):
                ACTIONS[name](Host(), folder)
        assert stream.read() == "old"
        ACTIONS[name](Host(), folder)
        stream.seek(0)
        assert stream.read() == "\0" * 3


# Signals


@pytest.fixture
def handlers() -> Iterator[None]:
    """Have each signal as it was, whatever was cut short."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


TRACED = tuple(
    sys.modules[name].__file__
    for name in (
        "storagectl.host",
        "storagectl.host.files",
        "storagectl.host.lasting",
        "contextlib",
    )
)


def interrupted(action: Callable[[], None], at: int) -> bool:
    """Do something, and send ourselves SIGINT at that line of it.  Returns: whether it has so many.

    Each point where Python looks for signals is at the begin of a line.
    """
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            lines += 1
            if lines == at:
                os.kill(os.getpid(), signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        sys.settrace(before)
    finally:
        sys.settrace(before)
    return lines >= at


@each_action
@pytest.mark.usefixtures("handlers")
def test_s55_a_signal_at_any_line_leaves_the_old_or_the_new(
    folder: Path, action: Callable[[Host, Path], None]
) -> None:
    before = picture(folder, same=False)
    action(Host(), folder)
    after = picture(folder, same=False)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for at in range(1, 2000):
        empty(folder)
        begin(folder)
        went_on = interrupted(lambda: action(Host(), folder), at)
        gc.collect(0)  # what the exception had kept
        for number, handler in kept.items():
            signal.signal(number, handler)
        with tally.counted("SIGINT at a line that changes names"):
            assert picture(folder, same=False) in (before, after), at
        if not went_on:
            break
    assert 50 < at < 1999
