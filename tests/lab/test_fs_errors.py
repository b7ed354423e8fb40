"""fs pools where not all is well: formats that are only read or not known, devices that vanish."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import quoteattr

import devices
import pytest
from devices import MiB, run
from inprocess import storagectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Image(NamedTuple):
    """What makes an image of a folder, what blkid calls it, and how it is mounted."""

    make: tuple[str, ...]
    mount_options: tuple[str, ...] = ()


IMAGES = {
    "iso9660": Image(("genisoimage", "-quiet", "-r", "-o")),
    "ufs": Image(("makefs", "-t", "ffs", "-s", "4m", "-o", "version=1"), ("ufstype=44bsd",)),
    "hfs+": Image(("xorriso", "-as", "mkisofs", "-quiet", "-hfsplus", "-o")),
}
CONTENT = b"x" * 65536


class Program:
    """storagectl, in this process, with definitions below a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.target = folder / "target"

    def define(self, device: str, format: str, *options: str) -> None:
        """Define the pool `p`; mount options are given in its XML."""
        rows = "".join(f"<fs:option name={quoteattr(option)}/>" for option in options)
        path = self.root.parent / "p.xml"
        path.write_text(
            "<pool type='fs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>"
            f"<name>p</name><source><device path='{device}'/><format type='{format}'/></source>"
            f"<target><path>{self.target}</path></target>"
            f"<fs:mount_opts>{rows}</fs:mount_opts></pool>"
        )
        self.ok("pool-define", str(path))

    def ok(self, *words: str) -> str:
        answer = storagectl(self.root, *words)
        assert (answer.status, answer.stderr) == (0, ""), words
        return answer.stdout

    def refused(self, *words: str) -> str:
        answer = storagectl(self.root, *words, hints=True)
        assert answer.status == 1, words
        assert answer.stdout in ("", "\n")
        assert answer.stderr.startswith("error: ")
        return answer.stderr

    def is_active(self) -> bool:
        return "p" in self.ok("-q", "pool-list", "--name").split()


@pytest.fixture
def ctl(tmp_path: Path) -> Program:
    return Program(tmp_path)


@contextmanager
def image(format: str) -> Iterator[str]:
    """A device with a file system of that format, which has the volumes disk.raw and sub."""
    with devices.folder() as folder:
        source, file = f"{folder}/source", f"{folder}/image"
        os.makedirs(f"{source}/sub")
        with open(f"{source}/disk.raw", "wb") as stream:
            stream.write(CONTENT)
        run("qemu-img", "create", "-q", "-f", "qcow2", f"{source}/disk.qcow2", "1M")
        run(*IMAGES[format].make, file, source)
        with devices.loop_file(file) as device:
            yield device


@pytest.mark.parametrize("format", IMAGES)
def test_life(ctl: Program, tmp_path: Path, format: str) -> None:
    ctl.target.mkdir()
    with image(format) as device:
        before = digest(device)
        ctl.define(device, format, *IMAGES[format].mount_options)
        ctl.ok("pool-start", "p")
        try:
            listed = ctl.ok("-q", "vol-list", "p", "--details").splitlines()
            rows = {line.split()[0]: line.split()[2:] for line in listed}
            assert rows["disk.raw"][:3] == ["file", "64.00", "KiB"]
            assert rows["disk.qcow2"][:3] == ["file", "1.00", "MiB"]
            assert rows["sub"][0] == "dir"
            ctl.ok("vol-download", "disk.raw", str(tmp_path / "copy"), "p")
            assert (tmp_path / "copy").read_bytes() == CONTENT
            info = ctl.ok("pool-info", "p")
            assert "running" in info
            for words in (
                ("vol-create-as", "p", "new", "1M"),
                ("vol-create-as", "p", "new", "1M", "--format", "qcow2"),
                ("vol-clone", "disk.raw", "new", "p"),
                ("vol-delete", "disk.raw", "p"),
                ("vol-delete", "sub", "p"),
                ("vol-upload", "disk.raw", str(tmp_path / "copy"), "p"),
                ("vol-resize", "disk.raw", "1M", "p"),
                ("vol-resize", "disk.qcow2", "2M", "p"),
                ("vol-wipe", "disk.raw", "p"),
            ):
                message = ctl.refused(*words)
                assert "Read-only file system" in message, words
                assert len(message.splitlines()) <= 3, message
            assert sorted(os.listdir(ctl.target)) == ["disk.qcow2", "disk.raw", "sub"]
            assert "still active" in ctl.refused("pool-undefine", "p")
            assert "already active" in ctl.refused("pool-build", "p", "--overwrite")
        finally:
            ctl.ok("pool-destroy", "p")
        assert not os.path.ismount(ctl.target)
        assert digest(device) == before
    ctl.ok("pool-undefine", "p")


