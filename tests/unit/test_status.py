"""What status finds out about pools, and how it is drawn."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import pytest
from fakehost import FakeHost
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from storagectl.backends import Layout, Path, PoolState, Range, devices
from storagectl.backends.mpath import Multipath
from storagectl.commands import output, picture
from storagectl.commands import status as status_command
from storagectl.commands.picture import PLAIN, Paper
from storagectl.model import Adapter, BackingStore, Device, Host, Pool, Source, Volume
from storagectl.pools import Pools
from storagectl.status import (
    BROKEN,
    INACTIVE,
    RUNNING,
    Link,
    PoolStatus,
    chains,
    examine,
    source_words,
)
from storagectl.store import Store
from storagectl.tools import parted

if TYPE_CHECKING:
    from collections.abc import Sequence

GIB = 1 << 30


def volume(name: str, on: str | None = None) -> Volume:
    backing = None if on is None else BackingStore(on if "/" in on else f"/p/{on}")
    return Volume(name, path=f"/p/{name}", format="qcow2", backing=backing, capacity=GIB)


def running(name: str = "p", used: int = 1, whole: int = 4, **more: object) -> PoolStatus:
    measured = PoolState(whole * GIB, used * GIB, (whole - used) * GIB)
    status = PoolStatus(name, "u", "dir", "/srv", RUNNING, measured=measured)
    return status._replace(**more)  # type: ignore[arg-type]


def drawn(rows: Sequence[PoolStatus], width: int, **settings: object) -> str:
    """Return what a terminal of that width gets."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=True, color_system="truecolor", highlight=False,
        markup=False, emoji=False, **settings,
    )  # type: ignore[arg-type]  # fmt: skip
    for part in status_command.picture(rows, Paper(width, False)):
        console.print(part)
    return stream.getvalue()


def bare(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


# The tree of volumes


def shape(volumes: Sequence[Volume]) -> list[tuple[str, tuple[bool, ...], str]]:
    return [(link.volume.name, link.last, link.outside) for link in chains(volumes)]


def test_a_volume_is_below_the_one_that_it_is_based_on() -> None:
    found = [volume("a", "b"), volume("b"), volume("c", "b"), volume("d", "a"), volume("e", "/x/y")]
    assert shape(found) == [
        ("b", (), ""),
        ("a", (False,), ""),
        ("d", (False, True), ""),
        ("c", (True,), ""),
        ("e", (), "/x/y"),
    ]


def test_volumes_in_a_circle_are_all_shown_once() -> None:
    found = [volume("a", "b"), volume("b", "a"), volume("self", "self"), volume("z", "a")]
    assert sorted(link.volume.name for link in chains(found)) == ["a", "b", "self", "z"]


@given(st.lists(st.integers(0, 9), max_size=10))
def test_no_volume_is_lost_whatever_it_is_based_on(bases: list[int]) -> None:
    found = [volume(str(number), str(base)) for number, base in enumerate(bases)]
    assert sorted(link.volume.name for link in chains(found)) == sorted(v.name for v in found)


# Sources


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (Pool("dir", "p", "u", target="/srv/a"), "/srv/a"),
        (Pool("fs", "p", "u", Source(devices=[Device("/dev/sdb1")]), target="/t"), "/dev/sdb1"),
        (Pool("netfs", "p", "u", Source(hosts=[Host("nas")], dir="/x"), target="/t"), "nas:/x"),
        (Pool("logical", "p", "u", Source(name="vg"), target="/dev/vg"), "vg"),
        (
            Pool("logical", "p", "u", Source(name="vg", devices=[Device("/dev/a")])),
            "/dev/a",
        ),
        (
            Pool("iscsi", "p", "u", Source(hosts=[Host("nas", 3260)], devices=[Device("iqn.x")])),
            "nas:3260 iqn.x",
        ),
        (Pool("scsi", "p", "u", Source(adapter=Adapter("scsi_host", "host3"))), "host3"),
        (Pool("mpath", "p", "u", target="/dev/mapper"), "-"),
    ],
)
def test_source_words(pool: Pool, words: str) -> None:
    assert source_words(pool) == words


# Maps


