"""Disk pools on SCSI, NVMe, loop and multipath disks, from definition to deletion."""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB, run
from shell import Shell, broken, unchanged, without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = ("dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun")
FIRST = {"mac": 2}
UNKNOWN_TO_LINUX = ("bsd", "pc98")

# what parted makes of each type of volume, by sfdisk's words
CODES = {
    "linux": "83", "fat16": "e", "fat32": "c", "extended": "f", "none": "83",
    "linux-swap": "82", "linux-lvm": "83", "linux-raid": "83",
}  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "root")


@pytest.fixture
def disk() -> Iterator[str]:
    with devices.scsi_debug(size=64 * MiB) as (host,):
        yield host.disks[0]


def define(shell: Shell, device: str, label: str, *more: str, target: str = "/dev") -> None:
    shell.ok("pool-define-as", "p", "disk", "--source-dev", device, "--source-format", label,
             "--target", target, *more)  # fmt: skip


def extents(xml: str, kind: str) -> list[tuple[int, int]]:
    found = re.findall(rf"<{kind} start='(\d+)' end='(\d+)'/>", xml)
    return [(int(start), int(end)) for start, end in found]


def partitions(device: str) -> list[dict[str, str]]:
    table = json.loads(run("sfdisk", "--json", device))["partitiontable"]
    found: list[dict[str, str]] = table.get("partitions", [])
    return found


def test_every_table(shell: Shell, disk: str) -> None:
    for label in TABLES:
        build = ["--build", "--overwrite"] if label != TABLES[0] else ["--build"]
        shell.ok("pool-create-as", "p", "disk", "--source-dev", disk, "--source-format", label,
                 "--target", "/dev", *build)  # fmt: skip
        name = f"{os.path.basename(disk)}{FIRST.get(label, 1)}"
        if label in UNKNOWN_TO_LINUX:
            refused_or_made(shell, name)
            shell.ok("pool-destroy", "p")
            continue
        shell.ok("vol-create-as", "p", name, "10M")
        size = int(run("blockdev", "--getsize64", f"/dev/{name}"))
        assert size >= 10 * MiB
        rows = [line.split() for line in shell.ok("vol-list", "p", "--details").splitlines()]
        assert [row[1] for row in rows if row and row[0] == name] == [f"/dev/{name}"]
        pool = shell.ok("pool-dumpxml", "p")
        assert f"<format type='{label}'/>" in pool
        start = 512 * int(devices.read(f"/sys/class/block/{name}/start"))
        free = extents(pool, "freeExtent")
        assert free
        assert all(stop <= start or first >= start + size for first, stop in free)
        shell.ok("vol-delete", name, "p")
        # the kernel has a node for what is free in a mac table
        assert label == "mac" or not os.path.exists(f"/dev/{name}")
        shell.ok("pool-destroy", "p")


def refused_or_made(shell: Shell, name: str) -> None:
    """Try to make a partition that only parted tells Linux of, and udev lets it forget."""
    done = shell.run("vol-create-as", "p", name, "10M")
    if done.status:
        assert f"device '/dev/{name}' of the new partition did not appear" in done.stderr
    assert [*shell.volumes("p")] == ([] if done.status else [name])
    assert "<freeExtent " in shell.ok("pool-dumpxml", "p")


def test_every_type_of_volume(shell: Shell, disk: str) -> None:
    define(shell, disk, "dos")
    shell.ok("pool-build", "p")
    shell.ok("pool-start", "p")
    name = os.path.basename(disk)
    for number, kind in enumerate(CODES, 1):
        size = "40M" if kind == "extended" else "5M"
        shell.ok("vol-create-as", "p", f"{name}{number}", size, "--format", kind)
    assert [row["type"] for row in partitions(disk)] == list(CODES.values())
    assert [*shell.volumes("p")] == [f"{name}{number}" for number in range(1, 9)]
    assert "unknown volume format type" in shell.fails(
        "vol-create-as", "p", f"{name}9", "5M", "--format", "qcow2"
    )
    with unchanged(disk):
        for what, words in {
            (f"{name}9", "5M", "extended"): "extended partition already exists",
            ("x", "1M", "none"): f"invalid partition name 'x', expected '{name}9'",
        }.items():
            assert words in shell.fails("vol-create-as", "p", *what[:2], "--format", what[2])
        error = shell.fails("vol-delete", f"{name}4", "p")
        assert f"still has logical partitions: {name}5, {name}6, {name}7, {name}8" in error
    # the partitions after a removed logical one get new numbers
    shell.ok("vol-delete", f"{name}6", "p")
    assert [*shell.volumes("p")] == [f"{name}{number}" for number in range(1, 8)]
    assert [row["type"] for row in partitions(disk)][4:] == ["83", "83", "83"]


