"""Logical pools on real volume groups, from definition to deletion."""

from __future__ import annotations

import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB, run
from shell import Shell, broken, unchanged, without

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "root")


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


def start_of(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(3 * MiB)


def test_life(shell: Shell, tmp_path: Path) -> None:
    with ExitStack() as stack:
        paths = [stack.enter_context(devices.loop()) for _ in range(3)]
        group = "lab.v-g+1"
        stack.enter_context(devices.group_removed(group, *paths))
        define(shell, group, *paths)
        assert f"<path>/dev/{group}</path>" in shell.ok("pool-dumpxml", "p")
        assert (
            f"unsupported configuration: cannot find logical volume group name '{group}'"
            in shell.fails("pool-start", "p")
        )
        shell.ok("pool-build", "p")
        assert labels() == dict.fromkeys(paths, group)
        assert "already formatted using 'LVM2_member'" in shell.fails("pool-build", "p")
        shell.ok("pool-start", "p")
        # nothing in it, so nothing below /dev
        assert shell.state("p") == "running"
        assert not os.path.exists(f"/dev/{group}")
        assert shell.volumes("p") == {}

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
        assert start_of(f"/dev/{group}/copy") == content

        shell.ok("vol-create-as", "p", "snap", "12M", "--backing-vol", "a.b-c+d",
                 "--allocation", "12M")  # fmt: skip
        xml = shell.ok("vol-dumpxml", "snap", "p")
        assert f"<path>{path}</path>" in xml.partition("<backingStore>")[2]
        assert "snapshot" in shell.fails("vol-create-as", "p", "s2", "4M", "--backing-vol", "snap")
        assert "has snapshots, which would be lost: snap" in shell.fails(
            "vol-delete", "a.b-c+d", "p"
        )
        error = shell.fails("vol-create-as", "p", "thin", "64M", "--allocation", "4M")
        assert f"needs a thin pool, and volume group '{group}' has none\nhint: leave" in error
        shell.ok("vol-delete", "snap", "p")
        shell.ok("vol-wipe", "copy", "p")
        assert start_of(f"/dev/{group}/copy") == bytes(3 * MiB)

        shell.ok("vol-resize", "copy", "20M", "--pool", "p")
        assert "20.00 MiB" in shell.ok("vol-info", "copy", "p")
        shell.ok("vol-resize", "copy", "19M", "--pool", "p")
        assert "Not enough space left in storage pool\nhint: " in shell.fails(
            "vol-resize", "copy", "4G", "--pool", "p"
        )
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
        assert start_of(path) == content
        shell.ok("pool-destroy", "p")
        shell.ok("pool-delete", "p")
        assert labels() == {}
        assert groups() == []
        shell.ok("pool-undefine", "p")


def test_by_name_alone_and_from_a_folder(shell: Shell, tmp_path: Path) -> None:
    with devices.loop() as device, devices.volume_group(device) as group:
        shell.ok("pool-define-as", group, "logical")
        shell.ok("pool-start", group)
        folder = tmp_path / "images"
        folder.mkdir()
        shell.ok("pool-create-as", "d", "dir", "--target", str(folder))
        with open(folder / "raw", "wb") as stream:
            stream.truncate(8 * MiB)
            stream.seek(5 * MiB)
            stream.write(b"here")
        run("qemu-img", "create", "-q", "-f", "qcow2", str(folder / "q"), "8M")
        shell.ok("vol-create-from", group, write(tmp_path, "v", 8 * MiB), "raw", "--inputpool", "d")
        status = os.stat(f"/dev/{group}/v")
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 7, 8)
        with open(f"/dev/{group}/v", "rb") as stream:
            stream.seek(5 * MiB)
            assert stream.read(4) == b"here"
        shell.ok("vol-create-from", group, write(tmp_path, "q", 8 * MiB), "q", "--inputpool", "d")
        assert shell.ok("vol-list", group).count(f"/dev/{group}/") == 2
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
        run("lvcreate", "-y", "-n", "long", "-l", "8", group, f"{one}:20-23", f"{two}:20-23")
        run("lvcreate", "-y", "-n", "off", "-an", "-Zn", "-L", "4M", group)
        define(shell, group, one)
        shell.ok("pool-start", "p")
        run("lvchange", "-an", f"{group}/off")
        # a snapshot of a thin volume is not activated unless asked for
        assert [*shell.volumes("p")] == ["long", "mirror", "raid", "stripe", "thin"]
        run("lvchange", "-ay", "-K", f"{group}/thinsnap")
        xml = shell.ok("vol-dumpxml", "thinsnap", "p")
        assert f"<path>/dev/{group}/thin</path>" in xml.partition("<backingStore>")[2]
        xml = shell.ok("vol-dumpxml", "stripe", "p")
        assert re.findall(r"<device path='(.*)'>\s*<extent start='(\d+)' end='(\d+)'/>", xml) == [
            (one, "0", str(4 * MiB)),
            (two, "0", str(4 * MiB)),
        ]
        for name in ("long", "mirror", "raid"):
            xml = shell.ok("vol-dumpxml", name, "p")
            assert re.findall("<device path='(.*)'>", xml) == [one, two]
        xml = shell.ok("vol-dumpxml", "thin", "p")
        assert "<capacity unit='bytes'>67108864</capacity>" in xml
        assert "<allocation unit='bytes'>0</allocation>" in xml
        with open(f"/dev/{group}/thin", "wb") as stream:
            stream.write(b"x" * (4 * MiB))
            os.fsync(stream.fileno())
        assert "4.00 MiB" in shell.ok("vol-info", "thin", "p")
        shown = shell.ok("status", "p")
        for device in (one, two):
            assert f"\n  {device}  124.0 MiB\n" in shown
        for name in ("stripe 4.0 MiB", "raid_rimage_0", "pool_tdata", ". free "):
            assert name in shown
        shell.ok("vol-resize", "thin", "80M", "--pool", "p")
        assert "thin pool 'pool' has 12582912 bytes left" in shell.fails("vol-wipe", "thin", "p")
        shell.ok("vol-create-as", "p", "mine", "32M", "--allocation", "0")
        assert run("lvs", "--noheadings", "-o", "pool_lv", f"{group}/mine").strip() == "pool"
        with open(f"/dev/{group}/mine", "rb"):
            error = shell.fails("vol-rename", "mine", "yours", "p")
            assert re.search(r"logical volume 'mine' is in use: process \d+ \(", error)
        assert "storage volume 'off' exists already" in shell.fails(
            "vol-rename", "mine", "off", "p"
        )
        # LVM knows an origin whatever its name is
        shell.ok("vol-create-as", "p", "of-mine", "38M", "--backing-vol", "mine")
        assert "Vol mine renamed to yours\n" in shell.ok("vol-rename", "mine", "yours", "p")
        xml = shell.ok("vol-dumpxml", "of-mine", "p")
        assert f"<path>/dev/{group}/yours</path>" in xml.partition("<backingStore>")[2]
        assert f"<capacity unit='bytes'>{40 * MiB}</capacity>" in xml
        shell.ok("vol-delete", "yours", "p")
        assert "of-mine" in active(group)
        shell.ok("vol-resize", "stripe", "16M", "--pool", "p")
        assert "16.00 MiB" in shell.ok("vol-info", "stripe", "p")
        shell.ok("pool-destroy", "p")
        assert active(group) == []


