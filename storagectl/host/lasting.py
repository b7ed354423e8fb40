"""Changes of the names in a folder, which last or are not made at all.

Each syncs its folder once.  Where that fails everything gets back the name that it had: what is
replaced or removed has a hidden one meanwhile, which `Host.sweep` removes where we were killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from storagectl.host.files import (
    NO_HARD_LINKS,
    STAGED_LOCK,
    lock_byte,
    open_as_owner,
    publish,
    rename_new,
    staged_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Warn = Callable[[str], None]

# What a file system says that has no such thing as a folder to be synced.
# Source: fsync_fname_ext in src/common/file_utils.c of PostgreSQL.
NOTHING_TO_SYNC = frozenset({errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Change:
    """What is done to the names in a folder, and how to undo it."""

    def __init__(self, folder: str, warn: Warn) -> None:
        self.folder = folder or "."
        self.undo = contextlib.ExitStack()
        self._warn = warn

    def sync(self) -> None:
        """Make what was done last.  Raises: OSError.

        Who may put files into a folder, and not list it, can't sync it either: a warning.
        """
        fd = -1
        try:
            fd = open_as_owner(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(fd)
        except OSError as error:
            if fd < 0 and error.errno == errno.EACCES:
                self._warn(
                    f"cannot sync folder '{self.folder}', changes may not last: {error.strerror}"
                )
            elif fd < 0 or error.errno not in NOTHING_TO_SYNC:
                words = f"cannot sync folder '{self.folder}': {error.strerror}"
                raise OSError(error.errno, words) from error
        finally:
            if fd >= 0:
                os.close(fd)


@contextlib.contextmanager
def changing(folder: str, warn: Warn) -> Iterator[Change]:
    """Undo what the block has done where it fails.

    Raises: OSError, which says so where that fails too.
    """
    change = Change(folder, warn)
    try:
        yield change
    except BaseException as error:
        try:
            change.undo.close()
        except OSError as another:
            if not isinstance(error, OSError):
                raise error from another
            words = f"{error.strerror}; it cannot be undone, and may not last: {another.strerror}"
            raise OSError(error.errno, words) from error
        with contextlib.suppress(OSError):
            change.sync()
        raise


@contextlib.contextmanager
def unswept(path: str) -> Iterator[None]:
    """Keep `Host.sweep` of other processes from a file that gets a hidden name."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield  # they can't open it either
        return
    try:
        with contextlib.suppress(OSError):
            lock_byte(fd, STAGED_LOCK, fcntl.F_WRLCK)
        yield
    finally:
        os.close(fd)


def put(temporary: str, path: str, warn: Warn) -> None:
    """Give a finished file the name of another one, or a new one.

    Raises: OSError; where a file can't have two names the old one can't come back.
    """
    with unswept(path), changing(os.path.dirname(path), warn) as change:
        hidden = staged_path(os.path.dirname(path))
        after: Callable[[], None] = partial(os.rename, path, temporary)
        kept = True
        try:
            os.link(path, hidden, follow_symlinks=False)
            change.undo.callback(put_back, hidden, path)
        except FileNotFoundError:
            kept = False
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            kept, after = False, partial(gone, path)
        os.rename(temporary, path)
        if not kept:
            change.undo.callback(after)
        change.sync()
        if kept:
            unlink(hidden)


def put_back(hidden: str, path: str) -> None:
    """Give a file back the name that it has had, or has still, beside a hidden one."""
    if os.path.samestat(os.lstat(hidden), os.lstat(path)):
        os.unlink(hidden)
    else:
        os.rename(hidden, path)


def unlink(hidden: str) -> None:
    """Unlink a file unless another process has swept it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(hidden)


def gone(path: str) -> None:
    """Raise OSError: nothing brings back what had a name."""
    raise OSError(errno.ENOENT, f"what '{path}' was is gone")


def publish_new(temporary: str, path: str, warn: Warn) -> None:
    """Give a finished file its name unless something has it.  Raises: OSError."""
    with changing(os.path.dirname(path), warn) as change:
        publish(temporary, path)
        change.undo.callback(os.unlink, path)
        change.sync()


def rename(path: str, new: str, warn: Warn) -> None:
    """Give a file or folder another name unless something has that.  Raises: OSError."""
    with changing(os.path.dirname(new), warn) as change:
        rename_new(path, new)
        change.undo.callback(rename_new, new, path)
        change.sync()


def remove(paths: list[str], warn: Warn) -> None:
    """Unlink files of one folder, all or none; those that are missing are none.

    Raises: OSError.
    """
    with contextlib.ExitStack() as held:
        hidden = []
        with changing(os.path.dirname(paths[0]), warn) as change:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    held.enter_context(unswept(path))
                    hidden += set_aside(path, change)
            change.sync()
            if hidden:
                unlink(hidden[0])
        for path in hidden[1:] * 2:
            # there is no way back from here: what can't be unlinked is swept later
            with contextlib.suppress(OSError):
                os.unlink(path)


def set_aside(path: str, change: Change) -> list[str]:
    """Take the name of a file away.  Returns: the hidden one that it may have instead."""
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode):
        hidden = staged_path(os.path.dirname(path))
        os.rename(path, hidden)
        change.undo.callback(rename_new, hidden, path)
        return [hidden]
    # no sweep opens devices and the like
    target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
    os.unlink(path)
    if target is None:
        change.undo.callback(gone, path)
    else:
        change.undo.callback(os.lchown, path, status.st_uid, status.st_gid)
        change.undo.callback(os.symlink, target, path)
    return []


def link(target: str, path: str, warn: Warn) -> None:
    """Make a symbolic link, also in place of one that leads elsewhere.  Raises: OSError."""
    with changing(os.path.dirname(path), warn) as change:
        hidden = []
        try:
            os.symlink(target, path)
        except FileExistsError:
            if os.path.islink(path) and os.readlink(path) == target:
                return
            hidden = set_aside(path, change)
            os.symlink(target, path)
        change.undo.callback(os.unlink, path)
        change.sync()
        for old in hidden:
            unlink(old)
