"""The recordings of a first hour: all of it works, and a scene that breaks its word is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import manual
import pytest

if TYPE_CHECKING:
    from pathlib import Path

RECORD = manual.ROOT / "tests/recording/record.py"
SCENES = sorted(path.stem for path in (RECORD.parent / "scenes").iterdir())


def record(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RECORD), *words], capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.tools
def test_scenes_go_as_they_say(tmp_path: Path) -> None:
    done = record("--checkout", "--to", str(tmp_path), "--rows", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    played = [name for name in SCENES if "install" not in name]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{kind}" for name in played for kind in ("cast", "txt")
    ]
    for name in played:
        text = (tmp_path / f"{name}.txt").read_text()
        assert text.startswith("$ ")
        assert "\x1b" not in text
        head, *events = (tmp_path / f"{name}.cast").read_text().splitlines()
        assert json.loads(head)["version"] == 2
        moments = [json.loads(event)[0] for event in events]
        assert moments == sorted(moments)
        assert len(moments) > 5


def test_a_broken_scene_is_an_error(tmp_path: Path) -> None:
    module = manual.load("tests/recording/record.py")
    for scene, problem in (
        ("false\n", "status 1"),
        ("echo yes\n> no\n", "does not show 'no'"),
        ("echo yes\n> ! yes\n", "shows 'yes'"),
        ("true\n> status 1\n", "not status 1"),
        ("exit\n", "the shell has ended"),
    ):
        path = tmp_path / "scene"
        path.write_text(scene)
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        with pytest.raises(module.Broken, match=problem):
            module.record([path], home, size=(24, 80), typing_s=0.0, program=None)
    path.write_text(
        "# a comment\ncat <<END\nfour\nEND\n> four\nfalse\n> status 1\n"
        "sleep 9<ENTER><WAIT 0.3><C-c>\n> status 130\n"
    )
    found = module.record([path], home, size=(24, 80), typing_s=0.0, program=None)
    text, _ = found["scene"]
    assert text == "$ # a comment\n$ cat <<END\n> four\n> END\nfour\n$ false\n$ sleep 9\n^C\n"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("10%\r20%\r\x1b[K30%", "30%\n"),
        ("abc\b\b\x1b[KX", "aX\n"),
        ("\x1b[31mred\x1b[0m\x1b]133;A\x07$ ", "red$\n"),
        ("a\r\nb\r\n\x1b[2A\x1b[JX", "X\n"),
        ("abc\r\x1b[2Cd\x1b[1G\x1b[1Pe", "ed\n"),
        ("ac\x1b[1D\x1b[1@b", "abc\n"),
        ("line\r\n\x1b[1A\x1b[2Knew", "new\n"),
    ],
)
def test_what_a_terminal_shows(data: str, shown: str) -> None:
    screen = manual.load("tests/recording/screen.py")
    assert screen.Screen.plain(data) == shown
