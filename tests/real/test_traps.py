"""Traps: ways to lose a device that is not meant, each tried for real; none may be lost.

Every trap is refused in virsh's two lines while nothing changes: definitions, folders, mounts,
block devices, volume groups, sessions, and the hash of each device.  Those that need LVM, RAID,
multipath, iSCSI or SCSI disks are in tests/lab: test_held.py and test_traps.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import tally
from scratch import (
    MIB,
    SIZES,
    Program,
    Scratch,
    attached,
    block_devices,
    digest,
    make,
    mounted,
    nothing_changed,
    permitted,
    run,
)
from swapping import swapped
from tally import counted
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

KINDS = ("fs", "disk")
TRAPS, COMMANDS = (
    "traps for devices",
    "commands in them that are refused with every device as before",
)


class Trap(NamedTuple):
    """What a trap is set with: the program, what it may use up, and a folder for mounts."""

    ctl: Program
    scratch: Scratch

    def define(self, kind: str, device: str, name: str = "p") -> Path:
        """Define a pool of that kind on a device; return its target."""
        target = self.scratch.folder / f"target-{name}"
        format, place = ("ext4", target) if kind == "fs" else ("gpt", "/dev")
        self.ctl.ok("pool-define-as", name, kind, "--source-dev", device,
                    "--source-format", format, "--target", place)  # fmt: skip
        return target

    def partitioned(self) -> tuple[str, str]:
        """Return a disk with a running pool p, and the name of the one partition on it."""
        device = self.scratch.loop(96 * MIB)
        self.define("disk", device)
        self.ctl.ok("pool-build", "p")
        self.ctl.ok("pool-start", "p")
        part = f"{os.path.basename(device)}p1"
        self.ctl.ok("vol-create-as", "p", part, "64M")
        return device, part

    def refused(self, *words: object, lost: list[str], saying: str = "") -> str:
        """Run a command that is refused while nothing of what could be lost changes."""
        with counted(COMMANDS), nothing_changed(self.ctl.root, lost, *self.folders()):
            said = self.ctl.refused(*words)
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(errors) == 2 or errors[0].startswith("error: Requested volume"), said
        assert saying in said, said
        return said

    def folders(self) -> list[Path]:
        return [path for path in self.scratch.folder.iterdir() if path.name.startswith("kept")]

    def never_built(self, kind: str, device: str, lost: list[str], saying: str) -> None:
        """Neither flag lets a device be formatted, a start builds nothing either."""
        self.refused("pool-build", "p", "--no-overwrite", lost=lost)
        self.refused("pool-build", "p", "--overwrite", lost=lost, saying=saying)
        if kind == "disk":
            self.refused("pool-delete", "p", lost=lost, saying=saying)
        else:
            self.refused("pool-start", "p", "--overwrite", lost=lost, saying=saying)


@pytest.fixture
def trap(ctl: Program, scratch: Scratch, request: pytest.FixtureRequest) -> Iterator[Trap]:
    failed = request.session.testsfailed
    tally.tried[TRAPS] += 1
    yield Trap(ctl, scratch)
    tally.survived[TRAPS] += request.session.testsfailed == failed


# S32: what holds data is not built over unless that is asked for


def write(device: str, offset: int, content: bytes) -> None:
    with open(device, "r+b", buffering=0) as stream:
        stream.seek(offset)
        stream.write(content)
        os.fsync(stream.fileno())


def luks(device: str) -> None:
    run("cryptsetup", "luksFormat", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations",
        "1000", "--key-file", "-", device, input="secret")  # fmt: skip


def table(label: str) -> Callable[[str], None]:
    def make_table(device: str) -> None:
        run("parted", "-s", device, "mklabel", label, "mkpart", "primary", "1MiB", "9MiB")

    return make_table


def squashed(device: str) -> None:
    """What mksquashfs writes begins with these 96 bytes, for an image without files."""
    head = bytes.fromhex(
        "68737173010000000000000000000200000000000100110000000100040000002000000000000000"
    )
    write(device, 0, head.ljust(96, b"\xff"))


def iso(device: str) -> None:
    """The volume descriptors of an ISO 9660 image.  Source: ECMA-119, 8.4 and 8.3."""
    write(device, 0x8000, (b"\x01CD001\x01\0" + b"LINUX".ljust(32) + b"KEPT".ljust(32)).ljust(2048))
    write(device, 0x8800, b"\xffCD001\x01".ljust(2048, b"\0"))


CONTENTS: dict[str, Callable[[str], Any]] = {
    "ext4": lambda device: make("ext4", device),
    "xfs": lambda device: make("xfs", device),
    "btrfs": lambda device: make("btrfs", device),
    "vfat": lambda device: make("vfat", device),
    "swap": lambda device: run("mkswap", device),
    "LUKS": luks,
    "gpt": table("gpt"),
    "dos": table("msdos"),
    "iso9660": iso,
    "squashfs": squashed,
    "LVM2_member": lambda device: run("pvcreate", "--devices", device, device),
    "linux_raid": lambda device: write(device, 4096, raid_superblock()),
    "bcache": lambda device: write(
        device, 4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
    ),
    "unknown": lambda device: write(device, 700_000, b"the only copy of something"),
    "unknown, at the end": lambda device: write(device, 63 * MIB + 500_000, b"the only copy"),
}


def raid_superblock() -> bytes:
    """A superblock of version 1.2.  Source: linux/raid/md_p.h, struct mdp_superblock_1."""
    block = bytearray(256)
    block[0:8] = bytes.fromhex("fc4e2ba901000000")
    block[16:32] = bytes(range(16))
    block[128:136] = (2048).to_bytes(8, "little")
    block[136:144] = (65536).to_bytes(8, "little")
    block[144:152] = (8).to_bytes(8, "little")
    block[220:224] = (0).to_bytes(4, "little")
    words = [int.from_bytes(block[at : at + 4], "little") for at in range(0, 256, 4)]
    total = sum(words)
    total = (total & 0xFFFFFFFF) + (total >> 32)
    block[216:220] = (total & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(block)


@pytest.mark.parametrize("content", CONTENTS)
def test_s32_what_holds_data_is_not_built_over(trap: Trap, content: str) -> None:
    if content == "LVM2_member" and not shutil.which("pvcreate"):
        pytest.skip("needs lvm2")
    device = trap.scratch.loop(SIZES.get(content, 64 * MIB))
    CONTENTS[content](device)
    for kind in KINDS:
        trap.define(kind, device, kind)
        for words in (("pool-build", kind, *(["--no-overwrite"] * (kind == "fs"))),
                      ("pool-start", kind, "--build", "--no-overwrite")):  # fmt: skip
            trap.refused(*words, lost=[device])
        trap.ctl.ok("pool-undefine", kind)
    if content not in ("ext4", "gpt"):
        trap.define("fs", device)
        known = content != "bcache" and not content.startswith("unknown")
        found = "found on" if known else "data of an unknown format"
        trap.refused("pool-build", "p", "--no-overwrite", lost=[device], saying=found)


# S34: what is in use is not built over, whatever is asked for


@contextlib.contextmanager
def in_namespace(device: str, folder: Path) -> Iterator[str]:
    """Mount a device where only another process sees it."""
    folder.mkdir(exist_ok=True)
    script = f"mount {device} '{folder}' && echo up && read line"
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as keeper:  # fmt: skip
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "up\n"
        yield f"mounted on {folder} in the mount namespace of process {keeper.pid} (sh)"
        keeper.communicate("\n")
    wait_for(lambda: exclusively(device), f"{device} stays in use")


def exclusively(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def opened(device: str, flags: int) -> Iterator[str]:
    """Have another process hold a device open."""
    script = f"import os; os.open({device!r}, {flags}); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "up\n"
        yield f"is in use: process {keeper.pid} ("
        keeper.communicate("\n")


@contextlib.contextmanager
def used(device: str, how: str, trap: Trap) -> Iterator[str]:
    """Use a device; yields how it is said to be used."""
    folder = trap.scratch.folder / "elsewhere"
    if how == "swap":
        with swapped(device):
            yield "used as swap"
    elif how == "loop":
        with attached(device) as upper:
            yield f"attached to {upper}"
    elif how == "held":
        with opened(device, os.O_RDONLY | os.O_EXCL) as words:
            yield words
    elif how == "written":
        with opened(device, os.O_RDWR) as words:
            yield words
    elif how == "namespace":
        make("ext4", device)
        with in_namespace(device, folder) as words:
            yield words
    elif how == "read-only":
        make("ext4", device)
        with mounted(device, folder, "-o", "ro"):
            yield f"mounted on {folder}"
    elif how == "bind":
        make("ext4", device)
        inside = trap.scratch.folder / "bound"
        with mounted(device, folder):
            (folder / "sub").mkdir()
            with mounted(folder / "sub", inside, "--bind"):
                run("umount", folder)
                yield f"mounted on {inside}"
    elif how == "btrfs":
        other = trap.scratch.loop(SIZES["btrfs"])
        run("mkfs.btrfs", "-q", "-f", other, device)
        with mounted(other, folder, "-o", f"device={other},device={device}"):
            yield f"mounted on {folder}"


USES = ("swap", "loop", "held", "written", "namespace", "read-only", "bind", "btrfs")


@pytest.mark.parametrize("how", USES)
def test_s34_a_device_in_use_is_never_built_over(trap: Trap, how: str) -> None:
    device = trap.scratch.loop(SIZES["btrfs"])
    for kind in KINDS:
        trap.define(kind, device)
        with used(device, how, trap) as saying:
            run("sync")
            trap.never_built(kind, device, [device], saying)
        trap.ctl.ok("pool-undefine", "p")


@pytest.mark.parametrize("how", ["swap", "written", "namespace", "read-only"])
def test_s34_a_disk_with_a_partition_in_use(trap: Trap, how: str) -> None:
    """The disk is not relabelled, nor its partition deleted or wiped; the other way round too."""
    device, part = trap.partitioned()
    with used(f"/dev/{part}", how, trap):
        run("sync")
        for words in (("vol-delete", part), ("vol-wipe", part)):
            trap.refused(*words, "p", lost=[device])
        trap.ctl.ok("pool-destroy", "p")
        trap.ctl.ok("pool-undefine", "p")
        trap.define("fs", device, "whole")
        trap.refused("pool-build", "whole", "--overwrite", lost=[device], saying="is in use")
        trap.define("fs", f"/dev/{part}", "part")
        trap.refused("pool-build", "part", "--overwrite", lost=[device], saying="is in use")


def test_s34_a_partition_of_a_disk_that_is_written_to(trap: Trap) -> None:
    """A virtual machine that has the whole disk would lose what is in the partition."""
    device, part = trap.partitioned()
    write(f"/dev/{part}", MIB, b"precious")
    content = trap.scratch.folder / "content"
    content.write_bytes(b"x" * 512)
    with opened(device, os.O_RDWR) as saying:
        for words in (("vol-wipe", part, "p"), ("vol-upload", part, content, "p"),
                      ("vol-delete", part, "p")):  # fmt: skip
            trap.refused(*words, lost=[device], saying=saying)
    with opened(device, os.O_RDONLY):
        trap.ctl.ok("vol-upload", part, content, "p")
    trap.ctl.ok("vol-wipe", part, "p")


def test_s34_a_regular_file_in_use(trap: Trap) -> None:
    """A pool on an image: somebody writes to it, or a loop device is on it."""
    image = trap.scratch.folder / "image"
    with image.open("xb") as stream:
        stream.truncate(64 * MIB)
    trap.define("fs", str(image))
    with opened(str(image), os.O_RDWR) as saying:
        trap.refused("pool-build", "p", "--overwrite", lost=[str(image)], saying=saying)
    with attached(image) as device:
        make("ext4", device)
        saying = f"attached to {device}"
        trap.refused("pool-build", "p", "--overwrite", lost=[str(image)], saying=saying)


@pytest.mark.parametrize("how", ["loop", "swap"])
def test_s34_a_volume_that_is_a_device(trap: Trap, how: str) -> None:
    """The file of a loop device that is mounted, or of swap, is neither wiped nor written to."""
    target = trap.scratch.folder / "target"
    target.mkdir()
    trap.ctl.ok("pool-create-as", "p", "dir", "--target", target)
    trap.ctl.ok("vol-create-as", "p", "v", "20M")
    content = trap.scratch.folder / "content"
    content.write_bytes(b"x" * 512)
    path = target / "v"
    with contextlib.ExitStack() as stack:
        if how == "swap":
            stack.enter_context(swapped(str(path)))
            saying = "used as swap"
        else:
            device = stack.enter_context(attached(path))
            make("ext4", device)
            stack.enter_context(mounted(device, trap.scratch.folder / "elsewhere", "-o", "ro"))
            saying = f"mounted on {trap.scratch.folder}/elsewhere"
        run("sync")
        for words in (("vol-wipe", "v", "p"), ("vol-upload", "v", content, "p"),
                      ("vol-rename", "v", "w", "p")):  # fmt: skip
            trap.refused(*words, lost=[str(path)], saying=saying)
    trap.ctl.ok("vol-wipe", "v", "p")
    trap.ctl.ok("pool-destroy", "p")


# S35, S37: the disk that is named, and no other


@contextlib.contextmanager
def link(path: Path, device: str) -> Iterator[str]:
    path.symlink_to(device)
    yield str(path)
    path.unlink()


def test_s35_a_link_is_the_device_that_it_leads_to(trap: Trap) -> None:
    device = trap.scratch.loop()
    make("ext4", device)
    folder = trap.scratch.folder
    with link(folder / "by-id", device) as one, link(folder / "by-path", one) as path:
        for kind in KINDS:
            trap.define(kind, path)
            with mounted(device, folder / "elsewhere"):
                run("sync")
                trap.never_built(kind, path, [device], "is in use: mounted on")
            trap.ctl.ok("pool-undefine", "p")


def test_s35_a_link_that_leads_elsewhere_by_now(trap: Trap) -> None:
    """The link is followed once: it is another device for the pool than the one it was."""
    first, second = trap.scratch.loop(), trap.scratch.loop()
    path = trap.scratch.folder / "by-id"
    path.symlink_to(first)
    target = trap.define("fs", str(path))
    trap.ctl.ok("pool-build", "p", "--no-overwrite")
    make("ext4", second)
    path.unlink()
    path.symlink_to(second)
    for words in (("pool-start", "p"), ("pool-build", "p", "--overwrite")):
        trap.refused(*words, lost=[first, second], saying="is not what pool 'p' was defined with")
    assert not os.path.ismount(target)


def test_s37_a_disk_whose_name_begins_alike(trap: Trap) -> None:
    """Only a partition of the pool's disk is deleted, whatever its name looks like."""
    one, other = trap.scratch.loop(96 * MIB), trap.scratch.loop(96 * MIB)
    for name, device in (("one", one), ("other", other)):
        trap.define("disk", device, name)
        trap.ctl.ok("pool-build", name)
        trap.ctl.ok("pool-start", name)
        trap.ctl.ok("vol-create-as", name, f"{os.path.basename(device)}p1", "8M")
    base, theirs = os.path.basename(one), os.path.basename(other)
    for name in (f"{theirs}p1", f"/dev/{theirs}p1", f"{base}1", f"{base}p11", f"{base}p1p1",
                 f"{base}0p1", f"{base}p01"):  # fmt: skip
        for command in ("vol-delete", "vol-wipe"):
            trap.refused(command, name, "one", lost=[one, other])
    trap.ctl.ok("vol-delete", f"{base}p1", "one")
    assert os.path.exists(f"/dev/{theirs}p1")


