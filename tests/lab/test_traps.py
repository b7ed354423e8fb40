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
from shell import Shell, digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRAPS, COMMANDS = (
    "traps for devices",
    "commands in them that are refused with every device as before",
)


class Trap(Shell):
    """Shell whose refusals change nothing."""

    def refused(
        self,
        *words: str,
        lost: tuple[str, ...],
        saying: str = "",
        before: dict[str, object] | None = None,
    ) -> None:
        """Run a command that is refused; `before` is the picture, where that is known."""
        before = before or picture(lost)
        definitions = self.definitions()
        with tally.counted(COMMANDS):
            said = self.fails(*words)
            assert saying in said, (words, said)
            assert picture(lost) == before, words
            assert self.definitions() == definitions

    def definitions(self) -> dict[str, str]:
        paths = glob.glob(f"{self.root}/etc/**/*.*", recursive=True)
        return {path: digest(path) for path in paths}

    def define(self, kind: str, device: str, name: str = "p") -> None:
        if kind == "fs":
            self.ok("pool-define-as", name, "fs", "--source-dev", device, "--source-format", "ext4",
                    "--target", f"{self.root}/mnt")  # fmt: skip
        elif kind == "disk":
            self.ok("pool-define-as", name, "disk", "--source-dev", device, "--source-format",
                    "gpt", "--target", "/dev")  # fmt: skip
        else:
            self.ok("pool-define-as", name, "logical", "--source-dev", device, "--source-name",
                    f"vg-{name}")  # fmt: skip

    def never_built(
        self, device: str, lost: tuple[str, ...], saying: str, kinds: str = "fs disk logical"
    ) -> None:
        """Pools of these types are not built on a device, even where that is forced."""
        before = picture(lost)
        for kind in kinds.split():
            self.define(kind, device)
            commands = [("pool-build", "p", "--overwrite"), ("pool-delete", "p")]
            for words in commands if kind == "disk" else commands[:1]:
                self.refused(*words, lost=lost, saying=saying, before=before)
            self.ok("pool-undefine", "p")


def picture(lost: tuple[str, ...]) -> dict[str, object]:
    """Return all that a refused command must not have changed."""
    devices.settle()
    return {
        **devices.snapshot(),
        "block devices": run("lsblk", "-n", "-o", "NAME,MAJ:MIN,SIZE,TYPE,MOUNTPOINTS"),
        "groups": run("vgs", "--foreign", "-o", "vg_uuid,vg_seqno,pv_name"),
        "content": {device: digest(device) for device in lost},
    }


@pytest.fixture
def trap(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trap]:
    failed = request.session.testsfailed
    tally.tried[TRAPS] += 1
    yield Trap(tmp_path / "root")
    tally.survived[TRAPS] += request.session.testsfailed == failed


# S34: held by something else


def test_s34_a_physical_volume_of_an_active_group(trap: Trap) -> None:
    with devices.loop() as device, devices.volume_group(device) as group:
        run("lvcreate", "-y", "-n", "lv", "-L", "8M", group)
        trap.never_built(device, (device,), f"is in use: held by /dev/mapper/{group}-lv")


def test_s34_a_physical_volume_of_a_group_at_rest(trap: Trap) -> None:
    """Nothing holds the device; it has all of somebody's volumes."""
    with devices.loop() as device, devices.volume_group(device) as group:
        run("lvcreate", "-y", "-n", "lv", "-L", "8M", group)
        run("vgchange", "-an", group)
        devices.settle()
        trap.never_built(device, (device,), f"is in use: part of volume group '{group}'")


def test_s34_a_disk_with_a_physical_volume_of_a_group_at_rest(trap: Trap) -> None:
    with devices.loop() as disk:
        run("parted", "-s", disk, "mklabel", "gpt", "mkpart", "a", "1MiB", "60MiB")
        devices.settle()
        part = f"{disk}p1"
        with devices.volume_group(part) as group:
            saying = f"device '{part}' is in use: part of volume group '{group}'"
            trap.never_built(disk, (disk,), saying, "fs disk")
            trap.never_built(part, (disk,), "is in use", "fs disk logical")


@contextmanager
def mapped(device: str) -> Iterator[str]:
    name = f"lab{os.getpid()}"
    run("dmsetup", "create", name, "--table", f"0 65536 linear {device} 2048")
    devices.settle()
    try:
        yield f"/dev/mapper/{name}"
    finally:
        devices.settle()
        run("dmsetup", "remove", "--retry", name)


def test_s34_a_device_below_a_map(trap: Trap) -> None:
    with devices.loop() as device, mapped(device) as upper:
        trap.never_built(device, (device,), f"is in use: held by {upper}")


def test_s34_a_map_that_is_mounted(trap: Trap) -> None:
    """By its name, by the dm-N below it, and by the device that it is on."""
    with devices.loop() as device, mapped(device) as upper:
        run("mkfs.ext4", "-q", upper)
        with devices.mounted(upper, options="ro"):
            for path in (upper, os.path.realpath(upper), device):
                trap.never_built(path, (device,), "is in use: ", "fs disk")