def field(name: str, volume: str) -> str:
    """Return what LVM shows of a volume."""
    return run("lvs", "--noheadings", "-o", name, volume).strip()


def test_s38_an_external_origin_is_not_deleted(shell: Shell) -> None:
    """LVM would remove the thin volumes that read from it, in whatever way they came to it."""
    with ExitStack() as stack:
        device = stack.enter_context(devices.loop(128 * MiB))
        group = stack.enter_context(devices.volume_group(device))
        run("lvcreate", "-y", "-n", "pool", "--type", "thin-pool", "-L", "16M", group)
        for name in ("turned", "plain"):
            run("lvcreate", "-y", "-n", name, "-L", "4M", group)
        thin = ("--thinpool", f"{group}/pool")
        run("lvconvert", "-y", "--type", "thin", *thin, "--originname", "base", f"{group}/turned")
        run("lvcreate", "-y", "-n", "copy", "-kn", "-s", f"{group}/turned")
        run("lvchange", "-y", "-an", "-pr", f"{group}/plain")
        run("lvcreate", "-y", "-n", "of-plain", "-kn", "-s", *thin, f"{group}/plain")
        define(shell, group, device)
        shell.ok("pool-start", "p")
        made = ["base", "copy", "of-plain", "plain", "turned"]
        assert [*shell.volumes("p")] == made

        def refused(name: str, lost: str) -> None:
            saying = f"logical volume '{name}' has snapshots, which would be lost: {lost}\n"
            assert saying in shell.fails("vol-delete", name, "p")

        refused("base", "turned")
        refused("plain", "of-plain")
        assert [*shell.volumes("p")] == made
        shell.ok("vol-delete", "turned", "p")
        refused("base", "copy")
        for name in ("copy", "base", "of-plain", "plain"):
            shell.ok("vol-delete", name, "p")
        assert shell.volumes("p") == {}
        shell.ok("pool-destroy", "p")


