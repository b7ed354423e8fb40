"""Figures of data: storagectl, cp and virsh move it in turn.

All files are on one file system; before each timing the target is made anew, the source's data
is in the page cache, its holes are not, and nothing waits to be written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from figures import MIB, OURS, Figure, Way, program, run

from storagectl.host.bulk import data_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "data"
MEMORY_LIMIT_MIB = 60
ON_DISK = (
    "the disk: what has been written is synced before the command ends, as it is by `cp+sync`;"
    " `cp` alone leaves it in memory"
)


class Data:
    """Two pools on one file system, one for each program, and the files to move."""

    def __init__(self, scratch: Path, mib: int) -> None:
        self.scratch = scratch
        self.mib = mib
        self.tools = {OURS: program(str(scratch / "root")), "virsh": ["virsh"]}
        for name in (OURS, "cp", "virsh"):
            self.folder(name).mkdir()
        self.random = scratch / "random"
        with self.random.open("wb") as stream:
            for _ in range(mib):
                stream.write(os.urandom(MIB))
        self.sparse = scratch / "sparse"
        with self.sparse.open("wb") as stream:
            stream.truncate(4 * mib * MIB)
            for number in range(pieces := max(1, mib * 100 // 1024)):
                stream.seek(4 * mib * MIB // pieces * number)
                stream.write(os.urandom(MIB))
        for name, tool in self.tools.items():
            shutil.copyfile(self.random, self.folder(name) / "random")
            run(["cp", "--sparse=auto", str(self.sparse), str(self.folder(name) / "sparse")])
            run([*tool, "pool-create-as", NAME, "dir", "--target", str(self.folder(name))])

    def folder(self, name: str) -> Path:
        return self.scratch / f"data-{name}"

    def new(self, name: str) -> Path:
        """Return the file that a program makes; what is with a `+` is of the same folder."""
        return self.folder(name.partition("+")[0]) / "new"

    def delete(self, name: str) -> None:
        if self.new(name).exists():
            run([*self.tools[name], "vol-delete", "new", NAME])

    def empty(self, name: str, mib: int) -> None:
        """Make the volume `new` anew, without any block."""
        self.delete(name)
        run([*self.tools[name], "vol-create-as", NAME, "new", f"{mib}M", "--allocation", "0"])

    def way(self, commands: list[list[str]], source: Path, fresh: Callable[[], object]) -> Way:
        def prepare() -> None:
            fresh()
            os.sync()
            cache(source)

        return Way(commands, prepare=prepare)

    def figures(self) -> Iterator[Figure]:
        target = self.scratch / "new"
        held = f"{max(1, self.mib * 100 // 1024)} MiB in {4 * self.mib} MiB"
        fast = {"cp": 1.1, "virsh": 1 / 3}
        uploaded = self.upload() | self.copy(self.random, self.new("cp"))
        yield self.figure(f"vol-upload, {self.mib} MiB", uploaded, fast, self.random)
        yield self.figure(
            f"vol-download, {self.mib} MiB",
            self.with_tools(
                "vol-download", "random", str(target),
                source=lambda name: self.folder(name) / "random",
                fresh=lambda name: target.unlink(missing_ok=True),
            ) | self.copy(self.random, target),
            fast, self.random, target,
        )  # fmt: skip
        whole = ("--sparse=auto", "--reflink=never")
        yield self.figure(
            f"vol-clone, {held}",
            self.with_tools(
                "vol-clone", "sparse", "new",
                source=lambda name: self.folder(name) / "sparse", fresh=self.delete,
            ) | self.copy(self.sparse, self.new("cp"), *whole),
            {"cp": 1.2, "virsh": 1 / 20}, self.sparse,
        )  # fmt: skip
        yield self.figure(
            f"vol-upload --sparse, {held}",
            self.upload("--sparse") | self.copy(self.sparse, self.new("cp"), *whole),
            {"virsh": 1.0}, self.sparse,
        )  # fmt: skip

    def figure(
        self,
        what: str,
        ways: dict[str, Way],
        goals: dict[str, float],
        source: Path,
        target: Path | None = None,
    ) -> Figure:
        """Return a figure whose ways each make a file as `source` is: `target`, or their own."""
        return Figure(
            "data", what, {name: ways[name] for name in (OURS, "cp", "cp+sync", "virsh")}, goals,
            limit_mib=MEMORY_LIMIT_MIB, floor=ON_DISK, long=True,
            right=lambda name, output: same(source, target or self.new(name)),
        )  # fmt: skip

    def with_tools(
        self,
        command: str,
        *words: str,
        source: Callable[[str], Path],
        fresh: Callable[[str], object],
    ) -> dict[str, Way]:
        return {
            name: self.way(
                [[*tool, command, *words, NAME]], source(name), lambda name=name: fresh(name)
            )
            for name, tool in self.tools.items()
        }

    def upload(self, *options: str) -> dict[str, Way]:
        source, mib = (self.sparse, 4 * self.mib) if options else (self.random, self.mib)
        return {
            name: self.way(
                [[*tool, "vol-upload", "new", str(source), NAME, *options]], source,
                lambda name=name: self.empty(name, mib),
            )
            for name, tool in self.tools.items()
        }  # fmt: skip

    def copy(self, source: Path, target: Path, *options: str) -> dict[str, Way]:
        """cp alone, and with what makes the copy last, as ours does."""
        commands = [["cp", *options, str(source), str(target)]]
        fresh = lambda: target.unlink(missing_ok=True)  # noqa: E731
        return {
            "cp": self.way(commands, source, fresh),
            "cp+sync": self.way([*commands, ["sync", str(target)]], source, fresh),
        }


def cache(path: Path) -> None:
    """Have the data of a file in the page cache, and nothing for its holes."""
    with path.open("rb") as stream:
        fd = stream.fileno()
        size = os.fstat(fd).st_size
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for start, end in data_ranges(fd, 0, size):
            for offset in range(start, end, MIB):
                os.pread(fd, min(MIB, end - offset), offset)


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "--silent", str(one), str(other)], check=False).returncode == 0
