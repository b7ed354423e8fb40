"""Traps that take LVM, RAID, device-mapper, multipath, iSCSI or SCSI disks, or a system to lose.

As tests/real/test_traps.py: each refusal leaves definitions, block devices, groups, mounts,
sessions and the hash of each device as before.
"""

from __future__ import annotations

import glob
import os
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import devices
import pytest
import tally
from devices import MiB, run
from shell import digest
from traps import TRAPS, Trap, mapped, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# The identity of devices


@contextmanager
def two_disks() -> Iterator[tuple[devices.ScsiHost, devices.ScsiHost]]:
    """Two SCSI disks with data of their own."""
    with devices.scsi_debug(2, per_host_store=1) as (one, two):
        yield one, two


def name_disks(*order: tuple[devices.ScsiHost, str]) -> None:
    """Have the kernel find the disks of hosts anew, in an order, as at another boot."""
    for _, disk in order:
        write(f"/sys/block/{os.path.basename(disk)}/device/delete", "1")
    devices.settle()
    for host, disk in order:
        write(f"/sys/class/scsi_host/{host.name}/scan", "- - -")
        devices.wait_for(disk, partial(os.path.exists, disk))
        devices.settle()
        assert devices.scsi_disks(host.name) == [disk]


@pytest.mark.parametrize("kind", ["fs", "disk"])
def test_a_renumbered_disk_is_refused(trap: Trap, kind: str) -> None:
    """S33: the names of two disks are exchanged; WWIDs tell which is which."""
    with two_disks() as (one, two):
        first, second = one.disks[0], two.disks[0]
        wwids = [devices.read(f"/sys/block/{os.path.basename(d)}/device/wwid")
                 for d in (first, second)]  # fmt: skip
        assert wwids[0] != wwids[1]
        trap.define(kind, first)
        trap.ok("pool-build", "p", *(["--no-overwrite"] * (kind == "fs")))
        run("mkfs.ext4", "-q", second)
        name_disks((two, first), (one, second))
        commands = [("pool-start", "p"), ("pool-build", "p", "--overwrite")]
        commands += [("pool-delete", "p")] * (kind == "disk")
        for words in commands:
            trap.refused(*words, lost=(first, second), saying=f"it was WWID {wwids[0]}, it is")
        document = os.path.join(trap.root, "p.xml")
        write(document, trap.ok("pool-dumpxml", "--inactive", "p"))
        trap.ok("pool-define", document)
        trap.ok("pool-build", "p", "--overwrite")
        name_disks((one, first), (two, second))
        trap.refused("pool-start", "p", lost=(first, second), saying=f"it was WWID {wwids[1]}")


def test_a_renumbered_disk_by_its_stable_name(trap: Trap) -> None:
    """A link that follows its disk is followed: the pool starts, and on the right disk."""
    with two_disks() as (one, two):
        first, second = one.disks[0], two.disks[0]
        number = os.stat(first).st_rdev
        links = [path for path in glob.glob("/dev/disk/by-id/*")
                 if os.stat(path).st_rdev == number]  # fmt: skip
        assert links
        trap.define("fs", links[0])
        trap.ok("pool-build", "p", "--no-overwrite")
        name_disks((two, first), (one, second))
        trap.ok("pool-start", "p")
        source = run("findmnt", "-n", "-o", "SOURCE", f"{trap.root}/mnt").strip()
        assert source == second
        trap.ok("pool-destroy", "p")


def test_another_group_of_that_name(trap: Trap) -> None:
    """S38: a group is known by its UUID."""
    with devices.loop() as one, devices.loop() as two:
        trap.define("logical", one)
        with devices.group_removed("vg-p", one, two):
            trap.ok("pool-build", "p")
            trap.ok("pool-start", "p")
            trap.ok("pool-destroy", "p")
            run("vgremove", "-q", "-y", "vg-p")
            run("vgcreate", "-q", "-y", "vg-p", one)
            for command in ("pool-start", "pool-delete"):
                saying = "'volume group vg-p' is not what pool 'p' was defined with: it was UUID"
                trap.refused(command, "p", lost=(one, two), saying=saying)


