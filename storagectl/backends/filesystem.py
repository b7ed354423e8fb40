"""Pools whose volumes are files in a folder: dir as it is, fs and netfs after a mount."""

from __future__ import annotations

import contextlib
import os
import stat
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from storagectl.backends import SOURCE, TARGET, Backend, Needs, PoolState
from storagectl.backends.attributes import permissions_of
from storagectl.errors import (
    ConfigUnsupported,
    Inaccessible,
    InvalidArgument,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    StorageError,
    ToolFailed,
)
from storagectl.host.files import is_staged, system_errors
from storagectl.model import Volume
from storagectl.tools import mount
from storagectl.tools.blockdev import Mount, parse_mountinfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from storagectl.backends.troubles import Trouble
    from storagectl.host.bulk import Mover

POOL_MODE = 0o711
# What the capacity of an image is a multiple of: qemu-img gets it in KiB.  A vpc image has whole
# cylinders, of 16 heads with 255 sectors at most.
# Source: Virtual Hard Disk Image Format Specification, appendix CHS Calculation.
IMAGE_GRAIN = 1024
LARGER_GRAINS = {"vpc": 16 * 255 * 512}

# What libblkid calls a file system where it is not what a pool's format is called.
SIGNATURES = {"hfs+": "hfsplus"}


