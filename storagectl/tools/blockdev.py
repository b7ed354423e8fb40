"""What the kernel says about block devices, as text: names of partitions, mounts, swaps.

No I/O: `storagectl.backends.devices` reads the files.
"""

from __future__ import annotations

import re

from storagectl.record import Row


class Mount(Row):
    """One mount: device number as `major:minor`, the source as given to mount, the folder."""

    device: str
    source: str
    target: str


def partition_path(disk: str, number: int, *, separator: bool = False) -> str:
    """Return the device node of a partition.

    The kernel puts a `p` between a disk's name that ends in a digit and the number;
    device-mapper names may have one always, which `separator` says.
    """
    between = "p" if separator or disk[-1:].isdigit() else ""
    return f"{disk}{between}{number}"


def parse_mountinfo(text: str) -> list[Mount]:
    r"""Parse /proc/self/mountinfo.

    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    41 29 259:0 / /mnt/a\040b rw,relatime - ext4 /dev/loop0p1 rw

    Source: proc(5), Linux 6.1.
    """
    mounts = []
    for line in text.splitlines():
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if dash and len(fields) >= 6 and len(rest) >= 2:
            mounts.append(Mount(fields[2], unescape(rest[1]), unescape(fields[4])))
    return mounts


def parse_targets(text: str, kinds: tuple[str, ...]) -> list[str]:
    """Return where file systems are mounted whose type begins so, of /proc/self/mountinfo."""
    found = []
    for line in text.splitlines():
        head, dash, tail = line.partition(" - ")
        fields = head.split(" ")
        if dash and len(fields) >= 6 and tail.startswith(kinds):
            found.append(unescape(fields[4]))
    return found


def parse_swaps(text: str) -> list[str]:
    r"""Parse /proc/swaps: the files and devices that are swapped to.

    Filename                                Type            Size            Used            Priority
    /dev/loop0p3                            partition       20476           0               -2
    /srv/swap\040file                       file            1048572         0               -3

    Source: proc(5), Linux 6.1.
    """
    names = [line.split()[0] for line in text.splitlines()[1:] if line.strip()]
    return [unescape(name) for name in names]


def unescape(text: str) -> str:
    r"""Undo the kernel's octal escapes: `a\040b` is `a b`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def reread(device: str) -> list[str]:
    """Make the kernel read the partition table again; it refuses while a partition is in use."""
    return ["blockdev", "--rereadpt", device]
