"""GNU parted 3.5: argument lists, and the parser of its JSON.

Ranges are half-open and in bytes; parted itself names the last byte.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from storagectl.errors import InternalError
from storagectl.tools import RUBBISH

if TYPE_CHECKING:
    from collections.abc import Iterable

PRIMARY = "primary"
LOGICAL = "logical"
EXTENDED = "extended"

# libvirt's word for a table where parted has another.
WORDS = {"dos": "msdos"}
LABELS = {word: label for label, word in WORDS.items()}

UNRECOGNISED = "unrecognised disk label"

LABEL_SECTOR = 512


class Partition(NamedTuple):
    """A partition; `kind` is primary, logical or extended."""

    number: int
    kind: str
    start: int
    end: int


class Free(NamedTuple):
    """A free range; logical ones are inside the extended partition."""

    start: int
    end: int
    logical: bool


class PartitionTable(NamedTuple):
    """A partition table; partitions and free ranges in the order of the disk."""

    label: str
    sector_size: int
    size: int
    max_partitions: int
    partitions: tuple[Partition, ...]
    free: tuple[Free, ...]

    def numbers(self, *kinds: str) -> set[int]:
        """Return the numbers of the partitions of some kinds."""
        return {part.number for part in self.partitions if part.kind in kinds}


def print_table(device: str) -> list[str]:
    """Print partitions and free ranges.

    Cylinder alignment makes parted leave out a last partial cylinder and the like, and
    so its free ranges become those of libvirt's libvirt_parthelper.
    """
    return [
        "parted", "--script", "--json", "--align", "cylinder", device,
        "unit", "B", "print", "free",
    ]  # fmt: skip


def print_cylinders(device: str) -> list[str]:
    """Print a table in the form that has the geometry."""
    return ["parted", "--script", "--machine", device, "unit", "cyl", "print"]


def mklabel(device: str, label: str) -> list[str]:
    """Write an empty partition table."""
    return ["parted", "--script", device, "mklabel", WORDS.get(label, label)]


def mkpart(device: str, words: Iterable[str], start: int, end: int) -> list[str]:
    """Make a partition of exactly [start, end), or fail.

    A gpt of a disk that has grown is extended to it: the free ranges printed go that
    far.  `words` are what the label wants before the range: `primary ext2`, `ext2`, `extended`.
    """
    return [
        "parted", "--script", "--fix", "--align", "none", device,
        "mkpart", *words, f"{start}B", f"{end - 1}B",
    ]  # fmt: skip


def rm(device: str, number: int) -> list[str]:
    """Remove a partition; an extended one takes the logical ones with it."""
    return ["parted", "--script", device, "rm", str(number)]


def parse_table(text: str) -> PartitionTable:
    """Parse what `print_table` printed.

    {"disk": {"path": "/dev/loop0", "size": "268435456B", "logical-sector-size": 512,
      "label": "msdos", "max-partitions": 4, "partitions": [
      {"number": 1, "start": "1048576B", "end": "22020095B", "type": "primary"},
      {"number": 0, "start": "22020096B", "end": "268431359B", "type": "free"}]}}

    Source: parted 3.5 -j.
    """
    try:
        disk = json.loads(text, strict=False)["disk"]
        rows = disk.get("partitions", [])
        partitions = tuple(
            Partition(int(row["number"]), str(row["type"]), in_bytes(row["start"]),
                      in_bytes(row["end"]) + 1)
            for row in rows
            if row["type"] in (PRIMARY, LOGICAL, EXTENDED)
        )  # fmt: skip
        extended = [part for part in partitions if part.kind == EXTENDED]
        free = tuple(
            Free(max(start, LABEL_SECTOR), end,
                 any(part.start <= start and end <= part.end for part in extended))
            for start, end in (
                (in_bytes(row["start"]), in_bytes(row["end"]) + 1)
                for row in rows
                if row["type"] == "free"
            )
        )  # fmt: skip
        return PartitionTable(
            label=LABELS.get(disk["label"], str(disk["label"])),
            sector_size=int(disk["logical-sector-size"]),
            size=in_bytes(disk["size"]),
            max_partitions=int(disk.get("max-partitions", 0)),
            partitions=partitions,
            free=tuple(extent for extent in free if extent.start < extent.end),
        )
    except RUBBISH as error:
        raise InternalError(f"cannot understand what parted printed: {text[:200]!r}") from error


def parse_cylinder_sectors(text: str) -> int:
    """Return the sectors of one cylinder from what `print_cylinders` printed.

    CYL;
    /dev/loop0:514cyl:loopback:512:512:sun:Loopback device:;
    514:255:2:261kB;

    Source: parted 3.5 -m; the third line is cylinders, heads, sectors per track.
    """
    try:
        heads, sectors = text.splitlines()[2].split(":")[1:3]
        count = int(heads) * int(sectors)
    except RUBBISH as error:
        raise InternalError(f"cannot understand what parted printed: {text[:200]!r}") from error
    if count < 1:
        raise InternalError(f"cannot understand what parted printed: {text[:200]!r}")
    return count


def in_bytes(word: Any) -> int:
    """Return the number of `1048576B`."""
    return int(str(word).removesuffix("B"))
