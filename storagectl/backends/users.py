"""Who uses a file, a block device or a folder: each user by itself, also by way of others.

A file that a loop device is on is used by what is mounted from its partitions; what is in the
way of a change is found by going from each device to those on it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from storagectl.backends import devices
from storagectl.backends.devices import listing, read_all, read_line, read_link
from storagectl.host import SERVED
from storagectl.tools.blockdev import Mount, parse_mountinfo, parse_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from storagectl.host import Host

MOUNT, SWAP, LOOP = "mount", "swap", "loop"
MAPPER, HOLDER, PROCESS = "device-mapper", "holder", "process"

LINKS = ("cwd", "root", "exe")
KERNEL = "kernel"


class Use(NamedTuple):
    """One user of something: what kind it is, its name, and the path of what it uses.

    A process has its number and what it is called, a pool or volume its names.
    """

    kind: str
    user: str
    used: str
    pid: int | None = None
    command: str | None = None
    pool: str | None = None
    volume: str | None = None


class Seen(NamedTuple):
    """What uses something, how many processes could not be looked into, and the identities of
    what the uses are of: devices with what is on them."""

    uses: list[Use]
    unseen: int
    identities: frozenset[tuple[int, int]] = frozenset()


class Files:
    """Looks at files, but not where a server does not answer: it would wait for ever."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.served = parse_targets(host.mounts(), SERVED)
        host.asks_together(self.served)

    def answers(self, path: str) -> bool:
        """Tell whether a path can be looked at."""
        return all(
            self.host.responds(place)
            for place in self.served
            if path == place or path.startswith(place + "/")
        )

    def identity(self, path: str, by: str = "") -> tuple[int, int] | None:
        """Return what tells a file from all others, looked at by another path if one is given."""
        return devices.identity(by or path) if self.answers(path) else None

    def real(self, path: str) -> str:
        """Return a path without links, where that can be told."""
        return os.path.realpath(path) if self.answers(path) else path


def of_paths(files: Files, paths: Iterable[str], own: Collection[int] = ()) -> Seen:
    """Return what uses files and block devices, except for holders with `own` device numbers."""
    uses: list[Use] = []
    used: dict[tuple[int, int], str] = {}
    numbers: dict[str, str] = {}
    mounts = parse_mountinfo(read_all(f"{devices.PROC}/self/mountinfo"))
    left = list(paths)
    while left:
        path = left.pop(0)
        identity = files.identity(path)
        if identity is None or identity in used:
            continue
        used[identity] = path
        number = devices.device_number(path)
        folder = None if number is None else devices.sysfs_folder(number)
        if number is not None:
            numbers[devices.dev_text(number)] = path
            companions = set() if folder is None else devices.btrfs_numbers(folder)
            uses += mounts_of(mounts, path, {devices.dev_text(number), *companions})
        uses += [
            Use(SWAP, KERNEL, path) for swap in devices.swaps() if files.identity(swap) == identity
        ]
        if folder is not None:
            left += partitions(folder)
            for holder, kind in holders(folder):
                if devices.device_number(holder) not in own:
                    uses.append(Use(kind, holder, path))
                    left.append(holder)
        for loop, backing in devices.loops():
            if backing == path or files.identity(backing) == identity:
                uses.append(Use(LOOP, loop, path))
                left.append(loop)
    uses += elsewhere(numbers, mounts)
    openers, unseen = processes(lambda pid: open_of(pid, used, files))
    return Seen([*uses, *openers], unseen, frozenset(used))


def mounts_of(mounts: list[Mount], path: str, numbers: set[str]) -> Iterator[Use]:
    """Yield the mounts of a block device, by the numbers of all that its file system is on.

    btrfs shows a number of its own: there the source tells, which is any of its devices.
    """
    for mount in mounts:
        if not numbers.isdisjoint((mount.device, devices.source_number(mount.source))):
            yield Use(MOUNT, mount.target, path)


