"""Disk pools on loop devices: needs root, loop devices with partitions, and parted.

Every device is a sparse file of its own below the test's folder; `loop` takes it away
again whatever happens and proves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from waiting import holds

from storagectl.backends import devices, in_use
from storagectl.backends.disk import Disk
from storagectl.errors import (
    InvalidArgument,
    NoSupport,
    OperationFailed,
    OperationInvalid,
    PoolBuilt,
    ResourceBusy,
    StorageError,
    ToolFailed,
)
from storagectl.host import Host
from storagectl.model import Device, Pool, Source, Volume
from storagectl.pooltypes import PARTITION_FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TOOLS = ("losetup", "parted", "wipefs", "mkfs.ext4", "mkswap", "sfdisk")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
PARTHELPER = "/usr/lib/libvirt/libvirt_parthelper"
MIB = 1 << 20

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def run(*argv: str, check: bool = True) -> str:
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
    )
    assert not check or done.returncode == 0, (argv, done)
    return done.stdout


@contextlib.contextmanager
def loop(folder: Path, size: int = 256 * MIB, *, sector: int = 512) -> Iterator[str]:
    """Give a loop device on a sparse file, and leave neither behind."""
    image = folder / f"disk{len(list(folder.iterdir()))}.img"
    with image.open("wb") as stream:
        stream.truncate(size)
    device = run(
        "losetup", "--find", "--show", "--partscan", "--sector-size", str(sector), str(image)
    ).strip()
    try:
        yield device
    finally:
        run("partx", "--delete", device, check=False)
        run("losetup", "--detach", device)
        gone = holds(lambda: str(image) not in run("losetup", "--list"))
        nodes = [name for name in os.listdir("/dev") if name.startswith(Path(device).name + "p")]
        image.unlink()
        assert gone
        assert nodes == []


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    with loop(tmp_path) as path:
        yield path


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    with loop(tmp_path, 32 * MIB) as path:
        yield path


@contextlib.contextmanager
def mounted(device: str, folder: Path) -> Iterator[str]:
    folder.mkdir()
    run("mount", device, str(folder))
    try:
        yield str(folder)
    finally:
        run("umount", str(folder))
        # a process with a mount namespace of its own keeps what was mounted when it began
        holds(lambda: unused(device))


def unused(device: str) -> bool:
    with contextlib.suppress(ResourceBusy):
        in_use.require_unused(Host(), device)
        return True
    return False


def pool(device: str, label: str = "dos", target: str = "/dev") -> Disk:
    source = Source(devices=[Device(device)], format=label)
    return Disk(Pool("disk", "p", "u", source, target=target), Host())


def built(device: str, label: str = "dos", target: str = "/dev") -> Disk:
    backend = pool(device, label, target)
    backend.build(overwrite=False, no_overwrite=False)
    backend.start()
    return backend


def create(backend: Disk, number: int, size: int, volume_format: str = "none") -> Volume:
    name = os.path.basename(backend._node(number))
    backend.create_volume(Volume(name, capacity=size, format=volume_format), metadata=False)
    found = backend.volume(name)
    assert found is not None
    return found


def make_ext4(device: str) -> None:
    """Make a file system that the kernel writes nothing more to after the first mount."""
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)


def digest(device: str) -> str:
    with open(device, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def table(device: str) -> Any:
    return json.loads(run("sfdisk", "--json", device))["partitiontable"].get("partitions", [])


def nodes(device: str) -> set[str]:
    prefix = os.path.basename(device) + "p"
    return {name for name in os.listdir("/dev") if name.startswith(prefix)}


def agrees_with_libvirt(backend: Disk) -> None:
    """Compare volumes and free extents with those that libvirt's helper sees."""
    if not os.path.exists(PARTHELPER):
        pytest.skip("needs libvirt_parthelper")
    fields = run(PARTHELPER, backend.device).split("\0")[:-1]
    rows = [fields[at : at + 6] for at in range(0, len(fields), 6)]
    free = [(max(int(row[3]), 512), int(row[4])) for row in rows if row[2] == "free"]
    parts = {row[0]: (int(row[3]), int(row[4])) for row in rows if row[0] != "-"}
    assert [(extent.start, extent.end) for extent in backend.state().free_extents] == free
    shown = {volume.path: volume.extents[0] for volume in backend.volumes(details=True)}
    assert {path: (extent.start, extent.end) for path, extent in shown.items()} == parts


# The devices of these tests


