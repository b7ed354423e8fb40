"""LVM 2.03: argument lists, and the parsers of its JSON.

The arguments of what alters something are libvirt's, in its order, so that errors show the same
command.  No name can be taken for an option: `is_valid_name` and the caller see to that.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from storagectl.errors import InternalError
from storagectl.tools import RUBBISH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPORT = ("--reportformat", "json", "--units", "b", "--nosuffix")
GROUP_FIELDS = (
    "vg_name,vg_uuid,vg_size,vg_free,vg_missing_pv_count,vg_exported,vg_lock_type,lv_count,pv_name"
)
VOLUME_FIELDS = (
    "lv_name,lv_uuid,origin,lv_attr,lv_size,lv_skip_activation,data_percent,seg_size,segtype,"
    "devices,vg_extent_size,pool_lv,chunk_size"
)
PV_FIELDS = "pv_name,vg_name"

SEGMENT_FIELDS = "pv_name,pv_uuid,vg_name,pv_pe_count,vg_extent_size,pvseg_start,pvseg_size,lv_name"

FOREIGN = "with system ID"
TWINS = "Multiple VGs found with the same name"
EXISTS = "already exists in volume group"

NAME = re.compile(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]*")
PLACE = re.compile(r"(.*)\((\d+)\)")

# A snapshot that is full has 100.
LARGEST_PERCENT = 1000

# LVM takes none smaller, and this one by default.
SNAPSHOT_CHUNK = 4096

# The first letter of lv_attr.
SNAPSHOTS = frozenset("sS")
THIN = "V"
THIN_POOL = "t"
INNER_POOLS = frozenset("td")


class Group(NamedTuple):
    """A volume group; sizes in bytes, devices without those that are missing."""

    name: str
    uuid: str
    size: int
    free: int
    missing: int
    exported: bool
    lock_type: str
    volumes: int
    devices: tuple[str, ...]


class Place(NamedTuple):
    """Bytes [start, end) of a device that a logical volume is on."""

    device: str
    start: int
    end: int


class PhysicalVolume(NamedTuple):
    """A device of a volume group, its extents alone; sizes in bytes.

    `places` are (name, start, end) of what is in them, no name for what is free.
    """

    device: str
    group: str
    size: int
    places: tuple[tuple[str, int, int], ...]


class LogicalVolume(NamedTuple):
    """A logical volume.  `size` is that of its storage: for a snapshot what it may take in.

    `origin` is a volume that others can see, `pool` what a thin volume takes its blocks from.
    `data_percent` is None where LVM counts nothing, `chunk_size` 0 where there are no chunks.
    """

    name: str
    uuid: str
    kind: str
    size: int
    active: bool
    open: bool
    skipped: bool
    origin: str | None
    data_percent: float | None
    extent_size: int
    places: tuple[Place, ...]
    pool: str | None
    chunk_size: int

    @property
    def used(self) -> int:
        """How much of `size` holds data: all of it where LVM counts nothing."""
        return round(self.size * (100 if self.data_percent is None else self.data_percent) / 100)

    def holds_all_of(self, size: int) -> bool:
        """Tell whether a snapshot never overflows, whatever is written to an origin of that size.

        It holds each chunk once: after a header, and with 16 bytes for each in chunks of their
        own, of which one is prepared ahead.
        Source: Linux drivers/md/dm-snap-persistent.c.
        """
        chunk = max(self.chunk_size, SNAPSHOT_CHUNK)
        chunks = -(-size // chunk)
        return self.size >= (1 + chunks + chunks // (chunk // 16) + 1) * chunk


def is_valid_name(name: str) -> bool:
    """Tell whether LVM can have a group or a volume of that name.  Source: lvm(8), VALID NAMES."""
    return NAME.fullmatch(name) is not None and name not in (".", "..")


def is_without(stderr: str, group: str) -> bool:
    """Tell whether LVM has failed because there is no such volume group.

    It warns of other things that are "not found", as devices are.
    """
    return f'Volume group "{group}" not found' in map(str.strip, stderr.splitlines())


def vgs(*groups: str) -> list[str]:
    """Show volume groups, by default all, a row for each of their devices."""
    return ["vgs", *REPORT, "--options", GROUP_FIELDS, *groups]


def lvs(group: str) -> list[str]:
    """Show the volumes of a group, hidden ones too, a row for each segment."""
    return ["lvs", "-a", *REPORT, "--options", VOLUME_FIELDS, group]


def pvs(*, foreign: bool = True) -> list[str]:
    """Show all devices that LVM uses, those of other machines' groups if wanted."""
    return ["pvs", *REPORT, *(["--foreign"] if foreign else []), "--options", PV_FIELDS]


def segments() -> list[str]:
    """Show what is where on all devices that LVM uses, a row for each piece."""
    return ["pvs", "--segments", *REPORT, "--options", SEGMENT_FIELDS]


def vgchange(group: str, *, active: bool) -> list[str]:
    """Activate or deactivate all volumes of a group."""
    return ["vgchange", "-aly" if active else "-aln", group]


