"""Logical pools without LVM: what is run, what is refused, what is given back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost

from storagectl.backends import SOURCE, devices, volume_group
from storagectl.backends.logical import Logical
from storagectl.errors import (
    ConfigUnsupported,
    InvalidArgument,
    NoSupport,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    PoolBuilt,
    ProbeFailed,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
    VolumeExists,
)
from storagectl.host import bulk
from storagectl.model import BackingStore, Device, Encryption, Pool, Source, Volume
from storagectl.pools import Pools
from storagectl.store import Store
from storagectl.tools import blkid, lvm

if TYPE_CHECKING:
    from collections.abc import Sequence

FIXTURES = Path(__file__).parents[1] / "tools" / "fixtures" / "lvm"
VG = "lab.v-g+1"
MIB = 1 << 20


def printed(name: str, *changes: tuple[str, str]) -> str:
    text: str = json.loads((FIXTURES / f"{name}.json").read_text())["stdout"]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def said(name: str) -> tuple[str, int]:
    record = json.loads((FIXTURES / f"{name}.json").read_text())
    return record["stderr"], record["status"]


class Host(FakeHost):
    """Writes on devices are only noted."""

    def zero_ranges(self, device: str, ranges: Sequence[tuple[int, int]]) -> None:
        self.calls.append(["zero", device])


def make(
    *script: Any, paths: Sequence[str] = ("/dev/loop0",), name: str = VG
) -> tuple[Logical, Host]:
    host = Host(*script)
    source = Source(name=name, devices=[Device(path) for path in paths])
    return Logical(Pool("logical", "p", "u", source, target=f"/dev/{name}"), host), host


def group(*changes: tuple[str, str]) -> tuple[list[str], str, int]:
    return lvm.vgs(VG), printed("vgs-three", *changes), 0


def volumes(name: str = "lvs-many", *changes: tuple[str, str]) -> tuple[list[str], str, int]:
    return lvm.lvs(VG), printed(name, *changes), 0


def altered(**changes: dict[str, str]) -> tuple[list[str], str, int]:
    """Give `lvs-many` with other fields of some volumes; LIN stands for lin.e-ar+1."""
    report = json.loads(printed("lvs-many"))
    for row in report["report"][0]["lv"]:
        row.update(changes.get(row["lv_name"].replace(LIN, "LIN"), {}))
    return lvm.lvs(VG), json.dumps(report), 0


LIN = "lin.e-ar+1"
HIDDEN = f".storagectl-{bytes(8).hex()}.part"
NO_GROUP = (lvm.vgs(VG), said("vgs-nosuch")[0].replace("nosuch", VG), 5)
# Where a device is gone, LVM says so whatever it is asked.
WARNING = "  WARNING: Devices file PVID 5wFo last seen on /dev/sdb not found.\n"


@pytest.fixture(autouse=True)
def _no_udev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nonexistent")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Files in place of devices."""
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(bytes(4 * MIB))
    return [str(path) for path in paths]


# What `apply` asks


def test_built_is_a_group_that_is_there() -> None:
    assert make(group())[0].unbuilt() == ""
    assert make(NO_GROUP)[0].unbuilt() == SOURCE
    with pytest.raises(OperationFailed):
        make((lvm.vgs(VG), *said("vgs-foreign")))[0].unbuilt()


def test_a_group_that_is_there_is_not_built_again() -> None:
    backend, host = make(group())
    backend.build_rest(overwrite=True)
    assert host.calls == [lvm.vgs(VG)]


def test_capacities_are_multiples_of_extents() -> None:
    backend, _ = make(volumes())
    assert backend.grain(Volume("inact")) == 4 * MIB


# Active or not


def test_active() -> None:
    assert make(group(), volumes())[0].is_active()
    assert make(group(('"lv_count":"11"', '"lv_count":"0"')))[0].is_active()


@pytest.mark.parametrize(
    "answer",
    [
        NO_GROUP,
        (lvm.vgs(VG), *said("vgs-foreign")),
        group(('"vg_exported":""', '"vg_exported":"exported"')),
        group(("/dev/loop0", "/dev/other0")),
    ],
)
def test_inactive(answer: Any) -> None:
    backend, host = make(answer)
    with host:
        assert not backend.is_active()


def test_state() -> None:
    state = make(group())[0].state()
    assert (state.capacity, state.available) == (390070272, 150994944)
    assert state.allocation == 390070272 - 150994944


# Volumes


