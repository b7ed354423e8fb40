"""Pools of libvirt's are taken over, and what it has stays as it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

if TYPE_CHECKING:
    from pathlib import Path

UUID = "11111111-2222-3333-4444-{:012}"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a session's libvirt has its definitions."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    folder = tmp_path / "config/libvirt/storage"
    (folder / "autostart").mkdir(parents=True)
    return folder


def define(folder: Path, name: str, number: int, target: str | None = None) -> Path:
    path = folder / f"{name}.xml"
    path.write_text(
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n"
        f"<pool type='dir'>\n  <name>{name}</name>\n  <uuid>{UUID.format(number)}</uuid>\n"
        "  <capacity unit='bytes'>0</capacity>\n  <source>\n  </source>\n"
        f"  <target>\n    <path>{target or f'/srv/{name}'}</path>\n  </target>\n</pool>\n"
    )
    return path


def content(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (path.lstat().st_mtime_ns, "" if path.is_dir() else path.read_text())
        for path in sorted(folder.rglob("*"))
    }


def imported(root: Path, *words: str) -> tuple[int, list[str], str]:
    status, out, err = storagectl(root, "-c", "storage:///session", "import", *words)
    assert out.endswith("\n\n") or out == "\n"
    return status, out.splitlines()[:-1], err


def test_definitions_and_autostart(theirs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    path = define(theirs, "a b", 1)
    (theirs / "autostart/a b.xml").symlink_to(path)
    define(theirs, "c", 2)
    before = content(theirs)
    assert imported(root) == (0, ["Pool a b imported, autostarted", "Pool c imported"], "")
    listed = storagectl(root, "pool-list", "--all").stdout.splitlines()[2:-1]
    assert [line.split() for line in listed] == [
        ["a", "b", "inactive", "yes"], ["c", "inactive", "no"]
    ]  # fmt: skip
    dumped = storagectl(root, "pool-dumpxml", "c").stdout
    assert f"<uuid>{UUID.format(2)}</uuid>" in dumped
    # a second time, after a change of ours, changes nothing
    assert storagectl(root, "pool-autostart", "a b", "--disable").status == 0
    here = content(root / "etc")
    assert here
    assert imported(root) == (0, ["Pool a b is here already", "Pool c is here already"], "")
    assert content(root / "etc") == here
    assert content(theirs) == before


def test_one_that_cannot_be_taken_keeps_no_other_from_it(theirs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    define(theirs, "clash", 7)
    define(theirs, "good", 8)
    define(theirs, "wrong", 9).rename(theirs / "other.xml")
    (theirs / "broken.xml").write_text("<pool type='dir'><name>broken</name>")
    (theirs / "folder.xml").mkdir()
    os.mkfifo(theirs / "pipe.xml")
    (theirs / "zfs.xml").write_text("<pool type='zfs'><name>zfs</name></pool>")
    done = storagectl(root, "pool-define-as", "mine", "dir", "--target", "/srv/clash")
    assert done.status == 0
    status, lines, err = imported(root)
    assert (status, lines) == (1, ["Pool good imported"])
    for words in (
        "error: Failed to import pool 'clash'\nerror: operation failed: Storage source conflict"
        " with pool: 'mine'\n",
        f"error: Failed to import pool 'folder'\nerror: cannot read '{theirs}/folder.xml': "
        "Is a directory\n",
        "does not match pool name 'wrong'\n",
        "error: Failed to import pool 'broken'\nerror: (storage_pool_definition):1: ",
        "error: Failed to import pool 'pipe'\nerror: ",
        "error: Failed to import pool 'zfs'\nerror: ",
        "error: 6 of 7 pools not imported: broken, clash, folder, other, pipe, zfs\n",
    ):
        assert words in err
    assert sorted(os.listdir(root / "etc/storagectl/storage")) == ["good.xml", "mine.xml"]


def test_one_that_differs_stays(theirs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    define(theirs, "p", 1)
    assert storagectl(root, "pool-define-as", "p", "dir", "--target", "/srv/mine").status == 0
    assert imported(root) == (0, ["Pool p is here already, and differs"], "")
    assert "/srv/mine" in storagectl(root, "pool-dumpxml", "p").stdout


def test_what_a_daemon_has_active(theirs: Path, tmp_path: Path) -> None:
    state = tmp_path / "run/libvirt/storage/run"
    state.mkdir(parents=True)
    define(theirs, "p", 1)
    define(theirs, "q", 2)
    define(state, "p", 1)
    define(state, "t", 3)
    (state / "driver.pid").write_text(f"{os.getpid()}\n")
    expected = [
        "Pool p imported; libvirt has it active", "Pool q imported",
        "Pool t is transient, and stays libvirt's; libvirt has it active",
    ]  # fmt: skip
    assert imported(tmp_path / "root") == (0, expected, "")
    (state / "driver.pid").write_text("4194304999\n")
    expected = ["Pool p imported", "Pool q imported"]
    assert imported(tmp_path / "other") == (0, expected, "")


def test_a_folder_of_another_machine(tmp_path: Path) -> None:
    root = tmp_path / "root"
    define(tmp_path, "p", 1)
    assert imported(root, "--folder", str(tmp_path)) == (0, ["Pool p imported"], "")
    assert imported(root, str(tmp_path / "no")) == (
        1, [], f"error: '{tmp_path}/no' is not a directory\n"
    )  # fmt: skip


def test_nothing_to_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert imported(tmp_path) == (0, [f"There is no pool in {tmp_path}/libvirt/storage"], "")


def test_read_only_takes_nothing(theirs: Path, tmp_path: Path) -> None:
    define(theirs, "p", 1)
    status, out, err = storagectl(tmp_path / "r", "-r", "-c", "storage:///session", "import")
    assert (status, out) == (1, "\n")
    assert "operation forbidden: read only access prevents virStoragePoolDefineXML" in err
    assert not (tmp_path / "r").exists()
