"""Many processes at the same moment: one wins, the others say why, and nothing is lost.

STORAGECTL_RACERS is how many processes there are in a round, STORAGECTL_RACE_ROUNDS how many
rounds each race has.  `pytest -rP tests/real/test_races.py | grep ^races:` tells what came out.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import inprocess
import pytest
import tally
from crowd import Run, begin, together
from scratch import MIB, make, mounts, run
from waiting import wait_for

from storagectl.host.files import is_staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scratch import Scratch

RACERS = int(os.environ.get("STORAGECTL_RACERS", "8"))
ROUNDS = int(os.environ.get("STORAGECTL_RACE_ROUNDS", "3"))
HALF = RACERS // 2
UUID = "22222222-2222-4222-8222-{:012d}"
BUSY = "has asynchronous jobs running"
GONE = ("no storage pool with matching", "is not active", "no storage vol with matching")

pytestmark = pytest.mark.root


class Area:
    """A dir pool `p` that runs, and room for others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.pool = folder / "pool"
        self.processes = 1
        self.ok("pool-define-as", "p", "dir", "--target", self.pool)
        self.ok("pool-start", "p", "--build")

    def run(self, *words: object) -> inprocess.Answer:
        return inprocess.storagectl(self.root, *map(str, words))

    def ok(self, *words: object) -> str:
        answer = self.run(*words)
        assert (answer.status, answer.stderr) == (0, ""), (words, answer)
        return answer.stdout

    def race(self, *lines: Sequence[object]) -> list[inprocess.Answer]:
        """Run commands at the same moment, in an order of chance; all must end."""
        self.processes = max(self.processes, len(lines))
        order = list(range(len(lines)))
        random.shuffle(order)
        answers = dict(zip(order, together(self.root, [lines[n] for n in order]), strict=True))
        found = [answers[number] for number in range(len(lines))]
        for words, answer in zip(lines, found, strict=True):
            assert answer.status in (0, 1), (words, answer)
            errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
            assert len(errors) == 2 * answer.status, (words, answer)
        return found

    def names(self) -> list[str]:
        lines = self.ok("-q", "vol-list", "p").splitlines()
        return [line.split()[0] for line in lines]

    def pools(self) -> list[str]:
        return self.ok("pool-list", "--all", "--name").split()

    def check(self) -> None:
        """Nothing unfinished is left, and what is listed is what is there."""
        left = [path for path in self.folder.rglob(".storagectl-*") if is_staged(path.name)]
        assert left == []
        assert sorted(self.names()) == sorted(os.listdir(self.pool))


@pytest.fixture
def area(scratch: Scratch) -> Area:
    return Area(scratch.folder)


def rounds(area: Area, name: str, one: Callable[[int], object]) -> None:
    """Run the rounds of a race and count them, by what came out."""
    outcomes = Counter[object]()
    for number in range(ROUNDS):
        with tally.counted("rounds of races"):
            outcomes[one(number)] += 1
            area.check()
    shown = ", ".join(f"{what}: {count}" for what, count in outcomes.items() if what)
    print(f"races: {name}: {area.processes} processes, {ROUNDS} rounds  {shown}")


def winner(answers: Sequence[inprocess.Answer], *words: str) -> int:
    """Return which one has succeeded; all others have failed with one of those words."""
    won = [number for number, answer in enumerate(answers) if answer.status == 0]
    assert len(won) == 1, answers
    for number, answer in enumerate(answers):
        assert number in won or any(word in answer.stderr for word in words), answer
    return won[0]


def succeeded(answers: Sequence[inprocess.Answer], *words: str) -> int:
    """Return how many have succeeded; all others have failed with one of those words."""
    for answer in answers:
        assert answer.status == 0 or any(word in answer.stderr for word in words), answer
    return sum(answer.status == 0 for answer in answers)


def definition(area: Area, name: str, uuid: str = "", target: str = "") -> Path:
    path = area.folder / f"{name}{uuid}.xml"
    path.write_text(
        f"<pool type='dir'><name>{name}</name>{f'<uuid>{uuid}</uuid>' if uuid else ''}"
        f"<target><path>{area.folder}/{target or name}</path></target></pool>"
    )
    return path


