"""Time the moving of volume data: storagectl, cp and virsh in turn, and print the ratios.

    python tests/bench/data.py [--rounds 5] [--mib 1024] [--scratch DIR] [--json FILE]

Needs root, cp and libvirtd: it starts one of its own in name spaces of its own.  All files are
on the file system of DIR; before each timing the target is made anew, the source's data is in
the page cache, its holes are not, and nothing waits to be written.  A ratio is the median of the
rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compare import NAME, run, storagectl

from storagectl.host.bulk import data_ranges

if TYPE_CHECKING:
    from collections.abc import Callable

ORACLE = Path(__file__).resolve().parent.parent / "oracle"
sys.path.append(str(ORACLE))
from oracle import LIBVIRTD, NAMESPACES  # noqa: E402

MIB = 1024 * 1024
MEMORY_LIMIT_KIB = 60 * 1024
OURS = "storagectl"
HAS_LIBVIRTD = "STORAGECTL_BENCH_LIBVIRTD"


class Way(NamedTuple):
    """One of the programs that do the same: what comes before the timing, and what is timed."""

    source: Path
    prepare: Callable[[], object]
    commands: list[list[str]]


@dataclass
class Figure:
    """What is measured; `goals` say how many times as long as another we may take at most."""

    what: str
    ways: dict[str, Way]
    goals: dict[str, float]
    right: Callable[[str], bool]  # whether the way of that name has done its work
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_kib: int = 0

    def measure(self, rounds: int) -> None:
        """Run every way in turn, and see at the end that each has done the work."""
        for left in reversed(range(rounds)):
            for name, way in self.ways.items():
                way.prepare()
                os.sync()
                cache(way.source)
                took, peak = timed(way.commands)
                self.seconds.setdefault(name, []).append(took)
                if name == OURS:
                    self.peak_kib = max(self.peak_kib, peak)
                if not left and not self.right(name):
                    raise SystemExit(f"{self.what}: {name} did not do it")

    def ratio(self, other: str) -> float:
        pairs = zip(self.seconds[OURS], self.seconds[other], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def row(self) -> dict[str, object]:
        ratios = {name: self.ratio(name) for name in self.ways if name != OURS}
        met = {name: ratios[name] <= goal for name, goal in self.goals.items()}
        met["memory"] = self.peak_kib <= MEMORY_LIMIT_KIB
        return {
            "what": self.what, "seconds": self.seconds, "ratios": ratios, "goals": self.goals,
            "peak_kib": self.peak_kib, "met": met,
        }  # fmt: skip


def main() -> None:
    if HAS_LIBVIRTD not in os.environ:
        os.environ[HAS_LIBVIRTD] = "1"
        again = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
        os.execvp(NAMESPACES[0], [*NAMESPACES, "bash", str(LIBVIRTD), *again])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024, help="random data; 1024")
    parser.add_argument("--scratch", help="folder for the files; that for temporary ones")
    parser.add_argument("--only", default="", help="figures with that in their name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storagectl-bench-", dir=arguments.scratch) as scratch:
        bench = Bench(Path(scratch), arguments.mib)
        figures = [figure for figure in bench.figures() if arguments.only in figure.what]
        for figure in figures:
            figure.measure(arguments.rounds)
        system = run(["stat", "-f", "-c", "%T", scratch]).strip()
    report(figures, system, arguments.rounds)
    if arguments.json:
        rows = [figure.row() for figure in figures]
        arguments.json.write_text(json.dumps({"file system": system, "rows": rows}, indent=2))


class Bench:
    """Two pools on one file system, one for each program, and the files to move."""

    def __init__(self, scratch: Path, mib: int) -> None:
        self.scratch = scratch
        self.mib = mib
        self.tools = {OURS: storagectl(str(scratch)), "virsh": ["virsh"]}
        for name in (OURS, "cp", "virsh"):
            self.pool(name).mkdir()
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
            shutil.copyfile(self.random, self.pool(name) / "random")
            run(["cp", "--sparse=auto", str(self.sparse), str(self.pool(name) / "sparse")])
            run([*tool, "pool-create-as", NAME, "dir", "--target", str(self.pool(name))])

    def pool(self, name: str) -> Path:
        return self.scratch / f"pool-{name}"

    def empty(self, name: str, mib: int) -> None:
        """Make the volume `new` anew, without any block."""
        tool = self.tools[name]
        if (self.pool(name) / "new").exists():
            run([*tool, "vol-delete", "new", NAME])
        run([*tool, "vol-create-as", NAME, "new", f"{mib}M", "--allocation", "0"])

    def delete(self, name: str) -> None:
        if (self.pool(name) / "new").exists():
            run([*self.tools[name], "vol-delete", "new", NAME])

    def figures(self) -> list[Figure]:
        new = self.scratch / "new"
        copied = self.pool("cp") / "new"

        def upload(mib: int, source: Path, *options: str) -> dict[str, Way]:
            return {
                name: Way(
                    source,
                    lambda name=name: self.empty(name, mib),
                    [[*tool, "vol-upload", "new", str(source), NAME, *options]],
                )
                for name, tool in self.tools.items()
            }

        def copy(source: Path, target: Path, *options: str) -> dict[str, Way]:
            """cp alone, and with what makes the copy last, as ours does."""
            commands = [["cp", *options, str(source), str(target)]]
            durable = [*commands, ["sync", str(target)]]
            fresh = lambda: target.unlink(missing_ok=True)  # noqa: E731
            return {"cp": Way(source, fresh, commands), "cp+sync": Way(source, fresh, durable)}

        def same_as(source: Path, target: Path | None = None) -> Callable[[str], bool]:
            """Compare what was made: `target`, or the new file in the folder of that way."""
            return lambda name: same(
                source, target or self.pool(name.removesuffix("+sync")) / "new"
            )

        download = {
            name: Way(
                self.pool(name) / "random",
                lambda: new.unlink(missing_ok=True),
                [[*tool, "vol-download", "random", str(new), NAME]],
            )
            for name, tool in self.tools.items()
        }
        clone = {
            name: Way(
                self.pool(name) / "sparse",
                lambda name=name: self.delete(name),
                [[*tool, "vol-clone", "sparse", "new", NAME]],
            )
            for name, tool in self.tools.items()
        }
        fast = {"cp": 1.1, "virsh": 1 / 3}
        held = f"{max(1, self.mib * 100 // 1024)} MiB in {4 * self.mib} MiB"
        whole = ("--sparse=auto", "--reflink=never")
        return [
            Figure(
                f"vol-upload, {self.mib} MiB",
                ordered(upload(self.mib, self.random) | copy(self.random, copied)),
                fast, same_as(self.random),
            ),
            Figure(
                f"vol-download, {self.mib} MiB",
                ordered(download | copy(self.random, new)),
                fast, same_as(self.random, new),
            ),
            Figure(
                f"vol-clone, {held}",
                ordered(clone | copy(self.sparse, copied, *whole)),
                {"cp": 1.2, "virsh": 1 / 20}, same_as(self.sparse),
            ),
            Figure(
                f"vol-upload --sparse, {held}",
                ordered(upload(4 * self.mib, self.sparse, "--sparse")
                        | copy(self.sparse, copied, *whole)),
                {"virsh": 1.0}, same_as(self.sparse),
            ),
        ]  # fmt: skip


def ordered(ways: dict[str, Way]) -> dict[str, Way]:
    return {name: ways[name] for name in (OURS, "cp", "cp+sync", "virsh")}


def timed(commands: list[list[str]]) -> tuple[float, int]:
    """Run commands one after the other; return the seconds and the largest one's KiB."""
    peak = 0
    start = time.perf_counter()
    for argv in commands:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{argv} ended with {process.returncode}")
        peak = max(peak, usage.ru_maxrss)
    return time.perf_counter() - start, peak


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


def report(figures: list[Figure], system: str, rounds: int) -> None:
    version = run(["virsh", "--version"]).strip()
    print(f"virsh {version}, Python {sys.version.split()[0]}, {system}, {os.cpu_count()} cores")
    print(f"seconds: min / median / max of {rounds}; ratio: storagectl's to it, median of {rounds}")
    for figure in figures:
        row = figure.row()
        met = row["met"]
        assert isinstance(met, dict)
        verdict = "ok" if met["memory"] else "MISSED"
        print(f"\n{figure.what}; at most {figure.peak_kib / 1024:.1f} of 60 MiB: {verdict}")
        for name, seconds in figure.seconds.items():
            times = f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f}"
            line = f"  {name:12}{times:>24}"
            if name != OURS:
                line += f"{figure.ratio(name):9.3f}"
            if name in figure.goals:
                verdict = "ok" if met[name] else "MISSED"
                line += f"   goal {figure.goals[name]:.3f}: {verdict}"
            print(line)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
