"""vol-used-by and pool-used-by: who stands in the way, as far as no device is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from inprocess import storagectl

from storagectl.backends import users

if TYPE_CHECKING:
    from collections.abc import Iterator

QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big")


def overlay(path: Path, backing: str) -> None:
    """Write the header of a qcow2 image that is based on a raw one."""
    name = backing.encode()
    header = bytearray(512)
    header[:8] = QCOW2
    header[8:16] = (112).to_bytes(8, "big")  # where the backing file's name is
    header[16:20] = len(name).to_bytes(4, "big")
    header[20:24] = (16).to_bytes(4, "big")  # cluster bits
    header[24:32] = (1 << 20).to_bytes(8, "big")  # capacity
    header[96:104] = (4).to_bytes(4, "big") + (104).to_bytes(4, "big")
    header[112 : 112 + len(name)] = name
    path.write_bytes(header)


@contextmanager
def holding(path: Path, cwd: Path | None = None) -> Iterator[int]:
    """Have a process that has a file open; give its number."""
    with path.open("rb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, cwd=cwd,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Definitions with a running pool `p` that has volumes `a` and `b`."""
    root, target = tmp_path / "root", tmp_path / "pool"
    target.mkdir()
    (target / "a").write_bytes(bytes(4096))
    (target / "b").write_bytes(bytes(4096))
    ok(root, "pool-define-as", "p", "dir", "--target", str(target))
    ok(root, "pool-start", "p")
    return root


def ok(root: Path, *words: str) -> str:
    done = storagectl(root, *words)
    assert (done.status, done.stderr) == (0, ""), done
    return done.stdout


def uses(root: Path, *words: str) -> list[tuple[str, str, str]]:
    """Return the rows of the table; the command succeeds whether there are any or not."""
    document = json.loads(ok(root, *words, "--json"))
    assert document["result"]["unseen_processes"] == 0
    rows = [(use["kind"], use["user"], use["used"]) for use in document["result"]["uses"]]
    lines = ok(root, "-q", *words).splitlines()
    assert [line.split() for line in lines] == [" ".join(row).split() for row in rows]
    return rows


def comm(pid: int) -> str:
    return f"{pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"


def test_nobody_uses_it(root: Path) -> None:
    empty = " Kind   User   Uses\n---------------------\n\n"
    assert ok(root, "vol-used-by", "a", "p") == empty
    assert ok(root, "pool-used-by", "p") == empty
    assert ok(root, "-q", "pool-used-by", "p") == ""


def test_processes(root: Path, tmp_path: Path) -> None:
    a = tmp_path / "pool" / "a"
    (tmp_path / "other-name").hardlink_to(a)
    with holding(a) as first, holding(tmp_path / "other-name") as second:
        both = sorted([first, second])
        expected = [("process", comm(pid), str(a)) for pid in both]
        assert uses(root, "vol-used-by", "a", "p") == expected
        assert uses(root, "vol-used-by", str(a)) == expected
        assert uses(root, "vol-used-by", "b", "p") == []
        assert uses(root, "pool-used-by", "p") == [("process", comm(first), str(a))]
        use = json.loads(ok(root, "vol-used-by", "a", "p", "--json"))["result"]["uses"][0]
        assert (use["pid"], use["command"]) == (both[0], comm(both[0]).split("(")[1][:-1])
    assert uses(root, "vol-used-by", "a", "p") == []