# Volumes


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_s57_create_the_same_volume(area: Area, format: str) -> None:
    """One wins, the others say that it exists."""

    def one(number: int) -> None:
        name = f"v{number}"
        line = ["vol-create-as", "p", name, "64K", "--format", format]
        winner(area.race(*[line] * RACERS), "exists", "already in use")
        assert name in area.names()

    rounds(area, f"create the same {format} volume", one)


def test_s57_create_different_volumes(area: Area) -> None:
    def one(number: int) -> None:
        names = [f"v{number}-{racer}" for racer in range(RACERS)]
        area.race(*(["vol-create-as", "p", name, "64K"] for name in names))
        assert set(names) <= set(area.names())

    rounds(area, "create different volumes", one)


def test_s57_clone_to_the_same_name(area: Area) -> None:
    """What has the name in the end is a whole copy of one of the volumes."""
    contents = [bytes([racer + 1]) * MIB for racer in range(RACERS)]
    for racer, content in enumerate(contents):
        (area.pool / f"source{racer}").write_bytes(content)

    def one(number: int) -> None:
        lines = [["vol-clone", f"source{racer}", "copy", "p"] for racer in range(RACERS)]
        won = winner(area.race(*lines), "exists", "already in use")
        assert (area.pool / "copy").read_bytes() == contents[won]
        area.ok("vol-delete", "copy", "p")

    rounds(area, "clone to the same name", one)


def test_s57_rename_to_the_same_name(area: Area) -> None:
    def one(number: int) -> None:
        names = [f"v{number}-{racer}" for racer in range(RACERS)]
        for name in names:
            (area.pool / name).write_text(name)
        new = f"new{number}"
        won = winner(
            area.race(*(["vol-rename", name, new, "p"] for name in names)),
            "exists", "already in use",
        )  # fmt: skip
        assert (area.pool / new).read_text() == names[won]
        assert set(names) - set(area.names()) == {names[won]}

    rounds(area, "rename to the same name", one)


def test_s57_upload_into_the_same_volume(area: Area) -> None:
    """It holds what one of those that succeeded has brought, from the first byte to the last."""
    contents = [bytes([racer + 1]) * MIB for racer in range(RACERS)]
    files = [area.folder / f"data{racer}" for racer in range(RACERS)]
    for path, content in zip(files, contents, strict=True):
        path.write_bytes(content)
    area.ok("vol-create-as", "p", "v", "1M")

    def one(number: int) -> str:
        answers = area.race(*(["vol-upload", "v", path, "p"] for path in files))
        done = succeeded(answers, "is being worked on by", "has just been replaced")
        brought = [c for c, answer in zip(contents, answers, strict=True) if answer.status == 0]
        assert (area.pool / "v").read_bytes() in brought
        return f"{done} after another"

    rounds(area, "upload into the same volume", one)


def test_s57_create_and_delete_the_same_volume(area: Area) -> None:
    """No delete succeeds that had nothing to delete."""

    def one(number: int) -> str:
        lines = [["vol-create-as", "p", "v", "64K"]] * HALF + [["vol-delete", "v", "p"]] * HALF
        answers = area.race(*lines)
        made = succeeded(answers[:HALF], "exists", "already in use")
        deleted = succeeded(answers[HALF:], *GONE, "No such file", "worked on by")
        assert made - deleted == ("v" in area.names())
        if made > deleted:
            area.ok("vol-delete", "v", "p")
        return f"{deleted} deleted"

    rounds(area, "create and delete the same volume", one)