def test_s38_a_snapshot_survives_a_wipe_of_its_origin(shell: Shell) -> None:
    """One that LVM lets grow no further does; one of its origin's size would not."""
    with ExitStack() as stack:
        device = stack.enter_context(devices.loop(128 * MiB))
        group = stack.enter_context(devices.volume_group(device))
        run("vgchange", "-s", "128K", group)
        run("lvcreate", "-y", "-n", "v", "-L", "8M", group)
        origin = f"/dev/{group}/v"
        for name, words in {"same": ("-L", "8M"), "all": ("-L", "64M")}.items():
            run("lvcreate", "-y", "-n", name, *words, "-s", origin)
        define(shell, group, device)
        shell.ok("pool-start", "p")
        lost = "'v' has snapshots, which would be lost: same\n"
        assert lost in shell.fails("vol-wipe", "v", "p")
        run("dd", "if=/dev/urandom", f"of=/dev/{group}/all", "bs=1M", "count=3", "oflag=direct")
        with unchanged(f"/dev/{group}/all"):
            # what the refusal is for
            run("dd", "if=/dev/urandom", f"of={origin}", "bs=1M", "count=8", "oflag=direct")
            devices.wait_for("it is lost", lambda: field("lv_attr", f"{group}/same")[4] == "I")
            assert lost in shell.fails("vol-wipe", "v", "p")
            run("lvremove", "-f", f"{group}/same")
            shell.ok("vol-wipe", "v", "p")
        assert field("lv_attr", f"{group}/all")[4] == "a"
        with open(origin, "rb") as stream:
            assert stream.read() == bytes(8 * MiB)
        shell.ok("pool-destroy", "p")


def test_s38_a_shared_block_takes_another_when_it_is_wiped(shell: Shell) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(devices.loop(128 * MiB))
        group = stack.enter_context(devices.volume_group(device))
        run("lvcreate", "-y", "-n", "pool", "--type", "thin-pool", "-L", "12M", group)
        run("lvcreate", "-y", "-n", "thin", "-V", "8M", "--thinpool", "pool", group)
        path = f"/dev/{group}/thin"
        run("dd", "if=/dev/urandom", f"of={path}", "bs=1M", "count=8", "oflag=direct")
        define(shell, group, device)
        shell.ok("pool-start", "p")
        shell.ok("vol-create-as", "p", "copy", "8M", "--backing-vol", "thin")
        with unchanged(path, f"/dev/{group}/copy"):
            error = shell.fails("vol-wipe", "thin", "p")
            assert re.search(r"thin pool 'pool' has 419\d{4} bytes left, too few", error), error
        run("lvextend", "-L", "20M", f"{group}/pool")
        with unchanged(f"/dev/{group}/copy"):
            shell.ok("vol-wipe", "thin", "p")
        assert float(field("data_percent", f"{group}/pool")) == 80
        shell.ok("vol-delete", "copy", "p")
        shell.ok("vol-wipe", "thin", "p")
        shell.ok("pool-destroy", "p")


def test_open_volumes_stop_nothing(shell: Shell) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(devices.loop(128 * MiB))
        group = stack.enter_context(devices.volume_group(device))
        for name in ("held", "mounted", "free"):
            run("lvcreate", "-y", "-n", name, "-L", "20M", group)
        define(shell, group, device)
        shell.ok("pool-start", "p")
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
            assert "has open logical volumes" in shell.fails("pool-delete", "p")
        assert groups() == [group]
        run("vgchange", "-an", group)
        devices.settle()


