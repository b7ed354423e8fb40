"""Volumes that are block devices: looked at, and filled from another volume."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl.backends import devices, files, qemu
from storagectl.backends.attributes import permissions_of, timestamps_of
from storagectl.errors import ConfigUnsupported, InternalError, StorageError, SystemFailure
from storagectl.host.files import system_errors
from storagectl.model import Permissions, Timestamps, Volume
from storagectl.tools import qemu_img

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.backends import Backend
    from storagectl.host.bulk import Mover

# What the header of an encrypted volume takes at most, in bytes.
LUKS_ROOM = 2 << 20


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
    """Return owner, group, mode, label and times of a device's node."""
    with system_errors(f"cannot access '{path}'"):
        status = os.stat(path)
    return permissions_of(path, status), timestamps_of(status)


def with_header(backend: Backend, volume: Volume) -> Volume:
    """Return the definition of a block volume with room for the header of an encrypted one.

    Raises: ConfigUnsupported, and what the look-up of its passphrase raises.
    Source: libvirt 9.0.0 virStorageBackendDiskCreateVol, virStorageBackendLogicalLVCreate.
    """
    encryption = volume.encryption
    if encryption is None:
        return volume
    if encryption.format != "luks":
        raise ConfigUnsupported("storage pool only supports LUKS encrypted volumes")
    if volume.backing is not None:
        raise ConfigUnsupported("cannot set backing store for raw volume")
    assert backend.passphrase_of is not None
    backend.passphrase_of(encryption)
    return volume.replace(
        capacity=volume.capacity + LUKS_ROOM, allocation=volume.allocation + LUKS_ROOM
    )


def encrypt(backend: Backend, volume: Volume, path: str) -> None:
    """Write the header of an encrypted volume, as `with_header` returns it, to its new device."""
    if volume.encryption is None:
        return
    capacity = volume.capacity - LUKS_ROOM
    image = Volume(volume.name, type="block", capacity=capacity, encryption=volume.encryption)
    with files.key_file(backend.host, volume, backend.passphrase_of) as key:
        files.patiently(
            lambda: files.create_image(backend.host, image, path, path, metadata=False, key=key)
        )


def create_from(
    backend: Backend,
    volume: Volume,
    source: Volume,
    mover: Mover,
    *,
    make: Callable[[Volume], None],
    metadata: bool,
    reflink: bool,
) -> None:
    """Have a block volume made and fill it with another volume's content, converted to raw.

    Nothing is left of it when that fails.
    Raises: StorageError.
    Source: libvirt 9.0.0 storageBackendCreateBlockFrom in src/storage/storage_util.c.
    """
    mover = backend.host.mover(mover)
    raw = qemu_img.driver_of(source) == "raw" and volume.encryption is None
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
    assert backend.delete_volume is not None
    make(volume)
    if backend.host.plans:
        path = backend.host.expected_at(volume.name)
        made: Volume | None = volume.replace(key=path, path=path, type="block", encryption=None)
    else:
        try:
            made = backend.volume(volume.name)
        except BaseException:
            with contextlib.suppress(StorageError):
                made = backend.volume(volume.name)
                if made is not None:
                    backend.delete_volume(made)
            raise
    assert made is not None
    try:
        if raw:
            fill(backend, made, source, mover, reflink=reflink)
        else:
            image = made.replace(encryption=volume.encryption)
            convert(backend, image, source, mover)
    except BaseException:
        backend.delete_volume(made)
        raise


def convert(backend: Backend, volume: Volume, source: Volume, mover: Mover) -> None:
    """Write what guests see of a volume to the start of a block volume, which may be encrypted."""
    host = backend.host
    with (
        files.key_file(host, volume, backend.passphrase_of) as key,
        files.key_file(host, source, backend.passphrase_of) as source_key,
        qemu.source_for(host, source) as given,
    ):
        meter = mover.meter
        meter.begin(source.capacity)
        argv = qemu_img.fill(given, volume, source_key=source_key, key=key, progress=meter.visible)
        bounds = qemu.bounds_for(source.capacity)
        host.change(argv, heard=qemu_img.hearing(meter), bounds=bounds)
        files.verify_image(host, mover, given, volume, source_key=source_key, key=key)


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
                    host.reflink(reading, writing, required=True)
            length = os.lseek(reading, 0, os.SEEK_END)
            mover.meter.begin(length)
            mover.copy_with_holes(reading, writing, 0, 0, length)
            host.sync(writing)
            if mover.digest is not None:
                mover.verify(writing, 0, length)
    except OSError as error:
        raise SystemFailure(
            f"failed to copy '{source.path}' to '{volume.path}': {error.strerror}"
        ) from error