def test_volumes_are_what_is_active_and_no_pool() -> None:
    found = {volume.name: volume for volume in make(volumes())[0].volumes(details=True)}
    assert sorted(found) == [
        "lin.e-ar+1", "mirror", "raid1", "snap", "sparse", "stripe", "thin", "two",
    ]  # fmt: skip
    assert found["snap"].path == f"/dev/{VG}/snap"
    backing = found["snap"].backing
    assert backing is not None
    assert backing.path == f"/dev/{VG}/lin.e-ar+1"
    assert found["sparse"].backing is None
    assert [extent.device for extent in found["stripe"].extents] == ["/dev/loop0", "/dev/loop2"]
    assert len(found["two"].extents) == 3
    assert found["thin"].extents == []
    assert (found["thin"].capacity, found["thin"].allocation) == (64 * MIB, 0)


@pytest.mark.parametrize("details", [False, True])
def test_a_thousand_volumes_are_listed_with_one_lvs(details: bool) -> None:
    document = json.loads(printed("lvs-many"))
    rows = document["report"][0]["lv"]
    like = next(row for row in rows if row["lv_name"] == "stripe")
    names = [f"lv{number:04}" for number in range(1000)]
    rows[:] = [like | {"lv_name": name, "lv_uuid": f"uuid-{name}"} for name in names]
    backend, host = make((lvm.lvs(VG), json.dumps(document), 0))
    with host:
        found = list(backend.volumes(details=details))
    assert [volume.name for volume in found] == names
    assert len({volume.path for volume in found}) == 1000
    assert host.calls == [lvm.lvs(VG)]


def groups(*names: str) -> str:
    """What vgs prints of groups without volumes."""
    document = json.loads(printed("vgs-three"))
    like = document["report"][0]["vg"][0] | {"lv_count": "0"}
    document["report"][0]["vg"] = [
        like | {"vg_name": name, "vg_uuid": f"uuid-{name}"} for name in names
    ]
    return json.dumps(document)


@pytest.mark.parametrize("count", [1, 20])
def test_a_list_with_details_of_many_groups_takes_one_vgs(tmp_path: Path, count: int) -> None:
    names = [f"vg{number}" for number in range(count)]
    host = Host((lvm.vgs(), groups(*names), 0))
    pools = Pools(Store(host, str(tmp_path)), host)
    for number, name in enumerate(names):
        uuid = f"00000000-0000-4000-8000-{number:012}"
        pool = Pool("logical", name, uuid, Source(name=name), target=f"/dev/{name}")
        pools.store.mark_started(pool)
    with host, pools.asking_once():
        entries = pools.all()
        assert {entry.name: entry.active for entry in entries} == dict.fromkeys(names, True)
        states = [entry.state() for entry in entries]
    assert [state and state.capacity for state in states] == [390070272] * count
    assert host.calls == [lvm.vgs()]
    assert not volume_group.heard


def test_what_was_heard_for_a_list_is_forgotten_when_it_fails(tmp_path: Path) -> None:
    host = Host((lvm.vgs(), groups("vg"), 0), (lvm.vgs("vg"), groups("vg"), 0))
    pools = Pools(Store(host, str(tmp_path)), host)
    uuid = "00000000-0000-4000-8000-000000000001"
    pool = Pool("logical", "vg", uuid, Source(name="vg"), target="/dev/vg")
    pools.store.mark_started(pool)

    def listed() -> None:
        with pools.asking_once():
            assert len(pools.all()) == len(pools.all()) == 1
            raise KeyboardInterrupt

    with host:
        with pytest.raises(KeyboardInterrupt):
            listed()
        assert pools.find("vg").active
    assert host.calls == [lvm.vgs(), lvm.vgs("vg")]


def test_look_up() -> None:
    backend, _ = make(volumes(), volumes(), volumes())
    volume = backend.volume("two")
    assert volume is not None
    assert backend.volume_name_at(volume.key) == "two"
    assert backend.volume_name_at(volume.path) == "two"
    assert backend.volume_name_at("/srv/x") is None
    assert make(volumes())[0].volume("inact") is None


# Start and stop


