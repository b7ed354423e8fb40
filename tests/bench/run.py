"""Measure how fast storagectl is beside virsh, cp, qemu-img and ls, in turn.

    python tests/bench/run.py [--short] [--rounds 20] [--group GROUP ...] [--scratch DIR]
                              [--million] [--mib 1024] [--json FILE] [--readme]

Needs root, libvirtd, qemu-img, and storagectl installed beside this Python.  It starts a libvirtd
of its own in name spaces of its own, makes its own pools, and leaves nothing behind.  A ratio is
ours to the other's, round by round.  `--short` is quick, to see that it works; `--readme` also
puts the table of a whole run into the README.  Where valgrind is installed, instructions are
counted too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import SHORT, Commands, Sizes
from data import Data
from figures import OK, Figure, Spread, Way, run, timed

from storagectl.host import ordered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

HERE = Path(__file__).resolve().parent
README = HERE.parent.parent / "README.md"
sys.path.append(str(HERE.parent / "oracle"))
from oracle import LIBVIRTD, NAMESPACES  # noqa: E402

DATA = "data"
# The largest last: the peak of a process begins at that of the one that starts it.
GROUPS = ("cold", "warm", "big", "many", "slow", DATA, "huge")
HAS_LIBVIRTD = "STORAGECTL_BENCH_LIBVIRTD"
# Each would change what is measured.
UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH", "STORAGECTL_ROOT")
BEGIN = "<!-- speed: written by tests/bench/run.py -->"
END = "<!-- end of speed -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="few volumes, one round")
    parser.add_argument("--rounds", type=int, default=20, help="a quarter of it for long figures")
    parser.add_argument("--million", action="store_true", help="also list 1,000,000 names")
    parser.add_argument("--mib", type=int, default=1024, help="random data to move; 1024")
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=GROUPS, help="these only")
    parser.add_argument("--scratch", help="folder for the files; that for temporary ones")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--readme", action="store_true", help="write the table of the README")
    arguments = parser.parse_args()
    if arguments.readme and (arguments.short or arguments.group != GROUPS):
        parser.error("the table of the README is of one whole run")
    if HAS_LIBVIRTD not in os.environ:
        start_again()
    sizes, rounds, mib = Sizes(), arguments.rounds, arguments.mib
    if arguments.short:
        sizes, rounds, mib = SHORT, 1, 2
    if arguments.million:
        sizes = sizes._replace(million=1_000_000)
    counting = not arguments.short and shutil.which("valgrind") is not None
    measured = []
    with tempfile.TemporaryDirectory(prefix="storagectl-bench-", dir=arguments.scratch) as scratch:
        about = machine(scratch) | {"start": starts(rounds)}
        for figure in figures(Path(scratch), sizes, mib, arguments.group):
            print(f"... {figure.what}", file=sys.stderr)
            figure.judged = not arguments.short
            figure.measure(rounds, counting=counting)
            measured.append(figure)
    print(described(about))
    print("\n".join(lines(measured)))
    if arguments.json:
        rows = [figure.row() for figure in measured]
        arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    if arguments.readme:
        write_readme(markdown(about, measured))


def start_again() -> None:
    """Run this in name spaces of its own, beside a libvirtd of its own."""
    for name in UNWANTED:
        os.environ.pop(name, None)
    os.environ[HAS_LIBVIRTD] = "1"
    again = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
    os.execvp(NAMESPACES[0], [*NAMESPACES, "bash", str(LIBVIRTD), *again])


def figures(scratch: Path, sizes: Sizes, mib: int, groups: Collection[str]) -> Iterator[Figure]:
    """Yield the figures of these groups; each is measured before the next is prepared."""
    known = Commands(scratch, sizes).groups | {DATA: lambda: Data(scratch, mib).figures()}
    for group in GROUPS:
        if group in groups:
            yield from known[group]()


def machine(scratch: str) -> dict[str, Any]:
    """Return what was measured with what."""
    click = "import importlib.metadata as m; print(m.version('click'))"
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "virsh": run(["virsh", "--version"]).strip(),
        "python": platform.python_version(),
        "click": run([sys.executable, "-c", click]).strip(),
        "qemu-img": run(["qemu-img", "--version"]).split()[2],
        "kernel": platform.release(),
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "file system": file_system(scratch),
    }


def file_system(folder: str) -> str:
    """Return what files are on, as one without a journal is another thing for what lasts."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = ordered.kind_of(number, Path("/proc/self/mountinfo").read_text())
    if kind == "ext4" and not ordered.has_journal(number):
        return f"{kind} without a journal"
    return kind


