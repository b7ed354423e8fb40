"""Figures of commands: one cold, many in one process, big pools, many pools, slow storage."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from figures import OURS, Figure, Way, program, run

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = Path(__file__).with_name("slow.py")
FEW, MANY = "10 pools", "all pools"


class Sizes(NamedTuple):
    """How much of each."""

    volumes: int = 10_000
    lines: int = 1000
    huge: int = 100_000
    million: int = 0
    pools: int = 1000
    autostarted: int = 200
    slow: int = 1000


SHORT = Sizes(volumes=30, lines=20, huge=300, pools=30, autostarted=5, slow=60)

START_UP = (
    "starting Python and importing click, whose time is above the table, and the modules of"
    " storagectl: virsh asks a process that has run for long. Less than Python takes can't be had"
)
OF_VOLUMES = "as of a command on a pool, and the modules for volumes and images"
OF_NAMES = "what each name takes in the table"
OF_IMAGES = "stat, open, read and close of each image"


class Commands:
    """Pools with the same folders in both programs, and the figures of commands on them."""

    def __init__(self, scratch: Path, sizes: Sizes) -> None:
        self.scratch = scratch
        self.sizes = sizes
        self.tools = {OURS: program(str(scratch / "root")), "virsh": ["virsh"]}
        self.groups = {
            "cold": self.cold, "warm": self.warm, "big": self.big, "huge": self.huge,
            "many": self.many, "slow": self.slow,
        }  # fmt: skip
        self.fill("small", 10)

    def folder(self, name: str) -> Path:
        return self.scratch / f"pool-{name}"

    def create(self, name: str) -> None:
        for tool in self.tools.values():
            run([*tool, "pool-create-as", name, "dir", "--target", str(self.folder(name))])

    def fill(self, name: str, count: int) -> None:
        """Make a pool of equal qcow2 images, one by qemu-img and the others its header only."""
        folder = self.folder(name)
        folder.mkdir()
        first = folder / "v00000"
        run(["qemu-img", "create", "-q", "-f", "qcow2", str(first), "1G"])
        size = first.stat().st_size
        header = first.read_bytes()[:4096]
        for number in range(1, count):
            with (folder / f"v{number:05}").open("wb") as stream:
                stream.write(header)
                stream.truncate(size)
        self.create(name)

    def both(self, *commands: str, given: str = "") -> dict[str, Way]:
        """Return the same commands with both programs."""
        return {
            name: Way([[*tool, *shlex.split(command)] for command in commands], given)
            for name, tool in self.tools.items()
        }

    def cold(self) -> Iterator[Figure]:
        for command, words in (
            ("pool-list", "small"),
            ("pool-info small", "Available"),
            ("vol-path v00003 small", "/v00003"),
            ("vol-list small", "v00009"),
        ):
            yield Figure(
                "cold", command, self.both(command), {"virsh": 1.0}, {"virsh": 2.5},
                right=lambda name, output, words=words: words in output,
                floor=START_UP, counted=True,
            )  # fmt: skip

    def warm(self) -> Iterator[Figure]:
        count = self.sizes.lines
        yield Figure(
            "warm", f"{count} lines vol-info in one process",
            self.both("-q", given="vol-info v00003 small\n" * count), {"virsh": 0.1},
            right=lambda name, output: output.count("Capacity") == count,
            floor="for each line the definition, the folder, and the inode and header of the image"
            " are looked at anew, and half of the time is Python that reads it and prints",
            long=True,
        )  # fmt: skip
        new = self.folder("new")
        new.mkdir()
        self.create("new")

        def empty() -> None:
            for path in new.iterdir():
                path.unlink()
            run(["virsh", "pool-refresh", "new"])

        lines = "".join(f"vol-create-as new n{number:05} 1M\n" for number in range(count))
        yield Figure(
            "warm", f"{count} lines vol-create-as, raw, in one process",
            {n: way._replace(prepare=empty) for n, way in self.both("-q", given=lines).items()},
            {"virsh": 0.3},
            right=lambda name, output: len(list(new.iterdir())) == count,
            floor="half of it is the file system: each volume lasts before the next is made, by a"
            " sync of its folder, and another of the file where no journal keeps the order; the"
            " other half is work for each line, which alone is more than the goal",
            long=True,
        )  # fmt: skip
        empty()

    def big(self) -> Iterator[Figure]:
        count, folder = self.sizes.volumes, self.folder("big")
        self.fill("big", count)
        last = f"v{count - 1:05}"
        there = lambda name, output: last in output  # noqa: E731
        listed = {"ls": Way([["ls", "-l", str(folder)]])}
        yield Figure(
            "big", f"vol-list of {count} qcow2", self.both("vol-list big") | listed,
            {"virsh": 0.05}, right=there, long=True,
            floor=f"starting Python, and {OF_NAMES}",
        )  # fmt: skip
        yield Figure(
            "big", f"vol-list --details of {count} qcow2",
            self.both("vol-list big --details") | listed, {"virsh": 0.1}, right=there,
            floor=OF_IMAGES, long=True,
        )  # fmt: skip
        yield Figure(
            "big", f"pool-info, {count} qcow2; virsh after pool-refresh",
            self.both("pool-refresh big", "pool-info big")
            | {OURS: Way([[*self.tools[OURS], "pool-info", "big"]])},
            {"virsh": 1.0}, right=lambda name, output: "Available" in output, floor=START_UP,
        )  # fmt: skip
        info = {"qemu-img": Way([["qemu-img", "info", "-U", str(folder / last)]])}
        for what, words in (
            ("name", f"vol-info {last} big"),
            ("path", f"vol-info {shlex.quote(str(folder / last))}"),
        ):
            yield Figure(
                "big", f"vol-info by {what}, one of {count}", self.both(words) | info,
                {"virsh": 1.0}, {"virsh": 2.5},
                right=lambda name, output: "1.00 GiB" in output or "1 GiB" in output,
                floor=OF_VOLUMES, counted=True,
            )  # fmt: skip

    def huge(self) -> Iterator[Figure]:
        """Pools that virsh cannot list: its lists end at 16,384 volumes."""
        count = self.sizes.huge
        tenth = f"{count // 10} volumes"
        for name, number in (("tenth", count // 10), ("huge", count)):
            self.fill_empty(name, number)
        ours = self.tools[OURS]
        for options in ("", "--details"):
            words = f"vol-list {options}".strip()
            yield Figure(
                "huge", f"{words} of {count} raw",
                {
                    OURS: Way([[*ours, *words.split(), "huge"]]),
                    tenth: Way([[*ours, *words.split(), "tenth"]]),
                },
                {tenth: 11.0}, limit_mib=200, floor=OF_IMAGES if options else OF_NAMES,
                right=lambda name, output: output.count("\n") > count // 10, long=True,
            )  # fmt: skip
        for name in ("tenth", "huge"):
            shutil.rmtree(self.folder(name))
        if self.sizes.million:
            self.fill_empty("million", self.sizes.million)
            yield Figure(
                "huge", f"vol-list of {self.sizes.million} names",
                {OURS: Way([[*ours, "vol-list", "million"]])}, limit_mib=400, long=True,
                floor=OF_NAMES,
                right=lambda name, output: output.count("\n") > self.sizes.million,
            )  # fmt: skip

    def fill_empty(self, name: str, count: int) -> None:
        """Make a pool of ours with empty files."""
        self.folder(name).mkdir()
        folder = os.open(self.folder(name), os.O_RDONLY)
        try:
            for number in range(count):
                os.mknod(f"v{number:07}", 0o600, dir_fd=folder)
        finally:
            os.close(folder)
        run([*self.tools[OURS], "pool-create-as", name, "dir", "--target", str(self.folder(name))])

    def many(self) -> Iterator[Figure]:
        count = self.sizes.pools
        few, all_of_them = (self.define(number) for number in (10, count))
        lines = "".join(
            f"pool-define-as p{number:04} dir --target /nowhere/{number}\n"
            for number in range(count)
        )
        run(["virsh"], lines)
        yield Figure(
            "many", f"pool-list --all of {count} pools",
            {
                OURS: Way([[*all_of_them, "pool-list", "--all"]]),
                FEW: Way([[*few, "pool-list", "--all"]]),
                "virsh": Way([["virsh", "pool-list", "--all"]]),
            },
            {FEW: 3.0},
            right=lambda name, output: f"p{9 if name == FEW else count - 1:04}" in output,
            floor="opening and reading each definition",
        )  # fmt: skip
        number = self.sizes.autostarted
        marked = self.define(number, autostart=True)
        state = Path(marked[-1], "run")
        state.mkdir()
        started = state / "storagectl/storage"

        def stop_all() -> None:
            for path in started.glob("*.xml"):
                path.unlink()

        run(["mount", "-t", "tmpfs", "bench", str(state)])  # as /run is
        try:
            yield Figure(
                "many", f"autostart of {number} dir pools",
                {OURS: Way([[*marked, "autostart"]], prepare=stop_all)}, limit_s=2.0,
                right=lambda name, output: len(list(started.glob("*.xml"))) == number,
                floor="locking each pool, and writing that it runs",
            )  # fmt: skip
        finally:
            run(["umount", str(state)])

    def define(self, count: int, *, autostart: bool = False) -> list[str]:
        """Return how to call the program with that many dir pools that are defined."""
        root = self.scratch / f"{count}-pools"
        ours = program(str(root))
        folder = root / "etc/storagectl/storage"
        (folder / "autostart").mkdir(parents=True)
        for number in range(count):
            name, target = f"p{number:04}", root / f"targets/{number}"
            if autostart:
                target.mkdir(parents=True)
                (folder / f"autostart/{name}.xml").symlink_to(f"../{name}.xml")
            (folder / f"{name}.xml").write_text(
                f"<pool type='dir'>\n  <name>{name}</name>\n"
                f"  <uuid>00000000-0000-4000-8000-{number:012}</uuid>\n"
                "  <capacity unit='bytes'>0</capacity>\n"
                "  <allocation unit='bytes'>0</allocation>\n"
                "  <available unit='bytes'>0</available>\n  <source>\n  </source>\n"
                f"  <target>\n    <path>{target}</path>\n  </target>\n</pool>\n"
            )
        return ours

    def slow(self) -> Iterator[Figure]:
        """Storage that takes 5 ms for each operation, as a file server may."""
        count = self.sizes.slow
        self.fill("slow", count)
        words = [str(SLOW), *self.tools[OURS][1:], "vol-list", "slow", "--details"]
        alone = "one by one"
        yield Figure(
            "slow", f"vol-list --details of {count} qcow2, 5 ms for each operation",
            {
                OURS: Way([[sys.executable, *words]]),
                alone: Way([[sys.executable, words[0], "--one-by-one", *words[1:]]]),
            },
            {alone: 0.2}, right=lambda name, output: f"v{count - 1:05}" in output, long=True,
            floor="waiting for the storage",
        )  # fmt: skip
