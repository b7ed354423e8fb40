"""Figures: the same work done in several ways in turn, A B A B ..., and how they compare."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "storagectl"
MIB = 1024 * 1024
OK, CEILING, MISSED = "ok", "below the ceiling", "MISSED"
# How many times fewer the rounds of a long figure are.
LONG = 4
UNJUDGED = "not judged"  # in the short form: less is done than the goal is for
INSTRUCTIONS = re.compile(r"Collected : (\d+)")


class Way(NamedTuple):
    """One way to do it: what is run and timed, with `given` as stdin, and what comes before."""

    commands: list[list[str]]
    given: str = ""
    prepare: Callable[[], object] = lambda: None


class Spread(NamedTuple):
    """Least, median and most of some numbers."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, numbers: list[float]) -> Spread:
        return cls(min(numbers), statistics.median(numbers), max(numbers))

    def shown(self, places: int, factor: float = 1) -> str:
        return " / ".join(f"{number * factor:.{places}f}" for number in self)


@dataclass
class Figure:
    """What is measured.  The first way is ours.

    `goals` say how many times as long as another way it may take at most, `ceilings` what it may
    take where it misses the goal, `limit_s` and `limit_mib` what it may take whatever the others
    do.  `right` tells from its output whether a way has done its work; `floor` is where the time
    goes when a goal is missed.  One with `counted` is also counted in instructions, one that is
    `long` is run in fewer rounds.
    """

    group: str
    what: str
    ways: dict[str, Way]
    goals: dict[str, float] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)
    limit_s: float | None = None
    limit_mib: float | None = None
    right: Callable[[str, str], bool] = lambda name, output: True
    floor: str = ""
    counted: bool = False
    long: bool = False
    judged: bool = True
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks_kib: dict[str, int] = field(default_factory=dict)
    instructions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_judged = bool(self.goals or self.limit_s or self.limit_mib)
        assert bool(self.floor) >= is_judged, f"{self.what}: where does the time go?"

    def measure(self, rounds: int, *, counting: bool) -> None:
        """Run every way in turn, once to see that each does the work and to warm up."""
        for name, way in self.ways.items():
            way.prepare()
            if not self.right(name, timed(way, keep=True).output):
                raise SystemExit(f"{self.what}: {name} did not do it")
        for _ in range(max(1, rounds // LONG) if self.long else rounds):
            for name, way in self.ways.items():
                way.prepare()
                run = timed(way)
                self.seconds.setdefault(name, []).append(run.seconds)
                self.peaks_kib[name] = max(self.peaks_kib.get(name, 0), run.peak_kib)
        if counting and self.counted:
            for name, way in self.ways.items():
                self.instructions[name] = sum(map(instructions, way.commands))

    @property
    def ours(self) -> str:
        return next(iter(self.ways))

    @property
    def rounds(self) -> int:
        return len(self.seconds[self.ours])

    def ratios(self) -> dict[str, Spread]:
        """Return our seconds to those of each other way, round by round."""
        return {
            name: Spread.of(
                [a / b for a, b in zip(self.seconds[self.ours], theirs, strict=True)]
            )
            for name, theirs in self.seconds.items()
            if name != self.ours
        }  # fmt: skip

    def verdicts(self) -> dict[str, str]:
        """Return, for each goal and limit, whether it is met."""
        found = {}
        for name, goal in self.goals.items():
            ratio = self.ratios()[name].median
            ceiling = self.ceilings.get(name, goal)
            found[name] = OK if ratio <= goal else CEILING if ratio <= ceiling else MISSED
        if self.limit_s is not None:
            median = statistics.median(self.seconds[self.ours])
            found["seconds"] = OK if median <= self.limit_s else MISSED
        if self.limit_mib is not None:
            peak = self.peaks_kib[self.ours] / 1024
            found["MiB"] = OK if peak <= self.limit_mib else MISSED
        return found if self.judged else dict.fromkeys(found, UNJUDGED)

    def row(self) -> dict[str, object]:
        """Return all of it for JSON."""
        return {
            "group": self.group, "what": self.what, "ours": self.ours, "seconds": self.seconds,
            "ratios": {name: spread._asdict() for name, spread in self.ratios().items()},
            "peaks_kib": self.peaks_kib, "instructions": self.instructions,
            "goals": self.goals, "ceilings": self.ceilings,
            "limit_s": self.limit_s, "limit_mib": self.limit_mib,
            "verdicts": self.verdicts(), "floor": self.floor,
        }  # fmt: skip


class Run(NamedTuple):
    seconds: float
    peak_kib: int
    output: str


def timed(way: Way, *, keep: bool = False) -> Run:
    """Run commands one after the other; the peak is the largest one's."""
    peak = 0
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as kept:
        given.write(way.given.encode())
        start = time.perf_counter()
        for argv in way.commands:
            given.seek(0)
            output = kept if keep else subprocess.DEVNULL
            process = subprocess.Popen(argv, stdin=given, stdout=output, stderr=subprocess.PIPE)
            assert process.stderr is not None
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.stderr.close()
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"{argv} ended with {process.returncode}: {errors.decode()}")
            peak = max(peak, usage.ru_maxrss)
        seconds = time.perf_counter() - start
        kept.seek(0)
        return Run(seconds, peak, kept.read().decode("utf-8", "surrogateescape"))


def instructions(argv: list[str]) -> int:
    """Return how many instructions a command takes, itself and without what a daemon does.

    A script is run by what its first line says: valgrind would count the kernel's work for it.
    """
    program = Path(shutil.which(argv[0]) or argv[0])
    with program.open("rb") as stream:
        first = stream.readline(256).decode("utf-8", "replace")
    interpreter = first[2:].split() if first.startswith("#!") else []
    count = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(
        [*count, *interpreter, str(program), *argv[1:]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = INSTRUCTIONS.search(done.stderr)
    assert found, done.stderr
    return int(found[1])


def program(root: str) -> list[str]:
    """Return how to call the program installed beside this Python, its definitions in `root`."""
    found = shutil.which("storagectl", path=os.path.dirname(sys.executable)) or "storagectl"
    return [found, "--root", root]


def run(argv: list[str], given: str = "") -> str:
    """Run a command that must succeed and return its stdout."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv} ended with {done.returncode}: {done.stderr}")
    return done.stdout