def test_partitions_in_use(shell: Shell, disk: str) -> None:
    name = os.path.basename(disk)
    define(shell, disk, "gpt")
    shell.ok("pool-build", "p")
    run("parted", "-s", disk, *(
        word for at in range(1, 41, 10) for word in ("mkpart", "x", f"{at}MiB", f"{at + 10}MiB")
    ))  # fmt: skip
    devices.settle()
    shell.ok("pool-start", "p")
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", f"{disk}1")
    run("mkswap", f"{disk}2")
    with ExitStack() as stack:
        point = stack.enter_context(devices.mounted(f"{disk}1"))
        run("swapon", f"{disk}2")
        stack.callback(run, "swapoff", f"{disk}2")
        group = stack.enter_context(devices.volume_group(f"{disk}3"))
        run("lvcreate", "-y", "-n", "v", "-L", "4M", group)
        array = stack.enter_context(md(f"{disk}4"))
        for number, user in enumerate(
            (f"mounted on {point}", "used as swap", f"held by /dev/mapper/{group}-v",
             f"held by {array}"), 1
        ):  # fmt: skip
            error = shell.fails("vol-delete", f"{name}{number}", "p")
            assert f"device '{disk}{number}' is in use: {user}" in error
        shell.ok("pool-destroy", "p")
        for command in (("pool-build", "p", "--overwrite"), ("pool-delete", "p")):
            assert f"device '{disk}1' is in use: mounted on {point}" in shell.fails(*command)
        assert len(partitions(disk)) == 4
    shell.ok("pool-delete", "p")
    assert not os.path.exists(f"{disk}1")


@contextmanager
def md(device: str) -> Iterator[str]:
    """An array of one device."""
    array = "/dev/md127"
    run("mdadm", "--create", array, "--run", "--force", "--level=1", "--raid-devices=1",
        "--metadata=1.2", device)  # fmt: skip
    try:
        devices.settle()
        yield array
    finally:
        devices.settle()
        run("mdadm", "--stop", array)
        devices.settle()


def test_free_extents_and_stable_paths(shell: Shell, disk: str) -> None:
    """A volume is in one free extent, and known by the link that udev keeps for it."""
    name = os.path.basename(disk)
    define(shell, disk, "gpt", target="/dev/disk/by-id")
    shell.ok("pool-build", "p")
    shell.ok("pool-start", "p")
    run("parted", "-s", disk, *(
        word for at in (1, 20, 40) for word in ("mkpart", "x", f"{at}MiB", f"{at + 10}MiB")
    ))  # fmt: skip
    devices.settle()
    shell.ok("vol-delete", f"{name}2", "p")
    pool = shell.ok("pool-dumpxml", "p")
    free = extents(pool, "freeExtent")
    holes = [end - start for start, end in free if end - start > MiB]
    assert len(holes) == 2
    assert f"<available unit='bytes'>{sum(end - start for start, end in free)}</available>" in pool
    wanted = str(max(holes) + MiB)
    assert int(wanted) < sum(holes)
    with unchanged(disk):
        assert "no large enough free extent" in shell.fails(
            "vol-create-as", "p", f"{name}2", wanted
        )
    link = shell.ok("vol-path", f"{name}1", "p").strip()
    assert os.path.dirname(link) == "/dev/disk/by-id"
    assert os.path.realpath(link) == f"{disk}1"
    assert shell.ok("vol-name", link).strip() == f"{name}1"
    assert shell.ok("vol-name", f"{disk}1").strip() == f"{name}1"
    shell.ok("vol-delete", link)
    assert not os.path.lexists(link)


