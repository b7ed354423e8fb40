"""What a dry run makes of changes to files and folders: the commands that do the same."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from storagectl.host.files import (
    STAGED_LOCK,
    acting_as,
    is_staged,
    lock_byte,
    no_cow_flag,
    system_errors,
)
from storagectl.host.plan_commands import CommandPlanner
from storagectl.host.script import join, quote, visible

if TYPE_CHECKING:
    from collections.abc import Sequence


class FilePlanner(CommandPlanner):
    """Fails where the change would, as far as that can be known, and remembers what it made."""

    def read_file(self, path: str) -> bytes:
        if path in self.files:
            content = self.files[path]
            if content is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return content
        return super().read_file(path)

    def list_folder(self, path: str) -> list[str]:
        names = set()
        if not self.expects(path):
            names = set(super().list_folder(path))
        for file, content in self.files.items():
            folder, name = os.path.split(file)
            if folder == path:
                (names.discard if content is None else names.add)(name)
        return sorted(names)

    def is_folder(self, path: str) -> bool:
        return path in self.expected or super().is_folder(path)

    def _exists(self, path: str) -> bool:
        if path in self.files:
            return self.files[path] is not None
        return path in self.expected or os.path.lexists(path)

    def _require_writable(self, folder: str) -> None:
        """Raise the OSError of who makes, renames or removes something in a folder."""
        if self.expects(folder):
            return
        code = 0
        if not stat.S_ISDIR(os.stat(folder or ".").st_mode):
            code = errno.ENOTDIR
        elif not os.access(folder or ".", os.W_OK | os.X_OK, effective_ids=True):
            read_only = os.statvfs(folder or ".").f_flag & os.ST_RDONLY
            code = errno.EROFS if read_only else errno.EACCES
        if code:
            raise OSError(code, os.strerror(code))

    def _require_free(self, path: str) -> None:
        """Plan to stop where something is at a path by then."""
        words = quote(f"{visible(path)} is there by now")
        self.script.add(f"[ ! -e {quote(path)} ] || {{ echo {words} >&2; exit 1; }}")

    def scratch(self, parent: str) -> contextlib.AbstractContextManager[str]:
        import tempfile

        return tempfile.TemporaryDirectory(prefix="storagectl-")

    def sweep_scratch(self, parent: str) -> None:
        """Nothing that a script needs to do: the next command does it."""

    def write_atomic(self, path: str, text: str, mode: int = 0o600) -> None:
        with system_errors(f"cannot write '{path}'"):
            self._require_writable(os.path.dirname(path))
        self.script.write(path, text, mode, self._as_user())
        self.files[path] = text.encode("utf-8", "surrogateescape")

    def write_secret(self, path: str, value: bytes, what: str, *, old: str | None = None) -> None:
        with system_errors(f"cannot write '{path}'"):
            self._require_writable(os.path.dirname(path))
        if old is not None:
            self.script.command(["install", "--mode=0600", "--", old, path])
        else:
            number = self.script.secret(what)
            self.script.add(
                f"base64 --wrap=0 <&{number} | install --mode=0600 /dev/stdin {quote(path)}"
            )
        self.files[path] = b""

    def make_folder(self, path: str, mode: int) -> bool:
        with system_errors(f"cannot create directory '{path}'"):
            if self.is_folder(path):
                return False
            if self._exists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self._require_writable(os.path.dirname(path))
        self.record(["mkdir", f"--mode={mode:04o}", "--", path])
        self.expected.append(path)
        return True

    def make_parents(self, path: str) -> list[str]:
        missing: list[str] = []
        folder = os.path.dirname(path)
        with system_errors(f"cannot create path '{path}'"):
            while not self.is_folder(folder):
                if self._exists(folder):
                    code = errno.ENOTDIR if missing else errno.EEXIST
                    raise OSError(code, os.strerror(code))
                missing.append(folder)
                folder = os.path.dirname(folder)
            if missing:
                self._require_writable(folder)
        if missing:
            argv = [*self._as_user(), "mkdir", "--parents", "--", missing[0]]
            self.script.add(f"(umask 022; {join(argv)})")
            self.expected += missing
        return missing

    def unmake(self, folders: Sequence[str]) -> None:
        """Nothing has been made: what failed is no part of the plan."""

    def set_owner_and_mode(
        self, path: str, owner: int | None, group: int | None, mode: int | None
    ) -> None:
        with system_errors(f"cannot change permissions of '{path}'"):
            status = None if self.expects(path) else os.lstat(path)
            self._require_chown(status, owner, group, mode)
        if owner is not None or group is not None:
            who = f"{'' if owner is None else owner}{'' if group is None else f':{group}'}"
            self.record(["chown", "--", who, path])
        if mode is not None:
            self.record(["chmod", "--", f"{mode:04o}", path])

    def _require_chown(
        self, status: os.stat_result | None, owner: int | None, group: int | None, mode: int | None
    ) -> None:
        """Raise PermissionError where only root may do it."""
        us = os.geteuid()
        if us == 0:
            return
        foreign = status is not None and status.st_uid != us
        groups = (None, os.getegid(), *os.getgroups())
        changes = owner is not None or group is not None or mode is not None
        if owner not in (None, us) or group not in groups or (foreign and changes):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def set_label(self, path: str, label: str) -> None:
        self.record(["chcon", "--", label, path], needed=False)

    def set_nocow(self, path: str, cow: str | None) -> None:
        if not self.expects(path):
            with system_errors(f"cannot open directory '{path}'"):
                os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        if self._has_cow(path):
            self.record(["chattr", "-C" if cow == "yes" else "+C", "--", path])
        elif cow is not None:
            raise no_cow_flag(path)

    def _has_cow(self, path: str) -> bool:
        """Tell whether a path is, or is to be, on a file system with the no-copy-on-write flag."""
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        # as /proc/self/mountinfo writes it
        place = re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", os.path.realpath(path))
        kind, length = "", 0
        for line in self.mounts().splitlines():
            head, _, tail = line.partition(" - ")
            target = head.split(" ")[4].rstrip("/")
            if f"{place}/".startswith(f"{target}/") and len(target) >= length:
                kind, length = tail.partition(" ")[0], len(target)
        return kind == "btrfs"

    def rename(self, path: str, new: str) -> None:
        if self._exists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with system_errors(f"cannot rename '{path}' to '{new}'"):
            status = os.lstat(path)
            try:
                self._require_writable(os.path.dirname(new))
                owner = acting_as(None, None)
            except PermissionError:
                owner = acting_as(status.st_uid, status.st_gid)
                with acting_as(status.st_uid, status.st_gid):
                    self._require_writable(os.path.dirname(new))
        self._require_free(new)
        with owner:
            self.record(["mv", "--no-target-directory", "--", path, new])

    def remove(self, path: str, *, missing_ok: bool = False, lasts: bool = False) -> None:
        with system_errors(f"cannot unlink file '{path}'"):
            if not self._exists(path):
                if missing_ok:
                    return
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if self.is_folder(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._require_writable(os.path.dirname(path))
        self.record(["rm", "--force", "--", path])
        self.files[path] = None

    def remove_secret(self, *paths: str) -> None:
        for path in filter(self._exists, paths):
            with system_errors(f"cannot unlink file '{path}'"):
                self._require_writable(os.path.dirname(path))
            self.record(["shred", "--iterations=0", "--zero", "--remove", "--", path])
            self.files[path] = None

    def remove_folder(self, path: str, failure: str) -> None:
        with system_errors(failure):
            if not self.expects(path):
                names = [name for name in os.listdir(path) if self._exists(f"{path}/{name}")]
                code = errno.EBUSY if os.path.ismount(path) else errno.ENOTEMPTY if names else 0
                code = errno.ENOTDIR if os.path.islink(path) else code
                if code:
                    raise OSError(code, os.strerror(code))
            self._require_writable(os.path.dirname(path))
        self.record(["rmdir", "--", path])

    def link(self, target: str, path: str) -> None:
        with system_errors(f"Failed to create symlink '{path}' to '{target}'"):
            self._require_writable(os.path.dirname(path))
        words = ["ln", "--symbolic", "--force", "--no-target-directory", "--", target, path]
        self.record(words)

    def sweep(self, folder: str, *, secret: bool = False) -> None:
        import fcntl

        with contextlib.suppress(OSError):
            for name in sorted(filter(is_staged, os.listdir(folder))):
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                    # nothing of it is left when it is closed
                    unused = lock_byte(fd, STAGED_LOCK, fcntl.F_WRLCK)
                    os.close(fd)
                    if unused and self._exists(path):
                        (self.remove_secret if secret else self.remove)(path)
