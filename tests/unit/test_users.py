"""Who uses a device, as sysfs tells it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fakehost import FakeHost
from fakekernel import FakeKernel

from storagectl.backends import devices, users

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_holders_by_the_names_that_people_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "SYS", str(tmp_path))
    disk = tmp_path / "devices/sda"
    for name in ("dm-0", "md127", "cciss!c0d0"):
        (disk / "holders" / name).mkdir(parents=True)
        (tmp_path / "class/block" / name).mkdir(parents=True)
    (tmp_path / "class/block/dm-0/dm").mkdir()
    (tmp_path / "class/block/dm-0/dm/name").write_text("vg-a--b\n")
    assert list(users.holders(str(disk))) == [
        ("/dev/cciss/c0d0", "holder"),
        ("/dev/mapper/vg-a--b", "device-mapper"),
        ("/dev/md127", "holder"),
    ]


def test_partitions_are_told_by_sysfs_and_not_by_their_names(tmp_path: Path) -> None:
    for name in ("sda2", "sda1", "queue", "sdaa"):
        (tmp_path / name).mkdir()
    for name in ("sda1", "sda2"):
        (tmp_path / name / "partition").touch()
    assert list(users.partitions(str(tmp_path))) == ["/dev/sda1", "/dev/sda2"]


def test_a_device_of_a_mounted_btrfs_that_the_mount_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeKernel(tmp_path, monkeypatch)
    names = ("sda", "sdb", "sdc")
    monkeypatch.setattr(devices, "identity", lambda path: (0, names.index(path[5:])))
    monkeypatch.setattr(devices, "device_number", lambda path: os.makedev(8, names.index(path[5:])))
    for minor, name in enumerate(names):
        kernel.add(name, f"8:{minor}")
    for name in names[:2]:
        (kernel.sys / "fs/btrfs/1234/devices" / name).mkdir(parents=True)
    kernel.mount("0:50", "/dev/sda", "/srv")
    files = users.Files(FakeHost(files={"/proc/self/mountinfo": ""}))
    for name in names[:2]:
        assert users.of_paths(files, [f"/dev/{name}"]).uses == [
            users.Use("mount", "/srv", f"/dev/{name}")
        ]
    assert users.of_paths(files, ["/dev/sdc"]).uses == []


def test_mounts_that_only_another_name_space_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name spaces are looked at once, and what ours has is not told again."""
    monkeypatch.setattr(devices, "PROC", str(tmp_path))
    line = "36 35 {} / {} rw - ext4 /dev/sda1 rw\n"
    same = line.format("8:1", "/srv")
    for process, space, text in (
        ("self", "mnt:[1]", same),
        ("10", "mnt:[1]", same + line.format("8:1", "/not-looked-at")),
        ("11", "mnt:[2]", same + line.format("8:1", "/in/side") + line.format("8:2", "/x")),
        ("12", "mnt:[2]", line.format("8:1", "/looked-at-already")),
        ("13", "mnt:[3]", line.format("8:1", "/in/side")),
    ):
        folder = tmp_path / process
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/mnt").symlink_to(space)
        (folder / "mountinfo").write_text(text)
        (folder / "comm").write_text("qemu (x)\n")
    ours = users.parse_mountinfo(same)
    assert list(users.elsewhere({"8:1": "/dev/sda1"}, ours)) == [
        users.Use(
            "mount", "/in/side in the name space of 11 (qemu (x))", "/dev/sda1", 11, "qemu (x)"
        )
    ]
    assert list(users.elsewhere({}, ours)) == []


def test_what_a_server_that_is_silent_has_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks at it waits for ever."""
    dead, link = tmp_path / "dead mount", tmp_path / "link"
    dead.mkdir()
    (dead / "file").touch()
    link.symlink_to(dead / "file")
    mounts = ("36 35 0:50 / {} rw - nfs4 nas:/x rw\n37 35 8:1 / / rw - ext4 /dev/sda1 rw\n").format(
        str(dead).replace(" ", r"\040")
    )
    host = FakeHost(files={"/proc/self/mountinfo": mounts})
    asked: list[str] = []

    def responds(path: str) -> bool:
        asked.append(path)
        return False

    monkeypatch.setattr(host, "responds", responds)
    files = users.Files(host)
    monkeypatch.setattr(os.path, "realpath", lambda path: 1 / 0)
    assert files.identity(str(dead / "file")) is None
    assert files.identity(str(dead / "file"), str(link)) is None
    assert files.real(str(dead)) == str(dead)
    assert asked == [str(dead)] * 3
    assert files.identity(f"{dead}er") is None  # there is none
    assert files.identity(str(tmp_path)) == devices.identity(str(tmp_path))
    assert asked == [str(dead)] * 3
