"""Hints: what may have been meant, and what would help; on a terminal, never in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from inprocess import storagectl
from terminals import everything

from storagectl.commands.hints import closest

SOURCES = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images", "other", "off"):
        target = tmp_path / name
        target.mkdir()
        defined = storagectl(tmp_path, "pool-define-as", name, "dir", "--target", str(target))
        assert defined.status == 0
    for name in ("images", "other"):
        assert storagectl(tmp_path, "pool-start", name).status == 0
    for path in ("images/web.qcow2", "images/two words", "images/ab\u202ecd", "other/db.raw"):
        (tmp_path / path).touch()
    return tmp_path


def hint(root: Path, *args: str) -> str:
    """Return the hint of a command that fails, "" where there is none."""
    done = storagectl(root, *args, hints=True)
    assert done.status == 1, done
    errors, _, shown = done.stderr.partition("hint: ")
    assert errors.splitlines() == [line for line in errors.splitlines() if line[:7] == "error: "]
    assert storagectl(root, *args) == (1, done.stdout, errors)
    return shown.removesuffix("\n")


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["pool-lst"], "pool-list"),
        (["POOL_LIST"], "pool-list"),
        (["list-pools"], "pool-list"),
        (["vol-craete-as", "--nosuch"], "vol-create-as"),
        (["xyzzy"], None),
        (["pool-list; pol-info x"], "pool-info"),
        (["help", "pool-destory"], "pool-destroy"),
        (["help", "volumes"], "volume"),
        (["pool-list", "--detials"], "--details"),
        (["pool-list", "--xyzzy"], None),
        (["--raedonly", "pool-list"], "--readonly"),
        (["pool-info", "imgaes"], "images"),
        (["pool-info", "Images"], "images"),
        (["pool-start", "of"], "off"),
        (["pool-info", "xyzzy"], None),
        (["vol-list", "othr"], "other"),
        (["vol-info", "web.qcow", "images"], "web.qcow2"),
        (["vol-info", "two word", "--pool", "images"], "two words"),
        (["vol-info", "web.qcow", "other"], None),
        (["vol-info", "bd.raw"], "db.raw"),
        (["vol-info", "abcd", "images"], "ab\\xe2\\x80\\xaecd"),
        (["vol-delete", "xyzzy", "images"], None),
        (["vol-create-as", "images", "v", "1M", "--format", "qocw2"], "qcow2"),
        (["vol-create-as", "images", "v", "1M", "--format", "xyzzy"], None),
        (["vol-wipe", "web.qcow2", "images", "--algorithm", "gutman"], "gutmann"),
        (["pool-list", "--type", "logcal"], "logical"),
        (
            [
                "pool-define-as",
                "x",
                "fs",
                "--source-dev",
                "/dev/x",
                "--target",
                "/x",
                "--source-format",
                "ext",
            ],
            "ext2",
        ),
        (["pool-define-as", "x", "logcal", "--target", "/x"], "logical"),
    ],
)
def test_what_may_be_meant(root: Path, args: list[str], meant: str | None) -> None:
    assert hint(root, *args) == (f"did you mean '{meant}'?" if meant else "")


def test_paths_are_told_by_their_last_part(root: Path) -> None:
    path = f"{root}/images/web.qcow2"
    assert hint(root, "vol-key", f"{root}/images/web.qcow") == f"did you mean '{path}'?"
    assert hint(root, "vol-key", f"{root}/images/xyzzy") == ""


def test_what_to_do_about_a_pool_s_state(root: Path) -> None:
    renamed = storagectl(root, "pool-define-as", "two words", "dir", "--target", f"{root}/two")
    assert renamed.status == 0
    assert hint(root, "vol-list", "off") == "to start it: storagectl pool-start off"
    assert hint(root, "vol-info", "x", "off") == "to start it: storagectl pool-start off"
    assert hint(root, "pool-refresh", "two words") == (
        "to start it: storagectl pool-start 'two words'"
    )
    for command in ("pool-undefine", "pool-delete", "pool-build"):
        assert hint(root, command, "other") == "to stop it: storagectl pool-destroy other"


def test_a_volume_without_its_pool(root: Path) -> None:
    assert hint(root, "vol-info", "web.qcow2") == "pool 'images' has it: --pool images"
    assert hint(root, "vol-name", "web.qcow2") == ""
    assert hint(root, "vol-clone", "db.raw", "copy") == "pool 'other' has it: --pool other"


def test_a_volume_of_another_pool(root: Path) -> None:
    given = f"{root}/images/web.qcow2"
    assert hint(root, "vol-info", given, "--pool", "other") == "it is in pool 'images'"


def test_a_definition_that_is_broken_is_not_what_was_meant(root: Path) -> None:
    """It has that very name."""
    [file] = root.rglob("off.xml")
    file.write_text("<pool")
    done = storagectl(root, "pool-info", "off", hints=True)
    assert done.status == 1
    assert "did you mean" not in done.stderr


def test_the_first_of_those_that_are_equally_like() -> None:
    assert closest("vol-x", ["vol-b", "vol-a", "vol-x"]) == "vol-a"
    assert closest("", ["a"]) is None
    assert closest("a", []) is None


@pytest.mark.parametrize(("wanted", "terminal"), [("", True), ("", False), ("never", True)])
def test_on_a_terminal_only(root: Path, wanted: str, terminal: bool) -> None:
    """And difflib is imported only where the hint is shown."""
    reading, writing = pty.openpty() if terminal else os.pipe()
    program = (
        "import atexit, os, sys\n"
        "atexit.register(lambda: os.write(1, str('difflib' in sys.modules).encode()))\n"
        "from storagectl.__main__ import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--root", str(root), "pool-info", "imgaes"],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "STORAGECTL_HINTS": wanted},
        stdout=subprocess.PIPE, stderr=writing, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    shown = everything(reading).decode().replace("\r\n", "\n")
    expected = "hint: did you mean 'images'?\n" if terminal and not wanted else ""
    assert shown == (
        "error: failed to get pool 'imgaes'\nerror: Storage pool not found: no storage pool with"
        f" matching name 'imgaes'\n{expected}"
    )
    assert done.stdout.strip() == str(bool(expected))
