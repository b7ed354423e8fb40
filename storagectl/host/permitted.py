"""Which block devices may be changed where STORAGECTL_TEST_DEVICES says so.

For machines on which the program is tried out: a list of paths and patterns such as
`/dev/loop7:/dev/sd[b-d]`.  What is not on it, part of what is, or made of that alone, is not
touched.  The variable can only refuse.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import TYPE_CHECKING

from storagectl.errors import OperationDenied
from storagectl.host.commands import TEST_DEVICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SYS = "/sys/dev/block"
# a device inside an option, as in `file.filename=/dev/loop0,size=4096`
DEVICE = re.compile(r"/dev/[^,=:\s]+")


def require(path: str) -> None:
    """Refuse a block device that is not permitted.  Raises: OperationDenied."""
    number = block_number(path)
    if number is not None and not is_permitted(number):
        raise OperationDenied(f"'{path}' is not one of {TEST_DEVICES}")


def require_all(argv: Sequence[str], query: Callable[[list[str]], str]) -> None:
    """Refuse a command on a block device, or a volume group on one, that is not permitted.

    `query` runs a command and returns its stdout.  What umount(8) is told is not looked at: who
    asks what is there may wait for a file server that is gone.
    """
    if os.path.basename(argv[0]) == "umount":
        return
    for word in argv[1:]:
        for path in (word, *DEVICE.findall(word)):
            require(path)
        for node in nodes_of_group(word):
            require(node)
    if os.path.basename(argv[0]) in ("vgremove", "vgchange", "lvcreate", "lvrename"):
        rows = query(["pvs", "--noheadings", "--separator", "\t", "--options", "pv_name,vg_name"])
        for row in rows.splitlines():
            device, _, group = row.strip().partition("\t")
            if group and group in argv:
                require(device)


def nodes_of_group(word: str) -> Iterator[str]:
    """Yield the nodes of the logical volumes of a group by that name."""
    if word and "/" not in word and word not in (".", ".."):
        yield from glob.glob(f"/dev/{glob.escape(word)}/*")


def block_number(path: str) -> int | None:
    """Return the device number of the block device at a path."""
    if not path.startswith("/"):
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_rdev if stat.S_ISBLK(status.st_mode) else None


def is_permitted(number: int) -> bool:
    """Tell whether a device is listed, part of one that is, or made of permitted ones alone."""
    patterns = filter(None, os.environ.get(TEST_DEVICES, "").split(":"))
    listed = {block_number(path) for pattern in patterns for path in glob.glob(pattern)}
    return _is_among(f"{os.major(number)}:{os.minor(number)}", listed)


def _is_among(device: str, listed: set[int | None]) -> bool:
    major, _, minor = device.partition(":")
    if os.makedev(int(major), int(minor)) in listed:
        return True
    folder = os.path.realpath(f"{SYS}/{device}")
    if os.path.exists(f"{folder}/partition"):
        return _is_among(_read(f"{os.path.dirname(folder)}/dev"), listed)
    try:
        below = os.listdir(f"{folder}/slaves")
    except FileNotFoundError:
        below = []
    return bool(below) and all(_is_among(_read(f"{folder}/slaves/{n}/dev"), listed) for n in below)


def _read(path: str) -> str:
    with open(path, encoding="ascii") as stream:
        return stream.read().strip()
