"""Block devices as fs, disk and logical pools see them: what is on one, and who uses it.

Everything that destroys what a device holds asks here first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import (
    OperationInvalid,
    PoolBuilt,
    ProbeFailed,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
)
from storagectl.host.files import system_errors
from storagectl.tools import blkid, blockdev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storagectl.host import Host

MIB = 1 << 20
SYS = "/sys"
PROC = "/proc"
UDEV_CONTROL = "/run/udev/control"
PATIENCE_S = 10.0
# How long those may have something open who only look what it is.
LOOK_S = 1.0
LOOK_POLL_S = 0.02
# Source: proc(5), /proc/PID/fdinfo.
FLAGS = re.compile(r"^flags:\s+(\d+)$", re.MULTILINE)


class KernelPartition(NamedTuple):
    """What the kernel holds for a partition's node.

    `disk` is the device number of the disk; start and size, in bytes, are None for a
    partition that device-mapper made.
    """

    number: int
    disk: int
    start: int | None
    size: int | None


# What is on a device


def signatures(host: Host, device: str) -> list[str]:
    """Return libblkid's names of all that is on a device, superblocks before tables."""
    try:
        return blkid.parse_signatures(host.query(blkid.signatures(device)))
    except ToolFailed as error:
        raise ProbeFailed(
            f"Failed to create filesystem probe for device {device}",
            hint=error.stderr.strip(),
        ) from error


def signature(host: Host, device: str) -> str | None:
    """Return the name of what is on a device, a superblock before a partition table."""
    return next(iter(signatures(host, device)), None)


def require_empty(host: Host, device: str, wanted: str | None) -> None:
    """Refuse a device that holds anything that libblkid knows, or data of any kind.

    Raises: PoolBuilt, worded after whether it is what the pool wants.
    """
    found = signatures(host, device)
    if found:
        raise occupied(device, wanted, found)
    if holds_data(device):
        raise PoolBuilt(
            f"Device '{device}' holds data of an unknown format, forced overwrite is necessary"
        )


def occupied(device: str, wanted: str | None, found: list[str]) -> PoolBuilt:
    """Return libvirt's error for a device that is not empty."""
    if found[0] == wanted:
        return PoolBuilt(f"Device '{device}' already formatted using '{wanted}'")
    return PoolBuilt(
        f"Format of device '{device}' does not match the expected format '{wanted}', "
        "forced overwrite is necessary",
        hint=f"found on '{device}': {', '.join(found)}",
    )


def holds_data(device: str) -> bool:
    """Tell whether the first MiB of a device is anything but zeros."""
    with (
        system_errors(f"cannot read '{device}'"),
        open(device, "rb", buffering=0) as stream,
    ):
        return any(stream.read(MIB))


# Who uses it


def require_unused(host: Host, device: str) -> None:
    """Refuse a device that is in use, itself, in part, or through the disk it is part of.

    Names the user as far as this mount namespace shows it; an exclusive open, which the
    kernel refuses whoever the user is, has the last word.  Who has it open for writing without
    claiming it, as a virtual machine has its disk, uses it too.  A regular file is in use
    when it is swapped to, a loop device is on it, or somebody writes to it.

    Raises: ResourceBusy, SystemFailure when there is no such device.
    """
    from storagectl.backends import system

    with system_errors(f"cannot access '{device}'"):
        status = os.stat(device)
    if stat.S_ISREG(status.st_mode):
        words = user_of_file(device) or ", ".join(writers([device]))
        if words:
            raise ResourceBusy(f"file '{device}' is in use: {words}")
        return
    if not stat.S_ISBLK(status.st_mode):
        raise OperationInvalid(f"'{device}' is not a block device")
    folder = sysfs_folder(status.st_rdev)
    places = [] if folder is None else list(related(folder))
    for place in places:
        user = user_of_device(place)
        if user:
            node = device if place == folder else f"/dev/{node_name(place)}"
            raise ResourceBusy(f"device '{node}' is in use: {user}")
    nodes = dict.fromkeys([device, *(f"/dev/{node_name(place)}" for place in places)])
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.EBUSY:
            who = ", ".join(dict.fromkeys(user for node in nodes for user in openers_now(node)))
            raise ResourceBusy(
                f"device '{device}' is in use" + (f": {who}" if who else "")
            ) from error
        raise SystemFailure(f"cannot open '{device}': {error.strerror}") from error
    users = ", ".join(writers(list(nodes)))
    if users:
        raise ResourceBusy(f"device '{device}' is in use: {users}")
    system.require_not_for_boot(host, device)


def require_unclaimed(device: str) -> None:
    """Refuse a disk that somebody uses as a whole; use of its partitions is no obstacle.

    Raises: ResourceBusy.
    """
    number = device_number(device)
    folder = sysfs_folder(number) if number is not None else None
    user = user_of_device(folder) if folder is not None else None
    if user:
        raise ResourceBusy(f"device '{device}' is in use: {user}")