def test_s59_delete_while_listing(area: Area) -> None:
    """A list never fails, and has what nobody deletes."""
    for name in ("kept", "stays"):
        area.ok("vol-create-as", "p", name, "64K")
    lists = [
        ["-q", "vol-list", "p"], ["-q", "vol-list", "p", "--details"], ["vol-list", "p", "--json"],
        ["pool-list", "--all", "--details"], ["pool-info", "p"], ["vol-info", "kept", "p"],
        ["status", "--volumes"], ["pool-list", "--json"],
    ]  # fmt: skip

    def one(number: int) -> None:
        names = [f"v{number}-{racer}" for racer in range(HALF)]
        for name in names:
            area.ok("vol-create-as", "p", name, "64K", "--format", "qcow2")
        shown = [lists[racer % len(lists)] for racer in range(RACERS - HALF)]
        answers = area.race(*(["vol-delete", name, "p"] for name in names), *shown)
        for words, answer in zip([*names, *shown], answers, strict=True):
            assert (answer.status, answer.stderr) == (0, ""), (words, answer)
            if "vol-list" in words:
                assert {"kept", "stays"} <= set(answer.stdout.replace('"', " ").split())
        assert set(area.names()) == {"kept", "stays"}

    rounds(area, "delete while listing", one)


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
def test_s57_an_image_is_no_raw_data_while_it_is_replaced(area: Area) -> None:
    """Who replaces it asks the kernel for a moment whether anybody has it open."""
    image = area.folder / "image"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "3M")
    area.ok("vol-create-as", "p", "v", "3M", "--format", "qcow2")

    def one(number: int) -> None:
        shown = [["vol-dumpxml", "v", "p"]] * (RACERS - HALF)
        answers = area.race(*[["vol-upload", "v", image, "p"]] * HALF, *shown)
        assert succeeded(answers[:HALF], "is being worked on by", "has just been replaced")
        for answer in answers[HALF:]:
            assert answer.status == 0, answer
            assert "<format type='qcow2'/>" in answer.stdout
            assert "<capacity unit='bytes'>3145728</capacity>" in answer.stdout

    rounds(area, "look at an image while it is replaced", one)


# Pools


def test_s57_define_the_same_pool(area: Area) -> None:
    """Without a UUID each would make one of its own: one wins."""

    def one(number: int) -> None:
        path = definition(area, f"d{number}")
        winner(area.race(*[["pool-define", path]] * RACERS), "already exists with uuid")
        assert area.pools() == sorted(["p", *(f"d{n}" for n in range(number + 1))], key=natural)

    rounds(area, "define the same pool", one)


def natural(name: str) -> tuple[str, str]:
    return name.lower(), name


def test_s13_s57_define_with_other_uuids(area: Area) -> None:
    """The definition is that of the winner; with one UUID all may define it."""

    def one(number: int) -> None:
        uuids = [UUID.format(100 * number + racer) for racer in range(RACERS)]
        paths = [definition(area, f"d{number}", uuid) for uuid in uuids]
        answers = area.race(*(["pool-define", path] for path in paths))
        won = winner(answers, "already exists with uuid")
        assert area.ok("pool-uuid", f"d{number}").strip() == uuids[won]
        answers = area.race(*[["pool-define", paths[won]]] * RACERS)
        assert succeeded(answers) == RACERS

    rounds(area, "define with other UUIDs", one)


def test_s13_s57_define_other_names_with_the_same_uuid(area: Area) -> None:
    def one(number: int) -> None:
        uuid = UUID.format(number)
        paths = [definition(area, f"n{number}-{racer}", uuid) for racer in range(RACERS)]
        answers = area.race(*(["pool-define", path] for path in paths))
        won = winner(answers, "is already defined with uuid")
        assert area.ok("pool-name", uuid).strip() == f"n{number}-{won}"

    rounds(area, "define other names with one UUID", one)


def test_s57_create_pools_on_the_same_folder(area: Area) -> None:
    def one(number: int) -> None:
        names = [f"t{number}-{racer}" for racer in range(RACERS)]
        target = area.folder / f"shared{number}"
        line = ["dir", "--build", "--target", target]
        answers = area.race(*(["pool-create-as", name, *line] for name in names))
        won = winner(answers, "Storage source conflict with pool")
        assert area.pools() == sorted(["p", names[won]], key=natural)
        area.ok("pool-destroy", names[won])

    rounds(area, "create pools on the same folder", one)


def test_s57_define_and_undefine(area: Area) -> None:
    def one(number: int) -> str:
        path = definition(area, "d")
        answers = area.race(*[["pool-define", path]] * HALF, *[["pool-undefine", "d"]] * HALF)
        defined = succeeded(answers[:HALF], "already exists with uuid")
        undefined = succeeded(answers[HALF:], *GONE)
        assert defined - undefined == ("d" in area.pools())
        if defined > undefined:
            area.ok("pool-undefine", "d")
        return f"{undefined} undefined"

    rounds(area, "define and undefine", one)


