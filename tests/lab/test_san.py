"""iscsi, scsi and mpath pools on a real target, real SCSI hosts and real multipath maps."""

from __future__ import annotations

import glob
import os
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import devices
import pytest
import tracer
from devices import MiB, run
from labshell import LabShell
from shell import broken, without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_CREATE = (
    "this function is not supported by the connection driver: storage pool does not support"
    " volume creation"
)
SECRET, NOT_SECRET = map(tracer.register, ("san-right-pass", "san-wrong-pass"))
UUID = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def shell(tmp_path: Path) -> LabShell:
    return LabShell(tmp_path)


def refuses_changes(shell: LabShell, pool: str, volume: str) -> None:
    assert NO_CREATE in shell.fails("vol-create-as", pool, "x", "1M")
    assert "not support" in shell.fails("vol-clone", volume, "x", "--pool", pool)
    assert "does not support vol deletion" in shell.fails("vol-delete", volume, pool)
    assert "changing of volume capacity" in shell.fails("vol-resize", volume, "1G", pool)


def round_trip(shell: LabShell, pool: str, volume: str, folder: Path) -> None:
    """Fill a volume, read it back, and see it on the device itself."""
    data, back = folder / "data", folder / "back"
    data.write_bytes(os.urandom(MiB) * 2)
    shell.ok("vol-upload", volume, str(data), pool, "--offset", str(MiB))
    shell.ok(
        "vol-download", volume, str(back), pool, "--offset", str(MiB), "--length", str(2 * MiB)
    )
    assert back.read_bytes() == data.read_bytes()
    with open(shell.ok("vol-path", volume, "--pool", pool).strip(), "rb") as device:
        device.seek(MiB)
        assert device.read(2 * MiB) == data.read_bytes()


# iSCSI


@contextmanager
def clean_target(luns: int = 1, chap: tuple[str, str] | None = None) -> Iterator[devices.Target]:
    """A target; what pools made of records and sessions goes with it."""
    with devices.iscsid(), devices.iscsi_target(luns, 32 * MiB, chap) as target:
        try:
            yield target
        finally:
            devices.logout(target)


def define_iscsi(shell: LabShell, target: devices.Target, *more: str, name: str = "p") -> None:
    shell.ok("pool-define-as", name, "iscsi", "--source-host", "127.0.0.1",
             "--source-dev", target.iqn, "--target", "/dev/disk/by-path", *more)  # fmt: skip


def test_iscsi_life(shell: LabShell, tmp_path: Path) -> None:
    with clean_target(luns=2) as target:
        define_iscsi(shell, target)
        shell.ok("pool-build", "p")
        shell.under("storagectl", "pool-start", "p")
        assert devices.sessions() == [target.iqn]
        assert "already active" in shell.fails("pool-start", "p")
        first, second = target.by_path(1), target.by_path(2)
        assert shell.volumes("p") == {"unit:0:0:1": first, "unit:0:0:2": second}
        assert shell.capacity("p") == 64 * MiB
        key = shell.ok("vol-key", "unit:0:0:1", "--pool", "p").strip()
        assert key != first
        assert shell.ok("vol-name", key).strip() == "unit:0:0:1"
        refuses_changes(shell, "p", "unit:0:0:1")
        round_trip(shell, "p", "unit:0:0:1", tmp_path)

        with devices.sparse_file(32 * MiB) as file:
            devices._tgt("logicalunit", "new", target.number, "--lun", "3", "-b", file)
            shell.ok("pool-refresh", "p")
            assert shell.volumes("p")["unit:0:0:3"] == target.by_path(3)

            run("mkfs.ext4", "-q", first)
            with devices.mounted(first) as point:
                words = shell.fails("pool-destroy", "p")
                assert f"is in use: mounted on {point}" in words
            with open(first, "rb"):
                assert f"is in use: process {os.getpid()}" in shell.fails("pool-destroy", "p")
            shell.ok("pool-destroy", "p")
            assert devices.sessions() == []
        assert shell.state("p") == "inactive"
        assert "does not support pool deletion" in shell.fails("pool-delete", "p")
        shell.ok("pool-undefine", "p")


