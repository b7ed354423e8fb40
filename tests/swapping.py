"""Swap areas in use, and where the kernel may write to them whenever memory is short."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from storagectl.tools.blockdev import parse_swaps

if TYPE_CHECKING:
    from collections.abc import Iterator

# the smallest that mkswap makes, ten pages; the first is the header, which the kernel only reads
AREA_KIB = 40
PAGE = 4096
SECTOR = 512


@contextlib.contextmanager
def swapped(path: str) -> Iterator[None]:
    """Make a device or file a swap area in use, of which the most is not the kernel's."""
    subprocess.run(["mkswap", path, str(AREA_KIB)], check=True, capture_output=True)
    subprocess.run(["swapon", path], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", path], check=True, capture_output=True)
        subprocess.run(["wipefs", "--quiet", "--all", path], check=True, capture_output=True)


def left_alone(path: str, content: bytes, offset: int = 0) -> bytes:
    """Return what was read at an offset of a device or file, with zeros where swap may be."""
    for area in parse_swaps(Path("/proc/swaps").read_text()):
        start = offset_in(path, area)
        if start is not None:
            first, last = (
                min(max(0, start + end - offset), len(content)) for end in (PAGE, AREA_KIB * 1024)
            )
            content = content[:first] + bytes(last - first) + content[last:]
    return content


def offset_in(path: str, area: str) -> int | None:
    """Return where on a device a swap area begins, in bytes; None where it is not on it."""
    if os.path.realpath(path) == area:
        return 0
    part = f"/sys/class/block/{os.path.basename(area)}"
    on_it = os.path.basename(os.path.dirname(os.path.realpath(part))) == os.path.basename(path)
    if on_it and os.path.exists(f"{part}/start"):
        return int(Path(part, "start").read_text()) * SECTOR
    return None