def test_an_extended_partition_has_no_content(trap: Trap) -> None:
    """Its two sectors are where the logical partitions are: without them these are lost."""
    device = trap.scratch.loop(96 * MIB)
    run("parted", "-s", device, "mklabel", "msdos", "mkpart", "extended", "1MiB", "40MiB",
        "mkpart", "logical", "2MiB", "10MiB")  # fmt: skip
    trap.ctl.ok("pool-create-as", "p", "disk", "--source-dev", device, "--source-format", "dos",
                "--target", "/dev")  # fmt: skip
    extended, logical = (f"{os.path.basename(device)}p{number}" for number in (1, 5))
    target = trap.scratch.folder / "kept-files"
    trap.ctl.ok("pool-create-as", "files", "dir", "--target", target, "--build")
    zeros, new = trap.scratch.folder / "zeros", trap.scratch.folder / "new.xml"
    zeros.write_bytes(bytes(512))
    new.write_text("<volume><name>copy</name></volume>")
    for deed, words in {
        "wipe": ("vol-wipe", extended, "p"),
        "upload to": ("vol-upload", extended, zeros, "p"),
        "copy": ("vol-create-from", "files", new, extended, "p"),
    }.items():
        saying = f"cannot {deed} extended partition '/dev/{extended}'"
        trap.refused(*words, lost=[device], saying=saying)
    assert trap.ctl.names("p") == [extended, logical]
    for pool in ("files", "p"):
        trap.ctl.ok("pool-destroy", pool)