def elsewhere(numbers: dict[str, str], ours: list[Mount]) -> Iterator[Use]:
    """Yield the mounts of devices, by number, that only other mount name spaces have."""
    if not numbers:
        return
    known = {(mount.device, mount.target) for mount in ours}
    spaces = {read_link(f"{devices.PROC}/self/ns/mnt")}
    for pid in pids():
        folder = f"{devices.PROC}/{pid}"
        space = read_link(f"{folder}/ns/mnt")
        if not space or space in spaces:
            continue
        spaces.add(space)
        for mount in parse_mountinfo(read_all(f"{folder}/mountinfo")):
            place = mount.device, mount.target
            if mount.device in numbers and place not in known:
                known.add(place)
                command = read_line(f"{folder}/comm")
                user = f"{mount.target} in the name space of {pid} ({command})"
                yield Use(MOUNT, user, numbers[mount.device], pid, command)


def partitions(folder: str) -> Iterator[str]:
    """Yield the partitions of the device with that sysfs folder."""
    for name in sorted(listing(folder)):
        if os.path.exists(os.path.join(folder, name, "partition")):
            yield f"/dev/{name.replace('!', '/')}"


def holders(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the devices that are on the one with that sysfs folder, and what kind they are."""
    for name in sorted(listing(os.path.join(folder, "holders"))):
        mapped = read_line(f"{devices.SYS}/class/block/{name}/dm/name")
        node = f"/dev/mapper/{mapped}" if mapped else f"/dev/{name.replace('!', '/')}"
        yield node, MAPPER if mapped else HOLDER


def below(files: Files, target: str) -> Seen:
    """Return what uses a folder and what is in it: mounts, swaps, loop devices and processes."""

    def inside(path: str) -> bool:
        return path == target or path.startswith(target.rstrip("/") + "/")

    mounts = parse_mountinfo(read_all(f"{devices.PROC}/self/mountinfo"))
    uses = [
        Use(MOUNT, mount.target, os.path.dirname(mount.target))
        for mount in mounts
        if inside(mount.target) and mount.target != target
    ]
    uses += [Use(SWAP, KERNEL, path) for path in devices.swaps() if inside(path)]
    on_loops = [(loop, backing) for loop, backing in devices.loops() if inside(backing)]
    uses += [Use(LOOP, loop, backing) for loop, backing in on_loops]
    on_top = of_paths(files, [loop for loop, _ in on_loops])

    def found(pid: int) -> Iterator[str]:
        folder = f"{devices.PROC}/{pid}"
        for link in (*LINKS, *(f"fd/{name}" for name in descriptors(pid))):
            path = read_link(f"{folder}/{link}")
            if inside(path):
                yield path

    openers, unseen = processes(found)
    return Seen(unique([*uses, *on_top.uses, *openers]), unseen)


def processes(found: Callable[[int], Iterable[str]]) -> tuple[list[Use], int]:
    """Return the other processes that use what is found of each, and how many kept it hidden."""
    uses: list[Use] = []
    unseen = 0
    for pid in pids():
        try:
            paths = dict.fromkeys(found(pid))
        except PermissionError:
            unseen += is_program(pid)
            continue
        except OSError:  # it has ended
            continue
        command = read_line(f"{devices.PROC}/{pid}/comm")
        uses += [Use(PROCESS, f"{pid} ({command})", path, pid, command) for path in paths]
    return uses, unseen


def pids() -> list[int]:
    """Return the other processes that there are, in order."""
    return [int(pid) for pid in devices.processes() if pid != str(os.getpid())]


def descriptors(pid: int) -> list[str]:
    """Return the descriptors of a process.  Raises: OSError."""
    return os.listdir(f"{devices.PROC}/{pid}/fd")


def open_of(pid: int, used: dict[tuple[int, int], str], files: Files) -> Iterator[str]:
    """Yield what a process has open of files and devices by identity.  Raises: OSError."""
    for name in descriptors(pid):
        link = f"{devices.PROC}/{pid}/fd/{name}"
        path = read_link(link)
        if path.startswith("/"):  # not a socket or a pipe
            identity = files.identity(path, link)
            if identity in used:
                yield used[identity]


def is_program(pid: int) -> bool:
    """Tell whether a process has a program: threads of the kernel have no open files."""
    return bool(read_all(f"{devices.PROC}/{pid}/cmdline"))


def unique(uses: Iterable[Use]) -> list[Use]:
    """Return uses without repetitions, in their order."""
    return list(dict.fromkeys(uses))
