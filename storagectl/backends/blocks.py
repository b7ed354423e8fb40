"""Volumes that are block devices: looked at, and filled from another volume."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from storagectl.backends import devices, files
from storagectl.errors import ConfigUnsupported, InternalError, StorageError, SystemFailure
from storagectl.host import bulk, system_errors
from storagectl.model import Permissions, Timestamps, Volume
from storagectl.tools import qemu_img

if TYPE_CHECKING:
    from storagectl.backends import Backend
    from storagectl.host.bulk import Mover


def inspect(name: str, path: str, key: str) -> Volume | None:
    """Return a volume that is a whole device, without reading from it; None where it is gone."""
    if devices.device_number(path) is None:
        return None
    size = devices.device_size(path)
    permissions, timestamps = looks(path)
    return Volume(
        name, key, path, "block", size, size, size, permissions=permissions, timestamps=timestamps
    )


def looks(path: str) -> tuple[Permissions, Timestamps]:
    """Return owner, group, mode and times of a device's node."""
    with system_errors(f"cannot access '{path}'"):
        status = os.stat(path)
    return (
        Permissions(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid),
        Timestamps(status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns),
    )


def create_from(
    backend: Backend,
    volume: Volume,
    source: Volume,
    mover: Mover,
    *,
    metadata: bool,
    reflink: bool,
) -> None:
    """Make a block volume and fill it with another volume's content, converted to raw.

    Nothing is left of it when that fails.
    Raises: StorageError.
    Source: libvirt 9.0.0 storageBackendCreateBlockFrom in src/storage/storage_util.c.
    """
    raw = qemu_img.driver(source.format) == "raw"
    if source.type == "dir":
        raise InternalError("cannot copy from volume of type 'dir'")
    if reflink and not raw:
        raise StorageError("unsupported flags (0x2) in function storageBackendCreateQemuImg")
    if metadata:
        raise ConfigUnsupported(
            "metadata preallocation is not supported for block volumes"
            if raw
            else "metadata preallocation only available with qcow2"
        )
    assert backend.create_volume is not None
    assert backend.delete_volume is not None
    backend.create_volume(volume, metadata=metadata)
    made = backend.volume(volume.name)
    assert made is not None
    try:
        if raw:
            fill(backend, made, source, mover, reflink=reflink)
        else:
            meter = mover.meter
            meter.begin(source.capacity)
            with files.unshortened(backend.host, source):
                backend.host.change(
                    qemu_img.convert_into(source, made.path, progress=meter.visible),
                    heard=qemu_img.hearing(meter),
                )
                files.verify_image(backend.host, mover, source, made.path, "raw")
    except BaseException:
        backend.delete_volume(made)
        raise


def fill(backend: Backend, volume: Volume, source: Volume, mover: Mover, *, reflink: bool) -> None:
    """Copy all bytes of a raw volume to the start of a block volume."""
    host = backend.host
    try:
        with (
            host.opened(source.path) as reading,
            host.opened(volume.path, write=True, follow=True) as writing,
        ):
            if reflink:
                with system_errors(f"failed to clone files from '{source.path}'"):
                    bulk.reflink(reading, writing)
            length = os.lseek(reading, 0, os.SEEK_END)
            mover.meter.begin(length)
            mover.copy_with_holes(reading, writing, 0, 0, length)
            os.fsync(writing)
            if mover.digest is not None:
                mover.verify(writing, 0, length)
    except OSError as error:
        raise SystemFailure(
            f"failed to copy '{source.path}' to '{volume.path}': {error.strerror}"
        ) from error
