"""`apply` on real devices: twice, with nothing to do the second time."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from scratch import MIB, SIZES, digest, is_mounted, make, nothing_changed, run

if TYPE_CHECKING:
    from pathlib import Path

    from scratch import Program, Scratch

TOOLS = ("losetup", "mkfs.ext4", "parted", "qemu-img", "wipefs")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def applied(ctl: Program, *words: object) -> list[str]:
    return ctl.ok("apply", *words).splitlines()


def settled(ctl: Program, *words: object, **watched: list[str]) -> None:
    """Prove that there is nothing left to do, and that nothing is done."""
    with nothing_changed(ctl.root, **watched):
        assert applied(ctl, *words) == ["Nothing to change", ""]
        done = ctl.run("apply", "--diff", "--detailed-exitcode", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Nothing would be changed\n\n", "")


def fs_pool(device: str, target: Path, *, format: str = "ext4", volumes: str = "") -> str:
    return (
        f"<pool type='fs' build='yes'><name>f</name><source><device path='{device}'/>"
        f"<format type='{format}'/></source><target><path>{target}</path>"
        f"<permissions><mode>0711</mode></permissions></target><volumes>{volumes}</volumes></pool>"
    )


def volume(name: str, size: int, format: str = "raw", backing: str = "") -> str:
    below = f"<backingStore><path>{backing}</path></backingStore>" if backing else ""
    return (
        f"<volume><name>{name}</name><capacity>{size}</capacity><allocation>0</allocation>"
        f"<target><format type='{format}'/></target>{below}</volume>"
    )


def test_a_file_system(ctl: Program, scratch: Scratch) -> None:
    device, target = scratch.loop(SIZES["ext4"]), scratch.folder / "mnt"
    file = scratch.folder / "f.xml"
    # sizes that qemu-img rounds, as each format has it
    volumes = volume("over", 5 * MIB + 1, "qcow2", f"{target}/base") + volume("base", MIB, "qcow2")
    volumes += volume("raw", 1000) + volume("vpc", 9 * MIB + 1, "vpc") + volume("dir", 1, "dir")
    volumes += volume("vdi", 7 * MIB + 1, "vdi") + volume("vmdk", 7 * MIB + 1, "vmdk")
    volumes += volume("qed", 7 * MIB + 1, "qed") + volume("qcow", 7 * MIB + 1, "qcow")
    file.write_text(fs_pool(device, target, volumes=volumes))
    with nothing_changed(ctl.root, [device]):
        shown = applied(ctl, "--diff", file)
    assert "Pool f would be built" in shown
    done = applied(ctl, file)
    assert done[:4] == [
        "Pool f defined", "Pool f built", "Pool f started", "Pool f marked as autostarted"
    ]  # fmt: skip
    assert done.index("Vol base of pool f created") < done.index("Vol over of pool f created")
    assert is_mounted(target)
    settled(ctl, file)
    ctl.ok("pool-destroy", "f")
    assert applied(ctl, file)[:-2] == ["Pool f started"]
    settled(ctl, file)


def test_a_disk(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop(64 * MIB)
    name = os.path.basename(device)
    file = scratch.folder / "d.xml"
    file.write_text(
        f"<storage><pool type='disk' build='yes'><name>d</name><source><device path='{device}'/>"
        f"</source><target><path>/dev</path></target></pool>"
        f"<volume pool='d'><name>{name}p1</name><capacity>{5 * MIB + 7}</capacity></volume>"
        f"<volume pool='d'><name>{name}p2</name><capacity unit='M'>8</capacity></volume></storage>"
    )
    assert applied(ctl, file)[4:] == [
        f"Vol {name}p1 of pool d created", f"Vol {name}p2 of pool d created", "6 changes made", ""
    ]  # fmt: skip
    assert "<format type='dos'/>" in ctl.ok("pool-dumpxml", "d")
    settled(ctl, file)
    ctl.ok("pool-destroy", "d")
    assert applied(ctl, file) == ["Pool d started", "1 change made", ""]
    settled(ctl, file)
    smaller = file.read_text().replace("'M'>8<", "'M'>7<")
    file.write_text(smaller)
    with nothing_changed(ctl.root, [device]):
        done = ctl.run("apply", "--resize", file)
    assert done.returncode == 1
    assert f"volume '{name}p2' of pool 'd' has a capacity of {8 * MIB} bytes, more than" in (
        done.stderr
    )


def test_partitions_keep_their_names_when_others_are_pruned(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop(64 * MIB)
    name = os.path.basename(device)
    file = scratch.folder / "d.xml"

    def write(*numbers: int) -> None:
        parts = "".join(
            f"<volume><name>{name}p{number}</name><capacity unit='M'>{40 if number == 4 else 5}"
            f"</capacity><target><format type='{'extended' if number == 4 else 'none'}'/></target>"
            "</volume>"
            for number in numbers
        )
        file.write_text(
            f"<pool type='disk' build='yes'><name>d</name><source><device path='{device}'/>"
            f"</source><target><path>/dev</path></target><volumes>{parts}</volumes></pool>"
        )

    write(1, 2, 3, 4, 5, 6, 7)
    applied(ctl, file)
    settled(ctl, "--prune", "volumes", file)
    write(1, 3, 4, 5, 7)
    with nothing_changed(ctl.root, [device]):
        done = ctl.run("apply", "--prune", "volumes", file)
    assert done.returncode == 1
    assert f"volume '{name}p7' of pool 'd' would lose its name with volume '{name}p6'" in (
        done.stderr
    )
    write(1, 3, 4, 5)
    assert applied(ctl, "--prune", "volumes", file) == [
        *(f"Vol {name}p{number} of pool d deleted" for number in (7, 2, 6)), "3 changes made", ""
    ]  # fmt: skip
    settled(ctl, "--prune", "volumes", file)
    write(1, 3)
    assert applied(ctl, "--prune", "volumes", file)[:-2] == [
        f"Vol {name}p{number} of pool d deleted" for number in (5, 4)
    ]


def test_a_disk_with_other_data_is_refused(ctl: Program, scratch: Scratch) -> None:
    """And the definition that it would have replaced is there as before."""
    device, target = scratch.loop(SIZES["ext4"]), scratch.folder / "mnt"
    make("ext4", device)
    file = scratch.folder / "f.xml"
    file.write_text(fs_pool(device, target).replace("'yes'", "'no' start='no'"))
    applied(ctl, file)
    before = ctl.ok("pool-dumpxml", "f")
    run("mkfs.vfat", device)
    file.write_text(fs_pool(device, target, format="ext2"))
    content = digest(device)
    for words in (["apply", file], ["apply", "--keep-going", file]):
        done = ctl.run(*words)
        assert (done.returncode, done.stdout) == (1, "\n")
        assert "Failed to build pool f" in done.stderr
        assert "overwrite" in done.stderr
    assert digest(device) == content
    assert ctl.ok("pool-dumpxml", "f") == before
    assert not target.exists()
    assert applied(ctl, "--overwrite", file)[:2] == ["Pool f redefined", "Pool f built"]
    settled(ctl, "--overwrite", "--build", file)


def test_a_file_system_that_is_there_is_not_made_again(ctl: Program, scratch: Scratch) -> None:
    device, target = scratch.loop(SIZES["ext4"]), scratch.folder / "mnt"
    make("ext4", device)
    (scratch.mount(device, "other") / "kept").write_text("data")
    run("umount", scratch.folder / "other")
    file = scratch.folder / "f.xml"
    for format in ("ext4", "auto"):
        file.write_text(fs_pool(device, target, format=format))
        assert "Pool f built" in applied(ctl, "--overwrite", file)
        assert (target / "kept").read_text() == "data"
        settled(ctl, "--overwrite", file)
        ctl.ok("pool-destroy", "f")
        ctl.ok("pool-undefine", "f")
        target.rmdir()


def test_a_pool_on_a_volume_of_another(ctl: Program, scratch: Scratch) -> None:
    """All at once: a file in a dir pool, and the file system in it."""
    folder = scratch.folder / "repository"
    folder.mkdir()
    base, target = scratch.folder / "base", scratch.folder / "mnt"
    (folder / "a.xml").write_text(fs_pool(f"{base}/disk", target, volumes=volume("v", MIB)))
    (folder / "b.xml").write_text(
        f"<pool type='dir' build='yes'><name>b</name><target><path>{base}</path></target></pool>"
    )
    (folder / "b").mkdir()
    (folder / "b/disk.xml").write_text(volume("disk", SIZES["ext4"]))
    done = applied(ctl, folder)
    assert done.index("Vol disk of pool b created") < done.index("Pool f defined")
    assert done[-3:] == ["Vol v of pool f created", "10 changes made", ""]
    settled(ctl, folder)
    (base / "left").write_text("data")
    assert applied(ctl, "--prune", "volumes", folder) == [
        "Vol left of pool b deleted", "1 change made", ""
    ]  # fmt: skip
    (folder / "b/disk.xml").write_text(volume("other", MIB))
    refused = ctl.run("apply", "--prune", "volumes", folder)
    assert refused.returncode == 1
    assert "Failed to delete vol disk of pool b" in refused.stderr
    assert (base / "disk").exists()
    assert is_mounted(target)


def test_volumes_grow(ctl: Program, scratch: Scratch) -> None:
    target = scratch.folder / "p"
    file = scratch.folder / "p.xml"

    def write(size: int) -> None:
        volumes = volume("raw", size) + volume("image", size, "qcow2")
        file.write_text(
            f"<pool type='dir' build='yes'><name>p</name><target><path>{target}</path></target>"
            f"<volumes>{volumes}</volumes></pool>"
        )

    write(MIB)
    applied(ctl, file)
    write(3 * MIB)
    with nothing_changed(ctl.root, [], target):
        assert ctl.run("apply", file).returncode == 1
    assert applied(ctl, "--resize", file)[:2] == [
        f"Vol {name} of pool p resized from {MIB} to {3 * MIB} bytes" for name in ("raw", "image")
    ]
    settled(ctl, "--resize", file)
