"""dir pools and the files in them, on file systems that are small, old or clever."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scratch import MIB, attached, backing_files, failed, make, nothing_changed, run
from waiting import wait_for

if TYPE_CHECKING:
    from scratch import Program, Scratch

TOOLS = (
    "filefrag", "losetup", "lsattr", "mkfs.btrfs", "mkfs.ext2", "mkfs.ext4", "mkfs.xfs", "qemu-img",
)  # fmt: skip
LABEL = "security.selinux"
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def define(
    ctl: Program, target: Path, *, permissions: str = "", cow: str = "", name: str = "p"
) -> None:
    features = f"<features><cow state='{cow}'/></features>" if cow else ""
    definition = ctl.root.parent / f"{name}.xml"
    definition.write_text(
        f"<pool type='dir'><name>{name}</name>{features}"
        f"<target><path>{target}</path>{permissions}</target></pool>"
    )
    ctl.ok("pool-define", definition)


def started(ctl: Program, target: Path, *, name: str = "p") -> Path:
    define(ctl, target, name=name)
    ctl.ok("pool-start", name, "--build")
    return target


@pytest.fixture
def pool(ctl: Program, scratch: Scratch) -> Path:
    """A dir pool `p` that runs; its target."""
    return started(ctl, scratch.folder / "pool")


def unfinished(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".storagectl")]


# The folder


def test_permissions(ctl: Program, scratch: Scratch) -> None:
    target = scratch.folder / "one" / "two" / "pool"
    wanted = "<permissions><mode>0750</mode><owner>12</owner><group>34</group></permissions>"
    define(ctl, target, permissions=wanted)
    ctl.ok("pool-build", "p")
    status = target.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o750, 12, 34)
    assert (scratch.folder / "one").stat().st_uid == 0
    target.chmod(0o700)
    os.chown(target, 0, 0)
    ctl.ok("pool-build", "p")
    status = target.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o750, 12, 34)
    ctl.ok("pool-start", "p")
    assert "<mode>0750</mode>" in ctl.ok("pool-dumpxml", "p")


def test_folder_that_stood_before(ctl: Program, scratch: Scratch) -> None:
    """It keeps its owner, mode and content."""
    target = scratch.folder / "pool"
    target.mkdir(mode=0o2775)
    target.chmod(0o2775)
    os.chown(target, 12, 34)
    (target / "old").write_text("old")
    started(ctl, target)
    status = target.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2775, 12, 34)
    assert ctl.names("p") == ["old"]


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_modes_under_any_umask(ctl: Program, scratch: Scratch, mask: int) -> None:
    target = scratch.folder / "pool"
    define(ctl, target)
    for words in (
        ["pool-start", "p", "--build"],
        ["vol-create-as", "p", "raw", "1M"],
        ["vol-create-as", "p", "image", "1M", "--format", "qcow2"],
        ["vol-clone", "raw", "copy", "p"],
        ["vol-create-as", "p", "folder", "1M", "--format", "dir"],
    ):
        assert ctl.run(*words, umask=mask).returncode == 0
    assert target.stat().st_mode & 0o7777 == 0o711
    assert {path.stat().st_mode & 0o7777 for path in target.iterdir()} == {0o600}
    for path in (ctl.root / "etc/storagectl", ctl.root / "run/storagectl"):
        for found in path.rglob("*"):
            assert found.lstat().st_mode & 0o077 == 0, found


def test_volume_permissions(ctl: Program, scratch: Scratch, pool: Path) -> None:
    definition = scratch.folder / "volume.xml"
    for format in ("raw", "qcow2", "dir"):
        definition.write_text(
            f"<volume><name>{format}</name><capacity>1048576</capacity><target>"
            f"<format type='{format}'/><permissions><mode>0640</mode><owner>12</owner>"
            "<group>34</group></permissions></target></volume>"
        )
        ctl.ok("vol-create", "p", definition)
        status = (pool / format).stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 12, 34)


def test_labels(ctl: Program, scratch: Scratch) -> None:
    """Security labels are shown as the files have them, and given to what is made."""
    target = scratch.folder / "pool"
    wanted = "<permissions><label>system_u:object_r:virt_t:s0</label></permissions>"
    define(ctl, target, permissions=wanted)
    ctl.ok("pool-start", "p", "--build")
    assert os.getxattr(target, LABEL) == b"system_u:object_r:virt_t:s0\0"
    os.setxattr(target, LABEL, b"other\0")
    assert "<label>other</label>" in ctl.ok("pool-dumpxml", "p")
    os.removexattr(target, LABEL)
    assert "<label>" not in ctl.ok("pool-dumpxml", "p")

    label = "system_u:object_r:virt_content_t:s0"
    definition = scratch.folder / "volume.xml"
    for format in ("raw", "qcow2", "dir"):
        definition.write_text(
            f"<volume><name>{format}</name><capacity>1048576</capacity><target>"
            f"<format type='{format}'/><permissions><label>{label}</label></permissions>"
            "</target></volume>"
        )
        ctl.ok("vol-create", "p", definition)
        assert os.getxattr(target / format, LABEL) == label.encode() + b"\0"
        assert f"<label>{label}</label>" in ctl.ok("vol-dumpxml", format, "p")
    ctl.ok("vol-create-as", "p", "plain", "1M")
    assert "<label>" not in ctl.ok("vol-dumpxml", "plain", "p")


def test_delete_of_what_is_not_empty(ctl: Program, scratch: Scratch) -> None:
    target = scratch.folder / "pool"
    (target / "sub").mkdir(parents=True)
    (target / "file").write_text("kept")
    define(ctl, target)
    with nothing_changed(ctl.root, [], target):
        assert ctl.refused("pool-delete", "p") == failed(
            "Failed to delete pool p", f"failed to remove pool '{target}': Directory not empty"
        )


def test_delete_of_a_mount_point(ctl: Program, scratch: Scratch) -> None:
    target = scratch.mount("none", "pool", "-t", "tmpfs")
    define(ctl, target)
    with nothing_changed(ctl.root, [], target):
        assert ctl.refused("pool-delete", "p") == failed(
            "Failed to delete pool p", f"failed to remove pool '{target}': Device or resource busy"
        )


def test_delete_of_a_symlink(ctl: Program, scratch: Scratch) -> None:
    real = scratch.folder / "real"
    real.mkdir()
    target = scratch.folder / "pool"
    target.symlink_to(real)
    define(ctl, target)
    with nothing_changed(ctl.root, [], real):
        assert ctl.refused("pool-delete", "p") == failed(
            "Failed to delete pool p", f"failed to remove pool '{target}': Not a directory"
        )
    assert target.is_symlink()


@pytest.mark.parametrize("target", ["/", "/var", "/var/../var"])
def test_delete_of_the_system(ctl: Program, target: str) -> None:
    ctl.ok("pool-define-as", "p", "dir", "--target", target)
    assert ctl.refused("pool-delete", "p").startswith("error: Failed to delete pool p\nerror: ")


def test_delete_while_running(ctl: Program, pool: Path) -> None:
    with nothing_changed(ctl.root, [], pool):
        assert "is still active" in ctl.refused("pool-delete", "p")
    ctl.ok("pool-destroy", "p")
    ctl.ok("pool-delete", "p")
    assert not pool.exists()
    assert ctl.ok("pool-list", "--all", "--name").split() == ["p"]


def test_undefined_pool_does_not_come_back(ctl: Program, pool: Path) -> None:
    """Its folder vanished and returned; the pool was undefined in between."""
    pool.rmdir()
    assert ctl.state("p") == "inactive"
    ctl.ok("pool-undefine", "p")
    pool.mkdir()
    assert ctl.ok("pool-list", "--all", "--name").split() == []


def test_target_through_a_file(ctl: Program, scratch: Scratch) -> None:
    (scratch.folder / "file").write_text("no folder")
    define(ctl, scratch.folder / "file", name="p")
    define(ctl, scratch.folder / "file" / "below", name="q")
    with nothing_changed(ctl.root, [], scratch.folder):
        for name in "pq":
            assert ctl.refused("pool-build", name).startswith(
                f"error: Failed to build pool {name}\nerror: cannot create "
            )


# Disk full


@pytest.fixture
def tiny(ctl: Program, scratch: Scratch) -> Path:
    """A pool `p` on an ext4 file system of 16 MiB."""
    return started(ctl, scratch.mount_new("ext4", "tiny", 16 * MIB) / "pool")


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_disk_full(ctl: Program, tiny: Path, format: str) -> None:
    free = os.statvfs(tiny).f_bfree
    more = ["--prealloc-metadata"] if format == "qcow2" else []
    message = ctl.refused("vol-create-as", "p", "big", "64M", "--format", format, *more)
    assert message.startswith("error: Failed to create vol big\nerror: ")
    assert message.rstrip().endswith("No space left on device")
    assert os.listdir(tiny) == []
    assert os.statvfs(tiny).f_bfree >= free - 8
    ctl.ok("vol-create-as", "p", "sparse", "64M", "--allocation", "0")


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_disk_full_in_clone(ctl: Program, scratch: Scratch, tiny: Path, format: str) -> None:
    ctl.ok("vol-create-as", "p", "one", "9M", "--format", format)
    data = scratch.folder / "data"
    data.write_bytes(os.urandom(9 * MIB))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", format, data, tiny / "one")
    message = ctl.refused("vol-clone", "one", "two", "p")
    assert message.startswith("error: Failed to clone vol from one\nerror: ")
    assert "No space left on device" in message
    assert os.listdir(tiny) == ["one"]


def test_disk_full_in_resize(ctl: Program, scratch: Scratch) -> None:
    """ext2 needs blocks for its maps too, so what is free is not enough for that much data."""
    pool = started(ctl, scratch.mount_new("ext2", "tiny", 32 * MIB) / "pool")
    ctl.ok("vol-create-as", "p", "one", "1M")
    before = (pool / "one").stat().st_size
    space = os.statvfs(pool)
    wanted = MIB + space.f_bfree * space.f_frsize
    assert ctl.refused("vol-resize", "one", wanted, "p", "--allocate") == failed(
        f"Failed to change size of volume 'one' to {wanted}",
        f"Failed to pre-allocate space for file '{pool}/one': No space left on device",
    )
    assert (pool / "one").stat().st_size == before
    assert os.statvfs(pool).f_bfree == space.f_bfree


def test_disk_full_for_the_definitions(ctl: Program, scratch: Scratch) -> None:
    """The old definition stands."""
    root = scratch.mount("none", "root", "-t", "tmpfs", "-o", "size=256k")
    define(ctl, scratch.folder / "pool")
    before = ctl.ok("pool-dumpxml", "p")
    with contextlib.suppress(OSError), (root / "fill").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    definition = scratch.folder / "p.xml"
    definition.write_text(before.replace("/pool<", "/" + "x" * 8000 + "<"))
    message = ctl.refused("pool-define", definition)
    assert message.startswith(f"error: Failed to define pool from {definition}\nerror: cannot ")
    assert message.endswith("No space left on device\n")
    assert ctl.ok("pool-dumpxml", "p") == before
    assert unfinished(ctl.root / "etc/storagectl/storage") == []


def test_s50_read_only(ctl: Program, scratch: Scratch) -> None:
    target = scratch.mount_new("ext4", "pool", 16 * MIB)
    started(ctl, target)
    ctl.ok("vol-create-as", "p", "one", "1M")
    run("mount", "-o", "remount,ro", target)
    for words in (
        ["vol-create-as", "p", "two", "1M"],
        ["vol-create-as", "p", "two", "1M", "--format", "qcow2"],
        ["vol-clone", "one", "two", "p"],
        ["vol-delete", "one", "p"],
        ["vol-wipe", "one", "p"],
        ["vol-resize", "one", "2M", "p"],
    ):
        assert "Read-only file system" in ctl.refused(*words), words
    ctl.ok("vol-info", "one", "p")


def test_s50_what_may_not_be_deleted(ctl: Program, scratch: Scratch) -> None:
    """An immutable file, and files of an immutable folder: all is as it was, and known."""
    target = scratch.mount_new("ext4", "pool", 16 * MIB) / "images"
    started(ctl, target)
    ctl.ok("vol-create-as", "p", "one", "1M")
    (target / "sub").mkdir()
    names = ctl.names("p")
    for what, words in (
        (target / "one", ("vol-delete", "one", "p")),
        (target / "one", ("vol-wipe", "one", "p")),
        (target / "one", ("vol-resize", "one", "2M", "p")),
        (target / "one", ("vol-rename", "one", "two", "p")),
        (target, ("vol-delete", "one", "p")),
        (target, ("vol-delete", "sub", "p")),
        (target, ("vol-rename", "one", "two", "p")),
        (target, ("vol-create-as", "p", "two", "1M")),
    ):
        run("chattr", "+i", what)
        try:
            with nothing_changed(ctl.root, [], target):
                assert "Operation not permitted" in ctl.refused(*words), words
            assert ctl.names("p") == names
        finally:
            run("chattr", "-i", what)
    ctl.ok("vol-delete", "one", "p")
    ctl.ok("vol-delete", "sub", "p")
    ctl.ok("pool-destroy", "p")
    run("chattr", "+i", target.parent)
    try:
        with nothing_changed(ctl.root, [], target):
            assert "Operation not permitted" in ctl.refused("pool-delete", "p")
        assert ctl.state("p") == "inactive"
    finally:
        run("chattr", "-i", target.parent)
    ctl.ok("pool-delete", "p")


def test_s50_a_folder_that_only_takes_names(ctl: Program, scratch: Scratch) -> None:
    """What is made there can't get another name, nor go: nothing is made."""
    target = scratch.mount_new("ext4", "pool", 16 * MIB) / "images"
    started(ctl, target)
    ctl.ok("vol-create-as", "p", "one", "1M")
    ctl.ok("vol-create-as", "p", "image", "1M", "--format", "qcow2")
    data = scratch.folder / "data"
    data.write_bytes(b"new")
    run("chattr", "+a", target)
    try:
        with nothing_changed(ctl.root, [], target):
            for words in (
                ("vol-create-as", "p", "two", "1M"),
                ("vol-create-as", "p", "two", "1M", "--format", "qcow2"),
                ("vol-clone", "one", "two", "p"),
                ("vol-clone", "image", "two", "p"),
                ("vol-delete", "one", "p"),
                ("vol-rename", "one", "two", "p"),
            ):
                assert "Operation not permitted" in ctl.refused(*words), words
            ctl.refused("vol-download", "one", target / "two", "p")
            error = ctl.refused("--dry-run", "vol-create-as", "p", "two", "1M")
            assert "Operation not permitted" in error
        ctl.ok("vol-upload", "one", data, "p")
        assert (target / "one").read_bytes() == b"new" + bytes(MIB - 3)
        assert sorted(os.listdir(target)) == ["image", "one"]
    finally:
        run("chattr", "-a", target)


