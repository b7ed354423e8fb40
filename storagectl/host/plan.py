"""A host that plans: it reads and asks for real, and writes down what it would change.

What has been planned is remembered where a later step of the same command asks for it:
folders and files of ours, and by `expect` what tools would make.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from storagectl.host import TOOL_PATH, Host
from storagectl.host.files import (
    NOCOW,
    STAGED_LOCK,
    acting_as,
    attributes_of,
    has_flag,
    is_staged,
    lock_byte,
    no_cow_flag,
    staged_path,
    system_errors,
)
from storagectl.host.script import Script, join, quote, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from storagectl.host import Bounds
    from storagectl.host.bulk import Mover

# What only makes sense after the changes before it, and whether it must succeed.
AFTERWARDS: dict[tuple[str, ...], bool] = {
    ("udevadm", "settle"): False,
    ("qemu-img", "compare"): True,
}


class Planner(Host):
    """Makes a script of the changes."""

    plans = True
    # to close a device that was open for writing makes udev look at it anew
    device_access = os.O_RDONLY

    def __init__(
        self,
        limits: Mapping[str, float] | None = None,
        tool_path: Sequence[str] = TOOL_PATH,
    ) -> None:
        super().__init__(limits, tool_path)
        self.user = os.geteuid()
        self.files: dict[str, bytes | None] = {}
        self.expected: list[str] = []
        self.anew()
        self.places: dict[int, str] = {}

    def planned(self, name: str) -> str:
        return self.script.text(name)

    # Tools

    def query(
        self,
        argv: Sequence[str],
        *,
        ok: Sequence[int] = (0,),
        limit_s: float | None = None,
        bounds: Bounds | None = None,
    ) -> str:
        needed = AFTERWARDS.get((argv[0], *argv[1:2]))
        if needed is not None and self.script.lines:
            self.find_tool(argv[0])
            self.script.command(argv, needed=needed)
            return ""
        return super().query(argv, ok=ok, limit_s=limit_s, bounds=bounds)

    def change(
        self,
        argv: Sequence[str],
        *,
        ok: Sequence[int] = (0,),
        limit_s: float | None = None,
        heard: Callable[[bytes], None] | None = None,
    ) -> str:
        self.find_tool(argv[0])
        self.record(argv, limit_s=limit_s)
        return ""

    def try_change(self, argv: Sequence[str], *, limit_s: float | None = None) -> None:
        if self.has_tool(argv[0]):
            self.record(argv, limit_s=limit_s, needed=False)

    def record(
        self, argv: Sequence[str], *, limit_s: float | None = None, needed: bool = True
    ) -> None:
        """Add a command to the script, to be run as whom we act as now."""
        limit = [] if limit_s is None else ["timeout", f"{limit_s:.0f}"]
        self.script.command([*self._as_user(), *limit, *argv], needed=needed)

    def _as_user(self) -> list[str]:
        """Return what makes a command run as the user that we act as now."""
        if os.geteuid() == self.user:
            return []
        groups = ",".join(map(str, os.getgroups()))
        return [
            "setpriv", f"--reuid={os.geteuid()}", f"--regid={os.getegid()}",
            f"--groups={groups}" if groups else "--clear-groups",
        ]  # fmt: skip

    def expect(self, what: str) -> bool:
        if what.startswith("/dev/") and not os.path.exists(what):
            self.script.wait_for_device(what)
        self.expected.append(what)
        return True

    def expects(self, what: str) -> bool:
        return any(what == made or what.startswith(f"{made}/") for made in self.expected)

    def expected_at(self, name: str) -> str:
        return next(made for made in self.expected if os.path.basename(made) == name)

    def anew(self) -> None:
        """Begin a script of its own that comes after what is planned already."""
        self.script = Script(self.tool_path)
        self.before = self._state()

    def forget(self) -> None:
        """Forget what was planned since `anew`."""
        self._restore(self.before)

    def _state(self) -> tuple[list[str], list[str], dict[str, bytes | None], list[str]]:
        script = self.script
        return [*script.lines], [*script.secrets], dict(self.files), [*self.expected]

    def _restore(
        self, state: tuple[list[str], list[str], dict[str, bytes | None], list[str]]
    ) -> None:
        self.script.lines, self.script.secrets, self.files, self.expected = state

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        before = self._state()
        try:
            yield
        except BaseException:
            self._restore(before)
            raise

    @contextlib.contextmanager
    def secret_file(self, value: bytes, what: str = "a secret") -> Iterator[str]:
        yield f"/proc/self/fd/{self.script.secret(what)}"

    @contextlib.contextmanager
    def lent(self, fd: int, path: str) -> Iterator[str]:
        yield path

    def tell_kernel(self, path: str, text: str, failure: str) -> None:
        with system_errors(failure):
            os.stat(path)
        self.script.add(f"printf %s {quote(text)} >{quote(path)}")

    # Files

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

    def plan_tries(self, argv: Sequence[str], tries: int) -> None:
        self.find_tool(argv[0])
        command = join([*self._as_user(), *argv])
        self.script.add(
            f"(umask 077; for try in {{1..{tries}}}; do {command} && break;"
            f" [ $try -lt {tries} ]; done)"
        )

    def plan_with_secret(self, what: str, lines: Sequence[str]) -> None:
        self.script.add(f"secret=$(cat <&{self.script.secret(what)})")
        for line in lines:
            self.script.add(line)

    def sync_folder(self, folder: str) -> None:
        """Nothing to make last."""

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

    def set_nocow_of(self, fd: int, path: str) -> None:
        if not self._has_cow(path):
            raise no_cow_flag(path)
        self.record(["chattr", "+C", "--", self.name(fd) or path])

    def _has_cow(self, path: str) -> bool:
        """Tell whether a path is, or is to be, on a file system with the no-copy-on-write flag."""
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        place, kind, length = os.path.realpath(path), "", 0
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

    def _require_free(self, path: str) -> None:
        """Plan to stop where something is at a path by then."""
        words = quote(f"{visible(path)} is there by now")
        self.script.add(f"[ ! -e {quote(path)} ] || {{ echo {words} >&2; exit 1; }}")

    def remove(self, path: str, *, missing_ok: bool = False) -> None:
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

    def remove_secret(self, path: str) -> None:
        if self._exists(path):
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

    def sweep(self, folder: str) -> None:
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
                        self.remove(path)

    # Data of volumes

    def mover(self, mover: Mover) -> Mover:
        from storagectl.host.plan_data import PlannedMover

        return PlannedMover(self, mover.digest)

    @contextlib.contextmanager
    def _unmade(self, path: str) -> Iterator[int]:
        """Give an empty file in memory that stands for one that is only planned."""
        fd = os.memfd_create("planned")
        self.places[fd] = path
        try:
            yield fd
        finally:
            del self.places[fd]
            os.close(fd)

    def name(self, fd: int) -> str | None:
        """Return the path of an open file; None for stdin, stdout and what has no path."""
        if fd in self.places:
            return self.places[fd]
        path = os.readlink(f"/proc/self/fd/{fd}")
        plain = stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISBLK(os.fstat(fd).st_mode)
        return path if plain and fd != 1 else None

    @contextlib.contextmanager
    def opened(self, path: str, *, write: bool = False, follow: bool = False) -> Iterator[int]:
        opening = (
            self._unmade(path)
            if self.expects(path) and not os.path.exists(path)
            else super().opened(path, write=write, follow=follow)
        )
        with opening as fd:
            yield fd

    @contextlib.contextmanager
    def staged(self, path: str, mode: int = 0o600) -> Iterator[str]:
        if self._exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._require_writable(os.path.dirname(path))
        self._require_free(path)
        self.record(["install", f"--mode={mode:04o}", "--", "/dev/null", path])
        self.expected.append(path)
        yield path

    @contextlib.contextmanager
    def open_staged(self, path: str) -> Iterator[int]:
        with self._unmade(path) as fd:
            yield fd

    @contextlib.contextmanager
    def replacing(self, path: str, old: int | None = None) -> Iterator[int]:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if stat.S_ISBLK(status.st_mode):
                os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
            with self._unmade(os.path.abspath(path)) as fd:
                yield fd
            return
        path = os.path.realpath(path)
        folder = os.path.dirname(path)
        self._require_writable(folder)
        self.sweep(folder)
        temporary = staged_path(folder)
        if status is None:
            self.record(["touch", "--", temporary])
        else:
            kept = "mode,ownership" + (",xattr" if attributes_of(path) else "")
            self.record(["cp", "--attributes-only", f"--preserve={kept}", "--", path, temporary])
            if has_flag(path, NOCOW):
                self.record(["chattr", "+C", "--", temporary])
        with self._unmade(temporary) as fd:
            yield fd
        self.record(["mv", "--no-target-directory", "--", temporary, path])

    def truncate(self, fd: int, size: int) -> None:
        limit = (1 << 63) - 1
        if size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self.record(["truncate", f"--size={size}", "--", self._place(fd)])

    def _place(self, fd: int) -> str:
        name = self.name(fd)
        assert name is not None
        return name

    def allocate(self, fd: int, length: int, *, keep_size: bool = False) -> None:
        place = self._place(fd)
        folder = os.path.dirname(place)
        has = os.fstat(fd).st_blocks * 512
        if not self.expects(folder):
            space = os.statvfs(folder)
            if length - has > space.f_bavail * space.f_frsize:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if length:
            self.record(["fallocate", "--posix", f"--length={length}", "--", place])

    def reflink(self, source: int, target: int, *, required: bool) -> bool:
        how = "always" if required else "auto"
        self.record(
            ["cp", f"--reflink={how}", "--sparse=auto" if required else "--sparse=always", "--",
             self._place(source), self._place(target)]
        )  # fmt: skip
        return True

    def complete(self, old: int, new: int, start: int) -> None:
        from storagectl.host.plan_data import complete

        complete(self, old, new, start)

    def sync(self, fd: int) -> None:
        """Nothing to make last."""

    def zero_ranges(self, device: str, ranges: Sequence[tuple[int, int]]) -> None:
        from storagectl.host.plan_data import PlannedMover

        with (
            system_errors(f"cannot zero '{device}'"),
            self.opened(device, write=True, follow=True) as fd,
        ):
            for offset, length in ranges:
                PlannedMover(self).zero(fd, offset, length)
