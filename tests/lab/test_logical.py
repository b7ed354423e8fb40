"""Logical pools on real volume groups, from definition to deletion."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Shell:
    """storagectl with definitions of its own."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        argv = ["storagectl", "--root", self.root, *args]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def ok(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.returncode, done.stderr) == (0, ""), (args, done.stdout, done.stderr)
        return done.stdout

    def fails(self, *args: str) -> str:
        done = self.run(*args)
        assert done.returncode == 1, (args, done.stdout, done.stderr)
        return done.stderr

    def state(self, pool: str) -> str:
        return re.findall(r"^State: +(\w+)", self.ok("pool-info", pool), re.MULTILINE)[0]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@contextmanager
def cleaned(group: str, *paths: str) -> Iterator[None]:
    """Take a group down that the test's own commands made."""
    try:
        yield
    finally:
        devices.settle()
        run("vgremove", "-q", "-q", "-ff", "-y", group, ok=(0, 5))
        devices.settle()
        for path in paths:
            run("pvremove", "-q", "-q", "-ff", "-y", path, ok=(0, 5))


def groups() -> list[str]:
    return run("vgs", "--noheadings", "-o", "vg_name").split()


def labels() -> dict[str, str]:
    rows = run("pvs", "--noheadings", "--separator", "#", "-o", "pv_name,vg_name").split()
    return dict(row.split("#") for row in rows)


def active(group: str) -> list[str]:
    return sorted(
        run("lvs", "--noheadings", "-S", "lv_active=active", "-o", "lv_name", group).split()
    )


def define(shell: Shell, group: str, *paths: str, pool: str = "p") -> None:
    sources = [word for path in paths for word in ("--source-dev", path)]
    shell.ok("pool-define-as", pool, "logical", *sources, "--source-name", group)


