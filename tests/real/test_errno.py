"""S53: a call of the system's that fails, at each call of each command that changes something.

The command ends with an error in words and everything is as before, or, where it can do
without the call, all is done; then the same command works.
STORAGECTL_FAULTS=all tries each call with each errno, otherwise some of them have their turn.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from typing import TYPE_CHECKING

import faults
import pytest
import tally
from changing import CASES, Case, Place, make_editor
from scratch import run

from storagectl.host import is_staged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ALL = os.environ.get("STORAGECTL_FAULTS") == "all"
ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT", "EMFILE", "EACCES")
SOME = 4  # calls of each command
# Commands with several changes of their own: those before the failure stay.
BULK = ("apply", "autostart", "import")
# virsh, too, has no line of what it tried here.
LINES = {"pool-edit": 1, "vol-download": 1, **dict.fromkeys(BULK, 3)}
# What is written in place: the warning tells how far it came.
IN_PLACE = (" are new, the rest is as before", " are overwritten, the rest is as before")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("VISUAL", make_editor(tmp_path))
    return Place(tmp_path)


def points(calls: Sequence[str], turn: int) -> list[tuple[int, str]]:
    """Return which calls are to fail, and how."""
    numbers = [number for number, name in enumerate(calls) if name not in faults.READING]
    if ALL:
        return [(number, code) for number in numbers for code in ERRORS]
    step = max(1, len(numbers) // SOME)
    chosen = numbers[turn % step :: step]
    return [(number, ERRORS[(turn + at) % len(ERRORS)]) for at, number in enumerate(chosen)]


def state_of(place: Place) -> dict[str, object]:
    """Return all there is, but for blocks, and for empty folders of ours: they are no state."""
    found = place.picture(times=False)
    return {
        name: row[:-1] for name, row in found.items()
        if not name.startswith("root") or row[3] is not None
    }  # fmt: skip


def copy(folder: Path, new: Path) -> None:
    run("cp", "--archive", "--sparse=always", folder, new)


def unfinished(place: Place) -> list[str]:
    return [str(path) for path in place.folder.rglob("*") if is_staged(path.name)]


def check(
    place: Place, words: list[str], ended: faults.Outcome, before: object, after: object
) -> None:
    """Fail unless a command has failed, or not, as it may when a call fails."""
    name = words[0]
    assert unfinished(place) == []
    if ended.status == 0:
        assert state_of(place) == after
        return
    assert ended.status == 1
    said = [line for line in ended.stderr.splitlines() if not line.startswith("warning: ")]
    assert all(line.startswith("error: ") for line in said)
    assert len(said) in (2, LINES.get(name))
    in_place = name == "vol-wipe" or any(told in ended.stderr for told in IN_PLACE)
    if name not in BULK and not in_place:
        assert state_of(place) == before
        return
    again = faults.forked(place.root, *words)
    assert (again.status, again.stderr) == (0, "")
    assert state_of(place) == after


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}-{len(case.before)}")
def test_s53_a_call_that_fails(place: Place, case: Case) -> None:
    words = [place.meant(word) for word in shlex.split(case.command)]
    place.anew(case)
    kept = place.folder.with_name("kept")
    before, whole = state_of(place), place.picture(times=False)
    copy(place.folder, kept)

    def restore() -> None:
        shutil.rmtree(place.folder)
        copy(kept, place.folder)

    usual = faults.forked(place.root, *words)
    assert (usual.status, usual.stderr) == (0, ""), usual
    after = state_of(place)
    restore()
    wrong = []
    for number, code in points(usual.calls, CASES.index(case)):
        failing = faults.failing(number, getattr(errno, code))
        ended = faults.forked(place.root, *words, before=failing)
        try:
            with tally.counted(f"errno {code}"):
                check(place, words, ended, before, after)
        except AssertionError as error:
            wrong.append((number, usual.calls[number], code, ended, str(error)[:500]))
        if place.picture(times=False) != whole:
            restore()
    assert not wrong, "\n".join(map(str, wrong))
    again = faults.forked(place.root, *words)
    assert (again.status, again.stderr) == (0, "")
    assert state_of(place) == after
