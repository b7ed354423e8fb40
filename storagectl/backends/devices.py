"""Block devices: what is on one, what the kernel knows of it, and what becomes of it.

Who uses one is told by `in_use` and `users`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import PoolBuilt, ProbeFailed, StorageError, ToolFailed
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
    """Tell whether the edges of a device, which `clear_edges` clears, are anything but zeros."""
    with (
        system_errors(f"cannot read '{device}'"),
        open(device, "rb", buffering=0) as stream,
    ):
        for start, length in edges(device_size(device)):
            stream.seek(start)
            if any(stream.read(length)):
                return True
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


def folder_of(path: str) -> str | None:
    """Return the sysfs folder of the block device at a path, None for anything else."""
    number = device_number(path)
    return None if number is None else sysfs_folder(number)


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
    folder = folder_of(path)
    return folder is not None and os.path.isdir(os.path.join(folder, "dm"))


def kernel_partition(path: str) -> KernelPartition | None:
    """Return what the kernel holds for a partition, None for what isn't one.

    Sysfs tells it, names don't: sdaa1 is no part of sda.  Those of device-mapper carry
    it in their uuid, `part3-` and the uuid of the disk (Source: kpartx).
    """
    folder = folder_of(path)
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
    folder = folder_of(disk)
    found = {}
    if folder is not None:
        own = read_line(os.path.join(folder, "dm", "uuid"))
        for holder in listing(os.path.join(folder, "holders")):
            place = f"{SYS}/class/block/{holder}"
            index, uuid = mapped_part(place)
            if index and uuid == own:
                found[index] = f"/dev/mapper/{read_line(f'{place}/dm/name')}"
    return found


# What is on top of what


def swaps() -> list[str]:
    """Return the files and devices that are swapped to."""
    return blockdev.parse_swaps(read_all(f"{PROC}/swaps"))


def loops() -> Iterator[tuple[str, str]]:
    """Yield the path of each loop device in use and the path of what it is on."""
    for name in sorted(listing(f"{SYS}/block")):
        backing = read_line(f"{SYS}/block/{name}/loop/backing_file")
        if backing:
            yield f"/dev/{name}", backing


def btrfs_companions(name: str) -> list[str]:
    """Return the names of all devices of the running btrfs that has one of that name."""
    for file_system in listing(f"{SYS}/fs/btrfs"):
        names = listing(f"{SYS}/fs/btrfs/{file_system}/devices")
        if name in names:
            return names
    return []


def btrfs_numbers(folder: str) -> set[str]:
    """Return `major:minor` of all devices of the running btrfs on the device with a sysfs folder.

    A mount of it shows a number of its own, and one of them as its source, whichever was given.
    """
    names = btrfs_companions(os.path.basename(folder))
    return {read_line(f"{SYS}/class/block/{name}/dev") for name in names}


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from all others, the same for all nodes of a block device."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if stat.S_ISBLK(status.st_mode):
        return 0, status.st_rdev
    return status.st_ino, status.st_dev


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


def processes() -> list[str]:
    """Return the numbers of all processes, in order."""
    return sorted((name for name in listing(PROC) if name.isdecimal()), key=int)


def process_words(pid: str) -> str:
    return f"process {pid} ({read_line(f'{PROC}/{pid}/comm')})"


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


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds, looking ever less often; False after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
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