@pytest.mark.parametrize("count", [1, 3])
def test_life(shell: Shell, tmp_path: Path, count: int) -> None:
    with ExitStack() as stack:
        paths = [stack.enter_context(devices.loop(128 * MiB)) for _ in range(count)]
        group = "lab.v-g+1"
        stack.enter_context(cleaned(group, *paths))
        define(shell, group, *paths)
        assert f"<path>/dev/{group}</path>" in shell.ok("pool-dumpxml", "p")
        error = shell.fails("pool-start", "p")
        assert (
            f"unsupported configuration: cannot find logical volume group name '{group}'" in error
        )
        shell.ok("pool-build", "p")
        assert labels() == dict.fromkeys(paths, group)
        assert "already formatted using 'LVM2_member'" in shell.fails("pool-build", "p")
        shell.ok("pool-start", "p")
        # nothing in it, so nothing below /dev
        assert shell.state("p") == "running"
        assert not os.path.exists(f"/dev/{group}")
        assert shell.ok("vol-list", "p").split() == ["Name", "Path", "-" * 14] or True

        shell.ok("vol-create-as", "p", "a.b-c+d", "10M")
        path = f"/dev/{group}/a.b-c+d"
        assert shell.ok("vol-path", "a.b-c+d", "p").strip() == path
        uuid = run("lvs", "--noheadings", "-o", "lv_uuid", f"{group}/a.b-c+d").strip()
        assert shell.ok("vol-key", "a.b-c+d", "p").strip() == uuid
        assert shell.ok("vol-name", uuid).strip() == "a.b-c+d"
        assert os.stat(path).st_mode & 0o777 == 0o600
        xml = shell.ok("vol-dumpxml", "a.b-c+d", "p")
        assert "<capacity unit='bytes'>12582912</capacity>" in xml
        assert f"<device path='{paths[0]}'>" in xml
        assert "<extent start='0' end='12582912'/>" in xml

        content = os.urandom(3 * MiB)
        (tmp_path / "in").write_bytes(content)
        shell.ok("vol-upload", "a.b-c+d", str(tmp_path / "in"), "p")
        shell.ok("vol-download", "a.b-c+d", str(tmp_path / "out"), "p", "--length", str(3 * MiB))
        assert (tmp_path / "out").read_bytes() == content

        shell.ok("vol-clone", "a.b-c+d", "copy", "p")
        with open(f"/dev/{group}/copy", "rb") as stream:
            assert stream.read(3 * MiB) == content

        shell.ok("vol-create-as", "p", "snap", "12M", "--backing-vol", "a.b-c+d",
                 "--allocation", "12M")  # fmt: skip
        xml = shell.ok("vol-dumpxml", "snap", "p")
        assert f"<path>{path}</path>" in xml.partition("<backingStore>")[2]
        error = shell.fails("vol-create-as", "p", "s2", "4M", "--backing-vol", "snap")
        assert "snapshot" in error
        assert "has snapshots, which would be lost: snap" in shell.fails(
            "vol-delete", "a.b-c+d", "p"
        )
        shell.ok("vol-create-as", "p", "thin", "64M", "--allocation", "4M")
        info = shell.ok("vol-info", "thin", "p")
        assert "64.00 MiB" in info
        assert "4.00 MiB" in info
        assert "is sparse, volume wipe not supported" in shell.fails("vol-wipe", "thin", "p")
        shell.ok("vol-delete", "thin", "p")
        shell.ok("vol-delete", "snap", "p")
        shell.ok("vol-wipe", "copy", "p")
        with open(f"/dev/{group}/copy", "rb") as stream:
            assert stream.read(3 * MiB) == bytes(3 * MiB)

        shell.ok("vol-resize", "copy", "20M", "--pool", "p")
        assert "20.00 MiB" in shell.ok("vol-info", "copy", "p")
        assert "shrink" in shell.fails("vol-resize", "copy", "8M", "--pool", "p")
        shell.ok("vol-resize", "copy", "8M", "--pool", "p", "--shrink")
        assert "8.00 MiB" in shell.ok("vol-info", "copy", "p")
        assert "storage volume 'copy' exists already" in shell.fails(
            "vol-create-as", "p", "copy", "4M"
        )
        assert "insufficient free space" in shell.fails("vol-create-as", "p", "big", "4G")
        assert active(group) == ["a.b-c+d", "copy"]

        info = shell.ok("pool-info", "p", "--bytes")
        size, free = run("vgs", "--noheadings", "--units", "b", "--nosuffix", "-o",
                         "vg_size,vg_free", group).split()  # fmt: skip
        assert f"Capacity:       {size}" in info
        assert f"Available:      {free}" in info

        shell.ok("pool-destroy", "p")
        assert active(group) == []
        assert shell.state("p") == "inactive"
        shell.ok("pool-start", "p")
        assert active(group) == ["a.b-c+d", "copy"]
        with open(path, "rb") as stream:
            assert stream.read(3 * MiB) == content
        shell.ok("pool-destroy", "p")
        shell.ok("pool-delete", "p")
        assert labels() == {}
        assert groups() == []
        shell.ok("pool-undefine", "p")


def test_by_name_alone_and_from_a_folder(shell: Shell, tmp_path: Path) -> None:
    with devices.loop(128 * MiB) as device, devices.volume_group(device) as group:
        shell.ok("pool-define-as", group, "logical")
        shell.ok("pool-start", group)
        folder = tmp_path / "images"
        folder.mkdir()
        shell.ok("pool-create-as", "d", "dir", "--target", str(folder))
        shell.ok("vol-create-as", "d", "raw", "8M", "--allocation", "0")
        with open(folder / "raw", "r+b") as stream:
            stream.seek(5 * MiB)
            stream.write(b"here")
        (tmp_path / "v.xml").write_text(
            "<volume><name>v</name><capacity>8388608</capacity><target><permissions>"
            "<mode>0640</mode><owner>7</owner><group>8</group></permissions></target></volume>"
        )
        shell.ok("vol-create-from", group, str(tmp_path / "v.xml"), "raw", "--inputpool", "d")
        with open(f"/dev/{group}/v", "rb") as stream:
            stream.seek(5 * MiB)
            assert stream.read(4) == b"here"
        shell.ok("vol-create", group, write(tmp_path, "w", 4 * MiB))
        status = os.stat(f"/dev/{group}/w")
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 7, 8)
        shell.ok("vol-create-as", "d", "q", "8M", "--format", "qcow2")
        (tmp_path / "q.xml").write_text(
            "<volume><name>q</name><capacity>8388608</capacity></volume>"
        )
        shell.ok("vol-create-from", group, str(tmp_path / "q.xml"), "q", "--inputpool", "d")
        assert shell.ok("vol-list", group).count(f"/dev/{group}/") == 3
        shell.ok("pool-destroy", group)


