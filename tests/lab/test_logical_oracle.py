"""Logical pools: the same commands with virsh and with storagectl, on the same blank devices."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import devices
from devices import MiB, run
from test_logical import cleaned

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """\
pool-define-as p logical --source-dev DEV1 --source-name labv --target /dev/labv
pool-dumpxml p
pool-start p
pool-build p
pool-build p --no-overwrite
pool-start p
pool-start p
pool-info p
vol-list p
vol-create-as p one 8M
vol-create-as p one 8M
vol-create-as p sp 16M --allocation 4M
vol-create-as p zero 16M --allocation 0
vol-create-as p sn 8M --backing-vol one
vol-create-as p ss 8M --backing-vol sn
vol-create-as p no 8M --backing-vol nosuch
vol-create-as p big 8G
vol-create-as p a/b 8M
vol-create-as p bad@name 8M
vol-create-as p snapshot1 8M
vol-create-as p nil 0
vol-list p
vol-list p --details
vol-dumpxml one p
vol-dumpxml sn p
vol-dumpxml sp p
vol-info one p
vol-info sp p
vol-path one p
vol-pool /dev/labv/one
vol-clone one two p
vol-clone one two p
vol-info two p
vol-resize one 12M p
vol-wipe sp p
vol-wipe two p
vol-delete one p
vol-delete sn p
vol-delete one p
vol-delete nosuch p
pool-refresh p
pool-dumpxml p
pool-info p
pool-destroy p
vol-list p
pool-start p
vol-list p
pool-delete p
pool-undefine p
pool-destroy p
pool-destroy p
pool-build p
pool-build p --no-overwrite
pool-build p --overwrite --no-overwrite
pool-delete p
pool-delete p
pool-start p
pool-undefine p
pool-define-as e logical --source-name nosuch
pool-dumpxml e
pool-start e
pool-delete e
pool-build e
pool-undefine e
pool-define-as m logical --source-dev /dev/nosuch --source-name nosuch
pool-build m
pool-build m --overwrite
pool-undefine m
pool-create-as t logical --source-dev DEV1 --source-name labt --build
pool-list --all
pool-destroy t
pool-create-as t logical --source-dev DEV2 --source-name labt
pool-create-as t logical --source-name labt
vol-create-as t x 4M
pool-destroy t
"""

# What storagectl says otherwise, on purpose, and why.
INTENDED: dict[str, str] = {}


def normal(text: str) -> str:
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\w{6}(-\w{4}){5}-\w{6}", "LVUUID", text)
    text = re.sub(r"(<.time>)[0-9.]+", r"\1TIME", text)
    text = re.sub(r"\((?:/usr)?/sbin/", "(", text)
    text = re.sub(r"^Authorization not available.*\n", "", text, flags=re.MULTILINE)
    return text.replace("\n\n", "\n").strip()


def play(argv: list[str], one: str, two: str) -> list[tuple[str, int, str, str]]:
    found = []
    for line in SCRIPT.splitlines():
        words = line.replace("DEV1", one).replace("DEV2", two).split()
        done = subprocess.run([*argv, *words], capture_output=True, text=True, check=False)
        found.append((line, done.returncode, normal(done.stdout), normal(done.stderr)))
        devices.settle()
    return found


def without_hints(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("hint: "))


def test_same_as_virsh(tmp_path: Path) -> None:
    with devices.libvirtd() as virsh, devices.loop(128 * MiB) as one, devices.loop(64 * MiB) as two:
        played = []
        for argv in (list(virsh), ["storagectl", "--root", str(tmp_path)]):
            with cleaned("labv", one, two), cleaned("labt", one, two):
                played.append(play(argv, one, two))
            for device in (one, two):
                run("wipefs", "-q", "-a", device)
                run("dd", "if=/dev/zero", f"of={device}", "bs=1M", "count=1", "conv=fsync,notrunc")
    differences = []
    for number, (theirs, ours) in enumerate(zip(*played, strict=True)):
        if theirs[:3] != ours[:3] or theirs[3] != without_hints(ours[3]):
            differences.append((f"{number} {theirs[0]}", theirs[1:], ours[1:]))
    report = os.environ.get("LAB_DIFFERENCES", "/lab/results/differences.txt")
    with open(report, "w") as stream:
        print(f"{len(played[0])} commands, {len(differences)} differ", file=stream)
        for line, theirs, ours in differences:
            print(f"## {line}", "-- virsh", *theirs, "-- storagectl", *ours, sep="\n", file=stream)
    assert {line for line, _, _ in differences} == set(INTENDED)