# Cut short


@pytest.fixture
def slow(ctl: Program, scratch: Scratch) -> Path:
    """A pool `p` on ext2, which has no fallocate: allocation writes, and so takes time."""
    return started(ctl, scratch.mount_new("ext2", "slow", 1536 * MIB) / "pool")


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_signal_during_create(ctl: Program, slow: Path, signum: int, status: int) -> None:
    with ctl.start("vol-create-as", "p", "big", "1280M") as child:
        wait_for(lambda: any((slow / n).stat().st_blocks for n in unfinished(slow)), "no start")
        assert ctl.names("p") == []
        os.killpg(child.pid, signum)
        _, errors = child.communicate()
    assert child.returncode == status
    assert "Traceback" not in errors
    assert not (slow / "big").exists()
    if signum == signal.SIGKILL:
        assert unfinished(slow) != []
        assert ctl.names("p") == []
        ctl.ok("vol-create-as", "p", "big", "1M")
        assert os.listdir(slow) == ["big"]
    else:
        assert os.listdir(slow) == []


@pytest.mark.parametrize("command", ["pool-refresh", "pool-delete"])
def test_swept_by_other_commands(ctl: Program, slow: Path, command: str) -> None:
    with ctl.start("vol-create-as", "p", "big", "1280M") as child:
        wait_for(lambda: unfinished(slow), "no start")
        ctl.ok("pool-refresh", "p")
        assert unfinished(slow) != []
        child.kill()
    assert unfinished(slow) != []
    if command == "pool-delete":
        ctl.ok("pool-destroy", "p")
    ctl.ok(command, "p")
    assert not slow.exists() or os.listdir(slow) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_tool(ctl: Program, slow: Path, signum: int) -> None:
    """qemu-img ends with us, also when only we get the signal."""
    words = ["vol-create-as", "p", "big", "1280M", "--format", "qcow2", "--prealloc-metadata"]
    with ctl.start(*words) as child:
        wait_for(lambda: any((slow / n).stat().st_size > MIB for n in unfinished(slow)), "no start")
        child.send_signal(signum)
        _, errors = child.communicate()
    assert child.returncode == 128 + signum
    assert "Traceback" not in errors
    assert os.listdir(slow) == []
    assert run("pgrep", "-f", str(slow), check=False) == ""


