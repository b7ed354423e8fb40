"""Pools that are mounted while they run: a block device here, an export in `netfs`."""

from __future__ import annotations

import contextlib
import os
import stat
from functools import lru_cache
from typing import TYPE_CHECKING

from storagectl.backends import SOURCE, TARGET, Needs
from storagectl.backends.directory import Directory
from storagectl.errors import (
    ConfigUnsupported,
    InvalidArgument,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    StorageError,
    ToolFailed,
)
from storagectl.tools import mount
from storagectl.tools.blockdev import Mount, parse_mountinfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storagectl.backends.troubles import Trouble


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
            self._require_source()
        except BaseException:
            with contextlib.suppress(StorageError):
                self.stop()  # cut short, it may have come as far as that
            raise

    def _require_source(self) -> None:
        """Unmount what mount(8) has mounted when it is not the pool's source.

        Raises: OperationFailed.
        """
        other = self.top_mount()
        if other is not None and not self.is_source(other):
            self._unmount(mount.umount(self.pool.target))
            raise OperationFailed(f"what was mounted at '{self.pool.target}' is '{other.source}'")

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
        return (
            os.path.realpath(mount.source) == device
            or self._is_gone(mount.source)
            or self._is_companion(mount.source)
        )

    def _is_gone(self, node: str) -> bool:
        """Tell whether the pool's device and a mounted one are both gone, as when it was pulled
        out: then nothing tells any more that one was a link to the other."""
        return node.startswith("/") and not (os.path.exists(node) or os.path.exists(self.device))

    def _is_companion(self, node: str) -> bool:
        """Tell whether a node is another device of the btrfs that the pool's device is part of."""
        from storagectl.backends import devices

        folder = devices.folder_of(self.device)
        return folder is not None and devices.source_number(node) in devices.btrfs_numbers(folder)

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
        from storagectl.tools import blkid

        self._require_path()
        wanted = self.pool.source.format
        if not os.path.exists(self.device):
            return SOURCE
        found = devices.signatures(self.host, self.device)
        if not found or (wanted != "auto" and found[0] != blkid.superblock(wanted)):
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


BACKENDS = {"fs": FileSystem}