def test_s57_start_and_undefine(area: Area) -> None:
    """A pool that has been started is not undefined, and one that is undefined not started."""
    path = definition(area, "d")

    def one(number: int) -> str:
        area.ok("pool-define", path)
        area.ok("pool-autostart", "d")
        lines = [["pool-start", "d", "--build"]] * HALF + [["pool-undefine", "d"]] * HALF
        answers = area.race(*lines)
        started = succeeded(answers[:HALF], *GONE, "is already active")
        undefined = succeeded(answers[HALF:], *GONE, "is still active")
        assert (started, undefined) in ((1, 0), (0, 1)), answers
        assert ("d" in area.pools()) == bool(started)
        links = area.root / "etc/storagectl/storage/autostart"
        assert os.listdir(links) == (["d.xml"] if started else [])
        if started:
            area.ok("pool-destroy", "d")
            area.ok("pool-undefine", "d")
        return "started" if started else "undefined"

    rounds(area, "start and undefine", one)


def test_s57_create_volumes_and_destroy_the_pool(area: Area) -> None:
    """What a create has promised is there, and what it has refused is not."""

    def one(number: int) -> str:
        names = [f"v{number}-{racer}" for racer in range(RACERS - 1)]
        lines = [["vol-create-as", "p", name, "64K"] for name in names]
        *answers, destroyed = area.race(*lines, ["pool-destroy", "p"])
        succeeded(answers, *GONE)
        assert destroyed.status == 0 or BUSY in destroyed.stderr
        if destroyed.status == 0:
            area.ok("pool-start", "p")
        made = {n for n, answer in zip(names, answers, strict=True) if answer.status == 0}
        assert {name for name in area.names() if name in names} == made
        return "refused" if destroyed.status else "destroyed"

    rounds(area, "create volumes and destroy the pool", one)


def test_s57_start_the_same_pool(scratch: Scratch) -> None:
    """A file system is mounted once."""
    device = scratch.loop()
    make("ext4", device)
    area = Area(scratch.folder)
    target = area.folder / "mnt"
    area.ok("pool-define-as", "f", "fs", "--source-dev", device, "--target", target)
    target.mkdir()

    def one(number: int) -> None:
        winner(area.race(*[["pool-start", "f"]] * RACERS), "is already active")
        assert [mount.target for mount in mounts()].count(str(target)) == 1
        winner(area.race(*[["pool-destroy", "f"]] * RACERS), "is not active")
        assert str(target) not in [mount.target for mount in mounts()]

    rounds(area, "start, and destroy, the same fs pool", one)


# Those that hold a lock


@contextmanager
def uploading(area: Area) -> Iterator[tuple[Run, int]]:
    """A process that waits for the data of `p`'s volume `v`, and where to write them."""
    fifo = area.folder / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
        area.ok("vol-create-as", "p", "v", "64K")
    upload = begin(area.root, "vol-upload", "v", fifo, "p")
    writer = os.open(fifo, os.O_WRONLY)
    try:
        locked = [area.root / "run/storagectl/lock/p", area.pool / "v"]
        inodes = [f":{path.stat().st_ino} " for path in locked]
        wait_for(lambda: all(i in Path("/proc/locks").read_text() for i in inodes), "no upload")
        yield upload, writer
    finally:
        os.close(writer)


def test_s57_destroy_while_uploading(area: Area) -> None:
    """All are refused at once, and the upload does what it was to do."""

    def one(number: int) -> None:
        with uploading(area) as (upload, writer):
            lines = [["pool-destroy", "p"], ["pool-undefine", "p"], ["vol-delete", "v", "p"]]
            answers = area.race(*(lines[racer % 3] for racer in range(RACERS)))
            assert succeeded(answers, BUSY, f"is being worked on by process {upload.pid} (") == 0
            hinted = inprocess.storagectl(area.root, "pool-destroy", "p", hints=True)
            assert f"hint: held by process {upload.pid} (" in hinted.stderr
            os.write(writer, bytes([number + 1]) * 4096)
        assert upload.answer().status == 0
        assert (area.pool / "v").read_bytes()[:4096] == bytes([number + 1]) * 4096

    rounds(area, "destroy while uploading", one)


def test_s59_a_killed_process_blocks_nobody(area: Area) -> None:
    """SIGKILL while it holds the pool and the volume: what comes next does not wait."""

    def one(number: int) -> None:
        with uploading(area) as (upload, _):
            os.kill(upload.pid, signal.SIGKILL)
            assert upload.answer().status == -signal.SIGKILL
        (area.root / "etc/storagectl/config.toml").write_text("[time-limits]\nlock = 0.001\n")
        area.ok("pool-destroy", "p")
        area.ok("pool-start", "p")
        area.ok("vol-delete", "v", "p")
        area.ok("vol-create-as", "p", "v", "64K")
        (area.root / "etc/storagectl/config.toml").unlink()

    rounds(area, "killed with locks", one)