def not_used(trap: Trap, part: str, lost: list[str], saying: str) -> None:
    """The content of a volume of pool `p` is neither given out nor written."""
    target = trap.scratch.folder / "kept-files"
    trap.ctl.ok("pool-create-as", "files", "dir", "--target", target, "--build")
    content, new = trap.scratch.folder / "content", trap.scratch.folder / "new.xml"
    content.write_bytes(b"x" * 512)
    new.write_text("<volume><name>copy</name></volume>")
    for words in (("vol-wipe", part, "p"), ("vol-upload", part, content, "p"),
                  ("vol-download", part, target / "down", "p"),
                  ("vol-create-from", "files", new, part, "p")):  # fmt: skip
        trap.refused(*words, lost=lost, saying=saying)
    trap.ctl.ok("pool-destroy", "files")


@pytest.mark.parametrize("linked", [False, True])
def test_s37_s22_a_file_that_has_the_name_of_a_partition(trap: Trap, linked: bool) -> None:
    """What stands beside an image, or where a link there leads to, is no part of it."""
    beside = trap.scratch.folder / "kept"
    beside.mkdir()
    image, part = beside / "disk.img", beside / "disk.img1"
    with image.open("xb") as stream:
        stream.truncate(50 * MIB)
    run("parted", "-s", image, "mklabel", "gpt", "mkpart", "one", "1MiB", "11MiB")
    other = beside / "other" if linked else part
    other.write_bytes(b"precious" * 512)
    if linked:
        part.symlink_to(other)
    trap.define("disk", str(image))
    trap.ctl.ok("pool-start", "p")
    saying = f"'{part}' is not partition 1 of '{image}'"
    not_used(trap, part.name, [str(image), str(other)], saying)
    trap.ctl.ok("vol-delete", part.name, "p")
    assert other.read_bytes() == b"precious" * 512