def test_a_map_is_to_scale() -> None:
    ranges = [Range("a", 0, 25), Range("", 25, 50), Range("b", 50, 100)]
    assert picture.scaled(ranges, 100, 8) == [0, 0, 1, 1, 2, 2, 2, 2]


def test_a_small_partition_is_seen_and_a_gap_stays_empty() -> None:
    ranges = [Range("tiny", 500, 501), Range("", 501, 990)]
    cells = picture.scaled(ranges, 1000, 10)
    assert cells.count(0) == 1
    assert cells[:5] == [None] * 5


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30, unique=True), st.integers(1, 80))
def test_a_map_has_all_cells_in_order(bounds: list[int], cells: int) -> None:
    edges = [0, *sorted(bounds)]
    ranges = [
        Range(f"{number}" if number % 2 else "", start, end)
        for number, (start, end) in enumerate(zip(edges, edges[1:], strict=False))
    ]
    found = picture.scaled(ranges, edges[-1], cells)
    assert len(found) == cells
    assert None not in found
    assert found == sorted(found, key=lambda cell: cell or 0)


def test_a_map_as_plain_text() -> None:
    ranges = (Range("sda1", 0, GIB), Range("", GIB, 3 * GIB), Range("sda2", 3 * GIB, 4 * GIB))
    row = running(layouts=(Layout("/dev/sda", 4 * GIB, ranges),), type="disk")
    lines = status_command.plain([row]).splitlines()
    assert lines[4:7] == [
        "  /dev/sda  4.0 GiB",
        "  " + "1" * 16 + "." * 32 + "2" * 16,
        "  1 sda1 1.0 GiB  2 sda2 1.0 GiB  . free 2.0 GiB",
    ]


def test_a_volume_in_two_pieces_is_told_of_once() -> None:
    ranges = (Range("lv", 0, GIB), Range("", GIB, 2 * GIB), Range("lv", 2 * GIB, 4 * GIB))
    lines = status_command.plain([running(layouts=(Layout("/dev/a", 4 * GIB, ranges),))])
    assert "  1 lv 3.0 GiB  . free 1.0 GiB\n" in lines


def test_paths_as_plain_text() -> None:
    paths = {"dm-0": [Path("sda", "2:0:0:0", True, 0), Path("sdb", "3:0:0:0", False, 2)]}
    lines = status_command.plain([running(paths={**paths, "dm-1": []})]).splitlines()
    assert lines[4:9] == [
        "  dm-0",
        "    sda   2:0:0:0   active",
        "    sdb   3:0:0:0   failed 2 times",
        "  dm-1",
        "    no paths",
    ]


# The overview


@pytest.mark.parametrize(
    ("part", "whole", "share"),
    [(0, 0, 0), (0, 9, 0), (1, 10**9, 1), (999, 1000, 99), (9, 9, 100), (12, 9, 100)],
)
def test_percent(part: int, whole: int, share: int) -> None:
    assert picture.percent(part, whole) == share


def test_what_cannot_be_full_has_no_bar() -> None:
    shown = status_command.plain([running("lun", divides=False, type="iscsi")])
    assert "%" not in shown
    assert "4.0 GiB" in shown


def many(count: int) -> list[PoolStatus]:
    rows = [running(f"pool{number}", number % 5) for number in range(count)]
    odd = [
        PoolStatus("off", "u", "dir", "/srv/off", INACTIVE),
        PoolStatus("bad", "", "-", "-", BROKEN, "device '/dev/nosuch' does not exist " * 3),
        running("a-name-that-is-much-longer-than-a-column-of-a-terminal-may-ever-be", 3),
        running("漢字の名前", 3, source="nas.example.com:/export/" + "long/" * 20 + "images"),
    ]
    return rows + odd


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("count", [0, 3, 300])
def test_no_line_is_wider_than_the_terminal(width: int, count: int) -> None:
    rows = many(count)
    lines = bare(drawn(rows, width))
    assert max(output.width(line) for line in lines) <= width
    text = "".join(line.replace(" ", "") for line in lines)
    for number in range(count):
        assert f"pool{number}running" in text
    if width >= 80:
        assert [line for line in lines if line.startswith("off ")]
        assert "names" not in text