def test_loop_disk(shell: Shell) -> None:
    with devices.loop() as device:
        life(shell, device, f"{device}p1")


def test_multipath_disk(shell: Shell) -> None:
    with devices.multipath() as path:
        life(shell, path.device, f"{path.device}-part1")


def test_nvme_disk(shell: Shell) -> None:
    with devices.nvme() as device:
        links = [entry.path for entry in os.scandir("/dev/disk/by-path")]
        (link,) = (path for path in links if os.path.realpath(path) == device)
        life(shell, device, f"{device}p1", f"{link}-part1")


def life(shell: Shell, device: str, node: str, path: str = "") -> None:
    define(shell, device, "dos", target=os.path.dirname(path or node))
    shell.ok("pool-build", "p")
    shell.ok("pool-start", "p")
    name = os.path.basename(node)
    shell.ok("vol-create-as", "p", name, "8M")
    assert shell.ok("vol-path", name, "p").strip() == (path or node)
    assert int(run("blockdev", "--getsize64", node)) == 8 * MiB
    shell.ok("vol-delete", name, "p")
    assert not os.path.exists(node)
    shell.ok("pool-destroy", "p")
    shell.ok("pool-delete", "p")
    shell.ok("pool-undefine", "p")
    with open(device, "rb") as stream:
        assert stream.read(MiB) == bytes(MiB)


def test_bad_input_changes_nothing(shell: Shell, disk: str) -> None:
    name = os.path.basename(disk)
    assert "unknown pool format type ext4" in shell.fails(
        "pool-define-as", "p", "disk", "--source-dev", disk, "--source-format", "ext4",
        "--target", "/dev"
    )  # fmt: skip
    define(shell, "/dev/nosuch", "dos")
    for command, words in {
        ("pool-build", "p"): "Failed to create filesystem probe for device /dev/nosuch",
        ("pool-build", "p", "--overwrite"): "'/dev/nosuch': No such file or directory",
        ("pool-start", "p"): "device path '/dev/nosuch' doesn't exist",
        ("pool-delete", "p"): "'/dev/nosuch': No such file or directory",
    }.items():
        assert words in shell.fails(*command)
    shell.ok("pool-undefine", "p")
    define(shell, disk, "dos")
    assert "Storage source conflict with pool: 'p'" in shell.fails(
        "pool-define-as", "q", "fs", "--source-dev", disk, "--target", "/mnt"
    )
    with unchanged(disk):
        with without("parted"):
            error = shell.fails("pool-build", "p")
            assert "Cannot find 'parted' in path" in error
            assert "hint: install the package parted" in error
        error = shell.as_nobody_fails("pool-build", "p", "--overwrite")
        assert "a pool of type disk is built by root only" in error
        assert "is unrecognized, requires build" in shell.fails("pool-start", "p")
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk)
    with devices.mounted(disk):
        assert "mounted on" in shell.fails("pool-build", "p", "--overwrite")
    with unchanged(disk):
        assert "forced overwrite is necessary" in shell.fails("pool-build", "p")
        assert "does not match the expected format 'dos'" in shell.fails("pool-start", "p")
    shell.ok("pool-build", "p", "--overwrite")
    shell.ok("pool-start", "p")
    # parted fails when the partition is made already
    with unchanged(disk), broken("parted", '[[ "$*" = *mkpart* ]] && "$real" "$@"'):
        assert "broken on purpose" in shell.fails("vol-create-as", "p", f"{name}1", "8M")
    assert not os.path.exists(f"{disk}1")
    shell.ok("vol-create-as", "p", f"{name}1", "8M")
    with unchanged(disk), broken("parted", '[[ "$*" = *" rm "* ]]'):
        assert "broken on purpose" in shell.fails("vol-delete", f"{name}1", "p")
    # another table than the definition says
    shell.ok("pool-destroy", "p")
    run("parted", "-s", disk, "mklabel", "gpt")
    with unchanged(disk):
        assert "does not match the expected format 'dos'" in shell.fails("pool-start", "p")
