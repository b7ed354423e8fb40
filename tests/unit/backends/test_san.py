"""scsi and iscsi pools on a sysfs of our own: which LUNs, which adapter, what is run."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost

from storagectl.backends import devices, in_use, scsi, vhba
from storagectl.backends.iscsi import Iscsi
from storagectl.backends.mpath import Multipath
from storagectl.backends.scsi import Scsi, find_luns, share_adapter
from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    InvalidArgument,
    OperationFailed,
    OperationInvalid,
    ResourceBusy,
    StorageError,
    SystemFailure,
    XmlError,
)
from storagectl.model import Adapter, Auth, Device, PciAddress, Pool, Source
from storagectl.model import Host as Server
from storagectl.tools import iscsiadm

if TYPE_CHECKING:
    from pathlib import Path

WWNN, WWPN = "20000000c9831b4b", "10000000c9831b4b"
IQN = "iqn.2026-11.lab:t1"
PCI = "0000:00:1f.2"


class Sysfs:
    """Files below a folder that stands for /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = "") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def link(self, path: str, target: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.root / target).mkdir(parents=True, exist_ok=True)
        place.symlink_to(self.root / target)

    def scsi_host(self, number: int, unique_id: int = 0, pci: str = PCI) -> None:
        place = f"devices/pci0000:00/{pci}/host{number}/scsi_host/host{number}"
        self.link(f"class/scsi_host/host{number}", place)
        self.write(f"{place}/unique_id", f"{unique_id}\n")
        self.write(f"{place}/scan")

    def lun(self, address: str, node: str, kind: str = "0") -> None:
        self.write(f"bus/scsi/devices/{address}/type", f"{kind}\n")
        self.write(f"bus/scsi/devices/{address}/state", "running\n")
        if node:
            (self.root / f"bus/scsi/devices/{address}/block/{node}").mkdir(parents=True)

    def fc_host(self, name: str, wwnn: str, wwpn: str, **more: str) -> None:
        parent = more.pop("parent", None)
        device = f"devices/pci/{f'{parent}/vport-0:0-0/' if parent else ''}{name}"
        self.link(f"class/fc_host/{name}/device", device)
        values = {"node_name": f"0x{wwnn}", "port_name": f"0x{wwpn}", **more}
        for key, text in values.items():
            self.write(f"class/fc_host/{name}/{key}", f"{text}\n")
        number = int(name.removeprefix("host"))
        self.scsi_host(number)

    def session(self, number: int, host: int = 5, **changes: str) -> None:
        values = {"targetname": IQN, "initiatorname": "iqn.me", "ifacename": "default"}
        device = f"devices/platform/host{host}/session{number}"
        place = f"{device}/iscsi_session/session{number}"
        self.link(f"class/iscsi_session/session{number}", place)
        self.link(f"{place}/device", device)
        (self.root / device / f"target{host}:0:0").mkdir()
        for key in values:
            self.write(f"{place}/{key}", changes.get(key, values[key]) + "\n")
        connection = f"class/iscsi_connection/connection{number}:0"
        address = changes.get("address", "192.0.2.1")
        self.write(f"{connection}/persistent_address", address + "\n")
        self.write(f"{connection}/persistent_port", changes.get("port", "3260") + "\n")
        self.write(f"{connection}/address", changes.get("reached", address) + "\n")


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    monkeypatch.setattr(devices, "SYS", str(tmp_path))
    monkeypatch.setattr(devices, "settle", lambda host: None)
    initiator = tmp_path / "initiatorname.iscsi"
    initiator.write_text("## DO NOT EDIT\nInitiatorName=iqn.me\n")
    monkeypatch.setattr(iscsiadm, "INITIATOR", str(initiator))
    return Sysfs(tmp_path)


def scsi_pool(**adapter: Any) -> Pool:
    source = Source(adapter=Adapter(adapter.pop("type", "scsi_host"), **adapter))
    return Pool("scsi", "p", "u", source, "/dev")


def fc_pool(**adapter: Any) -> Pool:
    return scsi_pool(type="fc_host", wwnn=WWNN, wwpn=WWPN, **adapter)


