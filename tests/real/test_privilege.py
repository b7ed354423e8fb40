"""Everything as an ordinary user: it works, or says at once what it takes, and leaks nothing."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tally
from inprocess import Answer, storagectl

import storagectl as package
from storagectl.commands import COMMANDS
from storagectl.pooltypes import POOL_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

NOBODY = 65534
UUID = "11111111-1111-4111-8111-111111111111"

# What follows a command's name; POOL and FOLDER are set in, the rest of COMMANDS takes nothing.
# Those that wait for a terminal or for events are asked for what ends at once.
ARGUMENTS = {
    "apply": ["FOLDER/apply.xml"],
    "cd": ["/"],
    "connect": ["storage:///session"],
    "echo": ["x"],
    "find-storage-pool-sources": ["netfs", "FOLDER/source.xml"],
    "find-storage-pool-sources-as": ["logical"],
    "help": ["pool-list"],
    "pool-create": ["FOLDER/pool.xml"],
    "pool-create-as": ["other", "dir", "--target", "FOLDER/other"],
    "pool-define": ["FOLDER/pool.xml"],
    "pool-define-as": ["other", "dir", "--target", "FOLDER/other"],
    "pool-event": ["--list"],
    "pool-list": ["--all", "--details"],
    "secret-define": ["FOLDER/secret.xml"],
    "secret-dumpxml": [UUID],
    "secret-get-value": [UUID],
    "secret-set-value": [UUID, "--plain", "--file", "FOLDER/value"],
    "secret-undefine": [UUID],
    "pool-name": [UUID],
    "vol-clone": ["v", "w", "POOL"],
    "vol-create": ["POOL", "FOLDER/volume.xml"],
    "vol-create-as": ["POOL", "w", "1M"],
    "vol-create-from": ["POOL", "FOLDER/volume.xml", "v"],
    "vol-download": ["v", "FOLDER/out", "POOL"],
    "vol-list": ["POOL", "--details"],
    "vol-pool": ["v"],
    "vol-rename": ["v", "w", "POOL"],
    "vol-resize": ["v", "2M", "POOL"],
    "vol-upload": ["v", "FOLDER/value", "POOL"],
}

TYPES = {
    "dir": "dir --target FOLDER/target",
    "fs": "fs --source-dev /dev/loop0 --source-format ext4 --target FOLDER/target",
    "netfs": "netfs --source-host 127.0.0.1 --source-path /nosuch --target FOLDER/target",
    "logical": "logical --source-name nosuch-group --source-dev /dev/loop0 --target /dev/nosuch",
    "disk": "disk --source-dev /dev/loop0 --source-format gpt --target /dev",
    "iscsi": "iscsi --source-host 127.0.0.1 --source-dev iqn.2024-01.x:y"
    " --target /dev/disk/by-path",
    "scsi": "scsi --adapter-name host0 --target /dev/disk/by-path",
    "mpath": "mpath --target /dev/mapper",
}


def words_of(command: str, pool: str, folder: Path) -> list[str]:
    """Return a command with arguments on a pool."""
    default = []
    if command.startswith("pool-") and command != "pool-capabilities":
        default = ["POOL"]
    elif command.startswith("vol-"):
        default = ["v", "POOL"]
    given = ARGUMENTS.get(command, default)
    return [command, *(word.replace("POOL", pool).replace("FOLDER", str(folder)) for word in given)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can look into, with documents for the commands."""
    folder = Path(tempfile.mkdtemp(prefix="sctest-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "value").write_text("hunter2-as-nobody")
    (folder / "source.xml").write_text("<source><host name='127.0.0.1'/></source>")
    pool = f"<pool type='dir'><name>other</name><target><path>{folder}/other</path></target></pool>"
    for name in ("pool.xml", "apply.xml"):
        (folder / name).write_text(pool)
    (folder / "secret.xml").write_text(f"<secret><uuid>{UUID}</uuid></secret>")
    (folder / "volume.xml").write_text("<volume><name>w</name><capacity>1</capacity></volume>")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def _everything_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    for module in pkgutil.walk_packages(package.__path__, "storagectl."):
        if module.name != "storagectl.__main__":
            importlib.import_module(module.name)
    root = tmp_path_factory.mktemp("root")
    socket.getaddrinfo("localhost", 1)
    for kind, definition in TYPES.items():
        words = definition.replace("FOLDER", str(root)).replace("loop0", f"loop0{kind}").split()
        storagectl(root, "pool-define-as", kind, *words)
        for command in ("doctor", "pool-start"):
            if kind in ("dir", "fs") or command == "doctor":
                storagectl(root, command, kind)
    for command in ("status --volumes", "pool-list --json --all", "pool-start dir --build"):
        storagectl(root, *command.split())


def as_nobody(root: Path, *words: str) -> Answer:
    """Run the program in a process of its own as another user.

    What it imports has to be there already: that user may not read the modules.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.chdir("/")
            os.environ["EDITOR"] = "true"
            answer = json.dumps(storagectl(root, *words)).encode()
            with open(writer, "wb") as stream:
                stream.write(answer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read()
    assert os.waitpid(pid, 0)[1] == 0, words
    return Answer(*json.loads(said))


def require_clean(words: list[str], done: Answer) -> None:
    """Success, or virsh's two lines and nothing but them."""
    with tally.counted("commands without privilege"):
        _require_clean(words, done)


def _require_clean(words: list[str], done: Answer) -> None:
    assert "Traceback" not in done.stderr, (words, done)
    assert done.status in (0, 1), (words, done)
    if done.status == 1 and words[0] not in ("doctor", "pool-exists", "vol-exists"):
        lines = done.stderr.splitlines()
        assert len(lines) in (1, 2), (words, done)
        assert all(line.startswith("error: ") for line in lines), (words, done)


def tree(top: Path) -> dict[str, object]:
    """Return what there is, with contents, modes, owners and times."""
    return {
        str(path.relative_to(top)): (
            (status := path.lstat()).st_mode, status.st_uid, status.st_mtime_ns,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in (top, *top.rglob("*"))
    }  # fmt: skip


def everything(folder: Path, root: Path, pool: str) -> dict[str, Answer]:
    """Run each command there is, as nobody."""
    found = {}
    for command in COMMANDS:
        words = words_of(command, pool, folder)
        found[command] = as_nobody(root, *words)
        require_clean(words, found[command])
    return found


def test_s27_the_store_of_root_is_closed_to_others(folder: Path) -> None:
    """No command changes anything in it, or tells what is in it."""
    root = folder / "root"
    (folder / "target").mkdir()
    (folder / "target/hidden-volume").write_text("hidden-data")
    for line in (
        f"pool-define-as hidden-pool dir --target {folder}/target",
        "pool-start hidden-pool",
        "pool-autostart hidden-pool",
        f"secret-define {folder}/secret.xml",
        f"secret-set-value {UUID} --plain --file {folder}/value",
    ):
        assert storagectl(root, *line.split()).status == 0
    root.chmod(0o755)
    before = tree(root)
    found = everything(folder, root, "hidden-pool")
    absent = {name: as_nobody(root, *words_of(name, "no-such-pool", folder)) for name in COMMANDS}
    assert tree(root) == before
    for command, done in found.items():
        # what it says of a pool that is there is what it says of one that is not
        told = (done.status, *(s.replace("hidden-pool", "no-such-pool") for s in done[1:]))
        assert told == tuple(absent[command]), command
        assert "hidden-volume" not in repr(done), command
        assert "hunter2" not in repr(done), command
    print(
        f"S27: {2 * len(found)} commands on root's store as nobody, nothing changed, no name told"
    )


@pytest.mark.parametrize("kind", [row.name for row in POOL_TYPES.values() if row.module])
def test_s27_every_command_on_a_store_of_ones_own(folder: Path, kind: str) -> None:
    own = folder / "own"
    for made in (own, own / "other"):
        made.mkdir()
        os.chown(made, NOBODY, NOBODY)
    for name in ("apply.xml", "pool.xml", "secret.xml", "source.xml", "value", "volume.xml"):
        shutil.copy(folder / name, own / name)
        text = (own / name).read_text().replace(f"{folder}/other", f"{own}/other")
        (own / name).write_text(text)
    root = own / "root"
    define = TYPES[kind].replace("FOLDER", str(own)).split()
    assert as_nobody(root, "pool-define-as", "p", *define).status == 0
    target = own / "target"
    if kind == "dir":
        assert as_nobody(root, "pool-start", "p", "--build").status == 0
        assert as_nobody(root, "vol-create-as", "p", "v", "1M").status == 0
    else:
        for command in (
            "pool-start p",
            "pool-start p --build --overwrite",
            "pool-start p --dry-run",
        ):
            words = command.split()
            done = as_nobody(root, *words)
            require_clean(words, done)
            said = f"error: operation forbidden: a pool of type {kind} is started by root only"
            assert done.stderr.splitlines() == ["error: Failed to start pool p", said]
        # nothing was begun
        assert not target.exists()
        assert not any((root / "run/storagectl/storage").glob("*"))
    found = {}
    for command in sorted(COMMANDS, key=lambda name: name in ("pool-destroy", "pool-stop")):
        words = words_of(command, "p", own)
        found[command] = as_nobody(root, *words)
        require_clean(words, found[command])
