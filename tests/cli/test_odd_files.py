"""What is no plain file in a folder of volumes: links, pipes, sockets, devices, folders (S22).

Whoever may write to the folder can put such things there, also between a look and what follows.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hostile import require_refusal, snapshot
from inprocess import Answer, storagectl
from tally import counted

from storagectl.host import Host, bulk

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.tools

KIND = "odd files in a pool"
RACE = "files swapped between look and use"
SECRET = b"root:x:0:0:root\n" * 512
# A pipe that is waited for waits for ever: so long may a command take on a busy machine.
LIMIT_S = 60


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret").chmod(0o640)
    (tmp_path / "source").write_bytes(b"new" * 100)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(SECRET)
    (folder / "plain").write_bytes(bytes(8192))
    (tmp_path / "v.xml").write_text("<volume><name>v</name><capacity>1</capacity></volume>")
    answer = storagectl(tmp_path / "root", "pool-create-as", "p", "dir", "--target", str(folder))
    assert answer.status == 0
    return folder


def plant(pool: Path, kind: str) -> None:
    """Put a thing that is no plain file into the pool, as `v`."""
    path = pool / "v"
    targets = {
        "link to a file": "../secret",
        "absolute link to a file": str(pool.parent / "secret"),
        "link to a folder": "../outside",
        "link to a device": "/dev/null",
        "link to a terminal": "/dev/tty",
        "link to a pipe": "../pipe",
        "link to the pool": ".",
        "link above": "../..",
        "link to another volume": "plain",
        "dangling link": "../nothing",
        "link to itself": "v",
        "link in a circle": "w",
        "link to an empty path": "/proc/self/nothing",
        "link to memory": "/proc/self/mem",
        "link to what is open": "/proc/self/fd/0",
    }
    if kind in targets:
        path.symlink_to(targets[kind])
        if kind == "link in a circle":
            (pool / "w").symlink_to("v")
        elif kind == "link to a pipe":
            os.mkfifo(pool.parent / "pipe")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            before = Path.cwd()
            os.chdir(pool)  # a path of a socket has 108 bytes at most
            try:
                listener.bind("v")
            finally:
                os.chdir(before)
    elif kind == "folder":
        path.mkdir()
    elif kind == "folder that is full":
        (path / "inner").mkdir(parents=True)
        (path / "file").write_bytes(SECRET)
    elif kind == "file that nobody may read":
        path.write_bytes(SECRET)
        path.chmod(0)
    elif kind == "file with another name":
        path.hardlink_to(pool.parent / "outside/file")
    else:
        raise AssertionError(kind)


LINKS = (
    "link to a file", "absolute link to a file", "link to a folder", "link to a device",
    "link to a terminal", "link to a pipe", "link to the pool", "link above",
    "link to another volume", "dangling link", "link to itself", "link in a circle",
    "link to an empty path", "link to memory", "link to what is open",
)  # fmt: skip
OTHERS = (
    "pipe", "socket", "folder", "folder that is full", "file that nobody may read",
)  # fmt: skip
LOOKING = (
    ("vol-list", "p"), ("vol-list", "p", "--details"), ("pool-info", "p"), ("pool-refresh", "p"),
    ("status", "--volumes"), ("doctor",), ("pool-used-by", "p"),
)  # fmt: skip
ONE = (("vol-info", "v", "p"), ("vol-dumpxml", "v", "p"), ("vol-path", "v", "p"))
CHANGING = (
    ("vol-upload", "v", "SOURCE", "p"),
    ("vol-upload", "v", "SOURCE", "p", "--offset", "10"),
    ("vol-wipe", "v", "p"),
    ("vol-wipe", "v", "p", "--algorithm", "random"),
    ("vol-resize", "v", "1M", "p"),
    ("vol-resize", "v", "1M", "p", "--allocate"),
    ("vol-resize", "v", "1", "p", "--shrink"),
    ("vol-create-as", "p", "v", "1M"),
    ("vol-create-as", "p", "v", "1M", "--format", "qcow2"),
    ("vol-create", "p", "DOCUMENT"),
    ("vol-create-from", "p", "DOCUMENT", "plain", "p"),
    ("vol-clone", "plain", "v", "p"),
    ("vol-rename", "plain", "v", "p"),
)  # fmt: skip


def answers(pool: Path, *words: str) -> Answer:
    named = {"SOURCE": str(pool.parent / "source"), "DOCUMENT": str(pool.parent / "v.xml")}
    return storagectl(pool.parent / "root", *(named.get(word, word) for word in words))


@pytest.mark.parametrize("kind", [*LINKS, *OTHERS])
def test_s22_s24_an_odd_file_is_looked_at_and_never_written_through(pool: Path, kind: str) -> None:
    """Lists end and have the other volume; what would write is refused and changes nothing."""
    plant(pool, kind)
    mine = kind.startswith("file that")
    before = snapshot(pool.parent)
    with counted(KIND):
        for words in LOOKING:
            answer = answers(pool, *words)
            assert answer.status == 0, (words, answer)
        assert "plain" in answers(pool, "-q", "vol-list", "p").stdout.split()
        for words in ONE:
            answer = answers(pool, *words)
            assert answer.status == 0 or answer.stderr.startswith("error: "), (words, answer)
            assert "root:x" not in answer.stdout
        for words in CHANGING:
            if mine and words[0] in ("vol-upload", "vol-wipe", "vol-resize"):
                continue
            require_refusal(answers(pool, *words), (kind, words))
            assert snapshot(pool.parent) == before, words


@pytest.mark.parametrize("kind", [*LINKS, *OTHERS, "file with another name"])
def test_s22_deleting_takes_the_name_and_no_more(pool: Path, kind: str) -> None:
    """A link goes, or stays, alone; a folder goes when it is empty."""
    plant(pool, kind)
    (pool / "w").unlink(missing_ok=True)
    outside = snapshot(pool.parent / "outside")
    kept = (pool / "v").lstat().st_mode
    with counted(KIND):
        answer = answers(pool, "vol-delete", "v", "p")
        there = os.path.lexists(pool / "v")
        assert there is (answer.status == 1)
        if there:
            require_refusal(answer, kind)
            assert (pool / "v").lstat().st_mode == kept
        assert (pool.parent / "secret").read_bytes() == SECRET
        assert (pool / "plain").exists()
        after = snapshot(pool.parent / "outside")
        assert set(after) == set(outside)
        assert (pool.parent / "outside/file").read_bytes() == SECRET


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe", "link to what is open"])
def test_s24_a_pipe_never_blocks_the_real_program(pool: Path, kind: str) -> None:
    plant(pool, kind)
    words = [*LOOKING, *ONE, *CHANGING[:7], ("vol-download", "v", "/dev/null", "p"),
             ("vol-clone", "v", "c", "p"), ("vol-rename", "v", "c", "p"),
             ("vol-delete", "v", "p")]  # fmt: skip
    line = "; ".join(" ".join(each) for each in words).replace("SOURCE", f"{pool.parent}/source")
    with counted(KIND, len(words)):
        done = subprocess.run(
            [sys.executable, "-m", "storagectl", "--root", str(pool.parent / "root"), line],
            capture_output=True, check=False, timeout=LIMIT_S,
            env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode in (0, 1)
        assert b"Traceback" not in done.stderr


@pytest.mark.root
def test_s22_a_device_node_in_the_folder(pool: Path) -> None:
    """A character device is no volume; a block device that is not there can't be opened."""
    os.mknod(pool / "character", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.mknod(pool / "block", stat.S_IFBLK | 0o600, os.makedev(259, 1048575))
    with counted(KIND, 2):
        for words in LOOKING:
            assert answers(pool, *words).status == 0, words
        assert "character" not in answers(pool, "-q", "vol-list", "p").stdout.split()
        for name in ("character", "block"):
            for words in CHANGING[:7]:
                given = (name if word == "v" else word for word in words)
                require_refusal(answers(pool, *given), (name, words))


@pytest.mark.parametrize("target", ["..", "outside/..", "link", "/", "/var", "folder/"])
def test_s42_deleting_a_pool_takes_an_empty_folder_alone(pool: Path, target: str) -> None:
    """Not what a link leads to, nor what is above it, nor anything that is not empty."""
    home = pool.parent
    (home / "link").symlink_to("outside")
    (home / "folder").mkdir()
    (home / "folder/file").write_bytes(SECRET)
    path = target if target.startswith("/") else f"{home}/pool/{target}"
    if target in ("link", "folder/", "outside/.."):
        path = f"{home}/{target}"
    with counted(KIND):
        made = answers(pool, "pool-define-as", "d", "dir", "--target", path)
        if made.status:
            require_refusal(made, path)
            return
        before = snapshot(home)
        require_refusal(answers(pool, "pool-delete", "d"), path)
        assert snapshot(home) == before


# Between look and use


def swap(path: Path, target: Path) -> Callable[[], None]:
    """Return what puts a link in the place of a file, once, as somebody else would."""
    done = []

    def act() -> None:
        if not done:
            done.append(True)
            path.rename(path.with_name(".away"))
            path.symlink_to(target)

    return act


def before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], None]) -> None:
    """Let something happen just before a function runs."""
    real = getattr(owner, name)

    def run(*arguments: Any, **options: Any) -> Any:
        act()
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, run)