def test_signal_during_clone_and_upload(ctl: Program, scratch: Scratch, slow: Path) -> None:
    source = slow / "source"
    with source.open("wb") as stream:
        for _ in range(400):
            stream.write(b"x" * MIB)
    with ctl.start("vol-clone", "source", "copy", "p") as child:
        wait_for(lambda: unfinished(slow), "no start")
        os.killpg(child.pid, signal.SIGINT)
        child.communicate()
    assert child.returncode == 130
    assert os.listdir(slow) == ["source"]
    target = scratch.folder / "download"
    target.write_text("as before")
    with ctl.start("vol-download", "source", target, "p") as child:
        wait_for(lambda: unfinished(scratch.folder), "no start")
        os.killpg(child.pid, signal.SIGTERM)
        child.communicate()
    assert child.returncode == 143
    assert target.read_text() == "as before"
    assert unfinished(scratch.folder) == []


# At the same time


@pytest.mark.parametrize("format", ["raw", "qcow2", "dir"])
def test_one_name_twenty_times(ctl: Program, pool: Path, format: str) -> None:
    children = [
        ctl.start("vol-create-as", "p", "same", "1M", "--format", format) for _ in range(20)
    ]
    results = [(child.communicate(), child.returncode) for child in children]
    assert sorted(status for _, status in results) == [0] + 19 * [1]
    lost = {errors for (_, errors), status in results if status}
    assert lost <= {
        failed("Failed to create vol same", "storage volume 'same' exists already"),
        failed(
            "Failed to create vol same",
            f"Requested operation is not valid: volume target path '{pool}/same' already exists",
        ),
    }
    assert os.listdir(pool) == ["same"]