def test_missing_device(shell: Shell) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(devices.loop())
        file = stack.enter_context(devices.sparse_file(64 * MiB))
        group = "labpartial"
        stack.enter_context(devices.group_removed(group, one))
        with devices.loop_file(file) as two:
            run("vgcreate", "-q", "-y", group, one, two)
            run("lvcreate", "-y", "-n", "whole", "-L", "8M", group)
            define(shell, group, one, two)
            shell.ok("pool-start", "p")
            shell.ok("pool-destroy", "p")
            devices.settle()
        for command in ("pool-start", "pool-delete"):
            assert "is not complete: 1 of its devices is missing" in shell.fails(command, "p")
        assert shell.state("p") == "inactive"
        assert "lacks 1 of its devices" in shell.run("doctor", "p").stdout
        assert groups() == [group]
        # on the device that is left, so others can use it
        run("vgchange", "-ay", "--activationmode", "partial", group)
        assert "p      inactive" in shell.ok("pool-list", "--all", "--details")
        run("vgchange", "-an", group)
        devices.settle()


def test_group_gone_while_running(shell: Shell) -> None:
    with devices.loop() as device, devices.volume_group(device) as group:
        define(shell, group, device)
        shell.ok("pool-start", "p")
        run("vgremove", "-ff", "-y", group)
        assert shell.state("p") == "inactive"
        assert "cannot find logical volume group name" in shell.fails("pool-start", "p")


def test_build_refuses_and_gives_back(shell: Shell) -> None:
    """The second of three devices fails, for one reason after another."""
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(devices.loop()) for _ in range(3))
        small = stack.enter_context(devices.loop(1 * MiB))
        stack.enter_context(devices.group_removed("labbuild", one, two, three))
        define(shell, "labbuild", one, two, three)
        with without("vgcreate"), unchanged(one, two, three):
            error = shell.fails("pool-build", "p")
            assert "Cannot find 'vg" in error
            assert "hint: install the package lvm2" in error
        with broken("pvcreate", f'[[ "$0 $*" = *"pvcreate {two}" ]]'):
            assert "broken on purpose" in shell.fails("pool-build", "p")
        assert labels() == {}
        with broken("vgcreate", '[[ "$0" = *vgcreate ]]'):
            assert "broken on purpose" in shell.fails("pool-build", "p", "--overwrite")
        assert labels() == {}
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", two)
        with unchanged(one, two, three):
            assert "forced overwrite is necessary" in shell.fails("pool-build", "p")
        with devices.mounted(two), unchanged(one, two, three):
            assert "mounted on" in shell.fails("pool-build", "p", "--overwrite")
        assert "Storage source conflict with pool: 'p'" in shell.fails(
            "pool-define-as", "q", "logical", "--source-dev", two, "--source-name", "other"
        )
        shell.ok("pool-undefine", "p")
        with unchanged(one, two, three):
            assert "a pool of type logical is started by root only" in shell.as_nobody_fails(
                "pool-create-as", "p", "logical", "--source-dev", one, "--source-name", "labbuild",
                "--build", "--overwrite"
            )  # fmt: skip
        define(shell, "labbuild", one, small, three)
        assert shell.fails("pool-build", "p", "--overwrite")
        assert labels() == {}
        shell.ok("pool-undefine", "p")
        define(shell, "labbuild", one, "/dev/nosuch", three)
        with unchanged(one, three):
            assert "/dev/nosuch" in shell.fails("pool-build", "p")
        shell.ok("pool-undefine", "p")
        define(shell, "labbuild", one, two, three)
        with devices.volume_group(two, name="labother"), unchanged(one, two, three):
            error = shell.fails("pool-build", "p", "--overwrite")
            assert "part of volume group 'labother'" in error
        shell.ok("pool-build", "p", "--overwrite")
        shell.ok("pool-build", "p", "--overwrite")
        shell.ok("pool-undefine", "p")
        define(shell, "labbuild", one)
        with unchanged(one, two, three):
            assert f"has not: {two}, {three}" in shell.fails("pool-delete", "p")


def test_foreign_and_exported(shell: Shell) -> None:
    with devices.loop() as device, devices.volume_group(device) as group:
        define(shell, group, device)
        run("vgexport", group)
        for command in ("pool-start", "pool-delete"):
            assert "is exported" in shell.fails(command, "p")
        found = shell.run("doctor", "p")
        assert (found.status, found.stderr) == (1, "")
        assert f"    mend: vgimport {group}\n" in found.stdout
        run("vgimport", group)
        assert "Nothing is wrong with 1 pool" in shell.ok("doctor", "p")
        run("vgchange", "-y", "--systemid", "elsewhere", group)
        config = ("--config", 'global{system_id_source="lvmlocal"} local{system_id="elsewhere"}')
        try:
            for command in ("pool-start", "pool-delete"):
                assert "belongs to another machine" in shell.fails(command, "p")
            assert "belongs to another machine" in shell.run("doctor", "p").stdout
            shell.ok("pool-list", "--all")
        finally:
            run("vgchange", *config, "-y", "--systemid", "", group)


