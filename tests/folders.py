"""Pools of real folders, and what an action on them is refused with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost

from storagectl import poollife
from storagectl.model import Pool, Source, Volume
from storagectl.pools import Pools
from storagectl.store import Store
from storagectl.volumes import Found, Volumes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from storagectl.errors import StorageError

MIB = 1 << 20
UUID = "11111111-1111-4111-8111-{:012x}"


class Lab:
    """Two running dir pools, `one` and `two`, and a stopped one, `off`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = FakeHost()
        self.pools = Pools(Store(self.host, str(root / "state")), self.host)
        self.volumes = Volumes(self.pools)
        for number, name in enumerate(("one", "two", "off")):
            (root / name).mkdir()
            self.pools.define(Pool("dir", name, UUID.format(number), target=str(root / name)))
            if name != "off":
                poollife.start(self.pools, name)

    def path(self, pool: str, name: str) -> Path:
        return self.root / pool / name

    def make(self, pool: str, name: str, content: bytes) -> Found:
        self.path(pool, name).write_bytes(content)
        return self.volumes.find(name, pool)

    def raw(self, name: str, capacity: int = MIB, allocation: int = 0) -> Volume:
        return Volume(name, format="raw", capacity=capacity, allocation=allocation)

    def everything(self) -> dict[str, str]:
        """A hash of every file of the pools, to see that nothing has changed."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-"
            for name in ("one", "two", "off")
            for path in sorted((self.root / name).rglob("*"))
        }


def lines(action: Callable[[], Any], kind: type[StorageError]) -> list[str]:
    with pytest.raises(kind) as caught:
        action()
    assert type(caught.value) is kind
    return caught.value.lines()


def last(action: Callable[[], Any], kind: type[StorageError]) -> str:
    return lines(action, kind)[-1]


def directory(name: str, number: int, target: str) -> Pool:
    return Pool("dir", name, UUID.format(number), target=target)


def source(kind: str, **parts: Any) -> Pool:
    return Pool(kind, "x", UUID.format(1), source=Source(**parts), target="/dev")


def summary(pools: Pools) -> list[tuple[str, bool, bool, bool]]:
    return [(e.name, e.active, e.persistent, e.autostart) for e in pools.all()]