def starts(rounds: int) -> dict[str, float]:
    """Return the least that a command of ours can take, in seconds: Python, and click imported."""
    return {
        what: statistics.median(
            timed(Way([[sys.executable, "-c", code]])).seconds for _ in range(rounds)
        )
        for what, code in (("Python", ""), ("click", "import click"))
    }


def described(about: dict[str, Any]) -> str:
    return (
        f"{about['cores']} cores of {about['processor']}, Linux {about['kernel']}, files on"
        f" {about['file system']}; Python {about['python']}, click {about['click']}, virsh"
        f" {about['virsh']}, qemu-img {about['qemu-img']}. Python starts in"
        f" {duration(about['start']['Python'])}, and has imported click after"
        f" {duration(about['start']['click'])}"
    )


def lines(measured: list[Figure]) -> Iterator[str]:
    """Yield the table for a terminal."""
    yield f"{'least / median / most of':56}{'ms':>26}{'ratio':>24}  goal"
    for figure in measured:
        yield f"{figure.group}: {figure.what}"
        for name, seconds in figure.seconds.items():
            text = f"  {name:54}{Spread.of(seconds).shown(1, 1000):>26}"
            if name in figure.ratios():
                text += f" {figure.ratios()[name].shown(3):>23}"
            for limit in limits(figure, name):
                text += f"  {limit}"
            yield text.rstrip()
        if figure.instructions:
            counts = (f"{name} {n / 1e6:.1f}" for name, n in figure.instructions.items())
            yield f"  million instructions: {', '.join(counts)}"


def limits(figure: Figure, name: str) -> Iterator[str]:
    """Yield what a way of a figure is held to, and whether it is met."""
    verdicts = figure.verdicts()
    if name in figure.goals:
        yield f"{figure.goals[name]:.2g}: {verdicts[name]}"
    if name == figure.ours and figure.limit_s is not None:
        yield f"{figure.limit_s:.0f} s: {verdicts['seconds']}"
    if name == figure.ours and figure.limit_mib is not None:
        peak = figure.peaks_kib[name] / 1024
        yield f"{figure.limit_mib:.0f} MiB: {verdicts['MiB']}, {peak:.0f}"


def markdown(about: dict[str, Any], measured: list[Figure]) -> Iterator[str]:
    """Yield the table for the README, and below it where the time goes that misses a goal."""
    yield (
        f"{described(about)}. Median times of so many rounds; ratios are least / median / most of"
        " them."
    )
    yield ""
    yield "| what | rounds | storagectl | beside | its time | ratio | goal | |"
    yield "|---|---|---|---|---|---|---|---|"
    for figure in measured:
        ours = duration(Spread.of(figure.seconds[figure.ours]).median)
        others = [name for name in figure.ways if name != figure.ours]
        for name in others:
            theirs = duration(Spread.of(figure.seconds[name]).median)
            goal = f"{figure.goals[name]:.2g}" if name in figure.goals else "-"
            verdict = figure.verdicts().get(name, "")
            ratio = figure.ratios()[name].shown(2)
            cells = figure.rounds, ours, name, theirs, ratio, goal, verdict
            yield f"| `{figure.what}` | {' | '.join(map(str, cells))} |"
        for limit in limits(figure, figure.ours):
            bound, _, verdict = limit.partition(": ")
            cells = figure.rounds, ours, "-", "-", "-", bound, verdict
            yield f"| `{figure.what}` | {' | '.join(map(str, cells))} |"
    counted = [figure for figure in measured if figure.instructions]
    if counted:
        yield ""
        yield "Millions of instructions, without what a daemon does (callgrind):"
        yield ""
    for figure in counted:
        counts = (f"{name} {n / 1e6:.0f}" for name, n in figure.instructions.items())
        yield f"- `{figure.what}`: {', '.join(counts)}."
    missed: dict[str, list[str]] = {}
    for figure in measured:
        if any(verdict != OK for verdict in figure.verdicts().values()):
            missed.setdefault(figure.floor, []).append(f"`{figure.what}`")
    if missed:
        yield ""
        yield "Where the time goes that is more than the goal:"
        yield ""
        for floor, names in missed.items():
            yield f"- {', '.join(names)}: {floor}."


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def write_readme(table: Iterator[str]) -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"the README has no {BEGIN}"
    README.write_text("\n".join([before + BEGIN, *table, END + after]))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
