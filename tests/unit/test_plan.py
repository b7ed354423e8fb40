"""The host that plans: nothing of the real host's changes is left in it, and what bash reads."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from storagectl.errors import SystemFailure
from storagectl.host import Host
from storagectl.host.plan import Planner
from storagectl.host.script import Script, dd, join, quote

if TYPE_CHECKING:
    from pathlib import Path

# What only reads, locks, asks or talks.
READING = {
    "addresses", "converse", "disk_locked", "find_tool", "has_tool", "is_root", "may_replace",
    "mounts",
    "read_text", "require_reachable", "responds",
}  # fmt: skip


def test_everything_that_changes_the_host_is_planned() -> None:
    public = {name for name, member in vars(Host).items() if callable(member) and name[0] != "_"}
    assert public - READING <= set(vars(Planner))
    assert not READING & set(vars(Planner))


HOSTILE = [
    "a b",
    "it's",
    '"',
    "$HOME `id`",
    "a\nb",
    "\x1b[31m",
    "\udcff",
    "\u202ex",
    "-n",
    "",
    "\\",
]


def bash(script: str) -> bytes:
    return subprocess.run(
        ["bash", "-c", os.fsencode(script)], capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("word", HOSTILE)
def test_bash_reads_each_word_as_it_was(word: str) -> None:
    assert quote(word).isprintable()
    assert bash(f"printf %s {quote(word)}") == os.fsencode(word)
    assert bash(join(["printf", r"%s\0", word, "end"])) == os.fsencode(word) + b"\0end\0"


@pytest.mark.parametrize(
    "text",
    ["", "x", "x\n", "EOF\n", "EOF\nEOF_\n", "a\n\n", "$HOME `id` \\n\n", "\udcff\n", "\x1b\n"],
)
def test_a_file_gets_its_text_and_mode(tmp_path: Path, text: str) -> None:
    script = Script()
    path = tmp_path / "a file"
    script.write(str(path), text, 0o640)
    bash(script.text("test"))
    assert path.read_bytes() == os.fsencode(text)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_script_without_lines_says_so() -> None:
    script = Script()
    assert script.text("x") == "# x would change nothing.\n"
    script.secret("it")
    assert script.text("x") == "# x would change nothing.\n"


def test_secrets_have_descriptors_of_their_own() -> None:
    script = Script()
    assert [script.secret(what) for what in ("a", "b", "a", "it's\nc")] == [9, 8, 9, 7]
    script.command(["true"])
    text = script.text("x")
    assert "# Secret: it's?c has to come on descriptor 7," in text
    assert bash(f"exec 9</dev/null 8</dev/null 7</dev/null\n{text}") == b""


def test_dd_changes_only_its_range(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(range(256)) * 1000)
    other.write_bytes(b"." * 300_000)
    bash(join(dd(str(one), str(other), skip=3, seek=1001, count=70_001)))
    expected = bytearray(b"." * 300_000)
    expected[1001 : 1001 + 70_001] = one.read_bytes()[3 : 3 + 70_001]
    assert other.read_bytes() == expected


def test_what_is_planned_is_remembered(tmp_path: Path) -> None:
    host = Planner()
    folder = str(tmp_path / "a")
    assert host.make_folder(folder, 0o700)
    assert not host.make_folder(folder, 0o700)
    host.write_atomic(f"{folder}/x.xml", "text")
    assert host.read_file(f"{folder}/x.xml") == b"text"
    assert host.list_folder(folder) == ["x.xml"]
    host.remove(f"{folder}/x.xml")
    with pytest.raises(FileNotFoundError):
        host.read_file(f"{folder}/x.xml")
    with pytest.raises(SystemFailure):
        host.remove(f"{folder}/x.xml")
    host.remove(f"{folder}/x.xml", missing_ok=True)
    assert host.list_folder(folder) == []
    assert list(tmp_path.iterdir()) == []
    assert len(host.script.lines) == 3


def test_an_attempt_that_fails_is_forgotten(tmp_path: Path) -> None:
    host = Planner()

    def attempt() -> None:
        with host.attempt():
            host.make_folder(str(tmp_path / "a"), 0o700)
            host.script.secret("it")
            raise KeyError

    with pytest.raises(KeyError):
        attempt()
    assert (host.script.lines, host.script.secrets, host.expected) == ([], [], [])
    assert not host.is_folder(str(tmp_path / "a"))


def test_errors_are_those_of_the_real_host(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")

    def attempts(host: Host, folder: Path) -> list[str]:
        found = []
        for attempt in (
            lambda: host.make_folder(str(folder / "no/such"), 0o700),
            lambda: host.make_folder(str(folder / "file"), 0o700),
            lambda: host.make_parents(str(folder / "file/a/b")),
            lambda: host.remove(str(folder / "no")),
            lambda: host.remove(str(folder / "full")),
            lambda: host.remove_folder(str(folder / "full"), "failure"),
            lambda: host.remove_folder(str(folder / "file"), "failure"),
            lambda: host.remove_folder(str(folder / "no"), "failure"),
            lambda: host.remove_folder("/proc", "failure"),
            lambda: host.write_atomic(str(folder / "no/such"), ""),
            lambda: host.rename(str(folder / "no"), str(folder / "new")),
            lambda: host.set_owner_and_mode(str(folder / "no"), None, None, 0o700),
            lambda: host.tell_kernel(str(folder / "no"), "x", "failure"),
            lambda: host.set_nocow(str(folder / "no"), None),
        ):
            with pytest.raises(SystemFailure) as caught:
                attempt()
            found.append(str(caught.value))
        return found

    planner = Planner()
    assert attempts(planner, tmp_path) == attempts(Host(), tmp_path)
    assert planner.script.lines == []
