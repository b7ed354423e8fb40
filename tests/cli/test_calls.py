"""The program is called as virsh is: what virsh answers to calls.txt is in calls.json.

PYTHONPATH=tests python tests/cli/test_calls.py      asks virsh and writes calls.json
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from inprocess import storagectl

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1]
LINES = [
    line for line in (HERE / "calls.txt").read_text().splitlines() if line and line[:2] != "# "
]
RECORDED = HERE / "calls.json"
DAEMON = re.compile("(storage|qemu|bogus)[+a-z]*:/")
TIME = re.compile(r"\(Time: \d+\.\d{3} ms\)")


class Answer(NamedTuple):
    status: int
    stdout: str
    stderr: str


def answer(program: list[str], line: str, env: dict[str, str]) -> Answer:
    """Run a line of calls.txt in a shell, with the program in front."""
    words, _, text = line.partition("STDIN")
    text = text.removeprefix(" ")
    source = f"printf {shlex.quote(text)} | " if text else ""
    done = subprocess.run(
        ["bash", "-c", f"{source}{shlex.join(program)} {words}"],
        stdin=subprocess.DEVNULL, capture_output=True, cwd="/", env=env, timeout=60, check=False,
    )  # fmt: skip
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    assert "Traceback" not in err
    return Answer(done.returncode, TIME.sub("(Time: 0.000 ms)", out), err)


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if "URI" not in name}
    return {**env, "TERM": "xterm", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(SOURCES)}


def virsh(line: str) -> Answer:
    env = {**environment(), "VIRSH_DEFAULT_CONNECT_URI": "test:///default"}
    found = answer(["virsh"], line, env)
    return found._replace(stdout=renamed(found.stdout))


def renamed(text: str) -> str:
    """Return what virsh says with the name of this program."""
    return re.sub(r"virsh (?=[#>] )|(?<=Welcome to )virsh\b",
                  lambda found: found[0].replace("virsh", "storagectl"), text)  # fmt: skip


@cache
def recorded() -> dict[str, Answer]:
    return {line: Answer(*found) for line, found in json.loads(RECORDED.read_text()).items()}


def test_every_call_is_recorded() -> None:
    assert list(recorded()) == LINES
    assert len(LINES) > 200


@pytest.fixture(scope="module")
def arguments() -> dict[str, list[str]]:
    """Return the words of each line without STDIN, as a shell reads them."""
    lines = [line for line in LINES if "STDIN" not in line]
    script = "".join(f"printf '%s\\0' {line}; printf '\\0\\n'\n" for line in lines)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, env=environment(), check=True
    )  # fmt: skip
    found = done.stdout.decode("utf-8", "surrogateescape").split("\0\0\n")[:-1]
    return {line: words.split("\0") for line, words in zip(lines, found, strict=True)}


@pytest.mark.parametrize("line", [line for line in LINES if "STDIN" not in line])
def test_answers_as_virsh(
    line: str,
    arguments: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("STORAGECTL_ROOT", str(tmp_path))
    monkeypatch.chdir("/")
    status, out, err = storagectl(None, *arguments[line])
    expected = recorded()[line]
    assert Answer(status, TIME.sub("(Time: 0.000 ms)", out), err) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", [line for line in LINES if "STDIN" in line])
def test_reads_stdin_as_virsh(line: str, tmp_path: Path) -> None:
    env = {**environment(), "STORAGECTL_ROOT": str(tmp_path)}
    assert answer([sys.executable, "-m", "storagectl"], line, env) == recorded()[line]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("virsh") is None, reason="needs virsh")
@pytest.mark.parametrize("line", [line for line in LINES if not DAEMON.search(line)])
def test_virsh_answers_as_recorded(line: str) -> None:
    assert virsh(line) == recorded()[line]


if __name__ == "__main__":
    answers = {line: virsh(line) for line in LINES}
    RECORDED.write_text(json.dumps(answers, indent=0, ensure_ascii=True) + "\n")
