"""dmsetup: the maps of device-mapper."""

from __future__ import annotations

import re
from typing import NamedTuple

LINE = re.compile(r"(.+)\t\((\d+)[:,] ?(\d+)\)")


class Map(NamedTuple):
    """A map: its name below /dev/mapper and its minor number."""

    name: str
    minor: int


def multipath_maps() -> list[str]:
    """List the maps that have a multipath target."""
    return ["dmsetup", "ls", "--target", "multipath"]


def parse_maps(text: str) -> list[Map]:
    r"""Parse the list of maps; without any it is the sentence `No devices found`.

    mpatha  (253, 0)
    data-\x20disk   (253:12)

    Names are as below /dev/mapper; between name and numbers stands a tab.
    Source: dmsetup(8), LVM 2.03.16, which prints either form of the numbers.
    """
    found = (LINE.fullmatch(line) for line in text.splitlines())
    return [Map(match[1], int(match[3])) for match in found if match]
