"""status on real devices: the map of a disk is that of its partition table."""

from __future__ import annotations

import os
import re

import pytest
from scratch import MIB, Program, Scratch

pytestmark = pytest.mark.root


def test_the_map_of_a_disk(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop(128 * MIB)
    name = os.path.basename(device)
    ctl.ok("pool-define-as", "d", "disk", "--source-dev", device, "--source-format", "gpt",
           "--target", "/dev")  # fmt: skip
    ctl.ok("pool-build", "d")
    assert re.search("^d +inactive +disk ", ctl.ok("status"), re.M)
    ctl.ok("pool-start", "d")
    for number in (1, 2, 3):
        ctl.ok("vol-create-as", "d", f"{name}p{number}", "32M")
    ctl.ok("vol-delete", f"{name}p2", "d")
    lines = ctl.ok("status", "d").splitlines()
    place = lines.index(f"  {device}  128.0 MiB")
    drawn = lines[place + 1].strip()
    assert len(drawn) == 64
    assert re.fullmatch(r"1{16,17}\.{15,17}2{15,17}\.{15,17} ?", drawn), drawn
    assert lines[place + 2].split("  ") == [
        "", f"1 {name}p1 32.0 MiB", f"2 {name}p3 32.0 MiB", ". free 64.0 MiB",
    ]  # fmt: skip
    shown = ctl.ok("status", "--volumes")
    assert re.search(rf"^  {name}p3 +none +32\.0 MiB +32\.0 MiB used$", shown, re.M)


def test_a_pool_whose_disk_has_lost_its_table_is_broken(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    ctl.ok("pool-define-as", "d", "disk", "--source-dev", device, "--target", "/dev")
    ctl.ok("pool-build", "d")
    ctl.ok("pool-start", "d")
    with open(device, "r+b") as disk:
        disk.write(bytes(MIB))
    line = next(line for line in ctl.ok("status").splitlines() if line.startswith("d "))
    assert line.split()[1] == "broken"
    assert "unrecognised disk label" in line
