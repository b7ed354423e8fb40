"""`apply`: its words, its exit statuses, and that it changes nothing unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from inprocess import storagectl

if TYPE_CHECKING:
    from inprocess import Answer


class Repository:
    """A folder with files, and a machine to apply them to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repository"
        self.root = folder / "root"
        self.srv = folder / "srv"
        self.folder.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("SRV", str(self.srv)))
        return path

    def run(self, *words: object) -> Answer:
        return storagectl(self.root, *map(str, words))

    def apply(self, *words: object) -> Answer:
        return self.run("apply", *(words or (self.folder,)))

    def state(self) -> list[tuple[str, int, bytes]]:
        found = []
        for top in (self.root, self.srv):
            for path in sorted(top.rglob("*")):
                if path.is_file() and "/lock/" not in str(path):
                    found.append((str(path), path.stat().st_mtime_ns, path.read_bytes()))
        return found


POOL = """\
<pool type='dir' build='yes'>
  <name>images</name>
  <target><path>SRV/images</path></target>
</pool>
"""
VOLUME = """\
<volume>
  <name>{}</name>
  <capacity unit='M'>{}</capacity>
  <allocation>0</allocation>
</volume>
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = Repository(tmp_path)
    found.write("images.xml", POOL)
    found.write("images/a.xml", VOLUME.format("a", 1))
    return found


def test_twice(repository: Repository) -> None:
    assert repository.apply() == (0, """\
Pool images defined
Pool images built
Pool images started
Pool images marked as autostarted
Vol a of pool images created
5 changes made

""", "")  # fmt: skip
    before = repository.state()
    assert repository.apply() == (0, "Nothing to change\n\n", "")
    assert repository.apply("--diff", repository.folder) == (0, "Nothing would be changed\n\n", "")
    assert repository.state() == before
    assert repository.run("-q", "apply", repository.folder) == (0, "", "")


def test_diff(repository: Repository) -> None:
    folder = repository.folder
    answer = repository.apply("--diff", folder)
    assert (answer.status, answer.stderr) == (0, "")
    assert (
        answer.stdout
        == f"""\
--- /dev/null
+++ {folder}/images.xml, line 1
@@ -0,0 +1,8 @@
+<pool type='dir'>
+  <name>images</name>
+  <source>
+  </source>
+  <target>
+    <path>{repository.srv}/images</path>
+  </target>
+</pool>
--- /dev/null
+++ {folder}/images/a.xml, line 1
@@ -0,0 +1,8 @@
+<volume type='file'>
+  <name>a</name>
+  <capacity unit='bytes'>1048576</capacity>
+  <allocation unit='bytes'>0</allocation>
+  <target>
+    <format type='raw'/>
+  </target>
+</volume>
Pool images would be defined
Pool images would be built
Pool images would be started
Pool images would be marked as autostarted
Vol a of pool images would be created

"""
    )
    assert not repository.root.exists()
    assert not repository.srv.exists()


def test_the_diff_of_a_change(repository: Repository) -> None:
    repository.apply()
    repository.write("images.xml", POOL.replace(
        "</path>", "</path><permissions><mode>0700</mode></permissions>"
    ))  # fmt: skip
    repository.write("images/a.xml", VOLUME.format("a", 2))
    before = repository.state()
    answer = repository.apply("--diff", "--resize", repository.folder)
    assert (answer.status, answer.stderr) == (
        0, "warning: pool 'images' runs with its old definition until it is stopped and started\n"
        "warning: the folder of pool 'images' has mode 0711, not 0700\n"
    )  # fmt: skip
    changes = [line for line in answer.stdout.splitlines() if line[:1] in ("+", "-", "P", "V")]
    assert changes == [
        "--- images.xml",
        f"+++ {repository.folder}/images.xml, line 1",
        "+    <permissions>",
        "+      <mode>0700</mode>",
        "+    </permissions>",
        "--- images/a.xml",
        f"+++ {repository.folder}/images/a.xml, line 1",
        "-  <capacity unit='bytes'>1048576</capacity>",
        "+  <capacity unit='bytes'>2097152</capacity>",
        "Pool images would be redefined",
        "Vol a of pool images would be resized from 1048576 to 2097152 bytes",
    ]
    assert repository.state() == before


def test_exit_statuses(repository: Repository) -> None:
    words = ("--diff", "--detailed-exitcode", repository.folder)
    assert repository.apply(*words).status == 2
    repository.apply()
    assert repository.apply(*words).status == 0
    repository.write("images/a.xml", VOLUME.format("a", 2))
    assert repository.apply(*words).status == 1
    assert repository.apply(*words, "--resize").status == 2
    line = f"apply --diff --detailed-exitcode --resize {repository.folder}"
    assert repository.run(line).status == 2
    assert repository.run(f"{line}; pool-info nosuch").status == 1
    assert repository.run(f"pool-info nosuch; {line}").status == 2
    assert repository.run(f"{line}; pool-info images").status == 0
    assert repository.apply("--detailed-exitcode", repository.folder) == (
        1, "\n", "error: Option --detailed-exitcode requires --diff\n"
    )  # fmt: skip
    assert repository.apply("--diff", "--keep-going", repository.folder).stderr == (
        "error: Options --diff and --keep-going are mutually exclusive\n"
    )
    assert repository.apply("--prune", "all", repository.folder).stderr == (
        "error: Option --prune takes pools or volumes, not 'all'\n"
    )


def test_an_error_in_one_file_changes_nothing(repository: Repository) -> None:
    repository.write("broken.xml", "<pool")
    repository.write("images/b.xml", "<volume><nam/></volume>")
    for words in ((), ("--keep-going",), ("--diff",)):
        answer = repository.apply(*words, repository.folder)
        assert (answer.status, answer.stdout) == (1, "\n")
        folder = repository.folder
        assert (
            answer.stderr
            == f"""\