def test_s37_a_kernel_with_an_old_table(trap: Trap) -> None:
    """The kernel has the second partition under the name of the first one."""
    device = trap.scratch.loop(96 * MIB)
    trap.define("disk", device)
    trap.ctl.ok("pool-build", "p")
    trap.ctl.ok("pool-start", "p")
    one, two = (f"{os.path.basename(device)}p{number}" for number in (1, 2))
    for part in (one, two):
        trap.ctl.ok("vol-create-as", "p", part, "32M")
    run("mkfs.vfat", f"/dev/{two}")
    start, size = (
        int((Path("/sys/class/block") / two / what).read_text()) for what in ("start", "size")
    )
    for number in (1, 2):
        run("delpart", device, number)
    run("addpart", device, 1, start, size)
    not_used(trap, one, [device], f"'/dev/{one}' is not partition 1 of '{device}'")


def test_s35_a_disk_with_a_partition_of_the_running_system(trap: Trap) -> None:
    """Swap in use makes a disk the system's: its table stays, also where there is room."""
    disk = trap.scratch.loop(128 * MIB)
    trap.define("disk", disk)
    trap.ctl.ok("pool-build", "p")
    trap.ctl.ok("pool-start", "p")
    one, two, three = (f"{os.path.basename(disk)}p{number}" for number in (1, 2, 3))
    for part in (one, two):
        trap.ctl.ok("vol-create-as", "p", part, "20M")
    with swapped(f"/dev/{one}"):
        saying = f"the running system has its swap on disk '{disk}'"
        trap.refused("vol-create-as", "p", three, "20M", lost=[disk], saying=saying)
        trap.refused("vol-delete", two, "p", lost=[disk], saying=saying)
        trap.refused("vol-delete", one, "p", lost=[disk], saying="used as swap")
        trap.refused("vol-wipe", one, "p", lost=[disk])
    trap.ctl.ok("vol-delete", two, "p")
    trap.ctl.ok("pool-destroy", "p")


