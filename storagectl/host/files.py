"""What every layer needs of files: opening, locking, naming and describing them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import time
from typing import TYPE_CHECKING

from storagectl.errors import SystemFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LABEL = "security.selinux"

# Source: linux/fs.h.
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
NOCOW = 0x00800000
APPEND = 0x00000020

NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

# Source: linux/fs.h, linux/fcntl.h.
AT_FDCWD = -100
NOREPLACE = 1

READ_SIZE = 1 << 13
# Files that were read, by path: what they were like, and what they said.
KNOWN: dict[str, tuple[tuple[int, ...], bytes]] = {}
MOST_KNOWN = 4096
SETTLED_NS = 1_000_000_000
FLOCK = "hhqqi4x"
# Bytes of a file that are locked: no tool asks for them.
STAGED_LOCK = 1 << 62
VOLUME_LOCK = STAGED_LOCK + 1

LEASE_WAIT_S = 60.0
LEASE_POLL_S = 0.005

# Of a definition or a secret, in bytes.
LARGEST_FILE = 10 << 20

STAGED_PREFIX = ".storagectl-"
STAGED_SUFFIX = ".part"


@contextlib.contextmanager
def wiped(path: str) -> Iterator[None]:
    """Overwrite what a file has had when the block has removed or replaced it.

    Nothing is written to a file that has another name as well.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield  # there is none, or what it is only the block can tell
        return
    try:
        yield
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
            with contextlib.suppress(OSError):
                os.pwrite(fd, bytes(min(status.st_size, LARGEST_FILE)), 0)
                os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def acting_as(owner: int | None, group: int | None) -> Iterator[None]:
    """Work on files as another user where we are root: a file server may not let root."""
    if os.geteuid() != 0 or not (owner or group):
        yield
        return
    # what is imported later: the other user may not be let to where Python's modules are
    from storagectl.host import lasting, libc  # noqa: F401

    groups, own_group = os.getgroups(), os.getegid()
    try:
        os.setgroups([own_group if group is None else group])
        os.setegid(own_group if group is None else group)
        os.seteuid(owner or 0)
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_group)
        os.setgroups(groups)


def content(path: str, check: Callable[[os.stat_result], object] = bool) -> bytes:
    """Return the content of a file; a pipe that nobody writes to has none.

    It is read again when its inode tells that it has changed since, and when it had been changed
    shortly before: what changes it twice within a tick of the kernel's clock leaves the same times.
    Raises: OSError, and what `check` raises for its inode.
    Source: git, Documentation/technical/racy-git.txt.
    """
    if path in KNOWN:
        stamp, data = KNOWN[path]
        status = os.stat(path)
        if stamp == stamp_of(status):
            check(status)
            return data
    now_ns = time.time_ns()
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        check(status)
        data = os.read(fd, READ_SIZE)
        if len(data) != status.st_size:
            data += rest_of(fd)
    finally:
        os.close(fd)
    if stat.S_ISREG(status.st_mode) and now_ns - status.st_ctime_ns > SETTLED_NS:
        if len(KNOWN) == MOST_KNOWN:
            KNOWN.clear()
        KNOWN[path] = stamp_of(status), data
    return data


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells one state of a file from another, and from another file."""
    return (status.st_ctime_ns, status.st_ino, status.st_size, status.st_dev)


def rest_of(fd: int) -> bytes:
    """Return what is left of a file to read."""
    found = b""
    while part := os.read(fd, READ_SIZE):
        found += part
    return found


def open_file(path: str, flags: int) -> int:
    """Open a file that is there, as its owner where root is refused by a file server."""
    return when_unleased(open_as_owner, path, flags)


def when_unleased(opened: Callable[[str, int], int], path: str, flags: int) -> int:
    """Open a file; wait where another process has a lease of it, as `is_open_once` for a moment.

    Source: fcntl(2), Leases: the kernel ends one that is not given up within 45 s.
    """
    deadline = time.monotonic() + LEASE_WAIT_S
    while True:
        try:
            return opened(path, flags)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LEASE_POLL_S)


def open_as_owner(path: str, flags: int) -> int:
    """Open a file that is there, as its owner where we are refused."""
    try:
        return os.open(path, flags)
    except PermissionError:
        status = os.stat(path, follow_symlinks=not flags & os.O_NOFOLLOW)
        with acting_as(status.st_uid, status.st_gid):
            return os.open(path, flags)


def is_at(fd: int, path: str, *, follow: bool = True) -> bool:
    """Tell whether an open file is still the one at a path."""
    try:
        now = os.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        return False
    return os.path.samestat(now, os.fstat(fd))


def is_open_once(fd: int) -> bool:
    """Tell whether nobody else, such as a guest or a loop device, has a file open.

    Who opens it at this moment makes the kernel send SIGIO, which would end the process.
    Source: fcntl(2), F_SETLEASE; where there are no leases everybody may have it open.
    """
    import fcntl

    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        signal.signal(signal.SIGIO, before)
    return True


def label_of(path: str) -> str | None:
    """Return a file's security label, None where it has none.  Source: see Host.set_label."""
    try:
        return os.fsdecode(os.getxattr(path, LABEL).rstrip(b"\0")) or None
    except OSError:
        return None


