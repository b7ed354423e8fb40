"""What scripts ask for: answers by exit status, and nothing to do is no failure."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from inprocess import Answer, storagectl
from terminals import everything

from storagectl.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).resolve().parents[2]
UUID = "11111111-1111-4111-8111-111111111111"


class Shell:
    """The program with a root of its own, and a folder for pools."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.target = folder / "pool"

    def run(self, *words: str) -> Answer:
        return storagectl(self.root, *words)

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert (done.status, done.stderr) == (0, ""), done
        return done.stdout

    def fails(self, *words: str) -> str:
        done = self.run(*words)
        assert (done.status, done.stdout) == (1, "\n"), done
        return done.stderr

    def on_terminal(self, *words: str) -> tuple[str, str]:
        """Return stdout, which is a pipe, and what a terminal on stderr shows."""
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "storagectl", "--root", str(self.root), *words],
            stdout=subprocess.PIPE, stderr=theirs, text=True, check=False, timeout=60,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
        )  # fmt: skip
        os.close(theirs)
        return done.stdout, everything(ours).decode().replace("\r\n", "\n")

    def files(self) -> dict[str, bytes]:
        """Return all that the program keeps, but for locks."""
        kept = (path for path in self.root.rglob("*") if path.is_file() or path.is_symlink())
        return {str(path): path.read_bytes() for path in kept if "/lock/" not in str(path)}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made.target.mkdir()
    return made


@pytest.fixture
def defined(shell: Shell) -> Shell:
    """A shell with an inactive pool `p`."""
    shell.ok("pool-define-as", "p", "dir", "--target", str(shell.target))
    return shell


@pytest.fixture
def running(defined: Shell) -> Iterator[Shell]:
    """A shell with a running pool `p` and a volume `v`."""
    defined.ok("pool-start", "p")
    defined.ok("vol-create-as", "p", "v", "4096")
    return defined


# Answers


YES = Answer(0, "", "")
NO = Answer(1, "", "")


def test_pool_exists(running: Shell) -> None:
    uuid = running.ok("pool-uuid", "p").strip()
    for key in ("p", uuid, uuid.upper()):
        assert running.run("pool-exists", key) == YES
    running.ok("pool-destroy", "p")
    assert running.run("pool-exists", "p") == YES
    for key in ("P", "q", UUID, "a/b", "../storage/p"):
        assert running.run("pool-exists", key) == NO
    assert running.run("-t", "pool-exists", "q") == NO
    assert running.run("pool-exists", "") == Answer(
        1, "\n", "error: Failed to get option 'pool': Option argument is empty\n"
    )
    assert running.run("pool-exists") == Answer(
        1, "", "error: command 'pool-exists' requires <pool> option\n"
    )


def test_vol_exists(running: Shell, tmp_path: Path) -> None:
    path = f"{running.target}/v"
    for words in (("v", "p"), ("v", "--pool", "p"), (path,), (path, "p"), (f"{path}/",)):
        assert running.run("vol-exists", *words) == YES
    running.ok("pool-create-as", "other", "dir", "--target", str(tmp_path))
    for words in (("w", "p"), ("v",), (f"{path}w",), ("v", "nowhere"), (path, "other")):
        assert running.run("vol-exists", *words) == NO
    running.ok("pool-destroy", "p")
    assert running.fails("vol-exists", "v", "p") == "error: pool 'p' is not active\n"
    assert running.run("vol-exists", path) == NO


def test_answers_in_a_line_of_commands(running: Shell) -> None:
    assert running.run("vol-exists v p; vol-exists w p; vol-path v p") == Answer(
        0, f"{running.target}/v\n\n", ""
    )


def test_a_name_without_its_pool_is_explained_on_a_terminal_only(running: Shell) -> None:
    assert running.on_terminal("vol-exists", "v") == (
        "", "No vol has the key 'v'; --pool tells where to look for a name\n",
    )  # fmt: skip
    assert running.on_terminal("-q", "vol-exists", "v") == ("", "")
    assert running.on_terminal("vol-exists", "v", "p") == ("", "")