def pvcreate(device: str) -> list[str]:
    return ["pvcreate", device]


def pvremove(device: str) -> list[str]:
    return ["pvremove", device]


def vgcreate(group: str, devices: Iterable[str]) -> list[str]:
    return ["vgcreate", group, *devices]


def vgremove(group: str) -> list[str]:
    """Remove a group and all its volumes."""
    return ["vgremove", "-f", group]


def lvcreate(group: str, name: str, capacity: int) -> list[str]:
    return ["lvcreate", "--name", name, "-L", in_kib(capacity), group, "--yes"]


def lvcreate_thin(group: str, name: str, capacity: int, pool: str) -> list[str]:
    """Make a volume that takes its blocks from a thin pool as they are written."""
    return [
        "lvcreate", "--name", name, "--thin", "--virtualsize", in_kib(capacity),
        "--thinpool", pool, group, "--yes",
    ]  # fmt: skip


def snapshot(origin: str, name: str, room: int) -> list[str]:
    """Make a snapshot that is lost when more than `room` has changed."""
    return ["lvcreate", "--name", name, "-L", in_kib(room or 1), "-s", origin, "--yes"]


def snapshot_thin(origin: str, name: str) -> list[str]:
    """Make a snapshot in the thin pool of its origin; it is activated like any other volume."""
    return ["lvcreate", "--name", name, "--setactivationskip", "n", "-s", origin, "--yes"]


def lvrename(group: str, old: str, new: str) -> list[str]:
    return ["lvrename", group, old, new]


def in_kib(size: int) -> str:
    return f"{-(-size // 1024)}K"


def lvremove(path: str) -> list[str]:
    return ["lvremove", "-f", path]


def lvextend(path: str, size: int) -> list[str]:
    return ["lvextend", "--size", f"{size}b", path]


def lvreduce(path: str, size: int) -> list[str]:
    """Make a volume smaller without asking; what was in the lost part is lost."""
    return ["lvreduce", "--yes", "--size", f"{size}b", path]


def parse_groups(text: str) -> list[Group]:
    """Parse what `vgs` printed, a row for each device; groups of one name differ in the UUID.

    {"report": [{"vg": [
     {"vg_name":"vg", "vg_uuid":"h0Vj...", "vg_size":"390070272", "vg_free":"390070272",
      "vg_missing_pv_count":"0", "vg_lock_type":"", "pv_name":"/dev/loop0", "lv_count":"0", ...},
     {"vg_name":"vg", "vg_uuid":"h0Vj...", ..., "pv_name":"[unknown]", "lv_count":"0", ...}]}]}

    Source: LVM 2.03.16 vgs --reportformat json.
    """
    try:
        found: dict[str, list[dict[str, str]]] = {}
        for row in rows(text, "vg"):
            found.setdefault(row["vg_uuid"], []).append(row)
        return [
            Group(
                name=row["vg_name"],
                uuid=uuid,
                size=int(row["vg_size"]),
                free=int(row["vg_free"]),
                missing=int(row["vg_missing_pv_count"]),
                exported=bool(row["vg_exported"]),
                lock_type=row["vg_lock_type"],
                volumes=int(row["lv_count"]),
                devices=tuple(r["pv_name"] for r in group if r["pv_name"].startswith("/")),
            )
            for uuid, group in found.items()
            for row in group[:1]
        ]
    except RUBBISH as error:
        raise not_understood("vgs", text) from error


def parse_volumes(text: str) -> list[LogicalVolume]:
    """Parse what `lvs` printed, a row for each segment; hidden volumes only tell of places.

    {"report": [{"lv": [
     {"lv_name":"snap", "lv_uuid":"3MYUwJ-...", "origin":"stripe", "lv_attr":"swi-a-s---",
      "lv_size":"4194304", "lv_skip_activation":"", "data_percent":"0.00", "seg_size":"4194304",
      "segtype":"linear", "devices":"/dev/loop0(11)", "vg_extent_size":"4194304", "pool_lv":"",
      "chunk_size":"4096"},
     {"lv_name":"stripe", ..., "devices":"/dev/loop0(2),/dev/loop1(0)", ...},
     {"lv_name":"raid", ..., "devices":"raid_rimage_0(0),raid_rimage_1(0)", ...},
     {"lv_name":"[raid_rimage_0]", ..., "devices":"/dev/loop0(5)", ...},
     {"lv_name":"[raid_rimage_0]", ..., "devices":"/dev/loop0(13)", ...}]}]}

    `lv_attr` is kind, permissions, allocation, fixed minor, state, open, ...; the origin of
    a snapshot of nothing is in brackets.
    Source: LVM 2.03.16 lvs --reportformat json, lvs(8).
    """
    try:
        found: dict[str, list[dict[str, str]]] = {}
        for row in rows(text, "lv"):
            found.setdefault(row["lv_name"], []).append(row)
        places = {name: parse_places(segments) for name, segments in found.items()}
        return [
            LogicalVolume(
                name=name,
                uuid=row["lv_uuid"],
                kind=row["lv_attr"][0],
                size=size_of(row["lv_size"]),
                active=row["lv_attr"][4] == "a",
                open=row["lv_attr"][5] == "o",
                skipped=bool(row["lv_skip_activation"]),
                origin=None if row["origin"].startswith("[") else row["origin"] or None,
                data_percent=percent(row["data_percent"]),
                extent_size=int(row["vg_extent_size"]),
                places=tuple(on_devices(places, name)),
                pool=row.get("pool_lv") or None,
                chunk_size=size_of(row.get("chunk_size") or "0"),
            )
            for name, (row, *_) in found.items()
            if not name.startswith("[")
        ]
    except RUBBISH as error:
        raise not_understood("lvs", text) from error