class Directory(Backend):
    """A folder; every file and sub-folder in it is a volume.

    `as_owner` says that a new file is made by its owner where root may not make it.
    """

    is_folder = True
    runs = False
    stable_links = False
    as_owner = False
    built_permissions = True
    starts_at_once = True
    _made: Sequence[str] = ()  # the deepest folder first

    def is_active(self) -> bool:
        target = self.pool.target
        return not self.host.responds(target) or self.host.is_folder(target)

    def _require_answer(self) -> None:
        """Raise Inaccessible where the folder is on a file server that is gone.

        Whoever looks at a file of it waits for ever, deaf to Ctrl-C.
        """
        target = self.pool.target
        if not self.host.responds(target):
            raise Inaccessible(f"'{target}' does not answer", hint=self._advice())

    def _advice(self) -> str:
        """Return what may help when the folder does not answer."""
        return ""

    def state(self) -> PoolState:
        self._require_answer()
        target = self.pool.target
        with system_errors(f"cannot open directory '{target}'"):
            os.close(os.open(target, os.O_RDONLY | os.O_DIRECTORY))
            status = os.stat(target)
        with system_errors(f"cannot statvfs path '{target}'"):
            space = os.statvfs(target)
        permissions = permissions_of(target, status)
        capacity = space.f_blocks * space.f_frsize
        available = space.f_bfree * space.f_frsize
        return PoolState(capacity, capacity - available, available, permissions)

    def needs(self) -> Needs:
        return Needs(root=False)

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        yield from troubles.of_folder(self, mounted=True)

    def build(self, *, overwrite: bool, no_overwrite: bool) -> None:
        self._make_target()
        if overwrite or no_overwrite:
            raise OperationInvalid(
                f"No source device specified when formatting pool '{self.pool.name}'"
            )

    def unbuilt(self) -> str:
        self._require_answer()
        return "" if os.path.isdir(self.pool.target) else SOURCE

    def build_rest(self, *, overwrite: bool) -> None:
        if self.unbuilt():
            self.build(overwrite=False, no_overwrite=False)

    def _make_target(self) -> None:
        self._require_answer()
        target, wanted = self.pool.target, self.pool.permissions
        self._made = self.host.make_parents(target)
        made = self.host.make_folder(target, POOL_MODE if wanted.mode is None else wanted.mode)
        if made:
            self._made = [target, *self._made]
        if wanted or not made:
            place = os.path.realpath(target)
            self.host.set_owner_and_mode(place, wanted.owner, wanted.group, wanted.mode)
            if wanted.label is not None:
                self.host.set_label(place, wanted.label)
        self.host.set_nocow(target, self.pool.cow)

    def unbuild(self) -> None:
        self.host.unmake(self._made)

    def devices_of_users(self) -> list[str]:
        return []

    def kept_when_stopped(self) -> str:
        return f"{self.pool.target} with all that is in it"

    def refresh(self) -> None:
        self._require_answer()
        self.host.sweep(self.pool.target)
        super().refresh()

    def delete(self) -> None:
        self._require_answer()
        target = self.pool.target
        self.host.sweep(target)
        self.host.remove_folder(target, f"failed to remove pool '{target}'")

    def _is_new(self) -> bool:
        """Tell whether a dry run has planned to make the folder, which is empty then.

        Raises: OperationUnsupported where it has planned what may have volumes already.
        """
        return self.host.expects(self.pool.target)

    def volumes(self, *, details: bool) -> Iterator[Volume]:
        if self._is_new():
            return
        self._require_answer()
        target = self.pool.target
        with system_errors(f"cannot open directory '{target}'"):
            entries = os.scandir(target)
        with entries, system_errors(f"cannot read directory '{target}'"):
            there = (entry for entry in entries if listed(entry.name))
            found = self._inspected(there) if details else map(self._glance, there)
            yield from (volume for volume in found if volume is not None)

    def _inspected(self, entries: Iterable[os.DirEntry[str]]) -> Iterator[Volume | None]:
        from storagectl.backends.images import inspect_in_thread
        from storagectl.host.spread import spread

        together = partial(inspect_in_thread, self.pool.target)
        return spread(self._inspect, together, (entry.name for entry in entries))

    def _glance(self, entry: os.DirEntry[str]) -> Volume | None:
        """Return a volume's name, path and type without opening it."""
        try:
            if entry.is_file():
                kind = "file"
            elif entry.is_dir():
                kind = "dir"
            elif stat.S_ISBLK(entry.stat().st_mode):
                kind = "block"
            else:
                return None
        except OSError:
            return None
        path = f"{self.pool.target}/{entry.name}"
        return Volume(entry.name, path, path, kind)

    def volume(self, name: str) -> Volume | None:
        if "/" in name or name in ("", ".", "..") or not listed(name) or self._is_new():
            return None
        self._require_answer()
        return self._inspect(name)

    def _inspect(self, name: str) -> Volume | None:
        from storagectl.backends.images import inspect

        return inspect(self.pool.target, name)

    def volume_name_at(self, path: str) -> str | None:
        folder, name = os.path.split(path)
        return name if folder == self.pool.target else None

    def create_volume(self, volume: Volume, *, metadata: bool) -> None:
        from storagectl.backends import files

        files.create(
            self.host,
            self.pool.target,
            volume,
            metadata=metadata,
            as_owner=self.as_owner,
            passphrase_of=self.passphrase_of,
        )

    def create_volume_from(
        self, volume: Volume, source: Volume, mover: Mover, *, metadata: bool, reflink: bool
    ) -> None:
        from storagectl.backends import files

        files.create_from(
            self.host,
            self.pool.target,
            volume,
            source,
            mover,
            metadata=metadata,
            reflink=reflink,
            as_owner=self.as_owner,
            passphrase_of=self.passphrase_of,
        )

    def delete_volume(self, volume: Volume) -> None:
        if volume.type == "dir":
            self.host.remove_folder(volume.path, f"cannot remove directory '{volume.path}'")
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a link or the like can't be locked, but unlinked
                stack.enter_context(self.host.opened(volume.path, write=True))
            self.host.remove(volume.path)

    def resize_volume(self, volume: Volume, capacity: int, *, allocate: bool, shrink: bool) -> None:
        from storagectl.backends import files

        files.resize(
            self.host,
            volume,
            capacity,
            allocate=allocate,
            shrink=shrink,
            passphrase_of=self.passphrase_of,
        )

    def grain(self, volume: Volume) -> int:
        return 1 if volume.format == "raw" else LARGER_GRAINS.get(volume.format or "", IMAGE_GRAIN)

    def rename_volume(self, volume: Volume, name: str) -> None:
        from storagectl.backends import files

        path = files.free_path(self.pool.target, volume.replace(name=name))
        with files.unused(self.host, volume):
            self.host.rename(volume.path, path)