def test_many_names_at_once(ctl: Program, pool: Path) -> None:
    """Nobody takes the unfinished file of another for one that was left behind."""
    children = [ctl.start("vol-create-as", "p", f"v{n:02}", "64K") for n in range(30)]
    for child in children:
        _, errors = child.communicate()
        assert (child.returncode, errors) == (0, "")
    assert ctl.names("p") == [f"v{n:02}" for n in range(30)]
    assert unfinished(pool) == []


def test_many_pools_at_once(ctl: Program, scratch: Scratch) -> None:
    names = [f"p{n:02}" for n in range(12)]
    for command in (
        lambda name: ["pool-define-as", name, "dir", "--target", scratch.folder / name],
        lambda name: ["pool-start", name, "--build"],
        lambda name: ["pool-autostart", name],
        lambda name: ["pool-destroy", name],
        lambda name: ["pool-undefine", name],
    ):
        for child in [ctl.start(*command(name)) for name in names]:
            _, errors = child.communicate()
            assert (child.returncode, errors) == (0, ""), child.args
    assert ctl.ok("pool-list", "--all", "--name").split() == []


# Copies


def extents(path: Path) -> list[tuple[str, ...]]:
    """Return the physical ranges of a file and whether they are shared."""
    return re.findall(r"\n +\d+: +\d+\.\. +\d+: +(\d+)\.\. +(\d+):", run("filefrag", "-v", path))