def test_start() -> None:
    backend, host = make(group(), (["vgchange", "-aly", VG], "", 0))
    with host:
        backend.start()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (NO_GROUP, ConfigUnsupported, f"cannot find logical volume group name '{VG}'"),
        (
            group(("/dev/loop0", "/dev/other0")), ConfigUnsupported,
            f"cannot find any matching source devices for logical volume group '{VG}'",
        ),
        (
            group(('"vg_missing_pv_count":"0"', '"vg_missing_pv_count":"2"')), OperationFailed,
            f"volume group '{VG}' is not complete: 2 of its devices are missing",
        ),
        (
            group(('"vg_exported":""', '"vg_exported":"exported"')), OperationFailed,
            f"volume group '{VG}' is exported",
        ),
        (
            group(('"vg_lock_type":""', '"vg_lock_type":"sanlock"')), OperationFailed,
            f"volume group '{VG}' is shared by locks of type sanlock",
        ),
        (
            (lvm.vgs(VG), *said("vgs-foreign")), OperationFailed,
            f"volume group '{VG}' belongs to another machine",
        ),
    ],
)  # fmt: skip
def test_s40_start_refused(answer: Any, error: type[StorageError], words: str) -> None:
    backend, host = make(answer)
    with host, pytest.raises(error) as caught:
        backend.start()
    assert caught.value.detail == words
    if answer is not NO_GROUP:
        backend, host = make(answer)
        with host, pytest.raises(StorageError):
            backend.delete()


def test_s38_two_groups_of_one_name() -> None:
    """LVM shows neither by its name: all are asked for then."""
    first = json.loads(printed("vgs-three"))
    second = json.loads(printed("vgs-three", ("GjNaAH", "TjNaAH"), ("/dev/loop0", "/dev/loop9")))
    rows = first["report"][0]["vg"]
    rows += second["report"][0]["vg"]
    rows.append({**rows[0], "vg_name": "other", "vg_uuid": "other"})
    both = (lvm.vgs(), json.dumps(first), 0)
    text, status = said("vgs-twins")
    for act, warned in ((Logical.start, text), (Logical.delete, WARNING + text)):
        backend, host = make((lvm.vgs(VG), warned, status), both)
        with host, pytest.raises(OperationFailed) as caught:
            act(backend)
        assert caught.value.detail == f"there are 2 volume groups with the name '{VG}'"
        assert "GjNaAH" in caught.value.hint
        assert "TjNaAH" in caught.value.hint


def test_s40_a_device_that_is_not_found_is_no_group_that_is_not_there() -> None:
    backend, host = make((lvm.vgs(VG), f"{WARNING}  Reading metadata failed.\n", 5))
    with host, pytest.raises(ToolFailed, match="Reading metadata failed"):
        backend.find_group()
    text, status = said("vgs-nosuch")
    backend, host = make((lvm.vgs(VG), WARNING + text.replace("nosuch", VG), status))
    with host:
        assert backend.find_group() is None


@pytest.mark.parametrize("name", ["-f", "a/b", "..", "a b"])
def test_s64_names_that_are_no_group(name: str) -> None:
    backend, host = make(name=name)
    with host, pytest.raises(ConfigUnsupported, match="cannot be the name of a volume group"):
        backend.start()


def test_stop_tries_again_when_udev_was_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = (["vgchange", "-aln", VG], "", 0)
    left = [["two"], ["two"], []]
    backend, host = make(volumes(), stop, stop, stop)
    monkeypatch.setattr(backend, "_nodes", lambda: left.pop(0))
    with host:
        backend.stop()
    backend, host = make(volumes(), stop, stop, stop)
    monkeypatch.setattr(backend, "_nodes", lambda: ["two"])
    with host, pytest.raises(OperationFailed, match="is active again: two"):
        backend.stop()


def test_stop_refuses_open_volumes() -> None:
    backend, host = make(volumes("lvs-open"))
    with host, pytest.raises(ResourceBusy, match=r"has open logical volumes: two \(in use\)"):
        backend.stop()


# Build and delete


def blank(path: str) -> tuple[list[str], str, int]:
    return blkid.signatures(path), "", 0


def test_build(files: list[str]) -> None:
    script = [*(blank(path) for path in files), NO_GROUP]
    script += [(["pvcreate", path], "", 0) for path in files]
    made = (["vgcreate", VG, *files], "", 0)
    backend, host = make(*script, made, group(), paths=files)
    with host:
        backend.build(overwrite=False, no_overwrite=False)
    script += [made, NO_GROUP, (["vgremove", "-f", VG], "", 0)]
    script += [(["pvremove", path], "", 0) for path in files]
    backend, host = make(*script, paths=files)
    with host, pytest.raises(OperationFailed, match="did not appear"):
        backend.build(overwrite=False, no_overwrite=False)


