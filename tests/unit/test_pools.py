"""What may be done with a pool when."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost
from folders import UUID, directory, last, source, summary

from storagectl import doctor, poollife, status
from storagectl.backends.directory import Directory
from storagectl.errors import (
    InternalError,
    NoSupport,
    OperationFailed,
    OperationInvalid,
    PoolActive,
    PoolInactive,
    PoolNotFound,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolTimeout,
)
from storagectl.model import Adapter, Device, Source
from storagectl.model import Host as Server
from storagectl.pools import Pools
from storagectl.pooltypes import POOL_TYPES
from storagectl.store import names_in

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = {"build": False, "overwrite": False, "no_overwrite": False}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    path = tmp_path / "folder"
    path.mkdir()
    return str(path)


# Life


def test_the_life_of_a_persistent_pool(pools: Pools, folder: str) -> None:
    pools.define(directory("d1", 1, folder))
    assert summary(pools) == [("d1", False, True, False)]
    poollife.start(pools, "d1", **PLAIN)
    assert summary(pools) == [("d1", True, True, False)]
    pools.refresh("d1")
    pools.set_autostart("d1", True)
    assert summary(pools) == [("d1", True, True, True)]
    poollife.stop(pools, "d1")
    assert summary(pools) == [("d1", False, True, True)]
    pools.undefine("d1")
    assert summary(pools) == []
    assert os.path.isdir(folder)


def test_a_transient_pool_is_gone_when_it_stops(pools: Pools, folder: str) -> None:
    poollife.create(pools, directory("t", 1, folder), **PLAIN)
    assert summary(pools) == [("t", True, False, False)]
    text = last(lambda: pools.set_autostart("t", True), InternalError)
    assert text == "internal error: pool has no config file"
    poollife.stop(pools, "t")
    assert summary(pools) == []
    last(lambda: pools.find("t"), PoolNotFound)


def test_defining_a_transient_pool_makes_it_persistent(pools: Pools, folder: str) -> None:
    poollife.create(pools, directory("t", 1, folder), **PLAIN)
    pools.define(directory("t", 1, folder))
    assert summary(pools) == [("t", True, True, False)]
    poollife.stop(pools, "t")
    assert summary(pools) == [("t", False, True, False)]


def test_creating_a_defined_pool_runs_it_with_the_new_definition(
    pools: Pools, folder: str, tmp_path: Path
) -> None:
    pools.define(directory("d1", 1, "/nowhere"))
    poollife.create(pools, directory("d1", 1, folder), **PLAIN)
    entry = pools.find("d1")
    assert (entry.active, entry.persistent, entry.pool.target) == (True, True, folder)
    poollife.stop(pools, "d1")
    assert pools.find("d1").pool.target == "/nowhere"


def test_redefinition_while_active_counts_from_the_next_start(pools: Pools, folder: str) -> None:
    pools.define(directory("d1", 1, folder))
    poollife.start(pools, "d1", **PLAIN)
    pools.define(directory("d1", 1, "/later"))
    entry = pools.find("d1")
    assert entry.described(inactive=False).target == folder
    assert entry.described(inactive=True).target == "/later"
    poollife.stop(pools, "d1")
    assert pools.find("d1").described(inactive=False).target == "/later"


def test_a_dump_of_a_running_pool_has_sizes_and_permissions(pools: Pools, folder: str) -> None:
    os.chmod(folder, 0o751)
    pools.define(directory("d1", 1, folder))
    assert pools.find("d1").described(inactive=False) == directory("d1", 1, folder)
    poollife.start(pools, "d1", **PLAIN)
    shown = pools.find("d1").described(inactive=False)
    assert shown.capacity == shown.allocation + shown.available > 0
    assert (shown.permissions.mode, shown.permissions.owner) == (0o751, os.getuid())
    assert pools.store.definition("d1") == directory("d1", 1, folder)


def test_the_host_decides_whether_a_pool_is_active(pools: Pools, folder: str) -> None:
    pools.define(directory("d1", 1, folder))
    poollife.start(pools, "d1", **PLAIN)
    os.rmdir(folder)
    assert summary(pools) == [("d1", False, True, False)]
    os.mkdir(folder)
    assert summary(pools) == [("d1", True, True, False)]


def test_an_undefined_pool_does_not_come_back_with_its_folder(pools: Pools, folder: str) -> None:
    pools.define(directory("d1", 1, folder))
    poollife.start(pools, "d1", **PLAIN)
    os.rmdir(folder)
    pools.undefine("d1")
    os.mkdir(folder)
    assert summary(pools) == []


def test_pools_are_sorted_as_virsh_sorts(pools: Pools) -> None:
    for number, name in enumerate(["b", "A", "a", "B", "_", "Z1", "z0"]):
        pools.define(directory(name, number, f"/{number}"))
    assert [entry.name for entry in pools.all()] == ["_", "A", "a", "B", "b", "z0", "Z1"]


# Look-up


def test_a_pool_is_found_by_name_or_uuid(pools: Pools) -> None:
    pools.define(directory("d1", 0xABC, "/a"))
    assert pools.find("d1").name == "d1"
    assert pools.find(UUID.format(0xABC)).name == "d1"
    assert pools.find(UUID.format(0xABC).upper()).name == "d1"
    assert pools.by_uuid("d1") is None
    assert pools.by_name(UUID.format(0xABC)) is None


def test_a_uuid_goes_before_a_name_of_that_form(pools: Pools) -> None:
    pools.define(directory(UUID.format(2), 1, "/a"))
    assert pools.find(UUID.format(2)).pool.uuid == UUID.format(1)
    pools.define(directory("d2", 2, "/b"))
    assert pools.find(UUID.format(2)).name == "d2"


@pytest.mark.parametrize(
    "key", ["x", "", ".", "..", "../d1", "a/b", "/abs", "d1.xml", "D1", "a\0b", "x" * 400, "x" * 36]
)
def test_s01_unknown_pools(pools: Pools, key: str) -> None:
    pools.define(directory("d1", 1, "/a"))
    with pytest.raises(PoolNotFound) as caught:
        pools.find(key)
    assert caught.value.lines() == [
        f"failed to get pool '{key}'",
        f"Storage pool not found: no storage pool with matching name '{key}'",
    ]


# Refusals


def test_refusals_of_an_active_pool(pools: Pools, folder: str) -> None:
    pools.define(directory("d1", 1, folder))
    poollife.start(pools, "d1", **PLAIN)
    prefix = "Requested operation is not valid: storage pool 'd1' is"
    before = summary(pools)
    for action, state in (
        (lambda: poollife.start(pools, "d1", **PLAIN), "already active"),
        (lambda: poollife.build(pools, "d1", overwrite=True, no_overwrite=True), "already active"),
        (lambda: poollife.delete(pools, "d1"), "still active"),
        (lambda: pools.undefine("d1"), "still active"),
    ):
        assert last(action, PoolActive) == f"{prefix} {state}"
    assert last(
        lambda: poollife.create(pools, directory("d1", 1, folder), **PLAIN), PoolActive
    ) == ("Requested operation is not valid: pool is already active as 'd1'")
    assert summary(pools) == before


def test_refusals_of_an_inactive_pool(pools: Pools, folder: str) -> None:
    pools.define(directory("d1", 1, folder))
    words = "Requested operation is not valid: storage pool 'd1' is not active"
    assert last(lambda: poollife.stop(pools, "d1"), PoolInactive) == words
    assert last(lambda: pools.refresh("d1"), PoolInactive) == words
    assert last(pools.find("d1").require_active, PoolInactive) == words
    assert pools.find("d1").state() is None


def test_a_transient_pool_cannot_be_undefined(pools: Pools, folder: str) -> None:
    poollife.create(pools, directory("t", 1, folder), **PLAIN)
    text = last(lambda: pools.undefine("t"), PoolActive)
    assert text.endswith("storage pool 't' is still active")


def test_build_flags(pools: Pools, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    pools.define(directory("d1", 1, str(target)))
    text = last(
        lambda: poollife.build(pools, "d1", overwrite=True, no_overwrite=True), StorageError
    )
    assert text == (
        "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE'"
        " are mutually exclusive"
    )
    assert not target.exists()
    text = last(
        lambda: poollife.build(pools, "d1", overwrite=True, no_overwrite=False), OperationInvalid
    )
    assert text.endswith("No source device specified when formatting pool 'd1'")
    poollife.build(pools, "d1", overwrite=False, no_overwrite=False)
    assert target.stat().st_mode & 0o777 == 0o711


def test_start_can_build_first(pools: Pools, tmp_path: Path) -> None:
    pools.define(directory("d1", 1, str(tmp_path / "new")))
    poollife.start(pools, "d1", build=True, overwrite=False, no_overwrite=False)
    assert (tmp_path / "new").is_dir()
    assert pools.find("d1").active


def test_s42_delete_removes_an_empty_folder_only(pools: Pools, folder: str) -> None:
    Path(folder, "file").write_text("x")
    pools.define(directory("d1", 1, folder))
    text = last(lambda: poollife.delete(pools, "d1"), SystemFailure)
    assert text == f"failed to remove pool '{folder}': Directory not empty"
    assert Path(folder, "file").read_text() == "x"
    os.unlink(os.path.join(folder, "file"))
    poollife.delete(pools, "d1")
    assert not os.path.exists(folder)
    assert summary(pools) == [("d1", False, True, False)]


def test_s42_delete_of_a_link_to_a_folder(pools: Pools, folder: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    pools.define(directory("d1", 1, str(tmp_path / "link")))
    last(lambda: poollife.delete(pools, "d1"), SystemFailure)
    assert os.path.isdir(folder)


def test_undefine_forgets_a_mark_that_the_host_has_made_void(pools: Pools) -> None:
    """Else the pool would come back when its folder does."""
    pools.define(directory("d1", 1, "/nowhere"))
    pools.store.mark_started(directory("d1", 1, "/nowhere"))
    pools.undefine("d1")
    assert pools.store.names() == set()


# A start that fails


def test_s54_a_start_that_fails_leaves_nothing(pools: Pools) -> None:
    pools.define(directory("d1", 1, "/nowhere/at/all"))
    text = last(lambda: poollife.start(pools, "d1", **PLAIN), SystemFailure)
    assert text == "cannot open directory '/nowhere/at/all': No such file or directory"
    assert summary(pools) == [("d1", False, True, False)]
    assert names_in(pools.store.markers) == set()
    text = last(
        lambda: poollife.create(pools, directory("t", 2, "/nowhere"), **PLAIN), SystemFailure
    )
    assert names_in(pools.store.markers) == set()


@pytest.mark.parametrize("step", ["build", "start", "state"])
@pytest.mark.parametrize("problem", [SystemFailure("broken"), KeyboardInterrupt(), SystemExit(143)])
def test_s55_a_start_that_is_interrupted_leaves_nothing(
    pools: Pools,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    problem: BaseException,
) -> None:
    done: list[str] = []

    def fail(self: Directory, **named: object) -> None:
        raise problem

    monkeypatch.setattr(Directory, "stop", lambda self: done.append("stop"))
    monkeypatch.setattr(Directory, step, fail)
    pools.define(directory("d1", 1, folder))
    with pytest.raises(type(problem)):
        poollife.start(pools, "d1", build=True, overwrite=False, no_overwrite=False)
    assert names_in(pools.store.markers) == set()
    assert done == (["stop"] if step == "state" else [])
    assert not pools.find("d1").active


@pytest.mark.parametrize("active", [True, False])
def test_s54_a_start_that_fails_stops_nothing_that_ran_before(
    pools: Pools,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    active: bool,
) -> None:
    """And why the start has failed is told, whether or not it can be undone."""

    def broken(self: Directory) -> None:
        raise SystemFailure("broken")

    def busy(self: Directory) -> None:
        raise ResourceBusy("device '/dev/sda' is in use")

    monkeypatch.setattr(Directory, "runs", True)
    monkeypatch.setattr(Directory, "is_active", lambda self: active)
    monkeypatch.setattr(Directory, "state", broken)
    monkeypatch.setattr(Directory, "stop", busy)
    pools.define(directory("d1", 1, folder))
    assert last(lambda: poollife.start(pools, "d1", **PLAIN), SystemFailure) == "broken"
    assert names_in(pools.store.markers) == set()
    said = capsys.readouterr().err
    assert ("'d1' could not be stopped again" in said) is not active
    assert ("device '/dev/sda' is in use" in said) is not active


def test_s44_a_stop_that_fails_leaves_the_pool_active(
    pools: Pools, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools.define(directory("d1", 1, folder))
    poollife.start(pools, "d1", **PLAIN)

    def busy(self: Directory) -> None:
        raise InternalError("target is busy")

    monkeypatch.setattr(Directory, "stop", busy)
    last(lambda: poollife.stop(pools, "d1"), InternalError)
    assert pools.find("d1").active


# Types that we do not serve

UNSERVED = [name for name, row in POOL_TYPES.items() if row.module is None]


@pytest.mark.parametrize("kind", UNSERVED)
def test_types_without_a_backend_are_refused(pools: Pools, kind: str) -> None:
    number = list(POOL_TYPES).index(kind)
    words = f"internal error: missing backend for pool type {number} ({kind})"
    assert last(lambda: pools.define(source(kind)), InternalError) == words
    assert last(lambda: poollife.create(pools, source(kind), **PLAIN), InternalError) == words
    assert summary(pools) == []


def test_a_definition_that_was_copied_here_is_listed_and_can_be_undefined(pools: Pools) -> None:
    """Somebody may copy libvirt's files: what we do not serve must not break the rest."""
    kind = next(name for name in UNSERVED if name not in ("iscsi-direct", "sheepdog", "zfs"))
    foreign = source(
        kind,
        hosts=[Server("h")],
        dir="/x",
        devices=[Device("iqn.x")],
        name="vg",
        adapter=Adapter("scsi_host", name="host1"),
        format=POOL_TYPES[kind].pool_default,
    )
    pools.store.define(foreign)
    pools.define(directory("d1", 2, "/a"))
    assert [entry[:2] for entry in summary(pools)] == [("d1", False), ("x", False)]
    for action in (
        lambda: poollife.start(pools, "x", **PLAIN),
        lambda: poollife.build(pools, "x", overwrite=False, no_overwrite=False),
        lambda: poollife.delete(pools, "x"),
    ):
        assert "missing backend" in last(action, InternalError)
    assert [entry[:2] for entry in summary(pools)] == [("d1", False), ("x", False)]
    pools.undefine("x")
    assert [entry[:2] for entry in summary(pools)] == [("d1", False)]


