"""The lab works: one test for each kind of device that other tests build on."""

from __future__ import annotations

import os
from contextlib import ExitStack

import devices
import pytest
import tracer
from devices import MiB, run

SECRET = ("lab", "secret-of-lab")

# what makes each file system, the least size of its device, and how it is mounted
MADE = {
    "ext2": (["mkfs.ext2", "-q"], 16, ""),
    "ext3": (["mkfs.ext3", "-q"], 16, ""),
    "ext4": (["mkfs.ext4", "-q"], 16, ""),
    "xfs": (["mkfs.xfs", "-q"], 320, ""),
    "btrfs": (["mkfs.btrfs", "-q"], 128, ""),
    "vfat": (["mkfs.vfat"], 16, ""),
    "udf": (["mkudffs", "--blocksize=512"], 16, ""),
    "gfs2": (["mkfs.gfs2", "-q", "-O", "-p", "lock_nolock", "-j", "1", "-J", "8"], 64, ""),
    "ocfs2": (["mkfs.ocfs2", "-q", "-M", "local", "-J", "size=4M", "-F"], 64, ""),
}
# what makes an image of a folder, for those that nothing here can make on a device
COPIED = {
    "iso9660": ("iso9660", ["genisoimage", "-quiet", "-r", "-o"], ""),
    "ufs": ("ufs", ["makefs", "-t", "ffs", "-s", "1m", "-o", "version=1"], "ufstype=44bsd"),
    "hfsplus": ("hfsplus", ["xorriso", "-as", "mkisofs", "-quiet", "-hfsplus", "-o"], ""),
}


def test_s28_the_tracer_sees_arguments_and_environments() -> None:
    """What looks for secrets during all of the lab's tests."""
    watching = tracer.Tracer()
    run("sh", "-c", "sleep 0.5; :", "probe-in-arguments")
    run("env", "PROBE=probe-in-environment", "sleep", "0.5")
    watching.stop()
    assert watching.leaks({"probe-in-nothing"}) == []
    (found,) = watching.leaks({"probe-in-arguments"})
    assert "probe-in-arguments in the arguments of " in found
    found = watching.leaks({"probe-in-environment"})
    assert any(" in the environment of " in line and line.endswith("sleep 0.5 ") for line in found)


@pytest.mark.parametrize("kind", MADE)
def test_file_system(kind: str) -> None:
    make, size_mib, options = MADE[kind]
    with devices.loop(size_mib * MiB) as device:
        run(*make, device)
        with devices.mounted(device, kind, options) as point:
            write(f"{point}/file", kind)
        with devices.mounted(device, kind, "ro") as point:
            assert devices.read(f"{point}/file") == kind


@pytest.mark.parametrize("kind", COPIED)
def test_read_only_file_system(kind: str) -> None:
    mount_kind, make, options = COPIED[kind]
    with devices.folder() as folder:
        source, image = f"{folder}/source", f"{folder}/image"
        os.mkdir(source)
        write(f"{source}/file", kind)
        run(*make, image, source)
        with devices.loop_file(image, "--read-only") as device:
            comma = "," if options else ""
            with devices.mounted(device, mount_kind, f"ro{comma}{options}") as point:
                assert devices.read(f"{point}/file") == kind


def test_loop_has_partitions() -> None:
    with devices.loop() as device:
        run("parted", "-s", device, "mklabel", "gpt", "mkpart", "one", "1MiB", "8MiB")
        devices.settle()
        assert os.path.exists(f"{device}p1")


@pytest.mark.parametrize("sector", [512, 4096])
def test_loop_has_the_sector_size(sector: int) -> None:
    with devices.loop(sector=sector) as device:
        assert run("blockdev", "--getss", device).strip() == str(sector)