def test_build_gives_back_what_it_made(files: list[str]) -> None:
    a, b, _ = files
    script = [*(blank(path) for path in files), NO_GROUP]
    script += [(["pvcreate", a], "", 0), (["pvcreate", b], "no\n", 5), (["pvremove", a], "", 0)]
    backend, host = make(*script, paths=files)
    with host, pytest.raises(ToolFailed, match=r"pvcreate .* status 5: no"):
        backend.build(overwrite=False, no_overwrite=False)


def test_build_looks_at_all_before_it_writes(files: list[str], tmp_path: Path) -> None:
    backend, host = make(paths=[*files, str(tmp_path / "none")])
    with host, pytest.raises(ProbeFailed, match="Failed to create filesystem probe"):
        backend.build(overwrite=False, no_overwrite=False)
    with host, pytest.raises(SystemFailure, match="Failed to open storage volume with path"):
        backend.build(overwrite=True, no_overwrite=False)
    Path(files[1]).write_bytes(b"data")
    backend, host = make(blank(files[0]), blank(files[1]), paths=files)
    with host, pytest.raises(PoolBuilt, match="holds data of an unknown format"):
        backend.build(overwrite=False, no_overwrite=False)
    backend, host = make(paths=[files[0], files[0]])
    with host, pytest.raises(InvalidArgument, match="named twice"):
        backend.build(overwrite=False, no_overwrite=False)
    backend, host = make(paths=["-ff"])
    with host, pytest.raises(ConfigUnsupported, match="not an absolute path"):
        backend.build(overwrite=True, no_overwrite=False)


def test_build_of_a_name_that_is_taken(files: list[str]) -> None:
    for overwrite in (False, True):
        script = [] if overwrite else [blank(files[0])]
        backend, host = make(*script, group(), paths=files[:1])
        with host, pytest.raises(OperationInvalid, match="exists already"):
            backend.build(overwrite=overwrite, no_overwrite=False)


def test_build_never_takes_a_member_of_another_group(files: list[str]) -> None:
    Path(files[0]).write_bytes(bytes(512) + b"LABELONE")
    members = printed("pvs", ("/dev/loop0", files[0]), (VG, "other"))
    backend, host = make(NO_GROUP, (lvm.pvs(), members, 0), paths=files[:1])
    with host, pytest.raises(ResourceBusy, match="part of volume group 'other'"):
        backend.build(overwrite=True, no_overwrite=False)


LOOPS = ("/dev/loop0", "/dev/loop1", "/dev/loop2")


def test_delete() -> None:
    script = [(["pvremove", path], "", 0) for path in LOOPS]
    removal = (["vgremove", "-f", VG], "", 0)
    backend, host = make(group(), volumes(), removal, NO_GROUP, *script, paths=LOOPS)
    with host:
        backend.delete()
    backend, host = make(group(), volumes(), removal, group(), paths=LOOPS)
    with host, pytest.raises(OperationFailed, match="is still there"):
        backend.delete()


def test_delete_by_name_alone() -> None:
    removal = (["vgremove", "-f", VG], "", 0)
    backend, host = make(group(), volumes(), removal, NO_GROUP, paths=())
    with host:
        backend.delete()


def test_s41_delete_refused() -> None:
    backend, host = make(group(), paths=LOOPS[:1])
    with host, pytest.raises(OperationInvalid, match="has not: /dev/loop1, /dev/loop2"):
        backend.delete()
    backend, host = make(group(), volumes("lvs-open"), paths=LOOPS)
    with host, pytest.raises(ResourceBusy, match="two"):
        backend.delete()


def test_delete_of_what_is_gone_says_what_lvm_says() -> None:
    foreign = '{"report": [{"pv": [{"pv_name":"/dev/loop0", "vg_name":"other"}]}]}'
    backend, host = make(
        NO_GROUP, (lvm.pvs(), foreign, 0), (["vgremove", "-f", VG], "not there\n", 5)
    )
    with host, pytest.raises(ToolFailed, match="not there"):
        backend.delete()


def test_s54_delete_that_was_cut_short_is_completed() -> None:
    """The group is gone and the labels are left."""
    left = '{"report": [{"pv": [{"pv_name":"/dev/loop0", "vg_name":""}]}]}'
    backend, host = make(NO_GROUP, (lvm.pvs(), left, 0), (["pvremove", "/dev/loop0"], "", 0))
    with host:
        backend.delete()


# Volumes that change