def test_a_type_without_deletion_says_so(
    pools: Pools, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Directory, "delete", None)
    pools.define(directory("d1", 1, folder))
    assert last(lambda: poollife.delete(pools, "d1"), NoSupport) == (
        "this function is not supported by the connection driver: pool does not support pool"
        " deletion"
    )


# Sources to make pools of


def sources(pools: Pools, kind: str, wanted: str | None, *script: Any) -> list[Source]:
    with FakeHost(*script) as host:
        pools.host = host
        return pools.find_sources(kind, wanted)


def asking(*hosts: str) -> str:
    return "<source>" + "".join(f"<host name='{host}'/>" for host in hosts) + "</source>"


EXPORTS = (["showmount", "--no-headers", "--exports", "nas"], "/b  *\n/a b (everyone)\n", 0)


def test_exports_of_a_file_server(pools: Pools) -> None:
    found = sources(pools, "netfs", asking("nas"), EXPORTS)
    assert found == [
        Source(hosts=[Server("nas")], dir="/b", format="nfs"),
        Source(hosts=[Server("nas")], dir="/a b", format="nfs"),
    ]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [(("", 0), ""), (("clnt_create: RPC: Unknown host\n", 1), "clnt_create: RPC: Unknown host")],
)
def test_a_server_without_exports(pools: Pools, answer: tuple[str, int], hint: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        sources(pools, "netfs", asking("nas"), (EXPORTS[0], *answer))
    assert caught.value.detail == "no storage pools were found on host 'nas'"
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "look", [Pools.all, status.examine, doctor.examine], ids=["list", "status", "doctor"]
)
def test_s48_servers_that_are_gone_are_waited_for_at_the_same_time(
    pools: Pools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Pools], object]
) -> None:
    """None answers before all have been asked: one after the other none would in its time."""
    met = threading.Barrier(3)
    mounts = ""
    for number in range(3):
        target = tmp_path / f"nas{number}"
        target.mkdir()
        poollife.create(pools, directory(f"t{number}", number, str(target)), **PLAIN)
        mounts += f"41 29 0:51 / {target} rw - nfs4 h:/x rw\n"
    real = os.statvfs
    asked: list[str] = []

    def answer(path: str) -> os.statvfs_result:
        if path not in asked:
            asked.append(path)
            met.wait(30)
        return real(path)

    monkeypatch.setattr(pools.host, "mounts", lambda: mounts)
    monkeypatch.setattr(pools.host, "limits", {"answer": 30.0})
    monkeypatch.setattr(os, "statvfs", answer)
    look(pools)
    assert not met.broken
    assert sorted(asked) == [str(tmp_path / f"nas{number}") for number in range(3)]


