"""What JSON says of real pools and volumes is as the schema has it, and as the host is."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from answers import check

if TYPE_CHECKING:
    from scratch import Program, Scratch

pytestmark = pytest.mark.root
MIB = 1 << 20
GIB = 1 << 30


def answer(ctl: Program, *words: object) -> Any:
    """Return the result of a command that succeeds."""
    document = json.loads(ctl.ok(*words, "--json"))
    check(document)
    assert document["warnings"] == []
    return document["result"]


def test_a_disk(scratch: Scratch, ctl: Program) -> None:
    device = scratch.loop(GIB)
    given = ("disk", "--source-dev", device, "--source-format", "gpt", "--target", "/dev")
    made = answer(ctl, "pool-create-as", "p", *given, "--build")
    assert (made["did"], made["pool"]["state"]) == ("created", "running")
    name = f"{os.path.basename(device)}p1"
    volume = answer(ctl, "vol-create-as", "p", name, 10 * MIB)["volume"]
    assert (volume["type"], volume["capacity"]) == ("block", 10 * MIB)
    ((extent,), (source,)) = volume["extents"], made["pool"]["source"]["devices"]
    assert extent["device"] == source["path"] == device
    assert extent["end"] - extent["start"] == 10 * MIB
    free = answer(ctl, "pool-info", "p")["pool"]["source"]["devices"][0]["free_extents"]
    assert all(part["end"] <= extent["start"] or part["start"] >= extent["end"] for part in free)
    assert sum(part["end"] - part["start"] for part in free) > GIB - 20 * MIB
    assert answer(ctl, "vol-list", "p")["volumes"] == [answer(ctl, "vol-info", name, "p")["volume"]]
    dumped = answer(ctl, "vol-dumpxml", name, "p")
    assert f"<extent start='{extent['start']}' end='{extent['end']}'/>" in dumped["xml"]
    gone = answer(ctl, "vol-delete", name, "p")
    assert gone == {"did": "deleted", "volume": {
        "name": name, "pool": "p", "key": volume["key"], "path": f"/dev/{name}", "type": "block",
    }}  # fmt: skip
    answer(ctl, "pool-destroy", "p")
    sources = answer(ctl, "find-storage-pool-sources", "logical")
    assert "<sources>" in sources["xml"]


def test_a_file_system_with_images(scratch: Scratch, ctl: Program) -> None:
    device, folder = scratch.loop(), scratch.folder / "fs"
    given = ("fs", "--source-dev", device, "--source-format", "ext4", "--target", folder)
    answer(ctl, "pool-define-as", "p", *given)
    assert answer(ctl, "pool-build", "p", "--overwrite")["did"] == "built"
    assert answer(ctl, "pool-start", "p")["pool"]["permissions"]["mode"] is not None
    base = answer(ctl, "vol-create-as", "p", "base", "10M", "--format", "qcow2")["volume"]
    assert (base["format"], base["capacity"]) == ("qcow2", 10 * MIB)
    clone = answer(ctl, "vol-clone", "base", "top", "p", "--linked", "--mode", "0600")
    assert clone["did"] == "cloned"
    assert clone["volume"]["backing"]["path"] == clone["source"]["path"] == base["path"]
    assert clone["volume"]["permissions"]["mode"] == "0600"
    converted = answer(ctl, "vol-clone", "base", "copy", "p", "--verify")
    assert converted["verification"]["verified"] is True
    assert answer(ctl, "vol-resize", "top", "20M", "p")["volume"]["capacity"] == 20 * MIB
    pool = answer(ctl, "pool-info", "p")["pool"]
    status = os.statvfs(folder)
    assert pool["capacity"] == status.f_blocks * status.f_frsize
    names = [volume["name"] for volume in answer(ctl, "vol-list", "p")["volumes"]]
    assert {"base", "copy", "top"} <= set(names)
    stopped = answer(ctl, "pool-destroy", "p")["pool"]
    assert (stopped["state"], stopped["capacity"]) == ("inactive", None)


def test_a_tool_that_fails(scratch: Scratch, ctl: Program) -> None:
    device = scratch.loop()
    given = ("fs", "--source-dev", device, "--target", scratch.folder / "fs")
    answer(ctl, "pool-define-as", "p", *given)
    done = ctl.run("pool-start", "p", "--build", "--json")
    document = json.loads(done.stdout)
    check(document)
    assert (done.returncode, document["ok"]) == (1, False)
    error = document["error"]
    assert error["action"] == "Failed to start pool p"
    assert error["tool"]["arguments"][0].endswith("mount")
    assert error["tool"]["status"] == 32
    assert error["tool"]["stderr"] in error["message"]