def test_a_failed_create_leaves_nothing() -> None:
    argv = lvm.lvcreate(VG, "two", 4 * MIB)
    volume = Volume("two", capacity=4 * MIB, allocation=4 * MIB)
    backend, host = make(
        volumes("lvs-none"), (argv, "odd\n", 5), volumes(),
        (["lvremove", "-f", f"/dev/{VG}/two"], "", 0),
    )  # fmt: skip
    with host, pytest.raises(ToolFailed, match="odd"):
        backend.create_volume(volume, metadata=False)


def test_s54_an_unfinished_volume_is_hidden_and_goes_with_the_next_change() -> None:
    renamed = ('"lv_name":"two"', f'"lv_name":"{HIDDEN}"')
    backend, _ = make(volumes("lvs-many", renamed))
    assert HIDDEN not in {volume.name for volume in backend.volumes(details=False)}
    argv = lvm.lvcreate(VG, "v", 8 * MIB)
    backend, host = make(
        volumes("lvs-many", renamed),
        (["lvremove", "-f", f"/dev/{VG}/{HIDDEN}"], "", 0),
        (argv, "odd\n", 5),
        volumes("lvs-none"),
    )
    with host, pytest.raises(ToolFailed, match="odd"):
        backend.create_volume(Volume("v", capacity=8 * MIB, allocation=8 * MIB), metadata=False)


@pytest.mark.usefixtures("_known_hidden_name")
def test_an_encrypted_volume_has_room_for_its_header() -> None:
    argv = lvm.lvcreate(VG, HIDDEN, 6 * MIB)
    luks = Encryption("luks")
    volume = Volume("two", capacity=4 * MIB, allocation=4 * MIB, encryption=luks)
    backend, host = make(volumes("lvs-none"), (argv, "odd\n", 5), volumes("lvs-none"))
    backend.passphrase_of = lambda encryption: b"x"
    with host, pytest.raises(ToolFailed, match="--name two .*odd"):
        backend.create_volume(volume, metadata=False)
    backed = volume.replace(backing=BackingStore("/x"))
    with pytest.raises(ConfigUnsupported, match="cannot set backing store for raw volume"):
        backend.create_volume(backed, metadata=False)
    other = volume.replace(encryption=Encryption("luks2"))
    with pytest.raises(ConfigUnsupported, match="storage pool only supports LUKS"):
        backend.create_volume(other, metadata=False)


def test_a_failed_create_leaves_what_was_there() -> None:
    argv = lvm.lvcreate(VG, "inact", 4 * MIB)
    backend, host = make(volumes(), (argv, "exists\n", 5))
    with host, pytest.raises(ToolFailed, match="exists"):
        backend.create_volume(Volume("inact", capacity=4 * MIB, allocation=4 * MIB), metadata=False)


def test_s54_a_failed_create_leaves_what_another_has_made_meanwhile() -> None:
    said = f'  Logical Volume "two" already exists in volume group "{VG}"\n'
    backend, host = make(volumes("lvs-none"), (lvm.lvcreate(VG, "two", 4 * MIB), said, 5))
    with host, pytest.raises(ToolFailed, match="already exists"):
        backend.create_volume(Volume("two", capacity=4 * MIB, allocation=4 * MIB), metadata=False)


@pytest.mark.parametrize(
    ("backing", "error"),
    [("/dev/other/x", InvalidArgument), (f"/dev/{VG}/snap", OperationUnsupported)],
)
def test_snapshot_of_what_cannot_have_one(backing: str, error: type[StorageError]) -> None:
    volume = Volume("s", capacity=MIB, allocation=MIB, backing=BackingStore(backing))
    backend, host = make(volumes())
    with host, pytest.raises(error):
        backend.create_volume(volume, metadata=False)


def made(backend: Logical, volume: Volume) -> None:
    """Create a volume; its node never comes, so what is made is taken away again."""
    with pytest.raises(OperationFailed, match="did not appear"):
        backend.create_volume(volume, metadata=False)


@pytest.fixture
def _known_hidden_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", bytes)


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "wait_until", lambda condition: condition())


THIN_SIZE = 64 * MIB