def test_s48_a_silent_server_is_asked_for_a_limited_time(pools: Pools) -> None:
    class Silent(FakeHost):
        def _spawn(
            self, argv: list[str], limit_s: float | None = None, *_: object
        ) -> tuple[int, str, str]:
            assert limit_s is not None
            raise ToolTimeout(argv, limit_s)

    pools.host = Silent()
    with pytest.raises(OperationFailed, match="were found on host 'nas'") as caught:
        pools.find_sources("netfs", asking("nas"))
    assert "did not end within 15 s" in caught.value.hint


def test_volume_groups_with_their_devices(pools: Pools) -> None:
    argv = [
        "pvs", "--reportformat", "json", "--units", "b", "--nosuffix", "--options",
        "pv_name,vg_name",
    ]  # fmt: skip
    rows = [("/dev/a", "z"), ("/dev/b", "g"), ("/dev/c", "z"), ("/dev/d", ""), ("[unknown]", "g")]
    text = json.dumps({"report": [{"pv": [{"pv_name": d, "vg_name": g} for d, g in rows]}]})
    for wanted in (None, "<garbage"):
        assert sources(pools, "logical", wanted, (argv, text, 0)) == [
            Source(devices=[Device("/dev/a"), Device("/dev/c")], name="z", format="lvm2"),
            Source(devices=[Device("/dev/b")], name="g", format="lvm2"),
        ]


