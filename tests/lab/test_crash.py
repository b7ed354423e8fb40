"""S46, S51, S54: SIGKILL in the midst of commands on the lab's devices, for all pool types.

STORAGECTL_CRASHES is how many kills there are in all: 24, and 300 in the long form.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import crashing
import devices
import pytest
from devices import run
from inprocess import Answer, storagectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KILLS = int(os.environ.get("STORAGECTL_CRASHES", "24"))
# that a killed command may have left running
TOOLS = ("iscsiadm", "lvm", "lvcreate", "lvremove", "lvrename", "mount", "mount.nfs", "parted",
         "qemu-img", "umount", "vgchange", "vgs", "lvs")  # fmt: skip

UP, DOWN = "pool-start p --if-inactive", "pool-destroy p --if-active"
NEW = (UP, "vol-delete NEW p --if-exists", "vol-create-as p NEW 8M")
LIFE = [("pool-start p", (DOWN,)), ("pool-destroy p", (UP,)), ("pool-refresh p", (UP,))]
DATA = [
    ("vol-create-as p NEW 8M", NEW[:2]), ("vol-clone KEPT NEW p", NEW[:2]),
    ("vol-delete NEW p", NEW), ("vol-upload NEW DATA p", NEW),
]  # fmt: skip


class Made(NamedTuple):
    """A pool: what follows its name in pool-define-as, and what runs while it is active."""

    words: tuple[str, ...]
    runs: Callable[[], bool] | None = None
    build: bool = False
    kept: str = ""
    new: str = ""


@contextmanager
def of_folder(folder: Path) -> Iterator[Made]:
    yield Made(("dir", "--target", str(folder)), kept="kept", new="new")


@contextmanager
def of_file_system(folder: Path) -> Iterator[Made]:
    with devices.loop() as disk:
        run("mkfs.ext4", "-q", disk)
        words = ("fs", "--source-dev", disk, "--target", str(folder))
        yield Made(words, lambda: str(folder) in devices.mounts(), kept="kept", new="new")


@contextmanager
def of_export(folder: Path) -> Iterator[Made]:
    with devices.nfs_server(), devices.folder() as shared, devices.nfs_export(shared):
        words = ("netfs", "--source-host", "127.0.0.1", "--source-path", shared,
                 "--source-format", "nfs", "--target", str(folder))  # fmt: skip
        yield Made(words, lambda: str(folder) in devices.mounts(), kept="kept", new="new")


@contextmanager
def of_group(folder: Path) -> Iterator[Made]:
    with devices.loop() as one, devices.loop() as two, devices.volume_group(one, two) as group:
        words = ("logical", "--source-name", group, "--source-dev", one, "--source-dev", two)
        yield Made(words, kept="kept", new="new")


@contextmanager
def of_disk(folder: Path) -> Iterator[Made]:
    with devices.loop() as disk:
        words = ("disk", "--source-dev", disk, "--source-format", "gpt", "--target", "/dev")
        name = os.path.basename(disk)
        try:
            yield Made(words, build=True, kept=f"{name}p1", new=f"{name}p2")
        finally:
            run("wipefs", "-q", "-a", disk)
            run("partx", "--delete", disk, ok=(0, 1))


@contextmanager
def of_target(folder: Path) -> Iterator[Made]:
    with devices.iscsid(), devices.iscsi_target() as target:
        words = ("iscsi", "--source-host", "127.0.0.1", "--source-dev", target.iqn, "--target",
                 "/dev/disk/by-path", "--source-initiator", "iqn.2026-11.lab:killed")  # fmt: skip
        try:
            yield Made(words, lambda: target.iqn in devices.sessions())
        finally:
            devices.logout(target)
            for line in run("iscsiadm", "--mode", "iface").splitlines():
                if line.startswith("storagectl-iface-"):
                    name = line.split()[0]
                    run("iscsiadm", "--mode", "iface", "--interface", name, "--op", "delete")


@contextmanager
def of_adapter(folder: Path) -> Iterator[Made]:
    with devices.scsi_debug() as (host,):
        yield Made(("scsi", "--adapter-name", host.name, "--target", "/dev/disk/by-path"))


@contextmanager
def of_maps(folder: Path) -> Iterator[Made]:
    with devices.multipath():
        yield Made(("mpath", "--target", "/dev/mapper"))


TYPES = {
    "dir": of_folder, "fs": of_file_system, "netfs": of_export, "logical": of_group,
    "disk": of_disk, "iscsi": of_target, "scsi": of_adapter, "mpath": of_maps,
}  # fmt: skip


class Pool:
    """The pool `p` on a device, and the program."""

    def __init__(self, folder: Path, made: Made) -> None:
        self.root = folder / "root"
        self.made = made
        self.data = folder / "data"
        self.data.write_bytes(b"new" * 100_000)
        self.ok("pool-define-as", "p", *made.words)
        self.ok("pool-start", "p", *(["--build", "--overwrite"] if made.build else []))
        self.digest = ""
        if made.kept:
            self.ok("vol-create-as", "p", made.kept, "8M")
            self.ok("vol-upload", made.kept, str(self.data), "p")
            self.digest = self.kept()

    def kept(self) -> str:
        """Return a sum over the volume that nothing may happen to."""
        path = self.ok("-q", "vol-path", self.made.kept, "p").strip()
        return hashlib.md5(Path(path).read_bytes()).hexdigest()

    def run(self, *words: str) -> Answer:
        return storagectl(self.root, *words, hints=True)

    def ok(self, *words: str) -> str:
        answer = self.run(*words)
        assert answer.status == 0, (words, answer)
        return answer.stdout

    def words(self, text: str) -> list[str]:
        places = {"NEW": self.made.new, "KEPT": self.made.kept, "DATA": str(self.data)}
        return [places.get(word, word) for word in text.split()]

    def begin(self, before: tuple[str, ...]) -> None:
        for line in before:
            self.ok(*self.words(line))

    def check(self, words: list[str]) -> None:
        devices.wait_for("tools end", lambda: not any(map(devices.pids, TOOLS)))
        devices.settle()
        etc, var = self.root / "etc/storagectl/storage", self.root / "run/storagectl/storage"
        crashing.documents((etc, var))
        assert self.ok("-q", "pool-list", "--all", "--name").split() == ["p"]
        active = "p" in self.ok("-q", "pool-list", "--name").split()
        if self.made.runs is not None:
            assert self.made.runs() == active, "what runs is not what is told"
        if active:
            self.ok("vol-list", "p", "--details")
        crashing.repeat(self.run, words)
        self.ok(*UP.split())
        assert not crashing.unfinished(self.root)
        if self.digest:
            assert self.kept() == self.digest
            assert ".storagectl" not in self.ok("-q", "vol-list", "p")


@pytest.mark.parametrize("kind", TYPES)
def test_s51_killed_in_the_lab(kind: str, tmp_path: Path) -> None:
    tally = crashing.Tally(f"SIGKILL, {kind} in the lab")
    target = tmp_path / "pool"
    target.mkdir()
    wanted = -(-KILLS // len(TYPES))
    with ExitStack() as stack:
        pool = Pool(tmp_path, stack.enter_context(TYPES[kind](target)))
        cases = [*LIFE, *(DATA if pool.made.kept else [])]
        counts = Counter(number * len(cases) // wanted for number in range(wanted))
        for turn, count in sorted(counts.items()):
            text, before = cases[turn]
            words = pool.words(text)
            pool.begin(before)
            usual = crashing.run(pool.root, *words)
            assert usual.status == 0, usual
            for number in crashing.points(len(usual.changes) - 1, count, 5 * turn + KILLS):
                pool.begin(before)
                killed = crashing.run(pool.root, *words, kill_before=number)
                where = f"{text} before {number} {usual.changes[number]}"
                with tally.trying(where, done=killed.status == -9):
                    # in how many pieces data is copied is the kernel's choice
                    assert killed.status == -9 or len(killed.changes) <= number, killed
                    pool.check(words)
        if pool.made.new and kind in ("logical", "disk"):
            pool.run("vol-delete", pool.made.new, "p")
        pool.ok(*DOWN.split())
    tally.check()