def require_no_group(host: Host, device: str) -> None:
    """Refuse a device that is, or has a partition that is, part of a volume group.

    Nothing holds it while no volume of the group is active.  Raises: ResourceBusy.
    """
    from storagectl.tools import lvm

    number = device_number(device)
    folder = sysfs_folder(number) if number is not None else None
    nodes = [] if folder is None else [f"/dev/{node_name(place)}" for place in parts(folder)]
    labelled = {identity(node): node for node in nodes if has_lvm_label(node)}
    if not labelled or not host.has_tool("pvs"):
        return
    for path, group in lvm.parse_physical(host.query(lvm.pvs())):
        if group and identity(path) in labelled:
            raise ResourceBusy(
                f"device '{labelled[identity(path)]}' is in use: part of volume group '{group}'",
                hint=f"to give it up, with all that is in it: vgremove {group}",
            )


def has_lvm_label(device: str) -> bool:
    """Tell whether a device begins as a physical volume does.

    Source: LVM 2.03 lib/label/label.h, a label in one of the first four sectors.
    """
    try:
        with open(device, "rb", buffering=0) as stream:
            start = stream.read(4 * 512)
    except OSError:
        return False
    return any(start[at : at + 8] == b"LABELONE" for at in range(0, len(start), 512))


def parts(folder: str) -> list[str]:
    """Return the sysfs folders of a device and of its partitions."""
    return [place for place in related(folder) if place.startswith(folder)]


def related(folder: str) -> Iterator[str]:
    """Yield the sysfs folders of a device, its partitions, and the disk it is part of."""
    yield folder
    for name in sorted(listing(folder)):
        if os.path.exists(os.path.join(folder, name, "partition")):
            yield os.path.join(folder, name)
    if os.path.exists(os.path.join(folder, "partition")):
        yield os.path.dirname(folder)


def user_of_device(folder: str) -> str | None:
    """Return what uses the block device with that sysfs folder, in words."""
    from storagectl.backends import system

    number = read_line(os.path.join(folder, "dev"))
    path = f"/dev/{node_name(folder)}"
    # btrfs shows a device number of its own: there the source tells, which may be another of its
    numbers = {number} | {
        read_line(f"{SYS}/class/block/{name}/dev")
        for name in btrfs_companions(os.path.basename(folder))
    }
    for process, text in system.namespaces():
        for mount in blockdev.parse_mountinfo(text):
            if mount.device == number or source_number(mount.source) in numbers:
                return f"mounted on {mount.target}" + (
                    f"{system.NAMESPACE}{process}" if process else ""
                )
    for swap in swaps():
        if same_device(swap, number):
            return "used as swap"
    for holder in sorted(listing(os.path.join(folder, "holders"))):
        mapped = read_line(f"{SYS}/class/block/{holder}/dm/name")
        return f"held by /dev/mapper/{mapped}" if mapped else f"held by /dev/{holder}"
    for loop, backing in loops():
        if backing == path or same_device(backing, number):
            return f"attached to {loop}"
    return None


def user_of_file(path: str) -> str | None:
    """Return what uses a regular file as a device, in words."""
    for swap in swaps():
        if same_file(swap, path):
            return "used as swap"
    for loop, backing in loops():
        if same_file(backing, path):
            folder = sysfs_folder(os.stat(loop).st_rdev) if os.path.exists(loop) else None
            return (user_of_device(folder) if folder else None) or f"attached to {loop}"
    return None


def users_of_mount(target: str) -> list[str]:
    """Return what keeps a mount busy, in words: mounts, swaps, loop devices and processes."""

    def inside(path: str) -> bool:
        return path == target or path.startswith(target + "/")

    mounts = blockdev.parse_mountinfo(read_all(f"{PROC}/self/mountinfo"))
    found = [f"mount {m.target}" for m in mounts if inside(m.target) and m.target != target]
    found += [f"swap {path}" for path in swaps() if inside(path)]
    found += [f"loop device {loop}" for loop, backing in loops() if inside(backing)]
    for pid in sorted((name for name in listing(PROC) if name.isdecimal()), key=int):
        folder = f"{PROC}/{pid}"
        links = ["cwd", "root", "exe", *(f"fd/{name}" for name in listing(f"{folder}/fd"))]
        if any(inside(read_link(f"{folder}/{link}")) for link in links):
            found.append(process_words(pid))
        elif any(inside(path) for path in mapped_files(folder)):
            found.append(f"{process_words(pid)}, which has a file of it mapped")
    return found