def test_iscsi_sessions_of_others(shell: LabShell) -> None:
    """Two targets of one portal; a session that stood before; one that somebody ends."""
    with clean_target() as one, devices.iscsi_target() as other:
        define_iscsi(shell, one)
        define_iscsi(shell, other, name="q")
        shell.ok("pool-start", "p")
        shell.ok("pool-start", "q")
        assert list(shell.volumes("q").values()) == [other.by_path(1)]
        shell.ok("pool-destroy", "p")
        assert devices.sessions() == [other.iqn]
        devices.logout(other)
        assert shell.state("q") == "inactive"
        with devices.iscsi_session(other), another_initiator():
            assert shell.state("q") == "running"
            shell.ok("pool-destroy", "q")
        assert devices.sessions() == []


@contextmanager
def another_initiator() -> Iterator[None]:
    """Give the host another name for a while; iscsid has read the one before."""
    path = "/etc/iscsi/initiatorname.iscsi"
    before = devices.read(path)
    with open(path, "w") as file:
        file.write("InitiatorName=iqn.2026-11.lab.storagectl:another\n")
    try:
        yield
    finally:
        with open(path, "w") as file:
            file.write(f"{before}\n")


def test_iscsi_over_ipv6(shell: LabShell, tmp_path: Path) -> None:
    """A session is known by another spelling of its portal's address."""
    other = LabShell(tmp_path / "other")
    with clean_target() as target:
        for one, host in ((shell, "::1"), (other, "0:0:0:0:0:0:0:1")):
            one.ok("pool-define-as", "p", "iscsi", "--source-host", host,
                   "--source-dev", target.iqn, "--target", "/dev/disk/by-path")  # fmt: skip
            one.ok("pool-start", "p")
            assert devices.sessions() == [target.iqn]
            assert list(one.volumes("p")) == ["unit:0:0:1"]
        other.ok("pool-destroy", "p")
        assert devices.sessions() == []
        assert shell.state("p") == "inactive"


def test_iscsi_initiator(shell: LabShell) -> None:
    with clean_target() as target:
        own = "iqn.2026-11.lab.storagectl:own"
        define_iscsi(shell, target, "--source-initiator", own)
        shell.ok("pool-start", "p")
        try:
            (name,) = glob.glob("/sys/class/iscsi_session/*/initiatorname")
            assert devices.read(name) == own
            assert list(shell.volumes("p").values()) == [target.by_path(1)]
        finally:
            shell.ok("pool-destroy", "p")
            devices.logout(target)
            interface = f"storagectl-iface-{shell.ok('pool-uuid', 'p')[:8]}"
            run("iscsiadm", "-m", "iface", "-I", interface, "--op", "delete")


def define_secret(shell: LabShell, folder: Path, value: str) -> None:
    document, file = folder / "secret.xml", folder / "value"
    document.write_text(
        f"<secret private='yes'><uuid>{UUID}</uuid>"
        "<usage type='iscsi'><target>lab</target></usage></secret>"
    )
    file.write_text(value)
    shell.ok("secret-define", str(document))
    shell.ok("secret-set-value", UUID, "--plain", "--file", str(file))


def test_chap(shell: LabShell, tmp_path: Path) -> None:
    with clean_target(chap=("joe", SECRET)) as target:
        define_iscsi(shell, target, "--auth-type", "chap", "--auth-username", "joe",
                     "--secret-usage", "lab")  # fmt: skip
        assert "no secret with matching usage 'lab'" in shell.fails("pool-start", "p")
        define_secret(shell, tmp_path, NOT_SECRET)
        assert "authorization failure" in shell.fails("pool-start", "p")
        assert devices.sessions() == []
        # S31: no record with the password is left
        assert not glob.glob(f"/etc/iscsi/nodes/{target.iqn}")

        define_secret(shell, tmp_path, SECRET)
        trace = tmp_path / "trace"
        shell.under("strace", "-f", "-qq", "-s", "9999", "-e", "execve", "-o", str(trace),
                    "storagectl", "pool-start", "p")  # fmt: skip
        assert devices.sessions() == [target.iqn]
        assert "--login" in trace.read_text()
        assert SECRET not in trace.read_text()
        (record,) = glob.glob(f"/etc/iscsi/nodes/{target.iqn}/*/default")
        assert os.stat(record).st_mode & 0o777 == 0o600
        assert SECRET not in shell.ok("pool-dumpxml", "p")
        shell.ok("pool-destroy", "p")


def test_iscsi_many_luns(shell: LabShell) -> None:
    with clean_target(luns=12) as target:
        define_iscsi(shell, target)
        shell.ok("pool-start", "p")
        expected = {f"unit:0:0:{lun}": target.by_path(lun) for lun in range(1, 13)}
        assert shell.volumes("p") == expected
        assert shell.capacity("p") == 12 * 32 * MiB
        shell.ok("pool-destroy", "p")


