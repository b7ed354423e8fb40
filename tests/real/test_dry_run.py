"""--dry-run on real devices: nothing is changed, and the scripts do what the commands do."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from scratch import (
    MIB,
    Program,
    Scratch,
    is_mounted,
    make,
    mount_options,
    nothing_changed,
    run,
)
from waiting import wait_for

from storagectl.host.plan import Planner

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ("bash", "blkid", "losetup", "lsblk", "mkfs.ext4", "parted", "qemu-img", "wipefs")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


class Machine:
    """The program, a device, and the folders that may not change in a dry run."""

    def __init__(self, ctl: Program, scratch: Scratch, device: str) -> None:
        self.ctl = ctl
        self.device = device
        self.target = scratch.folder / "target, it's here"

    def looks(self) -> list[str]:
        """Return what tools say of the device, probing it anew."""
        return [
            run("blkid", "--probe", "--output", "export", self.device, check=False),
            run("lsblk", "--json", "--output", "NAME,SIZE,MOUNTPOINTS", self.device),
            run("wipefs", "--no-act", "--json", self.device),
        ]

    def plan(self, *words: object) -> str:
        """Return the script that a dry run prints; it changes nothing."""
        before = self.looks()
        with nothing_changed(self.ctl.root, [self.device], self.target):
            script = self.ctl.ok("--dry-run", *words)
        assert self.looks() == before
        return script

    def by_script(self, *words: object) -> None:
        """Do what a command would do by its script, as pasted into a shell."""
        script = self.plan(*words)
        done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (script, done.stderr)

    def refused_alike(self, *words: object) -> str:
        """Return the error of a command that a dry run refuses as the command does."""
        with nothing_changed(self.ctl.root, [self.device], self.target):
            planned = self.ctl.run("--dry-run", *words)
        assert (planned.returncode, planned.stdout) == (1, "")
        assert planned.stderr == self.ctl.refused(*words)
        return planned.stderr


@pytest.fixture
def machine(ctl: Program, scratch: Scratch) -> Machine:
    return Machine(ctl, scratch, scratch.loop())


def define(machine: Machine) -> tuple[object, ...]:
    return (
        "pool-define-as", "p", "fs", "--source-dev", machine.device, "--source-format", "ext4",
        "--target", machine.target,
    )  # fmt: skip


def test_a_file_system_from_its_definition_to_its_end(machine: Machine) -> None:
    ctl = machine.ctl
    machine.by_script(*define(machine))
    assert ctl.state("p") == "inactive"
    assert "mount point does not exist" in machine.refused_alike("pool-start", "p")
    machine.by_script("pool-build", "p")
    assert machine.target.stat().st_mode & 0o777 == 0o711
    assert "wrong fs type" in machine.refused_alike("pool-start", "p")

    machine.by_script("pool-build", "p", "--no-overwrite")
    assert "ext4" in machine.looks()[2]
    machine.refused_alike("pool-build", "p", "--no-overwrite")
    machine.by_script("pool-start", "p")
    assert {"nodev", "nosuid", "noexec"} <= mount_options(machine.target)
    assert ctl.state("p") == "running"
    machine.refused_alike("pool-start", "p")
    machine.refused_alike("pool-build", "p", "--overwrite")

    machine.by_script("vol-create-as", "p", "a.img", "3M")
    assert "a.img" in ctl.names("p")
    with (machine.target / "a.img").open("rb"):
        assert "is in use" in machine.refused_alike("pool-destroy", "p")
    machine.by_script("pool-destroy", "p")
    assert not is_mounted(machine.target)
    assert ctl.state("p") == "inactive"

    machine.by_script("pool-autostart", "p")
    machine.by_script("autostart")
    assert ctl.state("p") == "running"
    assert "a.img" in ctl.names("p")
    machine.by_script("pool-destroy", "p")

    machine.by_script("pool-start", "p", "--build", "--overwrite")
    assert ctl.state("p") == "running"
    assert "a.img" not in ctl.names("p")
    machine.by_script("pool-destroy", "p")
    machine.by_script("pool-delete", "p")
    assert not machine.target.exists()
    machine.by_script("pool-undefine", "p")
    assert ctl.ok("-q", "pool-list", "--all") == ""


def test_a_transient_pool_is_made_and_built_by_a_script(machine: Machine) -> None:
    words = ("pool-create-as", *define(machine)[1:])
    machine.by_script(*words, "--build", "--overwrite")
    assert machine.ctl.state("p") == "running"
    assert is_mounted(machine.target)
    machine.by_script("pool-stop", "p")
    assert machine.ctl.ok("-q", "pool-list", "--all") == ""


def test_the_device_of_another_format_is_refused(machine: Machine) -> None:
    make("vfat", machine.device)
    machine.ctl.ok(*define(machine))
    machine.target.mkdir()
    assert "wrong fs type" in machine.refused_alike("pool-start", "p")
    machine.refused_alike("pool-build", "p", "--no-overwrite")


def test_a_pool_inside_of_another_is_autostarted_after_it(machine: Machine) -> None:
    ctl = machine.ctl
    ctl.ok(*define(machine))
    ctl.ok("pool-start", "p", "--build", "--overwrite")
    ctl.ok("pool-define-as", "inner", "dir", "--target", machine.target / "inner")
    ctl.ok("pool-build", "inner")
    for name in ("p", "inner"):
        ctl.ok("pool-autostart", name)
    ctl.ok("pool-destroy", "p")
    machine.by_script("autostart")
    assert ctl.state("inner") == ctl.state("p") == "running"


def table(device: str) -> list[Any]:
    """Return label and partitions of a disk."""
    disk = json.loads(run("parted", "--script", "--json", device, "unit", "B", "print"))["disk"]
    return [disk["label"], *(
        (part["number"], part["start"], part["end"], part["type"])
        for part in disk.get("partitions", [])
    )]  # fmt: skip


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_disk_is_partitioned_by_scripts_as_by_commands(
    machine: Machine, scratch: Scratch, label: str
) -> None:
    ctl, other = machine.ctl, scratch.loop()
    disks = {"s": machine.device, "r": other}
    for name, device in disks.items():
        ctl.ok("pool-define-as", name, "disk", "--source-dev", device, "--source-format", label,
               "--target", "/dev")  # fmt: skip
    files = scratch.folder / "files"
    ctl.ok("pool-create-as", "f", "dir", "--target", files, "--build")
    ctl.ok("vol-create-as", "f", "a", "2M")
    content = os.urandom(MIB) + bytes(MIB)
    (files / "a").write_bytes(content)
    (files / "data").write_bytes(os.urandom(70_001))

    def both(*words: object) -> None:
        """Do the same on both disks, by a script and by the command."""
        for name, device in disks.items():
            given = [str(w).replace("DISK", os.path.basename(device)) for w in words]
            given = [name if word == "POOL" else word for word in given]
            (machine.by_script if name == "s" else ctl.ok)(*given)
        assert table(machine.device) == table(other)

    machine.refused_alike("pool-start", "s")
    both("pool-start", "POOL", "--build")
    assert table(machine.device) == [{"dos": "msdos"}.get(label, label)]
    assert ctl.state("s") == "running"
    both("vol-create-as", "POOL", "DISKp1", "5M")
    assert len(table(machine.device)) == 2
    for name, device in disks.items():
        document = scratch.folder / f"{name}.xml"
        document.write_text(
            f"<volume><name>{os.path.basename(device)}p2</name><capacity>0</capacity></volume>"
        )
        words = ("vol-create-from", name, document, "a", "--inputpool", "f")
        (machine.by_script if name == "s" else ctl.ok)(*words)
    assert table(machine.device) == table(other)
    assert content_of(f"{machine.device}p2", len(content)) == content
    machine.refused_alike("vol-create-as", "s", "wrong", "1M")
    machine.refused_alike("vol-create-as", "s", f"{os.path.basename(machine.device)}p3", "1T")

    both("vol-upload", "DISKp1", files / "data", "POOL", "--offset", "4097")
    assert written_to(f"{machine.device}p1") == written_to(f"{other}p1")
    both("vol-wipe", "DISKp2", "POOL")
    assert content_of(f"{machine.device}p2", 2 * MIB) == bytes(2 * MIB)
    out = files / "out"
    machine.by_script("vol-download", f"{os.path.basename(machine.device)}p1", out, "s")
    assert out.read_bytes() == content_of(f"{machine.device}p1", out.stat().st_size)

    make("ext4", f"{machine.device}p1")
    held = scratch.mount(f"{machine.device}p1", "held")
    machine.refused_alike("vol-delete", f"{os.path.basename(machine.device)}p1", "s")
    run("umount", held)
    both("vol-delete", "DISKp1", "POOL")
    wait_for(lambda: not os.path.exists(f"{machine.device}p1"), "the partition stays")
    both("pool-destroy", "POOL")
    for name in disks:
        (machine.by_script if name == "s" else ctl.ok)("pool-delete", name)
    for device in disks.values():
        assert content_of(device, MIB) == bytes(MIB)
    wait_for(lambda: not os.path.exists(f"{machine.device}p2"), "the partition stays")


def content_of(device: str, length: int) -> bytes:
    with open(device, "rb") as stream:
        return stream.read(length)


def written_to(device: str) -> bytes:
    with open(device, "rb") as stream:
        stream.seek(4097)
        return stream.read(70_001)


def test_an_encrypted_partition_takes_its_passphrase_from_a_descriptor(
    machine: Machine, scratch: Scratch
) -> None:
    ctl, name = machine.ctl, os.path.basename(machine.device)
    ctl.ok("pool-define-as", "d", "disk", "--source-dev", machine.device, "--source-format", "gpt",
           "--target", "/dev")  # fmt: skip
    ctl.ok("pool-start", "d", "--build")
    uuid = "11111111-1111-4111-8111-111111111111"
    files = {
        "secret.xml": f"<secret><uuid>{uuid}</uuid><usage type='volume'><volume>/x</volume>"
                      "</usage></secret>",
        "volume.xml": f"<volume><name>{name}p1</name><capacity unit='MiB'>8</capacity><target>"
                      "<encryption format='luks'><secret type='passphrase' "
                      f"uuid='{uuid}'/></encryption></target></volume>",
        "value": "a passphrase",
    }  # fmt: skip
    paths = {key: scratch.folder / key for key in files}
    for key, text in files.items():
        paths[key].write_text(text)
    ctl.ok("secret-define", paths["secret.xml"])
    ctl.ok("secret-set-value", uuid, "--file", paths["value"], "--plain")
    script = machine.plan("vol-create", "d", paths["volume.xml"])
    assert "a passphrase" not in script
    place: Path = scratch.folder / "script"
    place.write_text(script)
    with paths["value"].open() as value:
        words = f"exec bash {str(place)!r} 9<&{value.fileno()}"
        run("bash", "-c", words, pass_fds=[value.fileno()])
    found = run("wipefs", "--no-act", "--json", f"{machine.device}p1")
    assert "crypto_LUKS" in found


def test_a_device_is_not_opened_for_writing(machine: Machine) -> None:
    """Its close would make udev look at it anew."""
    with Planner().opened(machine.device, write=True) as fd:
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
