"""Traps that take LVM, RAID, device-mapper, multipath, iSCSI or SCSI disks, or a system to lose.

As tests/real/test_traps.py: each refusal leaves definitions, block devices, groups, mounts,
sessions and the hash of each device as before.
"""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import devices
import pytest
import tally
from devices import run
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


# Disks of guests


# S35: the disk of the running system


def number(device: str) -> str:
    value = os.stat(device).st_rdev
    return f"{os.major(value)}:{os.minor(value)}"


# iSCSI: S46, S47