TARGETS = "127.0.0.1:3260,1 iqn.2024-01.lab:t1\n127.0.0.1:3260,1 iqn.2024-01.lab:t2\n"
INTERFACES = (
    ["iscsiadm", "--mode", "iface"],
    "default tcp,<empty>,<empty>,<empty>,<empty>\nme tcp,<empty>,<empty>,<empty>,iqn.x:me\n",
    0,
)


@pytest.mark.parametrize(
    ("attributes", "initiator", "portal", "port"),
    [
        ("name='nas'", "", "nas:3260,1", 3260),
        ("name='::1' port='3261'", "", "[::1]:3261,1", 3261),
        ("name='nas'", "<initiator><iqn name='iqn.x:me'/></initiator>", "nas:3260,1", 3260),
    ],
)
def test_targets_of_a_portal(
    pools: Pools, attributes: str, initiator: str, portal: str, port: int
) -> None:
    argv = [
        "iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--portal", portal,
        "--op", "nonpersistent", *(["--interface", "me"] if initiator else []),
    ]  # fmt: skip
    script = [INTERFACES] if initiator else []
    wanted = f"<source><host {attributes}/>{initiator}</source>"
    found = sources(pools, "iscsi", wanted, *script, (argv, TARGETS, 0))
    assert [source.devices for source in found] == [
        [Device("iqn.2024-01.lab:t1")],
        [Device("iqn.2024-01.lab:t2")],
    ]
    assert {source.hosts[0].port for source in found} == {port}