# The identity of devices: S14's neighbours


def note(trap: Trap) -> dict[str, dict[str, str]]:
    path = trap.ctl.root / "etc/storagectl/storage/devices/p.json"
    assert path.stat().st_mode & 0o777 == 0o600
    found: dict[str, dict[str, str]] = json.loads(path.read_text())
    return found


@contextlib.contextmanager
def as_device(device: str, image: Path) -> Iterator[None]:
    """Attach a file to the loop device of that name, as a disk gets a name at boot."""
    run("losetup", "--partscan", device, image)
    try:
        with permitted(device):
            yield
    finally:
        run("partx", "--delete", device, check=False)
        run("losetup", "--detach", device)


@pytest.mark.parametrize("kind", KINDS)
def test_a_renumbered_device_is_refused(trap: Trap, kind: str) -> None:
    """Another device has the name that the pool's had: S33, a number is no identity."""
    ours, theirs = trap.scratch.folder / "ours", trap.scratch.folder / "theirs"
    for image in (ours, theirs):
        with image.open("xb") as stream:
            stream.truncate(64 * MIB)
    device = run("losetup", "--find").strip()
    with as_device(device, ours):
        trap.define(kind, device)
        assert note(trap) == {device: {"file": str(ours)}}
        trap.ctl.ok("pool-build", "p", *(["--no-overwrite"] * (kind == "fs")))
        trap.ctl.ok("pool-start", "p")
        trap.ctl.ok("pool-destroy", "p")
    with as_device(device, theirs):
        CONTENTS["ext4" if kind == "fs" else "gpt"](device)
        words = (f"it was file {ours}, it is file {theirs}",
                 "hint: if this one is right: storagectl pool-dumpxml --inactive p")  # fmt: skip
        commands = [("pool-start", "p"), ("pool-build", "p", "--overwrite"),
                    ("pool-start", "p", "--build", "--overwrite")]  # fmt: skip
        commands += [("pool-delete", "p")] * (kind == "disk")
        for command in commands:
            said = trap.refused(*command, lost=[device, str(ours)], saying=words[0])
            assert words[1] in said
        document = trap.scratch.folder / "p.xml"
        document.write_text(trap.ctl.ok("pool-dumpxml", "--inactive", "p"))
        trap.ctl.ok("pool-define", document)
        trap.ctl.ok("pool-start", "p")
        trap.ctl.ok("pool-destroy", "p")
    with as_device(device, ours):
        trap.refused("pool-start", "p", lost=[device, str(theirs)], saying=f"it is file {ours}")
    trap.ctl.ok("pool-undefine", "p")
    assert list((trap.ctl.root / "etc/storagectl/storage/devices").iterdir()) == []