# Nothing to do


def test_start_and_build_if_inactive(defined: Shell) -> None:
    assert defined.ok("pool-build", "p", "--if-inactive") == "Pool p built\n\n"
    assert defined.ok("pool-start", "p", "--if-inactive") == "Pool p started\n\n"
    before = defined.files()
    said = "Pool p is active: nothing to start\n\n"
    assert defined.ok("pool-start", "p", "--if-inactive", "--build", "--overwrite") == said
    said = "Pool p is active: nothing to build\n\n"
    assert defined.ok("pool-build", "p", "--if-inactive", "--overwrite") == said
    assert defined.ok("-q", "pool-start", "p", "--if-inactive") == ""
    assert defined.files() == before
    for command in ("pool-start", "pool-build"):
        assert "is already active" in defined.fails(command, "p")
        assert "no storage pool with matching name 'q'" in defined.fails(
            command, "q", "--if-inactive"
        )


def test_start_if_inactive_still_fails_where_it_cannot_start(defined: Shell) -> None:
    defined.target.rmdir()
    error = defined.fails("pool-start", "p", "--if-inactive")
    assert error.startswith("error: Failed to start pool p\nerror: cannot open directory '")


@pytest.mark.parametrize(
    ("command", "done", "left"),
    [("pool-destroy", "destroyed", "stop"), ("pool-stop", "stopped", "stop"),
     ("pool-refresh", "refreshed", "refresh")],
)  # fmt: skip
def test_if_active(running: Shell, command: str, done: str, left: str) -> None:
    assert running.ok(command, "p", "--if-active") == f"Pool p {done}\n\n"
    running.run("pool-destroy", "p")
    before = running.files()
    assert running.ok(command, "p", "--if-active") == f"Pool p is not active: nothing to {left}\n\n"
    assert running.ok(command, "q", "--if-active") == f"Pool q is not active: nothing to {left}\n\n"
    assert running.files() == before
    assert "is not active" in running.fails(command, "p")
    assert "no storage pool with matching name 'q'" in running.fails(command, "q")


def test_stop_is_destroy_by_another_name(running: Shell) -> None:
    assert running.ok("pool-stop", "p") == "Pool p stopped\n\n"
    assert running.fails("pool-stop", "p") == (
        "error: Failed to stop pool p\n"
        "error: Requested operation is not valid: storage pool 'p' is not active\n"
    )
    assert (running.target / "v").exists()


def test_delete_and_undefine_if_exists(running: Shell) -> None:
    for command in ("pool-delete", "pool-undefine"):
        assert "is still active" in running.fails(command, "p", "--if-exists")
    running.ok("pool-destroy", "p")
    (running.target / "v").unlink()
    assert running.ok("pool-delete", "p", "--if-exists") == "Pool p deleted\n\n"
    assert running.ok("pool-undefine", "p", "--if-exists") == "Pool p has been undefined\n\n"
    for command, verb in (("pool-delete", "delete"), ("pool-undefine", "undefine")):
        assert running.ok(command, "p", "--if-exists") == (
            f"Pool p does not exist: nothing to {verb}\n\n"
        )
        assert "no storage pool with matching name 'p'" in running.fails(command, "p")


def test_vol_delete_if_exists(running: Shell) -> None:
    assert running.ok("vol-delete", "v", "p", "--if-exists") == "Vol v deleted\n\n"
    for words in (("v", "p"), ("v", "nowhere"), (f"{running.target}/v",)):
        assert running.ok("vol-delete", *words, "--if-exists") == (
            f"Vol {words[0]} does not exist: nothing to delete\n\n"
        )
    assert "failed to get vol 'v'" in running.fails("vol-delete", "v", "p")
    running.ok("pool-destroy", "p")
    error = running.fails("vol-delete", "v", "p", "--if-exists")
    assert error == "error: pool 'p' is not active\n"


