"""New volumes without data need one sync where the journal keeps the order, and survive a crash."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scratch import MIB, SIZES, make, mounted, run

from storagectl.host.ordered import is_ordered

if TYPE_CHECKING:
    from scratch import Program, Scratch

FORMATS = ("ext2", "ext3", "ext4", "xfs", "btrfs")
TOOLS = ("losetup", *(f"mkfs.{name}" for name in FORMATS))
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
# Source: linux/fs.h in Linux's include/uapi/linux, EXT4_IOC_SHUTDOWN, and XFS_IOC_GOINGDOWN.
GOING_DOWN, WITHOUT_FLUSHING_THE_LOG = 0x8004587D, 2

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def ordered(folder: Path) -> bool:
    fd = os.open(folder / "file", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return is_ordered(fd, Path("/proc/self/mountinfo").read_text())
    finally:
        os.close(fd)


@pytest.mark.parametrize("format", FORMATS)
def test_which_are_ordered(scratch: Scratch, format: str) -> None:
    assert ordered(scratch.mount_new(format, "there")) == (format in ("ext4", "xfs"))


@pytest.mark.parametrize("lacking", ["has_journal", "extents"])
def test_ext4_that_is_not_ordered(scratch: Scratch, lacking: str) -> None:
    device = scratch.loop(SIZES["ext4"])
    others = {"extents": "^extents,^64bit", "has_journal": "^has_journal"}
    run("mkfs.ext4", "-q", "-F", "-O", others[lacking], device)
    assert not ordered(scratch.mount(device, "there"))


def crash(folder: Path) -> None:
    """Have a file system do nothing any more, as if the power had failed."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, GOING_DOWN, struct.pack("I", WITHOUT_FLUSHING_THE_LOG))
    finally:
        os.close(fd)


@pytest.mark.parametrize("format", ["ext4", "xfs"])
def test_s53_a_new_volume_is_whole_after_a_crash(
    scratch: Scratch, ctl: Program, format: str
) -> None:
    device, folder = scratch.loop(SIZES[format]), scratch.folder / "there"
    make(format, device)
    with mounted(device, folder):
        assert ordered(folder)
        ctl.ok("pool-create-as", "p", "dir", "--target", folder)
        ctl.ok("vol-create-as", "p", "sparse", "3M", "--allocation", "0", "--mode", "0640")
        ctl.ok("vol-create-as", "p", "full", "2M")
        (folder / "nobody synced").touch()
        crash(folder)
    with mounted(device, folder):
        found = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
        assert sorted(found) == ["file", "full", "sparse"]
        assert (found["sparse"].st_size, found["sparse"].st_mode & 0o777) == (3 * MIB, 0o640)
        assert found["full"].st_size == 2 * MIB
        assert found["full"].st_blocks * 512 >= 2 * MIB
