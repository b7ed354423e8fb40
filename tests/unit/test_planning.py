"""What `apply` is going to do, and what it refuses, before anything is done."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fakehost import FakeHost

from storagectl import poollife
from storagectl.applying import Runner
from storagectl.backends.directory import Directory
from storagectl.documents import File, read
from storagectl.errors import StorageError
from storagectl.plan import Allowed, Plan
from storagectl.planning import make
from storagectl.pools import Pools
from storagectl.store import Store
from storagectl.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MIB = 1 << 20
PLAIN = {"build": False, "overwrite": False, "no_overwrite": False}


class Machine:
    """Pools below a folder, on a host whose tools answer from a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = FakeHost()
        self.pools = Pools(Store(self.host, str(folder / "root")), self.host)
        self.volumes = Volumes(self.pools)

    def pool(self, name: str, inside: str = "", attributes: str = "") -> str:
        return (
            f"<pool type='dir'{attributes}><name>{name}</name>"
            f"<target><path>{self.folder / name}</path></target>{inside}</pool>"
        )

    def plan(self, *texts: str, **allowed: bool | tuple[str, ...]) -> Plan:
        wanted = read([File(f"{n}.xml") for n in range(len(texts))],
                      lambda path: texts[int(path[0])].encode())  # fmt: skip
        assert wanted.errors == []
        return make(self.pools, wanted, Allowed(**allowed))  # type: ignore[arg-type]

    def apply(
        self, *texts: str, keep_going: bool = False, **allowed: bool | tuple[str, ...]
    ) -> tuple[list[str], list[list[str]], list[str]]:
        """Return what was done, what failed, and what was not tried."""
        plan = self.plan(*texts, **allowed)
        assert keep_going or plan.problems == []
        runner = Runner(self.pools, self.volumes, plan, keep_going=keep_going)
        outcomes = list(runner.run())
        errors = [outcome.error.lines() for outcome in outcomes if outcome.error]
        return words([o.step for o in outcomes if not o.error]), errors, runner.skipped


def words(steps: Sequence[object]) -> list[str]:
    return [" ".join(filter(None, (s.pool, s.volume, s.did, "perhaps" * s.perhaps)))  # type: ignore[attr-defined]
            for s in steps]  # fmt: skip


def planned(plan: Plan) -> list[str]:
    assert plan.problems == []
    return words(plan.steps)


def refusals(plan: Plan) -> list[str]:
    return [error.lines()[-1] for error in plan.problems]


def volume(name: str, capacity: int = MIB, inside: str = "") -> str:
    return (
        f"<volume><name>{name}</name><capacity>{capacity}</capacity>"
        f"<allocation>0</allocation>{inside}</volume>"
    )


def volumes(*found: str) -> str:
    return f"<volumes>{''.join(found)}</volumes>"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


BUILT = " build='yes'"


def test_a_new_pool_and_then_nothing(machine: Machine) -> None:
    text = machine.pool("p", volumes(volume("a"), volume("b")), BUILT)
    expected = ["p defined", "p built", "p started", "p marked as autostarted",
                "p a created", "p b created"]  # fmt: skip
    assert planned(machine.plan(text)) == expected
    assert machine.pools.all() == []
    assert not (machine.folder / "p").exists()
    assert machine.apply(text) == (expected, [], [])
    assert planned(machine.plan(text)) == []
    assert machine.apply(text) == ([], [], [])


def test_a_pool_that_is_there_in_part(machine: Machine) -> None:
    (machine.folder / "p").mkdir()
    (machine.folder / "p/a").write_bytes(bytes(MIB))
    text = machine.pool("p", volumes(volume("a"), volume("b")))
    machine.apply(machine.pool("p", "", " start='no' autostart='no'"))
    assert planned(machine.plan(text)) == ["p started", "p marked as autostarted", "p b created"]
    machine.apply(text)
    assert planned(machine.plan(machine.pool("p", "", " start='no' autostart='no'"))) == [
        "p unmarked as autostarted"
    ]