class Mounted(Directory):
    """A folder that something is mounted on while the pool runs."""

    built_permissions = False
    starts_at_once = False
    runs = True
    mount_limit_s: float | None = None
    umount_limit_s: float | None = None

    def needs(self) -> Needs:
        return Needs(tools=("mount", "umount"))

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        yield from troubles.of_folder(self, mounted=active)
        if not active:
            yield from troubles.of_mount(self)

    def _is_new(self) -> bool:
        if self.host.expects(self.pool.target) and self._mounted() is None:
            raise OperationUnsupported(
                f"a dry run cannot tell what is in '{self.pool.target}' before it is mounted"
            )
        return False

    def mount_command(self) -> list[str]:
        """Return what mounts the source at the target.  Raises: StorageError for a bad one."""
        raise NotImplementedError

    def is_source(self, mount: Mount) -> bool:
        """Tell whether a mount is that of the pool's source."""
        raise NotImplementedError

    def is_active(self) -> bool:
        return self._mounted() is not None

    def other_mounts(self) -> list[str]:
        mounts = mounts_in(self.host.mounts())
        place = self._place(mounts)
        return [mount.target for mount in mounts if mount.target != place and self.is_source(mount)]

    def unbuilt(self) -> str:
        return TARGET if super().unbuilt() else ""

    def _mounted(self) -> Mount | None:
        """Return the mount of the pool's source at its target, the topmost there."""
        top = self.top_mount()
        return top if top is not None and self.is_source(top) else None

    def top_mount(self) -> Mount | None:
        mounts = mounts_in(self.host.mounts())
        place = self._place(mounts)
        return next((mount for mount in reversed(mounts) if mount.target == place), None)

    def _place(self, mounts: Sequence[Mount]) -> str:
        """Return the target without links; a mount point is not looked at, it may be dead."""
        target = self.pool.target
        folder, name = os.path.split(target)
        points = {mount.target for mount in mounts}
        if target in points:
            return target
        place = os.path.join(os.path.realpath(folder), name)
        return place if place in points else os.path.realpath(target)

    def start(self) -> None:
        command = self.mount_command()
        if self._mounted() is not None:
            return
        other = self.top_mount()
        if other is not None:
            raise OperationInvalid(
                f"target '{self.pool.target}' is already the mount point of '{other.source}'"
            )
        if self.host.plans:
            self._foresee(command)
        try:
            self.host.change(command, limit_s=self.host.limits.get("mount", self.mount_limit_s))
            self.host.expect(self.pool.target)
        except BaseException:
            with contextlib.suppress(StorageError):
                self.stop()  # cut short, it may have come as far as that
            raise

    def _foresee(self, command: list[str]) -> None:
        """Raise what mount(8) would fail with, as far as it can be told without mounting."""
        why = self._obstacle()
        if why:
            program = self.host.find_tool(command[0])
            raise ToolFailed([program, *command[1:]], mount.FAILED, mount.failure(why))

    def _obstacle(self) -> str:
        """Return why nothing can be mounted, in words of mount(8); nothing where it can."""
        target = self.pool.target
        if self.host.is_folder(target) or self.host.expects(target):
            return "" if self.host.is_root() else f"{target}: must be superuser to use mount"
        return f"{target}: mount point " + (
            "is not a directory" if os.path.exists(target) else "does not exist"
        )

    def stop(self) -> None:
        if self._mounted() is not None:
            self._unmount(mount.umount(self.pool.target))

    def gone_when_stopped(self) -> str:
        return f"the mount at {self.pool.target}"

    def _unmount(self, command: list[str]) -> None:
        """Unmount the target.  Raises: ToolFailed, with who uses it; ToolTimeout."""
        try:
            if self.host.plans and self._users():
                program = self.host.find_tool(command[0])
                why = f"umount: {self.pool.target}: target is busy.\n"
                raise ToolFailed([program, *command[1:]], mount.FAILED, why)
            before = self.host.mounts()
            self.host.change(command, limit_s=self.host.limits.get("unmount", self.umount_limit_s))
            if not self.host.plans and self.host.mounts() == before:
                raise OperationFailed(f"'{self.pool.target}' is still mounted")
        except ToolFailed as error:
            users = self._users()
            error.hint = f"'{self.pool.target}' is in use: {', '.join(users)}" if users else ""
            raise

    def _users(self) -> list[str]:
        """Return what uses the mount, in words."""
        from storagectl.backends import in_use

        mounted = self._mounted()
        return in_use.users_of_mount(mounted.target) if mounted else []


