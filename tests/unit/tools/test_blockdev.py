"""Names of partitions, mounts, swaps, and signatures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storagectl.errors import InternalError
from storagectl.tools import blkid, blockdev

FIXTURES = Path(__file__).parent / "fixtures" / "wipefs"


@pytest.mark.parametrize(
    ("disk", "number", "separator", "node"),
    [
        ("/dev/sda", 1, False, "/dev/sda1"),
        ("/dev/sdaa", 11, False, "/dev/sdaa11"),
        ("/dev/loop0", 1, False, "/dev/loop0p1"),
        ("/dev/nvme0n1", 2, False, "/dev/nvme0n1p2"),
        ("/dev/mmcblk0", 3, False, "/dev/mmcblk0p3"),
        ("/dev/mapper/mpatha", 1, False, "/dev/mapper/mpatha1"),
        ("/dev/mapper/mpatha", 1, True, "/dev/mapper/mpathap1"),
        ("/dev/mapper/mpath0", 1, False, "/dev/mapper/mpath0p1"),
    ],
)
def test_partition_path(disk: str, number: int, separator: bool, node: str) -> None:
    assert blockdev.partition_path(disk, number, separator=separator) == node


def test_mountinfo() -> None:
    text = (
        "22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\n"
        "41 22 259:0 / /mnt/a\\040b\\134c rw - ext4 /dev/loop0p1 rw\n"
        "42 22 0:35 /sub /srv rw - btrfs /dev/sdb1 rw,subvol=/sub\n"
        "43 22 0:36 / /odd rw - fuse.x - rw\n"
        "half a li"
    )
    assert blockdev.parse_mountinfo(text) == [
        blockdev.Mount("254:0", "/dev/vda", "/"),
        blockdev.Mount("259:0", "/dev/loop0p1", "/mnt/a b\\c"),
        blockdev.Mount("0:35", "/dev/sdb1", "/srv"),
        blockdev.Mount("0:36", "-", "/odd"),
    ]


def test_swaps() -> None:
    text = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/loop0p3                            partition\t20476\t\t0\t\t-2\n"
        "/srv/swap\\040file                       file\t\t1048572\t\t0\t\t-3\n"
    )
    assert blockdev.parse_swaps(text) == ["/dev/loop0p3", "/srv/swap file"]
    assert blockdev.parse_swaps("Filename\tType\n") == []
    assert blockdev.parse_swaps("") == []


def test_reread() -> None:
    assert blockdev.reread("/dev/sdb") == ["blockdev", "--rereadpt", "/dev/sdb"]


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_signatures(name: str) -> None:
    record = json.loads((FIXTURES / f"{name}.json").read_text())
    assert blkid.signatures(record["argv"][3]) == record["argv"]
    assert blkid.parse_signatures(record["stdout"]) == record["expect"]


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_first_signature_is_the_one_of_blkid(name: str) -> None:
    """The name in libvirt's messages is blkid's TYPE, or PTTYPE where there is no TYPE."""
    record = json.loads((FIXTURES / f"{name}.json").read_text())
    keys = dict(line.split("=", 1) for line in record["blkid"].splitlines())
    name_there = keys.get("TYPE", keys.get("PTTYPE"))
    if name_there is not None:
        assert blkid.parse_signatures(record["stdout"])[0] == name_there


def test_no_output_is_no_signature() -> None:
    assert blkid.parse_signatures("") == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"signatures": 1}', '{"signatures": [1]}'])
def test_nonsense(text: str) -> None:
    with pytest.raises(InternalError, match="what wipefs printed"):
        blkid.parse_signatures(text)
