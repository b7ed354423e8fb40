"""What an inode says of a file, folder or device: owner, mode, label and times."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from storagectl.host.files import label_of
from storagectl.model import Permissions, Timestamps

if TYPE_CHECKING:
    import os


def permissions_of(path: str, status: os.stat_result) -> Permissions:
    """Return owner, group, permission bits and security label of a file."""
    mode = stat.S_IMODE(status.st_mode)
    return Permissions(mode, status.st_uid, status.st_gid, label_of(path))


def timestamps_of(status: os.stat_result) -> Timestamps:
    """Return the times of a file in nanoseconds since the epoch."""
    return Timestamps(status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
