"""Who uses a device, a file or a mount, in words; what is in use is refused.

Everything that destroys what a device holds asks here first.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING

from storagectl.backends import devices, system
from storagectl.backends.devices import (
    listing,
    node_name,
    process_words,
    read_all,
    read_line,
    read_link,
)
from storagectl.errors import OperationInvalid, ResourceBusy, SystemFailure
from storagectl.host.files import system_errors
from storagectl.tools import blockdev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storagectl.host import Host

# How long those may have something open who only look what it is.
LOOK_S = 1.0
LOOK_POLL_S = 0.02
# Source: proc(5), /proc/PID/fdinfo.
FLAGS = re.compile(r"^flags:\s+(\d+)$", re.MULTILINE)


def require_unused(host: Host, device: str) -> None:
    """Refuse a device that is in use, itself, in part, or through the disk it is part of.

    Names the user as far as this mount namespace shows it; an exclusive open, which the
    kernel refuses whoever the user is, has the last word.  Who has it open for writing without
    claiming it, as a virtual machine has its disk, uses it too.  A regular file is in use
    when it is swapped to, a loop device is on it, or somebody writes to it.

    Raises: ResourceBusy, SystemFailure when there is no such device.
    """
    with system_errors(f"cannot access '{device}'"):
        status = os.stat(device)
    if stat.S_ISREG(status.st_mode):
        words = user_of_file(device) or ", ".join(writers([device]))
        if words:
            raise ResourceBusy(f"file '{device}' is in use: {words}")
        return
    if not stat.S_ISBLK(status.st_mode):
        raise OperationInvalid(f"'{device}' is not a block device")
    folder = devices.sysfs_folder(status.st_rdev)
    places = [] if folder is None else list(related(folder))
    for place in places:
        user = user_of_device(place)
        if user:
            node = device if place == folder else f"/dev/{node_name(place)}"
            raise ResourceBusy(f"device '{node}' is in use: {user}")
    nodes = related_nodes(device)
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.EBUSY:
            who = ", ".join(dict.fromkeys(user for node in nodes for user in openers_now(node)))
            raise ResourceBusy(
                f"device '{device}' is in use" + (f": {who}" if who else "")
            ) from error
        raise SystemFailure(f"cannot open '{device}': {error.strerror}") from error
    users = ", ".join(writers(nodes))
    if users:
        raise ResourceBusy(f"device '{device}' is in use: {users}")
    system.require_not_for_boot(host, device)


def require_unclaimed(device: str) -> None:
    """Refuse a disk that somebody uses as a whole; use of its partitions is no obstacle.

    Raises: ResourceBusy.
    """
    folder = devices.folder_of(device)
    user = user_of_device(folder) if folder is not None else None
    if user:
        raise ResourceBusy(f"device '{device}' is in use: {user}")


def require_no_group(host: Host, device: str, *, but: str = "") -> None:
    """Refuse a device that is, or has a partition that is, part of a volume group but one.

    Nothing holds it while no volume of the group is active.  Raises: ResourceBusy.
    """
    from storagectl.tools import lvm

    folder = devices.folder_of(device)
    nodes = [device] if folder is None else [f"/dev/{node_name(place)}" for place in parts(folder)]
    labelled = {devices.identity(node): node for node in nodes if has_lvm_label(node)}
    if not labelled or not host.has_tool("pvs"):
        return
    for path, group in lvm.parse_physical(host.query(lvm.pvs())):
        node = labelled.get(devices.identity(path))
        if node and group not in ("", but):
            raise ResourceBusy(
                f"device '{node}' is in use: part of volume group '{group}'",
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


def related_nodes(device: str) -> list[str]:
    """Return a block device with the nodes of its partitions and of the disk it is part of.

    What is written to one of them changes the others; who has one open may not claim it.
    """
    folder = devices.folder_of(device)
    places = [] if folder is None else related(folder)
    return list(dict.fromkeys([device, *(f"/dev/{node_name(place)}" for place in places)]))


def user_of_device(folder: str) -> str | None:
    """Return what uses the block device with that sysfs folder, in words."""
    number = read_line(os.path.join(folder, "dev"))
    path = f"/dev/{node_name(folder)}"
    numbers = {number} | devices.btrfs_numbers(folder)
    for process, text in system.namespaces():
        for mount in blockdev.parse_mountinfo(text):
            if mount.device == number or devices.source_number(mount.source) in numbers:
                return f"mounted on {mount.target}" + (
                    f"{system.NAMESPACE}{process}" if process else ""
                )
    for swap in devices.swaps():
        if devices.same_device(swap, number):
            return "used as swap"
    for holder in sorted(listing(os.path.join(folder, "holders"))):
        mapped = read_line(f"{devices.SYS}/class/block/{holder}/dm/name")
        return f"held by /dev/mapper/{mapped}" if mapped else f"held by /dev/{holder}"
    for loop, backing in devices.loops():
        if backing == path or devices.same_device(backing, number):
            return f"attached to {loop}"
    return None


def user_of_file(path: str) -> str | None:
    """Return what uses a regular file as a device, in words."""
    for swap in devices.swaps():
        if devices.same_file(swap, path):
            return "used as swap"
    for loop, backing in devices.loops():
        if devices.same_file(backing, path):
            folder = devices.sysfs_folder(os.stat(loop).st_rdev) if os.path.exists(loop) else None
            return (user_of_device(folder) if folder else None) or f"attached to {loop}"
    return None


def require_no_device_on(path: str) -> None:
    """Refuse a regular file that a loop device or swap is on.  Raises: ResourceBusy."""
    user = user_of_file(path)
    if user:
        raise ResourceBusy(f"file '{path}' is in use: {user}")


def users_of_mount(target: str) -> list[str]:
    """Return what keeps a mount busy, in words: mounts, swaps, loop devices and processes."""

    def inside(path: str) -> bool:
        return path == target or path.startswith(target + "/")

    mounts = blockdev.parse_mountinfo(read_all(f"{devices.PROC}/self/mountinfo"))
    found = [f"mount {m.target}" for m in mounts if inside(m.target) and m.target != target]
    found += [f"swap {path}" for path in devices.swaps() if inside(path)]
    found += [f"loop device {loop}" for loop, backing in devices.loops() if inside(backing)]
    for pid in devices.processes():
        folder = f"{devices.PROC}/{pid}"
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
    wanted = devices.identity(path)
    found = []
    for pid in devices.processes():
        folder = f"{devices.PROC}/{pid}/fd"
        if wanted and any(
            devices.identity(f"{folder}/{name}") == wanted for name in listing(folder)
        ):
            found.append(process_words(pid))
    return found


def writers(paths: list[str]) -> list[str]:
    """Return the processes that have one of some files or block devices open for writing.

    Those are parted's as well that only shows the partitions, but not for long.
    """
    return lasting(lambda: writers_now(paths))


def writers_now(paths: list[str]) -> list[str]:
    """Return the processes that have one of some files or devices open for writing now."""
    wanted = {devices.identity(path) for path in paths} - {None}
    found = []
    for pid in devices.processes():
        folder = f"{devices.PROC}/{pid}"
        for name in listing(f"{folder}/fd"):
            found_flags = FLAGS.search(read_all(f"{folder}/fdinfo/{name}"))
            flags = int(found_flags[1], 8) if found_flags else 0
            writes = flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_PATH
            if writes and devices.identity(f"{folder}/fd/{name}") in wanted:
                found.append(process_words(pid))
                break
    return found
