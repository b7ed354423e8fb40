"""What JSON says of pools and volumes has all that their XML has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import answers
import jsonschema
import pytest
from lxml import etree

from storagectl import facts
from storagectl.errors import Inaccessible, InternalError, StorageError
from storagectl.host import Host
from storagectl.model import Permissions, Pool, Timestamps, Volume
from storagectl.pools import Entry, Pools
from storagectl.pooltypes import POOL_TYPES
from storagectl.poolxml import format_pool, parse_pool
from storagectl.store import Store, warned
from storagectl.volumes import Volumes
from storagectl.volxml import format_volume, parse_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parents[1]
WHOLE = re.compile(rb"<(pool|volume)\b.*?</\1>", re.S)
POOL = Pool("dir", "d", "00000000-0000-4000-8000-000000000000", target="/d")


def documents() -> list[bytes]:
    """Return the documents of the golden files and of the corpus."""
    files = [*TESTS.glob("unit/golden/*.xml"), *TESTS.glob("oracle/corpus/*.xml")]
    return [match[0] for path in sorted(files) for match in WHOLE.finditer(path.read_bytes())]


def entry(pool: Pool) -> Entry:
    return Entry(Host(), pool, None, False)


def values(data: Any) -> Iterator[str]:
    """Yield all that is said in facts, and the names of what is true."""
    if isinstance(data, dict):
        for name, part in data.items():
            if part is True:
                yield name
            yield from values(part)
    elif isinstance(data, list):
        for part in data:
            yield from values(part)
    elif data is not None:
        yield str(data)


def said(document: str) -> Iterator[str]:
    """Yield all that a document says: text, attributes, and elements that have nothing."""
    for node in etree.fromstring(document).iter():
        if node.get("unit"):
            del node.attrib["unit"]
        is_layout = len(node) > 0 or re.fullmatch(r"\n *", node.text or "")
        text = "" if is_layout else node.text or ""
        if text and not (text == "0" and node.tag in ("capacity", "allocation", "available")):
            yield text
        yield from node.attrib.values()
        if not text and not node.attrib and not len(node) and node.tag not in EMPTY:
            yield node.tag


# What may stand there with nothing in it.
EMPTY = ("source", "target", "features")


def parsed() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each good document as it is dumped, with `pool` or `volume`, and the facts."""
    for text in documents():
        try:
            if b"<pool" in text[:20]:
                pool = parse_pool(text)
                yield format_pool(pool), "pool", facts.of_pool(entry(pool))
                continue
            for kind in ("dir", "disk", "logical"):
                row = POOL_TYPES[kind]
                volume = parse_volume(text, row, capacity_optional=False)
                home = entry(POOL.replace(type=kind))
                yield format_volume(volume, row), "volume", facts.of_volume(volume, home)
        except StorageError:
            continue


def test_nothing_is_lost() -> None:
    count = 0
    for document, _, found in parsed():
        count += 1
        known = set(values(found))
        for value in said(document):
            number = re.fullmatch(r"0x([0-9a-f]+)", value)
            wanted = {value, str(int(number[1], 16))} if number else {value, value.lstrip("0")}
            assert wanted & known, f"{value}\n{document}\n{sorted(known)}"
    assert count > 300


def test_the_schema_has_all_that_facts_can_be() -> None:
    strictly = answers.strict(answers.SCHEMA)
    of_kind = {
        kind: jsonschema.Draft202012Validator(
            {"$ref": f"#/$defs/{kind}", "$defs": strictly["$defs"]}
        )
        for kind in ("pool", "volume")
    }
    for document, kind, found in parsed():
        if kind == "volume" and found["type"] not in ("file", "block", "dir"):
            continue  # as no volume on the host is
        error = next(of_kind[kind].iter_errors(found), None)
        assert error is None, f"{error.json_path}: {error.message}\n{document}"


def test_times_and_modes() -> None:
    volume = Volume(
        "a", permissions=Permissions(mode=0o4755, owner=0),
        timestamps=Timestamps(0, 1_764_403_200_000_000_001, -1),
    )  # fmt: skip
    found = facts.of_volume(volume, entry(POOL))
    assert found["permissions"] == {"mode": "04755", "owner": 0, "group": None, "label": None}
    assert found["timestamps"] == {
        "atime": "1970-01-01T00:00:00.000000000Z",
        "mtime": "2025-11-29T08:00:00.000000001Z",
        "ctime": "1969-12-31T23:59:59.999999999Z",
    }
    assert "keeps_backing" not in found
    assert found["format"] == "raw"
    assert facts.of_volume(volume, entry(POOL.replace(type="logical")))["format"] is None


class Running(Entry):
    """A pool that is active, and whose state can't be read for the given reason."""

    active = True
    error: StorageError = Inaccessible("no answer")

    def described(self, *, inactive: bool) -> Pool:
        raise self.error


def test_a_pool_that_does_not_answer() -> None:
    running = Running(Host(), POOL, POOL, False)
    found = facts.of_pool(running)
    assert (found["state"], found["active"], found["capacity"]) == ("inaccessible", True, None)
    assert facts.of_pool(running, measured=False)["state"] == "active"


def test_a_pool_that_cant_be_measured_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Running, "error", InternalError("vgs failed"))
    running = Running(Host(), POOL, POOL, False)
    with pytest.raises(InternalError):
        facts.of_pool(running)
    warned.clear()
    found = facts.of_pool(running, tolerant=True)
    assert (found["state"], found["capacity"]) == ("running", None)
    assert warned == ["pool 'd': internal error: vgs failed"]


def test_what_cant_be_read_after_a_change_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    pools = Pools(Store(host, str(tmp_path), system=True), host)
    running = Running(host, POOL, POOL, False)
    monkeypatch.setattr(Running, "error", InternalError("vgs failed"))
    monkeypatch.setattr(Pools, "find", lambda *_: running)
    warned.clear()
    before = {"name": "d"}
    assert facts.changed_pool(pools, "d", before) == before
    assert warned == ["internal error: vgs failed"]
    monkeypatch.undo()
    warned.clear()
    assert facts.changed_pool(pools, "d", before) == before
    assert warned == []
    assert facts.changed_pool(pools, "d", None) == before
    assert warned == ["Storage pool not found: no storage pool with matching name 'd'"]
    warned.clear()
    found = facts.changed_volume(Volumes(pools), "v", "d")
    assert found == {"name": "v", "pool": "d"}
    assert len(warned) == 1
