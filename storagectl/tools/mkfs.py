"""Making a file system of each format that an fs pool can have.

Source: the mkfs.*(8) pages; the flags make a tool not ask about what is on the
device, which has been looked at before.
"""

from __future__ import annotations

COMMANDS = {
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
    "ext2": ("mkfs.ext2", "-q", "-F"),
    "ext3": ("mkfs.ext3", "-q", "-F"),
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "gfs2": ("mkfs.gfs2", "-q", "-O", "-p", "lock_nolock", "-j", "1"),
    "hfs+": ("mkfs.hfsplus",),
    "ocfs2": ("mkfs.ocfs2", "-q", "-F", "-M", "local"),
    "udf": ("mkfs.udf",),
    "ufs": ("mkfs.ufs",),
    "vfat": ("mkfs.vfat", "-I"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}


def can_make(format: str | None) -> bool:
    """Tell whether a file system of this format can be made at all."""
    return format in COMMANDS


def mkfs(format: str | None, device: str) -> list[str]:
    """Make a file system on a whole device, whatever is there."""
    assert format is not None
    return [*COMMANDS[format], device]
