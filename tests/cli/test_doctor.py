"""doctor as a user sees it: findings, the command that mends each, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from inprocess import storagectl
from terminals import everything

from storagectl.commands.doctor import quoted

SOURCES = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A pool `d` whose folder is there, and one `e` whose folder is not."""
    (tmp_path / "d").mkdir()
    for name in ("d", "e"):
        target = str(tmp_path / name)
        assert storagectl(tmp_path, "pool-define-as", name, "dir", "--target", target).status == 0
    return tmp_path


def mends(shown: str) -> list[list[str]]:
    lines = (line.strip() for line in shown.splitlines())
    return [shlex.split(line[6:]) for line in lines if line.startswith("mend: ")]


def test_what_is_wrong_and_how_it_is_mended(root: Path) -> None:
    done = storagectl(root, "doctor")
    assert (done.status, done.stderr) == (1, "")
    assert done.stdout == (
        "Pool e\n"
        f"  error: the target folder '{root}/e' does not exist\n"
        f"    mend: storagectl --root {root} pool-build e\n"
        "\n1 error; 2 pools looked at\n\n"
    )
    ((program, *words),) = mends(done.stdout)
    assert program == "storagectl"
    assert storagectl(None, *words).status == 0
    done = storagectl(root, "doctor")
    assert (done.status, done.stdout) == (0, "Nothing is wrong with 2 pools\n\n")


def test_one_pool(root: Path) -> None:
    assert storagectl(root, "doctor", "d").stdout == "Nothing is wrong with 1 pool\n\n"
    uuid = storagectl(root, "pool-uuid", "e").stdout.strip()
    done = storagectl(root, "-q", "doctor", uuid)
    assert done.status == 1
    assert done.stdout.endswith("1 error; 1 pool looked at\n")


def test_no_pools(tmp_path: Path) -> None:
    done = storagectl(tmp_path, "doctor")
    assert (done.status, done.stdout) == (0, "Nothing is wrong with 0 pools\n\n")


def test_a_pool_that_is_not_there(root: Path) -> None:
    done = storagectl(root, "doctor", "nosuch")
    assert (done.status, done.stdout) == (1, "\n")
    assert done.stderr == (
        "error: failed to get pool 'nosuch'\n"
        "error: Storage pool not found: no storage pool with matching name 'nosuch'\n"
    )


def test_a_secret_that_others_can_read(root: Path) -> None:
    uuid = "11111111-1111-4111-8111-111111111111"
    (root / "s.xml").write_text(f"<secret><uuid>{uuid}</uuid></secret>")
    (root / "v").write_text("secret")
    storagectl(root, "secret-define", str(root / "s.xml"))
    assert (
        storagectl(root, "secret-set-value", uuid, "--plain", "--file", str(root / "v")).status == 0
    )
    (root / "e").mkdir()
    assert storagectl(root, "doctor").status == 0
    secret = root / f"etc/storagectl/secrets/{uuid}.base64"
    secret.chmod(0o640)
    done = storagectl(root, "doctor")
    assert done.status == 1
    assert done.stdout.startswith("All pools\n  error: others can read the secret ")
    (command,) = mends(done.stdout)
    subprocess.run(command, check=True)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert storagectl(root, "doctor").status == 0


def test_a_definition_that_is_called_after_another_pool(root: Path) -> None:
    (root / "e").mkdir()
    config = root / "etc/storagectl/storage"
    (config / "e.xml").rename(config / "x y.xml")
    done = storagectl(root, "doctor")
    (command,) = mends(done.stdout)
    subprocess.run(command, check=True)
    assert storagectl(root, "doctor").status == 0
    assert (config / "e.xml").exists()


def test_looking_changes_nothing(root: Path) -> None:
    (root / "etc/storagectl/storage/bad.xml").write_text("<pool")
    (root / "etc/storagectl/storage/.storagectl-01.part").touch()

    def picture() -> list[tuple[str, int, int]]:
        return sorted(
            (str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in root.rglob("*")
        )

    before = picture()
    assert storagectl(root, "--readonly", "doctor").status == 1
    assert picture() == before


def test_as_json(root: Path) -> None:
    done = storagectl(root, "--json", "doctor")
    document = json.loads(done.stdout)
    assert (done.status, done.stderr) == (1, "")
    assert (document["ok"], document["error"]) == (False, None)
    result = document["result"]
    assert (result["pools"], result["errors"], result["warnings"]) == (["d", "e"], 1, 0)
    (finding,) = result["findings"]
    assert (finding["pool"], finding["code"], finding["mends"]) == ("e", "target-missing", True)
    assert finding["command"] == ["storagectl", "--root", str(root), "pool-build", "e"]


def test_names_that_act_on_a_terminal(root: Path) -> None:
    (root / "e").mkdir()
    name = "evil\x1b[31m'\u202e\\"
    path = root / f"etc/storagectl/storage/{name}.xml"
    path.write_text("<pool")
    path.chmod(0o600)
    done = storagectl(root, "doctor")
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    line = next(line for line in done.stdout.splitlines() if "mend: " in line)
    word = line.partition("mend: ")[2].partition(" ")[2]
    shown = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert os.fsdecode(shown.stdout) == str(path)


@pytest.mark.parametrize("word", ["a", "a b", "it's", "", "\n", "\udcff", "\\x41\x01", "$(x)\t"])
def test_words_are_quoted_for_the_shell(word: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"printf %s {quoted(word)}"], capture_output=True, check=True
    )
    assert os.fsdecode(done.stdout) == word


def test_on_a_terminal_it_has_colours(root: Path) -> None:
    master, slave = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "TERM": "xterm"}
    env.pop("NO_COLOR", None)
    argv = [sys.executable, "-m", "storagectl", "--root", str(root), "doctor"]
    done = subprocess.run(argv, env=env, stdout=slave, check=False, timeout=60)
    os.close(slave)
    shown = everything(master).decode()
    assert done.returncode == 1
    assert "\x1b[1;31m  error: " in shown
    assert "pool-build e\r\n" in shown