def test_a_changed_definition_of_a_running_pool(machine: Machine) -> None:
    machine.apply(machine.pool("p", "", BUILT))
    uuid = machine.pools.find("p").pool.uuid
    text = machine.pool("p").replace(
        "</path>", "</path><permissions><mode>0700</mode></permissions>"
    )
    plan = machine.plan(text)
    assert (planned(plan), plan.notes) == (
        ["p redefined"],
        ["pool 'p' runs with its old definition until it is stopped and started",
         "the folder of pool 'p' has mode 0711, not 0700"],
    )  # fmt: skip
    machine.apply(text)
    config = machine.pools.find("p").config
    assert config is not None
    assert (config.uuid, config.permissions.mode) == (uuid, 0o700)
    assert planned(machine.plan(text)) == []


def test_volumes_are_not_made_where_a_running_pool_was_before(machine: Machine) -> None:
    machine.apply(machine.pool("p", "", BUILT))
    text = machine.pool("p", volumes(volume("a"))).replace("/p<", "/q<")
    plan = machine.plan(text)
    assert refusals(plan) == [
        "Requested operation is not valid: storage pool 'p' runs with another source or target"
    ]
    assert plan.problems[0].hint == "storagectl pool-destroy p stops it"


def test_volumes_of_a_pool_that_does_not_run(machine: Machine) -> None:
    text = machine.pool("p", volumes(volume("a")), " start='no'")
    assert refusals(machine.plan(text)) == [
        "Requested operation is not valid: storage pool 'p' is not active, nor to be started"
    ]
    assert refusals(machine.plan(f"<storage><volume pool='x'>{volume('a')[8:]}</storage>")) == [
        "Storage pool not found: no storage pool with matching name 'x'"
    ]


# Volumes that are there


@pytest.mark.parametrize(
    ("capacity", "refusal"),
    [(MIB, ""), (2 * MIB, "and grows to 2097152 with --resize only"),
     (MIB - 1, "more than 1048575, and is not shrunk")],
)  # fmt: skip
def test_capacities(machine: Machine, capacity: int, refusal: str) -> None:
    machine.apply(machine.pool("p", volumes(volume("a")), BUILT))
    text = machine.pool("p", volumes(volume("a", capacity)))
    before = (
        "Requested operation is not valid: volume 'a' of pool 'p' has a capacity of 1048576 bytes,"
        f" {refusal}"
    )
    assert refusals(machine.plan(text)) == ([before] if refusal else [])
    if capacity > MIB:
        assert machine.apply(text, resize=True) == (["p a resized"], [], [])
        assert (machine.folder / "p/a").stat().st_size == capacity
        assert planned(machine.plan(text)) == []
    elif refusal:
        assert refusals(machine.plan(text, resize=True)) == [before]


def test_a_volume_with_all_its_blocks_grows_with_all_of_them(machine: Machine) -> None:
    full = volume("full").replace("<allocation>0</allocation>", "")
    machine.apply(machine.pool("p", volumes(full, volume("thin")), BUILT))
    larger = volumes(full.replace(str(MIB), str(2 * MIB)), volume("thin", 2 * MIB))
    machine.apply(machine.pool("p", larger), resize=True)
    blocks = {name: (machine.folder / "p" / name).stat().st_blocks for name in ("full", "thin")}
    assert (blocks["full"] * 512, blocks["thin"]) == (2 * MIB, 0)


def test_another_format_or_backing_store_is_refused(machine: Machine) -> None:
    machine.apply(machine.pool("p", volumes(volume("a"), volume("b")), BUILT))
    changed = volume("a", MIB, "<target><format type='qcow2'/></target>")
    based = volume("b", MIB, f"<backingStore><path>{machine.folder}/p/a</path></backingStore>")
    plan = machine.plan(machine.pool("p", volumes(changed, based, volume("c"))))
    assert refusals(plan) == [
        "unsupported configuration: volume 'a' of pool 'p' has the format raw, not qcow2",
        "unsupported configuration: volume 'b' of pool 'p' has the backing store none, not"
        f" {machine.folder}/p/a",
    ]
    assert words(plan.steps) == ["p c created"]


