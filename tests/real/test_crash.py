"""S51, S54, S56: SIGKILL in the midst of commands on real devices, and of the real program.

In `tests/cli/test_crash.py` the machine is made of files; here it is loop devices and mounts, and
strace kills the program as it is installed at the Nth of each system call that changes something.
STORAGECTL_CRASHES is how many kills each command has; `all` is all of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import crashing
import inprocess
import pytest
from scratch import MIB, backing_files, digest, is_mounted, make, mounts, processes_in
from waiting import wait_for

from storagectl.host import Host

if TYPE_CHECKING:
    from scratch import Program, Scratch

ASKED = os.environ.get("STORAGECTL_CRASHES", "1")
WANTED = None if ASKED == "all" else int(ASKED)
TOOLS = ("losetup", "mkfs.ext4", "parted", "qemu-img", "strace")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
SIZE = 64 * MIB

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


class Case(NamedTuple):
    """A command, the commands that make what it begins with, and whether bytes may be mixed."""

    words: str
    before: tuple[str, ...]
    types: tuple[str, ...] = ("dir", "fs", "disk")


UP = ("pool-start p --if-inactive", "vol-delete NEW p --if-exists")
DOWN = ("pool-destroy p --if-active",)
CASES = [
    Case("pool-start p", DOWN),
    Case("pool-destroy p", UP),
    Case("pool-autostart p", ("pool-autostart p --disable",)),
    Case("pool-refresh p", UP),
    Case("vol-create-as p NEW 2M", UP),
    Case("vol-create-as p NEW 2M --format qcow2", UP, ("dir", "fs")),
    Case("vol-clone KEPT NEW p", UP),
    Case("vol-delete NEW p", (*UP, "vol-create-as p NEW 2M")),
    Case("vol-upload NEW DATA p", (*UP, "vol-create-as p NEW 2M")),
    Case("vol-wipe NEW p", (*UP, "vol-create-as p NEW 2M", "vol-upload NEW DATA p")),
    Case("vol-resize NEW 3M p", (*UP, "vol-create-as p NEW 2M"), ("dir", "fs")),
    Case("vol-rename NEW moved p", (*UP, "vol-delete moved p --if-exists",
                                    "vol-create-as p NEW 2M"), ("dir", "fs")),
]  # fmt: skip


class Area:
    """A pool `p` on a device of its own, with a volume that nothing may happen to."""

    def __init__(self, scratch: Scratch, kind: str) -> None:
        self.folder = scratch.folder
        self.root = scratch.folder / "root"
        self.target = scratch.folder / "pool"
        self.target.mkdir()
        (scratch.folder / "data").write_bytes(b"new" * 500_000)
        self.kind = kind
        self.kept, self.new = "kept", "new"
        if kind == "dir":
            words = ["--target", self.target]
        elif kind == "fs":
            device = scratch.loop(SIZE)
            make("ext4", device)
            words = ["--source-dev", device, "--source-format", "ext4", "--target", self.target]
        else:
            device = scratch.loop(SIZE)
            words = ["--source-dev", device, "--source-format", "gpt", "--target", "/dev"]
            name = os.path.basename(device)
            self.kept, self.new = f"{name}p1", f"{name}p2"
        self.ok("pool-define-as", "p", kind, *words)
        self.ok("pool-build", "p", *(["--overwrite"] if kind == "disk" else []))
        self.ok("pool-start", "p")
        self.ok("vol-create-as", "p", self.kept, 2 * MIB)
        self.ok("vol-upload", self.kept, self.folder / "data", "p")
        self.path = self.ok("-q", "vol-path", self.kept, "p").strip()
        self.digest = digest(self.path)

    def words(self, text: str) -> list[str]:
        places = {"NEW": self.new, "KEPT": self.kept, "DATA": str(self.folder / "data")}
        return [places.get(word, word) for word in text.split()]

    def run(self, *words: object) -> inprocess.Answer:
        return inprocess.storagectl(self.root, *map(str, words), hints=True)

    def ok(self, *words: object) -> str:
        answer = self.run(*words)
        said = re.sub("^(Gone|Kept|hint): .*\n", "", answer.stderr, flags=re.MULTILINE)
        assert (answer.status, said) == (0, ""), (words, answer)
        return answer.stdout

    def settle(self) -> None:
        """Wait for the tools that the killed program had started."""
        wait_for(lambda: not processes_in(str(self.folder)), "tools end")

    def check(self, words: list[str]) -> None:
        config, markers = (self.root / name for name in ("etc/storagectl/storage",
                                                         "run/storagectl/storage"))  # fmt: skip
        crashing.documents((config, markers))
        assert self.ok("-q", "pool-list", "--all", "--name").split() == ["p"]
        active = bool(self.ok("-q", "pool-list", "--name").split())
        if self.kind == "fs":
            here = [m for m in mounts() if m.target == str(self.target)]
            assert len(here) == int(active), here
        if active:
            self.ok("vol-list", "p", "--details")
        crashing.repeat(self.run, words)
        assert not crashing.unfinished(self.root, self.target)
        self.run("pool-start", "p", "--if-inactive")
        assert digest(self.path) == self.digest
        assert self.kept in self.ok("-q", "vol-list", "p")


@pytest.fixture(autouse=True)
def _own_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has changed its namespace since it opened the kernel's list."""
    read = Path("/proc/self/mountinfo").read_text
    monkeypatch.setattr(Host, "mounts", lambda host: read(errors="surrogateescape"))


