"""Where a new partition of a disk pool goes, and what it is called: planned without a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from storagectl.backends.devices import MIB
from storagectl.errors import InternalError
from storagectl.tools import parted

if TYPE_CHECKING:
    from storagectl.model import Volume
    from storagectl.tools.parted import PartitionTable

# Labels whose partitions have no kind: mkpart wants the type of file system alone.
KINDLESS = frozenset(("bsd", "sun"))

# parted's word for the content of a partition; libvirt has none for LVM and RAID either.
CONTENTS = {"fat16": "fat16", "fat32": "fat32", "linux-swap": "linux-swap"}
DEFAULT_CONTENT = "ext2"

DOS_PRIMARIES = 4
DOS_FIRST_LOGICAL = 5
SUN_WHOLE_DISK = 3
DVH_RESERVED = frozenset((9, 11))


class Place(NamedTuple):
    """Where a new partition goes: bytes [start, end), kind and number."""

    start: int
    end: int
    kind: str
    number: int


def is_extended(table: PartitionTable, volume: Volume) -> bool:
    """Tell whether a volume is to be an extended partition, which only dos tables have."""
    return table.label == "dos" and volume.format == "extended"


def plan(table: PartitionTable, capacity: int, *, extended: bool, grain: int) -> Place:
    """Choose where a new partition goes: the smallest free extent it fits in.

    The size is `capacity` rounded up to `grain`.  The start is a multiple of 1 MiB, of
    4 KiB where the partition fits nowhere else, of `grain` as the last resort.

    Raises: InternalError in libvirt's words.  Source: libvirt 9.0.0
    src/storage/storage_backend_disk.c for kinds and texts.
    """
    kind = parted.PRIMARY
    if table.label == "dos":
        taken = table.numbers(parted.PRIMARY, parted.EXTENDED)
        has_extended = bool(table.numbers(parted.EXTENDED))
        if extended and has_extended:
            raise InternalError("extended partition already exists")
        if extended and len(taken) >= DOS_PRIMARIES:
            raise InternalError("no large enough free extent")
        if extended:
            kind = parted.EXTENDED
        elif len(taken) >= DOS_PRIMARIES:
            if not has_extended:
                raise InternalError(
                    "no extended partition found and no primary partition available"
                )
            kind = parted.LOGICAL
    size = -(-max(capacity, 1) // grain) * grain
    spot = fit(table, size, logical=kind == parted.LOGICAL, grain=grain)
    if spot is None:
        raise InternalError("no large enough free extent")
    number = next_number(table, kind)
    if table.label != "dos" and number > table.max_partitions:
        raise InternalError(f"partition table has no room for more than {table.max_partitions}")
    return Place(spot, spot + size, kind, number)


def fit(table: PartitionTable, size: int, *, logical: bool, grain: int) -> int | None:
    """Return the start of `size` bytes in the smallest free extent with room for them."""
    # the sector before a logical partition describes it
    lead = table.sector_size if logical else 0
    extents = sorted(
        (free for free in table.free if free.logical == logical),
        key=lambda free: (free.end - free.start, free.start),
    )
    for alignment in sorted({a for a in (MIB, 4096) if a % grain == 0} | {grain})[::-1]:
        for free in extents:
            start = -(-(free.start + lead) // alignment) * alignment
            if start + size <= free.end:
                return start
    return None


def next_number(table: PartitionTable, kind: str) -> int:
    """Return the number that parted gives to the next partition of a kind."""
    if kind == parted.LOGICAL:
        return max(table.numbers(parted.LOGICAL), default=DOS_FIRST_LOGICAL - 1) + 1
    taken = {part.number for part in table.partitions}
    if table.label == "sun":
        taken.add(SUN_WHOLE_DISK)
    if table.label == "dvh":
        taken |= DVH_RESERVED
    number = 1
    while number in taken:
        number += 1
    return number


def mkpart_words(label: str, kind: str, volume_format: str | None) -> list[str]:
    """Return what parted's mkpart wants before the range."""
    content = CONTENTS.get(volume_format or "none", DEFAULT_CONTENT)
    if label in KINDLESS:
        return [content]
    if label != "dos":
        return [parted.PRIMARY]
    return [kind] if kind == parted.EXTENDED else [kind, content]