def test_s34_an_open_luks_device(trap: Trap) -> None:
    with devices.loop() as device:
        run("cryptsetup", "luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations",
            "1000", device, stdin="secret")  # fmt: skip
        name = f"lab{os.getpid()}"
        run("cryptsetup", "open", device, name, stdin="secret")
        try:
            devices.settle()
            trap.never_built(device, (device,), f"is in use: held by /dev/mapper/{name}")
        finally:
            devices.settle()
            run("cryptsetup", "close", name)


def test_s34_a_raid_member(trap: Trap) -> None:
    """A running array holds its members."""
    with devices.loop() as one, devices.loop() as two:
        run("mdadm", "--create", "/dev/md127", "--run", "--assume-clean", "--metadata=1.2",
            "--level=1", "--raid-devices=2", one, two)  # fmt: skip
        try:
            devices.settle()
            trap.never_built(one, (one, two), "is in use: held by /dev/md127")
        finally:
            # udev puts a stopped array together again
            run("udevadm", "control", "--stop-exec-queue")
            try:
                run("mdadm", "--stop", "/dev/md127")
                run("mdadm", "--zero-superblock", one, two)
            finally:
                run("udevadm", "control", "--start-exec-queue")
            devices.settle()


def test_s34_a_path_of_a_multipath_map(trap: Trap) -> None:
    with devices.multipath() as multipath:
        for path in multipath.paths:
            saying = f"is in use: held by {multipath.device}"
            trap.never_built(path, (multipath.device,), saying, "fs disk")


# The identity of devices


@contextmanager
def two_disks() -> Iterator[tuple[devices.ScsiHost, devices.ScsiHost]]:
    """Two SCSI disks with data of their own."""
    with devices.scsi_debug(2, per_host_store=1) as (one, two):
        yield one, two


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


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


def test_s38_volumes_of_two_groups_with_one_name(trap: Trap) -> None:
    with devices.loop() as one, devices.loop() as two, ExitStack() as stack:
        for device, name in ((one, "ours"), (two, "theirs")):
            stack.enter_context(devices.volume_group(device, name=name))
            run("lvcreate", "-y", "-n", "same", "-L", "8M", name)
        trap.ok(
            "pool-create-as", "p", "logical", "--source-name", "ours", "--target", "/dev/theirs"
        )
        before = digest(two)
        trap.ok("vol-wipe", "same", "p")
        trap.ok("vol-delete", "same", "p")
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


def test_s35_the_disk_of_the_running_system(trap: Trap, tmp_path: Path) -> None:
    """Through its name, a link, a link to a link; the host seam would let no test write to it."""
    source = run("findmnt", "-n", "-o", "SOURCE", "/").strip()
    assert source.startswith("/dev/"), source
    link, other = tmp_path / "by-id", tmp_path / "by-path"
    link.symlink_to(source)
    other.symlink_to(link)
    for path in (source, str(link), str(other), *glob.glob(f"/dev/block/{number(source)}")):
        trap.never_built(path, (), "is in use: mounted on /")


def number(device: str) -> str:
    value = os.stat(device).st_rdev
    return f"{os.major(value)}:{os.minor(value)}"


# iSCSI: S46, S47


def test_s47_what_was_written_last_is_on_the_server(trap: Trap) -> None:
    """The kernel writes what is left at the last close, and an open LUN is not taken away."""
    with devices.iscsid(), devices.iscsi_target() as target:
        trap.ok("pool-define-as", "p", "iscsi", "--source-host", "127.0.0.1", "--source-dev",
                target.iqn, "--target", "/dev/disk/by-path")  # fmt: skip
        try:
            trap.ok("pool-start", "p")
            content = os.urandom(4 * MiB)
            with open(target.by_path(1), "r+b", buffering=0) as file:
                file.write(content)
                trap.refused("pool-destroy", "p", lost=(), saying=f"process {os.getpid()}")
            trap.ok("pool-destroy", "p")
            assert devices.sessions() == []
            trap.ok("pool-start", "p")
            with open(target.by_path(1), "rb") as file:
                assert file.read(4 * MiB) == content
            trap.ok("pool-destroy", "p")
        finally:
            devices.logout(target)


def test_s34_a_lun_in_a_map_is_not_logged_out(trap: Trap) -> None:
    with devices.iscsid(), devices.iscsi_target(size=64 * MiB) as target:
        trap.ok("pool-define-as", "p", "iscsi", "--source-host", "127.0.0.1", "--source-dev",
                target.iqn, "--target", "/dev/disk/by-path")  # fmt: skip
        try:
            trap.ok("pool-start", "p")
            lun = os.path.realpath(target.by_path(1))
            with mapped(lun) as upper:
                trap.refused("pool-destroy", "p", lost=(lun,), saying=f"held by {upper}")
                trap.never_built(lun, (lun,), f"held by {upper}", "fs disk")
            trap.ok("pool-destroy", "p")
        finally:
            devices.logout(target)