@pytest.mark.usefixtures("_no_patience", "_known_hidden_name")
@pytest.mark.parametrize(
    ("volume", "argvs"),
    [
        (Volume("v", capacity=8 * MIB, allocation=8 * MIB), [lvm.lvcreate(VG, "v", 8 * MIB)]),
        (Volume("v", capacity=8 * MIB, allocation=9 * MIB), [lvm.lvcreate(VG, "v", 8 * MIB)]),
        (
            Volume("v", capacity=8 * MIB, allocation=8 * MIB - 1),
            [lvm.lvcreate_thin(VG, "v", 8 * MIB, "pool")],
        ),
        (
            Volume("v", capacity=8 * MIB, backing=BackingStore(f"/dev/{VG}/two")),
            [lvm.snapshot(f"/dev/{VG}/two", "v", 0)],
        ),
        (
            Volume("v", backing=BackingStore(f"/dev/{VG}/thin")),
            [lvm.snapshot_thin(f"/dev/{VG}/thin", "v")],
        ),
        (
            Volume("v", capacity=THIN_SIZE, backing=BackingStore(f"/dev/{VG}/thin")),
            [lvm.snapshot_thin(f"/dev/{VG}/thin", "v")],
        ),
        (
            Volume("v", capacity=THIN_SIZE + 1, backing=BackingStore(f"/dev/{VG}/thin")),
            [
                lvm.snapshot_thin(f"/dev/{VG}/thin", HIDDEN),
                lvm.lvextend(f"/dev/{VG}/{HIDDEN}", THIN_SIZE + 4 * MIB),
            ],
        ),
    ],
    ids=["full", "more", "thin", "snapshot", "thin-snapshot", "of-its-size", "larger"],
)
def test_what_is_run_to_create(volume: Volume, argvs: list[list[str]]) -> None:
    backend, host = make(volumes(), *((argv, "", 0) for argv in argvs), volumes())
    with host:
        made(backend, volume)


@pytest.mark.usefixtures("_no_patience")
def test_of_several_thin_pools_the_one_with_the_most_space_is_taken() -> None:
    answer = (lvm.lvs(VG), twice_the_pool(), 0)
    backend, host = make(answer, (lvm.lvcreate_thin(VG, "v", 8 * MIB, "wide"), "", 0), answer)
    with host:
        made(backend, Volume("v", capacity=8 * MIB))


def twice_the_pool() -> str:
    """Two thin pools: `pool` of 16 MiB, 90 % full, and `wide` of 8 MiB, half full."""
    report = json.loads(printed("lvs-many"))
    rows = report["report"][0]["lv"]
    row = next(row for row in rows if row["lv_name"] == "pool")
    rows.append({**row, "lv_name": "wide", "lv_size": str(8 * MIB), "data_percent": "50.00"})
    row["data_percent"] = "90.00"
    return json.dumps(report)


def test_without_a_thin_pool_there_is_no_thin_volume() -> None:
    backend, host = make(volumes("lvs-none"))
    with host, pytest.raises(OperationUnsupported) as caught:
        backend.create_volume(Volume("v", capacity=MIB), metadata=False)
    assert caught.value.lines() == [
        "Operation not supported: an allocation below the capacity needs a thin pool, and volume"
        f" group '{VG}' has none"
    ]
    assert caught.value.hint.endswith(f"lvcreate --type thin-pool --size SIZE --name NAME {VG}")


def test_a_thin_snapshot_is_no_smaller_than_its_origin() -> None:
    volume = Volume("v", capacity=THIN_SIZE - 1, backing=BackingStore(f"/dev/{VG}/thin"))
    backend, host = make(volumes())
    with host, pytest.raises(InvalidArgument, match="cannot be smaller than its 67108864 bytes"):
        backend.create_volume(volume, metadata=False)


@pytest.mark.usefixtures("_no_patience", "_known_hidden_name")
def test_a_clone_of_a_snapshot_is_a_volume_of_its_own() -> None:
    backend, host = make(volumes(), (lvm.lvcreate(VG, HIDDEN, 8 * MIB), "", 0), volumes())
    source = Volume("snap", path=f"/dev/{VG}/snap", type="block")
    wanted = Volume("v", capacity=8 * MIB, backing=BackingStore(f"/dev/{VG}/two"))
    with host, pytest.raises(OperationFailed, match="did not appear"):
        backend.create_volume_from(wanted, source, bulk.Mover(), metadata=False, reflink=False)


