"""Disk pools without a disk: planner, argument lists, refusals, users of a device."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakekernel import FakeKernel
from hypothesis import assume, given
from hypothesis import strategies as st

from storagectl import host as host_module
from storagectl.backends import devices, in_use
from storagectl.backends.disk import Disk
from storagectl.backends.partitions import Place, fit, mkpart_words, next_number, plan
from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    InvalidArgument,
    OperationFailed,
    OperationInvalid,
    PoolBuilt,
    ProbeFailed,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
    VolumeNotFound,
)
from storagectl.host import Host
from storagectl.host.files import locked
from storagectl.model import Device, Extent, Pool, Source, Volume
from storagectl.tools import parted
from storagectl.tools.parted import Free, Partition, PartitionTable

if TYPE_CHECKING:
    from collections.abc import Sequence

FIXTURES = Path(__file__).parents[1] / "tools" / "fixtures"
MIB = 1 << 20


def recorded(tool: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / tool / f"{name}.json").read_text())
    return loaded


def table(name: str) -> PartitionTable:
    return parted.parse_table(recorded("parted", name)["stdout"])


class ScriptedHost(Host):
    """A host whose tools answer from a script and whose writes are only noted."""

    def __init__(self, *answers: tuple[str, int, str, str]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.ran: list[list[str]] = []
        self.zeroed: list[tuple[str, list[tuple[int, int]]]] = []

    def find_tool(self, name: str) -> str:
        return name

    def _spawn(self, argv: list[str], *_: object) -> tuple[int, str, str]:
        self.ran.append(argv)
        assert self.answers, f"unexpected: {argv}"
        word, status, stdout, stderr = self.answers.pop(0)
        assert word in argv, f"expected {word}, not {argv}"
        return status, stdout, stderr

    def zero_ranges(self, device: str, ranges: Sequence[tuple[int, int]]) -> None:
        self.zeroed.append((device, list(ranges)))


def prints(name: str) -> tuple[str, int, str, str]:
    record = recorded("parted", name)
    return "print", record["status"], record["stdout"], record["stderr"]


def finds(name: str) -> tuple[str, int, str, str]:
    return "wipefs", 0, recorded("wipefs", name)["stdout"], ""


def did(word: str) -> tuple[str, int, str, str]:
    return word, 0, "", ""


def disk(host: Host, device: str, label: str | None = "dos", target: str = "/dev") -> Disk:
    source = Source(devices=[Device(device)], format=label)
    return Disk(Pool("disk", "p", "u", source, target=target), host)


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(16 * MIB)
    return str(path)


# The planner


@st.composite
def tables(draw: st.DrawFn) -> PartitionTable:
    """Tables of any label with free extents anywhere, some of them in an extended partition."""
    label = draw(st.sampled_from(["dos", "gpt", "mac", "bsd", "sun", "dvh", "pc98"]))
    sector = draw(st.sampled_from([512, 4096]))
    gaps = draw(st.lists(st.integers(1, 40_000), min_size=0, max_size=24))
    edges = [34]
    for gap in gaps:
        edges.append(edges[-1] + gap)
    bounds = [edge * sector for edge in edges]
    inside = draw(st.integers(0, len(bounds)))
    has_extended = label == "dos" and draw(st.booleans())
    free = tuple(
        Free(start, end, has_extended and index >= inside)
        for index, (start, end) in enumerate(zip(bounds[::2], bounds[1::2], strict=False))
    )
    partitions = [
        Partition(number, parted.PRIMARY, 0, 0)
        for number in draw(st.sets(st.integers(1, 3 if has_extended else 4)))
    ]
    if has_extended:
        partitions.append(Partition(4, parted.EXTENDED, 0, bounds[-1]))
        partitions += [
            Partition(5 + index, parted.LOGICAL, 0, 0) for index in range(draw(st.integers(0, 5)))
        ]
    return PartitionTable(label, sector, bounds[-1], 128, tuple(partitions), free)


@given(
    tables(), st.integers(1, 64 * MIB), st.booleans(), st.sampled_from([512, 4096, 255 * 2 * 512])
)
def test_plan_is_inside_one_free_extent_and_exact(
    where: PartitionTable, capacity: int, extended: bool, grain: int
) -> None:
    assume(grain % where.sector_size == 0)
    extended = extended and where.label == "dos"
    try:
        place = plan(where, capacity, extended=extended, grain=grain)
    except InternalError:
        return
    logical = place.kind == parted.LOGICAL
    lead = where.sector_size if logical else 0
    homes = [
        free
        for free in where.free
        if free.start + lead <= place.start and place.end <= free.end and free.logical == logical
    ]
    assert len(homes) == 1
    assert place.start % grain == 0
    assert (place.end - place.start) % grain == 0
    assert capacity <= place.end - place.start < capacity + grain
    assert place.number not in {part.number for part in where.partitions}


@given(tables(), st.integers(1, 64 * MIB), st.booleans())
def test_fit_is_as_aligned_as_can_be_and_in_the_smallest_extent(
    where: PartitionTable, capacity: int, logical: bool
) -> None:
    grain = where.sector_size
    size = -(-capacity // grain) * grain
    lead = grain if logical else 0

    def starts(alignment: int) -> list[tuple[int, int]]:
        found = []
        for free in where.free:
            start = -(-(free.start + lead) // alignment) * alignment
            if free.logical == logical and start + size <= free.end:
                found.append((free.end - free.start, start))
        return sorted(found)

    expected = None
    for alignment in (MIB, 4096, grain):
        if starts(alignment):
            expected = starts(alignment)[0][1]
            break
    assert fit(where, size, logical=logical, grain=grain) == expected


@given(tables(), st.integers(1, 64 * MIB))
def test_no_fit_means_that_no_extent_has_room(where: PartitionTable, capacity: int) -> None:
    grain = where.sector_size
    size = -(-capacity // grain) * grain
    if fit(where, size, logical=False, grain=grain) is None:
        assert all(free.logical or free.end - free.start < size for free in where.free)


@pytest.mark.parametrize("name", ["dos-empty", "gpt-empty", "mac-empty", "bsd-empty", "dvh-empty"])
def test_first_partition_starts_at_a_mebibyte(name: str) -> None:
    where = table(name)
    place = plan(where, 10 * MIB, extended=False, grain=where.sector_size)
    assert place.start % MIB == 0
    assert place.end - place.start == 10 * MIB


def test_smallest_extent_is_taken() -> None:
    place = plan(table("gpt-holes"), 10 * MIB, extended=False, grain=512)
    assert place == Place(21 * MIB, 31 * MIB, parted.PRIMARY, 2)


def test_all_that_is_free_can_be_taken() -> None:
    where = table("gpt-empty")
    free = where.free[0]
    place = plan(where, free.end - free.start, extended=False, grain=512)
    assert (place.start, place.end) == (free.start, free.end)
    with pytest.raises(InternalError, match="^no large enough free extent$"):
        plan(where, free.end - free.start + 1, extended=False, grain=512)


def test_cylinders() -> None:
    cylinder = 255 * 2 * 512
    place = plan(table("sun-used"), MIB, extended=False, grain=cylinder)
    assert place.start % cylinder == 0
    assert place.end % cylinder == 0
    assert place.number == 4


def test_dos_kinds() -> None:
    four = table("dos-four-primaries")
    with pytest.raises(
        InternalError, match="^no extended partition found and no primary partition available$"
    ):
        plan(four, MIB, extended=False, grain=512)
    with pytest.raises(InternalError, match="^no large enough free extent$"):
        plan(four, MIB, extended=True, grain=512)
    logical = table("dos-logical")
    with pytest.raises(InternalError, match="^extended partition already exists$"):
        plan(logical, MIB, extended=True, grain=512)
    assert plan(logical, MIB, extended=False, grain=512).number == 4
    full = logical._replace(
        partitions=(*logical.partitions, Partition(4, parted.PRIMARY, 240 * MIB, 241 * MIB))
    )
    place = plan(full, MIB, extended=False, grain=512)
    assert (place.kind, place.number) == (parted.LOGICAL, 8)
    assert 21 * MIB < place.start < 201 * MIB
    assert plan(table("dos-hole-in-numbers"), MIB, extended=False, grain=512).number == 2
    assert plan(table("dos-empty"), MIB, extended=True, grain=512).kind == parted.EXTENDED


def test_full_table() -> None:
    where = table("gpt-empty")._replace(max_partitions=2)
    where = where._replace(partitions=tuple(Partition(n, parted.PRIMARY, 0, 0) for n in (1, 2)))
    with pytest.raises(InternalError, match="no room for more than 2"):
        plan(where, MIB, extended=False, grain=512)


@pytest.mark.parametrize(
    ("name", "number"),
    [("sun-used", 4), ("dvh-used", 3), ("mac-empty", 2), ("gpt-holes", 2), ("bsd-empty", 1)],
)
def test_next_number(name: str, number: int) -> None:
    assert next_number(table(name), parted.PRIMARY) == number


@pytest.mark.parametrize(
    ("label", "kind", "volume_format", "words"),
    [
        ("dos", "primary", "linux", ["primary", "ext2"]),
        ("dos", "primary", None, ["primary", "ext2"]),
        ("dos", "primary", "none", ["primary", "ext2"]),
        ("dos", "logical", "fat16", ["logical", "fat16"]),
        ("dos", "primary", "fat32", ["primary", "fat32"]),
        ("dos", "primary", "linux-swap", ["primary", "linux-swap"]),
        ("dos", "primary", "linux-lvm", ["primary", "ext2"]),
        ("dos", "primary", "linux-raid", ["primary", "ext2"]),
        ("dos", "extended", "extended", ["extended"]),
        ("gpt", "primary", "linux-swap", ["primary"]),
        ("gpt", "primary", "extended", ["primary"]),
        ("sun", "primary", "linux-swap", ["linux-swap"]),
        ("bsd", "primary", "extended", ["ext2"]),
    ],
)
def test_mkpart_words(label: str, kind: str, volume_format: str | None, words: list[str]) -> None:
    assert mkpart_words(label, kind, volume_format) == words


# Sizes


@pytest.mark.parametrize(
    ("name", "capacity", "allocation", "available"),
    [
        # what virsh pool-dumpxml showed for the same tables
        ("dos-empty", 268431360, 0, 268430336),
        ("gpt-empty", 268418560, 0, 268401152),
        ("mac-empty", 268435456, 32256, 268402688),
        ("bsd-empty", 268435456, 0, 268434944),
        ("sun-empty", 268431360, 0, 268430848),
        ("dvh-empty", 268435456, 0, 268434944),
        ("pc98-empty", 268435456, 0, 268174336),
    ],
)
def test_state_is_virsh_s(
    image: str, name: str, capacity: int, allocation: int, available: int
) -> None:
    state = disk(ScriptedHost(prints(name)), image).state()
    assert (state.capacity, state.allocation, state.available) == (capacity, allocation, available)


def test_state_of_used_table(image: str) -> None:
    state = disk(ScriptedHost(prints("dos-logical")), image).state()
    assert state.allocation == (20 + 20 + 20 + 10 + 20) * MIB
    assert state.capacity == 268431360
    assert state.free_extents[0] == Extent(1024, MIB)
    assert state.available == sum(extent.end - extent.start for extent in state.free_extents)


def test_volumes_without_nodes_are_shown_from_the_table(image: str) -> None:
    backend = disk(ScriptedHost(prints("dos-logical"), prints("dos-logical")), image)
    shown = {volume.name: volume for volume in backend.volumes(details=True)}
    assert list(shown) == [f"disk{number}" for number in (1, 2, 5, 6, 7, 3)]
    assert shown["disk1"].capacity == 20 * MIB
    assert shown["disk1"].format == "none"
    assert shown["disk2"].capacity == 180 * MIB
    assert shown["disk2"].allocation == 50 * MIB
    assert [volume.name for volume in backend.volumes(details=False)] == list(shown)


def test_volume_by_name(image: str) -> None:
    backend = disk(ScriptedHost(*[prints("gpt-holes")] * 2), image)
    found = backend.volume("disk3")
    assert found is not None
    assert found.extents[0].start == 60 * MIB
    assert backend.volume("disk2") is None


# Start and build


@pytest.mark.parametrize(
    ("label", "signature", "on_disk", "error", "text"),
    [
        ("dos", "empty", "none", ProbeFailed, "is unrecognized, requires build"),
        ("bsd", "empty", "none", OperationFailed, "Unrecognized disk label found, requires build"),
        ("dos", "gpt", "gpt-empty", OperationInvalid, "does not match the expected format 'dos'"),
        ("dos", "pc98", "pc98-empty", OperationInvalid, "does not match the expected format 'dos'"),
        ("dos", "bsd", "bsd-empty", OperationInvalid, "does not match the expected format 'dos'"),
        ("gpt", "backup-gpt-only", "none", ProbeFailed, "is unrecognized, requires build"),
        ("dvh", "gpt", "gpt-empty", OperationFailed, "Known, but different label format present"),
        ("gpt", "ext4", None, OperationInvalid, "does not match the expected format 'gpt'"),
        ("dos", "ext4-and-dos", None, OperationInvalid, "does not match the expected format 'dos'"),
    ],
)
def test_start_refuses(
    image: str, label: str, signature: str, on_disk: str | None, error: Any, text: str
) -> None:
    host = ScriptedHost(finds(signature), *([prints(on_disk)] if on_disk else []))
    with pytest.raises(error, match=text):
        disk(host, image, label).start()
    assert not host.answers


@pytest.mark.parametrize(
    ("label", "signature", "on_disk"),
    [
        (None, "dos", "dos-empty"),
        ("unknown", "dos", "dos-used"),
        ("dos", "dos", "dos-empty"),
        ("gpt", "gpt", "gpt-empty"),
        ("dvh", "dvh", "dvh-empty"),
        ("pc98", "pc98", "pc98-empty"),
        ("bsd", "bsd", "bsd-empty"),
    ],
)
def test_start_accepts(image: str, label: str | None, signature: str, on_disk: str) -> None:
    on_disk = on_disk.replace("dos-used", "dos-logical")
    disk(ScriptedHost(finds(signature), prints(on_disk)), image, label).start()


def test_missing_device() -> None:
    backend = disk(ScriptedHost(), "/dev/no-such-disk")
    assert not backend.is_active()
    with pytest.raises(InvalidArgument, match="^device path '/dev/no-such-disk' doesn't exist$"):
        backend.start()
    with pytest.raises(InvalidArgument, match="doesn't exist"):
        backend.state()
    with pytest.raises(ProbeFailed, match="^Failed to create filesystem probe for device"):
        backend.build(overwrite=False, no_overwrite=False)
    with pytest.raises(SystemFailure, match="^Failed to open storage volume with path"):
        backend.build(overwrite=True, no_overwrite=False)
    with pytest.raises(SystemFailure, match="^Failed to open storage volume with path"):
        backend.delete()


def test_unreadable_device(image: str) -> None:
    host = ScriptedHost(("wipefs", 1, "", "wipefs: error: x: probing initialization failed\n"))
    with pytest.raises(ProbeFailed, match="^Failed to create filesystem probe for device"):
        disk(host, image).start()


def test_parted_s_other_failures_are_not_an_empty_disk(image: str) -> None:
    host = ScriptedHost(finds("empty"), ("print", 1, "", "Error: Input/output error\n"))
    with pytest.raises(ToolFailed, match="Input/output error"):
        disk(host, image).build(overwrite=False, no_overwrite=False)
    assert host.zeroed == []


@pytest.mark.parametrize(
    ("label", "signature", "on_disk", "error", "text"),
    [
        ("dos", "dos", "dos-empty", PoolBuilt, "already formatted using 'dos'"),
        ("gpt", "gpt", "gpt-empty", PoolBuilt, "already formatted using 'gpt'"),
        ("gpt", "dos", "dos-empty", PoolBuilt, "expected format 'gpt', forced overwrite is necess"),
        ("bsd", "bsd", "bsd-empty", OperationInvalid, "^Disk label already formatted using 'bsd'$"),
        ("dvh", "dvh", "dvh-empty", OperationInvalid, "^Disk label already formatted using 'dvh'$"),
        ("pc98", "gpt", "gpt-empty", OperationFailed, "Known, but different label format present"),
        ("dos", "bsd", "bsd-empty", PoolBuilt, "forced overwrite is necessary"),
        ("dos", "backup-gpt-only", "none", PoolBuilt, "forced overwrite is necessary"),
        *[
            ("dos", name, None, PoolBuilt, "forced overwrite is necessary")
            for name in ("ext4", "lvm", "swap", "luks", "luks-and-ext4", "vfat", "iso9660-and-dos")
        ],
    ],
)
def test_build_refuses(
    image: str, label: str, signature: str, on_disk: str | None, error: Any, text: str
) -> None:
    for flags in ({"no_overwrite": False}, {"no_overwrite": True}):
        host = ScriptedHost(finds(signature), *([prints(on_disk)] if on_disk else []))
        with pytest.raises(error, match=text):
            disk(host, image, label).build(overwrite=False, **flags)
        assert not host.answers
        assert host.zeroed == []


def test_build_says_what_it_found(image: str) -> None:
    host = ScriptedHost(finds("luks-and-ext4"))
    with pytest.raises(PoolBuilt) as caught:
        disk(host, image).build(overwrite=False, no_overwrite=False)
    assert caught.value.hint == f"found on '{image}': crypto_LUKS, ext4"


def test_build_refuses_unknown_data(image: str) -> None:
    with open(image, "r+b") as stream:
        stream.seek(MIB - 1)
        stream.write(b"x")
    host = ScriptedHost(finds("junk"), prints("none"))
    with pytest.raises(PoolBuilt, match="holds data of an unknown format"):
        disk(host, image).build(overwrite=False, no_overwrite=False)
    assert host.zeroed == []


@pytest.mark.parametrize(("label", "word"), [("dos", "msdos"), (None, "msdos"), ("gpt", "gpt")])
def test_build(image: str, label: str | None, word: str) -> None:
    for then in ("dos-empty", "none"):
        host = ScriptedHost(finds("empty"), prints("none"), did("mklabel"), prints(then))
        with (
            pytest.raises(OperationFailed, match="no partition table was made")
            if then == "none"
            else contextlib.nullcontext()
        ):
            disk(host, image, label).build(overwrite=False, no_overwrite=False)
        assert host.zeroed == [(image, [(0, MIB), (15 * MIB, MIB)])]
        assert host.ran[-2] == ["parted", "--script", image, "mklabel", word]


def test_build_overwrite_asks_nothing(image: str) -> None:
    host = ScriptedHost(did("mklabel"), prints("dos-empty"))
    disk(host, image).build(overwrite=True, no_overwrite=False)
    assert len(host.zeroed) == 1


def test_build_lvm2(image: str) -> None:
    host = ScriptedHost()
    with pytest.raises(ConfigUnsupported):
        disk(host, image, "lvm2").build(overwrite=True, no_overwrite=False)
    assert host.zeroed == []


def test_delete(image: str) -> None:
    host = ScriptedHost(("--rereadpt", 1, "", "blockdev: ioctl error\n"))
    disk(host, image).delete()
    assert host.zeroed == [(image, [(0, MIB), (15 * MIB, MIB)])]


@pytest.mark.parametrize(
    ("size", "ranges"),
    [
        (0, []),
        (512, [(0, 512)]),
        (2 * MIB, [(0, 2 * MIB)]),
        (2 * MIB + 512, [(0, MIB), (MIB + 512, MIB)]),
    ],
)
def test_edges(size: int, ranges: list[tuple[int, int]]) -> None:
    assert devices.edges(size) == ranges


# Making and removing, as far as it goes without a disk


@pytest.fixture
def block(image: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image that passes for a block device whose partitions never appear."""
    monkeypatch.setattr(
        devices, "device_number", lambda path: os.makedev(4000, 0) if path == image else None
    )
    monkeypatch.setattr(devices, "wait_until", lambda condition: condition())
    return image


