"""dmsetup: the maps of device-mapper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = re.compile(r"(.+)\t\((\d+)[:,] ?(\d+)\)")


class Map(NamedTuple):
    """A map: its name below /dev/mapper and its minor number."""

    name: str
    minor: int


def multipath_maps() -> list[str]:
    """List the maps that have a multipath target."""
    return ["dmsetup", "ls", "--target", "multipath"]


class PathState(NamedTuple):
    """A path of a map: its device as `major:minor`, whether it is used, how often it failed."""

    device: str
    active: bool
    failures: int


def multipath_status() -> list[str]:
    """Show the state of each multipath map."""
    return ["dmsetup", "status", "--target", "multipath"]


def parse_status(text: str) -> dict[str, list[PathState]]:
    """Return the paths of each map, by its name; without any map it says `No devices found`.

    mpatha: 0 131072 multipath 2 0 0 0 2 1 A 0 1 2 8:16 A 0 0 1 E 0 1 2 8:32 F 3 0 1

    After the target: how many words of features and those, how many of the hardware's handler
    and those, the number of groups, the next one; for each group its state, how many words of
    the selector and those, how many paths, how many words follow each path; and the paths.
    Source: multipath_status() in drivers/md/dm-mpath.c, Linux 6.1.
    """
    found: dict[str, list[PathState]] = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(": ")
        words = iter(rest.split()[2:])
        if not colon or next(words, "") != "multipath":
            continue
        try:
            found.setdefault(name, []).extend(paths_of(words))
        except (ValueError, StopIteration) as error:
            raise InternalError(f"cannot understand what dmsetup printed: {line!r}") from error
    return found


def paths_of(words: Iterator[str]) -> list[PathState]:
    """Return the paths in the words after `multipath`.  Raises: ValueError, StopIteration."""

    def skip(count: int) -> None:
        for _ in range(count):
            next(words)

    skip(int(next(words)))
    skip(int(next(words)))
    groups = int(next(words))
    skip(1)
    found = []
    for _ in range(groups):
        skip(1)
        skip(int(next(words)))
        paths, extra = int(next(words)), int(next(words))
        for _ in range(paths):
            found.append(PathState(next(words), next(words) == "A", int(next(words))))
            skip(extra)
    return found


def parse_maps(text: str) -> list[Map]:
    r"""Parse the list of maps; without any it is the sentence `No devices found`.

    mpatha  (253, 0)
    data-\x20disk   (253:12)

    Names are as below /dev/mapper; between name and numbers stands a tab.
    Source: dmsetup(8), LVM 2.03.16, which prints either form of the numbers.
    """
    found = (LINE.fullmatch(line) for line in text.splitlines())
    return [Map(match[1], int(match[3])) for match in found if match]
