"""What qemu-img is run with and within, and whether it has done what it says that it has."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl.backends import images
from storagectl.errors import OperationFailed, StorageError, SystemFailure, ToolFailed
from storagectl.host import bulk
from storagectl.host.commands import Bounds
from storagectl.host.files import system_errors
from storagectl.tools import imageheader, qemu_img

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storagectl.host import Host
    from storagectl.model import Volume


def bounds_for(capacity: int) -> Bounds:
    """Return what qemu-img may use for an image of that many bytes that others have made."""
    return Bounds(qemu_img.MEMORY, qemu_img.seconds_for(capacity))


def run(
    host: Host,
    argv: list[str],
    staged: str,
    path: str,
    *,
    capacity: int,
    heard: Callable[[bytes], None] | None = None,
) -> None:
    """Run qemu-img on the hidden file, of `capacity` bytes; its errors name the volume's path."""
    with shown_as(staged, path):
        host.change(argv, heard=heard, bounds=bounds_for(capacity))


@contextlib.contextmanager
def shown_as(hidden: str, name: str) -> Iterator[None]:
    """Have errors name what is made by its own name, not by the one it has until it is complete.

    That qemu-img can't delete the file, as it tries to, is no error: we do.
    """
    try:
        yield
    except ToolFailed as error:
        shown = [word.replace(hidden, name) for word in error.argv]
        kept = f"qemu-img: Error when deleting file {hidden}: Operation not permitted\n"
        said = error.stderr.replace(kept, "").replace(hidden, name)
        raise ToolFailed(shown, error.status, said) from error
    except StorageError as error:
        error.detail = error.detail.replace(hidden, name)
        raise


@contextlib.contextmanager
def volume_file(host: Host, volume: Volume, *, write: bool) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        with system_errors(f"cannot open volume '{volume.path}'"):
            fd = stack.enter_context(host.opened(volume.path, write=write))
        yield fd


@contextlib.contextmanager
def source_for(host: Host, volume: Volume) -> Iterator[Volume]:
    """Give a volume as `lent` does to be read; qemu-img takes a lost end of a raw image for zeros.

    Raises: SystemFailure where the volume got shorter, OperationFailed where it, or what it
    leads to, is not what it was when that was looked at.
    """
    with volume_file(host, volume, write=False) as fd:
        size = os.lseek(fd, 0, os.SEEK_END)
        with lent(host, volume, fd) as named:
            yield named
        with system_errors(f"cannot read volume '{volume.path}'"):
            bulk.require_size(fd, size)
        images.require_unchanged(volume)


@contextlib.contextmanager
def lent(host: Host, volume: Volume, fd: int) -> Iterator[Volume]:
    """Give an open volume by a name that leads qemu-img to no other file.

    Only where it leads to files beside it has it to be called what it is, for qemu-img looks
    there.
    """
    if leads_beside(fd, os.lseek(fd, 0, os.SEEK_END)):
        yield volume
        return
    with host.lent(fd, volume.path) as place, shown_as(place, volume.path):
        yield volume.replace(path=place)


def leads_beside(fd: int, size: int) -> bool:
    """Tell whether an image's header has paths that are relative to the image."""
    info = imageheader.probe(lambda at, length: os.pread(fd, length, at), size)
    paths = (*info.data_files, *([info.backing_path] if info.backing_path is not None else []))
    return any(not os.path.isabs(path) and not images.is_uri(path) for path in paths)


def require_made(host: Host, place: str, path: str, volume: Volume, capacity: int) -> None:
    """Raise where qemu-img ended well and there is no image of a volume's format and capacity."""
    if host.plans:
        return
    made = images.inspect(*os.path.split(place), certain=True)
    driver = qemu_img.driver_of(volume)
    if made is not None and driver != "raw":
        found = "luks" if driver == "luks" and made.encryption else qemu_img.driver(made.format)
        size = made.capacity
    else:
        found = "raw"  # what a guest has written may look like an image
        size = made.physical if made is not None else -1
    if found != driver or size < capacity:
        raise OperationFailed(
            f"qemu-img did not fail, and '{path}' is no {driver} image of {capacity} bytes"
        )


def require_written(host: Host, place: str, path: str, before_ns: int) -> None:
    """Raise where qemu-img ended well and has not written to a file since a time of its inode."""
    if not host.plans and os.stat(place).st_mtime_ns == before_ns:
        raise OperationFailed(f"qemu-img did not fail, and wrote nothing to '{path}'")


def require_resized(host: Host, volume: Volume, capacity: int) -> None:
    """Raise where qemu-img ended well and an image has the capacity that it had before.

    That it can't be looked at is no failure of what has been done.
    """
    rounded = qemu_img.rounded(capacity)
    if host.plans or rounded == volume.capacity:
        return
    try:
        now = images.inspect(*os.path.split(volume.path), certain=True)
    except SystemFailure:
        return
    if now is None or now.capacity == volume.capacity:
        raise OperationFailed(f"qemu-img did not fail, and did not resize '{volume.path}'")


def known_capacity(volume: Volume) -> int:
    """Return the capacity of a volume, 0 where its header tells none."""
    told = volume.format in (None, "raw", "iso") or volume.capacity != volume.physical
    return volume.capacity if told else 0
