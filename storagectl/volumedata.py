"""The content of volumes: filled, given out, overwritten."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING

from storagectl import events
from storagectl.errors import (
    ArgumentUnsupported,
    InternalError,
    InvalidArgument,
    ResourceBusy,
    ToolFailed,
)
from storagectl.host.files import system_errors
from storagectl.store import warn
from storagectl.volumes import require_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.host import Host
    from storagectl.host.bulk import Meter, Mover
    from storagectl.model import Volume
    from storagectl.volumes import Found, Volumes

WIPE_ALGORITHMS = (
    "zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random",
    "trim",
)  # fmt: skip


def upload(
    volumes: Volumes,
    found: Found,
    source: int,
    mover: Mover,
    *,
    offset: int,
    length: int,
    sparse: bool,
) -> None:
    """Write the rest of an open file into a volume, from `offset`, `length` bytes (0: all).

    Nothing is written when it would not fit.  An image in a format of its own, such as
    qcow2, grows as the data needs.  A file that is written from its start is replaced as
    a whole where the pool has room for both: it has the old content or the new.
    """
    volumes.pools.store.require_writable("virStorageVolUpload")
    mover = volumes.host.mover(mover)
    with volumes.holding(found), opened(volumes, found, write=True) as old:
        found.entry.backend.check_content(found.volume, "upload to")
        size = os.lseek(old, 0, os.SEEK_END)
        grows = found.volume.type == "file" and found.volume.format != "raw"
        room = sys.maxsize if grows else size - offset
        given = bytes_left(source)
        if given is not None:
            given = min(given, length) if length else given
            if given > room:
                raise InvalidArgument(
                    f"{given} bytes at offset {offset} do not fit into volume"
                    f" '{found.volume.name}' of {room + offset} bytes"
                )
        mover.meter.begin(given if given is not None else length or None)
        with written(volumes.host, found, old, mover, offset, given or 0) as target:
            if given is None:
                whole = not length or length > room
                mover.stream_in(source, target, room if whole else length, offset, whole=whole)
            else:
                copy = mover.copy
                if sparse:
                    copy = mover.copy_with_holes if target == old else mover.copy_data
                copy(source, target, os.lseek(source, 0, os.SEEK_CUR), offset, given)
            if mover.digest is not None:
                mover.verify(target, offset, mover.meter.done)
        volumes.pools.events.tell(found.entry.pool, events.REFRESHED)


@contextlib.contextmanager
def written(
    host: Host, found: Found, old: int, mover: Mover, offset: int, length: int
) -> Iterator[int]:
    """Give the file to write to: a new one that takes the volume's place, or the volume."""
    volume = found.volume
    if volume.type == "file" and offset == 0 and host.may_replace(volume.path, old, length):
        with host.replacing(volume.path, old) as new:
            yield new
            host.complete(old, new, mover.meter.done)
    else:
        with telling_how_far(volume, mover, offset, "new"):
            yield old
            host.sync(old)


def download(
    volumes: Volumes,
    found: Found,
    target: int,
    mover: Mover,
    *,
    offset: int,
    length: int,
    sparse: bool,
    in_order: bool = False,
) -> None:
    """Write a volume's content into an open, empty file; with `sparse` holes stay holes.

    With `in_order`, and to what is no file, it is written from where that stands.
    """
    volumes.pools.store.require_writable("virStorageVolDownload")
    mover = volumes.host.mover(mover)
    with volumes.holding(found, reading=True), opened(volumes, found, write=False) as fd:
        size = os.lseek(fd, 0, os.SEEK_END)
        if offset > size and found.volume.type == "block":
            raise InvalidArgument(f"offset {offset} is past the end of '{found.volume.path}'")
        rest = max(size - offset, 0)
        count = min(rest, length) if length else rest
        mover.meter.begin(count)
        if stat.S_ISREG(os.fstat(target).st_mode) and not in_order:
            volumes.host.truncate(target, count)
            if count and not sparse:
                volumes.host.allocate(target, count)
            mover.copy_data(fd, target, offset, 0, count)
            volumes.host.sync(target)
            if mover.digest is not None:
                mover.verify(target, 0, count)
        else:
            mover.stream_out(fd, target, offset, count)


