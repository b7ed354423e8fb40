"""Fuzz one target with atheris: run.py starts this in a virtual environment that has it.

python worker.py TARGET [libFuzzer's options and folders]
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]
sys.setrecursionlimit(2000)

# What is imported inside is told of its coverage; click and the like need not be.
with atheris.instrument_imports(include=["storagectl", "targets"]):
    import targets

    from storagectl.commands import COMMANDS, find

    for each in COMMANDS:
        find(each)


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: targets.survives(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
