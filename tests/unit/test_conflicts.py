"""What two pools may not share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from folders import UUID, directory, last, source, summary

from storagectl import poollife
from storagectl.errors import PoolActive, PoolExists, SourceConflict
from storagectl.model import Adapter, Device, Pool
from storagectl.model import Host as Server

if TYPE_CHECKING:
    from storagectl.pools import Pools

PLAIN = {"build": False, "overwrite": False, "no_overwrite": False}


def test_s13_names_and_uuids(pools: Pools) -> None:
    pools.define(directory("d1", 1, "/a"))
    assert last(lambda: pools.define(directory("d1", 2, "/b")), PoolExists) == (
        f"operation failed: pool 'd1' already exists with uuid {UUID.format(1)}"
    )
    assert last(lambda: pools.define(directory("d2", 1, "/b")), PoolExists) == (
        f"operation failed: pool 'd1' is already defined with uuid {UUID.format(1)}"
    )
    assert last(lambda: poollife.create(pools, directory("d1", 2, "/b"), **PLAIN), PoolExists) == (
        f"operation failed: pool 'd1' already exists with uuid {UUID.format(1)}"
    )
    with pytest.raises(PoolExists) as caught:
        pools.define(directory("d1", 2, "/b"))
    assert caught.value.hint.startswith("to change it: storagectl pool-edit d1, or")
    assert f"<uuid>{UUID.format(1)}</uuid>" in caught.value.hint
    with pytest.raises(PoolExists) as caught:
        pools.define(directory("d2", 1, "/b"))
    assert "without its <uuid>" in caught.value.hint
    pools.define(directory("d1", 1, "/c"))
    assert [entry.pool.target for entry in pools.all()] == ["/c"]


def test_s57_a_pool_that_is_being_started_has_its_storage(pools: Pools, tmp_path: Path) -> None:
    target = str(tmp_path / "built soon")
    pools.store.mark_started(directory("d1", 1, target))
    with pools.store.lock("d1"):
        for number in (1, 2):
            with pytest.raises(SourceConflict, match="conflict with pool: 'd1'"):
                pools.define(directory("d2", number, target))
        assert pools.all() == []
    # who was to start it has been killed: it is gone, also for one of the same name
    pools.define(directory("d2", 2, target))
    pools.undefine("d2")
    poollife.create(pools, directory("d1", 1, target), **{**PLAIN, "build": True})
    assert [entry.name for entry in pools.all()] == ["d1"]


EXISTS = "operation failed: pool 'd1' already exists with uuid {}"
DEFINED = "operation failed: pool '{}' is already defined with uuid {}"
ACTIVE = "Requested operation is not valid: pool is already active as 'd1'"


@pytest.mark.parametrize("verb", ["define", "create"])
@pytest.mark.parametrize("state", ["inactive", "running", "transient"])
@pytest.mark.parametrize(
    ("name", "number", "refusal"),
    [
        ("d1", 1, None),
        ("d1", 3, EXISTS.format(UUID.format(1))),
        ("d3", 1, DEFINED.format("d1", UUID.format(1))),
        ("d3", 3, None),
        ("d1", 2, DEFINED.format("d2", UUID.format(2))),
        ("d2", 1, DEFINED.format("d1", UUID.format(1))),
    ],
)
def test_s13_the_table_of_names_and_uuids(
    pools: Pools, tmp_path: Path, verb: str, state: str, name: str, number: int, refusal: str | None
) -> None:
    """Beside d1, in three states, and d2: what has one's name or UUID is that pool or refused.

    Source: libvirt-tck scripts/storage/080, 081 and 082; libvirt 9.0.0 src/conf/virstorageobj.c.
    """
    targets = [str(tmp_path / str(index)) for index in (1, 2, 3)]
    for target in targets:
        os.mkdir(target)
    if state == "transient":
        poollife.create(pools, directory("d1", 1, targets[0]), **PLAIN)
    else:
        pools.define(directory("d1", 1, targets[0]))
        if state == "running":
            poollife.start(pools, "d1", **PLAIN)
    pools.define(directory("d2", 2, targets[1]))
    before = summary(pools), everything(pools)
    pool = directory(name, number, targets[0] if (name, number) == ("d1", 1) else targets[2])
    if verb == "create" and (name, number) == ("d1", 1) and state != "inactive":
        refusal = ACTIVE

    def act() -> None:
        if verb == "define":
            pools.define(pool)
        else:
            poollife.create(pools, pool, **PLAIN)

    if refusal:
        assert last(act, PoolActive if refusal is ACTIVE else PoolExists) == refusal
        assert (summary(pools), everything(pools)) == before
        return
    act()
    found = {entry.name: entry for entry in pools.all()}
    assert found.keys() == {"d1", "d2", name}
    was_active = name == "d1" and state != "inactive"
    assert found[name].active == (was_active or verb == "create")
    assert found[name].persistent == (verb == "define" or name == "d1")


def everything(pools: Pools) -> dict[str, bytes]:
    """Return the content of all definitions, of those of running pools too."""
    folder = Path(pools.store.definition_path("x")).parents[3]
    return {str(path): path.read_bytes() for path in folder.rglob("*.xml")}


def test_the_source_is_looked_at_before_name_and_uuid(pools: Pools) -> None:
    pools.define(directory("d1", 1, "/a"))
    assert last(lambda: pools.define(directory("d2", 1, "/a")), SourceConflict) == (
        "operation failed: Storage source conflict with pool: 'd1'"
    )


def test_a_refused_definition_changes_nothing(pools: Pools) -> None:
    pools.define(directory("d1", 1, "/a"))
    pools.define(directory("d2", 2, "/b"))
    before = Path(pools.store.definition_path("d2")).read_bytes()
    last(lambda: pools.define(directory("d2", 2, "/a")), SourceConflict)
    last(lambda: pools.define(directory("d3", 3, "/a")), SourceConflict)
    assert Path(pools.store.definition_path("d2")).read_bytes() == before
    assert [entry.name for entry in pools.all()] == ["d1", "d2"]


A, B, C = Device("/dev/a"), Device("/dev/b"), Device("/dev/c")


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (source("fs", devices=[A]), source("fs", devices=[A]), True),
        (source("fs", devices=[A]), source("fs", devices=[B]), False),
        (source("fs", devices=[A]), source("disk", devices=[A]), True),
        (source("logical", devices=[A, B]), source("disk", devices=[B]), True),
        (source("logical", devices=[A, B]), source("logical", devices=[C]), False),
        (source("logical"), source("logical"), False),
        (directory("a", 1, "/dev/a"), source("fs", devices=[A]), False),
        (directory("a", 1, "/x"), directory("b", 2, "/x"), True),
        (directory("a", 1, "/x"), directory("b", 2, "/x/y"), False),
        (
            source("netfs", hosts=[Server("h")], dir="/e"),
            source("netfs", hosts=[Server("h")], dir="/e"),
            True,
        ),
        (
            source("netfs", hosts=[Server("h")], dir="/e"),
            source("netfs", hosts=[Server("h")], dir="/f"),
            False,
        ),
        (
            source("netfs", hosts=[Server("h")], dir="/e"),
            source("netfs", hosts=[Server("g")], dir="/e"),
            False,
        ),
        (
            source("iscsi", hosts=[Server("h")], devices=[Device("iqn.x")], initiator="i1"),
            source("iscsi", hosts=[Server("h")], devices=[Device("iqn.x")], initiator="i1"),
            True,
        ),
        (
            source("iscsi", hosts=[Server("h")], devices=[Device("iqn.x")], initiator="i1"),
            source("iscsi", hosts=[Server("h")], devices=[Device("iqn.x")], initiator="i2"),
            False,
        ),
        (
            source("scsi", adapter=Adapter("scsi_host", name="host1")),
            source("scsi", adapter=Adapter("scsi_host", name="host1")),
            True,
        ),
        (
            source("scsi", adapter=Adapter("scsi_host", name="host1")),
            source("scsi", adapter=Adapter("scsi_host", name="host2")),
            False,
        ),
        (source("mpath"), source("mpath"), True),
        (source("mpath"), source("fs", devices=[A]), False),
    ],
)
def test_conflict_matrix(pools: Pools, one: Pool, other: Pool, conflict: bool) -> None:
    pools.define(one.replace(name="one"))
    again = other.replace(name="other", uuid=UUID.format(2))
    if conflict:
        words = last(lambda: pools.define(again), SourceConflict)
        assert words == "operation failed: Storage source conflict with pool: 'one'"
    else:
        pools.define(again)
