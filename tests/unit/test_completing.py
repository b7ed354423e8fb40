"""What a TAB is answered with: names that are there, and never an error."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from inprocess import storagectl

from storagectl import completing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Have two running pools, with volumes, and one that is not."""
    for name in ("images", "other", "off"):
        (tmp_path / name).mkdir()
        target = str(tmp_path / name)
        assert storagectl(tmp_path, "pool-define-as", name, "dir", "--target", target).status == 0
    for name in ("images", "other"):
        assert storagectl(tmp_path, "pool-start", name).status == 0
    for path in ("images/b", "images/a b", "other/b", "off/c"):
        (tmp_path / path).touch()
    return tmp_path


def offered(root: Path, *args: str) -> list[str]:
    done = storagectl(None, "--complete", "--root", str(root), *args)
    assert done.status == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("pool-all", ["images", "off", "other"]),
        ("pool-persistent", ["images", "off", "other"]),
        ("pool-active", ["images", "other"]),
        ("pool-inactive", ["off"]),
        ("volume images", ["a b", "b"]),
        ("volume off", []),
        ("volume nosuch", []),
        ("volume", ["a b", "b"]),
        ("pool-with b", ["images", "other"]),
        ("pool-with a\u00a0b", ["images"]),
        ("pool-with nosuch", ["images", "other"]),
        ("volume-format nosuch", []),
        ("secret", []),
        ("nosuch", []),
        ("", []),
    ],
)
def test_names(root: Path, args: str, expected: list[str]) -> None:
    words = [word.replace("\u00a0", " ") for word in args.split(" ")]
    assert offered(root, *words) == expected


def test_uuids_and_formats(root: Path) -> None:
    uuid = storagectl(root, "-q", "pool-uuid", "off").stdout.strip()
    assert uuid in offered(root, "pool-uuid")
    assert {"raw", "qcow2"} <= set(offered(root, "volume-format", "images"))
    assert offered(root, "user").count("root") == offered(root, "group").count("root") == 1


def test_secrets(root: Path) -> None:
    file = root / "secret.xml"
    file.write_text("<secret><usage type='iscsi'><target>t</target></usage></secret>")
    assert storagectl(root, "secret-define", str(file)).status == 0
    [uuid] = offered(root, "secret")
    assert uuid in storagectl(root, "secret-list").stdout


def test_a_broken_definition_hides_nothing_else(root: Path) -> None:
    (root / "etc/storagectl/storage/off.xml").write_text("<pool")
    assert offered(root, "pool-all") == ["images", "other"]


def test_a_pool_that_fails_hides_nothing_else(root: Path) -> None:
    os.chmod(root / "images", 0)
    os.rename(root / "images", root / "moved")
    assert offered(root, "volume") == ["b"]


def test_nothing_is_waited_for(root: Path) -> None:
    """A pool may be locked for as long as a clone takes."""
    with open(root / "run/storagectl/lock/images", "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert offered(root, "volume", "images") == ["a b", "b"]


def test_bytes_that_are_no_characters_and_line_breaks(root: Path) -> None:
    (root / "images" / os.fsdecode(b"\xff")).touch()
    (root / "images" / "c\nd").touch()
    assert offered(root, "volume", "images") == ["a b", "b", "\udcff"]


def test_whose_pools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a URI anywhere nothing is looked up; with one it decides."""
    monkeypatch.setattr(completing, "LIBVIRT_FILES", (str(tmp_path / "none"),))
    for name in completing.URI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert completing.serves_system(None) is None
    assert completing.serves_system("storage:///session") is False
    assert completing.serves_system("storage:///system") is True
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "storage:///session")
    assert completing.serves_system(None) is False
    done = storagectl(None, "--complete", "--connect", "test:///default", "pool-all")
    assert done == (0, "", "")


def test_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sys, dev = tmp_path / "sys", tmp_path / "dev"
    for name, size in {
        "sda": 8,
        "sda1": 4,
        "loop0": 0,
        "loop1": 2,
        "ram0": 9,
        "cciss!c0": 1,
    }.items():
        (sys / name).mkdir(parents=True)
        (sys / name / "size").write_text(f"{size}\n")
    for name in ("mapper/control", "mapper/vg-lv", "disk/by-id/wwn-1"):
        (dev / name).parent.mkdir(parents=True, exist_ok=True)
        (dev / name).touch()
    monkeypatch.setattr(completing, "SYS_BLOCK", str(sys))
    monkeypatch.setattr(completing, "DEVICES", str(dev))
    names = ["cciss/c0", "loop1", "sda", "sda1", "mapper/vg-lv", "disk/by-id/wwn-1"]
    assert list(completing.devices()) == [f"{dev}/{name}" for name in names]


def test_every_kind_of_the_completions_is_answered() -> None:
    """A kind that nobody answers would be a TAB without effect."""
    import runpy

    generate = runpy.run_path(str(ROOT / "completions/generate.py"))
    static = {"flag", "text", "file", "folder", *generate["words"]()}
    kinds = {
        option.partition(":")[2].rstrip("=+")
        for name in generate["COMMANDS"]
        for option in generate["options"](name)
    }
    dynamic = {kind for kind in kinds - static if not kind.startswith(("volume-", "format-"))}
    assert dynamic <= completing.KINDS.keys()
    assert {"volume", "volume-format", *dynamic} == completing.KINDS.keys()