def said(kind: type[StorageError], action: Any, *args: Any) -> str:
    with pytest.raises(StorageError) as caught:
        action(*args)
    assert type(caught.value) is kind
    return caught.value.detail


def test_only_disks_of_the_own_host(sysfs: Sysfs) -> None:
    sysfs.lun("1:0:0:0", "sda")
    sysfs.lun("1:0:0:1", "sr0", kind="5")
    sysfs.lun("1:0:0:2", "st0", kind="1")
    sysfs.lun("1:0:0:3", "")
    sysfs.lun("12:0:0:0", "sdb")
    (sysfs.root / "bus/scsi/devices/host1").mkdir()
    (sysfs.root / "bus/scsi/devices/target1:0:0").mkdir()
    found = sorted(find_luns("1:"))
    assert [(lun.name, lun.node) for lun in found] == [
        ("unit:0:0:0", "/dev/sda"),
        ("unit:0:0:1", "/dev/sr0"),
    ]
    assert [lun.name for lun in find_luns("12:0:0:")] == ["unit:0:0:0"]


class Reads:
    """How often folders were listed and files read, each without what is above the last part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listed: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        listing, read_all = devices.listing, devices.read_all

        def counted_listing(folder: str) -> list[str]:
            self.listed[os.path.basename(folder)] += 1
            return listing(folder)

        def counted_read(path: str) -> str:
            self.read[os.path.basename(path)] += 1
            return read_all(path)

        monkeypatch.setattr(devices, "listing", counted_listing)
        monkeypatch.setattr(devices, "read_all", counted_read)


def test_256_luns_take_one_pass_over_sysfs(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs.scsi_host(7)
    for number in range(256):
        sysfs.lun(f"7:0:0:{number}", f"sd{number}")
        sysfs.lun(f"8:0:0:{number}", f"sdx{number}")
    backend = Scsi(scsi_pool(name="host7"), FakeHost())
    reads = Reads(monkeypatch)
    names = [volume.name for volume in backend.volumes(details=False)]
    assert sorted(names) == sorted(f"unit:0:0:{number}" for number in range(256))
    assert reads.listed == {"devices": 1, "block": 256}
    assert reads.read == {"type": 256}
    backend.find_new()
    assert reads.listed == {"devices": 2, "block": 512}
    assert reads.read == {"type": 512}


class Clock:
    """Time that passes only while somebody sleeps; `then` is done after some of the sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, then: Any) -> None:
        self.slept: list[float] = []
        self.after = after
        self.then = then
        monkeypatch.setattr(devices.time, "monotonic", lambda: sum(self.slept))
        monkeypatch.setattr(devices.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == self.after:
            self.then()


@pytest.mark.parametrize("looks", [0, 1, 2, 60])
def test_a_login_waits_for_a_lun_as_long_as_it_needs(
    sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """udev and the kernel are asked again and again, at once when they are quick."""
    sysfs.session(3, host=5)
    sysfs.lun("5:0:0:1", "sdb" if looks == 0 else "")
    node = sysfs.root / "bus/scsi/devices/5:0:0:1/block/sdb"
    clock = Clock(monkeypatch, looks, lambda: node.mkdir(parents=True))
    settled: list[float] = []
    monkeypatch.setattr(devices, "settle", lambda host: settled.append(sum(clock.slept)))
    host = FakeHost((iscsiadm.session(3, "-R"), "", 0))
    backend = Iscsi(iscsi_pool(), host)
    with host:
        backend.find_new()
    assert len(clock.slept) == looks
    assert max(clock.slept, default=0) <= 0.1
    assert settled == [sum(clock.slept)]  # udev makes links for what is there
    assert [lun.node for lun in find_luns("5:0:0:")] == ["/dev/sdb"]


def test_a_login_does_not_wait_for_ever(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs.session(3, host=5)
    sysfs.lun("5:0:0:1", "")
    clock = Clock(monkeypatch, 0, None)
    Iscsi(iscsi_pool(), FakeHost((iscsiadm.session(3, "-R"), "", 0))).find_new()
    assert 10 <= sum(clock.slept) < 10.2


@pytest.mark.parametrize("name", ["host7", "scsi_host7", "fc_host7"])
def test_scan_of_an_adapter_by_name(sysfs: Sysfs, name: str) -> None:
    sysfs.scsi_host(7)
    backend = Scsi(scsi_pool(name=name), FakeHost())
    assert backend.is_active()
    backend.scan()
    assert (sysfs.root / "class/scsi_host/host7/scan").read_text() == "- - -"


@pytest.mark.parametrize(
    "name", ["foo", "host", "hostx", "scsi_fc_host7", "host1/../host7", "xhost7", "host7 "]
)
def test_adapter_names_that_are_none(sysfs: Sysfs, name: str) -> None:
    sysfs.scsi_host(7)
    backend = Scsi(scsi_pool(name=name), FakeHost())
    assert not backend.is_active()
    words = f"Invalid adapter name '{name}' for SCSI pool"
    assert said(InternalError, backend.start) == words


def test_adapter_that_is_not_there(sysfs: Sysfs) -> None:
    backend = Scsi(scsi_pool(name="host9"), FakeHost())
    path = f"{sysfs.root}/class/scsi_host/host9/scan"
    words = f"Could not open '{path}' to trigger host scan: No such file or directory"
    assert said(SystemFailure, backend.start) == words


def test_adapter_by_parent_address(sysfs: Sysfs) -> None:
    sysfs.scsi_host(3, unique_id=1)
    sysfs.scsi_host(4, unique_id=2)
    sysfs.scsi_host(6, unique_id=2, pci="0000:00:1e.0")
    address = PciAddress(0, 0, 0x1F, 2)
    found = Scsi(scsi_pool(parent_address=address, unique_id=2), FakeHost())
    assert found.host_name() == "host4"
    missing = Scsi(scsi_pool(parent_address=address, unique_id=3), FakeHost())
    words = f"Failed to find scsi_host using PCI '{PCI}' and unique_id='3'"
    assert said(XmlError, missing.start) == words


def test_a_target_outside_of_dev_is_refused(sysfs: Sysfs) -> None:
    sysfs.scsi_host(1)
    sysfs.lun("1:0:0:0", "sda")
    backend = Scsi(scsi_pool(name="host1").replace(target="/tmp"), FakeHost())
    words = "unable to use target path '/tmp' for dev 'sda'"
    assert said(InvalidArgument, backend.state) == words


def test_a_lun_that_does_not_answer_is_not_asked(sysfs: Sysfs) -> None:
    sysfs.scsi_host(1)
    sysfs.lun("1:0:0:0", "null")
    sysfs.write("bus/scsi/devices/1:0:0:0/state", "blocked\n")
    backend = Scsi(scsi_pool(name="host1"), FakeHost())
    assert backend.volume("unit:0:0:0") is None  # /dev/null is no block device
    (lun,) = find_luns("1:")
    assert backend._key(lun, "/dev/x") == "/dev/x"


def test_a_lun_is_known_by_its_serial(sysfs: Sysfs) -> None:
    sysfs.scsi_host(1)
    sysfs.lun("1:0:0:0", "sda")
    sysfs.lun("1:0:0:1", "sdb")
    argv = [
        "/lib/udev/scsi_id", "--replace-whitespace", "--whitelisted", "--device", "/dev/sda",
    ]  # fmt: skip
    other = [*argv[:-1], "/dev/sdb"]
    serials = {"/dev/sda": "3600a\n", "/dev/sdb": "3600b\n"}
    order = [lun.node for lun in find_luns("1:")]
    script = [(argv if node == "/dev/sda" else other, serials[node], 0) for node in order]
    last = find_luns("1:")[-1]
    with FakeHost(*script) as host:
        backend = Scsi(scsi_pool(name="host1"), host)
        assert backend.volume_name_at(serials[last.node].strip()) == last.name
        assert backend.volume_name_at("/dev/sda") == "unit:0:0:0"


# Fibre Channel


def test_a_vhba_is_made_and_deleted(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs.fc_host("host3", "1" * 16, "2" * 16, port_state="Linkdown", vport_create="")
    sysfs.fc_host(
        "host4", "3" * 16, "4" * 16,
        port_state="Online", max_npiv_vports="10", npiv_vports_inuse="9",
        vport_create="", vport_delete="",
    )  # fmt: skip

    class Kernel(FakeHost):
        def tell_kernel(self, path: str, text: str, failure: str) -> None:
            super().tell_kernel(path, text, failure)
            if path.endswith("vport_create"):
                sysfs.fc_host("host9", WWNN, WWPN, parent="host4")
                sysfs.lun("9:0:0:0", "sda")

    monkeypatch.setattr(devices, "device_size", lambda path: 0)
    backend = Scsi(fc_pool(), Kernel())
    assert not backend.is_active()
    backend.start()
    folder = sysfs.root / "class/fc_host/host4"
    assert (folder / "vport_create").read_text().startswith(f"{WWPN}:{WWNN}")
    assert (sysfs.root / "class/scsi_host/host9/scan").read_text() == "- - -"
    assert backend.is_active()
    settled = backend.settled()
    assert settled.source.adapter is not None
    assert settled.source.adapter.managed == "yes"

    Scsi(settled, Kernel()).stop()
    assert (folder / "vport_delete").read_text().startswith(f"{WWPN}:{WWNN}")


@pytest.mark.parametrize("managed", [None, "no"])
def test_a_vhba_that_is_not_ours_stays(sysfs: Sysfs, managed: str | None) -> None:
    sysfs.fc_host("host4", "3" * 16, "4" * 16, vport_create="", vport_delete="")
    sysfs.fc_host("host9", WWNN, WWPN, parent="host4")
    pool = fc_pool(managed=managed, parent="scsi_host4")
    backend = Scsi(pool, FakeHost())
    backend.start()
    assert backend.settled() == pool
    backend.stop()
    assert (sysfs.root / "class/fc_host/host4/vport_delete").read_text() == "\n"


def test_the_vhba_of_another_parent(sysfs: Sysfs) -> None:
    sysfs.fc_host("host4", "3" * 16, "4" * 16)
    sysfs.fc_host("host9", WWNN, WWPN, parent="host4")
    words = (
        "Parent attribute 'scsi_host5' does not match parent 'scsi_host4' determined for"
        " the 'scsi_host9' wwnn/wwpn lookup."
    )
    assert said(XmlError, Scsi(fc_pool(parent="scsi_host5"), FakeHost()).start) == words


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "'parent' for vHBA not specified, and cannot find one on this host"),
        ({"parent": "scsi_host0"}, "parent 'scsi_host0' specified for vHBA does not exist"),
        (
            {"parent_wwnn": "5" * 16, "parent_wwpn": "6" * 16},
            "cannot find parent using provided wwnn/wwpn",
        ),
        ({"parent_fabric_wwn": "7" * 16}, "cannot find parent using provided fabric_wwn"),
    ],
)
def test_no_parent_for_a_vhba(sysfs: Sysfs, parts: dict[str, str], words: str) -> None:
    assert said(XmlError, Scsi(fc_pool(**parts), FakeHost()).start) == words


@pytest.mark.parametrize(
    "parts",
    [
        {"parent": "scsi_host4"},
        {"parent": "fc_host4"},
        {"parent_wwnn": "3" * 16, "parent_wwpn": "4" * 16},
        {"parent_fabric_wwn": "8" * 16},
    ],
)
def test_parents(sysfs: Sysfs, parts: dict[str, str]) -> None:
    sysfs.fc_host("host3", "1" * 16, "2" * 16, fabric_name="0x" + "8" * 16)
    sysfs.fc_host("host4", "3" * 16, "4" * 16, fabric_name="0x" + "8" * 16, vport_create="")
    adapter = fc_pool(**parts).source.adapter
    assert adapter is not None
    assert vhba.choose_parent(adapter) == "host4"


def test_a_vhba_that_does_not_appear(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "wait_until", lambda condition: condition())
    sysfs.fc_host("host4", "3" * 16, "4" * 16, vport_create="", vport_delete="")
    backend = Scsi(fc_pool(parent="host4"), FakeHost())
    assert said(OperationFailed, backend.start) == "the vHBA made on 'host4' did not appear"
    deleted = (sysfs.root / "class/fc_host/host4/vport_delete").read_text()
    assert deleted.startswith(f"{WWPN}:{WWNN}")


def test_a_parent_that_can_have_none(sysfs: Sysfs) -> None:
    sysfs.fc_host("host4", "3" * 16, "4" * 16)
    words = "vport operation 'vport_create' is not supported for host4"
    assert said(OperationInvalid, Scsi(fc_pool(parent="host4"), FakeHost()).start) == words


def test_pools_that_share_an_adapter(sysfs: Sysfs) -> None:
    sysfs.scsi_host(5, unique_id=1)
    sysfs.fc_host("host3", "parent", "parent")
    sysfs.fc_host("host9", WWNN, WWPN, parent="host3")
    address = PciAddress(0, 0, 0x1F, 2)
    by_address = scsi_pool(parent_address=address, unique_id=1)
    nowhere = scsi_pool(parent_address=address, unique_id=7)
    other_vhba = scsi_pool(type="fc_host", wwnn="1", wwpn="2", parent="scsi_host5")
    for one, other, shared in (
        (scsi_pool(name="host5"), scsi_pool(name="scsi_host5"), True),
        (scsi_pool(name="host5"), scsi_pool(name="fc_host5"), True),
        (scsi_pool(name="host5"), by_address, True),
        (scsi_pool(name="host6"), by_address, False),
        (nowhere, nowhere, False),
        (fc_pool(), fc_pool(parent="host7"), True),
        (fc_pool(), other_vhba, False),
        (fc_pool(parent="host3"), scsi_pool(name="host3"), True),
        (fc_pool(parent="fc_host6"), scsi_pool(name="host6"), True),
        (fc_pool(), scsi_pool(name="host9"), True),
        (fc_pool(), scsi_pool(name="host3"), True),
        (fc_pool(), scsi_pool(name="host4"), False),
        (other_vhba, by_address, True),
    ):
        for pair in ((one, other), (other, one)):
            a, b = (Scsi(pool, FakeHost()) for pool in pair)
            assert share_adapter(a, b) is shared, pair


# iSCSI


def test_a_vhba_that_was_made_stays_ours_whatever_a_file_leaves_open() -> None:
    started = fc_pool(managed="yes", parent="scsi_host4")
    open_pool = fc_pool(managed=None, parent="scsi_host4")
    assert Scsi(open_pool, FakeHost()).settled_as(started) == started
    told = fc_pool(managed="no", parent="scsi_host4")
    assert Scsi(told, FakeHost()).settled_as(started) == told
    plain = Pool("scsi", "p", "u", Source(adapter=Adapter("scsi_host", name="host0")))
    assert Scsi(open_pool, FakeHost()).settled_as(plain) == open_pool


def test_a_portal_has_its_port_filled_in_as_the_start_does_it() -> None:
    filled = Iscsi(iscsi_pool(), FakeHost()).settled_as(iscsi_pool())
    assert filled.source.hosts == [Server("192.0.2.1", 3260)]


def iscsi_pool(**changes: Any) -> Pool:
    parts: dict[str, Any] = {"hosts": [Server("192.0.2.1")], "devices": [Device(IQN)]}
    return Pool("iscsi", "p", "abcd-ef", Source(**{**parts, **changes}), "/dev")


def session_of(pool: Pool) -> object:
    return Iscsi(pool, FakeHost())._session()


def test_session(sysfs: Sysfs) -> None:
    assert session_of(iscsi_pool()) is None
    assert Iscsi(iscsi_pool(), FakeHost()).settled() == iscsi_pool()
    sysfs.session(3, host=5)
    assert session_of(iscsi_pool()) == (3, "5:0:0:")
    assert Iscsi(iscsi_pool(), FakeHost()).is_active()
    settled = Iscsi(iscsi_pool(), FakeHost()).settled()
    assert settled.source.hosts == [Server("192.0.2.1", 3260)]


@pytest.mark.parametrize(
    "changes",
    [
        {"targetname": "iqn.2026-11.lab:t10"},
        {"address": "192.0.2.2"},
        {"port": "3261"},
        {"initiatorname": "iqn.own", "ifacename": "libvirt-iface-1"},
    ],
)
def test_sessions_of_others(sysfs: Sysfs, changes: dict[str, str]) -> None:
    sysfs.session(3, **changes)
    assert session_of(iscsi_pool()) is None


FULL = "2001:0db8:0000:0000:0000:0000:0000:0001"


@pytest.mark.parametrize(
    ("portal", "given", "reached", "known"),
    [
        ("2001:db8::1", FULL, FULL, True),
        ("2001:db8:0::1", "2001:DB8::1", FULL, True),
        ("2001:db8:0::1", "2001:db8::1", "2001:db8::5", True),
        ("2001:db8::1", "nas", FULL, True),
        ("2001:db8::2", "2001:db8::1", FULL, False),
        ("fe80::1%eth0", "fe80::1", "fe80:0000:0000:0000:0000:0000:0000:0001", True),
        ("192.0.2.2", "192.0.2.1", "192.0.2.2", True),
    ],
)
def test_session_under_another_spelling_of_the_address(
    sysfs: Sysfs, portal: str, given: str, reached: str, known: bool
) -> None:
    sysfs.session(3, address=given, reached=reached)
    assert (session_of(iscsi_pool(hosts=[Server(portal)])) is not None) is known


def test_session_where_the_host_has_no_initiator_name(
    sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iscsiadm, "INITIATOR", str(sysfs.root / "nosuch"))
    sysfs.session(3, host=5)
    assert session_of(iscsi_pool()) == (3, "5:0:0:")


def test_session_from_before_the_host_was_given_another_name(sysfs: Sysfs) -> None:
    sysfs.session(3, host=5, initiatorname="iqn.old")
    assert session_of(iscsi_pool()) == (3, "5:0:0:")
    assert session_of(iscsi_pool(initiator="iqn.me")) is None


def test_session_through_an_interface_without_a_name(sysfs: Sysfs) -> None:
    sysfs.session(3, host=5, ifacename="eth0")
    assert session_of(iscsi_pool()) == (3, "5:0:0:")


def test_session_by_initiator(sysfs: Sysfs) -> None:
    sysfs.session(3, host=5)
    sysfs.session(4, host=6, initiatorname="iqn.own", ifacename="storagectl-iface-1")
    assert session_of(iscsi_pool(initiator="iqn.own")) == (4, "6:0:0:")
    assert session_of(iscsi_pool()) == (3, "5:0:0:")
    assert session_of(iscsi_pool(initiator="iqn.other")) is None


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            {"hosts": [Server("a"), Server("b")]},
            ConfigUnsupported,
            "Expected exactly 1 host for the storage pool",
        ),
        ({"devices": []}, ConfigUnsupported, "missing source device"),
        ({"devices": [Device("/etc/x")]}, InvalidArgument, "'/etc/x' is not an iSCSI name"),
        ({"devices": [Device("..")]}, InvalidArgument, "'..' is not an iSCSI name"),
        ({"initiator": "-x"}, InvalidArgument, "'-x' is not an iSCSI name"),
        (
            {"auth": Auth("ceph", "joe")},
            XmlError,
            "iscsi pool only supports 'chap' auth type",
        ),
    ],
)
def test_sources_that_are_wrong(
    sysfs: Sysfs, changes: dict[str, Any], kind: type[StorageError], words: str
) -> None:
    assert said(kind, Iscsi(iscsi_pool(**changes), FakeHost()).start) == words