@pytest.mark.parametrize(
    ("format", "metadata", "reflink", "words"),
    [
        ("raw", True, False, "metadata preallocation is not supported for block volumes"),
        ("qcow2", True, False, "metadata preallocation only available with qcow2"),
        (
            "qcow2",
            True,
            True,
            "unsupported flags (0x2) in function storageBackendCreateQemuImg",
        ),
    ],
)
def test_options_that_a_block_volume_has_not(
    format: str, metadata: bool, reflink: bool, words: str
) -> None:
    """Known before anything is made."""
    backend, host = make()
    source = Volume("image", path="/image", capacity=MIB, allocation=MIB, format=format)
    with host, pytest.raises(StorageError) as caught:
        backend.create_volume_from(
            named("new"), source, bulk.Mover(), metadata=metadata, reflink=reflink
        )
    assert caught.value.detail == words


def named(name: str) -> Volume:
    return Volume(name, path=f"/dev/{VG}/{name}", capacity=4 * MIB, allocation=4 * MIB)


def test_delete_volume() -> None:
    path = f"/dev/{VG}/snap"
    backend, host = make(volumes(), (["lvremove", "-f", path], "", 0))
    with host:
        backend.delete_volume(named("snap"))
    backend, host = make(volumes())
    with host, pytest.raises(OperationInvalid, match="has snapshots, which would be lost: snap"):
        backend.delete_volume(named("lin.e-ar+1"))
    backend, host = make(volumes("lvs-open"))
    with host, pytest.raises(ResourceBusy, match="'two' is in use: in use"):
        backend.delete_volume(named("two"))


def test_s38_delete_of_an_external_origin_would_delete_thin_volumes() -> None:
    """A thin volume needs a volume that is not in its pool; in its own pool it shares blocks."""
    lost = "has snapshots, which would be lost: thin"
    for origin in ("two", "mirror"):
        backend, host = make(altered(thin={"origin": origin}))
        with host, pytest.raises(OperationInvalid, match=lost):
            backend.delete_volume(named(origin))
    backend, host = make(altered(thinsnap={"pool_lv": "another"}))
    with host, pytest.raises(OperationInvalid, match=f"{lost}snap"):
        backend.delete_volume(named("thin"))
    backend, host = make(volumes(), (lvm.lvremove(f"/dev/{VG}/thin"), "", 0))
    with host:
        backend.delete_volume(named("thin"))


def test_resize() -> None:
    path = f"/dev/{VG}/stripe"
    volume = named("stripe")
    backend, host = make(volumes(), group(), (["lvextend", "--size", "12582912b", path], "", 0))
    with host:
        backend.resize_volume(volume, 8 * MIB + 1, allocate=False, shrink=False)
    backend, host = make(volumes())
    with host:
        backend.resize_volume(volume, 8 * MIB, allocate=False, shrink=False)
    backend, host = make(volumes(), (["lvreduce", "--yes", "--size", "4194304b", path], "", 0))
    with host:
        backend.resize_volume(volume, 1, allocate=False, shrink=True)
    backend, host = make(volumes())
    with host, pytest.raises(NoSupport, match="cannot be resized"):
        backend.resize_volume(named("snap"), 8 * MIB, allocate=False, shrink=False)


@pytest.mark.parametrize(("capacity", "whole"), [(1, 4), (4 * MIB, 4), (4 * MIB + 1, 8), (0, 0)])
def test_capacities_are_rounded_up_to_extents(capacity: int, whole: int) -> None:
    assert make(volumes())[0].rounded(named("two"), capacity) == whole * MIB
    with pytest.raises(OperationFailed, match="'gone' is gone"):
        make(volumes())[0].rounded(named("gone"), capacity)


def test_resize_without_the_room_runs_nothing() -> None:
    backend, host = make(volumes(), group())
    with host, pytest.raises(OperationFailed) as caught:
        backend.resize_volume(named("two"), 1 << 40, allocate=False, shrink=False)
    assert caught.value.lines() == ["operation failed: Not enough space left in storage pool"]
    assert caught.value.hint == (
        f"volume group '{VG}' has 150994944 of {(1 << 40) - 155189248} more bytes"
    )


def test_resize_of_thin_volumes() -> None:
    """What is virtual needs no room in the group."""
    path = f"/dev/{VG}/thin"
    backend, host = make(volumes(), (lvm.lvextend(path, 1 << 40), "", 0))
    with host:
        backend.resize_volume(named("thin"), 1 << 40, allocate=False, shrink=False)
    backend, host = make(volumes(), (lvm.lvreduce(path, 4 * MIB), "", 0))
    with host:
        backend.resize_volume(named("thin"), 4 * MIB, allocate=False, shrink=True)
    backend, host = make(volumes())
    with host, pytest.raises(OperationUnsupported, match="takes its blocks as they are written"):
        backend.resize_volume(named("thin"), 1 << 40, allocate=True, shrink=False)