def attributes_of(file: str | int) -> list[str]:
    """Return the names of a file's extended attributes, none where there are no such things."""
    try:
        return os.listxattr(file)
    except OSError:
        return []


def flags_of(fd: int) -> int:
    """Return a file's inode flags.  Raises: OSError.  Source: ioctl_iflags(2)."""
    import fcntl
    import struct

    flags: int = struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0]
    return flags


def has_flag(file: str | int, flag: int) -> bool:
    """Tell whether a file has an inode flag; not where its file system knows none."""
    try:
        fd = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return bool(flags_of(fd) & flag)
    except OSError:
        return False
    finally:
        os.close(fd)


def keeps_names(folder: str) -> bool:
    """Tell whether files can be made in a folder, and not be renamed or removed, for the flag a.

    Source: ioctl_iflags(2), FS_APPEND_FL.
    """
    try:
        fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return has_flag(fd, APPEND)
    finally:
        os.close(fd)


def require_changing(folder: str) -> None:
    """Raise PermissionError, as a rename would, for a folder that keeps the names in it."""
    if keeps_names(folder):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def locked(fd: int, lock: int, patience_s: float) -> bool:
    """Lock a file as flock(2) does, in bounded time; False when another process has it."""
    import fcntl

    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, lock | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def publish(temporary: str, path: str) -> None:
    """Give a finished file its name unless something has it.  Raises: FileExistsError.

    Where that can't be done in one step link(2) refuses an existing name; some network file
    systems have no hard links either, there the name is reserved first.
    """
    if renamed_new(temporary, path):
        return
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        try:
            os.rename(temporary, path)
        except BaseException:
            os.unlink(path)
            raise
    else:
        try:
            os.unlink(temporary)
        except BaseException:
            os.unlink(path)
            raise


def renamed_new(path: str, new: str) -> bool:
    """Rename in one step unless something has the new name; False where there is no such step.

    Raises: FileExistsError.
    Source: rename(2), RENAME_NOREPLACE; linux/fcntl.h, AT_FDCWD.
    """
    from storagectl.host import libc

    rename = libc.function("renameat2")
    if rename(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(new), NOREPLACE) == 0:
        return True
    failure = libc.failure()
    if failure.errno not in (errno.EINVAL, errno.ENOSYS):
        raise failure
    return False


def rename_new(path: str, new: str) -> None:
    """Rename unless something has the new name.  Raises: FileExistsError.

    Some network file systems can't do it in one step.
    """
    if os.path.isdir(path) and renamed_new(path, new):
        return
    if not os.path.isdir(path):
        publish(path, new)
        return
    os.mkdir(new, 0o700)
    try:
        os.rename(path, new)
    except BaseException:
        os.rmdir(new)
        raise


def holder_of(fd: int) -> str:
    """Return who has locked an open file, for a message: `process 4711 (qemu-system-x86)`."""
    from storagectl.host.locks import holders, named

    return named(holders(fd))


def locked_by_others(fd: int) -> bool:
    """Tell whether another process has locked bytes of a file, as qemu has of its images.

    Source: fcntl(2), open file description locks.
    """
    import fcntl
    import struct

    lock = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer: bytes = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, lock)
    return bool(struct.unpack(FLOCK, answer)[0] != fcntl.F_UNLCK)


def lock_byte(fd: int, byte: int, kind: int, *, wait: bool = False) -> bool:
    """Lock a byte of a file, which need not be there; False when another process has it.

    On a network file system flock(2) would take the whole file, and qemu-img, which locks
    bytes of its own, would fail.
    Source: fcntl(2), open file description locks.
    """
    import fcntl
    import struct

    lock = struct.pack(FLOCK, kind, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, lock)
    except BlockingIOError:
        return False
    return True


def staged_path(folder: str) -> str:
    """Return a new name for an unfinished file in a folder."""
    return os.path.join(folder, f"{STAGED_PREFIX}{os.urandom(8).hex()}{STAGED_SUFFIX}")


def is_staged(name: str) -> bool:
    """Tell whether a file name is that of an unfinished file of ours."""
    return name.startswith(STAGED_PREFIX) and name.endswith(STAGED_SUFFIX)


def no_cow_flag(path: str) -> SystemFailure:
    """Return libvirt's error where a file system has no such flag."""
    return SystemFailure(
        f"unable to control COW flag on '{path}', not btrfs: Function not implemented"
    )


@contextlib.contextmanager
def system_errors(what: str, *, passing: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Turn an OSError of the block, but for those passing, into `what: <the system's words>`.

    That nobody reads from a pipe any more is no error of the block's.
    """
    through: tuple[type[OSError], ...] = (BrokenPipeError, *passing)
    try:
        yield
    except through:
        raise
    except OSError as error:
        raise SystemFailure(f"{what}: {error.strerror}") from error