@pytest.mark.parametrize("format", IMAGES)
def test_build(ctl: Program, format: str) -> None:
    """Debian 12 has nothing that makes one on a device."""
    with image(format) as device:
        before = digest(device)
        ctl.define(device, format)
        for flag in ("--no-overwrite", "--overwrite"):
            message = ctl.refused("pool-build", "p", flag)
            if flag == "--no-overwrite":
                assert "already built" in message
            elif format == "iso9660":
                assert "a file system of format 'iso9660' cannot be made" in message
            else:
                assert "Cannot find 'mkfs." in message
                assert "hint: install the package " in message
            assert not ctl.target.exists()
        assert digest(device) == before
        ctl.ok("pool-build", "p")
        assert ctl.target.is_dir()


@pytest.mark.parametrize("format", ["gfs", "vmfs"])
def test_no_driver(ctl: Program, format: str) -> None:
    ctl.target.mkdir()
    with devices.loop() as device:
        ctl.define(device, format)
        for flag in ("--no-overwrite", "--overwrite"):
            message = ctl.refused("pool-build", "p", flag)
            assert f"a file system of format '{format}' cannot be made" in message
        assert f"unknown filesystem type '{format}'" in ctl.refused("pool-start", "p")
        assert not ctl.is_active()
        assert not run("wipefs", device)
    ctl.ok("pool-undefine", "p")


@pytest.mark.parametrize("format", ["auto", "iso9660"])
def test_wrong_format(ctl: Program, format: str) -> None:
    """A device that holds another file system, or none."""
    ctl.target.mkdir()
    with devices.loop() as device:
        ctl.define(device, format)
        assert "wrong fs type, bad option, bad superblock" in ctl.refused("pool-start", "p")
        run("mkfs.ext4", "-q", device)
        if format == "auto":
            ctl.ok("pool-start", "p")
            ctl.ok("pool-destroy", "p")
        else:
            assert "wrong fs type, bad option, bad superblock" in ctl.refused("pool-start", "p")
        assert not ctl.is_active()


def test_limits_of_vfat(ctl: Program) -> None:
    with devices.loop(128 * MiB) as device:
        ctl.define(device, "vfat")
        ctl.ok("pool-build", "p", "--no-overwrite")
        ctl.ok("pool-start", "p")
        try:
            ctl.ok("vol-create-as", "p", "a.raw", "1M")
            for name, capacity, cause in (
                ("big", "4G", "File too large"),
                ("full", "200M", "No space left on device"),
                ("a:b", "1M", "Invalid argument"),
                ("a?", "1M", "Invalid argument"),
                ("A.RAW", "1M", "exists"),
                ("x" * 256, "1M", "File name too long"),
            ):
                assert cause in ctl.refused("vol-create-as", "p", name, capacity), name
                assert os.listdir(ctl.target) == ["a.raw"]
            assert "File too large" in ctl.refused("vol-resize", "a.raw", "4G", "p")
        finally:
            ctl.ok("pool-destroy", "p")


# The device goes away


