"""S53: a call of the system's that fails, at each call of each command that changes something.

The command ends with an error in words and everything is as before, or, where it can do
without the call, all is done; then the same command works.
STORAGECTL_FAULTS=all tries each call with each errno, otherwise some of them have their turn.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import faults
import pytest
import tally
from changing import CASES, RAW, Case, Place, make_editor
from inprocess import put_on_tool_path
from quickluks import quick_qemu_img
from scratch import Program, run

from storagectl.host.files import is_staged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ALL = os.environ.get("STORAGECTL_FAULTS") == "all"
ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT", "EMFILE", "EACCES")
SOME = 4  # calls of each command
# Commands with several changes of their own: those before the failure stay.
BULK = ("apply", "autostart", "import")
# virsh, too, has no line of what it tried here.
LINES = {"pool-edit": 1, "vol-download": 1, **dict.fromkeys(BULK, 3)}
# Old values of secrets are overwritten where that can be done; who is refused tries as the owner.
WIPED = ("secret-define", "secret-set-value", "secret-undefine")
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
    numbers = range(len(calls))
    if ALL:
        chosen = [(number, code) for number in numbers for code in ERRORS]
    else:
        step = max(1, len(numbers) // SOME)
        some = enumerate(numbers[turn % step :: step])
        chosen = [(number, ERRORS[(turn + at) % len(ERRORS)]) for at, number in some]
        synced = [(number, "EIO") for number in numbers if calls[number] == "fsync"]
        chosen += synced[-1:]
    # who may not give a new file the mode and owner of the one before does without, as cp does
    return [
        (number, code) for number, code in chosen
        if (calls[number], code) not in (("fchmod", "EACCES"), ("fchown", "EACCES"))
    ]  # fmt: skip


def changing(calls: Sequence[str]) -> list[str]:
    """Return the calls that do not only read: how many of those there are is left to chance."""
    return [name for name in calls if name not in faults.READING]


def failing(number: int, code: int) -> Callable[[int, str], None]:
    """Have the changing call of that number fail."""
    seen = itertools.count()

    def before(_: int, name: str) -> None:
        if name not in faults.READING and next(seen) == number:
            raise OSError(code, os.strerror(code))

    return before


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
        assert place.state() == after
        return
    assert ended.status == 1
    said = [line for line in ended.stderr.splitlines() if not line.startswith("warning: ")]
    assert all(line.startswith("error: ") for line in said)
    assert len(said) in (2, LINES.get(name))
    in_place = name == "vol-wipe" or any(told in ended.stderr for told in IN_PLACE)
    if name not in BULK and not in_place:
        assert place.state() == before
        return
    again = faults.forked(place.root, *words)
    assert (again.status, again.stderr) == (0, "")
    assert place.state() == after


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}-{len(case.before)}")
def test_s53_a_call_that_fails(place: Place, case: Case, tmp_path: Path) -> None:
    words = [place.meant(word) for word in shlex.split(case.command)]
    place.anew(case)
    (tools := tmp_path / "tools").mkdir()
    quick_qemu_img(tools, tools / "log")
    put_on_tool_path(place.root, tools)
    kept = place.folder.with_name("kept")
    before, whole = place.state(), place.picture(times=False)
    copy(place.folder, kept)

    def restore() -> None:
        shutil.rmtree(place.folder)
        copy(kept, place.folder)

    restore()  # what is in blocks, and what is a hole, is the same each time
    usual = faults.forked(place.root, *words)
    assert (usual.status, usual.stderr) == (0, ""), usual
    after = place.state()
    restore()
    wrong = []
    calls = changing(usual.calls)
    for number, code in points(calls, CASES.index(case)):
        failed = failing(number, getattr(errno, code))
        ended = faults.forked(place.root, *words, before=failed)
        try:
            with tally.counted(f"errno {code}"):
                assert changing(ended.calls)[: number + 1] == calls[: number + 1], "another call"
                check(place, words, ended, before, after)
                must = calls[number] == "fsync" and words[0] not in WIPED and code != "EACCES"
                assert ended.status == 1 or not must, "what is not synced is no success"
        except AssertionError as error:
            wrong.append((number, calls[number], code, ended, str(error)[:500]))
        if place.picture(times=False) != whole:
            restore()
    assert not wrong, "\n".join(map(str, wrong))
    again = faults.forked(place.root, *words)
    assert (again.status, again.stderr) == (0, "")
    assert place.state() == after


# System calls of the program as it is installed, and how they fail
CODES = {
    "fsync": "EIO", "ftruncate": "ENOSPC", "fallocate": "EDQUOT", "rename": "EROFS",
    "renameat2": "ENOSPC", "linkat": "EACCES", "mkdir": "EMFILE", "write": "ENOSPC",
    "fchmod": "EROFS", "unlink": "EIO",
}  # fmt: skip
OUTSIDE = [
    (Case("vol-create-as p new 1M", RAW), "fchmod ftruncate fallocate fsync renameat2 write"),
    (Case("vol-delete new p", (*RAW, "vol-create-as p new 1M")), "rename fsync unlink"),
    (Case("pool-define FILE"), "mkdir fchmod write fsync linkat rename"),
    (Case("pool-undefine named", ("pool-define FILE",)), "rename fsync unlink"),
]


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(
    ("case", "call"), [(case, call) for case, calls in OUTSIDE for call in calls.split()],
    ids=lambda given: given if isinstance(given, str) else given.command,
)  # fmt: skip
def test_s53_a_call_of_the_real_program_fails(
    place: Place, tmp_path: Path, case: Case, call: str
) -> None:
    """From outside: Python's own writes as well.  Words that cannot be written are no undoing."""
    place.anew(case)
    before = place.state()
    argv = Program(place.root).argv(*(place.meant(word) for word in case.command.split()))
    run(*argv)
    after = place.state()
    assert after != before
    log = tmp_path / "calls"
    for number in itertools.count(1) if ALL else [1]:
        place.anew(case)
        inject = f"inject={call}:error={CODES[call]}:when={number}"
        done = subprocess.run(
            ["strace", "-f", "-o", str(log), "-e", f"trace={call}", "-e", inject, *argv],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        failed = re.findall(r"^\d+ +(\w+\(.*) \(INJECTED\)$", log.read_text(), re.MULTILINE)
        if number > 1 and not failed:
            break
        with tally.counted(f"strace {call} {CODES[call]}"):
            assert len(failed) == 1
            assert unfinished(place) == []
            if done.returncode == 0:
                assert place.state() == after, done
                continue
            assert done.returncode == 1, done
            said = done.stderr.splitlines()
            assert all(line.startswith("error: ") for line in said), done
            unsaid = failed[0].startswith("write(1, ")
            assert len(said) == (1 if unsaid else 2), done
            assert place.state() == (after if unsaid else before), done
    place.anew(case)
    assert place.run(case.command).status == 0