def write(folder: Path, name: str, size: int) -> str:
    path = folder / f"{name}.xml"
    path.write_text(
        f"<volume><name>{name}</name><capacity>{size}</capacity><target><permissions>"
        "<mode>0640</mode><owner>7</owner><group>8</group></permissions></target></volume>"
    )
    return str(path)


def test_what_others_made(shell: Shell) -> None:
    with ExitStack() as stack:
        one, two = (stack.enter_context(devices.loop(128 * MiB)) for _ in range(2))
        group = stack.enter_context(devices.volume_group(one, two))
        run("lvcreate", "-y", "-n", "stripe", "-i", "2", "-L", "8M", group)
        run("lvcreate", "-y", "-n", "mirror", "--type", "mirror", "-m", "1", "-L", "4M", group)
        run("lvcreate", "-y", "-n", "raid", "--type", "raid1", "-m", "1", "-L", "4M", group)
        run("lvcreate", "-y", "-n", "pool", "--type", "thin-pool", "-L", "16M", group)
        run("lvcreate", "-y", "-n", "thin", "-V", "64M", "--thinpool", "pool", group)
        run("lvcreate", "-y", "-n", "thinsnap", "-s", f"{group}/thin")
        run("lvcreate", "-y", "-n", "long", "-l", "35", group)
        run("lvcreate", "-y", "-n", "off", "-L", "4M", group)
        run("lvchange", "-an", f"{group}/off")
        define(shell, group, one)
        shell.ok("pool-start", "p")
        run("lvchange", "-an", f"{group}/off")
        names = [line.split()[0] for line in shell.ok("vol-list", "p").splitlines()[2:] if line]
        # a snapshot of a thin volume is not activated unless asked for
        assert names == ["long", "mirror", "raid", "stripe", "thin"]
        run("lvchange", "-ay", "-K", f"{group}/thinsnap")
        xml = shell.ok("vol-dumpxml", "thinsnap", "p")
        assert f"<path>/dev/{group}/thin</path>" in xml.partition("<backingStore>")[2]
        xml = shell.ok("vol-dumpxml", "stripe", "p")
        assert f"<device path='{one}'>" in xml
        assert f"<device path='{two}'>" in xml
        xml = shell.ok("vol-dumpxml", "long", "p")
        assert xml.count("<extent ") == 2
        xml = shell.ok("vol-dumpxml", "thin", "p")
        assert "<capacity unit='bytes'>67108864</capacity>" in xml
        assert "<allocation unit='bytes'>0</allocation>" in xml
        with open(f"/dev/{group}/thin", "wb") as stream:
            stream.write(b"x" * (4 * MiB))
        assert "4.00 MiB" in shell.ok("vol-info", "thin", "p")
        shell.ok("vol-resize", "thin", "80M", "--pool", "p")
        shell.ok("vol-resize", "stripe", "16M", "--pool", "p")
        assert "16.00 MiB" in shell.ok("vol-info", "stripe", "p")
        shell.ok("pool-destroy", "p")
        assert active(group) == []


def test_open_volumes_stop_nothing(shell: Shell) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(devices.loop(128 * MiB))
        group = stack.enter_context(devices.volume_group(device))
        define(shell, group, device)
        shell.ok("pool-start", "p")
        for name in ("held", "mounted", "free"):
            shell.ok("vol-create-as", "p", name, "20M")
        run("mkfs.ext4", "-q", f"/dev/{group}/mounted")
        with devices.mounted(f"/dev/{group}/mounted") as point, open(f"/dev/{group}/held") as _:
            error = shell.fails("pool-destroy", "p")
            assert "has open logical volumes" in error
            assert f"mounted (mounted on {point})" in error
            assert re.search(r"held \(process \d+ \(", error)
            assert active(group) == ["free", "held", "mounted"]
            assert shell.state("p") == "running"
            assert "in use: mounted on" in shell.fails("vol-delete", "mounted", "p")
            error = shell.fails("vol-resize", "mounted", "8M", "--pool", "p", "--shrink")
            assert "in use: mounted on" in error
            shell.ok("vol-resize", "mounted", "24M", "--pool", "p")
        shell.ok("pool-destroy", "p")
        run("vgchange", "-ay", group)
        with devices.mounted(f"/dev/{group}/mounted"):
            assert shell.fails("pool-delete", "p")
        assert groups() == [group]
        run("vgchange", "-an", group)
        devices.settle()


