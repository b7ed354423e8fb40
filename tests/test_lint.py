"""The linters, and the rules of this project that no linter knows."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = sorted((ROOT / "storagectl").rglob("*.py"))
SHEBANG = re.compile(rb"#!.*\b(?:sh|bash)\n|# shellcheck shell=")


def run(*argv: str) -> None:
    """Run a linter in the checkout; what it says is the failure."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def module(name: str) -> list[str]:
    """Return how to run a linter that is a Python package."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return [sys.executable, "-m", name]


def shell_scripts() -> list[str]:
    """Return all files that a shell is to read."""
    found = []
    for folder in (".ci", "completions", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".py", ".json", ".jsonl"):
                with path.open("rb") as stream:
                    if SHEBANG.match(stream.readline()):
                        found.append(str(path.relative_to(ROOT)))
    return found


def test_ruff_check() -> None:
    run(*module("ruff"), "check", "--no-cache", ".")


def test_ruff_format() -> None:
    run(*module("ruff"), "format", "--check", "--no-cache", ".")


def test_mypy(tmp_path: Path) -> None:
    run(*module("mypy"), "--cache-dir", str(tmp_path))


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = shell_scripts()
    assert {".ci/run", "completions/storagectl.bash", "tests/run", "tests/quickstart"} <= set(
        scripts
    )
    run("shellcheck", "--severity=warning", *scripts)


def lines_with(pattern: str, *, outside: str = "") -> list[str]:
    """Return the lines of the product that match, as `file:line: text`."""
    found = []
    for path in PRODUCT:
        name = str(path.relative_to(ROOT / "storagectl"))
        if outside and re.match(outside, name):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


def test_no_shell_is_ever_started() -> None:
    assert lines_with(r"shell\s*=\s*True|os\.(system|popen)\b|getoutput") == []


def test_processes_are_started_in_host_only() -> None:
    pattern = r"\b(import|from)\s+subprocess|os\.(exec|spawn|posix_spawn|fork)"
    found = lines_with(pattern, outside=r"host/")
    assert [line for line in found if "os.execv(sys.executable, " not in line] == []
    assert len(found) == 1, "__main__.py starts itself again"


def test_nobody_sleeps_but_between_two_looks() -> None:
    """What is waited for is looked for again and again: it may be there at once."""
    looks = re.compile(r"while [^:]+:|while True:")
    for path in PRODUCT:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if not re.match(r"\s+time\.sleep\(", line):
                assert "time.sleep(" not in line, f"{path}:{number + 1}"
                continue
            indent = len(line) - len(line.lstrip())
            above = [a for a in lines[:number] if a.strip() and len(a) - len(a.lstrip()) < indent]
            start = next(i for i, a in enumerate(reversed(above)) if " def " in f" {a}")
            within = above[len(above) - start :]
            assert any(looks.search(a) for a in within), f"{path}:{number + 1}"


def test_pool_types_are_told_apart_in_their_table_only() -> None:
    pattern = r"""pool\.type\s*(==|!=|(not\s+)?in\s*[(\[{"'])|match\s.*pool\.type"""
    assert lines_with(pattern, outside=r"pooltypes\.py") == []
