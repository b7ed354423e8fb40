"""Moving data when something goes wrong: no space, a source that shrinks, signals, SIGKILL.

After each the volumes are as before or as they were to be, and nothing else is there.
STORAGECTL_KILLS is the number of kills at random.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import faults
import inprocess
import pytest
from scratch import MIB, digest, run

from storagectl.host import bulk
from storagectl.host.files import is_staged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scratch import Scratch

TOOLS = ("losetup", "mkfs.ext4", "mkfs.vfat", "parted", "qemu-img")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
KILLS = int(os.environ.get("STORAGECTL_KILLS", "20"))
SIZE = 3 * MIB
FULL = ("No space left on device", "Not enough space left in storage pool")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


class Area:
    """Two dir pools, `p` with the volumes that commands work on and `far`, and files beside."""

    def __init__(self, folder: Path, pool: Path, far: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.pool = pool
        self.far = far
        for name, target in (("p", pool), ("far", far)):
            self.ok("pool-create-as", name, "dir", "--target", target, "--build")
        self.data = folder / "data"
        self.data.write_bytes(os.urandom(SIZE))
        self.originals = folder / "originals"
        self.originals.mkdir()
        for name in ("old", "source"):
            with (self.originals / name).open("wb") as stream:
                stream.write(os.urandom(MIB))
                stream.truncate(SIZE)
                stream.seek(2 * MIB)
                stream.write(os.urandom(MIB // 2))
        run("qemu-img", "convert", "-O", "qcow2", self.data, self.originals / "image")
        (self.originals / "copy").write_text("as before")
        self.restore()

    def restore(self) -> None:
        """Have the volumes as in the beginning."""
        for folder in (self.pool, self.far):
            for path in folder.iterdir():
                path.unlink()
        for name in ("old", "source", "image"):
            shutil.copyfile(self.originals / name, self.pool / name)
        shutil.copyfile(self.originals / "copy", self.far / "copy")

    def run(self, *words: object) -> inprocess.Answer:
        return inprocess.storagectl(self.root, *map(str, words))

    def ok(self, *words: object) -> str:
        answer = self.run(*words)
        assert (answer.status, answer.stderr) == (0, ""), (words, answer)
        return answer.stdout

    def refused(self, *words: object) -> str:
        answer = self.run(*words)
        assert answer.status == 1, (words, answer)
        lines = answer.stderr.strip().splitlines()
        assert [line[:7] for line in lines] == ["error: "] * 2, answer.stderr
        return answer.stderr

    def picture(self) -> dict[str, tuple[object, ...]]:
        """Return what all files are like that are no unfinished ones."""
        found = {}
        for folder in (self.pool, self.far):
            for path in folder.iterdir():
                if not is_staged(path.name):
                    status = path.stat()
                    found[f"{folder.name}/{path.name}"] = (
                        status.st_size, status.st_mode, status.st_uid, digest(path),
                    )  # fmt: skip
        return found

    def unfinished(self) -> list[str]:
        names = [*os.listdir(self.pool), *os.listdir(self.far)]
        return [name for name in names if is_staged(name)]

    def names(self) -> list[str]:
        """Return the names of the volumes of `p`, as the program lists them."""
        lines = self.ok("-q", "vol-list", "p", "--details").splitlines()
        return sorted(line.split()[0] for line in lines)

    def check_listing(self) -> None:
        seen = sorted(name for name in os.listdir(self.pool) if not is_staged(name))
        assert self.names() == seen


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something in the middle of a small copy."""
    monkeypatch.setattr(bulk, "STEP", MIB // 4)
    monkeypatch.setattr(bulk, "BUFFER", MIB // 4)


@pytest.fixture
def area(scratch: Scratch) -> Area:
    return Area(scratch.folder, scratch.folder / "pool", scratch.folder / "far")


def definition(area: Area, format: str) -> Path:
    path = area.folder / f"{format}.xml"
    path.write_text(
        f"<volume><name>new</name><capacity unit='b'>{SIZE}</capacity>"
        f"<target><format type='{format}'/></target></volume>"
    )
    return path


COMMANDS: dict[str, Callable[[Area], list[object]]] = {
    "create": lambda a: ["vol-create-as", "p", "new", SIZE],
    "create qcow2": lambda a: ["vol-create-as", "p", "new", SIZE, "--format", "qcow2"],
    "create from raw": lambda a: ["vol-create-from", "far", definition(a, "raw"), "source",
                                  "--inputpool", "p"],
    "create from qcow2": lambda a: ["vol-create-from", "p", definition(a, "raw"), "image",
                                    "--inputpool", "p"],
    "create from raw as qcow2": lambda a: ["vol-create-from", "p", definition(a, "qcow2"),
                                           "source", "--inputpool", "p"],
    "clone": lambda a: ["vol-clone", "source", "new", "p"],
    "clone qcow2": lambda a: ["vol-clone", "image", "new", "p"],
    "upload": lambda a: ["vol-upload", "old", a.data, "p"],
    "upload sparse": lambda a: ["vol-upload", "old", a.originals / "source", "p", "--sparse"],
    "download": lambda a: ["vol-download", "source", a.far / "copy", "p"],
    "download sparse": lambda a: ["vol-download", "source", a.far / "copy", "p", "--sparse"],
    "resize": lambda a: ["vol-resize", "old", 2 * SIZE, "p"],
    "resize and allocate": lambda a: ["vol-resize", "old", 2 * SIZE, "p", "--allocate"],
    "delete": lambda a: ["vol-delete", "old", "p"],
}  # fmt: skip


# Signals


def normal_run(area: Area, words: list[object]) -> tuple[Any, Any, faults.Outcome]:
    """Return the pictures before and after the command when all is well, and its outcome."""
    before = area.picture()
    outcome = faults.forked(area.root, *words)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    after = area.picture()
    assert area.unfinished() == []
    assert after != before
    area.restore()
    assert area.picture() == before
    return before, after, outcome


def spread(count: int, points: int) -> list[int]:
    """Return about that many of the numbers below `count`, the last among them."""
    return sorted({count - 1 - number * count // points for number in range(points)})


@pytest.mark.parametrize("command", COMMANDS)
def test_signal(area: Area, command: str) -> None:
    """Ctrl-C or TERM at any call: the old state or the new one, and nothing unfinished."""
    words = COMMANDS[command](area)
    before, after, outcome = normal_run(area, words)
    for number in spread(len(outcome.calls), KILLS // 4):
        signum = (signal.SIGINT, signal.SIGTERM)[number % 2]
        ended = faults.forked(area.root, *words, before=faults.sending(number, signum))
        where = (number, outcome.calls[number])
        assert ended.status == 128 + signum, where
        assert "Traceback" not in ended.stderr, where
        assert area.unfinished() == [], where
        assert area.picture() in (before, after), where
        area.restore()


class Kill(NamedTuple):
    command: str
    fraction: float
    by_time: bool


def test_kill(area: Area) -> None:
    """SIGKILL before a call or at some time: the old state or the new one, and it lists."""
    chance = random.Random(KILLS)
    runs = {name: normal_run(area, words(area)) for name, words in COMMANDS.items()}
    for number in range(KILLS):
        name = list(COMMANDS)[number % len(COMMANDS)]
        before, after, usual = runs[name]
        words = COMMANDS[name](area)
        if chance.random() < 0.5:
            where: object = chance.random() * usual.seconds
            faults.forked(area.root, *words, kill_after_s=where)
        else:
            where = chance.randrange(len(usual.calls))
            killing = faults.sending(where, signal.SIGKILL)
            assert faults.forked(area.root, *words, before=killing).status == -signal.SIGKILL
        area.check_listing()
        state = area.picture()
        assert state in (before, after), (name, where, usual.calls)
        if state == before:
            area.ok(*words)
            assert area.picture() == after
            assert area.unfinished() == [], (name, where)
        area.restore()


# No space


@pytest.mark.parametrize(
    "command",
    ["create", "create from raw", "create from qcow2", "create from raw as qcow2", "clone",
     "clone qcow2", "upload", "upload sparse", "download", "download sparse",
     "resize and allocate"],
)  # fmt: skip
def test_full(scratch: Scratch, command: str) -> None:
    """S53: a full file system is an error in words, and everything is as before."""
    room = scratch.mount_new("ext4", "fs", 24 * MIB)
    area = Area(scratch.folder, room / "pool", room / "far")
    words = COMMANDS[command](area)
    os.truncate(area.pool / "old", 0)  # whose blocks would be enough
    os.truncate(area.pool / "old", SIZE)
    with (room / "filler").open("wb", buffering=0) as stream:
        with contextlib.suppress(OSError):
            while True:
                stream.write(bytes(MIB // 16))
        stream.truncate(stream.tell() - MIB // 2)
    before = area.picture()
    assert area.refused(*words).strip().endswith(FULL)
    assert area.picture() == before
    assert area.unfinished() == []
    area.check_listing()
    (room / "filler").unlink()
    area.ok(*words)


# A source that gets shorter


@pytest.mark.parametrize(
    ("command", "shrinking"),
    [("upload", "data"), ("upload sparse", "originals/source"), ("download", "pool/source"),
     ("download sparse", "pool/source"), ("clone", "pool/source"),
     ("create from raw as qcow2", "pool/source")],
)  # fmt: skip
def test_source_that_shrinks(area: Area, command: str, shrinking: str) -> None:
    """What was copied would have a tail of zeros, or be too short."""
    words = COMMANDS[command](area)
    source = area.folder / shrinking
    before, _, usual = normal_run(area, words)
    size = source.stat().st_size
    moving = ("read",) if "qcow2" in command else ("copy_file_range", "pread")
    last = max(number for number, call in enumerate(usual.calls) if call in moving)
    ended = faults.forked(
        area.root, *words, before=faults.at(last, lambda: os.truncate(source, size // 2))
    )
    assert ended.status == 1, ended
    assert "unexpected end of file" in ended.stderr
    assert area.unfinished() == []
    os.truncate(source, size)
    state = area.picture()
    for picture in (state, before):
        picture.pop(f"pool/{source.name}", None)
    assert state == before
