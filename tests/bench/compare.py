"""Time storagectl beside virsh, in turn, and print the ratios.

    python tests/bench/compare.py [--volumes 10000] [--rounds 15] [--json FILE]

Needs root and a libvirtd that answers.  Makes a dir pool with that many qcow2 images in
a scratch folder, in both, and takes them away again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAME = "storagectl-bench"
LINES = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--volumes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storagectl-bench-") as scratch:
        ours = storagectl(scratch)
        target = Path(scratch, "pool")
        target.mkdir()
        fill(target, arguments.volumes)
        for tool in (ours, ["virsh"]):
            run([*tool, "pool-create-as", NAME, "dir", "--target", str(target)])
        try:
            rows = [
                measure("pool-list", ours, ["pool-list"], arguments.rounds),
                measure(
                    f"vol-list, {arguments.volumes} qcow2", ours, ["vol-list", NAME],
                    max(3, arguments.rounds // 5),
                ),
                measure(
                    f"vol-list --details, {arguments.volumes} qcow2", ours,
                    ["vol-list", NAME, "--details"], max(3, arguments.rounds // 5),
                ),
                measure("vol-info of one of them", ours, ["vol-info", "v00001", NAME],
                        arguments.rounds),
                measure(f"vol-info, {LINES} lines of stdin", ours, [], 3,
                        given=f"vol-info v00001 {NAME}\n" * LINES),
            ]  # fmt: skip
            rate = lines_per_second(ours)
        finally:
            for tool in (ours, ["virsh"]):
                subprocess.run([*tool, "pool-destroy", NAME], capture_output=True, check=False)
    version = run(["virsh", "--version"]).strip()
    print(f"virsh {version}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print(f"{'what':42}{'storagectl ms':>26}{'virsh ms':>26}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['what']:42}{shown(row['storagectl']):>26}{shown(row['virsh']):>26}"
            f"{row['ratio']:8.2f}"
        )
    print("ms: min / median / max; ratio: of the medians")
    print(f"vol-info from stdin: {rate:.0f} in a second of storagectl's processor time")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"virsh": version, "rows": rows, "rate": rate}, indent=2)
        )


def storagectl(scratch: str) -> list[str]:
    """Return how to call the program installed beside this Python, its definitions in `scratch`."""
    program = shutil.which("storagectl", path=os.path.dirname(sys.executable)) or "storagectl"
    return [program, "--root", f"{scratch}/root"]


def fill(target: Path, count: int) -> None:
    """Make `count` equal qcow2 images, one by qemu-img and the others copies of it."""
    first = target / "v00000"
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(first), "1G"])
    content = first.read_bytes()
    for number in range(1, count):
        (target / f"v{number:05}").write_bytes(content)


def lines_per_second(ours: list[str]) -> float:
    """Return how many vol-info one process answers in a second of its processor time."""
    times = []
    for lines in (1, LINES):
        before = os.times()
        run(ours, f"vol-info v00001 {NAME}\n" * lines)
        after = os.times()
        spent = after.children_user + after.children_system
        times.append(spent - before.children_user - before.children_system)
    return (LINES - 1) / (times[1] - times[0])


def measure(
    what: str, ours: list[str], words: list[str], rounds: int, given: str = ""
) -> dict[str, object]:
    """Run both programs in turn and return their times in ms; they read `given` from stdin."""
    times: dict[str, list[float]] = {"storagectl": [], "virsh": []}
    for _ in range(rounds + 1):
        for name, tool in (("storagectl", ours), ("virsh", ["virsh"])):
            start = time.perf_counter()
            run([*tool, *words], given)
            times[name].append((time.perf_counter() - start) * 1000)
    kept = {name: sorted(values[1:]) for name, values in times.items()}
    medians = {name: statistics.median(values) for name, values in kept.items()}
    return {"what": what, **kept, "ratio": medians["storagectl"] / medians["virsh"]}


def shown(values: object) -> str:
    assert isinstance(values, list)
    return f"{values[0]:.0f} / {statistics.median(values):.0f} / {values[-1]:.0f}"


def run(argv: list[str], given: str = "") -> str:
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
