"""S34: devices that are in use, in each way that there is, and the commands that could lose them.

Those of one kind share a device, for in the guest each device takes seconds to make.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import devices
from devices import MiB, run
from swapping import swapped
from traps import Trap, mapped, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

# each refusal reads all of a device; btrfs needs as much, and the header of LUKS
SIZE = 40 * MiB
PART = 20 * MiB
# what the kernel answers to who wants a device for himself
BUSY = "Device or resource busy"


@contextmanager
def mounted(device: str) -> Iterator[str]:
    run("mkfs.ext4", "-q", device)
    with devices.mounted(device, options="ro") as point:
        yield f"mounted on {point}"


@contextmanager
def swap(device: str) -> Iterator[str]:
    with swapped(device):
        yield "used as swap"


@contextmanager
def opened(device: str, flags: int) -> Iterator[str]:
    descriptor = os.open(device, flags)
    try:
        yield f"process {os.getpid()} ("
    finally:
        os.close(descriptor)


def claimed(device: str) -> AbstractContextManager[str]:
    return opened(device, os.O_RDONLY | os.O_EXCL)


def written(device: str) -> AbstractContextManager[str]:
    """As a virtual machine does, which claims nothing."""
    return opened(device, os.O_RDWR)


@contextmanager
def looped(device: str) -> Iterator[str]:
    with devices.loop_file(device) as upper:
        yield f"attached to {upper}"


@contextmanager
def below_a_map(device: str) -> Iterator[str]:
    with mapped(device) as upper:
        yield f"held by {upper}"


@contextmanager
def unlocked(device: str) -> Iterator[str]:
    run("cryptsetup", "luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations",
        "1000", device, stdin="secret")  # fmt: skip
    name = f"lab{os.getpid()}"
    run("cryptsetup", "open", device, name, stdin="secret")
    try:
        devices.settle()
        yield f"held by /dev/mapper/{name}"
    finally:
        devices.settle()
        run("cryptsetup", "close", name)


@contextmanager
def in_an_array(device: str) -> Iterator[str]:
    with devices.loop(SIZE) as other:
        run("mdadm", "--create", "/dev/md127", "--run", "--assume-clean", "--metadata=1.2",
            "--level=1", "--raid-devices=2", device, other)  # fmt: skip
        try:
            devices.settle()
            yield "held by /dev/md127"
        finally:
            # udev puts a stopped array together again
            run("udevadm", "control", "--stop-exec-queue")
            try:
                run("mdadm", "--stop", "/dev/md127")
                run("mdadm", "--zero-superblock", device, other)
            finally:
                run("udevadm", "control", "--start-exec-queue")
            devices.settle()


@contextmanager
def in_a_group(device: str) -> Iterator[str]:
    with devices.volume_group(device) as group:
        run("lvcreate", "-y", "-n", "lv", "-L", "8M", group)
        yield f"held by /dev/mapper/{group}-lv"


@contextmanager
def in_a_group_at_rest(device: str) -> Iterator[str]:
    """Nothing holds the device; it has all of somebody's volumes."""
    with devices.volume_group(device) as group:
        # udev, which looks at the device a moment later, is not to start the volume again
        run("lvcreate", "-y", "--setautoactivation", "n", "-n", "lv", "-L", "8M", group)
        devices.settle()
        run("vgchange", "-an", group)
        devices.settle()
        yield f"part of volume group '{group}'"


@contextmanager
def in_a_btrfs(device: str) -> Iterator[str]:
    """What is mounted shows only one of its devices."""
    with devices.loop(SIZE) as other:
        run("mkfs.btrfs", "-q", "-f", "-M", "-m", "single", "-d", "single", other, device)
        with devices.mounted(other, options=f"ro,device={other},device={device}") as point:
            yield f"mounted on {point}"


USES: tuple[Callable[[str], AbstractContextManager[str]], ...] = (
    mounted, swap, claimed, written, looped, below_a_map, unlocked, in_an_array, in_a_group,
    in_a_group_at_rest, in_a_btrfs,
)  # fmt: skip


def test_s34_a_device_in_use(trap: Trap) -> None:
    with devices.loop(SIZE) as device:
        for use in USES:
            run("wipefs", "-q", "-a", device)
            with use(device) as who:
                trap.never_built(device, (device,), f"device '{device}' is in use: {who}")


