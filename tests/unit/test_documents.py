"""What files for `apply` ask for, and every error in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storagectl.documents import File, Place, Wanted, gather, read
from storagectl.errors import ClientError

if TYPE_CHECKING:
    from pathlib import Path

POOL = "<pool type='dir'{}><name>{}</name><target><path>/srv/{}</path></target>{}</pool>"
VOLUME = "<volume{}><name>{}</name><capacity>1</capacity></volume>"


def pool(name: str, inside: str = "", attributes: str = "") -> str:
    return POOL.format(attributes, name, name, inside)


def volume(name: str, attributes: str = "") -> str:
    return VOLUME.format(attributes, name)


def wanted(*texts: str, folder: str | None = None) -> Wanted:
    files = {f"{number}.xml": text.encode() for number, text in enumerate(texts)}
    return read([File(path, folder) for path in files], lambda path: files[path])


def errors(*texts: str, folder: str | None = None) -> list[list[str]]:
    return [error.lines() for error in wanted(*texts, folder=folder).errors]


def test_one_pool_with_its_volumes() -> None:
    found = wanted(pool("p", f"<volumes>{volume('a')}{volume('b')}</volumes>"))
    assert [(each.pool.name, each.place) for each in found.pools] == [("p", Place("0.xml", 1))]
    assert [(each.pool, each.name) for each in found.volumes] == [("p", "a"), ("p", "b")]
    assert (found.listed, found.errors) == ({"p"}, [])


def test_what_a_pool_says_of_itself() -> None:
    attributes = " build='yes' start='no' autostart='no'"
    plain, told = wanted(f"<storage>{pool('a')}{pool('b', '', attributes)}</storage>").pools
    assert (plain.build, plain.start, plain.autostart, plain.has_uuid) == (False, True, True, False)
    assert (told.build, told.start, told.autostart) == (True, False, False)


def test_a_uuid_that_is_given() -> None:
    uuid = "11111111-1111-4111-8111-111111111111"
    (found,) = wanted(pool("p", f"<uuid>{uuid}</uuid>")).pools
    assert (found.has_uuid, found.pool.uuid) == (True, uuid)


def test_volumes_of_pools_that_no_file_has() -> None:
    found = wanted("<storage>\n" + volume("a", " pool='x'") + "</storage>")
    assert [(each.pool, each.name, each.place.line) for each in found.volumes] == [("x", "a", 2)]
    assert found.listed == set()


def test_a_folder(tmp_path: Path) -> None:
    for name in ("b.xml", "a.yaml", "note.md", ".hidden.xml", "p/v.xml", "p/w.yml", "p/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "p/deeper.xml").mkdir()
    found = [(file.path.removeprefix(f"{tmp_path}/"), file.pool)
             for file in gather([str(tmp_path)])]  # fmt: skip
    assert found == [("a.yaml", None), ("b.xml", None), ("p/v.xml", "p"), ("p/w.yml", "p")]
    with pytest.raises(ClientError, match="no file in"):
        list(gather([str(tmp_path / "p/deeper.xml")]))


def test_the_folder_of_a_pool() -> None:
    found = wanted(volume("a"), folder="p")
    assert [(each.pool, each.name) for each in found.volumes] == [("p", "a")]
    assert found.listed == {"p"}
    assert errors(volume("a", " pool='q'"), folder="p") == [
        ["Failed to read 0.xml, line 1", "a volume of pool 'q' is in the place of another pool's"]
    ]
    assert errors(pool("p"), folder="p") == [
        ["Failed to read 0.xml, line 1",
         "the folder 'p' is for the volumes of the pool of that name"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("<pol/>", 1, "the root is <pol>, not <pool>, <volume> or <storage>"),
        ("<pool xmlns='x'/>", 1, "the root is <{x}pool>, not <pool>, <volume> or <storage>"),
        (pool("p", "\n<tagret/>"), 2, "<pool> has no element 'tagret'"),
        (pool("p", "\n<y:source xmlns:y='z'/>"), 2, "<pool> has no element '{z}source'"),
        (pool("p", "\n<source><device pth='/x'/></source>"), 2, "<device> has no attribute 'pth'"),
        (pool("p", "<source>\ntext</source>"), 1, "<source> has no text: 'text'"),
        (pool("p", "", " start='maybe'"), 1,
         "XML error: Invalid value for attribute 'start' in element 'pool': 'maybe'."),
        ("<storage>\n<pool type='dir'><name>p</name></pool></storage>", 2,
         "XML error: missing storage pool target path"),
        (volume("a"), 1, "the volume does not say its pool"),
        ("<volume pool='p'/>", 1, "XML error: missing volume name element"),
    ],
)  # fmt: skip
def test_errors(text: str, line: int, words: str) -> None:
    assert errors(text) == [[f"Failed to read 0.xml, line {line}", words]]


def test_all_errors_are_told_at_once() -> None:
    volumes = f"<volumes>{volume('')}</volumes>"
    found = errors("<pool", f"<storage><pool type='dir'/>{pool('q', volumes)}</storage>", pool("p"))
    assert [lines[0] for lines in found] == [
        "Failed to read 0.xml", "Failed to read 1.xml, line 1", "Failed to read 1.xml, line 1"
    ]  # fmt: skip


def test_pools_and_volumes_that_are_there_twice() -> None:
    twice = "<storage>" + volume("a", " pool='p'") + volume("b", " pool='p'") + "</storage>"
    assert errors(pool("p"), pool("p"), twice, volume("b", " pool='p'")) == [
        ["Failed to read 1.xml, line 1", "pool 'p' is in 0.xml, line 1, too"],
        ["Failed to read 3.xml, line 1", "volume 'b' of pool 'p' is in 2.xml, line 1, too"],
    ]


def test_mount_options_have_their_namespace() -> None:
    options = (
        "<fs:mount_opts xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>"
        "<fs:option name='noatime'/></fs:mount_opts>"
    )
    source = "<source><device path='/dev/x'/></source>"
    found = wanted(pool("p", source + options).replace("'dir'", "'fs'"))
    assert found.errors == []
    assert found.pools[0].pool.mount_options == ["noatime"]
    assert errors(pool("p", "<mount_opts/>"))[0][1] == "<pool> has no element 'mount_opts'"