def parse_places(segments: list[dict[str, str]]) -> list[Place]:
    """Return the places of a volume's segments; stripes share a segment's size evenly.

    `devices` is `/dev/loop0(11),/dev/loop2(0)`, a device and its first extent for each stripe;
    thin volumes have none.
    """
    places = []
    for row in segments:
        matches = [PLACE.fullmatch(part) for part in re.split(r"(?<=\)),", row["devices"]) if part]
        found = [(match[1], int(match[2])) for match in matches if match is not None]
        for device, extent in found:
            start = extent * int(row["vg_extent_size"])
            places.append(Place(device, start, start + int(row["seg_size"]) // len(found)))
    return places


def on_devices(
    places: dict[str, list[Place]], name: str, above: tuple[str, ...] = ()
) -> Iterator[Place]:
    """Yield the places of a volume, those of hidden volumes, such as RAID's legs, resolved.

    Raises: ValueError for a volume that is on itself.
    """
    if name in above:
        raise ValueError(name)
    for place in places[name]:
        hidden = f"[{place.device}]"
        if hidden in places:
            yield from on_devices(places, hidden, (*above, name))
        else:
            yield place


def parse_physical(text: str) -> list[tuple[str, str]]:
    """Return device and volume group ("" for none) of what `pvs` printed.

    {"report": [{"pv": [
     {"pv_name":"/dev/loop0", "vg_name":"vg"}, {"pv_name":"/dev/loop1", "vg_name":""}]}]}

    Source: LVM 2.03.16 pvs --reportformat json.
    """
    try:
        return [(row["pv_name"], row["vg_name"]) for row in rows(text, "pv")]
    except RUBBISH as error:
        raise not_understood("pvs", text) from error


def parse_segments(text: str) -> list[PhysicalVolume]:
    """Return the devices of all groups, with what `pvs --segments` printed of each.

    {"report": [{"pvseg": [
     {"pv_name":"/dev/loop0", "pv_uuid":"5wFo...", "vg_name":"vg", "pv_pe_count":"99",
      "vg_extent_size":"4194304", "pvseg_start":"0", "pvseg_size":"25", "lv_name":""},
     {"pv_name":"/dev/loop0", ..., "pvseg_start":"25", "pvseg_size":"20", "lv_name":"wide"},
     {"pv_name":"[unknown]", ..., "pvseg_start":"0", "pvseg_size":"20", "lv_name":"wide"}]}]}

    Source: LVM 2.03.16 pvs --segments --reportformat json.
    """
    try:
        found: dict[str, list[dict[str, str]]] = {}
        for row in rows(text, "pvseg"):
            if row["vg_name"]:
                found.setdefault(row["pv_uuid"], []).append(row)
        return [
            PhysicalVolume(
                device=row["pv_name"],
                group=row["vg_name"],
                size=int(row["pv_pe_count"]) * int(row["vg_extent_size"]),
                places=tuple(sorted(map(piece, pieces), key=lambda place: place[1])),
            )
            for pieces in found.values()
            for row in pieces[:1]
        ]
    except RUBBISH as error:
        raise not_understood("pvs", text) from error


def piece(row: dict[str, str]) -> tuple[str, int, int]:
    """Return name, start and end in bytes of a row of parse_segments."""
    start, count, size = (
        int(row[name]) for name in ("pvseg_start", "pvseg_size", "vg_extent_size")
    )
    return row["lv_name"], start * size, (start + count) * size


def size_of(text: str) -> int:
    """Return a size in bytes.  Raises: ValueError for more than a device can have."""
    size = int(text)
    if not 0 <= size < 1 << 64:
        raise ValueError(text)
    return size


def percent(text: str) -> float | None:
    """Return a percentage, None where there is none.  Raises: ValueError."""
    found = float(text) if text else None
    if found is not None and not 0 <= found <= LARGEST_PERCENT:
        raise ValueError(text)
    return found


def rows(text: str, kind: str) -> list[dict[str, Any]]:
    """Return the rows of a report.  Raises: KeyError, TypeError, ValueError for anything else."""
    return [row for report in json.loads(text, strict=False)["report"] for row in report[kind]]


def not_understood(tool: str, text: str) -> InternalError:
    return InternalError(f"cannot understand what {tool} printed: {text[:200]!r}")