def test_create_checks_the_name_first(block: str) -> None:
    host = ScriptedHost(prints("gpt-holes"))
    with pytest.raises(InvalidArgument, match="^invalid partition name 'x', expected 'disk2'$"):
        disk(host, block).create_volume(Volume("x", capacity=MIB), metadata=False)
    assert len(host.ran) == 1


def test_create_without_room_says_so_before_the_name(block: str) -> None:
    host = ScriptedHost(prints("gpt-holes"))
    with pytest.raises(InternalError, match="^no large enough free extent$"):
        disk(host, block).create_volume(Volume("x", capacity=1 << 40), metadata=False)


def test_a_disk_that_another_process_works_on(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown, and not changed."""
    monkeypatch.setattr(host_module, "UDEV_PATIENCE_S", 0)
    host = ScriptedHost(prints("gpt-holes"))
    with open(block) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert disk(host, block).state().free_extents
        with pytest.raises(ResourceBusy, match=f"is being worked on by process {os.getpid()} "):
            disk(host, block).build(overwrite=True, no_overwrite=False)
    assert [argv for argv in host.ran if "mklabel" in argv] == []


def test_parted_runs_on_a_locked_disk(block: str) -> None:
    """Or udev would take the partitions away when parted is done, though it only looked."""

    class Udev(ScriptedHost):
        def query(self, argv: list[str], **options: Any) -> str:
            with open(block) as disk:
                self.could_lock = locked(disk.fileno(), fcntl.LOCK_EX, 0)
            return super().query(argv, **options)

    host = Udev(prints("gpt-holes"))
    assert list(disk(host, block).volumes(details=False))
    assert not host.could_lock


def test_create_on_a_file(image: str) -> None:
    host = ScriptedHost(prints("dos-empty"))
    with pytest.raises(VolumeNotFound, match="^no storage vol with matching path '.*/disk1'$"):
        disk(host, image).create_volume(Volume("disk1", capacity=MIB), metadata=False)
    assert len(host.ran) == 1


def test_failed_create_removes_its_partition_only(block: str) -> None:
    after = json.loads(recorded("parted", "gpt-holes")["stdout"])
    after["disk"]["partitions"].append(
        {"number": 2, "start": f"{21 * MIB}B", "end": f"{31 * MIB - 1}B", "type": "primary"}
    )
    host = ScriptedHost(
        prints("gpt-holes"),
        ("mkpart", 1, "", "Error: unable to inform the kernel\n"),
        ("print", 0, json.dumps(after), ""),
        did("rm"),
    )
    with pytest.raises(ToolFailed, match="unable to inform the kernel"):
        disk(host, block).create_volume(Volume("disk2", capacity=10 * MIB), metadata=False)
    assert host.ran[-1] == ["parted", "--script", block, "rm", "2"]
    assert not host.answers


def test_create_that_changed_nothing_removes_nothing(block: str) -> None:
    host = ScriptedHost(prints("gpt-holes"), ("mkpart", 1, "", "no\n"), prints("gpt-holes"))
    with pytest.raises(ToolFailed):
        disk(host, block).create_volume(Volume("disk2", capacity=10 * MIB), metadata=False)
    assert not host.answers


def test_foreign_partition_of_the_same_number_is_left_alone(block: str) -> None:
    """Somebody else made partition 2 meanwhile, elsewhere."""
    after = json.loads(recorded("parted", "gpt-holes")["stdout"])
    after["disk"]["partitions"].append(
        {"number": 2, "start": f"{90 * MIB}B", "end": f"{91 * MIB - 1}B", "type": "primary"}
    )
    host = ScriptedHost(
        prints("gpt-holes"), ("mkpart", 1, "", "no\n"), ("print", 0, json.dumps(after), "")
    )
    with pytest.raises(ToolFailed):
        disk(host, block).create_volume(Volume("disk2", capacity=10 * MIB), metadata=False)
    assert not host.answers


def test_first_error_is_the_one_shown(block: str) -> None:
    host = ScriptedHost(
        prints("gpt-holes"), ("mkpart", 1, "", "first\n"), ("print", 1, "", "second\n")
    )
    with pytest.raises(ToolFailed, match="first"):
        disk(host, block).create_volume(Volume("disk2", capacity=10 * MIB), metadata=False)


def test_delete_extended_with_logical_ones(block: str) -> None:
    host = ScriptedHost(prints("dos-logical"))
    with pytest.raises(OperationInvalid, match="logical partitions: disk5, disk6, disk7"):
        disk(host, block).delete_volume(Volume("disk2"))
    assert len(host.ran) == 1


def test_delete_unknown(block: str) -> None:
    with pytest.raises(VolumeNotFound):
        disk(ScriptedHost(prints("dos-logical")), block).delete_volume(Volume("disk9"))


def test_delete_partition_without_node(block: str) -> None:
    host = ScriptedHost(prints("dos-logical"), did("rm"))
    disk(host, block).delete_volume(Volume("disk3"))
    assert host.ran[-1] == ["parted", "--script", block, "rm", "3"]


def test_delete_refuses_a_node_that_is_something_else(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "device_number", lambda path: 0x700)
    monkeypatch.setattr(
        devices,
        "kernel_partition",
        lambda path: devices.KernelPartition(3, 0x701, 201 * MIB, 20 * MIB),
    )
    host = ScriptedHost(prints("dos-logical"))
    with pytest.raises(OperationFailed, match="is not partition 3 of"):
        disk(host, block).delete_volume(Volume("disk3"))
    assert len(host.ran) == 1


# Who uses a device


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    return FakeKernel(tmp_path, monkeypatch)


def test_user_of_device(kernel: FakeKernel) -> None:
    whole = kernel.add("sda", "8:0")
    one = kernel.add("sda/sda1", "8:1", partition="1")
    two = kernel.add("sda/sda2", "8:2", partition="2")
    assert in_use.user_of_device(whole) is None
    kernel.mount("8:1", "/dev/root", "/mnt/a\\040b")
    assert in_use.user_of_device(one) == "mounted on /mnt/a b"
    kernel.add("dm-0", "253:0", dm_name="vg-lv", dm_uuid="LVM-x")
    kernel.hold(two, "dm-0")
    assert in_use.user_of_device(two) == "held by /dev/mapper/vg-lv"
    kernel.hold(whole, "md0")
    assert in_use.user_of_device(whole) == "held by /dev/md0"
    assert list(in_use.related(whole)) == [whole, one, two]
    assert list(in_use.related(one)) == [one, whole]


def test_kernel_partition(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"/dev/sda": (8, 0), "/dev/sda1": (8, 1), "/dev/sdaa": (65, 160),
               "/dev/sdaa1": (65, 161), "/dev/mapper/mpatha-part3": (253, 1)}  # fmt: skip
    monkeypatch.setattr(
        devices,
        "device_number",
        lambda path: os.makedev(*numbers[path]) if path in numbers else None,
    )
    kernel.add("sda", "8:0")
    kernel.add("sda/sda1", "8:1", partition="1", start="2048", size="4096")
    kernel.add("sdaa", "65:160")
    kernel.add("sdaa/sdaa1", "65:161", partition="1", start="34", size="8")
    kernel.add("dm-0", "253:0", dm_uuid="mpath-3600", dm_name="mpatha")
    mapped = kernel.add("dm-1", "253:1", dm_uuid="part3-mpath-3600", dm_name="mpatha-part3")
    (Path(mapped) / "slaves/dm-0").mkdir()
    sda, sdaa, mpatha = os.makedev(8, 0), os.makedev(65, 160), os.makedev(253, 0)
    look = devices.kernel_partition
    assert look("/dev/sda1") == devices.KernelPartition(1, sda, MIB, 2 * MIB)
    assert look("/dev/sdaa1") == devices.KernelPartition(1, sdaa, 34 * 512, 8 * 512)
    assert look("/dev/mapper/mpatha-part3") == devices.KernelPartition(3, mpatha, None, None)
    assert look("/dev/sda") is None
    assert look("/dev/sdb1") is None


def test_file_on_a_loop_device_is_in_use(kernel: FakeKernel, image: str) -> None:
    in_use.require_unused(Host(), image)
    folder = kernel.sys / "block/loop7/loop"
    folder.mkdir(parents=True)
    (folder / "backing_file").write_text(image + "\n")
    with pytest.raises(ResourceBusy, match="attached to /dev/loop7"):
        in_use.require_unused(Host(), image)


def test_file_swapped_to_is_in_use(kernel: FakeKernel, image: str) -> None:
    (kernel.proc / "swaps").write_text(f"Filename Type Size Used Priority\n{image} file 1 0 -2\n")
    with pytest.raises(ResourceBusy, match="used as swap"):
        in_use.require_unused(Host(), image)


def test_unused_needs_a_device() -> None:
    with pytest.raises(SystemFailure, match="No such file"):
        in_use.require_unused(Host(), "/dev/no-such-disk")
    with pytest.raises(OperationInvalid, match="not a block device"):
        in_use.require_unused(Host(), "/dev/null")


def test_require_empty(image: str) -> None:
    devices.require_empty(ScriptedHost(finds("empty")), image, "ext4")
    with pytest.raises(PoolBuilt, match="^Device '.*' already formatted using 'ext4'$"):
        devices.require_empty(ScriptedHost(finds("ext4")), image, "ext4")
    with pytest.raises(PoolBuilt, match="does not match the expected format 'xfs', forced"):
        devices.require_empty(ScriptedHost(finds("ext4")), image, "xfs")
    assert devices.signature(ScriptedHost(finds("iso9660-and-dos")), image) == "iso9660"
    assert devices.signature(ScriptedHost(finds("empty")), image) is None


def test_settle_only_where_udev_runs(monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/no/such/socket")
    devices.settle(ScriptedHost())
    monkeypatch.setattr(devices, "UDEV_CONTROL", image)
    host = ScriptedHost(("settle", 1, "", "timed out"))
    devices.settle(host)
    assert host.ran == [["udevadm", "settle", "--timeout=10"]]


def test_wait_until(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    assert devices.wait_until(lambda: next(answers))
    monkeypatch.setattr(devices, "PATIENCE_S", 0.01)
    assert not devices.wait_until(lambda: False)


def test_links_below_dev_only(tmp_path: Path) -> None:
    for target in ("/dev", "/dev/", "/nowhere", str(tmp_path)):
        assert devices.stable_links(target) == {}


def test_node_that_a_link_leads_to(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"/dev/sda1": 1, "/dev/sdb1": 2}
    monkeypatch.setattr(devices, "device_number", numbers.get)
    monkeypatch.setattr(devices, "stable_links", lambda *_: {1: "/dev/disk/by-id/a-part1"})
    backend = disk(Host(), image)
    assert backend.stable_path("/dev/sda1") == "/dev/disk/by-id/a-part1"
    assert backend.stable_path("/dev/sdb1") == "/dev/sdb1"
    assert backend.stable_path("/dev/nosuch") == "/dev/nosuch"


def test_multipath_node_names(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[int, str] = {}
    monkeypatch.setattr(devices, "is_mapped", lambda path: True)
    monkeypatch.setattr(devices, "mapped_partitions", lambda path: known)
    backend = disk(Host(), "/dev/mapper/mpatha")
    assert backend._node(1) == "/dev/mapper/mpatha1"
    backend.pool.source.devices[0].part_separator = "yes"
    assert backend._node(1) == "/dev/mapper/mpathap1"
    known[2] = "/dev/mapper/mpatha-part2"
    assert backend._node(2) == "/dev/mapper/mpatha-part2"
    assert backend._node(13) == "/dev/mapper/mpatha-part13"


def test_mapped_partitions(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kernel.add("dm-0", "253:0", dm_uuid="mpath-3600", dm_name="mpatha")
    for number, (name, uuid) in enumerate(
        (("mpatha-part3", "part3-mpath-3600"), ("other", "part1-mpath-36"), ("lv", "LVM-x")), 1
    ):
        kernel.add(f"dm-{number}", f"253:{number}", dm_name=name, dm_uuid=uuid)
        kernel.hold(whole, f"dm-{number}")
    monkeypatch.setattr(devices, "device_number", lambda path: os.makedev(253, 0))
    assert devices.mapped_partitions("x") == {3: "/dev/mapper/mpatha-part3"}


@pytest.mark.parametrize("text", ["", "{", "{}"])
def test_nonsense_from_parted(image: str, text: str) -> None:
    with pytest.raises(StorageError, match="what parted printed"):
        disk(ScriptedHost(("print", 0, text, "")), image).state()


def test_the_layout_of_a_disk_has_what_is_inside_an_extended_partition(image: str) -> None:
    (layout,) = disk(ScriptedHost(prints("dos-logical")), image).layouts()
    found = table("dos-logical")
    parts = [part for part in found.partitions if part.kind != parted.EXTENDED]
    assert len(parts) < len(found.partitions)
    used = [(r.name, r.start, r.end) for r in layout.ranges if r.name]
    assert used == [(f"disk{p.number}", p.start, p.end) for p in parts]
    free = [(r.start, r.end) for r in layout.ranges if not r.name]
    assert free == [(f.start, f.end) for f in found.free]
    assert list(layout.ranges) == sorted(layout.ranges, key=lambda r: r.start)
    assert (layout.device, layout.size) == (image, found.size)
