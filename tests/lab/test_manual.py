"""The examples of the manual pages that need the lab's devices, run as they stand there."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import devices
import manual
import pytest
import tracer
from devices import MiB, run
from labshell import LabShell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = "127.0.0.1"
PASSWORD = tracer.register("manual-password")
# What the guest has room for.
SMALL = {"20G": "20M", "30G": "28M", "100G": "32M", "200G": "200M"}
PAGES = ["storagectl-pool.5", "storagectl.1"]


class Reader:
    """Somebody who follows the manual in a folder of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.root = folder / "root"
        self.shell = LabShell(self.root)

    def follow(self, page: str, title: str, places: dict[str, str], kind: str = "SS") -> str:
        """Run the commands of a section; return what they print."""
        found = manual.blocks(manual.section(page, title, kind))
        scripts = [block for block in found if manual.is_shell(block)]
        return manual.run(scripts, places, self.folder, self.root).stdout

    def clear(self, page: str, pool: str) -> None:
        """Stop and forget the pool; an example of section 5 has done so itself."""
        if page == "storagectl.1":
            self.shell.ok("pool-destroy", pool)
            self.shell.ok("pool-undefine", pool)
        assert self.shell.ok("-q", "pool-list", "--all").strip() == ""


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_netfs(reader: Reader, tmp_path: Path, page: str) -> None:
    target = str(tmp_path / "mnt")
    with devices.nfs_server(), devices.folder() as folder, devices.nfs_export(folder):
        places = {"nas": HERE, "/export/vms": folder, "/srv/vms": target}
        try:
            shown = reader.follow(page, "netfs", places)
            assert f"<dir path='{folder}'/>" in shown
            assert page == "storagectl.1" or "web.qcow2" in shown
            reader.clear(page, "vms")
        finally:
            if target in devices.mounts():
                run("umount", "-f", "-l", target)


@pytest.mark.parametrize("page", PAGES)
def test_logical(reader: Reader, page: str) -> None:
    group = "vms" if page == "storagectl.1" else "vg0"
    places = SMALL if page == "storagectl.1" else {}
    with ExitStack() as stack:
        paths = [stack.enter_context(devices.loop(128 * MiB)) for _ in range(2)]
        stack.enter_context(devices.group_removed(group, *paths))
        places = places | dict(zip(("/dev/sdb", "/dev/sdc"), paths, strict=True))
        shown = reader.follow(page, "logical", places)
        if page == "storagectl.1":
            assert reader.shell.volumes("vms").keys() == {"db", "web"}
        else:
            assert "before-update" in shown
        reader.clear(page, "vms")


def test_thin_volume_and_snapshot(reader: Reader) -> None:
    title = "A thin volume and its snapshot"
    with ExitStack() as stack:
        path = stack.enter_context(devices.loop(128 * MiB))
        stack.enter_context(devices.group_removed("vms", path))
        run("vgcreate", "-q", "-q", "-y", "vms", path)
        run("lvcreate", "-q", "-q", "-y", "--type", "thin-pool", "--size", "32M", "-n", "t", "vms")
        reader.shell.ok("pool-define-as", "vms", "logical")
        reader.shell.ok("pool-start", "vms")
        shown = reader.follow("storagectl-volume.5", title, {"'G'>200": "'M'>200"})
        assert "before-update" in shown
        assert reader.shell.volumes("vms").keys() == {"before-update", "db"}
        reader.clear("storagectl.1", "vms")


@contextmanager
def target_with_password() -> Iterator[devices.Target]:
    """A target that asks for CHAP; records and sessions that an example made go with it."""
    chap = ("joe", PASSWORD)
    with devices.iscsid(), devices.iscsi_target(2, 32 * MiB, chap) as target:
        try:
            yield target
        finally:
            devices.logout(target)


def test_iscsi(reader: Reader) -> None:
    (reader.folder / "password").write_text(PASSWORD)
    with target_with_password() as target:
        places = {"192.0.2.1": HERE, "iqn.2026-11.example:disks": target.iqn}
        shown = reader.follow("storagectl-pool.5", "iscsi", places)
        assert target.by_path(1) in shown
        assert target.by_path(2) in shown
        assert devices.sessions() == []
        reader.clear("storagectl-pool.5", "san")


def test_iscsi_by_options(reader: Reader) -> None:
    with devices.iscsid(), devices.iscsi_target(1, 32 * MiB) as target:
        try:
            places = {"192.0.2.1": HERE, "iqn.2026-11.example:disks": target.iqn}
            assert target.by_path(1) in reader.follow("storagectl.1", "iscsi", places)
            reader.clear("storagectl.1", "san")
        finally:
            devices.logout(target)


def test_chap_by_options(reader: Reader) -> None:
    """The first example of SECRETS defines a pool; it starts with the password."""
    (reader.folder / "password").write_text(PASSWORD)
    script = manual.blocks(manual.section("storagectl.1", "SECRETS", "SH"))[0]
    with target_with_password() as target:
        places = {"192.0.2.1": HERE, "iqn.2026-11.example:disks": target.iqn}
        manual.run([script], places, reader.folder, reader.root)
        reader.shell.ok("pool-start", "san")
        assert list(reader.shell.volumes("san").values()) == [target.by_path(1), target.by_path(2)]
        reader.clear("storagectl.1", "san")


@pytest.mark.parametrize("page", PAGES)
def test_scsi(reader: Reader, page: str) -> None:
    with devices.scsi_debug(luns=2) as (host,):
        shown = reader.follow(page, "scsi", {"host0": host.name})
        if page == "storagectl.1":
            assert len(reader.shell.volumes("hba")) == 2
        else:
            assert shown.count("/dev/disk/by-id/") == 2
        reader.clear(page, "hba")


@pytest.mark.parametrize("page", PAGES)
def test_mpath(reader: Reader, page: str) -> None:
    with devices.multipath() as found:
        shown = reader.follow(page, "mpath", {})
        if page == "storagectl.1":
            assert list(reader.shell.volumes("maps").values()) == [found.device]
        else:
            assert found.device in shown
        reader.clear(page, "maps")
