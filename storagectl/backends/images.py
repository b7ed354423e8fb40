"""Volumes that are files in a folder: what their inodes and their headers say."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from storagectl.backends.attributes import permissions_of, timestamps_of
from storagectl.errors import OperationFailed, SystemFailure
from storagectl.host.files import open_file, stamp_of, when_unleased
from storagectl.model import BackingStore, Encryption, Volume
from storagectl.tools import imageheader

if TYPE_CHECKING:
    from collections.abc import Callable

# Encryptions of qcow and qcow2 that are not LUKS.
OLD_ENCRYPTIONS = ("default", "qcow")
# Why we can open no file at all.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# Why a file cannot be opened that others may open, or that has nothing in it to be read.
CLOSED = (errno.EACCES, errno.EBUSY, errno.ELOOP, errno.ENODEV, errno.ENOENT, errno.ENOMEDIUM,
          errno.ENXIO, errno.EPERM)  # fmt: skip


# What is changed twice within a tick of the kernel's clock has the same times.
TICK_NS = 20_000_000

# How often a file is looked at that is another one by the time it is open.
LOOKS = 10


class OwnerOnly(Exception):
    """A file is to be opened as its owner, which no thread may do: all would become the owner."""


def inspect(
    target: str,
    name: str,
    *,
    attributes: bool = True,
    certain: bool = False,
    opened: Callable[[str, int], int] = open_file,
    looks: int = LOOKS,
) -> Volume | None:
    """Return a volume with all that its file says; None for what is no volume.

    Without `attributes` its owner, mode, label and times are left out.  A file that can't be read
    is shown with what its inode tells, unless the reason is ours and not the file's.  With
    `certain` what it says must be known.
    """
    path = f"{target}/{name}"
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    kind = stat.S_IFMT(status.st_mode)
    volume = Volume(name, path, path)
    if attributes:
        volume.permissions = permissions_of(path, status)
        volume.timestamps = timestamps_of(status)
    if kind == stat.S_IFDIR:
        volume.type = volume.format = "dir"
        return volume
    if kind not in (stat.S_IFREG, stat.S_IFBLK):
        return None
    volume.format = "raw"
    volume.capacity = volume.physical = status.st_size
    volume.allocation = status.st_blocks * 512
    try:
        fd = opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in EXHAUSTED or (certain and error.errno not in CLOSED):
            raise SystemFailure(f"cannot open volume '{path}': {error.strerror}") from error
        return volume
    try:
        if not os.path.samestat(status, os.fstat(fd)):
            # replaced meanwhile, as by an upload
            if looks == 1:
                return None
            return inspect(
                target,
                name,
                attributes=attributes,
                certain=certain,
                opened=opened,
                looks=looks - 1,
            )
        if kind == stat.S_IFBLK:
            volume.type = "block"
            size = os.lseek(fd, 0, os.SEEK_END)
            volume.capacity = volume.physical = volume.allocation = size
        describe(volume, imageheader.probe(lambda at, n: os.pread(fd, n, at), volume.physical))
    except OSError as error:
        if certain:
            raise SystemFailure(f"cannot read volume '{path}': {error.strerror}") from error
        return volume
    finally:
        os.close(fd)
    return volume


def inspect_in_thread(target: str, name: str, *, attributes: bool) -> Volume | None:
    """Return a volume as `inspect` does, while other threads do.  Raises: OwnerOnly."""
    return inspect(target, name, attributes=attributes, opened=open_as_we_are)


def open_as_we_are(path: str, flags: int) -> int:
    try:
        return when_unleased(os.open, path, flags)
    except PermissionError as error:
        raise OwnerOnly from error


def look(path: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """Return what tells a later state of a file from the one of now, and of a link to it.

    Of a file that only root may write to, and of a device, just which one it is: guests that
    start have others give theirs away.
    """
    stamps = []
    with contextlib.suppress(OSError, ValueError):
        for follow in (False, True):
            status = os.stat(path, follow_symlinks=follow)
            fixed = (status.st_dev, status.st_ino, status.st_rdev)
            of_root = status.st_uid == 0 and not status.st_mode & 0o022
            regular = stat.S_ISREG(status.st_mode)
            whole = stat.S_ISLNK(status.st_mode) or (regular and not of_root)
            stamps.append(stamp_of(status) if whole else fixed)
            while regular and 0 <= time.time_ns() - status.st_ctime_ns < TICK_NS:
                time.sleep(TICK_NS / 1e9)
    return path, tuple(stamps)


def require_unchanged(volume: Volume) -> None:
    """Raise OperationFailed where a file is not as it was when what it leads to was looked at.

    Who may write to an image could lead qemu-img elsewhere when that has been found right.
    """
    for path, stamps in volume.looks:
        if look(path)[1] != stamps:
            raise OperationFailed(
                f"'{path}' was changed while volume '{volume.name}' was copied",
                hint="do it again when nobody works on it",
            )


def describe(volume: Volume, image: imageheader.ImageInfo) -> None:
    """Add what an image's header says to a volume."""
    volume.format = image.format
    if image.capacity is not None:
        volume.capacity = image.capacity
    volume.compat = image.compat
    volume.cluster_size = image.cluster_size
    volume.features = image.features
    volume.data_files = tuple(beside(volume, path) for path in image.data_files)
    if image.backing_path is not None:
        volume.backing = backing_of(volume, image.backing_path, image.backing_format)
    if image.encryption in (*OLD_ENCRYPTIONS, "luks"):
        volume.encryption = Encryption(image.encryption)


def backing_of(volume: Volume, path: str, format: str | None) -> BackingStore:
    """Return what an image is based on, its inode looked at and nothing more.

    Where the image does not say the format, a file beside it is probed as libvirt does;
    files elsewhere are never opened.
    """
    folder = os.path.dirname(volume.path)
    path = beside(volume, path)
    backing = BackingStore(path, format or "raw")
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        backing.permissions = permissions_of(path, status)
        backing.timestamps = timestamps_of(status)
        if format is None and os.path.dirname(path) == folder and stat.S_ISREG(status.st_mode):
            fd = when_unleased(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                backing.format = imageheader.probe(
                    lambda at, n: os.pread(fd, n, at), status.st_size
                ).format
            finally:
                os.close(fd)
    return backing


def beside(volume: Volume, path: str) -> str:
    """Return a path in an image's header as qemu reads it: relative to the image; URIs stay."""
    return path if is_uri(path) else os.path.join(os.path.dirname(volume.path), path)


def is_uri(path: str) -> bool:
    """Tell whether qemu takes a path for what one of its protocols, such as nbd:, gets at."""
    return ":" in path.partition("/")[0]