def test_s59_waiting_is_bounded_and_names_the_holder(area: Area) -> None:
    """All who wait give up when the configured time is over, and say for whom they waited."""
    (area.root / "etc/storagectl/config.toml").write_text("[time-limits]\nlock = 0.2\n")
    lock = area.root / "run/storagectl/lock/p"
    comm = Path("/proc/self/comm").read_text().strip()
    lines = [
        ["pool-destroy", "p"], ["pool-autostart", "p"], ["vol-create-as", "p", "v", "1K"],
        ["pool-refresh", "p"], ["pool-undefine", "p", "--forget"],
    ]  # fmt: skip

    def one(number: int) -> None:
        with lock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            answers = area.race(*(lines[racer % len(lines)] for racer in range(RACERS)))
            listed = area.race(*[["pool-list", "--details"], ["vol-list", "p"]])
        who = f"resource busy: pool 'p' is being changed by process {os.getpid()} ({comm})\n"
        assert succeeded(answers, who) == 0
        assert succeeded(listed) == 2

    rounds(area, "waiting in vain", one)


def test_s57_a_lock_file_that_was_removed_does_not_let_two_in(area: Area) -> None:
    lock = area.root / "run/storagectl/lock/p"
    with lock.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        waiting = begin(area.root, "pool-destroy", "p")
        folder = f"/proc/{waiting.pid}/fd"
        wait_for(lambda: str(lock) in links(folder), "it does not wait for the lock")
        lock.unlink()
        with lock.open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            fcntl.flock(stream, fcntl.LOCK_UN)
            wait_for(lambda: str(lock) in links(folder), "it does not open the new one")
            assert area.ok("pool-info", "p")
    assert waiting.answer().status == 0


def links(folder: str) -> list[str]:
    found = []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{name}"))
        except FileNotFoundError:
            continue
    return found


# Secrets


def test_s57_set_and_undefine_a_secret(area: Area) -> None:
    """No value outlives its secret."""
    secrets = area.root / "etc/storagectl/secrets"
    path = area.folder / "secret.xml"
    uuid = UUID.format(7)
    path.write_text(
        f"<secret><uuid>{uuid}</uuid><usage type='iscsi'><target>t</target></usage></secret>"
    )
    value = area.folder / "value"
    value.write_text("c2VjcmV0")

    def one(number: int) -> None:
        area.ok("secret-define", path)
        line = ["secret-set-value", uuid, "--file", value]
        answers = area.race(*[line] * (RACERS - 1), ["secret-undefine", uuid])
        assert answers[-1].status == 0
        succeeded(answers, "no secret with matching uuid")
        assert os.listdir(secrets) == []

    rounds(area, "set and undefine a secret", one)


# Partitions


@pytest.mark.skipif(not shutil.which("parted"), reason="needs parted")
def test_s62_partitions(scratch: Scratch) -> None:
    """What a create has answered is there, what a delete has answered is gone."""
    device = scratch.loop(256 * MIB)
    area = Area(scratch.folder)
    area.ok("pool-define-as", "d", "disk", "--source-dev", device, "--source-format", "gpt",
            "--target", "/dev")  # fmt: skip
    area.ok("pool-build", "d", "--overwrite")
    area.ok("pool-start", "d")
    base = os.path.basename(device)

    def one(number: int) -> None:
        count = min(RACERS, 6)
        names = [f"{base}p{racer + 1}" for racer in range(count)]
        answers = area.race(*(["vol-create-as", "d", name, "4M"] for name in names))
        made = {name for name in names if os.path.exists(f"/dev/{name}")}
        assert len(made) == succeeded(answers, "invalid partition name", "exists", "in use")
        assert made
        answers = area.race(*(["vol-delete", name, "d"] for name in sorted(made)))
        assert succeeded(answers) == len(made)
        assert [name for name in names if os.path.exists(f"/dev/{name}")] == []

    rounds(area, "create and delete partitions", one)
    area.ok("pool-destroy", "d")