class Reachable(FakeHost):
    def require_reachable(self, name: str, port: int, seconds: float) -> None:
        pass


PORTAL = ["--portal", "192.0.2.1:3260,1", "--targetname", IQN]
NODE = ["iscsiadm", "--mode", "node", *PORTAL]


def test_what_was_made_for_a_login_that_fails_goes(sysfs: Sysfs) -> None:
    own = ["--interface", "storagectl-iface-abcd"]
    iface = ["iscsiadm", "--mode", "iface", *own]
    with Reachable(
        (["iscsiadm", "--mode", "iface"], "default tcp,<empty>,<empty>,<empty>,<empty>\n", 0),
        ([*iface, "--op", "new"], "", 0),
        (
            [*iface, "--op", "update", "--name", "iface.initiatorname", "--value", "iqn.own"],
            "",
            0,
        ),
        ([*NODE, "--op", "new", *own], "", 0),
        (iscsiadm.tries("192.0.2.1:3260,1", IQN, 2, interface=own[1]), "", 0),
        ([*NODE, "--login", *own], "iscsiadm: no\n", 19),
        ([*NODE, "--op", "delete", *own], "", 0),
        ([*iface, "--op", "delete"], "", 0),
    ) as host:
        backend = Iscsi(iscsi_pool(initiator="iqn.own"), host)
        assert "unexpected exit status 19: iscsiadm: no" in said_of(backend)


