"""fs pools on loop devices: needs root and a kernel that mounts ext2/3/4, xfs and btrfs."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import struct
import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
import scratch as area
import tally
from scratch import (
    MIB,
    SIZES,
    Program,
    attached,
    backing_files,
    digest,
    failed,
    is_mounted,
    make,
    mount_options,
    mounted,
    nothing_changed,
    run,
)
from swapping import swapped
from waiting import wait_for

from storagectl.errors import InvalidArgument
from storagectl.pooltypes import POOL_TYPES
from storagectl.tools import mkfs
from storagectl.tools import mount as mount_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scratch import Scratch

FORMATS = ("ext2", "ext3", "ext4", "xfs", "btrfs")
TOOLS = ("losetup", "qemu-img", "wipefs", *(f"mkfs.{name}" for name in (*FORMATS, "vfat")))
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def define(
    ctl: Program, scratch: Scratch, device: object, format: str = "ext4", name: str = "p"
) -> Path:
    target = scratch.folder / f"target of {name}"
    ctl.ok(
        "pool-define-as", name, "fs",
        "--source-dev", device, "--source-format", format, "--target", target,
    )  # fmt: skip
    return target


@pytest.fixture
def device(scratch: Scratch) -> str:
    return scratch.loop(64 * MIB)


@pytest.fixture
def running(ctl: Program, scratch: Scratch, device: str) -> Path:
    """An ext4 pool `p` that runs; its target."""
    make("ext4", device)
    target = define(ctl, scratch, device)
    ctl.ok("pool-build", "p")
    ctl.ok("pool-start", "p")
    return target


def test_s21_what_is_on_an_untrusted_file_system_is_no_program_and_no_device(
    ctl: Program, scratch: Scratch
) -> None:
    """A SUID program and a device node do nothing, also after a refresh and a second start."""
    device = scratch.loop(SIZES["ext4"])
    target = define(ctl, scratch, device, "ext4")
    ctl.ok("pool-build", "p", "--no-overwrite")
    with mounted(device, scratch.folder / "prepared") as folder:
        program = folder / "suid"
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o4755)
        os.mknod(folder / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        assert run(program, "-u") == "0\n"
        with (folder / "zero").open("rb") as zeros:
            assert zeros.read(1) == b"\0"
    for commands in (["pool-start"], ["pool-refresh"], ["pool-destroy", "pool-start"]):
        for command in commands:
            ctl.ok(command, "p")
        assert mount_options(target) >= {"nodev", "nosuid", "noexec"}
        for path, attempt in (
            ("suid", lambda path: subprocess.run([path, "-u"], check=False)),
            ("zero", lambda path: os.open(path, os.O_RDONLY)),
        ):
            counted = tally.counted("programs and devices on a pool's file system")
            with counted, pytest.raises(PermissionError):
                attempt(target / path)
        assert "zero" not in ctl.names("p")


# A life


@pytest.mark.parametrize("format", FORMATS)
def test_life(ctl: Program, scratch: Scratch, format: str) -> None:
    device = scratch.loop(SIZES[format])
    target = define(ctl, scratch, device, format)
    assert ctl.ok("pool-build", "p", "--no-overwrite") == "Pool p built\n\n"
    assert target.stat().st_mode & 0o7777 == 0o711

    with nothing_changed(ctl.root, [device], target):
        assert ctl.refused("pool-build", "p", "--no-overwrite") == failed(
            "Failed to build pool p",
            f"Storage pool already built: Device '{device}' already formatted using '{format}'",
        )
        assert ctl.state("p") == "inactive"

    assert ctl.ok("pool-start", "p") == "Pool p started\n\n"
    assert mount_options(target) >= {"nodev", "nosuid", "noexec"}
    assert ctl.ok("pool-list").splitlines()[2].split() == ["p", "active", "no"]
    assert ctl.state("p") == "running"

    ctl.ok("vol-create-as", "p", "raw", "4M")
    ctl.ok("vol-create-as", "p", "image", "100M", "--format", "qcow2")
    assert {"raw", "image"} <= set(ctl.names("p"))
    allocation = (target / "raw").stat().st_blocks * 512
    assert ctl.ok("vol-info", "raw", "p", "--bytes") == (
        "Name:           raw\nType:           file\n"
        f"Capacity:       4194304 bytes\nAllocation:     {allocation} bytes\n\n"
    )
    assert allocation >= 4 * MIB
    image = ElementTree.fromstring(ctl.ok("vol-dumpxml", "image", "p"))
    assert image.findtext("capacity") == str(100 * MIB)
    assert image.find("target/format").get("type") == "qcow2"

    pool = ElementTree.fromstring(ctl.ok("pool-dumpxml", "p"))
    space = os.statvfs(target)
    assert pool.findtext("capacity") == str(space.f_blocks * space.f_frsize)
    assert pool.findtext("available") == str(space.f_bfree * space.f_frsize)
    assert pool.find("source/format").get("type") == format
    (target / "by hand").write_bytes(b"x" * 1000)
    assert ctl.ok("pool-refresh", "p") == "Pool p refreshed\n\n"
    assert "Capacity:       1000 bytes" in ctl.ok("vol-info", "by hand", "p", "--bytes")

    content = scratch.folder / "content"
    content.write_bytes(os.urandom(4 * MIB))
    ctl.ok("vol-upload", "raw", content, "p")
    assert ctl.ok("pool-destroy", "p") == "Pool p destroyed\n\n"
    assert not is_mounted(target)
    assert list(target.iterdir()) == []
    ctl.ok("pool-start", "p")
    assert digest(target / "raw") == digest(content)

    for verb, word in (("delete", "still"), ("undefine", "still"), ("build", "already")):
        assert ctl.refused(f"pool-{verb}", "p") == failed(
            f"Failed to {verb} pool p",
            f"Requested operation is not valid: storage pool 'p' is {word} active",
            "to stop it: storagectl pool-destroy p",
        )
    ctl.ok("pool-destroy", "p")
    before = digest(device)
    assert ctl.ok("pool-delete", "p") == "Pool p deleted\n\n"
    assert not target.exists()
    assert digest(device) == before
    assert ctl.ok("pool-undefine", "p") == "Pool p has been undefined\n\n"
    assert not any((ctl.root / "etc/storagectl/storage").glob("*.xml"))


@pytest.mark.parametrize("format", FORMATS)
def test_overwrite_makes_an_empty_file_system(ctl: Program, scratch: Scratch, format: str) -> None:
    device = scratch.loop(SIZES[format])
    make("ext4" if format == "ext2" else "ext2", device)
    with mounted(device, scratch.folder / "before") as folder:
        (folder / "data").write_text("old")
    target = define(ctl, scratch, device, format)
    ctl.ok("pool-build", "p", "--overwrite")
    ctl.ok("pool-start", "p")
    assert "data" not in ctl.names("p")
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", device).strip() == format
    assert target.is_dir()


def test_start_with_build(ctl: Program, scratch: Scratch, device: str) -> None:
    target = define(ctl, scratch, device)
    ctl.ok("pool-start", "p", "--build", "--no-overwrite")
    assert is_mounted(target)
    ctl.ok("pool-destroy", "p")
    with nothing_changed(ctl.root, [device], target):
        message = ctl.refused("pool-start", "p", "--no-overwrite")
    assert message.startswith("error: Failed to start pool p\nerror: Storage pool already built: ")
    assert ctl.state("p") == "inactive"


def test_auto_format(ctl: Program, scratch: Scratch, device: str) -> None:
    target = define(ctl, scratch, device, "auto")
    with nothing_changed(ctl.root, [device]):
        assert ctl.refused("pool-build", "p", "--overwrite") == failed(
            "Failed to build pool p",
            "unsupported configuration: a file system of format 'auto' cannot be made",
        )
    make("ext3", device)
    ctl.ok("pool-build", "p")
    ctl.ok("pool-start", "p")
    assert is_mounted(target)


def test_plain_build_makes_no_file_system(ctl: Program, scratch: Scratch, device: str) -> None:
    target = define(ctl, scratch, device)
    before = digest(device)
    ctl.ok("pool-build", "p")
    assert digest(device) == before
    message = ctl.refused("pool-start", "p")
    assert "wrong fs type, bad option, bad superblock" in message
    assert ctl.state("p") == "inactive"
    assert not is_mounted(target)


def test_mount_options_of_the_definition(ctl: Program, scratch: Scratch, device: str) -> None:
    make("ext4", device)
    target = scratch.folder / "target"
    definition = scratch.folder / "pool.xml"
    definition.write_text(
        "<pool type='fs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>"
        f"<name>p</name><source><device path='{device}'/><format type='ext4'/></source>"
        f"<target><path>{target}</path></target>"
        "<fs:mount_opts><fs:option name='noatime'/><fs:option name='sync'/></fs:mount_opts></pool>"
    )
    ctl.ok("pool-define", definition)
    ctl.ok("pool-start", "p", "--build")
    assert mount_options(target) >= {"nodev", "nosuid", "noexec", "noatime"}


def test_transient(ctl: Program, scratch: Scratch, device: str) -> None:
    target = scratch.folder / "target"
    ctl.ok(
        "pool-create-as", "p", "fs", "--source-dev", device, "--source-format", "ext4",
        "--target", target, "--build", "--no-overwrite",
    )  # fmt: skip
    assert is_mounted(target)
    ctl.ok("pool-destroy", "p")
    assert not is_mounted(target)
    assert "no storage pool with matching name 'p'" in ctl.refused("pool-info", "p")


def test_vfat(ctl: Program, scratch: Scratch, device: str) -> None:
    """It is always made; whether it can be mounted is up to the kernel."""
    target = define(ctl, scratch, device, "vfat")
    ctl.ok("pool-build", "p", "--no-overwrite")
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", device).strip() == "vfat"
    done = ctl.run("pool-start", "p")
    if done.returncode == 0:
        ctl.ok("vol-create-as", "p", "raw", "1M")
        ctl.ok("vol-create-as", "p", "image", "1M", "--format", "qcow2")
        assert ctl.names("p") == ["image", "raw"]
        assert sorted(os.listdir(target)) == ["image", "raw"]
        assert "already exists" in ctl.refused("vol-create-as", "p", "RAW", "1M")
    else:
        assert "unknown filesystem type 'vfat'" in done.stderr
        assert not is_mounted(target)
        assert ctl.state("p") == "inactive"


@pytest.mark.parametrize("format", ["iso9660", "gfs", "vmfs"])
def test_formats_that_cannot_be_made(
    ctl: Program, scratch: Scratch, device: str, format: str
) -> None:
    target = define(ctl, scratch, device, format)
    with nothing_changed(ctl.root, [device], target):
        assert ctl.refused("pool-build", "p", "--overwrite") == failed(
            "Failed to build pool p",
            f"unsupported configuration: a file system of format '{format}' cannot be made",
        )


def test_argument_lists() -> None:
    row = POOL_TYPES["fs"]
    made = {f: mkfs.mkfs(f, "/dev/x") for f in (*row.pool_formats, "btrfs") if mkfs.can_make(f)}
    assert made == {
        "ext2": ["mkfs.ext2", "-q", "-F", "/dev/x"],
        "ext3": ["mkfs.ext3", "-q", "-F", "/dev/x"],
        "ext4": ["mkfs.ext4", "-q", "-F", "/dev/x"],
        "ufs": ["mkfs.ufs", "/dev/x"],
        "udf": ["mkfs.udf", "/dev/x"],
        "gfs2": ["mkfs.gfs2", "-q", "-O", "-p", "lock_nolock", "-j", "1", "/dev/x"],
        "vfat": ["mkfs.vfat", "-I", "/dev/x"],
        "hfs+": ["mkfs.hfsplus", "/dev/x"],
        "xfs": ["mkfs.xfs", "-q", "-f", "/dev/x"],
        "ocfs2": ["mkfs.ocfs2", "-q", "-F", "-M", "local", "/dev/x"],
        "btrfs": ["mkfs.btrfs", "-q", "-f", "/dev/x"],
    }
    safe = ["mount", "-o", "nodev,nosuid,noexec", "-t"]
    for format, kernel in [("hfs+", "hfsplus"), ("udf", "udf"), ("ufs", "ufs"), ("gfs2", "gfs2")]:
        assert mount_tool.mount("/dev/x", "/t", format) == [*safe, kernel, "/dev/x", "/t"]


def test_udf_is_made(ctl: Program, scratch: Scratch, device: str) -> None:
    define(ctl, scratch, device, "udf")
    if shutil.which("mkfs.udf"):
        ctl.ok("pool-build", "p", "--no-overwrite")
        assert run("blkid", "-p", "-o", "value", "-s", "TYPE", device).strip() == "udf"
    else:
        assert "hint: install the package udftools" in ctl.refused("pool-build", "p", "--overwrite")


# By hand


def test_unmounted_by_hand(ctl: Program, running: Path) -> None:
    ctl.ok("vol-create-as", "p", "kept", "1M")
    run("umount", running)
    assert ctl.state("p") == "inactive"
    assert ctl.ok("pool-list").splitlines()[2:] == [""]
    assert ctl.ok("pool-list", "--all").splitlines()[2].split() == ["p", "inactive", "no"]
    assert ctl.refused("vol-list", "p") == failed(
        "Failed to list volumes",
        "Requested operation is not valid: storage pool 'p' is not active",
        "to start it: storagectl pool-start p",
    )
    ctl.ok("pool-start", "p")
    assert is_mounted(running)
    assert "kept" in ctl.names("p")


def test_unmounted_by_hand_and_undefined(ctl: Program, running: Path, device: str) -> None:
    """A pool that was undefined does not come back with its mount."""
    run("umount", running)
    ctl.ok("pool-undefine", "p")
    with mounted(device, running):
        assert ctl.ok("pool-list", "--all", "--name").split() == []


@pytest.mark.parametrize("format", ["ext4", "btrfs"])
def test_mounted_by_hand(ctl: Program, scratch: Scratch, format: str) -> None:
    device = scratch.loop(SIZES[format])
    make(format, device)
    target = define(ctl, scratch, device, format)
    with mounted(device, target, "-o", "noatime"):
        assert ctl.state("p") == "inactive"
        ctl.ok("pool-start", "p")
        assert [m.target for m in area.mounts()].count(str(target)) == 1
        assert "noatime" in mount_options(target)
        ctl.ok("vol-create-as", "p", "raw", "1M")
        ctl.ok("pool-destroy", "p")
        assert not is_mounted(target)


def test_s54_a_start_that_fails_leaves_mounted_what_was(ctl: Program, scratch: Scratch) -> None:
    """As an entry of fstab whose disk has failed since; xfs answers no more when that happens."""
    device = scratch.loop(SIZES["xfs"])
    make("xfs", device)
    target = define(ctl, scratch, device, "xfs")
    with mounted(device, target):
        run("xfs_io", "-x", "-c", "shutdown", target)
        error = ctl.refused("pool-start", "p")
        assert f"cannot open directory '{target}': Input/output error" in error
        assert is_mounted(target)
    assert ctl.state("p") == "inactive"
    ctl.ok("pool-start", "p")


@pytest.mark.parametrize("number", [0, 1])
def test_btrfs_of_several_devices(ctl: Program, scratch: Scratch, number: int) -> None:
    """Either names it, and what the kernel shows as the source may be the other one."""
    devices = [scratch.loop(SIZES["btrfs"]) for _ in range(2)]
    run("mkfs.btrfs", "-q", "-f", *devices)
    target = define(ctl, scratch, devices[number], "btrfs")
    # as udev does, which makes the kernel look at each device
    with mounted(devices[0], target, "-o", ",".join(f"device={device}" for device in devices)):
        pass
    ctl.ok("pool-start", "p")
    assert ctl.state("p") == "running"
    ctl.ok("vol-create-as", "p", "raw", "1M")
    ctl.ok("pool-destroy", "p")
    assert not is_mounted(target)


def test_something_else_at_the_target(ctl: Program, scratch: Scratch, device: str) -> None:
    make("ext4", device)
    target = define(ctl, scratch, device)
    other = scratch.loop()
    make("ext4", other)
    with mounted(other, target), nothing_changed(ctl.root, [device], target):
        assert ctl.refused("pool-start", "p") == failed(
            "Failed to start pool p",
            f"Requested operation is not valid: target '{target}' is already the mount point of"
            f" '{other}'",
        )
        assert ctl.state("p") == "inactive"


def test_covered_by_another_mount(ctl: Program, running: Path) -> None:
    """While something is mounted over it, the pool is not what its target shows."""
    with mounted("none", running, "-t", "tmpfs"):
        assert ctl.state("p") == "inactive"
        assert "is already the mount point of 'none'" in ctl.refused("pool-start", "p")
    assert ctl.state("p") == "running"


def test_target_is_a_symlink(ctl: Program, scratch: Scratch, device: str) -> None:
    make("ext4", device)
    real = scratch.folder / "real"
    real.mkdir()
    define(ctl, scratch, device).symlink_to(real)
    ctl.ok("pool-build", "p")
    ctl.ok("pool-start", "p")
    assert is_mounted(real)
    assert ctl.state("p") == "running"
    ctl.ok("pool-destroy", "p")
    assert not is_mounted(real)


def test_source_is_a_symlink(ctl: Program, scratch: Scratch, device: str) -> None:
    link = scratch.folder / "disk"
    link.symlink_to(device)
    target = define(ctl, scratch, link)
    ctl.ok("pool-start", "p", "--no-overwrite")
    assert is_mounted(target)
    assert ctl.state("p") == "running"
    with nothing_changed(ctl.root, [], target):
        assert "active" in ctl.refused("pool-build", "p", "--overwrite")
    ctl.ok("pool-destroy", "p")
    assert not is_mounted(target)


def test_source_is_a_regular_file(ctl: Program, scratch: Scratch) -> None:
    """mount(8) puts a loop device on it; the pool is stopped with it (virsh leaves it mounted)."""
    image = scratch.folder / "image"
    image.touch()
    os.truncate(image, 64 * MIB)
    target = define(ctl, scratch, image)
    ctl.ok("pool-start", "p", "--no-overwrite")
    assert is_mounted(target)
    assert ctl.state("p") == "running"
    ctl.ok("vol-create-as", "p", "raw", "1M")
    other = Program(scratch.folder / "other")
    define(other, scratch, image)
    message = other.refused("pool-build", "p", "--overwrite")
    assert f"resource busy: file '{image}' is in use: mounted on {target}" in message
    ctl.ok("pool-destroy", "p")
    assert not is_mounted(target)
    wait_for(lambda: str(image) not in backing_files().values(), "the loop device stays")
    ctl.ok("pool-start", "p")
    assert "raw" in ctl.names("p")


@pytest.mark.parametrize("source", ["-oexec", "UUID=0a1b", "disk1"])
def test_source_that_is_no_path(ctl: Program, scratch: Scratch, source: str) -> None:
    target = scratch.folder / "target"
    target.mkdir()
    ctl.ok("pool-define-as", "p", "fs", "--source-dev", source, "--target", target)
    with nothing_changed(ctl.root, [], target):
        for command in (["pool-start", "p"], ["pool-build", "p", "--overwrite"]):
            message = ctl.refused(*command)
            words = InvalidArgument(f"source device '{source}' is not an absolute path").lines()
            assert message.splitlines()[1] == f"error: {words[0]}"


# Busy


def test_busy_with_a_process(ctl: Program, running: Path, device: str) -> None:
    ctl.ok("vol-create-as", "p", "used", "1M")
    with subprocess.Popen(["sleep", "60"], cwd=running) as sleeper:
        try:
            assert ctl.refused("pool-destroy", "p") == failed(
                "Failed to destroy pool p",
                f"internal error: Child process ({shutil.which('umount')} '{running}') unexpected"
                f" exit status 32: umount: {running}: target is busy.\n",
                f"'{running}' is in use: process {sleeper.pid} (sleep)",
            )
            assert is_mounted(running)
            assert ctl.state("p") == "running"
            assert "used" in ctl.names("p")
        finally:
            sleeper.kill()
    ctl.ok("pool-destroy", "p")


@pytest.mark.parametrize("user", ["mount", "loop", "swap", "file"])
def test_busy_otherwise(ctl: Program, scratch: Scratch, running: Path, user: str) -> None:
    ctl.ok("vol-create-as", "p", "used", "8M")
    volume = running / "used"
    with Holding(user, running, volume) as expected:
        message = ctl.refused("pool-destroy", "p")
        assert "target is busy" in message
        assert f"hint: '{running}' is in use: {expected}" in message
        assert is_mounted(running)
        assert ctl.state("p") == "running"
    ctl.ok("pool-destroy", "p")


def test_stop_during_volume_work(ctl: Program, running: Path) -> None:
    """Work on a volume is not cut off."""
    ctl.ok("vol-create-as", "p", "used", "8M")
    with subprocess.Popen(ctl.argv("vol-upload", "used", "/dev/stdin", "p"),
                          stdin=subprocess.PIPE) as upload:  # fmt: skip
        lock = ctl.root / "run/storagectl/lock/p"
        inode = str(lock.stat().st_ino)
        wait_for(lambda: locked(inode), "the upload does not begin")
        message = ctl.refused("pool-destroy", "p")
        assert "internal error: pool 'p' has asynchronous jobs running." in message
        assert f"hint: held by process {upload.pid}" in message
        assert is_mounted(running)
        assert upload.stdin is not None
        upload.stdin.close()
    assert upload.returncode == 0
    ctl.ok("pool-destroy", "p")


def locked(inode: str) -> bool:
    with open("/proc/locks") as stream:
        return any(f":{inode} " in line and "READ" in line for line in stream)


class Holding:
    """Something that keeps a mount busy; gives the words for it."""

    def __init__(self, user: str, target: Path, volume: Path) -> None:
        self.user, self.target, self.volume = user, target, volume

    def __enter__(self) -> str:
        match self.user:
            case "mount":
                self.held = mounted("none", self.target / "below", "-t", "tmpfs")
                self.held.__enter__()
                return f"mount {self.target}/below"
            case "loop":
                self.held = attached(self.volume)
                return f"loop device {self.held.__enter__()}"
            case "swap":
                run("chmod", "600", self.volume)
                self.held = swapped(str(self.volume))
                self.held.__enter__()
                return f"swap {self.volume}"
            case _:
                self.held = self.volume.open("rb")
                return f"process {os.getpid()} ("

    def __exit__(self, *error: object) -> None:
        self.held.__exit__(None, None, None)


# The wrong device


def fill_luks(device: str, folder: Path) -> None:
    """Write the start of a header: cryptsetup would need device-mapper in the kernel.

    Source: LUKS1 On-Disk Format Specification 1.2.3, magic and version.
    """
    with open(device, "r+b") as stream:
        stream.write(b"LUKS\xba\xbe\0\1aes".ljust(592, b"\0"))


def fill_md(device: str, folder: Path) -> None:
    """Write a version 0.90 superblock of a RAID member.

    Source: linux/raid/md_p.h, mdp_super_t; it lies at the last 64 KiB boundary but one.
    """
    words = [0xA92B4EFC, 0, 90, 0, 0, 0x11223344, 1700000000, 1, 0, 2, 2, 0, 0]
    block = struct.pack(f"<{len(words)}I", *words).ljust(4096, b"\0")
    with open(device, "r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek((size & ~0xFFFF) - 0x10000)
        stream.write(block)


def fill_garbage(device: str, folder: Path) -> None:
    with open(device, "r+b") as stream:
        stream.write(bytes(512 * 1024) + b"important")


def tool(*argv: str) -> Callable[[str, Path], None]:
    return lambda device, folder: run(*argv, device) and None


def test_starting_without_a_file_system_says_what_to_run(
    ctl: Program, scratch: Scratch, device: str
) -> None:
    target = define(ctl, scratch, device, "ext4", name="it's new")
    target.mkdir()
    with nothing_changed(ctl.root, [device], target):
        message = ctl.refused("pool-start", "it's new")
    hint = message.splitlines()[-1]
    start, _, told = hint.partition("storagectl ")
    assert start == f"hint: '{device}' has no file system; to make one of format ext4: "
    ctl.ok(*shlex.split(told))
    ctl.ok("pool-start", "it's new")
    assert is_mounted(target)


def test_starting_without_a_format_says_to_choose_one(
    ctl: Program, scratch: Scratch, device: str
) -> None:
    define(ctl, scratch, device, "auto").mkdir()
    hint = ctl.refused("pool-start", "p").splitlines()[-1]
    assert hint.startswith(f"hint: '{device}' has no file system; to make one, choose")
    assert hint.endswith(
        "with storagectl pool-edit p, then: storagectl pool-build p --no-overwrite"
    )


def test_starting_what_is_no_file_system_says_what_it_is(
    ctl: Program, scratch: Scratch, device: str
) -> None:
    run("parted", "-s", device, "mklabel", "gpt")
    define(ctl, scratch, device, "ext4").mkdir()
    message = ctl.refused("pool-start", "p")
    assert message.splitlines()[-1].startswith(f"hint: found on '{device}': gpt")


CONTENTS = {
    "ext4": tool("mkfs.ext4", "-q", "-F"),
    "xfs": tool("mkfs.xfs", "-q", "-f"),
    "btrfs": tool("mkfs.btrfs", "-q", "-f"),
    "swap": tool("mkswap"),
    "LVM2_member": tool("pvcreate", "-q", "--config", "devices/use_devicesfile=0"),
    "linux_raid_member": fill_md,
    "crypto_LUKS": fill_luks,
    "gpt": lambda device, folder: run("parted", "-s", device, "mklabel", "gpt") and None,
    "dos": lambda device, folder: run("parted", "-s", device, "mklabel", "msdos") and None,
    "garbage": fill_garbage,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_device_that_holds_something(ctl: Program, scratch: Scratch, content: str) -> None:
    device = scratch.loop(SIZES.get(content, 64 * MIB))
    CONTENTS[content](device, scratch.folder)
    target = define(ctl, scratch, device, "ext3")
    with nothing_changed(ctl.root, [device], target):
        message = ctl.refused("pool-build", "p", "--no-overwrite")
    if content == "garbage":
        assert message == failed(
            "Failed to build pool p",
            f"Storage pool already built: Device '{device}' holds data of an unknown format,"
            " forced overwrite is necessary",
        )
    else:
        head = failed(
            "Failed to build pool p",
            f"Storage pool already built: Format of device '{device}' does not match the expected"
            " format 'ext3', forced overwrite is necessary",
        )
        assert message.startswith(f"{head}hint: found on '{device}': ")
        assert content in message.splitlines()[2]
    ctl.ok("pool-build", "p", "--overwrite")
    ctl.ok("pool-start", "p")


def test_zeros_are_nothing(ctl: Program, scratch: Scratch, device: str) -> None:
    define(ctl, scratch, device)
    ctl.ok("pool-build", "p", "--no-overwrite")


@pytest.mark.parametrize("flag", ["--no-overwrite", "--overwrite"])
@pytest.mark.parametrize("user", ["mounted", "swap", "loop", "partition", "other namespace"])
def test_device_in_use(
    ctl: Program, scratch: Scratch, device: str, user: str, flag: str
) -> None:  # fmt: skip
    target = define(ctl, scratch, device)
    folder = scratch.folder / "elsewhere"
    with contextlib.ExitStack() as used:
        if user == "mounted":
            make("ext4", device)
            used.enter_context(mounted(device, folder, "-o", "ro"))
            cause = f"device '{device}' is in use: mounted on {folder}"
        elif user == "swap":
            used.enter_context(swapped(device))
            cause = f"device '{device}' is in use: used as swap"
        elif user == "loop":
            upper = used.enter_context(attached(device))
            cause = f"device '{device}' is in use: attached to {upper}"
        elif user == "partition":
            run("parted", "-s", device, "mklabel", "gpt", "mkpart", "a", "1MiB", "60MiB")
            part = f"{device}p1"
            wait_for(lambda: os.path.exists(part), f"{part} does not appear")
            make("ext4", part)
            used.enter_context(mounted(part, folder, "-o", "ro"))
            cause = f"device '{part}' is in use: mounted on {folder}"
        else:
            make("ext4", device)
            folder.mkdir()
            script = f"mount -o ro {device} '{folder}' && echo up && read line"
            keeper = used.enter_context(
                subprocess.Popen(["unshare", "-m", "sh", "-c", script], text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )  # fmt: skip
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == "up\n"
            where = f"{folder} in the mount namespace of process {keeper.pid} (sh)"
            cause = f"device '{device}' is in use: mounted on {where}"
        with nothing_changed(ctl.root, [device], target):
            assert ctl.refused("pool-build", "p", flag) == failed(
                "Failed to build pool p", f"resource busy: {cause}"
            )


def test_partition_of_a_disk_in_use(ctl: Program, scratch: Scratch, device: str) -> None:
    """The other way round: the disk is mounted as a whole, the pool wants its partition."""
    run("parted", "-s", device, "mklabel", "gpt", "mkpart", "a", "1MiB", "60MiB")
    wait_for(lambda: os.path.exists(f"{device}p1"), "no partition")
    define(ctl, scratch, f"{device}p1")
    with attached(device) as upper, nothing_changed(ctl.root, [device]):
        assert f"device '{device}' is in use: attached to {upper}" in ctl.refused(
            "pool-build", "p", "--overwrite"
        )
    ctl.ok("pool-start", "p", "--no-overwrite")
    assert ctl.state("p") == "running"
    ctl.ok("pool-destroy", "p")


def test_two_pools_one_device(ctl: Program, scratch: Scratch, device: str, running: Path) -> None:
    with nothing_changed(ctl.root, [], running):
        message = ctl.refused("pool-define-as", "q", "fs", "--source-dev", device, "--target", "/x")
    assert message == failed(
        "Failed to define pool q",
        "operation failed: Storage source conflict with pool: 'p'",
        f"pool 'p' ({ctl.ok('pool-uuid', 'p').strip()}, active) has that source:"
        " storagectl vol-list p",
    )


def test_missing_device(ctl: Program, scratch: Scratch) -> None:
    device = scratch.folder / "nothing"
    target = define(ctl, scratch, device)
    with nothing_changed(ctl.root, [], target):
        assert ctl.refused("pool-build", "p", "--overwrite") == failed(
            "Failed to build pool p",
            "Requested operation is not valid: Source device does not exist when formatting pool"
            " 'p'",
        )
    ctl.ok("pool-build", "p")
    with nothing_changed(ctl.root, [], target):
        message = ctl.refused("pool-start", "p")
    assert f"special device {device} does not exist" in message


def test_device_goes_away_while_stopped(ctl: Program, scratch: Scratch) -> None:
    image = scratch.folder / "image"
    with area.loop(image, 64 * MIB) as device:
        target = define(ctl, scratch, device)
        ctl.ok("pool-start", "p", "--no-overwrite")
        ctl.ok("pool-destroy", "p")
    assert ctl.state("p") == "inactive"
    ctl.ok("pool-delete", "p")
    ctl.ok("pool-undefine", "p")
    assert not target.exists()


def test_too_small_for_the_format(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop(1 * MIB)
    target = define(ctl, scratch, device, "xfs")
    message = ctl.refused("pool-start", "p", "--no-overwrite")
    assert "mkfs.xfs" in message
    assert ctl.state("p") == "inactive"
    assert not is_mounted(target)
