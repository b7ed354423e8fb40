"""The examples of the manual pages that need no more than loop devices, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import manual
import pytest
from quickluks import quick_qemu_img

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scratch import Program, Scratch

pytestmark = pytest.mark.root
GIB = 1 << 30
MIB = 1 << 20


def examples(page: str, title: str, kind: str = "SS") -> list[str]:
    """Return the commands of a section."""
    return [block for block in manual.blocks(manual.section(page, title, kind))
            if manual.is_shell(block)]  # fmt: skip


@pytest.fixture
def work(scratch: Scratch, ctl: Program) -> Path:
    """The folder that examples are run in; definitions are those of `ctl`."""
    folder = scratch.folder / "work"
    folder.mkdir()
    return folder


def nothing_defined(ctl: Program) -> bool:
    return ctl.ok("-q", "pool-list", "--all").strip() == ""


@pytest.fixture
def passphrase(ctl: Program, work: Path) -> None:
    """The file that examples take a passphrase from; keys are derived from it in no time."""
    (work / "passphrase").write_text("correct horse")
    manual.environment(work, ctl.root)
    quick_qemu_img(work / manual.PROGRAMS, work / "log")


@pytest.fixture
def images(scratch: Scratch, ctl: Program) -> Iterator[Path]:
    """A running dir pool `images`, as the examples of volumes have one."""
    folder = scratch.folder / "images"
    ctl.ok("pool-create-as", "images", "dir", "--target", folder, "--build")
    yield folder
    ctl.ok("pool-destroy", "images")


def test_dir(scratch: Scratch, ctl: Program, work: Path) -> None:
    places = {"/srv/images": str(scratch.folder / "images")}
    done = manual.run(examples("storagectl-pool.5", "dir"), places, work, ctl.root)
    assert "<mode>0750</mode>" in done.stdout
    assert "web.qcow2" in done.stdout
    assert nothing_defined(ctl)
    assert not (scratch.folder / "images").exists()


def test_dir_by_options(scratch: Scratch, ctl: Program, work: Path) -> None:
    places = {"/srv/images": str(scratch.folder / "images")}
    manual.run(examples("storagectl.1", "dir"), places, work, ctl.root)
    assert ctl.names("images") == ["web.qcow2"]


def test_fs(scratch: Scratch, ctl: Program, work: Path) -> None:
    target = str(scratch.folder / "data")
    places = {"/dev/sdb": scratch.loop(), "/srv/data": target}
    done = manual.run(examples("storagectl-pool.5", "fs"), places, work, ctl.root)
    assert "noatime" in done.stdout
    assert "nosuid" in done.stdout
    assert nothing_defined(ctl)
    assert not os.path.exists(target)


def test_fs_by_options(scratch: Scratch, ctl: Program, work: Path) -> None:
    target = str(scratch.folder / "data")
    places = {"/dev/sdb1": scratch.loop(), "/srv/data": target}
    manual.run(examples("storagectl.1", "fs"), places, work, ctl.root)
    assert ctl.state("data") == "running"
    assert os.path.ismount(target)


@pytest.mark.parametrize("page", ["storagectl.1", "storagectl-pool.5"])
def test_disk(scratch: Scratch, ctl: Program, work: Path, page: str) -> None:
    device = scratch.loop(16 * GIB)
    partition = f"{os.path.basename(device)}p1"
    done = manual.run(
        examples(page, "disk"), {"/dev/sdb": device, "sdb1": partition}, work, ctl.root
    )
    if page == "storagectl.1":
        assert ctl.names("ssd") == [partition]
    else:
        assert partition in done.stdout
        assert nothing_defined(ctl)


@pytest.mark.usefixtures("passphrase")
@pytest.mark.parametrize(
    "title",
    ["A raw file", "A qcow2 image on top of another one", "An encrypted image"],
)
def test_volumes(ctl: Program, work: Path, images: Path, title: str) -> None:
    places = {"/srv/images": str(images)} if title != "A raw file" else {}
    manual.run(examples("storagectl-volume.5", title), places, work, ctl.root)
    made = {
        "A raw file": ["web.raw"],
        "A qcow2 image on top of another one": ["base.qcow2", "db.qcow2"],
        "An encrypted image": ["safe.qcow2"],
    }
    assert ctl.names("images") == made[title]
    if title == "A raw file":
        status = (images / "web.raw").stat()
        assert (status.st_size, status.st_uid, status.st_mode & 0o777) == (20 * GIB, 64055, 0o640)
        assert MIB <= status.st_blocks * 512 < 2 * MIB
    elif title == "An encrypted image":
        assert "<encryption format='luks'>" in ctl.ok("vol-dumpxml", "safe.qcow2", "images")
        assert "20.00 GiB" in ctl.ok("vol-info", "safe.qcow2", "images")


def test_copies(ctl: Program, work: Path, images: Path) -> None:
    ctl.ok("vol-create-as", "images", "web.raw", "10M", "--allocation", "0")
    manual.run(examples("storagectl-volume.5", "A copy in another format"), {}, work, ctl.root)
    assert "<format type='qcow2'/>" in ctl.ok("vol-dumpxml", "web.qcow2", "images")
    assert "10.00 MiB" in ctl.ok("vol-info", "web.qcow2", "images")


def test_a_partition(scratch: Scratch, ctl: Program, work: Path) -> None:
    device = scratch.loop()
    partition = f"{os.path.basename(device)}p1"
    ctl.ok("pool-create-as", "ssd", "disk", "--source-dev", device, "--source-format", "gpt",
           "--target", "/dev", "--build")  # fmt: skip
    title = "A partition for swapping"
    done = manual.run(examples("storagectl-volume.5", title), {"sdb1": partition}, work, ctl.root)
    assert "16.00 MiB" in done.stdout


@pytest.mark.usefixtures("passphrase")
def test_an_encrypted_raw_file(ctl: Program, work: Path, images: Path) -> None:
    of_volume = [block for block in examples("storagectl.1", "SECRETS", "SH") if "safe" in block]
    manual.run(of_volume, {"/srv/images": str(images)}, work, ctl.root)
    assert (images / "safe").read_bytes()[:4] == b"LUKS"


def test_new_volumes(ctl: Program, work: Path, images: Path) -> None:
    ctl.ok("vol-create-as", "images", "base.qcow2", "10M", "--format", "qcow2")
    owner = {"libvirt-qemu": "daemon"}  # a user that every system has
    manual.run(examples("storagectl.1", "NEW VOLUMES", "SH"), owner, work, ctl.root)
    assert ctl.names("images") == ["base.qcow2", "db.qcow2", "web.qcow2"]
    assert (images / "web.qcow2").stat().st_mode & 0o777 == 0o640


def test_the_way_of_arguments(ctl: Program, work: Path, images: Path) -> None:
    """DESCRIPTION and SHELL: by name and by position, several at once, and through stdin."""
    for name in ("a.img", "b.img", "c.img"):
        ctl.ok("vol-create-as", "images", name, "1M")
    done = manual.run(examples("storagectl.1", "DESCRIPTION", "SH"), {}, work, ctl.root)
    assert done.stdout.count("Capacity:       1.00 MiB") == 2
    assert "b.img" in done.stdout
    done = manual.run(examples("storagectl.1", "SHELL", "SH"), {}, work, ctl.root)
    assert done.stdout.count("Capacity:       1.00 MiB") == 3


def test_events(scratch: Scratch, ctl: Program, work: Path, images: Path) -> None:
    """EVENTS: what waits there is told of what another process does."""

    def happen() -> None:
        ctl.ok("pool-define-as", "other", "dir", "--target", scratch.folder / "other")
        ctl.ok("pool-undefine", "other")

    lines, documents = examples("storagectl.1", "EVENTS", "SH")
    assert "for storage pool other: " in manual.heard(lines, work, ctl.root, happen)

    def make() -> None:
        (images / "by-hand").touch()
        (images / "by-hand").unlink()
        happen()

    first = manual.heard(documents, work, ctl.root, make).splitlines()[0]
    assert json.loads(first)["event"]["pool"]["name"] in ("images", "other")


def test_json(ctl: Program, work: Path, images: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    ctl.ok("vol-create-as", "images", "base.qcow2", "1M", "--format", "qcow2")
    title = "OUTPUT FOR PROGRAMS"
    done = manual.run(examples("storagectl.1", title, "SH"), {}, work, ctl.root)
    assert done.stdout == f"{images}/base.qcow2\n{images}/web\n"


def test_lists(ctl: Program, work: Path, images: Path) -> None:
    ctl.ok("vol-create-as", "images", "big.qcow2", "11G", "--format", "qcow2")
    ctl.ok("vol-create-as", "images", "small.qcow2", "1G", "--format", "qcow2")
    ctl.ok("pool-define-as", "vms", "dir", "--target", "/vms")
    done = manual.run(examples("storagectl.1", "LISTS", "SH"), {}, work, ctl.root)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[2:4] == [
        ["big.qcow2", "qcow2", "11.00", "GiB"], ["small.qcow2", "qcow2", "1.00", "GiB"],
    ]  # fmt: skip
    assert rows[7:] == [["big.qcow2", str(images / "big.qcow2")], [], ["vms:", "-"]]


def test_scripts(scratch: Scratch, ctl: Program, work: Path) -> None:
    """What is for scripts can be run again, and finds nothing left of the first time."""
    places = {"/srv/images": str(scratch.folder / "images"), "logger": "echo"}
    for _ in range(2):
        done = manual.run(examples("storagectl.1", "SCRIPTS", "SH"), places, work, ctl.root)
        assert "db.img is gone" in done.stdout
        assert nothing_defined(ctl)


def test_status(ctl: Program, work: Path, images: Path) -> None:
    ctl.ok("vol-create-as", "images", "a.img", "1M")
    watch = "storagectl status --watch 5"
    places = {watch: f"timeout --signal=INT 8 {watch} || test $? = 124"}
    done = manual.run(examples("storagectl.1", "PICTURES OF POOLS", "SH"), places, work, ctl.root)
    assert done.stdout.count("images") >= 3
    assert "a.img" in done.stdout


def test_apply(scratch: Scratch, ctl: Program, work: Path) -> None:
    """The files of the example, in YAML and in XML, say the same."""
    pytest.importorskip("yaml")
    storage, yaml = work / "storage", manual.blocks(manual.section("storagectl.1", "Example"))[0]
    xml = next(b for b in manual.blocks(manual.page("storagectl.1")) if b.startswith("<storage>"))
    target = str(scratch.folder / "images")
    places = {"/dev/sdb1": scratch.loop(), "/srv/images": target}
    storage.mkdir()
    (storage / "images.yaml").write_text(manual.filled_in(yaml, places))
    done = manual.run(examples("storagectl.1", "Example"), {}, work, ctl.root)
    assert "ext4" in done.stdout
    assert ctl.names("images") == ["base.qcow2", "lost+found", "web.qcow2"]
    assert os.path.ismount(target)
    (storage / "images.yaml").unlink()
    (storage / "images.xml").write_text(manual.filled_in(xml, places))
    assert "Nothing to change" in ctl.ok("apply", storage)


@pytest.mark.usefixtures("images")
def test_doctor(ctl: Program, work: Path) -> None:
    title = "WHY A POOL DOES NOT START"
    done = manual.run(examples("storagectl.1", title, "SH"), {}, work, ctl.root)
    assert done.stdout.count("Nothing is wrong with 1 pool\n") == 2


def test_configuration(ctl: Program) -> None:
    """The configuration files of the page and of the README are ones that are accepted."""
    readme = (manual.ROOT / "README.md").read_text()
    found = re.findall(r"^```toml\n(.*?)^```$", readme, re.M | re.S)
    found += [b for b in manual.blocks(manual.page("storagectl.1")) if b.startswith("confirm = ")]
    assert len(found) == 2
    file = ctl.root / "etc/storagectl/config.toml"
    file.parent.mkdir(parents=True)
    for text in found:
        file.write_text(text)
        assert ctl.run("pool-list").returncode == 0
    file.write_text("confirm = 3\n")
    assert "confirm" in ctl.refused("pool-list")


@pytest.mark.parametrize("title", ["A password for CHAP", "A passphrase that a reboot forgets"])
def test_secrets(ctl: Program, work: Path, title: str) -> None:
    for name in ("password", "passphrase"):
        (work / name).write_text("correct horse")
    done = manual.run(examples("storagectl-secret.5", title), {}, work, ctl.root)
    left = ctl.ok("-q", "secret-list").split()
    if "CHAP" in title:
        assert "iscsi disks" in done.stdout
        assert left == []
    else:
        assert done.stdout.rstrip().endswith("correct horse")
        assert left[1:] == ["volume", "/srv/images/safe.qcow2"]
        assert list((ctl.root / "etc").rglob("*.base64")) == []


def test_dry_runs(ctl: Program, work: Path, images: Path) -> None:
    ctl.ok("vol-create-as", "images", "web.img", "1M")
    (images / "web.img").write_bytes(os.urandom(MIB))
    manual.run(examples("storagectl.1", "DRY RUNS", "SH"), {}, work, ctl.root)
    assert (images / "copy.img").read_bytes() == (images / "web.img").read_bytes()