def test_s38_two_groups_of_one_name(trap: Trap) -> None:
    """As after a disk was copied or came from another machine: neither is started or removed."""
    with devices.loop() as one, devices.loop() as two, ExitStack() as stack:
        stack.enter_context(devices.volume_group(one, name="twin"))
        run("lvcreate", "-y", "-an", "-Zn", "-n", "lv", "-L", "8M", "twin")
        trap.ok("pool-define-as", "named", "logical", "--source-name", "twin")
        trap.ok("pool-define-as", "q", "logical", "--source-dev", two, "--source-name", "twin")
        # LVM makes no second group of a name that it knows
        run("vgcreate", "-q", "-y", "--devices", two, "twin", two)
        uuids = run("vgs", "--noheadings", "-o", "vg_uuid", "-S", "vg_name=twin").split()
        assert len(uuids) == 2
        stack.callback(remove_group, two)
        saying = "there are 2 volume groups with the name 'twin'"
        for pool in ("named", "q"):
            for command in ("pool-start", "pool-delete"):
                trap.refused(command, pool, lost=(one, two), saying=saying)
        trap.refused("pool-build", "q", "--overwrite", lost=(one, two), saying=saying)


def remove_group(device: str) -> None:
    only = ("--devices", device)
    run("vgremove", "-q", "-ff", "-y", *only, "twin")
    run("pvremove", "-q", "-ff", "-y", *only, device)


def test_s38_volumes_of_two_groups_with_one_name(trap: Trap) -> None:
    """Only that of the pool's group is written to, wherever the pool's target leads."""
    with devices.loop() as one, devices.loop() as two, ExitStack() as stack:
        for device, name in ((one, "ours"), (two, "theirs")):
            stack.enter_context(devices.volume_group(device, name=name))
            run("lvcreate", "-y", "-n", "same", "-L", "8M", name)
        trap.ok(
            "pool-create-as", "p", "logical", "--source-name", "ours", "--target", "/dev/theirs"
        )
        before = digest(two)
        for command in ("vol-wipe", "vol-delete"):
            with tally.counted(TRAPS):
                trap.ok(command, "same", "p")
                assert digest(two) == before
        assert os.path.exists("/dev/theirs/same")
        assert not os.path.exists("/dev/ours/same")
        trap.ok("pool-destroy", "p")


# Disks of guests


@pytest.mark.parametrize("looks", [False, True])
def test_a_group_inside_a_volume_is_a_guests(trap: Trap, looks: bool) -> None:
    """Also where LVM is told to look into volumes, for other reasons."""
    with (
        devices.loop(128 * MiB) as device,
        devices.volume_group(device) as group,
        ExitStack() as stack,
    ):
        run("lvcreate", "-y", "-n", "disk", "-L", "64M", group)
        disk = f"/dev/{group}/disk"
        scan = ("--config", "devices/scan_lvs=1")
        run("vgcreate", "-q", "-y", *scan, "guest", disk)
        run("lvcreate", "-y", "-an", "-Zn", "-n", "root", "-L", "8M", *scan, "guest")
        if looks:
            path = "/etc/lvm/lvmlocal.conf"
            with open(path) as file:
                before = file.read()
            stack.callback(write, path, before)
            write(path, before + "\ndevices {\n scan_lvs = 1\n}\n")
        found = trap.ok("find-storage-pool-sources", "logical")
        assert group in found
        assert "guest" not in found
        trap.ok("pool-define-as", "p", "logical", "--source-name", "guest")
        saying = (
            f"is inside logical volume '{group}-disk'" if looks else "cannot find logical volume"
        )
        trap.refused("pool-start", "p", lost=(device,), saying=saying)
        if looks:
            trap.refused("pool-delete", "p", lost=(device,), saying=saying)
        assert not os.path.exists("/dev/guest")


# S35: the disk of the running system


def test_s35_the_root_file_system(trap: Trap, tmp_path: Path) -> None:
    """Through its name, and a link to a link."""
    source = run("findmnt", "-n", "-o", "SOURCE", "/").strip()
    assert source.startswith("/dev/"), source
    link, other = tmp_path / "by-id", tmp_path / "by-path"
    link.symlink_to(source)
    other.symlink_to(link)
    for path in (source, str(other)):
        # the host seam would let no test write to it; that is not what refuses here
        trap.never_built(path, (), "is in use: mounted on /")


