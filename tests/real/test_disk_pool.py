"""Disk pools by the program itself: copies between pools, and partitions that move."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from inprocess import put_on_tool_path
from quickluks import quick_qemu_img
from scratch import MIB, Program, Scratch, failed, run

from storagectl import volumedata
from storagectl.errors import VolumeNotFound
from storagectl.host import Host
from storagectl.host.bulk import Mover
from storagectl.pools import Pools
from storagectl.store import Store
from storagectl.volumes import Volumes

pytestmark = pytest.mark.root


@pytest.fixture
def disk(ctl: Program, scratch: Scratch) -> str:
    """A running pool `d` on a disk with a dos table; its device's name."""
    device = scratch.loop(128 * MIB)
    ctl.ok("pool-define-as", "d", "disk", "--source-dev", device, "--source-format", "dos",
           "--target", "/dev")  # fmt: skip
    ctl.ok("pool-build", "d")
    ctl.ok("pool-start", "d")
    return os.path.basename(device)


def test_s57_a_partition_that_was_renumbered_meanwhile_is_not_deleted(
    ctl: Program, disk: str
) -> None:
    for number in (1, 2, 3):
        ctl.ok("vol-create-as", "d", f"{disk}p{number}", "4M")
    ctl.ok("vol-create-as", "d", f"{disk}p4", "64M", "--format", "extended")
    for number, size in ((5, "5M"), (6, "6M"), (7, "7M"), (8, "8M")):
        ctl.ok("vol-create-as", "d", f"{disk}p{number}", size)
    host = Host()
    volumes = Volumes(Pools(Store(host, str(ctl.root)), host))
    first, second = (volumes.find(f"{disk}p{number}", "d") for number in (5, 6))
    volumes.delete(first, snapshots=False)
    with pytest.raises(VolumeNotFound):
        volumes.delete(second, snapshots=False)
    with pytest.raises(VolumeNotFound):
        volumedata.wipe(volumes, second, "zero", Mover())
    left = sorted(v.capacity // MIB for v in volumes.all("d", details=True) if v.name[-1] > "4")
    assert left == [6, 7, 8]


def test_content_goes_from_a_folder_to_a_partition_and_back(
    ctl: Program, scratch: Scratch, disk: str
) -> None:
    folder: Path = scratch.folder / "files"
    ctl.ok("pool-create-as", "f", "dir", "--target", folder, "--build")
    ctl.ok("vol-create-as", "f", "a", "8M", "--allocation", "0")
    content = os.urandom(MIB)
    with open(folder / "a", "r+b") as stream:
        stream.seek(3 * MIB)
        stream.write(content)
    new = scratch.folder / "new.xml"
    new.write_text(f"<volume><name>{disk}p1</name><capacity unit='M'>8</capacity></volume>")
    ctl.ok("vol-create-from", "d", new, "a", "--inputpool", "f")
    ctl.ok("vol-download", f"{disk}p1", scratch.folder / "back", "d")
    assert (scratch.folder / "back").read_bytes() == (folder / "a").read_bytes()
    new.write_text("<volume><name>b.qcow2</name><target><format type='qcow2'/></target></volume>")
    ctl.ok("vol-create-from", "f", new, f"{disk}p1", "--inputpool", "d")
    new.write_text(f"<volume><name>{disk}p2</name></volume>")
    ctl.ok("vol-create-from", "d", new, "b.qcow2", "--inputpool", "f")
    ctl.ok("vol-download", f"{disk}p2", scratch.folder / "again", "d")
    assert (scratch.folder / "again").read_bytes() == (folder / "a").read_bytes()
    ctl.refused("vol-download", f"{disk}p2", scratch.folder / "x", "d", "--offset", 9 * MIB)
    assert ctl.refused("vol-delete", f"{disk}p2", "d", "--delete-snapshots") == failed(
        f"Failed to delete vol {disk}p2",
        "unsupported flags (0x2) in function virStorageBackendDiskDeleteVol",
    )
    assert ctl.refused("vol-clone", f"{disk}p2", f"{disk}p3", "d", "--reflink") == failed(
        f"Failed to clone vol from {disk}p2",
        f"failed to clone files from '/dev/{disk}p2': Invalid argument",
    )
    assert f"{disk}p3" not in ctl.ok("vol-list", "d")


@pytest.mark.skipif(not shutil.which("cryptsetup"), reason="needs cryptsetup")
def test_an_encrypted_partition(ctl: Program, scratch: Scratch, disk: str, tmp_path: Path) -> None:
    quick_qemu_img(tmp_path, tmp_path / "log")
    put_on_tool_path(ctl.root, tmp_path)
    new = scratch.folder / "new.xml"
    key = scratch.folder / "key"
    key.write_text("a passphrase")
    uuid = "11111111-1111-4111-8111-111111111111"
    new.write_text(f"<secret private='yes'><uuid>{uuid}</uuid></secret>")
    ctl.ok("secret-define", new)
    ctl.ok("secret-set-value", uuid, "--file", key, "--plain")

    def define(inside: str) -> Path:
        new.write_text(
            f"<volume><name>{disk}p1</name><capacity unit='M'>8</capacity>"
            f"<target><encryption {inside}</encryption></target></volume>"
        )
        return new

    secret = f"<secret type='passphrase' uuid='{uuid}'/>"
    for inside, said in (
        (f"format='qcow'>{secret}", "storage pool only supports LUKS encrypted volumes"),
        ("format='luks'><secret type='passphrase' usage='nosuch'/>", "matching usage 'nosuch'"),
    ):
        assert said in ctl.refused("vol-create", "d", define(inside))
    assert ctl.ok("vol-list", "d").count(disk) == 0
    ctl.ok("pool-create-as", "f", "dir", "--target", scratch.folder / "files", "--build")
    plain = scratch.folder / "files" / "plain"
    plain.write_bytes(b"secret".ljust(4 * MIB, b"x"))
    ctl.ok("vol-create-from", "d", define(f"format='luks'>{secret}"), "plain", "f", "--verify")
    device = f"/dev/{disk}p1"
    assert b"secret" not in Path(device).read_bytes()
    run("cryptsetup", "open", "--test-passphrase", "--key-file", key, device)
    options = f"driver=luks,key-secret=k,file.filename={device}"
    object_ = f"secret,id=k,file={key}"
    shown = run("qemu-io", "-r", "--object", object_, "-c", "read -v 0 16", "--image-opts", options)
    assert "secretxx" in shown
    assert run("blockdev", "--getsize64", device).strip() == str(10 * MIB)