def test_define_if_missing(running: Shell) -> None:
    before = running.files()
    again = ("pool-define-as", "p", "dir", "--target", "/elsewhere")
    assert running.ok(*again, "--if-missing") == "Pool p exists already: nothing to define\n\n"
    assert running.files() == before
    assert "pool 'p' already exists with uuid" in running.fails(*again)
    conflict = ("pool-define-as", "q", "dir", "--target", str(running.target), "--if-missing")
    assert "Storage source conflict with pool: 'p'" in running.fails(*conflict)
    assert running.ok("pool-define-as", "r", "dir", "--target", "/r", "--if-missing") == (
        "Pool r defined\n\n"
    )


def test_create_and_clone_if_missing(running: Shell) -> None:
    assert running.ok("vol-create-as", "p", "w", "1M", "--if-missing") == "Vol w created\n\n"
    before = sorted(path.stat().st_mtime_ns for path in running.target.iterdir())
    assert running.ok("vol-create-as", "p", "w", "2M", "--if-missing") == (
        "Vol w exists already: nothing to create\n\n"
    )
    assert running.ok("vol-clone", "v", "w", "p", "--if-missing", "--verify") == (
        "Vol w exists already: nothing to clone\n\n"
    )
    assert running.ok("vol-clone", "v", "v", "p", "--if-missing", "--linked") == (
        "Vol v exists already: nothing to clone\n\n"
    )
    assert sorted(path.stat().st_mtime_ns for path in running.target.iterdir()) == before
    assert (running.target / "w").stat().st_size == 1 << 20
    assert "exists already" in running.fails("vol-create-as", "p", "w", "2M")
    assert "storage volume name 'w' already in use." in running.fails("vol-clone", "v", "w", "p")
    assert "does-not-exist" in running.fails("vol-clone", "does-not-exist", "w", "p",
                                             "--if-missing")  # fmt: skip
    assert running.ok("vol-clone", "v", "x", "p", "--if-missing") == "Vol x cloned from v\n\n"


def test_with_xml(running: Shell, tmp_path: Path) -> None:
    pool, volume = tmp_path / "pool.xml", tmp_path / "volume.xml"
    pool.write_text(running.ok("pool-dumpxml", "p").replace("<name>p</name>", "<name>q</name>"))
    pool.write_text(re.sub("<uuid>.*</uuid>", "", pool.read_text()).replace(
        str(running.target), str(tmp_path)))  # fmt: skip
    volume.write_text("<volume><name>w</name><capacity>8192</capacity></volume>")
    define, create = ("pool-define", str(pool), "--if-missing"), ("pool-create", str(pool))
    assert running.ok(*define) == f"Pool q defined from {pool}\n\n"
    assert running.ok(*define) == "Pool q exists already: nothing to define\n\n"
    running.ok("pool-undefine", "q")
    assert running.ok(*create, "--if-inactive") == f"Pool q created from {pool}\n\n"
    before = running.files()
    assert running.ok(*create, "--if-inactive") == "Pool q is active: nothing to create\n\n"
    again = ("pool-create-as", "q", "dir", "--target", "/elsewhere", "--build")
    assert running.ok(*again, "--if-inactive") == "Pool q is active: nothing to create\n\n"
    assert running.files() == before
    assert not os.path.exists("/elsewhere")
    for words in (define, create, again):
        assert "already" in running.fails(*words)
    make = ("vol-create", "p", str(volume), "--if-missing")
    assert running.ok(*make) == f"Vol w created from {volume}\n\n"
    assert running.ok(*make) == "Vol w exists already: nothing to create\n\n"
    copy = ("vol-create-from", "p", str(volume), "v", "p")
    assert running.ok(*copy, "--if-missing", "--verify") == (
        "Vol w exists already: nothing to create\n\n"
    )
    assert "already in use" in running.fails(*copy)
    running.ok("vol-delete", "w", "p")
    assert running.ok(*copy, "--if-missing") == "Vol w created from input vol v\n\n"