def test_s35_the_disk_that_is_booted_from(trap: Trap) -> None:
    """With /boot on one partition the firmware's own is kept too, and so is the table."""
    with devices.loop(32 * MiB) as disk:
        trap.define("disk", disk)
        trap.ok("pool-build", "p")
        trap.ok("pool-start", "p")
        boot, firmware, free, new = (f"{os.path.basename(disk)}p{n}" for n in range(1, 5))
        for part in (boot, firmware, free):
            trap.ok("vol-create-as", "p", part, "8M")
        run("sgdisk", "--typecode=2:ef00", disk)
        devices.settle()
        run("mkfs.vfat", f"/dev/{firmware}")
        run("mkfs.ext4", "-q", f"/dev/{boot}")
        run("mount", "-o", "ro", f"/dev/{boot}", "/boot")
        try:
            in_use = f"device '/dev/{boot}' is in use: mounted on /boot"
            the_table = f"the running system has '/boot' on disk '{disk}'"
            kept = f"'/dev/{firmware}' is the EFI system partition of the running system"
            trap.never_built(disk, (disk,), in_use)
            trap.never_built(f"/dev/{boot}", (disk,), in_use)
            trap.never_built(f"/dev/{firmware}", (disk,), kept)
            trap.volume_kept(boot, (disk,), wiped="resource busy", deleted=in_use)
            trap.volume_kept(firmware, (disk,), wiped=kept, deleted=kept)
            trap.refused("vol-delete", free, "p", lost=(disk,), saying=the_table)
            trap.refused("vol-create-as", "p", new, "4M", lost=(disk,), saying=the_table)
        finally:
            run("umount", "/boot")
        trap.ok("pool-destroy", "p")


# iSCSI: S46, S47


@contextmanager
def pool_of_luns(trap: Trap) -> Iterator[devices.Target]:
    with devices.iscsid(), devices.iscsi_target() as target:
        trap.ok("pool-define-as", "p", "iscsi", "--source-host", "127.0.0.1", "--source-dev",
                target.iqn, "--target", "/dev/disk/by-path")  # fmt: skip
        try:
            trap.ok("pool-start", "p")
            yield target
            if target.iqn in devices.sessions():
                trap.ok("pool-destroy", "p")
        finally:
            devices.logout(target)


def test_s47_what_was_written_last_is_on_the_server(trap: Trap, tmp_path: Path) -> None:
    """The kernel writes what is left at the last close, and an open LUN is not taken away."""
    with pool_of_luns(trap) as target:
        lun = target.by_path(1)
        content = os.urandom(4 * MiB)
        with open(lun, "r+b", buffering=0) as file:
            file.write(content)
            trap.refused("pool-destroy", "p", lost=(lun,), saying=f"process {os.getpid()}")
            file.seek(8 * MiB)
            file.write(content)
        trap.ok("pool-destroy", "p")
        assert devices.sessions() == []
        with open(target.files[0], "rb") as file:
            assert file.read(4 * MiB) == content
            file.seek(8 * MiB)
            assert file.read(4 * MiB) == content
        trap.ok("pool-start", "p")
        (tmp_path / "content").write_bytes(content)
        trap.ok("vol-upload", "unit:0:0:1", str(tmp_path / "content"), "p", "--offset", "16777216")
        trap.ok("pool-destroy", "p")
        with open(target.files[0], "rb") as file:
            file.seek(16 * MiB)
            assert file.read(4 * MiB) == content


def test_s34_a_lun_in_use_is_not_logged_out(trap: Trap) -> None:
    with pool_of_luns(trap) as target:
        lun = os.path.realpath(target.by_path(1))
        with mapped(lun) as upper:
            trap.refused("pool-destroy", "p", lost=(lun,), saying=f"held by {upper}")
            trap.never_built(lun, (lun,), f"held by {upper}", ("fs", "disk"))
            trap.volume_kept("unit:0:0:1", (lun,), wiped="resource busy")
        with devices.volume_group(lun) as group:
            run("lvcreate", "-y", "-n", "lv", "-L", "8M", group)
            held = f"held by /dev/mapper/{group}-lv"
            trap.refused("pool-destroy", "p", lost=(lun,), saying=held)
            trap.volume_kept("unit:0:0:1", (lun,), wiped="resource busy")
        run("parted", "-s", lun, "mklabel", "gpt", "mkpart", "vm", "1MiB", "9MiB")
        devices.settle()
        # as a virtual machine does, which claims nothing
        with open(f"{lun}1", "r+b"):
            held = f"is in use: process {os.getpid()}"
            trap.refused("pool-destroy", "p", lost=(lun,), saying=f"'{lun}1' {held}")
            trap.volume_kept("unit:0:0:1", (lun,), wiped=held)