@pytest.mark.parametrize("words", CHANGING[:7])
@pytest.mark.parametrize("moment", ["using", "opened", "may_replace", "replacing", "_stage"])
def test_s22_a_link_in_the_place_of_a_volume_is_not_followed(
    pool: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], moment: str
) -> None:
    """Whenever it comes: before the lock, before it is opened, or before it is written."""
    from storagectl.pools import Pools

    (pool / "v").write_bytes(b"x" * 8192)
    act = swap(pool / "v", pool.parent / "secret")
    before(monkeypatch, Pools if moment == "using" else Host, moment, act)
    with counted(RACE):
        answer = answers(pool, *words)
        assert answer.status == 0 or answer.stderr.startswith("error: ")
        assert (pool.parent / "secret").read_bytes() == SECRET
        assert stat.S_IMODE((pool.parent / "secret").stat().st_mode) == 0o640


@pytest.mark.parametrize("algorithm", ["random", "zero"])
def test_s22_a_volume_is_swapped_before_it_is_wiped(
    pool: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """scrub overwrites what was opened, and not what has the name by now."""
    (pool / "v").write_bytes(b"x" * 8192)
    act = swap(pool / "v", pool.parent / "secret")
    if algorithm == "zero":
        before(monkeypatch, bulk.Mover, "zero", act)
    else:
        before(monkeypatch, Host, "_spawn", act)
    with counted(RACE):
        assert answers(pool, "vol-wipe", "v", "p", "--algorithm", algorithm).status == 0
        assert (pool / "v").is_symlink()
        assert (pool.parent / "secret").read_bytes() == SECRET
        assert (pool / ".away").read_bytes() != b"x" * 8192


def test_s22_an_upload_replaces_only_what_it_has_opened(
    pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pool / "v").write_bytes(b"x" * 8192)
    before(monkeypatch, Host, "complete", swap(pool / "v", pool.parent / "secret"))
    with counted(RACE):
        answer = answers(pool, "vol-upload", "v", "SOURCE", "p")
        require_refusal(answer, "upload")
        assert "has just been replaced by another process" in answer.stderr
        assert (pool.parent / "secret").read_bytes() == SECRET
        assert (pool / "v").is_symlink()
        assert not [path for path in pool.iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize("how", ["symlink", "hard link"])
def test_s22_a_new_volume_gives_no_other_file_away(
    pool: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its unfinished file is put aside, and a link to the secret in its place."""

    def act() -> None:
        for path in pool.glob(".storagectl-*"):
            path.rename(pool / ".away")
            if how == "symlink":
                path.symlink_to(pool.parent / "secret")
            else:
                path.hardlink_to(pool.parent / "secret")

    before(monkeypatch, Host, "set_owner_and_mode", act)
    with counted(RACE):
        answer = answers(pool, "vol-create-as", "p", "v", "1M", "--mode", "0777")
        assert stat.S_IMODE((pool.parent / "secret").stat().st_mode) == 0o640
        assert (pool.parent / "secret").read_bytes() == SECRET
        if how == "hard link":
            require_refusal(answer, how)


def test_s22_a_pipe_in_the_place_of_a_volume_that_is_listed(
    pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at once, opened without waiting, and not taken for the file."""
    from storagectl.backends import images

    (pool / "v").write_bytes(b"x" * 8192)
    real = images.permissions_of

    def looked(path: str, status: os.stat_result) -> Any:
        if path.endswith("/v") and not (pool / ".away").exists():
            (pool / "v").rename(pool / ".away")
            os.mkfifo(pool / "v")
        return real(path, status)

    monkeypatch.setattr(images, "permissions_of", looked)
    with counted(RACE):
        answer = answers(pool, "vol-list", "p", "--details")
        assert answer.status == 0
        assert " plain " in answer.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("vol-create-as", "p", "v", "1M", "--format", "qcow2"),
        ("vol-clone", "image", "v", "p"),
        ("vol-clone", "image", "v", "p", "--verify"),
        ("vol-clone", "image", "v", "p", "--linked"),
        ("vol-clone", "image", "v", "p", "--capacity", "3M"),
    ],
)
@pytest.mark.parametrize("moment", ["open_staged", "_spawn"])
def test_s22_a_link_in_the_place_of_an_image_that_is_made(
    pool: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], moment: str
) -> None:
    """qemu-img writes to the file that was made, whatever has its name when it runs."""
    image = ("qemu-img", "create", "-q", "-f", "qcow2", str(pool / "image"), "2M")
    subprocess.run(image, check=True)

    def act() -> None:
        for path in pool.glob(".storagectl-*"):
            if not path.is_symlink():
                path.rename(pool / f".away{os.urandom(4).hex()}")
                path.symlink_to(pool.parent / "secret")

    before(monkeypatch, Host, moment, act)
    with counted(RACE):
        answers(pool, *words)
        assert (pool.parent / "secret").read_bytes() == SECRET