def test_an_inactive_pool_is_created_with_its_definition(defined: Shell) -> None:
    """As without the option: a pool of that name with another UUID is in the way."""
    words = ("pool-create-as", "p", "dir", "--target", str(defined.target), "--if-inactive")
    assert "pool 'p' already exists with uuid" in defined.fails(*words)


def test_secrets_that_are_gone(shell: Shell, tmp_path: Path) -> None:
    xml = tmp_path / "s.xml"
    xml.write_text(f"<secret><uuid>{UUID}</uuid></secret>")
    shell.ok("secret-define", str(xml))
    assert shell.ok("secret-undefine", UUID, "--if-exists") == f"Secret {UUID} deleted\n\n"
    assert shell.ok("secret-undefine", UUID, "--if-exists") == (
        f"Secret {UUID} does not exist: nothing to delete\n\n"
    )
    assert "Secret not found" in shell.fails("secret-undefine", UUID)


# What goes and what stays


def test_a_stop_tells_on_a_terminal_what_goes_and_what_stays(running: Shell) -> None:
    stopped = running.on_terminal("pool-stop", "p")
    assert stopped == (
        "Pool p stopped\n\n",
        f"Gone: nothing. Kept: {running.target} with all that is in it and the definition:"
        " pool-start starts it again.\n",
    )
    running.ok("pool-undefine", "p")
    running.ok("pool-create-as", "t", "dir", "--target", str(running.target))
    assert running.on_terminal("pool-destroy", "t") == (
        "Pool t destroyed\n\n",
        "Gone: the pool itself, which had no definition."
        f" Kept: {running.target} with all that is in it.\n",
    )


def test_a_quiet_stop_and_one_of_a_script_tell_nothing(running: Shell) -> None:
    assert running.on_terminal("-q", "pool-stop", "p") == ("", "")
    running.ok("pool-start", "p")
    assert running.run("pool-stop", "p") == Answer(0, "Pool p stopped\n\n", "")


def test_a_conflict_tells_on_a_terminal_who_has_the_source(running: Shell) -> None:
    running.ok("pool-define-as", "off duty", "dir", "--target", "/srv/x")
    for target, name, state, command in (
        (str(running.target), "p", "active", "vol-list p"),
        ("/srv/x", "off duty", "inactive", "pool-start 'off duty'"),
    ):
        words = ("pool-define-as", "q", "dir", "--target", target)
        error = (
            "error: Failed to define pool q\n"
            f"error: operation failed: Storage source conflict with pool: '{name}'\n"
        )
        assert running.fails(*words) == error
        uuid = running.ok("pool-uuid", name).strip()
        assert running.on_terminal(*words)[1] == (
            error + f"hint: pool '{name}' ({uuid}, {state}) has that source: storagectl {command}\n"
        )


# JSON

ID = {"name", "uuid", "type"}


def test_answers_in_json(running: Shell) -> None:
    questions = (("pool-exists", "p"), ("vol-exists", "v", "p"))
    for words in (*questions, ("pool-exists", "q"), ("vol-exists", "w", "p")):
        there = words in questions
        done = running.run(*words, "--json")
        assert done.status == int(not there)
        assert json.loads(done.stdout)["result"] == {"exists": there}
        assert json.loads(done.stdout)["error"] is None


def result(shell: Shell, *words: str) -> dict[str, Any]:
    document = json.loads(shell.ok(*words, "--json"))
    assert document["ok"] is True
    found: dict[str, Any] = document["result"]
    return found


