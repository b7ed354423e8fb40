"""A host that plans: it reads and asks for real, and writes down what it would change."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from storagectl.host.commands import TOOL_PATH
from storagectl.host.files import (
    NOCOW,
    attributes_of,
    has_flag,
    no_cow_flag,
    require_changing,
    staged_path,
    system_errors,
)
from storagectl.host.plan_files import FilePlanner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from storagectl.host.bulk import Mover


class Planner(FilePlanner):
    """Plans all changes; here those of the data of volumes."""

    # to close a device that was open for writing makes udev look at it anew
    device_access = os.O_RDONLY

    def __init__(
        self, limits: Mapping[str, float] | None = None, tool_path: Sequence[str] = TOOL_PATH
    ) -> None:
        super().__init__(limits, tool_path)
        self.places: dict[int, str] = {}

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

    def _place(self, fd: int) -> str:
        name = self.name(fd)
        assert name is not None
        return name

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
        require_changing(os.path.dirname(path))
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
        require_changing(folder)
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

    def set_nocow_of(self, fd: int, path: str) -> None:
        if not self._has_cow(path):
            raise no_cow_flag(path)
        self.record(["chattr", "+C", "--", self.name(fd) or path])

    def truncate(self, fd: int, size: int) -> None:
        limit = (1 << 63) - 1
        if size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self.record(["truncate", f"--size={size}", "--", self._place(fd)])

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