def test_nothing_is_left_after_a_failure(tmp_path: Path) -> None:
    def fail() -> None:
        with loop(tmp_path) as path:
            create(built(path), 1, MIB)
            assert nodes(path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert str(tmp_path) not in run("losetup", "--list", "--noheadings")
    assert list(tmp_path.iterdir()) == []


# Volumes


@pytest.mark.parametrize("label", ["dos", "gpt"])
@pytest.mark.parametrize("volume_format", PARTITION_FORMATS)
def test_every_format(device: str, label: str, volume_format: str) -> None:
    backend = built(device, label)
    volume = create(backend, 1, 20_000_000, volume_format)
    assert volume.path == f"{device}p1"
    assert volume.capacity == 20_000_256
    extent = volume.extents[0]
    assert extent.device == device
    assert extent.start == MIB
    assert extent.end - extent.start == 20_000_256
    assert volume.format == "none"
    assert volume.permissions.mode == os.stat(volume.path).st_mode & 0o7777
    assert volume.timestamps is not None
    is_extended = (label, volume_format) == ("dos", "extended")
    assert volume.allocation == (0 if is_extended else 20_000_256)
    if not is_extended:
        assert volume.physical == devices.device_size(volume.path) == 20_000_256
    agrees_with_libvirt(backend)
    backend.delete_volume(volume)
    assert nodes(device) == set()
    assert table(device) == []


@pytest.mark.parametrize(
    ("volume_format", "kind"),
    [("none", "83"), ("linux", "83"), ("fat16", "e"), ("fat32", "c"), ("linux-swap", "82"),
     ("linux-lvm", "83"), ("linux-raid", "83"), ("extended", "f")],
)  # fmt: skip
def test_type_of_dos_partition_is_virsh_s(device: str, volume_format: str, kind: str) -> None:
    create(built(device), 1, 20 * MIB, volume_format)
    assert [row["type"] for row in table(device)] == [kind]


@pytest.mark.parametrize("label", ["dos", "gpt", "mac", "bsd", "sun", "dvh", "pc98"])
def test_every_label(device: str, label: str) -> None:
    backend = built(device, label)
    numbers = {"mac": (2, 3), "sun": (1, 2)}.get(label, (1, 2))
    first = create(backend, numbers[0], 10 * MIB)
    second = create(backend, numbers[1], 5 * MIB)
    assert first.capacity >= 10 * MIB
    agrees_with_libvirt(backend)
    backend.delete_volume(first)
    assert os.path.basename(first.path) not in nodes(device)
    assert second.name in {volume.name for volume in backend.volumes(details=False)}
    assert create(backend, numbers[0], 10 * MIB).extents == first.extents
    with pytest.raises(StorageError, match="already formatted using"):
        backend.build(overwrite=False, no_overwrite=False)
    backend.build(overwrite=True, no_overwrite=False)
    backend.delete()
    assert nodes(device) == set()


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_four_kibibyte_sectors(tmp_path: Path, label: str) -> None:
    with loop(tmp_path, sector=4096) as path:
        backend = built(path, label)
        volume = create(backend, 1, 20_000_000)
        assert volume.capacity == 20_000_768
        assert volume.extents[0].start == MIB
        agrees_with_libvirt(backend)
        backend.delete_volume(volume)


def test_whole_disk(device: str) -> None:
    backend = built(device, "gpt")
    volume = create(backend, 1, backend.state().available)
    assert backend.state().available == 0
    assert volume.capacity == 268401152
    with pytest.raises(StorageError, match="no large enough free extent"):
        create(backend, 2, 512)


def test_hole_is_filled(device: str) -> None:
    backend = built(device, "gpt")
    made = [create(backend, number, 10 * MIB) for number in (1, 2, 3)]
    backend.delete_volume(made[1])
    again = create(backend, 2, 5 * MIB)
    assert again.extents[0].start == made[1].extents[0].start


def filled(device: str) -> Disk:
    """Three primary partitions, an extended one, and three logical ones in it."""
    backend = built(device)
    for number in (1, 2, 3):
        create(backend, number, 10 * MIB)
    create(backend, 4, 100 * MIB, "extended")
    for number in (5, 6, 7):
        create(backend, number, 10 * MIB, "linux")
    return backend


def test_logical(device: str) -> None:
    backend = filled(device)
    agrees_with_libvirt(backend)
    extended = backend.volume(f"{os.path.basename(device)}p4")
    assert extended is not None
    assert extended.capacity == 100 * MIB
    assert extended.allocation == 30 * MIB
    for volume in backend.volumes(details=True):
        assert volume.extents[0].start % MIB == 0
    with pytest.raises(NoSupport, match=f"^cannot wipe extended partition '{device}p4'$"):
        backend.check_content(extended, "wipe")
    backend.check_content(Volume(f"{os.path.basename(device)}p5"), "wipe")
    with pytest.raises(StorageError, match="extended partition already exists"):
        create(backend, 8, MIB, "extended")
    before = digest(device)
    with pytest.raises(OperationInvalid, match="still has logical partitions"):
        backend.delete_volume(extended)
    assert digest(device) == before
    for number in (7, 6, 5):
        backend.delete_volume(Volume(f"{os.path.basename(device)}p{number}"))
    backend.delete_volume(extended)
    assert nodes(device) == {f"{os.path.basename(device)}p{number}" for number in (1, 2, 3)}


def test_removing_a_logical_partition_renumbers_the_next(device: str, tmp_path: Path) -> None:
    backend = filled(device)
    name = os.path.basename(device)
    make_ext4(f"{device}p7")
    moved = backend.volume(f"{name}p7")
    assert moved is not None
    with mounted(f"{device}p7", tmp_path / "m") as folder:
        before = table(device)
        with pytest.raises(ResourceBusy, match=f"{name}p7' is in use: mounted on {folder}"):
            backend.delete_volume(Volume(f"{name}p5"))
        assert table(device) == before
    backend.delete_volume(Volume(f"{name}p5"))
    now = backend.volume(f"{name}p6")
    assert now is not None
    assert now.extents == moved.extents
    assert backend.volume(f"{name}p7") is None
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", f"{device}p6").strip() == "ext4"
    agrees_with_libvirt(backend)


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_wrong_name_changes_nothing(device: str, label: str) -> None:
    backend = built(device, label)
    create(backend, 1, MIB)
    before = digest(device)
    expected = f"^invalid partition name 'x', expected '{os.path.basename(device)}p2'$"
    with pytest.raises(InvalidArgument, match=expected):
        backend.create_volume(Volume("x", capacity=MIB), metadata=False)
    assert digest(device) == before


def test_links(device: str) -> None:
    folder = Path(f"/dev/sctest-{os.getpid()}")
    folder.mkdir()
    try:
        (folder / "wwn-1").symlink_to(device)
        (folder / "a-part1").symlink_to(f"{device}p1")
        (folder / "wwn-1-part1").symlink_to(f"{device}p1")
        backend = built(str(folder / "wwn-1"), target=str(folder))
        volume = create(backend, 1, MIB)
        assert volume.path == volume.key == str(folder / "wwn-1-part1")
        assert volume.name == os.path.basename(device) + "p1"
        assert volume.extents[0].device == str(folder / "wwn-1")
        other = create(backend, 2, MIB)
        assert other.path == f"{device}p2"
        assert backend.volume_name_at(volume.path) == volume.name
        backend.delete_volume(volume)
        assert nodes(device) == {other.name}
    finally:
        shutil.rmtree(folder)


def test_repeated(device: str) -> None:
    """The node is there when create returns and gone when delete does, every time."""
    backend = built(device, "gpt")
    for _ in range(20):
        volume = create(backend, 1, MIB)
        assert os.path.exists(volume.path)
        backend.delete_volume(volume)
        assert not os.path.exists(volume.path)


# In use


def refused_by_all(backend: Disk, text: str) -> None:
    """Check that neither the disk nor partition 1 can be destroyed, and that nothing changes."""
    before = digest(backend.device)
    attempts: list[Callable[[], None]] = [
        lambda: backend.build(overwrite=True, no_overwrite=False),
        backend.delete,
        lambda: backend.delete_volume(Volume(os.path.basename(backend._node(1)))),
        lambda: in_use.require_unused(backend.host, backend.device),
    ]
    for attempt in attempts:
        with pytest.raises(ResourceBusy, match=text):
            attempt()
    assert digest(backend.device) == before


def test_mounted_partition(device: str, tmp_path: Path) -> None:
    backend = built(device)
    volume = create(backend, 1, 50 * MIB)
    create(backend, 2, 10 * MIB)
    make_ext4(volume.path)
    run("sync")
    with mounted(volume.path, tmp_path / "m") as folder:
        run("sync", "-f", folder)
        refused_by_all(backend, f"^device '{volume.path}' is in use: mounted on {folder}$")
        backend.delete_volume(Volume(os.path.basename(f"{device}p2")))
    backend.delete_volume(volume)


def test_mounted_disk(device: str, tmp_path: Path) -> None:
    make_ext4(device)
    text = f"^device '{device}' is in use: mounted on {tmp_path / 'm'}$"
    with mounted(device, tmp_path / "m"), pytest.raises(ResourceBusy, match=text):
        pool(device).build(overwrite=True, no_overwrite=False)


def test_no_partition_on_a_claimed_disk(device: str) -> None:
    """The disk as a whole belongs to somebody, whatever its table says."""
    backend = built(device)
    upper = run("losetup", "--find", "--show", device).strip()
    before = digest(device)
    try:
        with pytest.raises(ResourceBusy, match=f"^device '{device}' is in use: attached to"):
            create(backend, 1, MIB)
    finally:
        run("losetup", "--detach", upper)
    assert digest(device) == before


def test_mounted_in_another_namespace(device: str, tmp_path: Path) -> None:
    backend = built(device)
    volume = create(backend, 1, 50 * MIB)
    make_ext4(volume.path)
    run("sync")
    folder = tmp_path / "m"
    folder.mkdir()
    script = f"mount {volume.path} {folder} && echo mounted && cat"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "mounted\n"
        run("sync")
        where = rf"mounted on {folder} in the mount namespace of process {holder.pid} \(sh\)"
        refused_by_all(backend, f"^device '{device}(p1)?' is in use: {where}$")
        holder.stdin.close()
        holder.wait()
    assert holds(lambda: unused(volume.path))
    backend.delete_volume(volume)


def test_opened_exclusively(device: str) -> None:
    backend = built(device)
    volume = create(backend, 1, MIB)
    fd = os.open(volume.path, os.O_RDONLY | os.O_EXCL)
    try:
        refused_by_all(backend, rf"is in use: process {os.getpid()} \(")
    finally:
        os.close(fd)


def test_loop_on_a_partition(device: str) -> None:
    backend = built(device)
    volume = create(backend, 1, MIB)
    upper = run("losetup", "--find", "--show", volume.path).strip()
    try:
        refused_by_all(backend, f"^device '{volume.path}' is in use: attached to {upper}$")
    finally:
        run("losetup", "--detach", upper)


def test_swap(device: str) -> None:
    backend = built(device)
    volume = create(backend, 1, 20 * MIB, "linux-swap")
    run("mkswap", volume.path)
    if subprocess.run(["swapon", volume.path], check=False, capture_output=True).returncode:
        pytest.skip("swapon is not allowed here")
    try:
        refused_by_all(backend, f"^device '{volume.path}' is in use: used as swap$")
    finally:
        run("swapoff", volume.path)


def test_root_disk() -> None:
    number = os.stat("/").st_dev
    folder = devices.sysfs_folder(number)
    if folder is None:
        pytest.skip("/ is on no block device")
    root = f"/dev/{devices.node_name(folder)}"
    with pytest.raises(ResourceBusy, match="is in use: mounted on /"):
        in_use.require_unused(Host(), root)


def test_through_a_link(device: str, tmp_path: Path) -> None:
    backend = built(device)
    volume = create(backend, 1, 50 * MIB)
    make_ext4(volume.path)
    link = tmp_path / "by-id"
    link.symlink_to(device)
    with mounted(volume.path, tmp_path / "m"), pytest.raises(ResourceBusy, match="mounted on"):
        pool(str(link)).build(overwrite=True, no_overwrite=False)


# What is on a device


def put(device: str, offset: int, data: bytes) -> None:
    with open(device, "r+b") as stream:
        stream.seek(offset)
        stream.write(data)


CONTENTS: dict[str, Callable[[str], object]] = {
    "dos": lambda path: run("parted", "-s", path, "mklabel", "msdos"),
    "gpt": lambda path: run("parted", "-s", path, "mklabel", "gpt"),
    "mac": lambda path: run("parted", "-s", path, "mklabel", "mac"),
    "bsd": lambda path: run("parted", "-s", path, "mklabel", "bsd"),
    "sun": lambda path: run("parted", "-s", path, "mklabel", "sun"),
    "dvh": lambda path: run("parted", "-s", path, "mklabel", "dvh"),
    "pc98": lambda path: run("parted", "-s", path, "mklabel", "pc98"),
    "ext4": lambda path: make_ext4(path),
    "swap": lambda path: run("mkswap", path),
    "luks": lambda path: put(path, 0, b"LUKS\xba\xbe\x00\x01aes"),
    "iso9660": lambda path: put(path, 32768, b"\x01CD001\x01"),
    "unknown": lambda path: put(path, MIB - 1, b"x"),
    "unknown, at the end": lambda path: put(path, 31 * MIB, b"x"),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("label", ["dos", "gpt", "bsd"])
def test_build_over_content(small: str, content: str, label: str) -> None:
    CONTENTS[content](small)
    run("sync")
    before = digest(small)
    backend = pool(small, label)
    for no_overwrite in (False, True):
        with pytest.raises((PoolBuilt, OperationInvalid, OperationFailed)):
            backend.build(overwrite=False, no_overwrite=no_overwrite)
        assert digest(small) == before
    if content != label:
        with pytest.raises(StorageError):
            backend.start()
    backend.build(overwrite=True, no_overwrite=False)
    backend.start()
    assert list(backend.volumes(details=True)) == []
    backend.delete()
    assert devices.signatures(backend.host, small) == []
    backend.build(overwrite=False, no_overwrite=False)


def test_lvm_physical_volume(device: str) -> None:
    if not shutil.which("pvcreate"):
        pytest.skip("needs pvcreate")
    run("pvcreate", "-q", "-f", "--devices", device, device)
    assert devices.signature(Host(), device) == "LVM2_member"
    with pytest.raises(PoolBuilt, match="forced overwrite is necessary"):
        pool(device).build(overwrite=False, no_overwrite=False)


def test_build_over_partitions(device: str) -> None:
    backend = built(device)
    create(backend, 1, MIB)
    create(backend, 2, MIB)
    backend.build(overwrite=True, no_overwrite=False)
    assert nodes(device) == set()


def test_delete_takes_the_nodes_along(device: str) -> None:
    backend = built(device, "gpt")
    create(backend, 1, MIB)
    backend.delete()
    assert nodes(device) == set()
    assert devices.signatures(backend.host, device) == []


def test_grown_gpt(tmp_path: Path) -> None:
    """parted warns that the backup table is not at the end; that is no failure."""
    with loop(tmp_path) as path:
        backend = built(path, "gpt")
        create(backend, 1, 20 * MIB)
        os.truncate(tmp_path / "disk0.img", 300 * MIB)
        run("losetup", "--set-capacity", path)
        agrees_with_libvirt(backend)
        volume = create(backend, 2, 260 * MIB)
        assert volume.capacity == 260 * MIB


def test_empty_device(tmp_path: Path) -> None:
    with loop(tmp_path, 0) as path, pytest.raises(StorageError, match="unrecognized"):
        pool(path).start()


# Half done


class BreakingHost(Host):
    """Does something after mkpart has done its work."""

    def __init__(self, after: Callable[[], object]) -> None:
        super().__init__()
        self.after = after

    def change(self, argv: Sequence[str], *, ok: Sequence[int] = (0,)) -> str:
        done = super().change(argv, ok=ok)
        if "mkpart" in argv:
            self.after()
        return done


@pytest.mark.parametrize("error", [ToolFailed(["parted"], 1, "told to"), KeyboardInterrupt()])
@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_failed_create_leaves_nothing(device: str, label: str, error: BaseException) -> None:
    def fail() -> None:
        raise error

    backend = built(device, label)
    create(backend, 1, MIB)
    before = table(device)
    backend.host = BreakingHost(fail)
    with pytest.raises(type(error)):
        create(backend, 2, MIB)
    assert table(device) == before
    assert nodes(device) == {os.path.basename(device) + "p1"}


@pytest.mark.parametrize("label", ["dos", "gpt"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_node_that_never_appears(
    device: str, label: str, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has no node for the new partition, or has another range under its name."""
    monkeypatch.setattr(devices, "PATIENCE_S", 0.2)

    def forget() -> None:
        run("delpart", device, "1")
        if elsewhere:
            run("addpart", device, "1", "100000", "2048")

    backend = built(device, label)
    backend.host = BreakingHost(forget)
    with pytest.raises(OperationFailed, match=f"^device '{device}p1' of the new partition did no"):
        create(backend, 1, MIB)
    assert table(device) == []
    assert nodes(device) == set()


def test_stale_node_is_not_deleted(device: str) -> None:
    backend = built(device, "gpt")
    volume = create(backend, 1, MIB)
    run("delpart", device, "1")
    run("addpart", device, "1", "100000", "2048")
    before = table(device)
    with pytest.raises(OperationFailed, match="is not partition 1 of"):
        backend.delete_volume(volume)
    assert table(device) == before


def test_regular_file(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(64 * MIB)
    backend = built(str(image))
    with pytest.raises(StorageError, match="^no storage vol with matching path '.*/image1'$"):
        create(backend, 1, MIB)
    assert list(backend.volumes(details=True)) == []
    upper = run("losetup", "--find", "--show", str(image)).strip()
    try:
        with pytest.raises(ResourceBusy, match=f"attached to {upper}"):
            backend.build(overwrite=True, no_overwrite=False)
    finally:
        run("losetup", "--detach", upper)
    backend.delete()
    assert devices.signatures(backend.host, str(image)) == []