def test_what_qemu_img_says_of_a_file_it_cannot_delete_is_not_shown(pool: Path) -> None:
    document = pool.parent / "wrong.xml"
    document.write_text(
        "<volume><name>v</name><capacity>1</capacity><target><format type='qcow2'/>"
        "<clusterSize unit='B'>3</clusterSize></target></volume>"
    )
    answer = answers(pool, "vol-create", "p", str(document))
    require_refusal(answer, "cluster size")
    assert answer.stderr.endswith(
        f" unexpected exit status 1: qemu-img: {pool}/v: Cluster size must be a power of two"
        " between 512 and 2048k\n\n"
    )
    assert "/proc/self/fd" not in answer.stderr
    assert not [path for path in pool.iterdir() if path.name != "plain"]


@pytest.mark.parametrize("kind", ["link to a file", "pipe", "link to a device"])
def test_s22_a_link_as_the_lock_or_an_unfinished_file(pool: Path, kind: str) -> None:
    """Names like those of our own unfinished files, put there by somebody else, harm nothing."""
    plant(pool, kind)
    (pool / "v").rename(pool / ".storagectl-0123456789abcdef.part")
    with counted(KIND):
        for words in (
            ("pool-refresh", "p"),
            ("vol-create-as", "p", "new", "1M"),
            ("vol-upload", "new", "SOURCE", "p"),
            ("vol-delete", "new", "p"),
        ):
            assert answers(pool, *words).status == 0, words
        assert (pool.parent / "secret").read_bytes() == SECRET
