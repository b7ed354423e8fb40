"""Volumes that are files in a folder: created, copied and resized.

A new file grows under a hidden name and gets its own when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from typing import TYPE_CHECKING

from storagectl.backends import images, qemu
from storagectl.backends.images import OLD_ENCRYPTIONS, inspect
from storagectl.backends.qemu import source_for, volume_file
from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    NoSupport,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
    XmlError,
)
from storagectl.host.files import (
    acting_as,
    holder_of,
    is_staged,
    locked_by_others,
    open_file,
    system_errors,
)
from storagectl.host.ordered import is_ordered
from storagectl.model import BackingStore, Encryption, Permissions, Volume
from storagectl.tools import qemu_img

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storagectl.host import Host
    from storagectl.host.bulk import Mover

    PassphraseOf = Callable[[Encryption], bytes] | None

VOLUME_MODE = 0o600
SWEPT_S = 60.0
# libvirt's number of the format that has no other name in its messages.
LUKS2 = 3
CREATE_TRIES = 40


def require_known(volume: Volume) -> None:
    """Raise where what a file says cannot be read: it is worked on as what it says it is."""
    if (volume.type, volume.format) == ("file", "raw"):
        now = inspect(*os.path.split(volume.path), certain=True)
        if now is not None and now.format != volume.format:
            raise OperationFailed(f"volume '{volume.name}' is of format '{now.format}' by now")


def create(
    host: Host,
    target: str,
    volume: Volume,
    *,
    metadata: bool,
    as_owner: bool = False,
    passphrase_of: PassphraseOf = None,
) -> None:
    path = free_path(target, volume)
    if volume.format == "dir":
        with creating(volume, path, as_owner=as_owner):
            mode = volume.permissions.mode
            if not host.make_folder(path, VOLUME_MODE if mode is None else mode):
                raise FileExistsError
            try:
                give_away(host, volume, path)
            except BaseException:
                host.remove_folder(path, f"cannot remove directory '{path}'")
                raise
    elif volume.format == "raw" and volume.encryption is None:
        refuse_for_raw(volume, metadata=metadata)
        with staged_file(host, volume, path, as_owner) as staged, host.open_staged(staged) as fd:
            size_raw(host, volume, path, fd)
            reserve(host, path, fd, min(volume.allocation, volume.capacity))
            if not is_ordered(fd, host.mounts()):
                with system_errors(f"cannot sync data to file '{path}'"):
                    host.sync(fd)
    else:
        volume = volume.replace(type="file")
        with key_file(host, volume, passphrase_of) as key:
            check_image(host, target, volume, metadata=metadata)

            def make() -> None:
                with image_file(host, volume, path, volume.backing, as_owner) as staged:
                    create_image(host, volume, staged, path, metadata=metadata, key=key)

            patiently(make)


def create_from(
    host: Host,
    target: str,
    volume: Volume,
    source: Volume,
    mover: Mover,
    *,
    metadata: bool,
    reflink: bool,
    as_owner: bool = False,
    passphrase_of: PassphraseOf = None,
) -> None:
    mover = host.mover(mover)
    raw = qemu_img.driver(source.format) == "raw" and source.encryption is None
    if volume.format == "dir" and volume.encryption is not None:
        raise ConfigUnsupported(
            "storage pool does not support encrypted volumes"
            if raw or source.type == "dir"
            else "volume encryption unsupported with format dir"
        )
    if volume.format == "dir" and source.type == "dir":
        create(host, target, volume, metadata=metadata, as_owner=as_owner)
        return
    require_known(source)
    path = free_path(target, volume)
    if volume.format == "dir" or source.type == "dir":
        raise InternalError("cannot copy from volume of type 'dir'")
    if raw and volume.format == "raw" and volume.encryption is None:
        refuse_for_raw(volume, metadata=metadata)
        with (
            volume_file(host, source, write=False) as source_fd,
            staged_file(host, volume, path, as_owner) as staged,
            host.open_staged(staged) as fd,
        ):
            copy_raw(host, volume, source, path, source_fd, fd, mover, reflink=reflink)
        return
    if reflink:
        raise StorageError("unsupported flags (0x2) in function storageBackendCreateQemuImg")
    with (
        key_file(host, volume, passphrase_of) as key,
        key_file(host, source, passphrase_of) as source_key,
    ):
        check_image(host, target, volume, metadata=metadata, source=source)

        def make() -> None:
            backing = source.backing if volume.keeps_backing else None
            with (
                image_file(host, volume, path, backing, as_owner) as staged,
                source_for(host, source) as given,
            ):
                image = volume.replace(
                    type="file", path=staged, capacity=source.capacity, backing=None
                )
                meter = mover.meter
                meter.begin(source.capacity)
                progress = meter.visible
                if volume.encryption is not None or source.encryption is not None:
                    create_image(host, image, staged, path, metadata=metadata, key=key)
                    argv = qemu_img.fill(
                        given, image, source_key=source_key, key=key, progress=progress
                    )
                else:
                    argv = qemu_img.convert(
                        given, volume, staged, metadata=metadata, progress=progress
                    )
                known = qemu.known_capacity(source)
                before_ns = os.stat(staged).st_mtime_ns if known and not host.plans else 0
                hear = qemu_img.hearing(meter)
                qemu.run(host, argv, staged, path, capacity=source.capacity, heard=hear)
                qemu.require_made(host, staged, path, image, known)
                qemu.require_written(host, staged, path, before_ns)
                verify_image(host, mover, given, image, source_key=source_key, key=key)
                grown = max(volume.capacity, source.capacity)
                if grown > source.capacity:
                    argv = qemu_img.resize(image, grown, shrink=False, key=key)
                    qemu.run(host, argv, staged, path, capacity=grown)
                    qemu.require_made(host, staged, path, image, grown)

        patiently(make)


def copy_raw(
    host: Host,
    volume: Volume,
    source: Volume,
    path: str,
    source_fd: int,
    fd: int,
    mover: Mover,
    *,
    reflink: bool,
) -> None:
    """Copy a raw volume into an empty file, sparse or with room for all, or share its blocks."""
    length = os.lseek(source_fd, 0, os.SEEK_END)
    mover.meter.begin(length)
    full = volume.allocation >= volume.capacity
    if reflink:
        with system_errors(f"failed to clone files from '{source.path}'"):
            host.reflink(source_fd, fd, required=True)
    elif not full and not volume.nocow and mover.digest is None:
        reflink = host.reflink(source_fd, fd, required=False)
    size_raw(host, volume, path, fd)
    if not reflink:
        if full:
            reserve(host, path, fd, volume.capacity)
        with system_errors(f"failed writing to file '{path}'"):
            copy = mover.copy_data if full else mover.copy_nonzero
            copy(source_fd, fd, 0, 0, length)
    with system_errors(f"cannot sync data to file '{path}'"):
        host.sync(fd)
    if mover.digest is not None:
        with system_errors(f"failed writing to file '{path}'"):
            if reflink:
                mover.read(source_fd, 0, length)
            mover.verify(fd, 0, length)


def verify_image(
    host: Host,
    mover: Mover,
    source: Volume,
    image: Volume,
    *,
    source_key: str | None = None,
    key: str | None = None,
) -> None:
    """Compare a converted image with its source, where that is asked for.

    What is summed up differs between formats: there is no checksum of it.
    """
    if mover.digest is not None:
        try:
            command = qemu_img.compare(source, image, source_key=source_key, key=key)
            host.query(command, bounds=qemu.bounds_for(source.capacity))
        except ToolFailed as error:
            raise OperationFailed("what was written reads back differently") from error
        mover.digest = None
        mover.verified = True


def free_path(target: str, volume: Volume) -> str:
    path = f"{target}/{volume.name}"
    if is_staged(volume.name) or any(character < " " for character in volume.name):
        raise OperationInvalid(f"volume name '{volume.name}' can't be listed")
    if os.path.lexists(path):
        raise OperationInvalid(f"volume target path '{path}' already exists")
    return path


@contextlib.contextmanager
def staged_file(host: Host, volume: Volume, path: str, as_owner: bool) -> Iterator[str]:
    """Give a hidden file that becomes the volume, with its owner and mode, at the end."""
    sweep(host, os.path.dirname(path))
    try:
        with (
            creating(volume, path, as_owner=as_owner),
            host.staged(path, VOLUME_MODE) as staged,
        ):
            yield staged
            give_away(host, volume, staged)
    except FileExistsError:
        raise
    except OSError as error:
        raise SystemFailure(f"Failed to create file '{path}': {error.strerror}") from error


def sweep(host: Host, folder: str) -> None:
    """Remove what killed processes left, unless that was done just now for another new volume."""
    now = time.monotonic()
    if now - host.swept.get(folder, -math.inf) > SWEPT_S:
        host.swept[folder] = now
        host.sweep(folder)


@contextlib.contextmanager
def image_file(
    host: Host, volume: Volume, path: str, backing: BackingStore | None, as_owner: bool
) -> Iterator[str]:
    """Give what `staged_file` does by a name that leads qemu-img to no other file.

    Who may write to the folder could put a link in its place.  Only where the backing store is
    beside the image it has to be called what it is, for qemu-img looks there.
    """
    with staged_file(host, volume, path, as_owner) as staged:
        if backing is not None and not os.path.isabs(backing.path):
            yield staged
            return
        with host.open_staged(staged) as fd, host.lent(fd, staged) as place:
            yield place


@contextlib.contextmanager
def creating(volume: Volume, path: str, *, as_owner: bool) -> Iterator[None]:
    """Act as the owner that a new volume is to have, where `as_owner` and the folder let it.

    A file server may let root neither write there nor give a file away.
    """
    wanted = volume.permissions if as_owner else Permissions()
    with acting_as(wanted.owner, wanted.group):
        allowed = os.access(os.path.dirname(path), os.W_OK | os.X_OK, effective_ids=True)
        if allowed:
            yield
            return
    yield


def give_away(host: Host, volume: Volume, path: str) -> None:
    wanted = volume.permissions
    host.set_owner_and_mode(path, wanted.owner, wanted.group, wanted.mode)
    if wanted.label is not None:
        host.set_label(path, wanted.label)


def size_raw(host: Host, volume: Volume, path: str, fd: int) -> None:
    if volume.nocow:
        host.set_nocow_of(fd, path)
    with system_errors(f"cannot extend file '{path}'"):
        host.truncate(fd, volume.capacity)


def reserve(host: Host, path: str, fd: int, length: int) -> None:
    with system_errors(f"cannot allocate {length} bytes in file '{path}'"):
        host.allocate(fd, length)


@contextlib.contextmanager
def key_file(host: Host, volume: Volume, passphrase_of: PassphraseOf) -> Iterator[str | None]:
    """Give the path of a file with the passphrase of a volume, None where it is not encrypted."""
    if volume.encryption is None:
        yield None
        return
    assert passphrase_of is not None
    value = passphrase_of(volume.encryption)
    with host.secret_file(value, f"the passphrase of volume {volume.name}") as path:
        yield path


def check_image(
    host: Host, target: str, volume: Volume, *, metadata: bool, source: Volume | None = None
) -> None:
    """Raise what libvirt raises for options that qemu-img or the format lacks.

    Source: libvirt 9.0.0 virStorageBackendCreateQemuImgCmdFromVol and its helpers.
    """
    encryption = volume.encryption
    raw = qemu_img.driver(volume.format) == "raw"
    if (
        encryption is not None
        and encryption.format in OLD_ENCRYPTIONS
        and volume.format in ("qcow", "qcow2")
    ):
        raise ConfigUnsupported("creation of qcow2 encrypted image is not supported")
    if source is not None and source.encryption is not None and source.encryption.format != "luks":
        raise ConfigUnsupported("encryption format of inputvol must be LUKS")
    if metadata and volume.format != "qcow2":
        raise ConfigUnsupported("metadata preallocation only available with qcow2")
    if volume.compat and volume.format != "qcow2":
        raise ConfigUnsupported("compatibility option only available with qcow2")
    if volume.features and volume.format != "qcow2":
        raise ConfigUnsupported("format features only available with qcow2")
    compat = volume.compat or qemu_img.DEFAULT_COMPAT
    for feature in volume.features or ():
        if compat == "0.10":
            shown = feature if feature == "lazy_refcounts" else f"'{feature}'"
            raise ConfigUnsupported(f"{shown} not supported with compat level {compat}")
    if encryption is not None and raw and encryption.format != "luks":
        raise InternalError("Only luks encryption is supported for raw files")
    if volume.backing:
        if raw:
            raise ConfigUnsupported("cannot set backing store for raw volume")
        if metadata:
            raise ConfigUnsupported("metadata preallocation conflicts with backing store")
        path = os.path.join(target, volume.backing.path)
        with system_errors(f"inaccessible backing store volume {volume.backing.path}"):
            if images.is_uri(volume.backing.path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if not host.expects(path):
                os.close(open_file(path, os.O_RDONLY | os.O_NONBLOCK))
    if encryption is not None:
        require_luks(encryption, volume)


def require_luks(encryption: Encryption, volume: Volume) -> None:
    """Raise what libvirt raises for an encryption that qemu-img can't make or change.

    Source: libvirt 9.0.0 storageBackendCreateQemuImgCheckEncryption.
    """
    if qemu_img.driver(volume.format) not in ("raw", "qcow2"):
        raise ConfigUnsupported(f"volume encryption unsupported with format {volume.format}")
    if encryption.format != "luks":
        raise ConfigUnsupported(f"unsupported volume encryption format {LUKS2}")


def create_image(
    host: Host, volume: Volume, staged: str, path: str, *, metadata: bool, key: str | None
) -> None:
    argv = qemu_img.create(volume, staged, metadata=metadata, key=key)
    if host.plans and key is not None:
        host.plan_tries(argv, CREATE_TRIES)
    else:
        qemu.run(host, argv, staged, path, capacity=volume.capacity)
        qemu.require_made(host, staged, path, volume, volume.capacity)


def patiently(make: Callable[[], None]) -> None:
    """Make an image, again and from the start where qemu-img found the machine too busy.

    When that fails qemu-img deletes the file, which was locked and had its mode.
    """
    for left in reversed(range(CREATE_TRIES)):
        try:
            make()
        except ToolFailed as error:
            if not left or qemu_img.COARSE_CLOCK not in error.stderr:
                raise
        else:
            return


@contextlib.contextmanager
def unused(host: Host, volume: Volume) -> Iterator[None]:
    """Keep a volume to ourselves.  Raises: ResourceBusy, naming who uses it."""
    from storagectl.backends import in_use

    path = volume.path
    if volume.type == "dir":
        users = in_use.users_of_mount(os.path.realpath(path))
    else:
        user = in_use.user_of_file(path)
        users = [user] if user else in_use.openers(path)
    if users:
        raise ResourceBusy(f"'{path}' is in use: {', '.join(users)}")
    if volume.type == "dir":
        yield
        return
    with volume_file(host, volume, write=True) as fd:
        if locked_by_others(fd):
            raise ResourceBusy(f"'{path}' is locked by {holder_of(fd)}")
        yield


def resize(
    host: Host,
    volume: Volume,
    capacity: int,
    *,
    allocate: bool,
    shrink: bool,
    passphrase_of: PassphraseOf = None,
) -> None:
    if volume.type == "dir":
        raise InternalError(f"Unexpected volume type '{volume.type}' of '{volume.name}'")
    if capacity < volume.capacity:
        from storagectl.backends import in_use

        in_use.require_no_device_on(volume.path)
    require_known(volume)
    encryption = volume.encryption
    if volume.format != "raw" or encryption is not None:
        if allocate:
            kind = "raw type" if volume.format != "raw" else "an unencrypted raw"
            raise OperationUnsupported(f"preallocate is only supported for {kind} volume")
        if encryption is not None:
            if encryption.format in OLD_ENCRYPTIONS:
                raise ConfigUnsupported("resize of qcow2 encrypted image is not supported")
            require_luks(encryption, volume)
            if not encryption.secrets:
                raise XmlError("no secret provided for luks encryption")
        with (
            volume_file(host, volume, write=True) as fd,
            key_file(host, volume, passphrase_of) as key,
        ):
            if capacity != volume.capacity:
                bounds = qemu.bounds_for(max(capacity, volume.capacity))
                with qemu.lent(host, volume, fd) as given:
                    argv = qemu_img.resize(given, capacity, shrink=shrink, key=key)
                    host.change(argv, bounds=bounds)
                qemu.require_resized(host, volume, capacity)
        return
    with volume_file(host, volume, write=True) as fd:
        if capacity == volume.capacity and not allocate:
            return
        size = os.fstat(fd).st_size
        try:
            if allocate:
                with system_errors(f"Failed to pre-allocate space for file '{volume.path}'"):
                    host.allocate(fd, capacity, keep_size=True)
            with system_errors(f"Failed to truncate file '{volume.path}'"):
                host.truncate(fd, capacity)
                host.sync(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                host.truncate(fd, size)  # what was cut off is gone
            raise


def refuse_for_raw(volume: Volume, *, metadata: bool) -> None:
    """Raise what libvirt raises for options that a raw volume can't have."""
    if volume.backing:
        raise NoSupport("backing storage not supported for raw volumes")
    if metadata:
        raise ConfigUnsupported("metadata preallocation is not supported for raw volumes")