def test_commands_that_fail_leave_no_volume(shell: Shell) -> None:
    with devices.loop() as device, devices.volume_group(device) as group:
        run("lvcreate", "-y", "-n", "v", "-L", "8M", group)
        assert "unknown pool format type ext4" in shell.fails(
            "pool-define-as", "p", "logical", "--source-name", group, "--source-format", "ext4"
        )
        define(shell, group, device)
        with broken("vgchange", '[[ "$0" = *vgchange ]]'):
            assert "broken on purpose" in shell.fails("pool-start", "p")
        assert "is started by root only" in shell.as_nobody_fails("pool-start", "p")
        assert shell.state("p") == "inactive"
        shell.ok("pool-start", "p")
        # the volume is there when the tool fails
        with broken("lvcreate", '[[ "$0" = *lvcreate ]] && (exec -a lvcreate "$real" "$@")'):
            assert shell.fails("vol-create-as", "p", "w", "4M")
        assert active(group) == ["v"]
        # somebody else is quicker, and keeps what is theirs
        with broken("lvcreate", '[[ "$0" = *lvcreate ]] && ! (exec -a lvcreate "$real" "$@")'):
            assert "already exists" in shell.fails("vol-create-as", "p", "w", "4M")
        assert active(group) == ["v", "w"]
        shell.ok("vol-delete", "w", "p")
        for tool, command in {
            "lvremove": ("vol-delete", "v", "p"),
            "lvextend": ("vol-resize", "v", "12M", "--pool", "p"),
            "lvreduce": ("vol-resize", "v", "4M", "--pool", "p", "--shrink"),
            "vgchange": ("pool-destroy", "p"),
        }.items():
            with broken(tool, f'[[ "$0" = *{tool} ]]'), unchanged(device):
                assert "broken on purpose" in shell.fails(*command)
        assert active(group) == ["v"]
        shell.ok("pool-destroy", "p")


def test_who_uses_it(shell: Shell, tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    with devices.loop() as path, devices.volume_group(path) as group:
        define(shell, group, path)
        shell.ok("pool-start", "p")
        shell.ok("vol-create-as", "p", "v", "16M")
        node = f"/dev/{group}/v"
        devices.settle()
        assert shell.ok("-q", "pool-used-by", "p") == ""
        run("mkfs.ext4", "-q", node)
        run("mount", node, str(place))
        devices.settle()
        try:
            for words in (("vol-used-by", "v", "p"), ("pool-used-by", "p")):
                assert shell.ok("-q", *words).split() == ["mount", str(place), node]
        finally:
            run("umount", str(place))
        shell.ok("pool-define-as", "q", "fs", "--source-dev", node, "--target", "/q")
        assert shell.ok("-q", "pool-used-by", "p").split() == ["pool", "q", "(inactive)", node]
        shell.ok("pool-destroy", "p")


def test_s62_volumes_are_there_and_gone(shell: Shell) -> None:
    """What a create has answered is there, what a delete has answered is gone; also of three."""
    with devices.loop() as device, devices.volume_group(device) as group:
        define(shell, group, device)
        shell.ok("pool-start", "p")
        nodes = {name: f"/dev/{group}/{name}" for name in ("a", "b", "c")}
        for _ in range(3):
            shell.ok("vol-create-as", "p", "a", "4M")
            assert is_block(nodes["a"])
            shell.ok("vol-delete", "a", "p")
            assert not os.path.lexists(nodes["a"])
        for after, line in (
            (True, ("vol-create-as", "p", "{}", "4M")),
            (False, ("vol-delete", "{}", "p")),
        ):
            words = {name: [word.format(name) for word in line] for name in nodes}
            with ThreadPoolExecutor() as racers:
                answers = racers.map(lambda line: shell.process(*line), words.values())
                done = dict(zip(nodes, answers, strict=True))
            for name, node in nodes.items():
                assert (done[name].returncode, done[name].stderr) == (0, ""), done
                assert is_block(node) == os.path.lexists(node) == after
        shell.ok("pool-destroy", "p")


def is_block(path: str) -> bool:
    return os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode)