def test_an_initiator_without_an_interface(pools: Pools) -> None:
    wanted = "<source><host name='nas'/><initiator><iqn name='iqn.y'/></initiator></source>"
    with pytest.raises(OperationFailed, match="no iSCSI interface defined for IQN iqn.y"):
        sources(pools, "iscsi", wanted, INTERFACES)


@pytest.mark.parametrize(
    ("kind", "wanted", "said"),
    [
        ("bogus", asking("nas"), "internal error: unknown storage pool type bogus"),
        ("zfs", None, "internal error: missing backend for pool type 12 (zfs)"),
        (
            "dir", "<garbage",
            "this function is not supported by the connection driver: pool type 'dir' does not"
            " support source discovery",
        ),
        ("netfs", None, "invalid argument: hostname must be specified for netfs sources"),
        (
            "netfs", asking(),
            "unsupported configuration: Expected exactly 1 host for the storage pool",
        ),
        (
            "netfs", asking("a", "b"),
            "unsupported configuration: Expected exactly 1 host for the storage pool",
        ),
        ("netfs", "<source><host/></source>", "XML error: missing storage pool host name"),
        (
            "netfs", asking("-x"),
            "XML error: Invalid value for attribute 'name' in element 'host': '-x'.",
        ),
        ("netfs", "<pool/>", "XML error: expecting root element of 'source', not 'pool'"),
        ("netfs", "", "(storage_source_specification):1: Document is empty\n(null)\n^"),
        (
            "netfs", "<source><host name='a'/><format type='zz'/></source>",
            "unsupported configuration: unknown pool format type zz",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_found(pools: Pools, kind: str, wanted: str | None, said: str) -> None:
    with pytest.raises(StorageError) as caught:
        sources(pools, kind, wanted)
    assert caught.value.lines() == [said]
