"""Argument lists of mount(8) and umount(8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# A guest's disk is not trusted: nothing on it may run or be a device (virsh does the same).
SAFE_OPTIONS = ("nodev", "nosuid", "noexec")

# The kernel's names where libvirt has others.
KERNEL_TYPES = {"hfs+": "hfsplus"}


def mount(source: str, target: str, type: str | None, options: Sequence[str] = ()) -> list[str]:
    """Mount a device or export; None as the type leaves it to mount."""
    argv = ["mount", "-o", ",".join((*SAFE_OPTIONS, *options))]
    if type is not None:
        argv += ["-t", KERNEL_TYPES.get(type, type)]
    return [*argv, *guard(source, target), source, target]


def umount(target: str) -> list[str]:
    """Unmount what is mounted at a folder."""
    return ["umount", *guard(target), target]


def guard(*words: str) -> list[str]:
    """Return what keeps words from being read as options."""
    return ["--"] if any(word.startswith("-") for word in words) else []
