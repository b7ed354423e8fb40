"""Fuzz what reads text that we have not written, with atheris.

    python tests/fuzz/run.py [--minutes 10] [TARGET ...]

atheris and what storagectl needs are installed in a virtual environment of their own below
~/.cache.  Each target runs for that long, at the lowest priority.  What crashes one is kept in
tests/fuzz/cases/TARGET, where tests/property/test_fuzz.py runs it again.  The last lines are
a table for CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "storagectl-fuzz"
PACKAGES = ("atheris>=2.3", "click>=8.1.8", "lxml>=4.9", "rich>=13", "PyYAML>=6")
LOWEST = 19
# A run ends with its first crash; a reader that always crashes is not run for ever.
MOST_CRASHES = 5
LIMITS = ("-rss_limit_mb=1024", "-timeout=20", "-max_len=8192")


def python() -> str:
    """Return the interpreter that has atheris, installed now where it is not there."""
    found = CACHE / f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = found / "bin/python"
    if not program.exists() or subprocess.run([program, "-c", "import atheris"]).returncode:
        venv.create(found, with_pip=True, clear=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return str(program)


def fuzz(program: str, name: str, seconds: int) -> tuple[int, list[str]]:
    """Fuzz a target.  Returns: how often it ran, and the names of what crashed it."""
    import targets

    cases = HERE / "cases" / name
    cases.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in cases.iterdir()}
    runs = 0
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="storagectl-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(targets.TARGETS[name].seeds()):
            (corpus / f"seed{number}").write_bytes(seed)
        for _ in range(MOST_CRASHES):
            left = int(end - time.monotonic())
            if left < 1:
                break
            done = subprocess.run(
                [program, str(HERE / "worker.py"), name, str(corpus), *LIMITS,
                 f"-max_total_time={left}", f"-artifact_prefix={cases}/", "-print_final_stats=1"],
                capture_output=True, text=True, errors="replace", check=False,
                preexec_fn=lambda: os.nice(LOWEST),
            )  # fmt: skip
            counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
            runs += int(counted[-1]) if counted else 0
            if done.returncode == 0:
                break
            sys.stderr.write(done.stderr[-3000:])
    new = sorted({path.name for path in cases.iterdir()} - before)
    if not any(cases.iterdir()):
        cases.rmdir()
    return runs, new


def main() -> int:
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    import targets

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    parser.add_argument("target", nargs="*", choices=[[], *targets.TARGETS], metavar="TARGET")
    given = parser.parse_args()
    program = python()
    rows, failed = [], False
    for name in given.target or targets.TARGETS:
        runs, crashes = fuzz(program, name, int(given.minutes * 60))
        failed = failed or bool(crashes)
        rows.append(f"| {name} | {runs:,} | {given.minutes:g} | {len(crashes)} |")
        print(f"{rows[-1]} {' '.join(crashes)}", flush=True)
    print(
        "\n".join(["", "| target | executions | minutes | crashes |", "|---|---|---|---|", *rows])
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