def test_a_disk_that_is_exchanged_under_a_running_pool(trap: Trap) -> None:
    """S33: the pool runs on by its name; its partitions are another's by now."""
    ours, theirs = trap.scratch.folder / "ours", trap.scratch.folder / "theirs"
    for image in (ours, theirs):
        with image.open("xb") as stream:
            stream.truncate(64 * MIB)
    device = run("losetup", "--find").strip()
    part = f"{os.path.basename(device)}p1"
    with as_device(device, ours):
        trap.define("disk", device)
        trap.ctl.ok("pool-build", "p")
        trap.ctl.ok("pool-start", "p")
        trap.ctl.ok("vol-create-as", "p", part, "8M")
    with as_device(device, theirs):
        CONTENTS["gpt"](device)
        content = trap.scratch.folder / "content"
        content.write_bytes(b"x" * 512)
        for words in (("vol-delete", part, "p"), ("vol-wipe", part, "p"),
                      ("vol-create-as", "p", part.replace("p1", "p2"), "8M"),
                      ("vol-upload", part, content, "p")):  # fmt: skip
            trap.refused(*words, lost=[device, str(ours)], saying=f"it is file {theirs}")
        trap.ctl.ok("pool-destroy", "p")


def test_an_old_definition_without_a_note_works(trap: Trap) -> None:
    device = trap.scratch.loop()
    trap.define("fs", device)
    path = trap.ctl.root / "etc/storagectl/storage/devices/p.json"
    path.unlink()
    trap.ctl.ok("pool-build", "p", "--no-overwrite")
    path.unlink()
    trap.ctl.ok("pool-start", "p")
    assert list(note(trap)) == [device]
    trap.ctl.ok("pool-destroy", "p")
    path.write_text("rubbish")
    assert "ignoring" in trap.ctl.run("pool-start", "p").stderr
    assert trap.ctl.state("p") == "running"