@pytest.mark.parametrize("kind", ["dir", "fs", "disk"])
def test_s54_killed_on_real_devices(kind: str, scratch: Scratch) -> None:
    tally = crashing.Tally(f"SIGKILL, {kind} on real devices")
    area = Area(scratch, kind)
    for seed, case in enumerate(CASES):
        if kind not in case.types:
            continue
        words = area.words(case.words)

        def begin(case: Case = case) -> None:
            for line in case.before:
                area.ok(*area.words(line))

        for _ in range(2):  # folders of ours are made once
            begin()
            usual = crashing.run(area.root, *words)
            assert usual.status == 0, usual
        for number in crashing.points(len(usual.changes) - 1, WANTED, 5 * seed):
            begin()
            killed = crashing.run(area.root, *words, kill_before=number)
            area.settle()
            where = f"{case.words} before {number} {usual.changes[number]}"
            with tally.trying(where, done=killed.status == -9):
                # in how many pieces data is copied is the kernel's choice
                assert killed.status == -9 or len(killed.changes) <= number, killed
                area.check(words)
    area.ok("pool-destroy", "p")
    assert not is_mounted(area.target)
    assert kind == "dir" or len(backing_files()) >= 1
    tally.check()


# The program as it is installed

OUTSIDE = [
    Case("pool-define-as q dir --target POOL", ("pool-undefine q --if-exists",)),
    Case("pool-edit q", ("pool-undefine q --if-exists", "pool-define-as q dir --target POOL")),
    Case("pool-undefine q", ("pool-undefine q --if-exists", "pool-define-as q dir --target POOL",
                             "pool-autostart q")),
    Case("pool-autostart q", ("pool-undefine q --if-exists",
                              "pool-define-as q dir --target POOL")),
    Case("vol-create-as p NEW 2M", UP),
    Case("vol-create-as p NEW 2M --format qcow2", UP),
    Case("vol-clone KEPT NEW p", UP),
    Case("vol-delete NEW p", (*UP, "vol-create-as p NEW 2M")),
    Case("vol-resize NEW 3M p", (*UP, "vol-create-as p NEW 2M")),
    Case("vol-upload NEW DATA p", (*UP, "vol-create-as p NEW 2M")),
]  # fmt: skip
SYSTEM_CALLS = (
    "chmod", "chown", "copy_file_range", "fallocate", "fchmod", "fchmodat", "fchownat", "fdatasync",
    "fsync", "ftruncate", "link", "linkat", "mkdir", "mkdirat", "pwrite64", "rename", "renameat2",
    "symlink", "symlinkat", "unlink", "unlinkat", "write",
)  # fmt: skip


def strace(ctl: Program, words: list[str], *options: str) -> int:
    """Run the program below strace.  Returns: its exit status, or minus the signal."""
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", f"trace={','.join(SYSTEM_CALLS)}",
         *options, *ctl.argv(*words)],
        check=False, capture_output=True, timeout=120,
        env={**os.environ, "EDITOR": "sed -i s/0711/0751/"},
    )  # fmt: skip
    return done.returncode


def test_s51_killed_from_outside(
    ctl: Program, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the Nth of each system call, N from 1 until the program ends by itself."""
    monkeypatch.setenv("EDITOR", "sed -i s/0711/0751/")
    tally = crashing.Tally("SIGKILL, by strace")
    area = Area(scratch, "dir")
    log = scratch.folder / "calls"
    for seed, case in enumerate(OUTSIDE):
        target = str(scratch.folder / "other")
        words = [target if word == "POOL" else word for word in area.words(case.words)]

        def begin(case: Case = case, target: str = target) -> None:
            for line in case.before:
                area.ok(*(target if word == "POOL" else word for word in area.words(line)))

        begin()
        assert strace(ctl, words, "-o", str(log)) == 0, words
        calls = counted(log)
        for number in crashing.points(len(calls) - 1, WANTED, 11 * seed):
            (name, nth), own = calls[number]
            begin()
            inject = f"inject={name}:signal=KILL:when={nth}"
            status = strace(ctl, words, "-o", str(log), "-e", inject)
            area.settle()
            done = status == -9 or "killed by SIGKILL" in log.read_text()
            with tally.trying(f"{case.words} at {name} {nth}", done=done):
                # threads of qemu-img share its calls as it happens
                assert done or not own or name == "copy_file_range", "it was not killed"
                check_outside(area, words)
    tally.check()


def counted(log: Path) -> list[tuple[tuple[str, int], bool]]:
    """Return each call that strace has seen, with its number in its process among its kind.

    And whether it is the program's own, which makes the first of them.
    """
    seen: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, int], bool] = {}
    rows = re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE)
    for pid, name in rows:
        seen[pid, name] = seen.get((pid, name), 0) + 1
        found.setdefault((name, seen[pid, name]), pid == rows[0][0])
    return list(found.items())


def check_outside(area: Area, words: list[str]) -> None:
    pools = area.ok("-q", "pool-list", "--all", "--name").split()
    assert pools in (["p"], ["p", "q"])
    config = area.root / "etc/storagectl/storage"
    crashing.documents((config, area.root / "run/storagectl/storage"))
    if area.ok("-q", "pool-list", "--name").split():
        for line in area.ok("-q", "vol-list", "p", "--details").splitlines():
            assert line.split()[0] in (area.kept, area.new)
    crashing.repeat(area.run, words)
    area.ok("pool-refresh", "p")
    assert not crashing.unfinished(area.root, area.target)
    assert digest(area.path) == area.digest
    if "pool-" not in words[0] and words[0] != "vol-delete":
        new = area.target / area.new
        size = {"vol-resize": 3 * MIB}.get(words[0], 2 * MIB)
        info = area.ok("vol-info", area.new, "p", "--bytes")
        assert f"{size} bytes" in info, info
        if words[0] == "vol-clone":
            assert digest(new) == area.digest
