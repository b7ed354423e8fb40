"""Changes of files and folders, which are done or leave what was there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from storagectl.errors import ResourceBusy
from storagectl.host.commands import CommandHost, require_permitted, uninterrupted
from storagectl.host.files import (
    FS_IOC_SETFLAGS,
    LABEL,
    NOCOW,
    STAGED_LOCK,
    acting_as,
    attributes_of,
    flags_of,
    has_flag,
    is_at,
    is_open_once,
    is_staged,
    keeps_names,
    lock_byte,
    no_cow_flag,
    require_changing,
    staged_path,
    system_errors,
    wiped,
)
from storagectl.host.mounts import is_mount_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class FileHost(CommandHost):
    """The files of the machine, and what is made of them."""

    def scratch(self, parent: str) -> contextlib.AbstractContextManager[str]:
        """Give a new folder below `parent` for a file that an editor works on.

        Raises: SystemFailure.
        """
        from storagectl.host import scratch

        return scratch.scratch(parent)

    def sweep_scratch(self, parent: str) -> None:
        """Remove the folders of `scratch` of processes that were killed."""
        with contextlib.suppress(OSError):
            if any(map(is_staged, os.listdir(parent))):
                from storagectl.host import scratch

                scratch.sweep(parent)

    def tell_kernel(self, path: str, text: str, failure: str) -> None:
        """Write to a file of the kernel's; `failure` is what the error says before the cause."""
        with system_errors(failure):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)

    def write_atomic(self, path: str, text: str, mode: int = 0o600) -> None:
        """Write a whole file so that after a crash it is the old one or the new one.

        Source: rename(2) with fsync(2) of the file before and of its folder after.
        """
        with (
            system_errors(f"cannot write '{path}'"),
            self._staging(os.path.dirname(path), mode) as (temporary, fd),
        ):
            os.fchmod(fd, mode)
            with open(fd, "w", encoding="utf-8", errors="surrogateescape", closefd=False) as stream:
                stream.write(text)
            os.fsync(fd)
            self._put(temporary, path)

    def write_secret(self, path: str, value: bytes, what: str, *, old: str | None = None) -> None:
        """Write a secret's value, in base64; `what` tells people which, `old` where it is kept."""
        import base64

        with wiped(path):
            self.write_atomic(path, base64.b64encode(value).decode())

    def remove_secret(self, *paths: str) -> None:
        """Overwrite and unlink the files of a secret that are there, all or none."""
        from storagectl.host import lasting

        with (
            contextlib.ExitStack() as stack,
            system_errors(f"cannot unlink file '{paths[0]}'"),
            uninterrupted(),
        ):
            for path in paths:
                stack.enter_context(wiped(path))
            lasting.remove(list(paths), self.warn)

    def make_folder(self, path: str, mode: int) -> bool:
        """Make a folder with exactly `mode`; False where it stood already."""
        with system_errors(f"cannot create directory '{path}'"):
            try:
                os.mkdir(path, mode)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise
                return False
            try:
                if stat.S_IMODE(os.stat(path).st_mode) != mode:
                    os.chmod(path, mode)  # what the umask has taken
            except BaseException:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                raise
            return True

    def make_parents(self, path: str) -> list[str]:
        """Make the folders above `path`, for all to look into whatever the umask is, or none.

        Returns: those that were missing, the deepest first.
        """
        wanted: list[str] = []
        folder = os.path.dirname(path)
        while not os.path.isdir(folder) and not (wanted and os.path.lexists(folder)):
            wanted.append(folder)
            folder = os.path.dirname(folder)
        try:
            with system_errors(f"cannot create path '{path}'"):
                for folder in reversed(wanted):
                    try:
                        os.mkdir(folder, 0o755)
                    except FileExistsError:
                        if not os.path.isdir(folder):
                            raise
                    else:
                        os.chmod(folder, 0o755)
        except BaseException:
            self.unmake(wanted)
            raise
        return wanted

    def unmake(self, folders: Sequence[str]) -> None:
        """Remove folders that were made for something that failed; what is in use stays."""
        for path in folders:
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def set_owner_and_mode(
        self, path: str, owner: int | None, group: int | None, mode: int | None
    ) -> None:
        """Change what is given of a file's owner, group and mode, never through a symlink.

        Nor those of a file that has another name too: who may write to the folder could have
        put a link to somebody else's there.
        """
        with system_errors(f"cannot change permissions of '{path}'"):
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            try:
                status = os.fstat(fd)
                if stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
                    raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
                place = f"/proc/self/fd/{fd}"
                if owner is not None or group is not None:
                    os.chown(place, -1 if owner is None else owner, -1 if group is None else group)
                if mode is not None:
                    os.chmod(place, mode)
            finally:
                os.close(fd)

    def set_label(self, path: str, label: str) -> None:
        """Give a file its security label, never through a symlink.

        It keeps the one it has where the file system has none or the user may not.
        Source: selinux(8), the attribute security.selinux of xattr(7).
        """
        with system_errors(f"cannot change the security label of '{path}'"):
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            try:
                os.setxattr(f"/proc/self/fd/{fd}", LABEL, os.fsencode(label) + b"\0")
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
                    raise
            finally:
                os.close(fd)

    def set_nocow(self, path: str, cow: str | None) -> None:
        """Set a folder's no-copy-on-write flag as a pool's <cow state=> says.

        "no" sets it, "yes" clears it, None sets it where the file system has it.
        Source: libvirt 9.0.0 virFileSetCOW in src/util/virfile.c.
        """
        with system_errors(f"cannot open directory '{path}'"):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._change_flag(fd, NOCOW, wanted=True)
            if cow == "yes":
                self._change_flag(fd, NOCOW, wanted=False)
        except OSError as error:
            if cow is not None:
                raise no_cow_flag(path) from error
        finally:
            os.close(fd)

    def set_nocow_of(self, fd: int, path: str) -> None:
        """Set the no-copy-on-write flag of an empty file, which is to be called `path`."""
        try:
            self._change_flag(fd, NOCOW, wanted=True)
        except OSError as error:
            raise no_cow_flag(path) from error

    def _make_alike(self, fd: int, other: str | int, status: os.stat_result) -> None:
        """Give an empty file of ours what can be given of another's owner, mode and attributes."""
        with contextlib.suppress(PermissionError):
            os.fchown(fd, status.st_uid, status.st_gid)
        for name in attributes_of(other):
            with contextlib.suppress(OSError):
                os.setxattr(fd, name, os.getxattr(other, name))
        if has_flag(other, NOCOW):
            self._change_flag(fd, NOCOW, wanted=True)
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, stat.S_IMODE(status.st_mode))

    def _change_flag(self, fd: int, flag: int, *, wanted: bool) -> None:
        import fcntl
        import struct

        flags = flags_of(fd)
        changed = flags | flag if wanted else flags & ~flag
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", changed))

    def rename(self, path: str, new: str) -> None:
        """Give a file or folder another name in its folder, as its owner where root may not.

        Raises: FileExistsError where something has the name: that is never replaced.
        """
        from storagectl.host import lasting

        with (
            system_errors(f"cannot rename '{path}' to '{new}'", passing=(FileExistsError,)),
            uninterrupted(),
        ):
            try:
                lasting.rename(path, new, self.warn)
            except PermissionError:
                status = os.lstat(path)
                with acting_as(status.st_uid, status.st_gid):
                    lasting.rename(path, new, self.warn)

    def remove(self, path: str, *, missing_ok: bool = False, lasts: bool = False) -> None:
        """Unlink a file, so that it does not come back when the power goes off where it `lasts`."""
        with system_errors(f"cannot unlink file '{path}'"), uninterrupted():
            try:
                if lasts:
                    from storagectl.host import lasting

                    os.lstat(path)
                    lasting.remove([path], self.warn)
                else:
                    os.unlink(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def remove_folder(self, path: str, failure: str) -> None:
        """Remove an empty folder; `failure` is what the error says before the cause."""
        with system_errors(failure):
            os.rmdir(path)

    def link(self, target: str, path: str) -> None:
        """Make a symbolic link, also in place of one that leads elsewhere."""
        from storagectl.host import lasting

        with system_errors(f"Failed to create symlink '{path}' to '{target}'"), uninterrupted():
            lasting.link(target, path, self.warn)

    @contextlib.contextmanager
    def open_staged(self, path: str) -> Iterator[int]:
        """Open a file that `staged` has made, for writing; not one that has another name too."""
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_nlink != 1:
                raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
            yield fd
        finally:
            os.close(fd)

    def may_replace(self, path: str, fd: int, length: int) -> bool:
        """Tell whether `replacing` suits an open file that `length` new bytes are for.

        Not where it has another name too, somebody else has it open, it is a mount point, or its
        folder keeps its name or is not ours to write to; nor where there is room only in the
        blocks that it has already.
        """
        folder = os.path.dirname(path)
        if os.fstat(fd).st_nlink > 1:
            self.sweep(folder)  # a name may be left of who was killed
        status, space = os.fstat(fd), os.statvfs(folder)
        blocks = status.st_blocks * 512
        return (
            status.st_nlink == 1
            and (space.f_bavail * space.f_frsize > max(length, blocks) or length > blocks)
            and os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
            and is_open_once(fd)
            and not is_mount_point(fd, folder)
            and not keeps_names(folder)
        )

    @contextlib.contextmanager
    def replacing(self, path: str, old: int | None = None) -> Iterator[int]:
        """Open an empty file that takes the place of `path`, which is complete or as before.

        It gets the owner, mode and attributes of what was there.  What is no regular file,
        such as a pipe, is written in place, a device only when nobody uses it.  Links are
        followed, but not where an open file `old` is what is to be replaced.

        Raises: OSError; ResourceBusy when `old` is not what is at `path` any more.
        """
        try:
            status = os.stat(path) if old is None else os.fstat(old)
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            require_permitted(path)
            alone = os.O_EXCL if stat.S_ISBLK(status.st_mode) else 0
            fd = os.open(path, os.O_WRONLY | alone)
            try:
                yield fd
            finally:
                os.close(fd)
            return
        path = os.path.realpath(path) if old is None else path
        self.sweep(os.path.dirname(path))
        mode = 0o666 if status is None else 0o600
        with self._staging(os.path.dirname(path), mode) as (temporary, fd):
            if status is not None:
                self._make_alike(fd, path if old is None else old, status)
            yield fd
            if old is not None and not is_at(old, path, follow=False):
                raise ResourceBusy(f"'{path}' has just been replaced by another process")
            self._put(temporary, path)

    @contextlib.contextmanager
    def staged(self, path: str, mode: int = 0o600) -> Iterator[str]:
        """Give a hidden empty file to fill; it becomes `path` when the block ends well.

        Whatever stands at `path` by then stays and FileExistsError is raised; after
        any other exception nothing is left.  The file is locked meanwhile, so that
        `sweep` knows what a killed process left behind.
        """
        from storagectl.host import lasting

        with self._staging(os.path.dirname(path), mode) as (temporary, fd):
            try:
                os.fchmod(fd, mode)
            except PermissionError:
                if os.fstat(fd).st_uid != os.geteuid():
                    raise
                # it is ours: the file system, such as vfat, has no modes to change
            yield temporary
            with uninterrupted():
                lasting.publish_new(temporary, path, self.warn)

    def _put(self, temporary: str, path: str) -> None:
        from storagectl.host import lasting

        with uninterrupted():
            lasting.put(temporary, path, self.warn)

    @contextlib.contextmanager
    def _staging(self, folder: str, mode: int) -> Iterator[tuple[str, int]]:
        """Give a hidden file and its descriptor; it goes unless it has got another name."""
        made = None
        try:
            with uninterrupted():
                made = self._stage(folder, mode)
            yield made
        except BaseException:
            if made is not None:
                with contextlib.suppress(OSError):
                    os.unlink(made[0])
            raise
        finally:
            if made is not None:
                os.close(made[1])

    def _stage(self, folder: str, mode: int) -> tuple[str, int]:
        """Make and lock a hidden file; return its path and descriptor.

        One that a sweep took for left over, before it was locked, is made anew.  None is made
        where it could never go.
        """
        import fcntl

        require_changing(folder)
        while True:
            temporary = staged_path(folder)
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            try:
                lock_byte(fd, STAGED_LOCK, fcntl.F_WRLCK, wait=True)
                if os.fstat(fd).st_nlink:
                    return temporary, fd
            except BaseException:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            os.close(fd)

    def sweep(self, folder: str, *, secret: bool = False) -> None:
        """Remove staged files of processes that were killed; what is `secret` is overwritten."""
        import fcntl

        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if not is_staged(name):
                    continue
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.path.islink(path):
                        os.unlink(path)
                        continue
                    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                    try:
                        if lock_byte(fd, STAGED_LOCK, fcntl.F_WRLCK):
                            with wiped(path) if secret else contextlib.nullcontext():
                                os.unlink(path)
                    finally:
                        os.close(fd)