def said_of(backend: Iscsi) -> str:
    with pytest.raises(StorageError) as caught:
        backend.start()
    return caught.value.detail


@pytest.fixture
def records(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("nodes")
    monkeypatch.setattr("storagectl.tools.iscsiadm.RECORDS", (str(folder),))
    return folder


def record(folder: Path, portal: str) -> Path:
    path = folder / IQN / portal / "default"
    path.parent.mkdir(parents=True)
    path.write_text("node.session.auth.authmethod = None\n# END RECORD\n")
    path.chmod(0o600)
    return path


def test_a_record_that_is_there_is_used_and_kept(sysfs: Sysfs, records: Path) -> None:
    record(records, "192.0.2.1,3260,7")
    node = [word.replace(",1", ",7") for word in NODE]
    with Reachable(([*node, "--login"], "iscsiadm: no\n", 19)) as host:
        assert "status 19" in said_of(Iscsi(iscsi_pool(), host))


def test_one_login_where_another_interface_has_a_record(sysfs: Sysfs, records: Path) -> None:
    path = record(records, "192.0.2.1,3260,1")
    (path.parent / "libvirt-iface-07f06ec7").write_text("")
    login = [*NODE, "--login", "--interface", "default"]
    with Reachable((login, "iscsiadm: no\n", 19)) as host:
        assert "status 19" in said_of(Iscsi(iscsi_pool(), host))


def test_s28_s31_the_password_is_in_no_argument_and_gone_when_the_login_fails(
    sysfs: Sysfs, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(records, "192.0.2.1,3260,1")
    before, seen = path.read_text(), []
    real = Reachable._spawn

    def spawn(self: Reachable, argv: list[str], *more: object) -> tuple[int, str, str]:
        seen.append((path.read_text(), path.stat().st_mode & 0o777))
        return real(self, argv, *more)

    monkeypatch.setattr(Reachable, "_spawn", spawn)
    with Reachable(([*NODE, "--login"], "iscsiadm: no\n", 24)) as host:
        backend = Iscsi(iscsi_pool(auth=Auth("chap", "joe", secret_usage="x")), host)
        backend.secret_of = lambda auth: f"secret of {auth.username}"
        assert "status 24" in said_of(backend)
    ((text, mode),) = seen
    assert "node.session.auth.password = secret of joe\n" in text
    assert mode == 0o600
    assert (path.read_text(), path.stat().st_mode & 0o777) == (before, 0o600)


@pytest.mark.parametrize("password", ["a\nnode.startup = automatic", " a", "a\0"])
def test_a_password_that_would_be_another_line(sysfs: Sysfs, records: Path, password: str) -> None:
    path = record(records, "192.0.2.1,3260,1")
    before = path.read_text()
    backend = Iscsi(iscsi_pool(auth=Auth("chap", "joe", secret_usage="x")), Reachable())
    backend.secret_of = lambda auth: password
    assert said(InvalidArgument, backend.start).startswith("the secret cannot be used for CHAP")
    assert path.read_text() == before


def test_a_login_is_undone_when_the_scan_fails(sysfs: Sysfs, records: Path) -> None:
    record(records, "192.0.2.1,3260,1")
    session = ["iscsiadm", "--mode", "session", "-r", "3"]

    class Target(Reachable):
        def _spawn(self, argv: list[str], *rest: Any) -> tuple[int, str, str]:
            if "--login" in argv:
                sysfs.session(3)
            return super()._spawn(argv, *rest)

    with Target(
        ([*NODE, "--login"], "", 0),
        ([*session, "-R"], "iscsiadm: no\n", 7),
        ([*session, "--logout"], "", 0),
    ) as host:
        assert "status 7" in said_of(Iscsi(iscsi_pool(), host))


def test_a_logout(sysfs: Sysfs) -> None:
    class Target(FakeHost):
        def _spawn(self, argv: list[str], *rest: Any) -> tuple[int, str, str]:
            shutil.rmtree(sysfs.root / "class/iscsi_session")
            return super()._spawn(argv, *rest)

    sysfs.session(3, host=5)
    with Target((["iscsiadm", "--mode", "session", "-r", "3", "--logout"], "", 0)) as host:
        Iscsi(iscsi_pool(), host).stop()


def test_logging_out(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs.session(3, host=5)
    sysfs.lun("5:0:0:1", "sda")
    logout = (["iscsiadm", "--mode", "session", "-r", "3", "--logout"], "", 0)
    words = f"the session with '{IQN}' has not ended"
    with FakeHost(logout) as host:
        assert said(OperationFailed, Iscsi(iscsi_pool(), host).stop) == words

    monkeypatch.setattr(scsi.devices, "device_number", lambda path: os.makedev(8, 0))
    monkeypatch.setattr(in_use, "user_of_device", lambda folder: "mounted on /mnt")
    place = "devices/platform/host5/session3/target5:0:0/5:0:0:1/block/sda"
    sysfs.link("dev/block/8:0", place)
    words = "device '/dev/sda' is in use: mounted on /mnt"
    assert said(ResourceBusy, Iscsi(iscsi_pool(), FakeHost()).stop) == words


def test_s34_a_partition_of_a_lun_that_is_open(
    sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual machine on it claims nothing, but loses its disk with the session."""
    sysfs.session(3, host=5)
    sysfs.lun("5:0:0:1", "sda")
    place = "devices/platform/host5/session3/target5:0:0/5:0:0:1/block/sda"
    sysfs.link("dev/block/8:0", place)
    sysfs.write(f"{place}/sda1/partition", "1\n")
    users = {"/dev/sda1": ["process 7 (qemu)"]}
    monkeypatch.setattr(scsi.devices, "device_number", lambda path: os.makedev(8, 0))
    monkeypatch.setattr(in_use, "user_of_device", lambda folder: None)
    monkeypatch.setattr(in_use, "openers", lambda path: users.get(path, []))
    words = "device '/dev/sda1' is in use: process 7 (qemu)"
    assert said(ResourceBusy, Iscsi(iscsi_pool(), FakeHost()).stop) == words


def test_paths_of_multipath_maps(sysfs: Sysfs) -> None:
    sysfs.lun("2:0:0:0", "sda")
    sysfs.link("dev/block/8:0", "class/block/sda")
    sysfs.link("class/block/sda/device", "bus/scsi/devices/2:0:0:0")
    status = "mpatha: 0 8 multipath 2 0 0 0 1 1 A 0 2 0 8:0 A 0 8:16 F 2 \n"
    with FakeHost(
        (["dmsetup", "status", "--target", "multipath"], status, 0),
        (["dmsetup", "ls", "--target", "multipath"], "mpatha\t(253:3)\nnew\t(253:4)\n", 0),
    ) as host:
        assert Multipath(Pool("mpath", "m", "u"), host).paths() == {
            "dm-3": [("sda", "2:0:0:0", True, 0), ("8:16", "", False, 2)],
            "dm-4": [],
        }