def wipe(volumes: Volumes, found: Found, algorithm: str, mover: Mover) -> None:
    """Overwrite a volume so that its old content can't be read from it any more.

    Source: libvirt 9.0.0 storageBackendVolWipeLocalFile in src/storage/storage_util.c.
    """
    volumes.pools.store.require_writable("virStorageVolWipePattern")
    mover = volumes.host.mover(mover)
    volume = found.volume
    with volumes.holding(found) as entry:
        entry.backend.check_content(volume, "wipe")
        entry.backend.check_wipe(volume)
        if algorithm == "trim":
            raise ArgumentUnsupported("'trim' algorithm not supported")
        with opened(
            volumes, found, write=True, failure="Failed to open storage volume with path"
        ) as fd:
            status = os.fstat(fd)
            if algorithm != "zero":
                with volumes.host.lent(fd, volume.path) as place:
                    size = os.lseek(fd, 0, os.SEEK_END)
                    scrubbed(volumes.host, volume, place, size, algorithm, mover.meter)
            elif volume.type == "file" and status.st_blocks < status.st_size // 512:
                mover.clear(fd, 0, status.st_size)
                volumes.host.sync(fd)
            else:
                size = os.lseek(fd, 0, os.SEEK_END)
                mover.meter.begin(size)
                with telling_how_far(volume, mover, 0, "overwritten"):
                    mover.zero(fd, 0, size)


def scrubbed(
    host: Host, volume: Volume, place: str, size: int, algorithm: str, meter: Meter
) -> None:
    """Have scrub(1) overwrite a volume at a place; its errors show the volume's path, and it
    without what runs it."""
    from storagectl.tools import scrub

    passes = scrub.PASSES[algorithm]
    argv = scrub.overwrite(host.find_tool("scrub"), algorithm, place)
    meter.begin(passes * size)
    try:
        host.change(argv, heard=scrub.hearing(meter, size))
    except BaseException as error:
        if size:
            number, reached = divmod(meter.done, size)
            warn(
                f"volume '{volume.path}' is overwritten to byte {reached} of {size} in pass"
                f" {number + 1} of {passes}"
            )
        if isinstance(error, ToolFailed):
            own = [*error.argv[len(scrub.UNBUFFERED) : -1], volume.path]
            said = error.stderr.replace(place, volume.path)
            raise ToolFailed(own, error.status, said) from error
        raise


@contextlib.contextmanager
def opened(
    volumes: Volumes, found: Found, *, write: bool, failure: str = "cannot open volume"
) -> Iterator[int]:
    volume, backend = found.volume, found.entry.backend
    if volume.type == "dir":
        raise InternalError(f"Unexpected volume type '{volume.type}' of '{volume.name}'")
    if write:
        require_no_user(volumes.host, volume)
    with contextlib.ExitStack() as stack:
        with system_errors(f"{failure} '{volume.path}'"):
            fd = stack.enter_context(
                volumes.host.opened(volume.path, write=write, follow=backend.stable_links)
            )
        volumes.require_same(backend)
        require_in_place(found)
        with system_errors(f"cannot move data of volume '{volume.path}'"):
            yield fd


def require_no_user(host: Host, volume: Volume) -> None:
    """Refuse a file that a loop device or swap is on, and a device that somebody writes to.

    A device that is claimed cannot be opened; a virtual machine claims none, neither the device
    nor a partition of it or its whole disk, and neither does firmware that boots from it.
    """
    from storagectl.backends import in_use, system

    if volume.type == "block":
        system.require_not_for_boot(host, volume.path)
        users = ", ".join(in_use.writers(in_use.related_nodes(volume.path)))
        if users:
            raise ResourceBusy(f"device '{volume.path}' is in use: {users}")
    else:
        in_use.require_no_device_on(volume.path)


def bytes_left(fd: int) -> int | None:
    """Return how much of an open file is yet to be read; None where only reading tells.

    Files of the kernel's, such as those in /proc and /sys, have other sizes than they say.
    """
    status = os.fstat(fd)
    size = status.st_size
    if not stat.S_ISREG(status.st_mode) or len(os.pread(fd, 2, max(size - 1, 0))) != min(size, 1):
        return None
    return max(size - os.lseek(fd, 0, os.SEEK_CUR), 0)


@contextlib.contextmanager
def telling_how_far(volume: Volume, mover: Mover, start: int, state: str) -> Iterator[None]:
    """Say what a volume holds when writing it in place does not come to its end."""
    try:
        yield
    except BaseException:
        end = start + mover.meter.done
        if end > start:
            warn(
                f"volume '{volume.path}': bytes {start} to {end} are {state}, the rest is as before"
            )
        raise