def test_s34_a_partition_in_use(trap: Trap) -> None:
    """Neither it nor the disk is lost, and no volume is."""
    with devices.loop(24 * MiB) as disk:
        trap.define("disk", disk)
        trap.ok("pool-build", "p")
        trap.ok("pool-start", "p")
        part = f"{os.path.basename(disk)}p1"
        trap.ok("vol-create-as", "p", part, str(PART))
        for use in (mounted, swap, written, in_a_group):
            with use(f"/dev/{part}") as who:
                saying = f"is in use: {who}"
                trap.never_built(disk, (disk,), saying)
                trap.never_built(f"/dev/{part}", (disk,), saying)
                wiped = saying if use is written else BUSY
                trap.volume_kept(part, (disk,), wiped=wiped, deleted=saying)
        with in_a_group_at_rest(f"/dev/{part}") as who:
            trap.never_built(disk, (disk,), f"device '/dev/{part}' is in use: {who}")
        with claimed(disk) as who:
            trap.never_built(f"/dev/{part}", (disk,), f"is in use: {who}")
            trap.volume_kept(part, (disk,), wiped=BUSY, deleted=f"is in use: {who}")
        trap.ok("pool-destroy", "p")


def test_s34_a_logical_volume_in_use(trap: Trap) -> None:
    with devices.loop(SIZE) as device, devices.volume_group(device) as group:
        run("lvcreate", "-y", "-n", "v", "-L", f"{PART}b", group)
        path = f"/dev/{group}/v"
        trap.ok("pool-create-as", "p", "logical", "--source-name", group)
        for use in (mounted, written, below_a_map):
            with use(path) as who:
                wiped = who if use is written else BUSY
                trap.volume_kept("v", (device,), wiped=wiped, deleted=f"'v' is in use: {who}")
                before = picture((device,))
                for words, saying in (
                    (("vol-resize", "v", "8M", "p", "--shrink"), f"'v' is in use: {who}"),
                    (("vol-rename", "v", "w", "p"), f"'v' is in use: {who}"),
                    (("pool-destroy", "p"), f"open logical volumes: v ({who}"),
                ):
                    trap.refused(*words, lost=(device,), saying=saying, before=before)
                trap.never_built(path, (device,), f"is in use: {who}", ("fs",))
        run("lvcreate", "-y", "-s", "-n", "copy", "-L", "8M", f"{group}/v")
        saying = "'v' has snapshots, which would be lost: copy"
        for command in ("vol-delete", "vol-wipe"):
            trap.refused(command, "v", "p", lost=(device,), saying=saying)
        run("lvremove", "-y", f"{group}/copy")
        trap.ok("pool-destroy", "p")


def test_s34_a_map_that_is_mounted(trap: Trap) -> None:
    """By its name, and by the dm-N below it."""
    with devices.loop(SIZE) as device, mapped(device) as upper, mounted(upper) as who:
        for path in (upper, os.path.realpath(upper)):
            trap.never_built(path, (device,), f"is in use: {who}", ("fs", "disk"))


def test_s34_a_file_of_a_running_pool(trap: Trap) -> None:
    """A loop device is on it, and mounted: nobody writes to the file, the pool is not stopped."""
    with devices.loop(SIZE) as device, ExitStack() as stack:
        trap.define("fs", device)
        trap.ok("pool-start", "p", "--build", "--no-overwrite")
        stack.callback(trap.run, "pool-destroy", "p")
        trap.ok("vol-create-as", "p", "v", "16M")
        path = f"{trap.root}/mnt/v"
        with devices.loop_file(path) as upper, mounted(upper) as who:
            run("sync")
            trap.volume_kept("v", (upper,), wiped=f"file '{path}' is in use: {who}")
            trap.refused("vol-rename", "v", "w", "p", lost=(upper,), saying=who)
            trap.refused("pool-destroy", "p", lost=(upper,), saying=f"loop device {upper}")
            trap.never_built(upper, (upper,), f"is in use: {who}", ("fs", "disk"))
            trap.never_built(path, (upper,), f"is in use: {who}", ("fs",))
        trap.ok("pool-destroy", "p")


def test_s34_a_path_of_a_multipath_map(trap: Trap) -> None:
    with devices.multipath(SIZE) as multipath:
        for path in multipath.paths:
            saying = f"is in use: held by {multipath.device}"
            trap.never_built(path, (multipath.device,), saying, ("fs", "disk"))
        trap.ok("pool-create-as", "p", "mpath", "--target", "/dev/mapper")
        (volume,) = trap.volumes("p")
        with mounted(multipath.device):
            trap.volume_kept(volume, (multipath.device,), wiped=BUSY)
        trap.ok("pool-destroy", "p")
        host = os.path.realpath(f"/sys/block/{os.path.basename(multipath.paths[0])}/device")
        (name,) = [part for part in host.split("/") if part.startswith("host")]
        trap.ok("pool-create-as", "p", "scsi", "--adapter-name", name, "--target", "/dev")
        (volume,) = trap.volumes("p")
        trap.volume_kept(volume, (multipath.device,), wiped=BUSY)
        trap.ok("pool-destroy", "p")