def test_a_folder_is_used_by_who_stands_in_it_and_by_who_has_deleted_files_open(
    root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pool" / "folder"
    folder.mkdir()
    file = folder / "file"
    file.touch()
    with holding(file, cwd=folder) as pid:
        file.unlink()
        there = [("process", comm(pid), str(folder)),
                 ("process", comm(pid), f"{file} (deleted)")]  # fmt: skip
        assert uses(root, "vol-used-by", "folder", "p") == there
        assert uses(root, "pool-used-by", "p") == there
    (tmp_path / "pool2").mkdir()
    with holding(tmp_path / "root/etc/storagectl/storage/p.xml", cwd=tmp_path / "pool2"):
        assert uses(root, "pool-used-by", "p") == []


def test_images_that_are_based_on_it_in_any_pool(root: Path, tmp_path: Path) -> None:
    pool, far = tmp_path / "pool", tmp_path / "far"
    far.mkdir()
    overlay(pool / "mid", "a")
    overlay(far / "top", f"{pool}/mid")
    overlay(far / "loop", f"{far}/loop")
    ok(root, "pool-create-as", "far", "dir", "--target", str(far))
    assert uses(root, "vol-used-by", "a", "p") == [
        ("overlay", "mid in pool p", f"{pool}/a"),
        ("overlay", "top in pool far", f"{pool}/mid"),
    ]
    assert uses(root, "vol-used-by", "mid", "p") == [("overlay", "top in pool far", f"{pool}/mid")]
    assert uses(root, "vol-used-by", "loop", "far") == [
        ("overlay", "loop in pool far", f"{far}/loop")
    ]
    # inside of a pool its images are its own affair
    assert uses(root, "pool-used-by", "p") == [("overlay", "top in pool far", f"{pool}/mid")]
    assert uses(root, "pool-used-by", "far") == []
    ok(root, "pool-destroy", "far")
    assert uses(root, "pool-used-by", "p") == []


def test_pools_on_it(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pool" / "folder"
    folder.mkdir()
    ok(root, "pool-create-as", "inner", "dir", "--target", f"{folder}/deeper", "--build")
    ok(root, "pool-define-as", "on a", "fs", "--source-dev", f"{tmp_path}/pool/a",
       "--target", "/elsewhere")  # fmt: skip
    ok(root, "pool-define-as", "beside", "dir", "--target", f"{tmp_path}/pool2")
    expected = [
        ("pool", "inner (active)", f"{folder}/deeper"),
        ("pool", "on a (inactive)", f"{tmp_path}/pool/a"),
    ]
    assert uses(root, "pool-used-by", "p") == expected
    assert uses(root, "vol-used-by", "folder", "p") == expected[:1]
    assert uses(root, "vol-used-by", "a", "p") == expected[1:]
    assert uses(root, "pool-used-by", "inner") == []


def test_an_active_pool_with_the_same_source(root: Path, tmp_path: Path) -> None:
    """One that was put beside the others by hand."""
    storage = root / "etc/storagectl/storage"
    text = (storage / "p.xml").read_text()
    uuid = ok(root, "pool-uuid", "p").strip()
    twin = text.replace(">p<", ">twin<").replace(uuid, uuid[:-4] + "0000")
    (storage / "twin.xml").write_text(twin)
    inside = ("pool", "twin (inactive)", f"{tmp_path}/pool")
    assert uses(root, "pool-used-by", "p") == [inside]
    ok(root, "pool-start", "twin")
    assert uses(root, "pool-used-by", "p") == [
        ("pool", "twin (active)", f"{tmp_path}/pool"),
        ("pool", "twin (active)", "the same source"),
    ]


def test_what_others_have_open_may_not_be_seen(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = users.descriptors
    with holding(tmp_path / "pool/a") as hidden, holding(tmp_path / "pool/a") as shown:

        def descriptors(pid: int) -> list[str]:
            if pid == hidden:
                raise PermissionError
            return real(pid) if pid == shown else []

        monkeypatch.setattr(users, "descriptors", descriptors)
        for words in (("vol-used-by", "a", "p"), ("pool-used-by", "p")):
            done = storagectl(root, "-q", *words)
            assert done.status == 0
            assert done.stderr == (
                "warning: what a process of other users has open is not seen; root sees it\n"
            )
            assert str(shown) in done.stdout
            assert str(hidden) not in done.stdout
            document = json.loads(storagectl(root, *words, "--json").stdout)
            assert document["result"]["unseen_processes"] == 1
            assert document["warnings"] == [
                "what a process of other users has open is not seen; root sees it"
            ]
    monkeypatch.setattr(users, "processes", lambda found: ([], 2))
    assert storagectl(root, "vol-used-by", "b", "p").stderr == (
        "warning: what 2 processes of others have open is not seen; root sees it\n"
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["pool-used-by", "q"], "error: failed to get pool 'q'\n"),
        (["vol-used-by", "x", "p"], "error: failed to get vol 'x'\n"),
        (["vol-used-by", "a", "q"], "error: failed to get pool 'q'\n"),
    ],
)
def test_failures(root: Path, words: list[str], error: str) -> None:
    done = storagectl(root, *words)
    assert (done.status, done.stdout) == (1, "\n")
    assert done.stderr.startswith(error)


def test_a_pool_that_is_not_active_has_users_too(root: Path, tmp_path: Path) -> None:
    ok(root, "pool-destroy", "p")
    with holding(tmp_path / "pool/a") as pid:
        assert uses(root, "pool-used-by", "p") == [("process", comm(pid), f"{tmp_path}/pool/a")]
    done = storagectl(root, "vol-used-by", "a", "p")
    assert (done.status, done.stderr) == (1, "error: pool 'p' is not active\n")


def test_kernel_threads_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> Any:
        raise PermissionError

    threads = [pid for pid in users.pids() if not users.is_program(pid)]
    monkeypatch.setattr(users, "pids", lambda: [*threads, os.getppid()])
    assert users.processes(refuse) == ([], 1)