def test_iscsi_target_that_goes_away(shell: LabShell) -> None:
    """S48: no command waits for a target that is gone, and the pool can be stopped."""
    with clean_target() as target:
        define_iscsi(shell, target)
        shell.ok("pool-start", "p")
        shell.ok("pool-create-as", "other", "dir", "--target", shell.root)
        tgtd = devices.pids("tgtd")
        for pid in tgtd:
            os.kill(pid, 19)
        try:
            # the initiator notices when its ping gets no answer
            state = glob.glob("/sys/class/iscsi_session/*/state")[0]
            devices.wait_for("a session that failed", lambda: devices.read(state) == "FAILED")
            began = time.monotonic()
            assert list(shell.volumes("p").values()) == [target.by_path(1)]
            assert "unit:0:0:1" in shell.ok("vol-info", "unit:0:0:1", "--pool", "p")
            assert shell.state("p") == "running"
            listed = shell.ok("-q", "pool-list", "--details").splitlines()
            assert [line.split()[:2] for line in listed] == [["other", "running"], ["p", "running"]]
            shell.ok("vol-list", "other")
            shell.ok("pool-refresh", "other")
            shell.ok("pool-destroy", "p")
            assert time.monotonic() - began < 60
            assert devices.sessions() == []
            # it accepts the connection, and says nothing
            assert "Could not log into all portals" in shell.fails("pool-start", "p")
            assert devices.sessions() == []
        finally:
            for pid in tgtd:
                os.kill(pid, 18)


def test_iscsi_portals_that_do_not_answer(shell: LabShell, tmp_path: Path) -> None:
    with devices.iscsid():
        for host, port in (("127.0.0.1", 3261), ("192.0.2.1", 3260), ("no.such.host", 3260)):
            document = tmp_path / "pool.xml"
            document.write_text(
                f"<pool type='iscsi'><name>p</name><source><host name='{host}' port='{port}'/>"
                "<device path='iqn.2026-11.lab:x'/></source>"
                "<target><path>/dev/disk/by-path</path></target></pool>"
            )
            began = time.monotonic()
            words = shell.fails("pool-create", str(document))
            assert f"cannot reach '{host}' at port {port}: " in words
            assert time.monotonic() - began < 40
        assert not glob.glob("/etc/iscsi/nodes/iqn.2026-11.lab:x")


def test_iscsi_starts_that_fail(shell: LabShell) -> None:
    """There is no session after them."""
    with clean_target() as target:
        define_iscsi(shell, target)
        with without("iscsiadm"):
            error = shell.fails("pool-start", "p")
            assert "Cannot find 'iscsiadm' in path" in error
            assert "hint: install the package open-iscsi" in error
        with broken("iscsiadm", '[[ "$*" = *--login* ]]'):
            assert "broken on purpose" in shell.fails("pool-start", "p")
        assert not glob.glob(f"/etc/iscsi/nodes/{target.iqn}")
        # half-way: logged in, and then the LUNs cannot be looked for
        with broken("iscsiadm", '[[ "$*" = *" -R" ]]'):
            assert "broken on purpose" in shell.fails("pool-start", "p")
        assert devices.sessions() == []
        assert "is started by root only" in shell.as_nobody_fails("pool-start", "p")
        assert devices.sessions() == []
        assert shell.state("p") == "inactive"


# SCSI hosts

PSEUDO = "/sys/bus/pseudo/drivers/scsi_debug"