# S42, S22: what is deleted is what has the name, not what it leads to


@pytest.mark.parametrize("where", ["full", "mount", "link", "dots", "/", "/var"])
def test_s42_a_folder_that_is_not_deleted(trap: Trap, where: str) -> None:
    kept = trap.scratch.folder / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    target: object = kept
    with contextlib.ExitStack() as stack:
        if where == "mount":
            device = trap.scratch.loop()
            make("ext4", device)
            target = stack.enter_context(mounted(device, trap.scratch.folder / "kept-mount"))
        elif where == "link":
            empty = trap.scratch.folder / "kept-empty"
            empty.mkdir()
            target = stack.enter_context(link(trap.scratch.folder / "link", str(empty)))
        elif where == "dots":
            target = f"{trap.scratch.folder}/nothing/../kept"
        elif where.startswith("/"):
            target = where
        trap.ctl.ok("pool-define-as", "p", "dir", "--target", target)
        trap.refused("pool-delete", "p", lost=[])
    assert kept.is_dir()


def test_s22_a_link_in_a_pool_leads_to_nothing_that_is_deleted(trap: Trap) -> None:
    """To a file, a folder, a device: delete takes the link, the others refuse."""
    device = trap.scratch.loop()
    make("ext4", device)
    kept = trap.scratch.folder / "kept"
    (kept / "folder").mkdir(parents=True)
    (kept / "file").write_bytes(b"kept" * 1000)
    target = trap.scratch.folder / "target"
    target.mkdir()
    trap.ctl.ok("pool-create-as", "p", "dir", "--target", target)
    content = trap.scratch.folder / "content"
    content.write_bytes(b"x" * 512)
    for name, place in (("f", kept / "file"), ("d", kept / "folder"), ("b", device)):
        (target / name).symlink_to(place)
        for words in (("vol-wipe", name, "p"), ("vol-upload", name, content, "p"),
                      ("vol-resize", name, "1G", "p")):  # fmt: skip
            trap.refused(*words, lost=[device])
        before = digest(device)
        trap.ctl.run("vol-delete", name, "p")
        assert digest(device) == before
        assert (kept / "file").read_bytes() == b"kept" * 1000
        assert (kept / "folder").is_dir()
    trap.ctl.ok("pool-destroy", "p")