@contextmanager
def scsi_disk(by_id: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """A disk, and what pulls it out."""
    with devices.scsi_debug(size=64 * MiB) as (host,):
        (disk,) = host.disks
        name = os.path.basename(disk)

        def pull() -> None:
            with open(f"/sys/block/{name}/device/delete", "w") as file:
                file.write("1")
            devices.settle()

        links = [f"/dev/disk/by-id/{link}" for link in os.listdir("/dev/disk/by-id")]
        found = [link for link in links if os.path.realpath(link) == disk]
        yield (found[0] if by_id else disk), pull


@contextmanager
def failing_map() -> Iterator[tuple[str, Callable[[], None]]]:
    """A map on a loop device, and what makes all its sectors bad."""
    with devices.loop() as under:
        name = f"lab{os.getpid()}"
        sectors = 64 * MiB // 512
        run("dmsetup", "create", name, "--table", f"0 {sectors} linear {under} 0")
        devices.settle()

        def fail() -> None:
            run("dmsetup", "suspend", "--noflush", "--nolockfs", name)
            run("dmsetup", "load", name, "--table", f"0 {sectors} error")
            run("dmsetup", "resume", name)

        try:
            yield f"/dev/mapper/{name}", fail
        finally:
            devices.settle()
            run("dmsetup", "remove", "--retry", name)


GOING = {
    "disk": lambda: scsi_disk(by_id=False),
    "disk by its id": lambda: scsi_disk(by_id=True),
    "map": failing_map,
}


@pytest.mark.parametrize("kind", GOING)
def test_device_goes_away(ctl: Program, tmp_path: Path, kind: str) -> None:
    """Whatever still works while the pool runs: it ends, it says why not, the pool can be ended."""
    data = tmp_path / "data"
    data.write_bytes(CONTENT)
    with GOING[kind]() as (device, go):
        ctl.define(device, "ext4")
        ctl.ok("pool-build", "p", "--no-overwrite")
        ctl.ok("pool-start", "p")
        (ctl.target / "folder").mkdir()
        ctl.ok("pool-define-as", "in-it", "dir", "--target", f"{ctl.target}/folder")
        ctl.ok("pool-start", "in-it")
        ctl.ok("vol-create-as", "p", "a.raw", "1M")
        ctl.ok("vol-create-as", "in-it", "b.raw", "1M")
        run("sync")
        run("sysctl", "-q", "vm.drop_caches=3")
        try:
            go()
            use_what_is_gone(ctl, data)
            assert ctl.is_active()
            # inactive where its folder cannot be looked at any more
            storagectl(ctl.root, "pool-destroy", "in-it")
            ctl.ok("pool-destroy", "p")
            assert not os.path.ismount(ctl.target)
        finally:
            run("umount", str(ctl.target), ok=(0, 32))
        assert "error: Failed to start pool p\n" in ctl.refused("pool-start", "p")
        assert not ctl.is_active()
        assert "1 of 1 autostarted pools are not active: p" in ctl.refused("autostart")
    ctl.ok("pool-undefine", "in-it")
    ctl.ok("pool-undefine", "p")


WRITING = (
    "vol-create-as", "vol-upload", "vol-wipe", "vol-resize", "vol-clone", "vol-delete",
)  # fmt: skip


def use_what_is_gone(ctl: Program, data: Path) -> None:
    for words in (
        ("pool-info", "p"),
        ("pool-list", "--all", "--details"),
        ("vol-list", "p", "--details"),
        ("vol-info", "a.raw", "p"),
        ("vol-create-as", "p", "new", "1M"),
        ("vol-create-as", "p", "new", "1M", "--format", "qcow2"),
        ("vol-upload", "a.raw", str(data), "p"),
        ("vol-download", "a.raw", f"{data}.copy", "p"),
        ("vol-wipe", "a.raw", "p"),
        ("vol-resize", "a.raw", "2M", "p"),
        ("vol-clone", "a.raw", "new", "p"),
        ("vol-delete", "a.raw", "p"),
        ("pool-refresh", "p"),
        ("vol-create-as", "in-it", "new", "1M"),
        ("vol-list", "in-it", "--details"),
        ("pool-refresh", "in-it"),
        ("pool-autostart", "p"),
    ):
        began = time.monotonic()
        answer = storagectl(ctl.root, *words)
        print(words, answer)
        assert time.monotonic() - began < 30, words
        assert answer.status in (0, 1), words
        # a warning may come first: what an interrupted command has overwritten
        errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
        assert (answer.status == 1) == bool(errors), (words, answer)
        if words[0] in WRITING:
            assert len(errors) == 2, (words, answer)


def test_two_pools_one_target(ctl: Program) -> None:
    with devices.loop() as one, devices.loop() as two:
        ctl.define(one, "ext4")
        ctl.ok("pool-start", "p", "--build", "--no-overwrite")
        try:
            ctl.ok("pool-define-as", "q", "fs", "--source-dev", two, "--source-format", "ext4",
                   "--target", str(ctl.target))  # fmt: skip
            message = ctl.refused("pool-start", "q", "--build", "--no-overwrite")
            assert f"target '{ctl.target}' is already the mount point of '{one}'" in message
            assert "not active" in ctl.refused("pool-destroy", "q")
            assert ctl.is_active()
        finally:
            ctl.ok("pool-destroy", "p")
        ctl.ok("pool-start", "q", "--build", "--overwrite")
        ctl.ok("pool-destroy", "q")


def digest(device: str) -> str:
    return run("md5sum", device).split()[0]