def tell(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def test_scsi_life(shell: LabShell, tmp_path: Path) -> None:
    with devices.scsi_debug(targets=2, luns=2) as (host,):
        shell.ok("pool-define-as", "p", "scsi", "--adapter-name", host.name,
                 "--target", "/dev/disk/by-id")  # fmt: skip
        words = shell.fails("pool-define-as", "q", "scsi", "--adapter-name", f"scsi_{host.name}",
                            "--target", "/dev")  # fmt: skip
        assert "Storage source conflict with pool: 'p'" in words
        shell.ok("pool-build", "p")
        shell.under("storagectl", "pool-start", "p")
        found = shell.volumes("p")
        names = ["unit:0:0:0", "unit:0:0:1", "unit:0:1:0", "unit:0:1:1"]
        assert sorted(found) == names
        assert all(path.startswith("/dev/disk/by-id/") for path in found.values())
        assert [os.path.realpath(found[name]) for name in names] == host.disks
        assert shell.capacity("p") == 4 * 32 * MiB
        key = shell.ok("vol-key", "unit:0:1:1", "--pool", "p").strip()
        assert shell.ok("vol-name", key).strip() == "unit:0:1:1"
        refuses_changes(shell, "p", "unit:0:0:0")
        round_trip(shell, "p", "unit:0:0:0", tmp_path)

        tell(f"/sys/block/{os.path.basename(host.disks[3])}/device/delete", "1")
        devices.settle()
        assert sorted(shell.volumes("p")) == names[:3]
        tell(f"{PSEUDO}/max_luns", "3")
        shell.ok("pool-refresh", "p")
        found = shell.volumes("p")
        assert sorted(found) == ["unit:0:0:0", "unit:0:0:1", "unit:0:0:2",
                                 "unit:0:1:0", "unit:0:1:1", "unit:0:1:2"]  # fmt: skip
        shell.ok("pool-destroy", "p")
        shell.ok("pool-undefine", "p")
        for target, wanted in (("/dev", 6), ("/dev/disk/by-path", 0)):
            shell.ok("pool-create-as", "p", "scsi", "--adapter-name", f"scsi_{host.name}",
                     "--target", target)  # fmt: skip
            assert len(shell.volumes("p")) == wanted
            shell.ok("pool-destroy", "p")


def test_scsi_host_that_goes_away(shell: LabShell) -> None:
    with devices.scsi_debug(hosts=2) as (_, host):
        shell.ok("pool-create-as", "p", "scsi", "--adapter-name", host.name, "--target", "/dev")
        shell.ok("pool-define-as", "q", "scsi", "--adapter-name", "host99", "--target", "/dev")
        scan = "/sys/class/scsi_host/host99/scan"
        assert f"Could not open '{scan}' to trigger host scan" in shell.fails("pool-start", "q")
        error = shell.as_nobody_fails("pool-refresh", "p")
        assert "to trigger host scan: Permission denied" in error
        tell(f"{PSEUDO}/add_host", "-1")
        devices.wait_for("a host less", lambda: len(devices.scsi_debug_hosts()) == 1)
        assert " p " not in shell.ok("pool-list", "--all")


# Multipath


def test_mpath_life(shell: LabShell, tmp_path: Path) -> None:
    assert shell.fails("pool-define-as", "p", "mpath").endswith(
        "error: XML error: missing storage pool target path\n"
    )
    shell.ok("pool-define-as", "p", "mpath", "--target", "/dev/mapper")
    with without("dmsetup"):
        assert "Cannot find 'dmsetup' in path" in shell.fails("pool-start", "p")
    assert "is started by root only" in shell.as_nobody_fails("pool-start", "p")
    assert shell.state("p") == "inactive"
    shell.under("storagectl", "pool-start", "p")
    assert shell.volumes("p") == {}
    with devices.multipath() as found:
        shell.ok("pool-refresh", "p")
        minor = os.minor(os.stat(found.device).st_rdev)
        name = f"dm-{minor}"
        assert shell.volumes("p") == {name: found.device}
        assert shell.capacity("p") == 64 * MiB
        shown = shell.ok("status", "p")
        for path in found.paths:
            node = os.path.basename(path)
            assert re.search(rf"^    {node} +\d+:\d+:\d+:\d+ +active$", shown, re.M), shown
        assert "Nothing is wrong with 1 pool" in shell.ok("doctor", "p")
        refuses_changes(shell, "p", name)
        round_trip(shell, "p", name, tmp_path)

        tell(f"/sys/block/{os.path.basename(found.paths[0])}/device/delete", "1")
        devices.settle()
        assert shell.volumes("p") == {name: found.device}
        round_trip(shell, "p", name, tmp_path)

        def flushed() -> bool:
            run("multipathd", "del", "map", found.name, ok=(0, 1))
            return found.name not in devices.maps()

        devices.wait_for("no map", flushed)
        devices.settle()
        assert shell.volumes("p") == {}
        assert "no storage vol with matching path" in shell.fails("vol-info", name, "--pool", "p")
        assert shell.state("p") == "running"
        run("multipathd", "add", "map", found.name, ok=(0, 1))
    shell.ok("pool-destroy", "p")
    shell.ok("pool-undefine", "p")
