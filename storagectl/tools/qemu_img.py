"""Argument lists of qemu-img(1).  Formats are always named, so nothing is ever guessed.

Source: qemu-img 7.2; option order as libvirt 9.0.0 storageBackendCreateQemuImgOpts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.host.bulk import Meter
    from storagectl.model import Volume

# libvirt's names where qemu-img has others.
DRIVERS = {"iso": "raw", "ploop": "parallels"}
NO_FORMAT = (None, "none")
DEFAULT_COMPAT = "0.10"
PROGRESS = re.compile(rb"\(([0-9.]+)/100%\)")


def driver(volume_format: str | None) -> str:
    """Return qemu-img's name of a volume format; block devices without one are raw."""
    if volume_format in NO_FORMAT:
        return "raw"
    return DRIVERS.get(volume_format, volume_format)


def options(volume: Volume, *, metadata: bool, backing_format: str | None = None) -> list[str]:
    """Return the `-o` argument for what a volume's definition asks for, if anything."""
    words = [f"backing_fmt={driver(backing_format)}"] if backing_format else []
    if metadata:
        full = volume.allocation >= volume.capacity
        words.append("preallocation=" + ("falloc" if full else "metadata"))
    if volume.nocow:
        words.append("nocow=on")
    if volume.format == "qcow2":
        words.append(f"compat={volume.compat or DEFAULT_COMPAT}")
    if volume.cluster_size:
        words.append(f"cluster_size={volume.cluster_size}")
    words += [
        {"lazy_refcounts": "lazy_refcounts", "extended_l2": "extended_l2=on"}[feature]
        for feature in volume.features or ()
    ]
    return ["-o", ",".join(words)] if words else []


def create(volume: Volume, path: str, *, metadata: bool) -> list[str]:
    """Create an empty image of the volume's capacity, rounded up to KiB, at `path`."""
    argv = ["qemu-img", "create", "-f", driver(volume.format)]
    backing_format = None
    if volume.backing:
        argv += ["-b", volume.backing.path]
        backing_format = volume.backing.format
    argv += [*options(volume, metadata=metadata, backing_format=backing_format), path]
    if volume.capacity or not volume.backing:
        argv.append(f"{-(-volume.capacity // 1024)}K")
    return argv


def convert(
    source: Volume, volume: Volume, path: str, *, metadata: bool, progress: bool
) -> list[str]:
    """Copy the content of one volume, backing store included, into a new image at `path`."""
    return [
        "qemu-img", "convert", *(["-p"] if progress else []),
        "-f", driver(source.format), "-O", driver(volume.format),
        *options(volume, metadata=metadata), source.path, path,
    ]  # fmt: skip


def convert_into(source: Volume, device: str, *, progress: bool) -> list[str]:
    """Write the content of a volume as raw data onto a block device."""
    return [
        "qemu-img", "convert", *(["-p"] if progress else []), "-n",
        "-f", driver(source.format), "-O", "raw", source.path, device,
    ]  # fmt: skip


def compare(source: Volume, path: str, volume_format: str | None) -> list[str]:
    """Compare what guests see of a volume and of an image; one may be longer, with zeros."""
    return [
        "qemu-img", "compare", "-f", driver(source.format), "-F", driver(volume_format),
        source.path, path,
    ]  # fmt: skip


def hearing(meter: Meter) -> Callable[[bytes], None] | None:
    """Return what hears how far qemu-img is, `    (12.34/100%)\\r`, and tells a visible meter."""
    if not meter.visible:
        return None

    def heard(chunk: bytes) -> None:
        found = PROGRESS.findall(chunk)
        if found and meter.total is not None:
            meter.advance(int(float(found[-1]) / 100 * meter.total) - meter.done)

    return heard


def resize(volume: Volume, capacity: int, *, shrink: bool) -> list[str]:
    """Change the virtual size of an image; bytes, rounded up to a multiple of 512."""
    argv = ["qemu-img", "resize", "-f", driver(volume.format)]
    if shrink:
        argv.append("--shrink")
    return [*argv, volume.path, str(-(-capacity // 512) * 512)]