@pytest.mark.parametrize("format", ["btrfs", "xfs"])
def test_reflink(ctl: Program, scratch: Scratch, format: str) -> None:
    pool = started(ctl, scratch.mount_new(format, format) / "pool")
    ctl.ok("vol-create-as", "p", "one", "8M")
    data = scratch.folder / "data"
    data.write_bytes(os.urandom(8 * MIB))
    ctl.ok("vol-upload", "one", data, "p")
    run("sync", pool / "one")
    assert ctl.ok("vol-clone", "one", "two", "p", "--reflink") == "Vol two cloned from one\n\n"
    assert (pool / "two").read_bytes() == data.read_bytes()
    assert extents(pool / "one") == extents(pool / "two") != []
    assert "shared" in run("filefrag", "-v", pool / "two")
    assert (pool / "two").stat().st_mode & 0o7777 == 0o600
    ctl.ok("vol-wipe", "one", "p")
    assert (pool / "two").read_bytes() == data.read_bytes()


def test_reflink_where_there_is_none(ctl: Program, tiny: Path) -> None:
    ctl.ok("vol-create-as", "p", "one", "1M")
    with nothing_changed(ctl.root, [], tiny):
        assert ctl.refused("vol-clone", "one", "two", "p", "--reflink") == failed(
            "Failed to clone vol from one",
            f"failed to clone files from '{tiny}/one': Operation not supported",
        )