def mapped_files(folder: str) -> Iterator[str]:
    """Yield the files that a process has in memory.  Source: proc(5), /proc/PID/maps."""
    for line in read_all(f"{folder}/maps").splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6:
            yield blockdev.unescape(words[5])


def openers(path: str) -> list[str]:
    """Return the processes that have a file or block device open, in words."""
    return lasting(lambda: openers_now(path))


def lasting(look: Callable[[], list[str]]) -> list[str]:
    """Return the processes that are seen again and again.

    Who only looks, such as a list or udev, has soon closed what it looked at, and does not count.
    """
    deadline = time.monotonic() + LOOK_S
    found = look()
    while found and time.monotonic() < deadline:
        time.sleep(LOOK_POLL_S)
        still = look()
        found = [process for process in found if process in still]
    return found


def openers_now(path: str) -> list[str]:
    """Return the processes that have a file or block device open at this moment, in words."""
    wanted = identity(path)
    found = []
    for pid in sorted((name for name in listing(PROC) if name.isdecimal()), key=int):
        folder = f"{PROC}/{pid}/fd"
        if wanted and any(identity(f"{folder}/{name}") == wanted for name in listing(folder)):
            found.append(process_words(pid))
    return found


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from all others, the same for all nodes of a block device."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if stat.S_ISBLK(status.st_mode):
        return 0, status.st_rdev
    return status.st_ino, status.st_dev


def writers(paths: list[str]) -> list[str]:
    """Return the processes that have one of some files or block devices open for writing.

    Those are parted's as well that only shows the partitions, but not for long.
    """
    return lasting(lambda: writers_now(paths))


def writers_now(paths: list[str]) -> list[str]:
    """Return the processes that have one of some files or devices open for writing now."""
    wanted = {identity(path) for path in paths} - {None}
    found = []
    for pid in sorted((name for name in listing(PROC) if name.isdecimal()), key=int):
        folder = f"{PROC}/{pid}"
        for name in listing(f"{folder}/fd"):
            found_flags = FLAGS.search(read_all(f"{folder}/fdinfo/{name}"))
            flags = int(found_flags[1], 8) if found_flags else 0
            writes = flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_PATH
            if writes and identity(f"{folder}/fd/{name}") in wanted:
                found.append(process_words(pid))
                break
    return found


def process_words(pid: str) -> str:
    return f"process {pid} ({read_line(f'{PROC}/{pid}/comm')})"


def btrfs_companions(name: str) -> list[str]:
    """Return the names of all devices of the running btrfs that has one of that name."""
    for file_system in listing(f"{SYS}/fs/btrfs"):
        names = listing(f"{SYS}/fs/btrfs/{file_system}/devices")
        if name in names:
            return names
    return []


def swaps() -> list[str]:
    """Return the files and devices that are swapped to."""
    return blockdev.parse_swaps(read_all(f"{PROC}/swaps"))


def loops() -> Iterator[tuple[str, str]]:
    """Yield the path of each loop device in use and the path of what it is on."""
    for name in sorted(listing(f"{SYS}/block")):
        backing = read_line(f"{SYS}/block/{name}/loop/backing_file")
        if backing:
            yield f"/dev/{name}", backing


def same_device(path: str, number: str) -> bool:
    """Tell whether a path is that of the block device `major:minor`."""
    return source_number(path) == number


def source_number(path: str) -> str | None:
    """Return `major:minor` of the block device at an absolute path, None for anything else."""
    number = device_number(path) if path.startswith("/") else None
    return None if number is None else dev_text(number)


def same_file(one: str, other: str) -> bool:
    """Tell whether two paths are the same file; one that can't be looked at isn't."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


# What the kernel knows


def resolved(path: str) -> str:
    """Return the node of a block device that a link leads to now, the path of anything else.

    What is checked and then changed is one device, whatever becomes of the link meanwhile.
    A device-mapper device keeps the name that it has for people.
    """
    number = device_number(path) if os.path.islink(path) else None
    folder = sysfs_folder(number) if number is not None else None
    if folder is None:
        return path
    mapped = read_line(os.path.join(folder, "dm", "name"))
    node = f"/dev/mapper/{mapped}" if mapped else f"/dev/{node_name(folder)}"
    return node if device_number(node) == number else path


def sysfs_folder(number: int) -> str | None:
    """Return the sysfs folder of the block device with a device number."""
    path = f"{SYS}/dev/block/{dev_text(number)}"
    return os.path.realpath(path) if os.path.exists(path) else None


def dev_text(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"


def dev_number(text: str) -> int:
    major, _, minor = text.partition(":")
    return os.makedev(int(major), int(minor))


def node_name(folder: str) -> str:
    """Return the name below /dev of the device with that sysfs folder."""
    return os.path.basename(folder).replace("!", "/")


def device_number(path: str) -> int | None:
    """Return the device number of a block device; None for anything else, or nothing."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        if stat.S_ISBLK(status.st_mode):
            return status.st_rdev
    return None


