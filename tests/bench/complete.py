"""Time a TAB in bash, zsh and fish on a terminal, where a pool has many volumes.

    python tests/bench/complete.py [--volumes 1000] [--rounds 20]

From the key to what it adds to the line.  Needs no root.  On a busy machine look at the processor
time of the shell and of what it runs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from completionshell import SHELLS, Shell  # noqa: E402

POOL = "bench"
ERASE = "\x15"  # Ctrl-U


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storagectl-bench-") as scratch:
        environment = prepare(Path(scratch), arguments.volumes)
        print(f"{arguments.volumes} volumes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{'':20} {'median':>8} {'least':>8} {'processor':>10}")
        for name in SHELLS:
            with Shell(name, environment, Path(tempfile.mkdtemp(dir=scratch))) as shell:
                for what, typed, shown in (
                    ("a command", "pool-undef", "ine"),
                    ("a pool", "pool-info ben", "ch"),
                    ("a volume", f"vol-info --pool {POOL} vm-last", ".qcow2"),
                ):
                    tab(shell, typed, shown)
                    before = processor_s(shell.process.pid)
                    times = [tab(shell, typed, shown) for _ in range(arguments.rounds)]
                    used = (processor_s(shell.process.pid) - before) / arguments.rounds
                    median, least = statistics.median(times), min(times)
                    print(
                        f"{name + ': ' + what:20} {median * 1e3:5.0f} ms {least * 1e3:5.0f} ms"
                        f" {used * 1e3:7.0f} ms"
                    )


def prepare(scratch: Path, volumes: int) -> dict[str, str]:
    """Make a pool with that many volumes; return the environment in which it is."""
    program = scratch / "bin/storagectl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m storagectl "$@"\n')
    program.chmod(0o755)
    target = scratch / "pool"
    target.mkdir()
    for number in range(volumes - 1):
        (target / f"vm-{number:05}.qcow2").touch()
    (target / "vm-last.qcow2").touch()
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(TESTS.parent),
        "STORAGECTL_ROOT": str(scratch / "state"),
        "HOME": str(scratch),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        # compiled once, as when it is installed
        "PYTHONPYCACHEPREFIX": str(scratch / "pycache"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    make = ["storagectl", "pool-create-as", POOL, "dir", "--target", str(target)]
    subprocess.run(make, env=environment, check=True, capture_output=True)
    return environment


def tab(shell: Shell, typed: str, shown: str) -> float:
    """Return the seconds from TAB to what it adds to a line."""
    shell.type(f"storagectl {typed}")
    shell.wait_for(typed[-3:])
    time.sleep(0.2)  # for what the shell does with the keys before
    shell.read_all()

    before = time.perf_counter()
    shell.type("\t")
    shell.wait_for(shown)
    took = time.perf_counter() - before
    shell.type(ERASE)
    time.sleep(0.05)
    shell.read_all()
    return took


def processor_s(pid: int) -> float:
    """Return the processor time of a process and its ended children.  Source: proc(5), stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