def test_nocow(ctl: Program, scratch: Scratch) -> None:
    folder = scratch.mount_new("btrfs", "btrfs")
    for name, cow in (("n", "no"), ("a", ""), ("y", "yes")):
        define(ctl, folder / name, cow=cow, name=name)
        ctl.ok("pool-start", name, "--build")
    definition = scratch.folder / "volume.xml"
    definition.write_text(
        "<volume><name>nocow</name><capacity>1048576</capacity><target><nocow/></target></volume>"
    )
    ctl.ok("vol-create", "y", definition)
    ctl.ok("vol-create-as", "y", "cow", "1M")
    ctl.ok("vol-create-as", "n", "inherited", "1M")
    flags = {}
    for path in (folder / "n", folder / "a", folder / "y"):
        flags[path.name] = "C" in run("lsattr", "-d", path).split()[0]
    for path in (folder / "y/nocow", folder / "y/cow", folder / "n/inherited"):
        flags[path.name] = "C" in run("lsattr", path).split()[0]
    assert flags == {
        "n": True, "a": True, "y": False, "nocow": True, "cow": False, "inherited": True,
    }  # fmt: skip


def test_cow_elsewhere(ctl: Program, scratch: Scratch) -> None:
    target = scratch.mount_new("ext4", "ext4", 16 * MIB) / "pool"
    define(ctl, target, cow="no")
    assert ctl.refused("pool-build", "p") == failed(
        "Failed to build pool p",
        f"unable to control COW flag on '{target}', not btrfs: Function not implemented",
    )


def test_clone_of_a_sparse_volume(ctl: Program, scratch: Scratch) -> None:
    pool = started(ctl, scratch.mount_new("ext4", "ext4") / "pool")
    ctl.ok("vol-create-as", "p", "one", "10G", "--allocation", "0")
    with (pool / "one").open("r+b") as stream:
        for place in (0, 5 << 30, (10 << 30) - MIB):
            stream.seek(place)
            stream.write(os.urandom(MIB))
    ctl.ok("vol-clone", "one", "two", "p")
    run("cmp", "--bytes=3M", pool / "one", pool / "two")
    one, two = (pool / "one").stat(), (pool / "two").stat()
    assert two.st_size == one.st_size == 10 << 30
    assert two.st_blocks <= one.st_blocks + 64
    with (pool / "one").open("rb") as first, (pool / "two").open("rb") as second:
        for place in (5 << 30, (10 << 30) - MIB):
            first.seek(place)
            second.seek(place)
            assert first.read(MIB) == second.read(MIB)


def test_clone_into_another_format(ctl: Program, scratch: Scratch, pool: Path) -> None:
    ctl.ok("vol-create-as", "p", "one", "4M")
    (pool / "one").write_bytes(os.urandom(4 * MIB))
    definition = scratch.folder / "volume.xml"
    definition.write_text(
        "<volume><name>two</name><capacity>8388608</capacity>"
        "<target><format type='qcow2'/></target></volume>"
    )
    ctl.ok("vol-create-from", "p", definition, "one", "p")
    assert "Capacity:       8388608 bytes" in ctl.ok("vol-info", "two", "p", "--bytes")
    back = scratch.folder / "back"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", pool / "two", back)
    assert back.read_bytes() == (pool / "one").read_bytes() + bytes(4 * MIB)


# Moving data


def test_upload_and_download(ctl: Program, scratch: Scratch, pool: Path) -> None:
    ctl.ok("vol-create-as", "p", "one", "4M")
    data = scratch.folder / "data"
    data.write_bytes(os.urandom(3 * MIB))
    assert ctl.ok("vol-upload", "one", data, "p") == "\n"
    ctl.ok("vol-upload", "one", data, "p", "--offset", 1000, "--length", 50_000)
    wanted = bytearray(data.read_bytes() + bytes(MIB))
    wanted[1000:51_000] = data.read_bytes()[:50_000]
    assert (pool / "one").read_bytes() == wanted
    back = scratch.folder / "back"
    assert ctl.ok("vol-download", "one", back, "p") == "\n"
    assert back.read_bytes() == wanted
    ctl.ok("vol-download", "one", back, "p", "--offset", 777, "--length", 100_001)
    assert back.read_bytes() == wanted[777:100_778]
    ctl.ok("vol-download", "one", back, "p", "--offset", 4 * MIB)
    assert back.read_bytes() == b""
    ctl.ok("vol-download", "one", back, "p", "--sparse")
    assert back.read_bytes() == wanted