def test_another_mode_is_noted(machine: Machine) -> None:
    mode = "<target><permissions><mode>{}</mode></permissions></target>"
    machine.apply(machine.pool("p", volumes(volume("a", MIB, mode.format("0640"))), BUILT))
    plan = machine.plan(machine.pool("p", volumes(volume("a", MIB, mode.format("0600")))))
    assert (planned(plan), plan.notes) == (
        [], ["volume 'a' of pool 'p' has mode 0640, not 0600"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("inside", "refusal"),
    [("<capacity>x</capacity>", "XML error: malformed capacity element"),
     ("", "XML error: missing capacity element")],
)  # fmt: skip
def test_a_volume_that_cannot_be_read(machine: Machine, inside: str, refusal: str) -> None:
    machine.apply(machine.pool("p", "", BUILT))
    (machine.folder / "p/a").touch()
    text = machine.pool("p", volumes(f"<volume><name>a</name>{inside}</volume>", volume("b")))
    plan = machine.plan(text, prune=("volumes",))
    assert (refusals(plan), words(plan.steps)) == ([refusal], ["p b created"])


@pytest.mark.parametrize("name", ["a/b", "..", "a&#9;b", ".storagectl-x.part"])
def test_names_that_no_volume_can_have(machine: Machine, name: str) -> None:
    machine.apply(machine.pool("p", "", BUILT))
    plan = machine.plan(machine.pool("p", volumes(volume(name), volume("b"))))
    assert (len(plan.problems), words(plan.steps)) == (1, ["p b created"])


# Order, conflicts


def test_pools_are_done_after_those_that_they_are_on(machine: Machine) -> None:
    """q is on a volume of p, a volume of r is based on one of q."""
    q = (
        f"<pool type='fs'{BUILT}><name>q</name><source><device path='{machine.folder}/p/disk'/>"
        f"<format type='ext4'/></source><target><path>{machine.folder}/q</path></target>"
        f"{volumes(volume('base'))}</pool>"
    )
    backing = f"<backingStore><path>{machine.folder}/q/base</path></backingStore>"
    image = f"<target><format type='qcow2'/></target>{backing}"
    r = machine.pool("r", volumes(volume("over", MIB, image)), BUILT)
    p = machine.pool("p", volumes(volume("disk")), BUILT)
    assert planned(machine.plan(r, q, p)) == [
        "p defined", "p built", "p started", "p marked as autostarted", "p disk created",
        "q defined", "q built perhaps", "q started", "q marked as autostarted",
        "q base created perhaps",
        "r defined", "r built perhaps", "r started", "r marked as autostarted",
        "r over created perhaps",
    ]  # fmt: skip


def test_overlays_are_made_after_their_backing_stores(machine: Machine) -> None:
    def image(name: str, backing: str) -> str:
        path = f"<backingStore><path>{backing}</path></backingStore>" if backing else ""
        return volume(name, MIB, f"<target><format type='qcow2'/></target>{path}")

    text = machine.pool("p", volumes(image("c", f"{machine.folder}/p/b"), image("b", "a"),
                                     image("a", "")), BUILT)  # fmt: skip
    assert planned(machine.plan(text))[-3:] == ["p a created", "p b created", "p c created"]
    circle = machine.pool("q", volumes(image("a", "b"), image("b", "a")), BUILT)
    assert planned(machine.plan(circle))[-2:] == ["q b created", "q a created"]


def test_many_overlays(machine: Machine) -> None:
    """A chain that is longer than Python's stack, the other way round."""
    target = "<target><format type='qcow2'/></target>"
    text = volumes(*(
        volume(f"v{n}", MIB, f"{target}<backingStore><path>v{n - 1}</path></backingStore>")
        for n in reversed(range(1, 1500))
    ), volume("v0"))  # fmt: skip
    plan = machine.plan(machine.pool("p", text, BUILT))
    assert [s.volume for s in plan.steps if s.volume] == [f"v{n}" for n in range(1500)]


def test_conflicts_between_files_and_with_the_machine(machine: Machine) -> None:
    machine.apply(machine.pool("p", "", BUILT))
    old = machine.pools.find("p").pool.uuid
    same = machine.pool("q").replace("/q<", "/p<")
    renamed = machine.pool("q", f"<uuid>{old}</uuid>")
    assert refusals(machine.plan(same)) == [
        "operation failed: Storage source conflict with pool: 'p'"
    ]
    assert refusals(machine.plan(renamed)) == [
        f"operation failed: pool 'p' is already defined with uuid {old}"
    ]
    plan = machine.plan(machine.pool("x"), machine.pool("y").replace("/y<", "/x<"))
    assert refusals(plan) == ["operation failed: Storage source conflict with pool: 'x'"]
    uuid = "11111111-1111-4111-8111-111111111111"
    assert refusals(machine.plan(machine.pool("p", f"<uuid>{uuid}</uuid>"))) == [
        f"operation failed: pool 'p' already exists with uuid {old}"
    ]
    assert machine.apply(same, prune=("pools",))[0] == [
        "p stopped", "p undefined", "q defined", "q started", "q marked as autostarted"
    ]  # fmt: skip


def test_types_that_are_not_served(machine: Machine) -> None:
    text = "<pool type='rbd'><name>p</name><source><name>n</name></source></pool>"
    assert refusals(machine.plan(text)) == ["internal error: missing backend for pool type 9 (rbd)"]
    text = machine.pool("p").replace(str(machine.folder), "srv")
    assert refusals(machine.plan(text)) == ["invalid argument: target path 'srv/p' is not absolute"]


# Prune


def test_only_listed_volumes_are_pruned(machine: Machine) -> None:
    machine.apply(machine.pool("p", volumes(volume("a"), volume("b")), BUILT),
                  machine.pool("q", volumes(volume("c")), BUILT))  # fmt: skip
    (machine.folder / "p/folder").mkdir()
    text = machine.pool("p", volumes(volume("a")))
    assert planned(machine.plan(text)) == []
    assert planned(machine.plan(machine.pool("p"), machine.pool("q"), prune=("volumes",))) == []
    assert machine.apply(text, machine.pool("q"), prune=("volumes",))[0] == ["p b deleted"]
    assert sorted(os.listdir(machine.folder / "p")) == ["a", "folder"]
    assert machine.apply(machine.pool("p", "<volumes/>"), prune=("volumes",))[0] == ["p a deleted"]


def test_pruned_volumes_that_something_relies_on_stay(machine: Machine) -> None:
    machine.apply(machine.pool("p", volumes(volume("a")), BUILT))
    machine.apply(machine.pool("q", "", BUILT).replace("/q<", "/p/sub<"))
    os.rmdir(machine.folder / "p/sub")
    machine.pools.define(machine.pools.find("q").pool.replace(target=f"{machine.folder}/p/a"))
    done, errors, _ = machine.apply(machine.pool("p", "<volumes/>"), prune=("volumes",))
    assert (done, errors) == ([], [[
        "Failed to delete vol a of pool p",
        "Requested operation is not valid: pool 'q' is on volume 'a': "
        f"{machine.folder}/p/a",
    ]])  # fmt: skip
    assert (machine.folder / "p/a").exists()


def test_pools_are_pruned_first_and_volumes_last(machine: Machine) -> None:
    machine.apply(machine.pool("old", "", BUILT), machine.pool("p", volumes(volume("a")), BUILT))
    text = machine.pool("p", volumes(volume("b")))
    assert planned(machine.plan(text, prune=("volumes", "pools"))) == [
        "old stopped", "old undefined", "p b created", "p a deleted"
    ]  # fmt: skip


def test_transient_pools_are_not_pruned(machine: Machine) -> None:
    machine.apply(machine.pool("p", "", BUILT))
    machine.pools.store.undefine("p")
    machine.pools.store.mark_stopped("p")
    machine.apply(machine.pool("q", "", BUILT))
    pool = machine.pools.find("q").pool.replace(
        name="t", uuid="11111111-1111-4111-8111-111111111111", target=str(machine.folder / "p")
    )
    poollife.create(machine.pools, pool, **PLAIN)
    assert planned(machine.plan(machine.pool("q"), prune=("pools",))) == []


# Failures


def test_a_failure_stops_it_and_says_what_was_not_tried(machine: Machine) -> None:
    (machine.folder / "b").write_text("no folder")
    texts = [machine.pool(name, volumes(volume("v")), BUILT) for name in ("a", "b", "c")]
    done, errors, skipped = machine.apply(*texts)
    assert done == ["a defined", "a built", "a started", "a marked as autostarted", "a v created"]
    assert (errors[0][0], len(errors), skipped) == ("Failed to build pool b", 1, ["c"])
    assert machine.pools.by_name("b") is None
    assert machine.pools.by_name("c") is None
    done, errors, skipped = machine.apply(*texts, keep_going=True)
    assert done == ["c defined", "c built", "c started", "c marked as autostarted", "c v created"]
    assert (len(errors), skipped) == (1, [])


def test_a_refused_build_leaves_the_definition_as_it_was(machine: Machine) -> None:
    machine.apply(machine.pool("p", "", " start='no'"))
    before = machine.pools.find("p").config
    (machine.folder / "q").write_text("no folder")
    text = machine.pool("p", "", BUILT).replace("/p<", "/q<")
    done, errors, _ = machine.apply(text)
    assert (done, errors[0][0]) == ([], "Failed to build pool p")
    entry = machine.pools.find("p")
    assert (entry.config, entry.autostart) == (before, True)


def test_an_interrupted_build_leaves_no_definition(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Directory, *, overwrite: bool, no_overwrite: bool) -> None:
        assert machine.pools.by_name("p") is not None
        raise KeyboardInterrupt

    monkeypatch.setattr(Directory, "build", interrupt)
    with pytest.raises(KeyboardInterrupt):
        machine.apply(machine.pool("p", "", BUILT))
    assert machine.pools.all() == []


def test_what_needs_a_pool_that_failed_is_not_tried(machine: Machine) -> None:
    (machine.folder / "p").write_text("no folder")
    q = (
        f"<pool type='fs'{BUILT}><name>q</name><source><device path='{machine.folder}/p/disk'/>"
        f"<format type='ext4'/></source><target><path>{machine.folder}/q</path></target></pool>"
    )
    p = machine.pool("p", volumes(volume("disk")), BUILT)
    done, errors, skipped = machine.apply(q, p, machine.pool("r", "", BUILT), keep_going=True)
    assert done == ["r defined", "r built", "r started", "r marked as autostarted"]
    assert (len(errors), skipped) == (1, ["q"])


def test_what_needs_a_pool_that_is_refused_is_not_tried(machine: Machine) -> None:
    q = (
        f"<pool type='fs'{BUILT}><name>q</name><source><device path='{machine.folder}/p/disk'/>"
        f"<format type='ext4'/></source><target><path>{machine.folder}/q</path></target></pool>"
    )
    p = machine.pool("p", volumes(volume("disk")), " start='no'")
    plan = machine.plan(p, q)
    assert (len(plan.problems), words(plan.steps)[0]) == (1, "q defined")
    done, _, skipped = machine.apply(p, q, machine.pool("r", "", BUILT), keep_going=True)
    assert done == ["r defined", "r built", "r started", "r marked as autostarted"]
    assert skipped == ["q"]


def test_volumes_after_one_that_fails(machine: Machine) -> None:
    text = machine.pool("p", volumes(volume("a" * 300), volume("b")), BUILT)
    done, errors, _ = machine.apply(text)
    assert (done[-1], len(errors)) == ("p marked as autostarted", 1)
    assert machine.apply(text, keep_going=True)[0] == ["p b created"]


def test_an_unbuilt_pool_is_not_built_unasked(machine: Machine) -> None:
    done, errors, _ = machine.apply(machine.pool("p"))
    assert (done, errors[0][0]) == (["p defined"], "Failed to start pool p")
    assert not (machine.folder / "p").exists()
    assert machine.apply(machine.pool("p"), build=True)[0] == [
        "p built", "p started", "p marked as autostarted"
    ]  # fmt: skip


def test_what_an_inactive_pool_has_is_seen_when_it_runs(machine: Machine) -> None:
    """A folder that appears between the plan and its steps, with a volume of another size."""
    text = machine.pool("p", volumes(volume("a"), volume("b")))
    plan = machine.plan(text)
    assert planned(plan)[-2:] == ["p a created perhaps", "p b created perhaps"]
    (machine.folder / "p").mkdir()
    (machine.folder / "p/a").write_bytes(bytes(100))
    runner = Runner(machine.pools, machine.volumes, plan, keep_going=True)
    outcomes = list(runner.run())
    assert words([o.step for o in outcomes if not o.error])[-1] == "p b created"
    (error,) = [o.error for o in outcomes if o.error]
    assert isinstance(error, StorageError)
    assert error.detail.endswith(
        "has a capacity of 100 bytes, and grows to 1048576 with --resize only"
    )


def test_what_a_stopped_pool_seems_to_have_is_looked_at_again(machine: Machine) -> None:
    """As a volume group of which something has activated one volume."""
    mode = "<target><permissions><mode>0640</mode></permissions></target>"
    machine.apply(machine.pool("p", volumes(volume("a")), BUILT))
    poollife.stop(machine.pools, "p")
    text = machine.pool("p", volumes(volume("a", MIB, mode), volume("b")))
    plan = machine.plan(text)
    assert planned(plan) == ["p started", "p b created"]
    (machine.folder / "p/b").write_bytes(bytes(MIB))
    outcomes = list(Runner(machine.pools, machine.volumes, plan, keep_going=False).run())
    assert words([o.step for o in outcomes if not o.error]) == ["p started"]
    assert plan.notes == ["volume 'a' of pool 'p' has mode 0600, not 0640"]


def test_luns_are_seen_when_the_pool_runs(machine: Machine) -> None:
    """They are found and not made, which is no reason to refuse the pool."""
    san = (
        "<pool type='iscsi'><name>san</name><source><host name='192.0.2.1'/>"
        "<device path='iqn.2026-11.example:disks'/></source><target><path>/dev/disk/by-path</path>"
        f"</target>{volumes(volume('unit:0:0:1'))}</pool>"
    )
    assert planned(machine.plan(san)) == [
        "san defined", "san started", "san marked as autostarted", "san unit:0:0:1 created perhaps"
    ]  # fmt: skip


def test_settled_definitions_are_the_same(machine: Machine) -> None:
    """A disk pool whose format was left open has it filled in when it is built."""
    disk = (
        "<pool type='disk'><name>d</name><source><device path='/nowhere/disk'/>{}</source>"
        "<target><path>/dev</path></target></pool>"
    )
    for left_open, filled in (("", "<format type='dos'/>"),):
        machine.apply(disk.format(filled).replace("type='disk'", "type='disk' start='no'"))
        text = disk.format(left_open).replace("type='disk'", "type='disk' start='no'")
        assert planned(machine.plan(text)) == []
    text = disk.format("<format type='gpt'/>").replace("type='disk'", "type='disk' start='no'")
    assert planned(machine.plan(text)) == ["d redefined"]