def stable_links(folder: str, own: str = "") -> dict[int, str]:
    """Return the links in a folder by the device number they lead to.

    Only a folder below /dev has links that stay.  Of several for one device the one whose
    name begins with `own` wins, then the first by name.
    """
    if not folder.startswith("/dev/") or folder.strip("/") == "dev":
        return {}
    links: dict[int, str] = {}
    for name in sorted(listing(folder), key=lambda name: (not name.startswith(own), name)):
        path = os.path.join(folder, name)
        number = device_number(path)
        if number is not None:
            links.setdefault(number, path)
    return links


def device_size(path: str) -> int:
    """Return the size of a block device or a regular file in bytes."""
    with system_errors(f"cannot access '{path}'"):
        status = os.stat(path)
        if not stat.S_ISBLK(status.st_mode):
            return status.st_size
        folder = sysfs_folder(status.st_rdev)
        size = read_line(os.path.join(folder, "size")) if folder else ""
        if size:
            return int(size) * 512
        with open(path, "rb", buffering=0) as stream:
            return stream.seek(0, os.SEEK_END)


def is_mapped(path: str) -> bool:
    """Tell whether a path is that of a device-mapper device."""
    number = device_number(path)
    folder = sysfs_folder(number) if number is not None else None
    return folder is not None and os.path.isdir(os.path.join(folder, "dm"))


def kernel_partition(path: str) -> KernelPartition | None:
    """Return what the kernel holds for a partition, None for what isn't one.

    Sysfs tells it, names don't: sdaa1 is no part of sda.  Those of device-mapper carry
    it in their uuid, `part3-` and the uuid of the disk (Source: kpartx).
    """
    number = device_number(path)
    folder = sysfs_folder(number) if number is not None else None
    if folder is None:
        return None
    index = read_line(os.path.join(folder, "partition"))
    if index:
        return KernelPartition(
            int(index),
            dev_number(read_line(os.path.join(os.path.dirname(folder), "dev"))),
            int(read_line(os.path.join(folder, "start"))) * 512,
            int(read_line(os.path.join(folder, "size"))) * 512,
        )
    part, uuid = mapped_part(folder)
    for slave in listing(os.path.join(folder, "slaves")):
        disk = f"{SYS}/class/block/{slave}"
        if part and read_line(f"{disk}/dm/uuid") == uuid:
            return KernelPartition(part, dev_number(read_line(f"{disk}/dev")), None, None)
    return None


def mapped_part(folder: str) -> tuple[int, str]:
    """Return number and uuid of the disk of a partition that device-mapper made, else 0 and ""."""
    head, _, uuid = read_line(os.path.join(folder, "dm", "uuid")).partition("-")
    index = head.removeprefix("part")
    return (int(index), uuid) if uuid and index != head and index.isdecimal() else (0, "")


def mapped_partitions(disk: str) -> dict[int, str]:
    """Return the nodes of the partitions that device-mapper made of a disk, by number.

    Their names are made up by udev rules, kpartx or parted: mpatha1, mpathap1, mpatha-part1.
    """
    number = device_number(disk)
    folder = sysfs_folder(number) if number is not None else None
    found = {}
    if folder is not None:
        own = read_line(os.path.join(folder, "dm", "uuid"))
        for holder in listing(os.path.join(folder, "holders")):
            place = f"{SYS}/class/block/{holder}"
            index, uuid = mapped_part(place)
            if index and uuid == own:
                found[index] = f"/dev/mapper/{read_line(f'{place}/dm/name')}"
    return found


# Changing it


def clear_edges(host: Host, device: str) -> None:
    """Zero the first and the last MiB of a device, where its signatures are."""
    host.zero_ranges(device, edges(device_size(device)))


def edges(size: int) -> list[tuple[int, int]]:
    """Return the ranges (offset, length) of the first and last MiB, never overlapping."""
    if size <= 2 * MIB:
        return [(0, size)] if size else []
    return [(0, MIB), (size - MIB, MIB)]


def settle(host: Host) -> None:
    """Let udev finish what it does for the last changes, for a bounded time, if it runs."""
    if os.path.exists(UDEV_CONTROL) and host.has_tool("udevadm"):
        with contextlib.suppress(StorageError):
            host.query(["udevadm", "settle", f"--timeout={PATIENCE_S:.0f}"])


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Wait until a condition holds, looking ever less often; False when time is up."""
    import time

    deadline = time.monotonic() + seconds
    pause = 0.001
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return True


def listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def read_line(path: str) -> str:
    """Return a file's text without the newline, nothing where there is no such file."""
    return read_all(path).rstrip("\n")


def read_all(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""