def test_at_80_columns_a_pool_is_one_line() -> None:
    lines = bare(drawn([running(f"p{number}", 2) for number in range(3)], 80))
    assert lines[1].rstrip() == "p0    running  dir   /srv    █████░░░░░  50 %  2.0 GiB free"
    assert len(lines) == 6
    assert lines[5].rstrip() == "3 pools: 3 running"


def test_the_reason_of_a_broken_pool_stays_in_its_cell() -> None:
    lines = bare(drawn(many(0), 80))
    (first,) = [number for number, line in enumerate(lines) if line.startswith("bad ")]
    column = lines[0].index("Usage")
    below = [line for line in lines[first + 1 :] if line[:column].strip() == "" and line.strip()]
    assert len(below) >= 2
    reason = " ".join(line[column:].strip() for line in (lines[first], *below))
    assert reason == ("device '/dev/nosuch' does not exist " * 3).strip()


def test_colours_are_those_of_the_terminal_and_never_a_background() -> None:
    ranges = tuple(Range(f"sda{number}", number * GIB, (number + 1) * GIB) for number in range(3))
    rows = [
        *many(9),
        running(used=9, whole=10),
        running(layouts=(Layout("/dev/sda", 4 * GIB, ranges),)),
        running(links=(Link(volume("a"), (), ""), Link(volume("b"), (True,), ""))),
        running(paths={"dm-0": [Path("sda", "1:0:0:0", False, 1)]}),
    ]
    shown = drawn(rows, 100)
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", shown) for code in found.split(";")}
    assert codes <= {"0", "1", "2", "31", "32", "33", "34", "35", "36"}
    assert {"31", "32", "33"} <= codes
    plain = drawn(rows, 100, no_color=True)
    assert not re.search(r"\x1b\[[0-9;]*3\d", plain)


def test_nothing_in_a_name_acts_on_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[31m[red]\u202e\udc9b\n\t"
    row = running(
        evil, source=evil, why="", links=(Link(volume(evil, f"/{evil}"), (), evil),),
        layouts=(Layout(evil, GIB, (Range(evil, 0, GIB),)),),
        paths={evil: [Path(evil, evil, True, 0)]},
    )  # fmt: skip
    rows = [row, PoolStatus(evil, "", "-", evil, BROKEN, evil)]
    for text in (drawn(rows, 500), status_command.plain(rows)):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", text) if text != status_command.plain(rows) else text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udc9b]", shown)
        assert r"\x1b[31m[red]" in shown


def test_plain_text_is_never_cut() -> None:
    text = status_command.plain(many(3))
    assert "a-name-that-is-much-longer-than-a-column-of-a-terminal-may-ever-be " in text
    assert "long/" * 20 + "images" in text
    assert len(text.splitlines()) == 1 + 7 + 2
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert text.isprintable() is False
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("words", "columns", "shown"),
    [
        ("/srv/images", 11, "/srv/images"),
        ("/srv/images", 7, "/sr…ges"),
        ("", 3, ""),
        ("漢字漢字", 5, "漢…字"),
        ("abc", 1, "…"),
    ],
)
def test_shortened(words: str, columns: int, shown: str) -> None:
    assert picture.shortened(words, columns) == shown


def test_a_tree_on_a_terminal_has_lines_and_as_text_has_indents() -> None:
    links = tuple(chains([volume("base"), volume("one", "base"), volume("top", "one")]))
    lines = bare(drawn([running(links=links)], 80))
    assert [line.split()[0:2] for line in lines[5:7]] == [["└─", "one"], ["└─", "top"]]
    text = status_command.plain([running(links=links)]).splitlines()
    assert [line[:10] for line in text[4:7]] == ["  base    ", "    one   ", "      top "]


# What is watched


def fits(rows: Sequence[PoolStatus], width: int, height: int) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, force_terminal=True)
    console.print(status_command.screen(rows, console))
    return bare(stream.getvalue())


@pytest.mark.parametrize("height", [3, 10, 24, 400])
def test_a_watched_screen_fits(height: int) -> None:
    lines = fits(many(300), 80, height)
    assert len(lines) <= height
    assert "Ctrl-C" in lines[-1] or "…" in lines[-1]
    if height < 300:
        assert "more pools" in lines[-1]