class FileSystem(Mounted):
    """A block device that is mounted at the target while the pool runs."""

    @property
    def device(self) -> str:
        return self.pool.source.devices[0].path

    def kept_when_stopped(self) -> str:
        return f"the files on {self.device}"

    def needs(self) -> Needs:
        paths = tuple(device.path for device in self.pool.source.devices)
        return super().needs()._replace(devices=paths, files=True)

    def identities(self, *, built: bool) -> dict[str, dict[str, str]]:
        from storagectl.backends import identity

        paths = [device.path for device in self.pool.source.devices]
        return identity.of_devices(self.host, paths)

    def mistaken(
        self, known: dict[str, dict[str, str]], *, build: bool
    ) -> Iterator[tuple[str, dict[str, str]]]:
        from storagectl.backends import identity

        paths = [device.path for device in self.pool.source.devices]
        return identity.changes(self.host, paths, known)

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        yield from super().troubles(active=active)
        if not active and troubles.has_medium(self.device):
            yield from troubles.of_file_system(self)

    def _is_new(self) -> bool:
        return self.host.expects(self.device) or super()._is_new()

    def is_source(self, mount: Mount) -> bool:
        device = os.path.realpath(self.device)
        with contextlib.suppress(OSError):
            status = os.stat(device)
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            if stat.S_ISBLK(status.st_mode) and number == mount.device:
                return True
            if stat.S_ISREG(status.st_mode) and self._is_loop_on(mount.source, device):
                return True
        return os.path.realpath(mount.source) == device or self._is_gone(mount.source)

    def _is_gone(self, node: str) -> bool:
        """Tell whether the pool's device and a mounted one are both gone, as when it was pulled
        out: then nothing tells any more that one was a link to the other."""
        return node.startswith("/") and not (os.path.exists(node) or os.path.exists(self.device))

    def _is_loop_on(self, node: str, file: str) -> bool:
        """Tell whether a node is the loop device that mount(8) has put on a regular file."""
        from storagectl.backends import devices

        return any(
            loop == node and devices.same_file(backing, file) for loop, backing in devices.loops()
        )

    def mount_command(self) -> list[str]:
        if len(self.pool.source.devices) != 1:
            raise ConfigUnsupported("expected exactly 1 device for the storage pool")
        self._require_path()
        return mount.mount(
            self.device, self.pool.target, self.pool.source.format, self.pool.mount_options
        )

    def _obstacle(self) -> str:
        from storagectl.backends import devices

        target, device = self.pool.target, self.device
        if self.host.expects(device) or super()._obstacle():
            return super()._obstacle()
        if not os.path.exists(device):
            return f"{target}: special device {device} does not exist"
        found = devices.signatures(self.host, os.path.realpath(device))
        if not found or not mount.may_be(self.pool.source.format, found):
            return (
                f"{target}: wrong fs type, bad option, bad superblock on {device},"
                " missing codepage or helper program, or other error"
            )
        return ""

    def _require_path(self) -> None:
        """Refuse what mount(8) would take as an option, or as a tag that is found elsewhere."""
        if not self.device.startswith("/"):
            raise InvalidArgument(f"source device '{self.device}' is not an absolute path")

    def start(self) -> None:
        try:
            super().start()
        except ToolFailed as error:
            error.hint = error.hint or self._advice_on_content()
            raise

    def _advice_on_content(self) -> str:
        """Return how to make a file system where the device is empty, or what else is on it."""
        import shlex

        from storagectl.backends import devices
        from storagectl.tools import mkfs

        try:
            found = devices.signatures(self.host, self.device)
        except StorageError:
            return ""
        wanted, name = self.pool.source.format, shlex.quote(self.pool.name)
        if found:
            return "" if found[0] == wanted else f"found on '{self.device}': {', '.join(found)}"
        build = f"storagectl pool-build {name} --no-overwrite"
        if mkfs.can_make(wanted):
            return f"'{self.device}' has no file system; to make one of format {wanted}: {build}"
        return (
            f"'{self.device}' has no file system; to make one, choose a <format> for its source"
            f" with storagectl pool-edit {name}, then: {build}"
        )

    def build(self, *, overwrite: bool, no_overwrite: bool) -> None:
        if not (overwrite or no_overwrite):
            self._make_target()
            return
        from storagectl.backends import devices, in_use
        from storagectl.tools import mkfs

        self._require_path()
        device = devices.resolved(self.device)
        self._require_formattable(device, overwrite=overwrite)
        self._make_target()
        in_use.require_unused(self.host, device)
        self.host.change(mkfs.mkfs(self.pool.source.format, device))
        if not self.host.expect(self.device) and not devices.signatures(self.host, device):
            raise OperationFailed(f"no file system was made on '{self.device}'")

    def unbuilt(self) -> str:
        from storagectl.backends import devices

        self._require_path()
        wanted = self.pool.source.format
        if not os.path.exists(self.device):
            return SOURCE
        found = devices.signatures(self.host, self.device)
        if not found or (wanted != "auto" and found[0] != SIGNATURES.get(wanted or "", wanted)):
            return SOURCE
        return super().unbuilt()

    def build_rest(self, *, overwrite: bool) -> None:
        missing = self.unbuilt()
        if missing:
            format = missing == SOURCE
            self.build(overwrite=format and overwrite, no_overwrite=format and not overwrite)

    def _require_formattable(self, device: str, *, overwrite: bool) -> None:
        """Refuse a device that is missing, in use, or, unless told to, not empty."""
        from storagectl.backends import devices, in_use
        from storagectl.tools import mkfs

        if not os.path.exists(device):
            raise OperationInvalid(
                f"Source device does not exist when formatting pool '{self.pool.name}'"
            )
        in_use.require_unused(self.host, device)
        in_use.require_no_group(self.host, device)
        wanted = self.pool.source.format
        if not overwrite:
            devices.require_empty(self.host, device, wanted)
        if not mkfs.can_make(wanted):
            raise ConfigUnsupported(f"a file system of format '{wanted}' cannot be made")
        self.host.find_tool(mkfs.mkfs(wanted, device)[0])


@lru_cache(maxsize=1)
def mounts_in(text: str) -> tuple[Mount, ...]:
    """Return what is mounted, read once for many pools.  The text is `Host.mounts`."""
    return tuple(parse_mountinfo(text))


def listed(name: str) -> bool:
    """Tell whether a file is a volume by its name: unfinished ones of ours are not, nor,
    as in libvirt, names with control characters."""
    plain = name.isprintable() or all(character >= " " for character in name)
    return plain and not is_staged(name)


BACKENDS = {"dir": Directory, "fs": FileSystem}