def test_volume_group() -> None:
    with devices.loop() as one, devices.loop() as two, devices.volume_group(one, two) as group:
        run("lvcreate", "-y", "-W", "n", "-n", "linear", "-L", "8M", group)
        run("lvcreate", "-y", "-n", "pool", "--type", "thin-pool", "-L", "16M", group)
        run("lvcreate", "-y", "-n", "thin", "-V", "64M", "--thinpool", "pool", group)
        run("lvcreate", "-y", "-n", "snap", "-s", "-L", "4M", f"{group}/linear")
        run("lvcreate", "-y", "-W", "n", "-n", "mirror", "-m", "1", "-L", "4M", group)
        names = run("lvs", "--noheadings", "-o", "lv_name", group).split()
        assert sorted(names) == ["linear", "mirror", "pool", "snap", "thin"]
        assert os.path.exists(f"/dev/{group}/thin")


def test_scsi_debug() -> None:
    with devices.scsi_debug(hosts=2, targets=2, luns=2, per_host_store=1) as hosts:
        assert [len(host.disks) for host in hosts] == [4, 4]
        assert devices.scsi_debug_hosts() == [host.name for host in hosts]
        links = [os.path.realpath(entry) for entry in os.scandir("/dev/disk/by-id")]
        assert set(hosts[0].disks) <= set(links)


def test_scsi_disk_has_partitions() -> None:
    with devices.scsi_debug(size=256 * MiB) as (host,):
        (disk,) = host.disks
        run("parted", "-s", disk, "mklabel", "msdos", "mkpart", "primary", "1MiB", "64MiB")
        devices.settle()
        assert os.path.exists(f"{disk}1")


def test_multipath() -> None:
    with devices.multipath() as path:
        assert len(set(path.paths)) == 2
        assert path.name in devices.maps()
        shown = run("multipath", "-ll", path.name)
        assert all(f" {os.path.basename(disk)} " in shown for disk in path.paths)
        run("mkfs.ext4", "-q", path.device)
        with devices.mounted(path.device) as point:
            write(f"{point}/file", "x")


@pytest.mark.parametrize("version", ["3", "4", "4.2"])
def test_nfs(version: str) -> None:
    with devices.nfs_server(), devices.folder() as folder, devices.nfs_export(folder) as source:
        with devices.mounted(source, "nfs", f"vers={version},soft") as point:
            write(f"{point}/file", version)
            assert f"vers={version}" in run("findmnt", "-n", "-o", "OPTIONS", point)
        assert devices.read(f"{folder}/file") == version
        assert folder in run("showmount", "--exports", "--no-headers", "127.0.0.1")


@pytest.mark.parametrize("chap", [None, SECRET], ids=["open", "chap"])
def test_iscsi(chap: tuple[str, str] | None) -> None:
    with ExitStack() as stack:
        stack.enter_context(devices.iscsid())
        target = stack.enter_context(devices.iscsi_target(luns=3, chap=chap))
        if chap:
            with pytest.raises(devices.ToolError, match="authorization"):
                stack.enter_context(devices.iscsi_session(target, (chap[0], "a-wrong-secret")))
        stack.enter_context(devices.iscsi_session(target, chap))
        assert all(os.path.exists(target.by_path(lun)) for lun in (1, 2, 3))
        run("mkfs.ext4", "-q", target.by_path(2))


def test_libvirtd() -> None:
    with devices.libvirtd() as virsh, devices.folder() as folder:
        assert "Name" in run(*virsh, "pool-list")
        run(*virsh, "pool-create-as", "lab", "dir", "--target", folder)
        try:
            assert " lab " in run(*virsh, "pool-list")
        finally:
            run(*virsh, "pool-destroy", "lab")


def test_storagectl_is_the_wheel() -> None:
    import storagectl

    assert "site-packages" in storagectl.__file__
    run("storagectl", "pool-list")


def test_leak_is_seen() -> None:
    before = devices.snapshot()
    with devices.loop():
        assert devices.snapshot() != before
    assert devices.snapshot() == before


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