def test_of_too_many_pools_those_in_trouble_stay() -> None:
    lines = fits([*many(300)[:300], *many(0)], 80, 10)
    assert any(line.startswith("bad ") for line in lines)
    assert lines[1].startswith("pool0 ")


def test_plain_paper_has_no_limit() -> None:
    assert PLAIN.plain
    assert PLAIN.width > 5000


# Pools on a host that answers from a script


def pools_of(tmp_path: FilePath, host: FakeHost, *pools: Pool) -> Pools:
    store = Store(host, str(tmp_path))
    for pool in pools:
        store.define(pool)
        store.mark_started(pool)
    return Pools(store, host)


def uuid(number: int) -> str:
    return f"{number}1111111-1111-4111-8111-111111111111"


def test_a_tool_that_fails_breaks_its_own_pool_only(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nonexistent")
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    disk = Pool("disk", "disk", uuid(1), Source(devices=[Device(str(image))]), "/dev")
    mpath = Pool("mpath", "maps", uuid(2), target="/dev/mapper")
    plain = Pool("dir", "plain", uuid(3), target=str(tmp_path))
    monkeypatch.setattr(Multipath, "is_active", lambda _: True)
    with FakeHost(
        (parted.print_table(str(image)), "Error: \x1b[31mno\nsuch disk\n", 1),
        (["dmsetup", "ls", "--target", "multipath"], "No devices found\n", 0),
        (["dmsetup", "status", "--target", "multipath"], "No devices found\n", 0),
        (["dmsetup", "ls", "--target", "multipath"], "No devices found\n", 0),
    ) as host:
        found = examine(pools_of(tmp_path / "root", host, disk, mpath, plain), maps=True)
    assert [(one.name, one.state) for one in found] == [
        ("disk", BROKEN), ("maps", RUNNING), ("plain", RUNNING),
    ]  # fmt: skip
    assert "\n" not in found[0].why
    assert found[0].why.endswith("no such disk")
    assert found[1].paths == {}
    assert not found[1].divides
    assert "\x1b" not in status_command.plain(found)


def test_a_disk_is_measured_and_drawn(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nonexistent")
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    fixture = FilePath(__file__).parent / "tools/fixtures/parted/gpt-holes.json"
    table = json.loads(fixture.read_text())["stdout"]
    disk = Pool("disk", "disk", uuid(1), Source(devices=[Device(str(image))]), "/dev")
    answer = (parted.print_table(str(image)), table, 0)
    with FakeHost(answer, answer, answer) as host:
        (found,) = examine(pools_of(tmp_path / "root", host, disk), volumes=True, maps=True)
    known = parted.parse_table(table)
    assert found.measured is not None
    assert found.measured.allocation == sum(part.end - part.start for part in known.partitions)
    assert found.links is not None
    assert len(found.links) == len(known.partitions)
    drawn = status_command.plain([found]).splitlines()
    row = drawn.index(f"  {image}  {picture.size(known.size)}") + 1
    assert set("12.") <= set(drawn[row])


def test_files_that_may_outgrow_their_pool(tmp_path: FilePath) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a").touch()
    pools = pools_of(tmp_path / "root", FakeHost(), Pool("dir", "d", uuid(1), target=str(folder)))
    for size, more in ((1 << 20, []), (1 << 43, ["overcommitted"])):
        os.truncate(folder / "a", size)
        (found,) = examine(pools, volumes=True)
        assert found.growth == size
        lines = status_command.plain([found]).splitlines()
        assert [line.split(":")[0].strip() for line in lines if "grow by" in line] == more


def test_a_server_that_is_gone_is_inaccessible(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool("dir", "nas", uuid(1), target=str(tmp_path))
    pools = pools_of(tmp_path / "root", FakeHost(), pool)
    monkeypatch.setattr(FakeHost, "responds", lambda *_: False)
    (found,) = examine(pools, volumes=True, maps=True)
    assert (found.state, found.measured, found.links) == ("inaccessible", None, None)
    assert found.why.endswith(f"'{tmp_path}' does not answer")
