"""What tells a block device from another one that has got its name.

The hardware says it where it can: a WWID, a serial number, a map's UUID, a loop device's file.
Elsewhere the content does, by the UUIDs in it.  Only what both have is compared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.backends import devices
from storagectl.backends.devices import read_line
from storagectl.errors import StorageError
from storagectl.tools import blkid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storagectl.host import Host

# Where sysfs has what a disk is known by, below its folder: SCSI, NVMe, virtio, MMC, RAID.
# Source: linux Documentation/ABI, sysfs-block and sysfs-block-device; virtio_blk.c; mmc.
HARDWARE = {
    "WWID": ("wwid", "device/wwid"),
    "serial number": ("serial", "device/serial"),
    "CID": ("device/cid",),
    "map": ("dm/uuid",),
    "RAID": ("md/uuid",),
    "file": ("loop/backing_file",),
}
PARTITION = "partition"


def of(host: Host, path: str, *, content: bool) -> dict[str, str]:
    """Return what a device is known by, nothing for what is no device.

    The content is asked with `content` and where the hardware says nothing.
    """
    number = devices.device_number(path)
    if number is None:
        return {}
    folder = devices.sysfs_folder(number)
    found = {} if folder is None else of_hardware(folder)
    return {**found, **of_content(host, path)} if content or not found else found


def of_content(host: Host, path: str) -> dict[str, str]:
    """Return what the content of a device is known by, as far as it can be read."""
    try:
        return blkid.parse_identity(host.query(blkid.identity(path), ok=(0, 2, 8)))
    except StorageError:
        return {}


def of_hardware(folder: str) -> dict[str, str]:
    """Return what sysfs knows a device by; a partition by its disk and its number."""
    index = read_line(os.path.join(folder, "partition"))
    if index:
        disk = of_hardware(os.path.dirname(folder))
        return {**disk, PARTITION: index} if disk else {}
    found: dict[str, str] = {}
    for what, places in HARDWARE.items():
        for place in places:
            value = read_line(os.path.join(folder, place)).strip().removesuffix(" (deleted)")
            if value:
                found.setdefault(what, value)
    return found


def of_devices(host: Host, paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return what each of some devices is known by, without those that nothing tells of."""
    found = {path: of(host, path, content=False) for path in paths}
    return {path: identity for path, identity in found.items() if identity}


def changes(
    host: Host, paths: Iterable[str], known: dict[str, dict[str, str]]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each device that is not the one that it was, with what it is known by now.

    One that is not there, or without a medium, is none: who needs it says so.
    """
    for path in paths:
        if path in known and devices.device_number(path) is not None and devices.device_size(path):
            now = of(host, path, content=bool(contents(known[path])))
            if not is_same(path, known[path], now):
                yield path, now


def is_same(path: str, known: dict[str, str], now: dict[str, str]) -> bool:
    """Tell whether a device is the one that it was known as.

    All that the hardware says must be as it was.  Where it said nothing one part of the
    content will do, and a device that is empty is nobody's.
    """
    if contents(known) == known:
        return any(now.get(what) == value for what, value in known.items()) or (
            not contents(now) and is_blank(path)
        )
    both = known.keys() & now.keys()
    return bool(both) and all(known[what] == now[what] for what in both)


def contents(identity: dict[str, str]) -> dict[str, str]:
    return {what: value for what, value in identity.items() if what in blkid.IDENTITIES}


def is_blank(path: str) -> bool:
    """Tell whether a device holds nothing where signatures are looked for first."""
    try:
        return not devices.holds_data(path)
    except StorageError:
        return False


def words(identity: dict[str, str]) -> str:
    """Return an identity for people: `WWID naa.5000c500a1b2c3d4, partition 1`."""
    return ", ".join(f"{what} {value}" for what, value in identity.items()) or "nothing"
