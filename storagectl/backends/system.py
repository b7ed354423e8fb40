"""What the running system stands on, and what is mounted where only others see it.

A partition table with the system's own partitions is not changed, whatever a command is told.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.backends import devices
from storagectl.backends.devices import listing, read_all, read_link
from storagectl.errors import ResourceBusy, StorageError
from storagectl.tools import blkid
from storagectl.tools.blockdev import parse_mountinfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.host import Host

NAMESPACE = " in the mount namespace of "
PLACES = ("/", "/usr", "/boot", "/boot/efi", "/efi", "/var")

# EFI system, BIOS boot and PReP partitions, which need not be mounted.
# Source: Discoverable Partitions Specification; GRUB manual, BIOS installation.
BOOT_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system partition",
    "0xef": "EFI system partition",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot partition",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b": "PReP boot partition",
    "0x41": "PReP boot partition",
}


def namespaces() -> Iterator[tuple[str, str]]:
    """Yield what is mounted, as mountinfo, and for other mount namespaces than ours a process."""
    yield "", read_all(f"{devices.PROC}/self/mountinfo")
    seen = {read_link(f"{devices.PROC}/self/ns/mnt"), ""}
    for pid in devices.processes():
        namespace = read_link(f"{devices.PROC}/{pid}/ns/mnt")
        if namespace not in seen:
            seen.add(namespace)
            yield devices.process_words(pid), read_all(f"{devices.PROC}/{pid}/mountinfo")


def use_by_system(folder: str) -> str | None:
    """Return what the running system has on the device with that sysfs folder, or on its parts."""
    for what, number in uses():
        if folder in below(devices.sysfs_folder(number)):
            return what
    return None


def uses() -> Iterator[tuple[str, int]]:
    """Yield the system's own mounts and swaps with the number of the device that each is on."""
    found = dict.fromkeys(
        mount
        for process in ("1", "self")
        for mount in parse_mountinfo(read_all(f"{devices.PROC}/{process}/mountinfo"))
        if mount.target in PLACES
    )
    for mount in found:
        # btrfs shows a device number of its own: there the source tells
        source = devices.device_number(mount.source) if mount.source.startswith("/") else None
        yield f"'{mount.target}'", source or devices.dev_number(mount.device)
    for swap in devices.swaps():
        number = devices.device_number(swap)
        if number is not None:
            yield "its swap", number


def below(folder: str | None) -> Iterator[str]:
    """Yield the sysfs folder of a device and of all that it is on: disks, paths, RAID members."""
    if folder is None:
        return
    yield folder
    if os.path.exists(os.path.join(folder, "partition")):
        yield from below(os.path.dirname(folder))
    for slave in listing(os.path.join(folder, "slaves")):
        yield from below(os.path.realpath(f"{devices.SYS}/class/block/{slave}"))
    for other in devices.btrfs_companions(os.path.basename(folder)):
        place = os.path.realpath(f"{devices.SYS}/class/block/{other}")
        yield place
        if os.path.exists(os.path.join(place, "partition")):
            yield os.path.dirname(place)


def require_other_disk(device: str) -> None:
    """Refuse a disk whose partitions the running system is on.  Raises: ResourceBusy."""
    folder = devices.folder_of(device)
    what = use_by_system(folder) if folder is not None else None
    if what:
        raise ResourceBusy(f"the running system has {what} on disk '{device}'")


def require_not_for_boot(host: Host, device: str) -> None:
    """Refuse a partition that the running system's disk boots from, mounted or not.

    Raises: ResourceBusy.
    """
    folder = devices.folder_of(device)
    if folder is None or not os.path.exists(os.path.join(folder, "partition")):
        return
    if use_by_system(os.path.dirname(folder)) is None:
        return
    try:
        kind = host.query(blkid.partition_type(device), ok=(0, 2)).strip().lower()
    except StorageError:
        return
    if kind in BOOT_TYPES:
        raise ResourceBusy(f"'{device}' is the {BOOT_TYPES[kind]} of the running system")