def test_upload_to_a_mount_point(ctl: Program, scratch: Scratch, pool: Path) -> None:
    """No other file can take its place: it is written to."""
    ctl.ok("vol-create-as", "p", "one", "1M")
    below = scratch.folder / "below"
    below.write_bytes(b"." * 10)
    data = scratch.folder / "data"
    data.write_bytes(b"new")
    run("mount", "--bind", below, pool / "one")
    try:
        ctl.ok("vol-upload", "one", data, "p")
        assert below.read_bytes() == b"new" + b"." * 7
        assert unfinished(pool) == []
    finally:
        run("umount", pool / "one")
    ctl.ok("vol-upload", "one", data, "p")
    assert (pool / "one").read_bytes() == b"new" + bytes(MIB - 3)


def test_upload_that_does_not_fit(ctl: Program, scratch: Scratch, pool: Path) -> None:
    ctl.ok("vol-create-as", "p", "one", "1M")
    data = scratch.folder / "data"
    data.write_bytes(os.urandom(MIB))
    with nothing_changed(ctl.root, [], pool):
        assert ctl.refused("vol-upload", "one", data, "p", "--offset", 1) == failed(
            "cannot upload to volume one",
            "invalid argument: 1048576 bytes at offset 1 do not fit into volume 'one' of"
            " 1048576 bytes",
        )
        ctl.refused("vol-upload", "one", scratch.folder / "none", "p")
        ctl.ok("vol-download", "one", scratch.folder / "x", "p", "--offset", 2 * MIB)
        assert (scratch.folder / "x").read_bytes() == b""


def test_sparse_upload(ctl: Program, scratch: Scratch) -> None:
    pool = started(ctl, scratch.mount_new("ext4", "ext4") / "pool")
    ctl.ok("vol-create-as", "p", "one", "16M")
    (pool / "one").write_bytes(b"x" * 16 * MIB)
    data = scratch.folder / "data"
    with data.open("wb") as stream:
        stream.truncate(16 * MIB)
        stream.seek(8 * MIB)
        stream.write(b"y" * 4096)
    ctl.ok("vol-upload", "one", data, "p", "--sparse")
    assert (pool / "one").read_bytes() == data.read_bytes()
    assert (pool / "one").stat().st_blocks * 512 < MIB


