"""What tells devices apart, which of them the system is on, and which a test may change."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import pytest
from fakehost import FakeHost
from fakekernel import FakeKernel

from storagectl.backends import devices, identity, in_use, system
from storagectl.errors import OperationDenied, ResourceBusy
from storagectl.host import permitted

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = {
    "/dev/sda": "8:0", "/dev/sda1": "8:1", "/dev/sda2": "8:2", "/dev/sdb": "8:16",
    "/dev/nvme0n1": "259:0", "/dev/nvme0n1p2": "259:2", "/dev/nvme0n1p22": "259:22",
    "/dev/mmcblk0": "179:0", "/dev/mmcblk0p3": "179:3",
    "/dev/loop0": "7:0", "/dev/loop0p1": "259:30", "/dev/vda": "254:0",
    "/dev/cciss/c0d0": "104:0", "/dev/cciss/c0d0p1": "104:1",
    "/dev/mapper/mpatha": "253:0", "/dev/mapper/mpathap1": "253:1", "/dev/mapper/vg-root": "253:2",
    "/dev/md0": "9:0",
}  # fmt: skip


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    numbers = {path: devices.dev_number(text) for path, text in NUMBERS.items()}
    monkeypatch.setattr(devices, "device_number", numbers.get)
    return FakeKernel(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("disk", "part", "index"),
    [
        ("sda", "sda2", 2),
        ("nvme0n1", "nvme0n1p2", 2),
        ("nvme0n1", "nvme0n1p22", 22),
        ("mmcblk0", "mmcblk0p3", 3),
        ("loop0", "loop0p1", 1),
        ("cciss!c0d0", "cciss!c0d0p1", 1),
    ],
)
def test_s37_partitions_are_found_in_sysfs(
    kernel: FakeKernel, disk: str, part: str, index: int
) -> None:
    whole, path = (f"/dev/{name.replace('!', '/')}" for name in (disk, part))
    kernel.add(disk, NUMBERS[whole], device_wwid="naa.5000")
    # its name tells nothing: the number is the kernel's
    kernel.add(f"{disk}/{part}", NUMBERS[path], partition=str(index), start="2048", size="16")
    found = devices.kernel_partition(path)
    assert found is not None
    assert (found.number, found.disk) == (index, devices.dev_number(NUMBERS[whole]))
    assert devices.kernel_partition(whole) is None
    known = identity.of(FakeHost(), path, content=False)
    assert known == {"WWID": "naa.5000", "partition": str(index)}


def test_s37_a_partition_that_device_mapper_made(kernel: FakeKernel) -> None:
    kernel.add("dm-0", "253:0", dm_uuid="mpath-3600", dm_name="mpatha")
    part = kernel.add("dm-1", "253:1", dm_uuid="part1-mpath-3600", dm_name="mpathap1")
    os.mkdir(f"{part}/slaves/dm-0")
    found = devices.kernel_partition("/dev/mapper/mpathap1")
    assert found == devices.KernelPartition(1, devices.dev_number("253:0"), None, None)
    known = identity.of(FakeHost(), "/dev/mapper/mpathap1", content=False)
    assert known == {"map": "part1-mpath-3600"}


def test_hardware_is_asked_first(kernel: FakeKernel) -> None:
    kernel.add("nvme0n1", "259:0", wwid="eui.0025", device_serial=" S4EW  ")
    kernel.add("vda", "254:0", serial="abc")
    kernel.add("loop0", "7:0", loop_backing="x")
    host = FakeHost()
    assert identity.of(host, "/dev/nvme0n1", content=False) == {
        "WWID": "eui.0025", "serial number": "S4EW",
    }  # fmt: skip
    assert identity.of(host, "/dev/vda", content=False) == {"serial number": "abc"}
    assert identity.of(host, "/dev/nowhere", content=False) == {}


class Case(NamedTuple):
    known: dict[str, str]
    now: dict[str, str]
    same: bool


@pytest.mark.parametrize(
    "case",
    [
        Case({"WWID": "a"}, {"WWID": "a"}, True),
        Case({"WWID": "a"}, {"WWID": "b"}, False),
        Case({"WWID": "a", "serial number": "1"}, {"WWID": "a"}, True),
        Case({"WWID": "a", "serial number": "1"}, {"WWID": "a", "serial number": "2"}, False),
        Case({"WWID": "a", "partition": "1"}, {"WWID": "a", "partition": "2"}, False),
        # what said who it is does so no more: another one
        Case({"WWID": "a"}, {"UUID": "x"}, False),
        Case({"WWID": "a"}, {}, False),
        Case({"UUID": "x"}, {"UUID": "x", "WWID": "a"}, True),
        Case({"UUID": "x"}, {"UUID": "y"}, False),
        Case({"UUID": "x", "PART_ENTRY_UUID": "p"}, {"UUID": "y", "PART_ENTRY_UUID": "p"}, True),
    ],
)
def test_what_is_the_same(case: Case, tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.write_bytes(b"x")
    empty.write_bytes(bytes(4096))
    assert identity.is_same(str(full), case.known, case.now) is case.same


def test_what_is_known_by_its_content_and_empty_is_nobodys(tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.write_bytes(b"x")
    empty.write_bytes(bytes(4096))
    assert identity.is_same(str(empty), {"UUID": "x"}, {})
    assert not identity.is_same(str(full), {"UUID": "x"}, {})


# S35: what the system is on


def test_s35_the_system_is_found_through_maps_and_arrays(kernel: FakeKernel) -> None:
    whole = kernel.add("sda", "8:0")
    boot = kernel.add("sda/sda1", "8:1", partition="1")
    member = kernel.add("sda/sda2", "8:2", partition="2")
    spare = kernel.add("sdb", "8:16")
    array = kernel.add("md0", "9:0")
    root = kernel.add("dm-2", "253:2", dm_name="vg-root", dm_uuid="LVM-1")
    os.mkdir(f"{root}/slaves/md0")
    os.mkdir(f"{array}/slaves/sda2")
    kernel.mount("253:2", "/dev/mapper/vg-root", "/")
    kernel.mount("8:1", "/dev/sda1", "/boot")
    kernel.mount("8:16", "/dev/sdb", "/srv")
    assert {system.use_by_system(folder) for folder in (root, array, member, whole)} == {"'/'"}
    assert system.use_by_system(boot) == "'/boot'"
    assert system.use_by_system(spare) is None
    with pytest.raises(ResourceBusy, match="the running system has '/' on disk '/dev/sda'"):
        system.require_other_disk("/dev/sda")
    system.require_other_disk("/dev/sdb")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI system"), ("0xef", "EFI system"),
     ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"), ("0x83", ""), ("", "")],
)  # fmt: skip
def test_s35_what_the_system_boots_from(kernel: FakeKernel, kind: str, words: str) -> None:
    kernel.add("sda", "8:0")
    kernel.add("sda/sda1", "8:1", partition="1")
    kernel.add("sda/sda2", "8:2", partition="2")
    kernel.mount("8:2", "/dev/sda2", "/")
    argv = ["blkid", "--probe", "--match-tag", "PART_ENTRY_TYPE", "--output", "value", "/dev/sda1"]
    with FakeHost((argv, f"{kind}\n", 0 if kind else 2)) as host:
        if words:
            with pytest.raises(ResourceBusy, match=f"'/dev/sda1' is the {words} partition"):
                system.require_not_for_boot(host, "/dev/sda1")
        else:
            system.require_not_for_boot(host, "/dev/sda1")


def test_other_namespaces_are_looked_into(kernel: FakeKernel) -> None:
    folder = kernel.add("sdb", "8:16")
    for pid, namespace in (("self", "mnt:[1]"), ("10", "mnt:[1]"), ("11", "mnt:[2]")):
        place = kernel.proc / pid
        (place / "ns").mkdir(parents=True)
        (place / "ns/mnt").symlink_to(namespace)
        (place / "comm").write_text("guest\n")
    (kernel.proc / "11/mountinfo").write_text("40 20 8:16 / /inside rw - ext4 /dev/sdb rw\n")
    assert in_use.user_of_device(folder) == (
        "mounted on /inside in the mount namespace of process 11 (guest)"
    )


# STORAGECTL_TEST_DEVICES


class Node(NamedTuple):
    st_mode: int
    st_rdev: int


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that stand for block devices, called after their numbers."""
    real = os.stat

    def fake(path: str, **more: bool) -> object:
        major, _, minor = os.path.basename(path).partition("-")
        if str(path).startswith(f"{tmp_path}/dev/") and minor:
            real(path)
            return Node(stat.S_IFBLK, os.makedev(int(major), int(minor)))
        return real(path, **more)

    (tmp_path / "dev").mkdir()
    for name in ("8-0", "8-1", "8-16", "253-0", "253-1"):
        (tmp_path / "dev" / name).touch()
    (tmp_path / "dev" / "253-1").touch()
    monkeypatch.setattr(permitted.os, "stat", fake)
    return tmp_path / "dev"