def test_nothing_to_do_in_json(running: Shell) -> None:
    for words, named in (
        (("pool-start", "p", "--if-inactive"), "pool"),
        (("pool-build", "p", "--if-inactive"), "pool"),
        (("pool-define-as", "p", "dir", "--target", "/x", "--if-missing"), "pool"),
        (("vol-create-as", "p", "v", "1", "--if-missing"), "volume"),
        (("vol-clone", "v", "v", "p", "--if-missing"), "volume"),
    ):
        found = result(running, *words)
        assert found["did"] == "nothing"
        assert found[named]["name"] == {"pool": "p", "volume": "v"}[named]
    for words in (
        ("vol-delete", "w", "p", "--if-exists"),
        ("pool-stop", "q", "--if-active"),
        ("pool-destroy", "q", "--if-active"),
        ("pool-refresh", "q", "--if-active"),
        ("pool-delete", "q", "--if-exists"),
        ("pool-undefine", "q", "--if-exists"),
        ("pool-undefine", "q", "--if-exists", "--forget"),
    ):
        assert result(running, *words) == {"did": "nothing"}


def test_what_was_done_in_json(running: Shell) -> None:
    found = result(running, "pool-stop", "p")
    assert (found["did"], found["pool"]["active"]) == ("stopped", False)
    assert result(running, "pool-start", "p", "--if-inactive")["did"] == "started"
    found = result(running, "pool-undefine", "p", "--forget")
    assert (found["did"], set(found["pool"]), found["pool"]["name"]) == ("forgotten", ID, "p")
    running.ok("pool-create-as", "t", "dir", "--target", str(running.target))
    found = result(running, "pool-stop", "t")
    assert (found["did"], set(found["pool"]), found["pool"]["name"]) == ("stopped", ID, "t")


# Forgetting


def test_forget_a_running_pool(running: Shell) -> None:
    running.ok("pool-autostart", "p")
    inode = running.target.stat().st_ino
    assert running.ok("pool-undefine", "p", "--forget") == "Pool p forgotten\n\n"
    assert running.files() == {}
    assert running.target.stat().st_ino == inode
    assert os.listdir(running.target) == ["v"]
    assert "no storage pool with matching name 'p'" in running.fails(
        "pool-undefine", "p", "--forget"
    )
    assert running.ok("pool-undefine", "p", "--forget", "--if-exists") == (
        "Pool p does not exist: nothing to undefine\n\n"
    )
    running.ok("pool-define-as", "p", "dir", "--target", str(running.target))


def test_forget_by_uuid_an_inactive_and_a_transient_pool(defined: Shell, tmp_path: Path) -> None:
    uuid = defined.ok("pool-uuid", "p").strip()
    assert defined.ok("pool-undefine", uuid.upper(), "--forget") == (
        f"Pool {uuid.upper()} forgotten\n\n"
    )
    defined.ok("pool-create-as", "t", "dir", "--target", str(tmp_path))
    assert defined.on_terminal("pool-undefine", "t", "--forget") == (
        "Pool t forgotten\n\n", f"Left as it was: {tmp_path} with all that is in it.\n",
    )  # fmt: skip
    assert defined.files() == {}


def test_forget_asks_nothing_of_the_host(defined: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from storagectl.backends.directory import Directory

    defined.ok("pool-start", "p")

    def ask(backend: object) -> bool:
        raise AssertionError("the host hangs")

    monkeypatch.setattr(Directory, "is_active", ask)
    with pytest.raises(AssertionError):
        defined.run("pool-info", "p")
    assert defined.ok("pool-undefine", "p", "--forget") == "Pool p forgotten\n\n"


def test_forget_is_refused_while_volumes_are_worked_on_and_when_read_only(running: Shell) -> None:
    from storagectl.host import Host

    before = running.files()
    with Store(Host(), str(running.root)).lock_for_volumes("p"):
        error = running.fails("pool-undefine", "p", "--forget")
    assert "error: internal error: pool 'p' has asynchronous jobs running.\n" in error
    error = running.fails("-r", "pool-undefine", "p", "--forget")
    assert "read only access prevents virStoragePoolUndefine" in error
    assert running.files() == before