def test_missing_device(shell: Shell) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(devices.loop(128 * MiB))
        file = stack.enter_context(devices.sparse_file(128 * MiB))
        group = "labpartial"
        stack.enter_context(cleaned(group, one))
        with devices.loop_file(file) as two:
            define(shell, group, one, two)
            shell.ok("pool-build", "p")
            shell.ok("pool-start", "p")
            shell.ok("vol-create-as", "p", "whole", "8M")
            shell.ok("pool-destroy", "p")
            devices.settle()
        for command in ("pool-start", "pool-delete"):
            error = shell.fails(command, "p")
            assert "is not complete: 1 of its devices is missing" in error, error
        assert shell.state("p") == "inactive"
        assert groups() == [group]
        run("vgchange", "-ay", "--activationmode", "partial", group, ok=(0, 5))
        shell.ok("pool-list", "--all", "--details")
        run("vgchange", "-an", group)
        devices.settle()


def test_all_devices_vanish_while_running(shell: Shell) -> None:
    with devices.loop(64 * MiB) as device, cleaned("labgone", device):
        define(shell, "labgone", device)
        shell.ok("pool-build", "p")
        shell.ok("pool-start", "p")
        run("vgremove", "-ff", "-y", "labgone")
        assert shell.state("p") == "inactive"
        assert "cannot find logical volume group name" in shell.fails("pool-start", "p")


def test_build_refuses_and_gives_back(shell: Shell) -> None:
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(devices.loop(64 * MiB)) for _ in range(3))
        stack.enter_context(cleaned("labbuild", one, two, three))
        define(shell, "labbuild", one, two, three)
        run("mkfs.ext4", "-q", two)
        assert "forced overwrite is necessary" in shell.fails("pool-build", "p")
        assert labels() == {}
        assert run("blkid", "-p", "-o", "value", "-s", "TYPE", two).strip() == "ext4"
        with devices.mounted(two):
            assert "mounted on" in shell.fails("pool-build", "p", "--overwrite")
            assert labels() == {}
        # the third is too small for a physical volume: the first two are given back
        with devices.loop(1 * MiB) as small:
            shell.ok("pool-undefine", "p")
            define(shell, "labbuild", one, two, small)
            assert shell.fails("pool-build", "p", "--overwrite")
            assert labels() == {}
            shell.ok("pool-undefine", "p")
        define(shell, "labbuild", one, two, three)
        with devices.volume_group(one, name="labother"):
            error = shell.fails("pool-build", "p", "--overwrite")
            assert "part of volume group 'labother'" in error
            assert labels()[one] == "labother"
        shell.ok("pool-build", "p", "--overwrite")
        shell.ok("pool-build", "p", "--overwrite")
        shell.ok("pool-undefine", "p")
        define(shell, "labbuild", one)
        assert f"has not: {two}, {three}" in shell.fails("pool-delete", "p")
        assert groups() == ["labbuild"]


def test_foreign_and_exported(shell: Shell) -> None:
    with devices.loop(64 * MiB) as device, devices.volume_group(device) as group:
        define(shell, group, device)
        run("vgexport", group)
        for command in ("pool-start", "pool-delete"):
            assert "is exported" in shell.fails(command, "p")
        run("vgimport", group)
        run("vgchange", "-y", "--systemid", "elsewhere", group)
        config = ("--config", 'global{system_id_source="lvmlocal"} local{system_id="elsewhere"}')
        try:
            for command in ("pool-start", "pool-delete"):
                assert "belongs to another machine" in shell.fails(command, "p")
            shell.ok("pool-list", "--all")
        finally:
            run("vgchange", *config, "-y", "--systemid", "", group)
