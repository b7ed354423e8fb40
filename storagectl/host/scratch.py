"""Folders of ours for a file that another program works on, such as the user's editor."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

from storagectl.host.files import is_at, is_staged, staged_path, system_errors

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def scratch(parent: str) -> Iterator[str]:
    """Give a new folder that nobody else may look into, and remove it with all that is in it.

    It is locked meanwhile, so that `sweep` knows what a killed process left behind: an editor
    may put another file in the place of the one that it was given.
    """
    path = fd = None
    try:
        with system_errors(f"cannot create a folder in '{parent}'"):
            while fd is None:
                path = staged_path(parent)
                os.mkdir(path, 0o700)
                fd = locked_folder(path)
        assert path is not None
        yield path
    finally:
        for _ in range(2):  # what fails for once only is not left to a sweep
            if path is not None and os.path.lexists(path):
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):
                    os.rmdir(path)  # the other one opens it first
        if fd is not None:
            os.close(fd)


def sweep(parent: str) -> None:
    """Remove the folders of processes that were killed.  Raises: OSError."""
    for name in filter(is_staged, os.listdir(parent)):
        path = os.path.join(parent, name)
        fd = locked_folder(path)
        if fd is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(fd)


def locked_folder(path: str) -> int | None:
    """Open and lock a folder; None where another process has it, or has removed it.

    Raises: OSError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(fd, path):
            return fd
    os.close(fd)
    return None
