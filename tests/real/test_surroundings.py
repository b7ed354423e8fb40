"""S53, S55, S26: our folders are full or read-only, and streams and folders are gone."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import tally
from changing import CASES, RAW, Case, Place, make_editor
from scratch import Program, mounted, run, scratch_area

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img"),
]

# One case of each command; those with several changes may have made some.
EACH = {case.command.split()[0]: case for case in CASES if "apply" not in case.command}
# What has, as in virsh, no line of what was tried, or one more for each pool.
OTHER_LINES = ("autostart", "import", "pool-edit", "vol-download")
READING = [
    "pool-list --all", "pool-info p", "pool-dumpxml p", "vol-list p", "vol-info a.img p", "status",
    "doctor", "help", "pool-capabilities", "secret-list", "uri", "--version",
]  # fmt: skip


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with scratch_area() as area:
        monkeypatch.setenv("VISUAL", make_editor(area.folder))
        yield Place(area.folder)


def small(folder: Path, options: str) -> Iterator[Path]:
    """Put a folder with all that is in it on a file system of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder.with_name("kept")
    folder.rename(kept)
    folder.mkdir()
    with mounted("tmpfs", folder, "-t", "tmpfs", "-o", "size=64k"):
        run("cp", "--archive", f"{kept}/.", folder)
        if options == "full":
            with (
                (folder / "filler").open("wb", buffering=0) as stream,
                contextlib.suppress(OSError),
            ):
                while stream.write(bytes(4096)):
                    pass
        run("mount", "-o", f"remount,{options}" if options == "ro" else "remount", folder)
        yield folder
        run("mount", "-o", "remount,rw,size=1m", folder)
        (folder / "filler").unlink(missing_ok=True)
        shutil.rmtree(kept)
        run("cp", "--archive", folder, kept)
    folder.rmdir()
    kept.rename(folder)


@pytest.mark.parametrize("case", EACH.values(), ids=EACH)
@pytest.mark.parametrize("part", ["etc/storagectl", "run/storagectl"])
@pytest.mark.parametrize("how", ["full", "ro"])
def test_s53_a_folder_of_ours_cannot_be_written(
    place: Place, case: Case, part: str, how: str
) -> None:
    """Refused in words, or done without it; everything is as before, and works afterwards."""
    place.anew(case)
    before = place.state()
    with tally.counted(f"{part.split('/')[0]} {how}"):
        for _ in small(place.root / part, how):
            answer = place.run(case.command)
            listed = place.run("pool-list --all")
            assert listed.status == 0, listed
        said = [line for line in answer.stderr.splitlines() if not line.startswith("warning: ")]
        if answer.status:
            assert answer.status == 1
            assert all(line.startswith("error: ") for line in said), answer
            assert len(said) == 2 or case.command.split()[0] in OTHER_LINES, answer
            assert place.state() == before, answer
            assert place.run(case.command).status == 0
        else:
            assert said == []
            assert place.state() != before or case.command.startswith("pool-refresh")


@pytest.mark.parametrize("command", ["vol-create-as p new 1M", *READING])
def test_s26_the_current_folder_is_gone(place: Place, command: str) -> None:
    place.anew(Case("", RAW))
    gone = shlex.quote(str(place.folder / "gone"))
    words = shlex.join(Program(place.root).argv(*shlex.split(command)))
    with tally.counted("current folder deleted"):
        done = shell(f"mkdir {gone} && cd {gone} && rmdir {gone} && {words}")
        assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.parametrize("command", READING)
def test_s55_nobody_can_be_told(place: Place, command: str) -> None:
    """stdout is full, closed, or read no further: never a traceback, never a success untold."""
    place.anew(Case("", RAW))
    words = shlex.join(Program(place.root).argv(*shlex.split(command)))
    for redirected, statuses in (
        (">/dev/full", (1,)), (">&-", (0,)), ("<&- 2>&-", (0,)), ("2>/dev/full", (0,)),
        ("| true", (0, 141)),
    ):  # fmt: skip
        with tally.counted(f"stream {redirected}"):
            done = shell(f"set -o pipefail; {words} {redirected}")
            assert done.returncode in statuses, (redirected, done)
            assert "Traceback" not in done.stderr
            if ">/dev/full" in redirected and "2>" not in redirected:
                assert done.stderr == "error: No space left on device\n"


def test_s55_a_change_that_cannot_be_told_is_made(place: Place) -> None:
    """It fails, as the words are lost, and all of it is there."""
    place.anew(Case("", RAW))
    words = shlex.join(Program(place.root).argv("vol-create-as", "p", "new", "1M"))
    done = shell(f"{words} >/dev/full")
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
    assert place.run("vol-info new p").status == 0


def shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