error: Failed to read {folder}/broken.xml
error: {folder}/broken.xml:1: Couldn't find end of Start Tag pool line 1
<pool
-----^
error: Failed to read {folder}/images/b.xml, line 1
error: <volume> has no element 'nam'
error: Nothing is changed, for there are errors in the files
"""
        )
    assert not repository.root.exists()


def test_what_is_not_allowed_changes_nothing_unless_told_to_go_on(repository: Repository) -> None:
    repository.apply()
    repository.write("images/a.xml", VOLUME.format("a", 2))
    repository.write("images/b.xml", VOLUME.format("b", 1))
    before = repository.state()
    refusal = (
        f"error: Failed to apply {repository.folder}/images/a.xml, line 1\n"
        "error: Requested operation is not valid: volume 'a' of pool 'images' has a capacity of"
        " 1048576 bytes, and grows to 2097152 with --resize only\n"
    )
    answer = repository.apply()
    assert (answer.status, answer.stdout) == (1, "\n")
    assert answer.stderr == refusal + ("error: Nothing is changed, for not all of it can be done\n")
    assert repository.state() == before
    answer = repository.apply("--keep-going", repository.folder)
    assert (answer.status, answer.stdout) == (1, "Vol b of pool images created\n\n")
    assert answer.stderr == refusal + "error: 1 change made; not all of it could be done\n"


def test_a_pool_that_fails(repository: Repository) -> None:
    repository.write("broken.xml", POOL.replace("images", "broken"))
    repository.srv.mkdir()
    (repository.srv / "broken").touch()
    answer = repository.apply()
    assert (answer.status, answer.stdout) == (1, "\n")
    assert answer.stderr.startswith("error: Failed to build pool broken\nerror: ")
    assert answer.stderr.endswith(
        "error: 0 changes made; not all of it could be done; not tried: images\n"
    )
    answer = repository.apply("--keep-going", repository.folder)
    assert (answer.status, answer.stdout.splitlines()[-2]) == (1, "Vol a of pool images created")
    assert answer.stderr.endswith("error: 5 changes made; not all of it could be done\n")
    assert repository.run("pool-list", "--all", "--name").stdout.split() == ["images"]


def test_prune(repository: Repository) -> None:
    repository.apply()
    repository.write("other.xml", POOL.replace("images", "other"))
    repository.apply(repository.folder / "other.xml")
    (repository.folder / "other.xml").unlink()
    (repository.srv / "images/b").write_bytes(b"data")
    assert repository.apply().stdout == "Nothing to change\n\n"
    words = ("--prune", "volumes", "--prune", "pools", repository.folder)
    before = repository.state()
    shown = repository.apply("--diff", *words).stdout.splitlines()
    assert shown[-4:] == [
        "Pool other would be stopped", "Pool other would be undefined",
        "Vol b of pool images would be deleted", "",
    ]  # fmt: skip
    assert "-  <name>b</name>" in shown
    assert repository.state() == before
    assert repository.apply(*words).stdout == (
        "Pool other stopped\nPool other undefined\nVol b of pool images deleted\n3 changes made\n\n"
    )
    assert os.listdir(repository.srv / "images") == ["a"]
    assert (repository.srv / "other").is_dir()


def test_links_are_pruned_and_what_they_lead_to_is_kept(repository: Repository) -> None:
    repository.apply()
    outside = repository.srv / "outside"
    outside.write_bytes(b"precious")
    (repository.srv / "images/b").symlink_to(outside)
    assert repository.apply("--prune", "volumes", repository.folder).stdout == (
        "Vol b of pool images deleted\n1 change made\n\n"
    )
    assert os.listdir(repository.srv / "images") == ["a"]
    assert outside.read_bytes() == b"precious"


@pytest.mark.parametrize("text", ["<storage/>", "<volume pool='images'><name>a</name></volume>"])
def test_pools_are_not_pruned_by_files_without_any(repository: Repository, text: str) -> None:
    repository.apply()
    empty = repository.write("../empty.xml", text)
    for words in ((), ("--diff",), ("--keep-going",)):
        answer = repository.apply("--prune", "pools", *words, empty)
        assert (answer.status, answer.stderr) == (
            1, "error: No file has a pool: --prune pools would leave none\n"
        )  # fmt: skip
    assert "running" in repository.run("pool-info", "images").stdout


def test_stdin(repository: Repository) -> None:
    import subprocess
    import sys

    text = POOL.replace("SRV", str(repository.srv))
    argv = [sys.executable, "-m", "storagectl", "--root", str(repository.root), "apply", "-"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False,
                          env=environment)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("4 changes made\n\n")
    done = subprocess.run(argv, input="<x/>", text=True, capture_output=True, check=False,
                          env=environment)  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1, "error: Failed to read stdin, line 1"
    )  # fmt: skip


def test_files_that_cannot_be_read(repository: Repository) -> None:
    assert repository.apply("/nosuch.yaml").stderr == (
        "error: Failed to open file '/nosuch.yaml': No such file or directory\n"
    )
    empty = repository.folder / "empty"
    empty.mkdir()
    assert repository.apply(empty).stderr == (
        f"error: no file in '{empty}' ends in .xml, .yaml, .yml\n"
    )
    assert repository.apply("--diff").stderr == "error: command 'apply' requires <file> option\n"


def test_readonly(repository: Repository) -> None:
    answer = repository.run("-r", "apply", repository.folder)
    assert answer.status == 1
    assert "read only access prevents" in answer.stderr
    assert not repository.srv.exists()
    assert repository.run("-r", "apply", "--diff", repository.folder).status == 0


def test_json(repository: Repository) -> None:
    def facts(*words: object, status: int = 0) -> dict[str, Any]:
        answer = repository.apply("--json", *words, repository.folder)
        assert answer.status == status
        found = json.loads(answer.stdout)
        assert found["command"] == "apply"
        assert isinstance(found["result"], dict)
        return {**found["result"], "error": found["error"], "warnings": found["warnings"]}

    found = facts("--diff")
    assert [(step["did"], step["pool"], step["volume"]) for step in found["steps"]] == [
        ("defined", "images", None), ("built", "images", None), ("started", "images", None),
        ("autostart-marked", "images", None), ("created", "images", "a"),
    ]  # fmt: skip
    assert found["steps"][4]["diff"].startswith("--- /dev/null\n+++ ")
    assert (found["steps"][1]["diff"], found["changed"], found["errors"]) == (None, False, [])
    found = facts()
    assert (len(found["steps"]), found["changed"]) == (5, True)
    assert facts() == {"changed": False, "steps": [], "errors": [], "not_tried": [], "notes": [],
                       "error": None, "warnings": []}  # fmt: skip
    repository.write("images/a.xml", VOLUME.format("a", 2))
    found = facts(status=1)
    assert [error["code"] for error in found["errors"]] == ["operation-invalid"]
    assert found["error"]["message"].startswith("Nothing is changed")
    repository.write("images/a.xml", "<volume><nam/></volume>")
    found = facts("--keep-going", status=1)
    assert [error["code"] for error in found["errors"]] == ["document-error"]
    mode = "</path><permissions><mode>0700</mode></permissions>"
    repository.write("images.xml", POOL.replace("</path>", mode))
    repository.write("images/a.xml", VOLUME.format("a", 1))
    assert facts("--diff")["notes"] == [
        "pool 'images' runs with its old definition until it is stopped and started",
        "the folder of pool 'images' has mode 0711, not 0700",
    ]
