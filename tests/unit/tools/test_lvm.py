"""LVM's argument lists, and its reports as they were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storagectl.errors import InternalError
from storagectl.tools import lvm

FIXTURES = Path(__file__).parent / "fixtures" / "lvm"
EXTENT = 4 << 20


def printed(name: str) -> str:
    text: str = json.loads((FIXTURES / f"{name}.json").read_text())["stdout"]
    return text


def test_a_group_of_three_devices() -> None:
    (group,) = lvm.parse_groups(printed("vgs-three"))
    assert (group.name, group.size, group.volumes) == ("lab.v-g+1", 390070272, 11)
    assert group.devices == ("/dev/loop0", "/dev/loop1", "/dev/loop2")
    assert (group.missing, group.exported, group.lock_type) == (0, False, "")


def test_missing_devices_have_no_path() -> None:
    (group,) = lvm.parse_groups(printed("vgs-partial"))
    assert (group.missing, group.devices) == (1, ("/dev/loop0",))
    found = lvm.parse_volumes(printed("lvs-partial"))
    assert [(v.name, v.active, v.open) for v in found] == [("x", False, False), ("y", False, False)]
    assert [place.device for place in found[1].places] == ["[unknown]", "/dev/loop0"]


def test_exported_groups() -> None:
    assert lvm.parse_groups(printed("vgs-exported"))[0].exported


def test_two_groups_of_one_name() -> None:
    text = printed("vgs-three")
    uuid = lvm.parse_groups(text)[0].uuid
    assert len(lvm.parse_groups(text.replace(uuid, "other", 1))) == 2


def test_volumes() -> None:
    found = {volume.name: volume for volume in lvm.parse_volumes(printed("lvs-many"))}
    assert [name for name in found if not found[name].active] == ["inact", "thinsnap"]
    assert found["thinsnap"].skipped
    assert found["thinsnap"].origin == "thin"
    assert found["snap"].origin == "lin.e-ar+1"
    assert found["sparse"].origin is None
    assert found["lin.e-ar+1"].origin is None
    assert [name for name in found if found[name].kind in lvm.SNAPSHOTS] == ["snap", "sparse"]
    assert [name for name in found if found[name].kind in lvm.INNER_POOLS] == ["pool"]
    assert [name for name in found if found[name].open] == ["pool"]
    assert found["thin"].places == ()
    assert (found["thin"].data_percent, found["thin"].used) == (0, 0)
    assert (found["thin"].pool, found["two"].pool) == ("pool", None)
    assert found["thin"].chunk_size == 0
    assert found["two"].used == found["two"].size
    assert found["two"].size == 155189248
    assert found["two"].places == (
        ("/dev/loop1", 0, 130023424),
        ("/dev/loop0", 2 * EXTENT, 5 * EXTENT),
        ("/dev/loop0", 17 * EXTENT, 20 * EXTENT),
    )


@pytest.mark.parametrize("chunk", [4096, 8192, 512 << 10])
@pytest.mark.parametrize("chunks", [1, 255, 256, 257, 512, 1000, 70000])
def test_a_snapshot_that_never_overflows(chunk: int, chunks: int) -> None:
    """dm-snap-persistent.c: a header, and before each area of data its table."""
    table = chunk // 16
    last = max(
        1 + chunks + -(-chunks // table),
        2 + (chunks // table) * (table + 1),  # the table after a full one is cleared
    )
    document = json.loads(printed("lvs-many"))
    row = next(row for row in document["report"][0]["lv"] if row["lv_name"] == "snap")
    row["chunk_size"] = str(chunk)
    for size, enough in ((last * chunk, True), (last * chunk - 1, False)):
        row["lv_size"] = str(size)
        found = lvm.parse_volumes(json.dumps(document))
        snapshot = next(volume for volume in found if volume.name == "snap")
        assert snapshot.holds_all_of(chunks * chunk) == enough
        assert snapshot.holds_all_of(chunks * chunk - 1) == enough
        assert not snapshot.holds_all_of(chunks * chunk + 1)


@pytest.mark.parametrize(
    ("said", "without"),
    [
        ('  Volume group "vg" not found\n  Cannot process volume group vg\n', True),
        ('  Volume group "other" not found\n', False),
        ("  Devices file PVID 5wFo last seen on /dev/sdb not found.\n", False),
        ('  Volume group "vg" not found, is inconsistent or has PVs missing.\n', False),
        ("", False),
    ],
)
def test_s40_a_group_that_is_not_there(said: str, without: bool) -> None:
    assert lvm.is_without(said, "vg") == without


def test_places_of_stripes_and_of_legs() -> None:
    found = {volume.name: volume for volume in lvm.parse_volumes(printed("lvs-hidden"))}
    assert [*found] == ["lin.e-ar+1", "mirror", "pool", "r5", "raid", "snap", "stripe", "thin",
                        "thinsnap", "virt"]  # fmt: skip

    def places(name: str) -> list[tuple[str, int, int]]:
        return [(p.device, p.start // EXTENT, p.end // EXTENT) for p in found[name].places]

    assert places("stripe") == [("/dev/loop0", 2, 3), ("/dev/loop1", 0, 1)]
    assert places("mirror") == [("/dev/loop0", 3, 4), ("/dev/loop1", 1, 2)]
    assert places("r5") == [("/dev/loop0", 7, 8), ("/dev/loop1", 5, 6), ("/dev/loop2", 2, 3)]
    assert places("raid") == [("/dev/loop0", 5, 6), ("/dev/loop0", 13, 14),
                              ("/dev/loop1", 3, 4), ("/dev/loop1", 6, 7)]  # fmt: skip


def test_open_volumes() -> None:
    found = lvm.parse_volumes(printed("lvs-open"))
    assert [v.name for v in found if v.open and v.kind not in lvm.INNER_POOLS] == ["two"]


def test_no_volumes() -> None:
    assert lvm.parse_volumes(printed("lvs-none")) == []


def test_segments() -> None:
    one, two = lvm.parse_segments(printed("pvs-segments"))
    assert (one.device, one.group, one.size) == ("/dev/loop1", "sttest", 99 * EXTENT)
    assert [(name, start // EXTENT, end // EXTENT) for name, start, end in one.places] == [
        ("", 0, 25), ("wide", 25, 45), ("gap", 45, 55), ("", 55, 99),
    ]  # fmt: skip
    assert [name for name, _, _ in two.places] == ["wide", "gap", ""]


def test_segments_of_a_missing_device_and_of_one_in_no_group() -> None:
    found = lvm.parse_segments(printed("pvs-segments-missing"))
    assert [one.device for one in found] == ["/dev/loop1", "[unknown]"]
    assert [one.device for one in lvm.parse_segments(printed("pvs-segments-none"))] == [
        "/dev/loop1"
    ]


def test_physical() -> None:
    assert lvm.parse_physical(printed("pvs"))[0] == ("/dev/loop0", "lab.v-g+1")


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "[]", "{}", '{"report": 1}', '{"report": [{"vg": [1]}]}']
)
def test_nonsense(text: str) -> None:
    for parse in (lvm.parse_groups, lvm.parse_volumes, lvm.parse_physical, lvm.parse_segments):
        with pytest.raises(InternalError, match="cannot understand what"):
            parse(text)


@pytest.mark.parametrize("name", ["vg", "lab.v-g+1", "_", "+x", "0", "..."])
def test_names(name: str) -> None:
    assert lvm.is_valid_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-f", "--yes", "a/b", "a b", "@tag", "vg\n", "ä"])
def test_s64_no_names(name: str) -> None:
    assert not lvm.is_valid_name(name)


def test_places_with_odd_names() -> None:
    row = {"devices": "/dev/disk/by-id/a,b(c)(3),/dev/sdb(0)", "seg_size": "40",
           "vg_extent_size": "10"}  # fmt: skip
    assert lvm.parse_places([row]) == [("/dev/disk/by-id/a,b(c)", 30, 50), ("/dev/sdb", 0, 20)]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (lvm.lvcreate("vg", "n", 8 << 20), "-L 8192K vg --yes"),
        (lvm.lvcreate("vg", "n", 1), "-L 1K vg --yes"),
        (lvm.lvcreate("vg", "n", 1025), "-L 2K vg --yes"),
        (
            lvm.lvcreate_thin("vg", "n", 16 << 20, "tp"),
            "--thin --virtualsize 16384K --thinpool tp vg --yes",
        ),
        (lvm.snapshot("/dev/vg/o", "n", 8 << 20), "-L 8192K -s /dev/vg/o --yes"),
        (lvm.snapshot("/dev/vg/o", "n", 0), "-L 1K -s /dev/vg/o --yes"),
        (lvm.snapshot_thin("/dev/vg/o", "n"), "--setactivationskip n -s /dev/vg/o --yes"),
    ],
)
def test_lvcreate(argv: list[str], words: str) -> None:
    assert argv == ["lvcreate", "--name", "n", *words.split()]