# S44: a stop that fails leaves the pool active, and names who is in the way


@contextlib.contextmanager
def busy(how: str, running: Path, trap: Trap) -> Iterator[str]:
    if how in ("process", "mapped"):
        (running / "file").write_bytes(bytes(4096))
        hold = "os.chdir(path)" if how == "process" else (
            "fd = os.open(path + '/file', os.O_RDONLY)\n"
            "kept = mmap.mmap(fd, 4096, prot=mmap.PROT_READ)\nos.close(fd)"
        )  # fmt: skip
        script = (
            f"import mmap, os\npath = {str(running)!r}\n{hold}\nprint('up', flush=True)\ninput()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as keeper:  # fmt: skip
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == "up\n"
            yield f"process {keeper.pid} (python"
            keeper.communicate("\n")
    elif how == "mount":
        inner = trap.scratch.loop()
        make("ext4", inner)
        with mounted(inner, running / "inner"):
            yield f"mount {running}/inner"
    elif how == "swapfile":
        path = running / "swap"
        with path.open("xb") as stream:
            stream.write(bytes(8 * MIB))
        path.chmod(0o600)
        with swapped(str(path)):
            yield f"swap {path}"
    else:
        path = running / "disk"
        with path.open("xb") as stream:
            stream.truncate(8 * MIB)
        with attached(path) as device:
            yield f"loop device {device}"


@pytest.mark.parametrize("how", ["process", "mapped", "mount", "swapfile", "loop"])
def test_s44_a_busy_pool_stays(trap: Trap, how: str) -> None:
    device = trap.scratch.loop()
    running = trap.define("fs", device)
    trap.ctl.ok("pool-start", "p", "--build", "--no-overwrite")
    with busy(how, running, trap) as saying:
        before = block_devices(device)
        trap.refused("pool-destroy", "p", lost=[], saying=saying)
        assert block_devices(device) == before
        assert trap.ctl.state("p") == "running"
        for words in (("pool-build", "p", "--overwrite"), ("pool-delete", "p"),
                      ("pool-undefine", "p")):  # fmt: skip
            trap.refused(*words, lost=[])
    trap.ctl.ok("pool-destroy", "p")
    assert not os.path.ismount(running)


# The harness itself: what is not permitted is not touched


def test_devices_that_are_not_permitted(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trap.scratch.loop(96 * MIB), trap.scratch.loop()
    monkeypatch.setenv("STORAGECTL_TEST_DEVICES", f"/nowhere:{second}")
    saying = f"operation forbidden: '{first}' is not one of STORAGECTL_TEST_DEVICES"
    for kind in KINDS:
        trap.define(kind, first)
        trap.refused("pool-build", "p", *(["--overwrite"] * (kind == "fs")), lost=[first],
                     saying=saying)  # fmt: skip
        trap.ctl.ok("pool-undefine", "p")
    trap.define("fs", second)
    trap.ctl.ok("pool-build", "p", "--overwrite")
    with permitted(f"{first[:-1]}[{first[-1]}]"):
        trap.define("disk", first, "d")
        trap.ctl.ok("pool-build", "d")
        trap.ctl.ok("pool-start", "d")
        trap.ctl.ok("vol-create-as", "d", f"{os.path.basename(first)}p1", "8M")
        trap.ctl.ok("vol-wipe", f"{os.path.basename(first)}p1", "d")
    trap.refused("vol-wipe", f"{os.path.basename(first)}p1", "d", lost=[first])
    trap.refused("vol-delete", f"{os.path.basename(first)}p1", "d", lost=[first], saying=saying)
