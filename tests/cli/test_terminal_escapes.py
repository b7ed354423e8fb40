"""S06, S07: what is in a name acts on no terminal; what a program reads is as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl
from tally import counted
from terminals import everything

if TYPE_CHECKING:
    from pathlib import Path

KIND = "terminal escapes"
TITLE = "a\x1b]0;OWNED\a"
NAMES = (
    "c1\x9b31mred",
    "rtl\u202egnp",
    "line\u2028break",
    "del\x7f",
    "byte\udc9b31m",
    "iso\u2066x",
)
# What none of our own colours is: a title, C1, a changed direction, a line of Unicode's.
ACTING = (b"\x1b]", b"\a", b"\xc2\x9b", b"\x9b3", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\x7f",
          b"\xe2\x81\xa6")  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"x")
    for name, target in (("p", folder), (NAMES[1], tmp_path / "other")):
        given = ("pool-create-as", f"--name={name}", "dir", "--target", str(target), "--build")
        assert storagectl(tmp_path / "root", *given).status == 0
    return tmp_path


def on_terminal(home: Path, *words: str) -> bytes:
    """Return what a terminal gets, as stdout and stderr."""
    ours, theirs = os.openpty()
    program = [sys.executable, "-m", "storagectl"]
    root = ["--root", str(home / "root")]
    before, after = (root, []) if words[0] != "--complete" else ([], root)
    with subprocess.Popen(
        [*program, *before, words[0], *after, *words[1:]],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TERM": "xterm"},
    ):  # fmt: skip
        os.close(theirs)
        return everything(ours)


def lines() -> list[tuple[str, ...]]:
    named = [
        (command, f"--vol={name}", "--pool=p")
        for name in NAMES[:2]
        for command in ("vol-info", "vol-dumpxml", "vol-path", "vol-name", "vol-delete")
    ]
    return [
        ("vol-list", "p"), ("vol-list", "p", "--details"), ("vol-list", "p", "--json"),
        ("vol-list", "p", "--format", "name"), ("pool-list",), ("pool-info", NAMES[1]),
        ("pool-dumpxml", NAMES[1]), ("pool-list", "--json"), ("status",), ("status", "--volumes"),
        ("doctor",), ("pool-used-by", "p"), *named,
        ("vol-info", TITLE, "p"), ("pool-info", TITLE), ("pool-info", "rtl\u202egn"), (TITLE,),
        ("pool-list", f"--{TITLE}"), ("vol-create-as", "p", TITLE, "1M"),
        ("pool-define-as", TITLE, "dir", "--target", "/t"), ("pool-define", f"/{TITLE}"),
        ("vol-clone", NAMES[2], f"--newname={TITLE}", "p"), ("echo", TITLE),
        ("vol-clone", NAMES[2], f"--newname={NAMES[0]}b", "p", "--dry-run"),
        ("vol-create-as", "p", f"{NAMES[0]}v", "1M", "--format", "qcow2", "--verbose"),
        ("vol-upload", NAMES[2], f"/{TITLE}", "p"), ("vol-info", TITLE, "p", "--json"),
        ("--complete", "volume", "p"), ("--complete", "pool-all"),
    ]  # fmt: skip


@pytest.mark.tools
def test_s07_nothing_acts_on_a_terminal(home: Path) -> None:
    for words in lines():
        with counted(KIND):
            found = on_terminal(home, *words)
            assert found or words[0] == "--complete", words
            for acting in ACTING:
                assert acting not in found, (words, found)


def test_s07_json_on_a_terminal_is_still_json(home: Path) -> None:
    with counted(KIND):
        found = on_terminal(home, "vol-list", "p", "--json")
        names = {each["name"] for each in json.loads(found)["result"]["volumes"]}
        assert names == set(NAMES)


def test_s07_a_program_reads_what_virsh_prints(home: Path) -> None:
    """Not on a terminal an error has the name as it was given, and JSON the name as it is."""
    with counted(KIND, 3):
        answer = storagectl(home / "root", "vol-info", TITLE, "p")
        assert answer.stderr.startswith(f"error: failed to get vol '{TITLE}'\n")
        assert storagectl(home / "root", "vol-path", NAMES[0], "p").stdout == (
            f"{home}/pool/{NAMES[0]}\n\n"
        )
        document = json.loads(storagectl(home / "root", "vol-list", "p", "--json").stdout)
        assert {each["name"] for each in document["result"]["volumes"]} == set(NAMES)


def test_s06_what_acts_is_not_offered_to_a_shell(home: Path) -> None:
    with counted(KIND):
        done = subprocess.run(
            [sys.executable, "-m", "storagectl", "--complete", "--root", str(home / "root"),
             "volume", "p"],
            capture_output=True, check=True, env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        )  # fmt: skip
        assert done.stdout == b""
