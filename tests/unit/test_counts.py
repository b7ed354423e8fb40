"""How often the host is asked: once for many pools or volumes, and never for those of others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost
from inprocess import storagectl

from storagectl.backends import filesystem
from storagectl.backends.logical import Logical
from storagectl.host import Host
from storagectl.model import Device, Pool, Source
from storagectl.pools import Pools
from storagectl.store import Store
from storagectl.tools import lvm

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).parent / "tools" / "fixtures" / "lvm"
UUID = "11111111-1111-4111-8111-{:012x}"
IMAGES = 200


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Have a pool of many images."""
    for pool in ("many", "other"):
        (tmp_path / pool).mkdir()
        for number in range(IMAGES):
            (tmp_path / pool / f"v{number:03}").write_bytes(b"QFI\xfb")
        args = ("pool-create-as", pool, "dir", "--target", str(tmp_path / pool))
        assert storagectl(tmp_path, *args).status == 0
    return tmp_path


@pytest.fixture
def looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Give the names of the files in the pools that are opened or looked at."""
    seen: set[str] = set()

    def noting(real: Any) -> Any:
        def note(path: Any, *values: Any, **named: Any) -> Any:
            if isinstance(path, str) and path.startswith((f"{root}/many/", f"{root}/other/")):
                seen.add(path.removeprefix(f"{root}/"))
            return real(path, *values, **named)

        return note

    for name in ("open", "stat", "lstat", "getxattr"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    return seen  # type: ignore[return-value]


@pytest.mark.parametrize("command", ["vol-info", "vol-path", "vol-key", "vol-dumpxml"])
@pytest.mark.parametrize("words", ["v007 many", "ROOT/many/v007", "--pool many ROOT/many/v007"])
def test_one_volume_is_looked_up_without_the_others(
    root: Path, looked_at: set[str], command: str, words: str
) -> None:
    answer = storagectl(root, command, *words.replace("ROOT", str(root)).split())
    assert answer.status == 0
    assert looked_at == {"many/v007"}


def test_a_list_of_names_looks_at_no_volume(root: Path, looked_at: set[str]) -> None:
    assert storagectl(root, "vol-list", "many").stdout.count("/v") == IMAGES
    assert looked_at == set()


def mounted(count: int) -> str:
    return "".join(
        f"{number} 1 8:{number} / /srv/{number} rw - ext4 /dev/none{number} rw\n"
        for number in range(count)
    )


def pools_of(kind: str, host: Host, root: Path, count: int) -> Pools:
    """Make pools that have been started."""
    store = Store(host, str(root))
    for number in range(count):
        device = f"/dev/none{number}" if kind == "fs" else f"/dev/pv{number}"
        name = None if kind == "fs" else f"vg{number}"
        source = Source(devices=[Device(device)] if kind == "fs" else [], name=name)
        target = f"/srv/{number}" if kind == "fs" else f"/dev/vg{number}"
        pool = Pool(kind, f"p{number}", UUID.format(number), source=source, target=target)
        store.define(pool)
        store.mark_started(pool)
    return Pools(store, host)


def test_mounts_are_read_once_for_all_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = mounted(50)
    monkeypatch.setattr(Host, "mounts", lambda self: text)
    times: list[str] = []
    real = filesystem.parse_mountinfo
    monkeypatch.setattr(
        filesystem, "parse_mountinfo", lambda text: times.append(text) or real(text)
    )  # type: ignore[func-returns-value]
    filesystem.mounts_in.cache_clear()
    pools = pools_of("fs", Host(), tmp_path, 50)
    assert [entry.active for entry in pools.all()] == [True] * 50
    assert times == [text]


def groups(count: int) -> str:
    """Return what vgs tells of that many groups without volumes."""
    report = json.loads(json.loads((FIXTURES / "vgs-three.json").read_text())["stdout"])
    rows = report["report"][0]["vg"]
    row = {**rows[0], "lv_count": "0", "pv_count": "1"}
    report["report"][0]["vg"] = [
        {**row, "vg_name": f"vg{number}", "vg_uuid": f"uuid{number}", "pv_name": f"/dev/pv{number}"}
        for number in range(count)
    ]
    return json.dumps(report)


def test_lvm_is_asked_once_for_all_pools(tmp_path: Path) -> None:
    nosuch = json.loads((FIXTURES / "vgs-nosuch.json").read_text())
    host = FakeHost(
        (lvm.vgs(), groups(30), 0),
        # one that is not among them is asked for: there may be a reason to tell
        (lvm.vgs("vg30"), nosuch["stderr"].replace("nosuch", "vg30"), nosuch["status"]),
    )
    with host:
        entries = pools_of("logical", host, tmp_path, 31).all()
        active = {entry.name for entry in entries if entry.active}
    assert active == {f"p{number}" for number in range(30)}


def test_what_lvm_has_told_of_all_is_not_kept(tmp_path: Path) -> None:
    host = FakeHost((lvm.vgs(), groups(2), 0), (lvm.vgs("vg1"), groups(2), 0))
    pools = pools_of("logical", host, tmp_path, 2)
    with host:
        pools.all()
        found = Logical(Pool("logical", "p1", "u", Source(name="vg1"), target="/dev/vg1"), host)
        with pytest.raises(Exception, match="2 volume groups"):
            found.find_group()
