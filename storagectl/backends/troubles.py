"""What keeps a pool from starting, by what the host says.  Only reads.

A trouble names the one command that mends it or, where none can, one that tells more.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from storagectl.backends import devices, in_use, system
from storagectl.errors import (
    OperationFailed,
    OperationInvalid,
    ProbeFailed,
    ResourceBusy,
    StorageError,
)
from storagectl.tools import blkid, iscsiadm, lvm, showmount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends.directory import Directory
    from storagectl.backends.disk import Disk
    from storagectl.backends.filesystem import FileSystem, Mounted
    from storagectl.backends.iscsi import Iscsi
    from storagectl.backends.netfs import NetworkFileSystem
    from storagectl.backends.scsi import Scsi
    from storagectl.backends.volume_group import VolumeGroup

ERROR, WARNING = "error", "warning"
# For the list of a server whose port has answered.
LIST_S = 5.0
LVM_DEVICES = "/etc/lvm/devices/system.devices"


class Trouble(NamedTuple):
    """Something that is wrong, in a sentence, with a code that scripts know it by.

    `command` mends it or, where `mends` is False, only tells more.
    """

    severity: str
    code: str
    what: str
    command: tuple[str, ...]
    mends: bool = True


def own(command: str, name: str, *options: str) -> tuple[str, ...]:
    """Return a command of ours on a pool, whatever its name looks like."""
    pool = f"--pool={name}" if name.startswith("-") else name
    return ("storagectl", command, pool, *options)


def edit(name: str) -> tuple[str, ...]:
    return own("pool-edit", name)


# Folders and what is mounted on them


def of_folder(pool: Directory, *, mounted: bool) -> Iterator[Trouble]:
    """Yield what is wrong with the target of a pool; `mounted` that its owner shows only then."""
    target, name = pool.pool.target, pool.pool.name
    if not pool.host.responds(target):
        command = ("umount", "-f", "-l", target)
        yield Trouble(ERROR, "target-silent", f"'{target}' does not answer", command)
        return
    try:
        status = os.stat(target)
    except FileNotFoundError:
        what = f"the target folder '{target}' does not exist"
        yield Trouble(ERROR, "target-missing", what, own("pool-build", name))
        return
    except OSError as error:
        what = f"the target folder '{target}' cannot be looked at: {error.strerror}"
        yield Trouble(ERROR, "target-refused", what, ("namei", "-l", target), mends=False)
        return
    if not stat.S_ISDIR(status.st_mode):
        what = f"the target '{target}' is not a folder"
        yield Trouble(ERROR, "target-no-folder", what, edit(name))
        return
    yield from _of_access(pool, status)
    if mounted:
        yield from _of_owner(pool, status)


def _of_access(pool: Directory, status: os.stat_result) -> Iterator[Trouble]:
    target = pool.pool.target
    may = [os.access(target, wanted, effective_ids=True) for wanted in (os.R_OK | os.X_OK, os.W_OK)]
    for allowed, severity, letters, verb in zip(
        may, (ERROR, WARNING), ("u+rx", "u+w"), ("read", "changed"), strict=True
    ):
        if allowed:
            continue
        ours = status.st_uid == os.geteuid() and os.geteuid() != 0
        command = ("chmod", letters, target) if ours else ("namei", "-l", target)
        what = f"the target folder '{target}' may not be {verb}"
        yield Trouble(severity, "target-refused", what, command, mends=ours)
        return


def _of_owner(pool: Directory, status: os.stat_result) -> Iterator[Trouble]:
    """Compare what the definition says of the target with what is there."""
    target, wanted = pool.pool.target, pool.pool.permissions
    mode = stat.S_IMODE(status.st_mode)
    if wanted.mode is not None and wanted.mode != mode:
        what = f"'{target}' has mode {mode:04o}, the definition says {wanted.mode:04o}"
        yield Trouble(WARNING, "target-mode", what, ("chmod", f"{wanted.mode:04o}", target))
    owner = wanted.owner if wanted.owner not in (None, status.st_uid) else None
    group = wanted.group if wanted.group not in (None, status.st_gid) else None
    if owner is not None or group is not None:
        says = f"{'' if owner is None else owner}{'' if group is None else f':{group}'}"
        what = f"'{target}' belongs to {status.st_uid}:{status.st_gid}, not to {says}"
        yield Trouble(WARNING, "target-owner", what, ("chown", says, target))


def of_mount(pool: Mounted) -> Iterator[Trouble]:
    """Yield what is wrong with the mount of a pool that does not run."""
    other = pool.top_mount()
    if other is not None and not pool.is_source(other):
        what = f"something else is mounted at '{pool.pool.target}': {other.source}"
        yield Trouble(ERROR, "target-busy", what, ("umount", pool.pool.target))


def of_export(pool: NetworkFileSystem) -> Iterator[Trouble]:
    """Yield that an NFS server does not list the export of a pool.

    One that lists nothing, or does not say, as where it serves NFS 4 alone, may have it.
    """
    server, folder = pool.pool.source.hosts[0].name, pool.pool.source.dir or "/"
    command = showmount.exports(server)
    try:
        said = pool.host.query(command, limit_s=LIST_S)
    except StorageError:
        return
    exports = showmount.parse_exports(said)
    if exports and not showmount.is_offered(folder, exports):
        what = f"'{server}' does not list '{folder}' among its exports"
        yield Trouble(WARNING, "export-missing", what, tuple(command), mends=False)


# Devices


def of_device(device: str, name: str, *, file: bool = False) -> Iterator[Trouble]:
    """Yield what is wrong with a source device; some pools also take a regular `file`."""
    if not device.startswith("/"):
        what = f"source device '{device}' is not an absolute path"
        yield Trouble(ERROR, "device-relative", what, edit(name))
        return
    try:
        kind = os.stat(device).st_mode
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = "does not exist" if missing else f"cannot be looked at: {error.strerror}"
        what = f"device '{device}' {why}"
        command = ("lsblk", "-o", "PATH,SIZE,FSTYPE,SERIAL,MOUNTPOINT")
        yield Trouble(ERROR, "device-missing", what, command, mends=False)
        return
    if not stat.S_ISBLK(kind) and not (file and stat.S_ISREG(kind)):
        yield Trouble(ERROR, "device-no-device", f"'{device}' is not a block device", edit(name))
    elif not has_medium(device):
        what = f"device '{device}' has no medium: its size is 0"
        yield Trouble(ERROR, "device-empty", what, ("lsblk", device), mends=False)


def has_medium(device: str) -> bool:
    """Tell whether there is something on a device to look at, such as a disk in a drive."""
    try:
        return devices.device_size(device) > 0
    except StorageError:
        return False


def of_file_system(pool: FileSystem) -> Iterator[Trouble]:
    """Yield what keeps the device of an fs pool from being mounted."""
    device, name, wanted = pool.device, pool.pool.name, pool.pool.source.format
    top = pool.top_mount()
    try:
        if top is None or not pool.is_source(top):
            in_use.require_unused(pool.host, device)
    except ResourceBusy as busy:
        user = busy.detail.partition(" is in use: ")[2]
        mounted = user.removeprefix("mounted on ") if system.NAMESPACE not in user else user
        command = ("umount", mounted) if mounted != user else ("lsblk", device)
        severity = WARNING if mounted != user else ERROR
        yield Trouble(severity, "device-in-use", busy.detail, command, mends=mounted != user)
    found = devices.signatures(pool.host, device)
    if not found:
        yield _without_file_system(pool)
    elif wanted not in (None, "auto") and found[0] != blkid.superblock(wanted):
        what = f"'{device}' has {found[0]} on it, the definition says {wanted}"
        yield Trouble(ERROR, "format-differs", what, edit(name))


def _without_file_system(pool: FileSystem) -> Trouble:
    from storagectl.tools import mkfs

    device, name, wanted = pool.device, pool.pool.name, pool.pool.source.format
    what = f"'{device}' has no file system"
    if not mkfs.can_make(wanted):
        what += f", and none of format '{wanted or 'auto'}' can be made: choose one"
        return Trouble(ERROR, "format-missing", what, edit(name))
    if devices.holds_data(device):
        what += ", but data that no tool recognises"
        return Trouble(ERROR, "format-missing", what, ("wipefs", device), mends=False)
    return Trouble(ERROR, "format-missing", what, own("pool-build", name, "--no-overwrite"))


def of_disk(pool: Disk) -> Iterator[Trouble]:
    """Yield what is wrong with the partition table of a disk."""
    device, name = pool.device, pool.pool.name
    try:
        pool.start()  # which only looks
    except OperationInvalid as error:
        what = f"'{device}' has another content than the definition says, {pool.label}"
        found = error.hint.rpartition(": ")[2]
        what += f": {found}" if found else ""
        yield Trouble(ERROR, "format-differs", what, edit(name))
    except (ProbeFailed, OperationFailed) as error:
        if "requires build" not in error.detail:
            raise
        what = f"'{device}' has no partition table"
        if devices.holds_data(device):
            what += ", but data that no tool recognises"
            yield Trouble(ERROR, "format-missing", what, ("wipefs", device), mends=False)
        else:
            yield Trouble(ERROR, "format-missing", what, own("pool-build", name))


# Volume groups


def of_group(pool: VolumeGroup) -> Iterator[Trouble]:
    """Yield what is wrong with a volume group."""
    from storagectl.backends.volume_group import refusal

    name = pool.pool.name
    group_name = pool.group
    try:
        group = pool.find_group()
    except OperationFailed as error:
        yield _of_other_group(group_name, error)
        return
    if group is None:
        yield from _without_group(pool)
        return
    if not pool.has_our_devices(group):
        what = (
            f"volume group '{group_name}' is on {', '.join(group.devices)}, on none of the"
            " definition's devices"
        )
        yield Trouble(ERROR, "group-elsewhere", what, edit(name))
    reason = refusal(group)
    if reason is not None:
        command = ("vgimport", group_name) if group.exported else ("vgs", "-o", "+vg_lock_type")
        code = "group-exported" if group.exported else "group-shared"
        what = f"volume group '{group_name}' {reason}"
        yield Trouble(ERROR, code, what, command, mends=group.exported)
    if group.missing:
        what = f"volume group '{group_name}' lacks {group.missing} of its devices"
        command = ("pvs", "-o", "pv_name,pv_uuid,vg_name,pv_missing")
        yield Trouble(ERROR, "group-incomplete", what, command, mends=False)


def _of_other_group(name: str, error: OperationFailed) -> Trouble:
    """Return a group of another machine, or several groups of one name, as a trouble."""
    hint = error.hint
    if hint.startswith("rename one"):
        uuid = hint.partition("with ")[2].partition(" or ")[0]
        return Trouble(ERROR, "group-twice", error.detail, ("vgrename", uuid, f"{name}-2"))
    command = ("vgs", "--foreign", "-o", "+vg_systemid", name)
    what = f"{error.detail}: {hint}" if hint else error.detail
    return Trouble(ERROR, "group-foreign", what, command, mends=False)


def _without_group(pool: VolumeGroup) -> Iterator[Trouble]:
    """Tell why there is no volume group: not made yet, or hidden from LVM."""
    from storagectl.backends.volume_group import MEMBER

    name, group = pool.pool.name, pool.group
    there = [device for device in pool.devices if has_medium(device)]
    members = [device for device in there if MEMBER in devices.signatures(pool.host, device)]
    if not members:
        what = f"there is no volume group '{group}'"
        if pool.devices and there == pool.devices:
            yield Trouble(ERROR, "group-missing", what, own("pool-build", name))
        else:
            yield Trouble(ERROR, "group-missing", what, ("vgs", "-a"), mends=False)
        return
    known = [device for device, _ in lvm.parse_physical(pool.host.query(lvm.pvs()))]
    for device in members:
        if os.path.realpath(device) in map(os.path.realpath, known):
            what = f"'{device}' belongs to no volume group '{group}'"
            yield Trouble(ERROR, "group-missing", what, ("pvs", device), mends=False)
        elif os.path.exists(LVM_DEVICES):
            what = f"LVM does not use '{device}': it is not in {LVM_DEVICES}"
            yield Trouble(ERROR, "group-hidden", what, ("lvmdevices", "--adddev", device))
        else:
            what = f"LVM does not use '{device}': a filter of lvm.conf leaves it out"
            command = ("lvmconfig", "devices/filter", "devices/global_filter")
            yield Trouble(ERROR, "group-hidden", what, command, mends=False)


# Storage networks


def of_target(pool: Iscsi) -> Iterator[Trouble]:
    """Yield what is wrong with an iSCSI source, and passwords that others can read."""
    try:
        pool.require_source()
    except StorageError as error:
        yield Trouble(ERROR, "source-invalid", error.detail, edit(pool.pool.name))
        return
    if pool.own_initiator() is None and pool.host.has_tool("iscsi-iname"):
        what = f"there is no initiator name in '{iscsiadm.INITIATOR}': iscsid does not run without"
        line = f'echo "InitiatorName=$(iscsi-iname)" >{iscsiadm.INITIATOR}'
        yield Trouble(ERROR, "initiator-missing", what, ("sh", "-c", line))
    for _, folder in pool.records():
        for name in devices.listing(folder):
            path = os.path.join(folder, name)
            mode = stat.S_IMODE(os.stat(path).st_mode)
            if mode & 0o077 and "password = " in devices.read_all(path):
                what = f"others can read the password in '{path}' (mode {mode:04o})"
                yield Trouble(ERROR, "secret-mode", what, ("chmod", "600", path))


def of_adapter(pool: Scsi) -> Iterator[Trouble]:
    """Yield why the SCSI host of a pool is not there."""
    folder = f"{devices.SYS}/class/scsi_host"
    try:
        name = pool.host_name()
        what = f"there is no SCSI host '{name}'"
        missing = not os.path.isdir(f"{folder}/{name}")
    except StorageError as error:
        what, missing = error.detail, pool.adapter.type != "fc_host"
    if missing:
        yield Trouble(ERROR, "adapter-missing", what, ("ls", "-l", folder), mends=False)
