"""The seam to the machine: all that is asked of it, and all that lasts, goes through `Host`.

Its commands are in `commands`, its changes of files in `changes`.  Data of volumes is moved by
`storagectl.host.bulk` on descriptors that were opened here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from storagectl.errors import OperationFailed, ResourceBusy, StorageError, SystemFailure
from storagectl.host import mounts
from storagectl.host.changes import FileHost
from storagectl.host.commands import require_permitted
from storagectl.host.files import (
    LARGEST_FILE,
    VOLUME_LOCK,
    content,
    holder_of,
    is_at,
    lock_byte,
    locked,
    open_file,
    system_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from storagectl.host.bulk import Mover

ANSWER_WAIT_S = 10.0

# How the names of file systems begin that a server, or a process, has to answer for.
SERVED = ("9p", "afs", "ceph", "cifs", "fuse", "lustre", "nfs", "smb")

# Source: linux/prctl.h.
PR_SET_DUMPABLE = 4

# How long udev may have a disk locked: while it looks for what is on it after a change.
# Source: systemd, "Locking Block Device Access".
UDEV_PATIENCE_S = 10.0


class Host(FileHost):
    """The machine that storagectl runs on."""

    def asks_together(self, paths: Iterable[str]) -> None:
        """Foresee that `responds` is asked about these paths: with the first one all are.

        They are not looked at before that.
        """
        self.foreseen = paths

    def responds(self, path: str) -> bool:
        """Tell whether the file system at a path answers within ANSWER_WAIT_S.

        That of a server which is gone may never, and whoever asks waits with it, deaf to
        Ctrl-C.  Where nothing is mounted from a server nothing is asked, and what has not
        answered not again, until something else is mounted or unmounted.
        """
        mounts = self.mounts()
        if mounts != self.mounts_asked:
            self.mounts_asked = mounts
            self.questions.clear()
        if not any_served(mounts):
            return True
        from storagectl.host.asking import Question

        limit = self.limits.get("answer", ANSWER_WAIT_S)
        for place in {path, *self.foreseen}:
            if place not in self.questions:
                self.questions[place] = Question(partial(os.statvfs, place), limit)
        self.foreseen = ()
        answers = self.questions[path].is_answered()
        if answers:
            del self.questions[path]
        return answers

    def mounts(self) -> str:
        """Return what is mounted, as /proc/self/mountinfo tells it; stray bytes are surrogates."""
        try:
            return mounts.mounts()
        except OSError as error:
            raise SystemFailure(f"cannot read '{mounts.PATH}': {error.strerror}") from error

    def read_text(self, path: str) -> str:
        """Return the content of a file of the kernel's; stray bytes are surrogates."""
        with (
            system_errors(f"cannot read '{path}'"),
            open(path, encoding="utf-8", errors="surrogateescape") as stream,
        ):
            return stream.read()

    def read_file(self, path: str) -> bytes:
        """Return the content of a file of ours.  Raises: OSError.

        Nothing is waited for, and nothing without end is read: a pipe or a device is none, nor is
        what others than its owner and root may have written.
        """
        return content(path, require_ours)

    def list_folder(self, path: str) -> list[str]:
        """Return the names in a folder of ours.  Raises: OSError."""
        return os.listdir(path)

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder at a path."""
        return os.path.isdir(path)

    def addresses(self, name: str) -> set[str]:
        """Return the addresses of a host by name, none where it is not known."""
        import socket

        with contextlib.suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            return {str(entry[4][0]) for entry in found}
        return set()

    def require_reachable(self, name: str, port: int, seconds: float) -> None:
        """Raise OperationFailed unless a TCP port of a host answers within that time."""
        import socket

        try:
            socket.create_connection((name, port), timeout=seconds).close()
        except (OSError, UnicodeError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise OperationFailed(f"cannot reach '{name}' at port {port}: {cause}") from error

    def unreachable(
        self, ports: Iterable[tuple[str, int]], seconds: float
    ) -> dict[tuple[str, int], str]:
        """Return why ports of hosts do not answer within that time, all asked at once."""
        from storagectl.host.asking import Question

        asked = {
            port: Question(partial(self.require_reachable, *port, seconds), seconds)
            for port in ports
        }
        found = {}
        for (name, port), question in asked.items():
            if not question.is_answered():
                found[name, port] = f"cannot reach '{name}' at port {port}: timed out"
            elif isinstance(question.error, StorageError):
                found[name, port] = question.error.detail
        return found

    def keep_out_of_core_dumps(self) -> None:
        """Have no dump of our memory, or of that of the tools run from now on, written.

        A limit of 0 does not hold where dumps go to a program, one of 1 does.
        Source: core(5); Linux fs/coredump.c; linux/prctl.h, PR_SET_DUMPABLE.
        """
        import resource

        from storagectl.host import libc

        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        libc.function("prctl")(PR_SET_DUMPABLE, 0, 0, 0, 0)

    @contextlib.contextmanager
    def opened(self, path: str, *, write: bool = False, follow: bool = False) -> Iterator[int]:
        """Open a volume and lock it, shared for reading and alone for writing.

        For writing nothing is opened through a symlink, but with `follow`, which is for
        the stable links of devices, and no block device that is mounted or held otherwise.

        Raises: OSError; ResourceBusy when another process is working on it.
        """
        import fcntl

        flags = os.O_RDONLY | os.O_CLOEXEC
        is_block = False
        if write:
            path = os.path.realpath(path) if follow else path
            is_block = stat.S_ISBLK(os.lstat(path).st_mode)
            require_permitted(path)
            access = self.device_access | os.O_EXCL if is_block else os.O_RDWR
            flags = access | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = open_file(path, flags | os.O_NONBLOCK)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISBLK(mode) and (is_block or not stat.S_ISREG(mode)):
                raise OSError(errno.EINVAL, "not a regular file or block device")
            if stat.S_ISBLK(mode):
                free = locked(fd, fcntl.LOCK_EX if write else fcntl.LOCK_SH, UDEV_PATIENCE_S)
            else:
                free = lock_byte(fd, VOLUME_LOCK, fcntl.F_WRLCK if write else fcntl.F_RDLCK)
            if not free:
                raise ResourceBusy(f"'{path}' is being worked on by {holder_of(fd)}")
            if not is_at(fd, path):
                raise ResourceBusy(f"'{path}' has just been replaced by another process")
            yield fd
        finally:
            os.close(fd)

    def mover(self, mover: Mover) -> Mover:
        """Return what moves data on this host, as `mover` would."""
        return mover

    def truncate(self, fd: int, size: int) -> None:
        """Set a file's size.  Raises: OSError, also for more than the system call can say."""
        try:
            os.ftruncate(fd, size)
        except OverflowError as error:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from error

    def allocate(self, fd: int, length: int, *, keep_size: bool = False) -> None:
        """Reserve disk space for the first bytes of a file.  Raises: OSError."""
        from storagectl.host import bulk

        bulk.allocate(fd, 0, length, keep_size=keep_size)

    def reflink(self, source: int, target: int, *, required: bool) -> bool:
        """Make a file share all blocks of another one.

        Returns: whether it does; where that is `required` it is an OSError if not.
        """
        from storagectl.host import bulk

        try:
            bulk.reflink(source, target)
        except OSError:
            if required:
                raise
            return False
        return True

    def complete(self, old: int, new: int, start: int) -> None:
        """Give a file that has `start` bytes the rest of an old one, and make it last."""
        from storagectl.host import bulk

        bulk.complete(old, new, start)
        os.fsync(new)

    def sync(self, fd: int) -> None:
        """Make what was written to a file last.  Raises: OSError."""
        os.fsync(fd)

    @contextlib.contextmanager
    def disk_locked(self, path: str) -> Iterator[str]:
        """Lock a disk against udev; yields who has it alone where that is another process.

        Source: systemd, "Locking Block Device Access".
        """
        import fcntl

        with system_errors(f"cannot open '{path}'"):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield "" if locked(fd, fcntl.LOCK_SH, UDEV_PATIENCE_S) else holder_of(fd)
        finally:
            os.close(fd)

    def zero_ranges(self, device: str, ranges: Sequence[tuple[int, int]]) -> None:
        """Write zeros over ranges (offset, length in bytes) of a device that nobody uses."""
        from storagectl.host import bulk

        with (
            system_errors(f"cannot zero '{device}'"),
            self.opened(device, write=True, follow=True) as fd,
        ):
            for offset, length in ranges:
                bulk.Mover().zero(fd, offset, length)


def require_ours(status: os.stat_result) -> None:
    """Raise OSError for what is no file of ours, or may be somebody else's."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > LARGEST_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    of_another = status.st_uid and status.st_uid != os.geteuid()
    if of_another or status.st_mode & stat.S_IWOTH:
        mode = stat.S_IMODE(status.st_mode)
        raise OSError(
            errno.EPERM, f"others may have written it (owner {status.st_uid}, mode {mode:04o})"
        )


@lru_cache(maxsize=1)
def any_served(mounts: str) -> bool:
    """Tell whether something is mounted that a server, or a process, has to answer for."""
    return any(f" - {kind}" in mounts for kind in SERVED)