@pytest.mark.usefixtures("_no_patience")
def test_rename() -> None:
    backend, host = make(volumes(), (["lvrename", VG, "two", "new"], "", 0))
    with host, pytest.raises(OperationFailed, match="/new' did not appear"):
        backend.rename_volume(named("two"), "new")
    backend, host = make(volumes("lvs-open"))
    with host, pytest.raises(ResourceBusy, match="'two' is in use"):
        backend.rename_volume(named("two"), "new")


@pytest.mark.parametrize("name", ["inact", "pool"])
def test_a_name_that_a_hidden_volume_has(name: str) -> None:
    backend, host = make(volumes())
    with host, pytest.raises(VolumeExists):
        backend.rename_volume(named("two"), name)


@pytest.mark.parametrize("name", ["-f", "a b", "--yes", "ä", "."])
def test_s64_names_that_are_no_volume(name: str) -> None:
    backend, host = make()
    with host, pytest.raises(InvalidArgument, match="cannot be the name of a logical volume"):
        backend.rename_volume(named("two"), name)


def test_wipe_of_a_thin_volume_that_would_fill_its_pool() -> None:
    with pytest.raises(OperationFailed) as caught:
        make(volumes())[0].check_wipe(named("thin"))
    assert caught.value.detail == (
        f"thin pool 'pool' has 16777216 bytes left, too few to overwrite all of '/dev/{VG}/thin'"
    )
    fits = ('"lv_size":"16777216"', '"lv_size":"67108864"')
    make(volumes("lvs-many", fits))[0].check_wipe(named("thin"))


def test_s38_wipe_of_a_thin_volume_that_shares_its_blocks() -> None:
    """A block that is shared is not overwritten but copied, so it takes another one."""
    full = {"data_percent": "100.00", "lv_size": f"{16 * MIB}"}
    pool = {"data_percent": "50.00", "lv_size": f"{30 * MIB}"}
    with pytest.raises(OperationFailed, match="thin pool 'pool' has 15728640 bytes left"):
        make(altered(thin=full, pool=pool))[0].check_wipe(named("thin"))
    make(altered(thin=full, pool=pool, thinsnap={"pool_lv": "another"}))[0].check_wipe(
        named("thin")
    )


def test_wipe_of_what_has_less_room_than_it_shows() -> None:
    with pytest.raises(NoSupport, match="is sparse, volume wipe not supported"):
        make(volumes())[0].check_wipe(named("sparse"))
    make(volumes())[0].check_wipe(named("two"))


@pytest.mark.parametrize(
    ("snap", "kept"),
    [
        ({"lv_size": f"{4 * MIB}"}, False),
        # as large as its origin, it lacks the room for what it notes of each chunk
        ({"lv_size": f"{8 * MIB}"}, False),
        ({"lv_size": f"{12 * MIB}"}, True),
        # what it holds of its origin it does not take a second time
        ({"lv_size": f"{12 * MIB}", "data_percent": "69.00"}, True),
        ({"lv_size": f"{12 * MIB}", "chunk_size": f"{MIB}"}, True),
        ({"lv_size": f"{9 * MIB}", "chunk_size": f"{MIB}"}, False),
    ],
)
def test_s38_wipe_that_would_fill_a_snapshot(snap: dict[str, str], kept: bool) -> None:
    """A snapshot keeps what its origin loses, and is worth nothing when it is full."""
    backend, _ = make(altered(snap=snap))
    if kept:
        backend.check_wipe(named(LIN))
    else:
        with pytest.raises(OperationInvalid, match="has snapshots, which would be lost: snap"):
            backend.check_wipe(named(LIN))


def test_layouts_are_those_of_the_own_group() -> None:
    text = printed("pvs-segments", ('"vg_name":"sttest"', f'"vg_name":"{VG}"'))
    logical, host = make((lvm.segments(), text, 0), (lvm.segments(), text, 0))
    with host:
        one, two = logical.layouts()
        logical.pool.source.name = "other"
        assert logical.layouts() == []
    assert (one.device, two.device) == ("/dev/loop1", "/dev/loop2")
    assert [part.name for part in one.ranges] == ["", "wide", "gap", ""]
    assert one.ranges[0].start == 0
    assert one.ranges[-1].end == one.size == 99 * 4 * MIB