def test_only_devices_that_are_listed(
    nodes: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permitted, "SYS", f"{kernel.sys}/dev/block")
    kernel.add("sda", "8:0")
    kernel.add("sda/sda1", "8:1", partition="1")
    kernel.add("sdb", "8:16")
    for name, below in (("dm-0", ["sda1"]), ("dm-1", ["sda1", "sdb"])):
        folder = kernel.add(name, f"253:{name[-1]}")
        for slave in below:
            os.symlink(f"{kernel.sys}/class/block/{slave}", f"{folder}/slaves/{slave}")

    def refused(listed: str) -> list[str]:
        monkeypatch.setenv("STORAGECTL_TEST_DEVICES", listed)
        found = []
        for node in sorted(nodes.iterdir()):
            try:
                permitted.require_all(["mkfs", "-q", f"file={node},size=4"], lambda argv: "")
                permitted.require(str(node))
            except OperationDenied:
                found.append(node.name)
        return found

    everything = ["253-0", "253-1", "8-0", "8-1", "8-16"]
    assert refused("") == everything
    assert refused(f"{nodes}/8-0") == ["253-1", "8-16"]
    assert refused(f"{nodes}/8-1") == ["253-1", "8-0", "8-16"]
    assert refused(f"/nowhere:{nodes}/8-*") == []


def test_groups_are_what_their_devices_are(nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGECTL_TEST_DEVICES", "")
    rows = f"  {nodes}/8-16\tvg\n  {nodes}/8-0\t\n"
    with pytest.raises(OperationDenied, match="8-16' is not one of STORAGECTL_TEST_DEVICES"):
        permitted.require_all(["/usr/sbin/vgremove", "-f", "vg"], lambda argv: rows)
    permitted.require_all(["/usr/sbin/vgremove", "-f", "other"], lambda argv: rows)


def test_what_is_unmounted_is_not_looked_at(nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server may be gone."""
    monkeypatch.setenv("STORAGECTL_TEST_DEVICES", "")
    with pytest.raises(OperationDenied):
        permitted.require_all(["mount", str(nodes / "8-0")], lambda argv: "")
    permitted.require_all(["/usr/bin/umount", "-f", str(nodes / "8-0")], lambda argv: "")