@pytest.mark.parametrize("sparse", [False, True])
def test_wipe(ctl: Program, scratch: Scratch, sparse: bool) -> None:
    """The old bytes are not on the device any more either."""
    folder = scratch.mount_new("ext4", "ext4")
    image = scratch.folder / "disk1.img"
    pool = started(ctl, folder / "pool")
    secret = os.urandom(32)
    ctl.ok("vol-create-as", "p", "one", "4M", *(["--allocation", "0"] if sparse else []))
    with (pool / "one").open("r+b") as stream:
        for _ in range(MIB // 32 if sparse else 4 * MIB // 32):
            stream.write(secret)
    run("sync", "--file-system", pool)
    assert secret in image.read_bytes()
    ctl.ok("vol-wipe", "one", "p")
    assert (pool / "one").read_bytes() == bytes(4 * MIB)
    run("sync", "--file-system", pool)
    if not sparse:
        assert secret not in image.read_bytes()


@pytest.mark.parametrize("verb", ["vol-upload", "vol-wipe", "vol-resize"])
def test_symlink_in_the_place_of_a_volume(
    ctl: Program, scratch: Scratch, pool: Path, verb: str
) -> None:
    """S22: what an attacker's link in the pool points at is not written to."""
    victim = scratch.folder / "victim"
    victim.write_bytes(b"precious" * 1000)
    data = scratch.folder / "data"
    data.write_bytes(b"evil")
    (pool / "link").symlink_to(victim)
    more = {"vol-upload": [data], "vol-wipe": [], "vol-resize": ["1M"]}[verb]
    ctl.refused(verb, "link", *more, "--pool", "p")
    assert victim.read_bytes() == b"precious" * 1000
    assert "exists" in ctl.refused("vol-create-as", "p", "link", "1M")
    (pool / "dangling").symlink_to(scratch.folder / "made")
    assert "exists" in ctl.refused("vol-create-as", "p", "dangling", "1M")
    assert not (scratch.folder / "made").exists()
    ctl.ok("vol-delete", "link", "p")
    assert victim.exists()


def test_held_volume(ctl: Program, scratch: Scratch, pool: Path) -> None:
    """While one command writes into a volume, others keep away."""
    ctl.ok("vol-create-as", "p", "one", "1M")
    with subprocess.Popen(ctl.argv("vol-upload", "one", "/dev/stdin", "p"),
                          stdin=subprocess.PIPE) as upload:  # fmt: skip
        inode = f":{(pool / 'one').stat().st_ino} "
        wait_for(lambda: inode in Path("/proc/locks").read_text(), "the upload does not begin")
        message = ctl.refused("vol-wipe", "one", "p")
        holder = f"process {upload.pid} ("
        assert f"resource busy: '{pool}/one' is being worked on by {holder}" in message
        assert upload.stdin is not None
        upload.stdin.close()


def test_ext2_makes_holes(ctl: Program, scratch: Scratch) -> None:
    """No fallocate, no punching: zeros are written."""
    folder = scratch.folder / "ext2"
    device = scratch.loop()
    make("ext2", device)
    scratch.mount(device, "ext2")
    pool = started(ctl, folder / "pool")
    ctl.ok("vol-create-as", "p", "one", "8M")
    assert (pool / "one").stat().st_blocks * 512 >= 8 * MIB
    (pool / "one").write_bytes(b"x" * 8 * MIB)
    data = scratch.folder / "data"
    data.touch()
    os.truncate(data, 4 * MIB)
    ctl.ok("vol-upload", "one", data, "p", "--sparse")
    assert (pool / "one").read_bytes() == bytes(4 * MIB) + b"x" * 4 * MIB


# In use


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_what_a_loop_device_is_on_does_not_shrink(ctl: Program, pool: Path, format: str) -> None:
    ctl.ok("vol-create-as", "p", "a", "20M", "--allocation", 0, "--format", format)
    with attached(pool / "a") as device:
        with nothing_changed(ctl.root, [device], pool):
            error = ctl.refused("vol-resize", "a", "16M", "p", "--shrink")
            assert f"resource busy: file '{pool}/a' is in use: attached to {device}" in error
        ctl.ok("vol-resize", "a", "24M", "p")
    ctl.ok("vol-resize", "a", "16M", "p", "--shrink")


def test_what_a_loop_device_is_on_is_not_deleted(
    ctl: Program, scratch: Scratch, pool: Path
) -> None:
    """What a process has open is, as by virsh, and so is a link to what a loop device is on."""
    ctl.ok("vol-create-as", "p", "a", "4M")
    (pool / "link").symlink_to("a")
    with attached(pool / "a") as device:
        with nothing_changed(ctl.root, [device], pool):
            error = ctl.refused("vol-delete", "a", "p")
            assert f"resource busy: file '{pool}/a' is in use: attached to {device}" in error
            assert error == ctl.refused("--dry-run", "vol-delete", "a", "p")
        ctl.ok("vol-delete", "link", "p")
    with (pool / "a").open("r+b"):
        ctl.ok("vol-delete", "a", "p")


def test_the_source_of_a_pool_is_not_deleted(ctl: Program, scratch: Scratch, pool: Path) -> None:
    ctl.ok("vol-create-as", "p", "a", "16M")
    target = scratch.folder / "t"
    target.mkdir()
    words = ("--source-dev", pool / "a", "--source-format", "ext4", "--target", target)
    ctl.ok("pool-define-as", "inner", "fs", *words)
    make("ext4", pool / "a")
    ctl.ok("pool-start", "inner")
    error = ctl.refused("vol-delete", "a", "p")
    assert f"file '{pool}/a' is in use: mounted on {target}" in error
    ctl.ok("pool-destroy", "inner")
    wait_for(lambda: str(pool / "a") not in backing_files().values(), "the loop device stays")
    ctl.ok("vol-delete", "a", "p")


# Rename


def test_rename_of_what_is_in_use(ctl: Program, pool: Path) -> None:
    ctl.ok("vol-create-as", "p", "a", "4M")
    with attached(pool / "a") as device:
        assert f"resource busy: '{pool}/a' is in use: attached to {device}" in ctl.refused(
            "vol-rename", "a", "b", "p"
        )
    (pool / "folder").mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=pool / "folder") as process:
        error = ctl.refused("vol-rename", "folder", "b", "p")
        assert f"'{pool}/folder' is in use: process {process.pid} (sleep)" in error
        process.kill()
    ctl.ok("vol-rename", "a", "b", "p")
