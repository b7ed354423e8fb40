"""vol-used-by, pool-used-by and pool-undefine --forget, with devices and mounts."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from scratch import MIB, attached, is_mounted, make, mounted, nothing_changed, run
from swapping import swapped

if TYPE_CHECKING:
    from scratch import Program, Scratch

TOOLS = ("losetup", "mkfs.ext4", "mkswap", "parted", "unshare")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]

Row = tuple[str, str, str]


def uses(ctl: Program, *words: object) -> list[Row]:
    """Return the rows of a table, but for processes, which may be udev's."""
    found = json.loads(ctl.ok(*words, "--json"))["result"]["uses"]
    return [(use["kind"], use["user"], use["used"]) for use in found if use["kind"] != "process"]


def filesystem(scratch: Scratch) -> str:
    """Return a device with a new file system."""
    device = scratch.loop()
    make("ext4", device)
    return device


def test_a_file_by_way_of_a_loop_device_and_its_partition(ctl: Program, scratch: Scratch) -> None:
    target = scratch.folder / "pool"
    ctl.ok("pool-create-as", "p", "dir", "--target", target, "--build")
    ctl.ok("vol-create-as", "p", "disk", "80M")
    file = target / "disk"
    assert uses(ctl, "vol-used-by", "disk", "p") == []
    with attached(file) as device:
        chain: list[Row] = [("loop", device, str(file))]
        assert uses(ctl, "vol-used-by", "disk", "p") == chain
        run("parted", "-s", device, "mklabel", "gpt", "mkpart", "p1", "1MiB", "40MiB",
            "mkpart", "p2", "40MiB", "70MiB")  # fmt: skip
        make("ext4", f"{device}p1")
        with (
            mounted(f"{device}p1", scratch.folder / "mnt") as place,
            swapped(f"{device}p2"),
        ):
            chain += [("mount", str(place), f"{device}p1"), ("swap", "kernel", f"{device}p2")]
            assert uses(ctl, "vol-used-by", "disk", "p") == chain
            assert uses(ctl, "pool-used-by", "p") == chain
            with file.open("rb") as stream:
                sleeper = subprocess.Popen(["sleep", "60"], stdin=stream)
            try:
                table = ctl.ok("vol-used-by", file)
            finally:
                sleeper.kill()
                sleeper.wait()
            assert f"{sleeper.pid} (sleep)" in table
    assert uses(ctl, "vol-used-by", "disk", "p") == []


def test_a_disk_whose_partition_is_mounted(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    ctl.ok("pool-create-as", "p", "disk", "--source-dev", device, "--source-format", "gpt",
           "--target", "/dev", "--build")  # fmt: skip
    name = device.removeprefix("/dev/")
    ctl.ok("vol-create-as", "p", f"{name}p1", "20M")
    ctl.ok("vol-create-as", "p", f"{name}p2", "20M")
    make("ext4", f"{device}p1")
    with mounted(f"{device}p1", scratch.folder / "mnt") as place:
        there: list[Row] = [("mount", str(place), f"{device}p1")]
        assert uses(ctl, "vol-used-by", f"{name}p1", "p") == there
        assert uses(ctl, "vol-used-by", f"{name}p2", "p") == []
        assert uses(ctl, "pool-used-by", "p") == there
        ctl.ok("pool-define-as", "q", "fs", "--source-dev", f"{device}p2", "--target", "/q")
        there.append(("pool", "q (inactive)", f"{device}p2"))
        assert uses(ctl, "pool-used-by", "p") == there


def test_a_mount_of_another_name_space(ctl: Program, scratch: Scratch) -> None:
    device = filesystem(scratch)
    pool, place = scratch.folder / "pool", scratch.folder / "hidden"
    for folder in (pool, place):
        folder.mkdir()
    (pool / "disk").symlink_to(device)
    ctl.ok("pool-create-as", "p", "dir", "--target", pool)
    script = f"mount {device} {place} && echo ready && read -r line"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert not is_mounted(place)
        found = uses(ctl, "vol-used-by", "disk", "p")
        child.communicate("end\n")
    assert found == [("mount", f"{place} in the name space of {child.pid} (sh)", f"{pool}/disk")]


def test_an_fs_pool_that_is_mounted_twice(ctl: Program, scratch: Scratch) -> None:
    device = filesystem(scratch)
    target = scratch.folder / "pool"
    target.mkdir()
    ctl.ok("pool-create-as", "p", "fs", "--source-dev", device, "--target", target)
    assert uses(ctl, "pool-used-by", "p") == []
    with mounted(device, scratch.folder / "again") as again:
        assert uses(ctl, "pool-used-by", "p") == [("mount", str(again), device)]
    (target / "inner").mkdir()
    with mounted(filesystem(scratch), target / "inner") as inner:
        assert uses(ctl, "pool-used-by", "p") == [("mount", str(inner), str(target))]


def test_forgetting_a_mounted_pool_leaves_it_mounted(ctl: Program, scratch: Scratch) -> None:
    device = filesystem(scratch)
    target = scratch.folder / "pool"
    target.mkdir()
    ctl.ok("pool-define-as", "p", "fs", "--source-dev", device, "--target", target)
    ctl.ok("pool-start", "p")
    ctl.ok("vol-create-as", "p", "v", MIB)
    assert "still active" in ctl.refused("pool-undefine", "p")
    with nothing_changed(scratch.folder / "empty", [], target):
        ctl.ok("pool-undefine", "p", "--forget")
        assert is_mounted(target)
    assert ctl.ok("-q", "pool-list", "--all") == ""
    # and it can be taken up again as it is
    ctl.ok("pool-create-as", "p", "fs", "--source-dev", device, "--target", target)
    assert ctl.names("p") == ["lost+found", "v"]
    ctl.ok("pool-stop", "p", "--if-active")
    assert not is_mounted(target)
    ctl.ok("pool-stop", "p", "--if-active")
