"""File systems that never keep a change of metadata without those that were made before it."""

from __future__ import annotations

import os
from functools import lru_cache

from storagectl.host.files import has_flag

# Source: linux/fs.h, FS_EXTENT_FL.
EXTENTS = 0x00080000
NO_JOURNAL = b"<none>"


def is_ordered(fd: int, mounts: str) -> bool:
    """Tell whether a file without data is complete as soon as its name lasts.

    Size, owner, mode and reserved space are in the journal before the name is, so one sync of the
    folder makes all of it last, and a crash before that leaves all or nothing.  `mounts` is
    /proc/self/mountinfo.

    xfs and ext4 are so; ext4 without a journal is not, and without extents it reserves space by
    writing zeros.  btrfs is not: of the files in a folder that is synced its log has the names.
    Source: Linux, Documentation/filesystems/ext4/journal.rst and
    Documentation/filesystems/xfs/xfs-delayed-logging-design.rst; LOG_INODE_EXISTS in
    fs/btrfs/tree-log.c.
    """
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = kind_of(number, mounts)
    return kind == "xfs" or (kind == "ext4" and has_flag(fd, EXTENTS) and has_journal(number))


@lru_cache(maxsize=16)
def kind_of(device: str, mounts: str) -> str:
    """Return the type of the file system on a device, `major:minor`, of /proc/self/mountinfo."""
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        if device in head.split(" ")[2:3]:
            return tail.partition(" ")[0]
    return ""


def has_journal(device: str) -> bool:
    """Tell whether the ext4 file system on a device has a journal.

    Source: Linux, fs/ext4/sysfs.c.
    """
    try:
        name = os.path.basename(os.readlink(f"/sys/dev/block/{device}"))
        with open(f"/sys/fs/ext4/{name}/journal_task", "rb") as stream:
            return stream.read().strip() != NO_JOURNAL
    except OSError:
        return False
