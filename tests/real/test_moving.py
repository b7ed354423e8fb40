"""Data of volumes on its way: pipes, progress, checksums, and what others see meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scratch import MIB, Program, Scratch
from terminals import everything
from waiting import wait_for

CONTENT = bytes(range(256)) * (2 * MIB // 256)
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def pool(ctl: Program, scratch: Scratch) -> Path:
    target = scratch.folder / "pool"
    target.mkdir()
    ctl.ok("pool-create-as", "p", "dir", "--target", target)
    ctl.ok("vol-create-as", "p", "one", "2M")
    return target


def piped(ctl: Program, *words: object, given: bytes = b"", status: int = 0) -> tuple[bytes, bytes]:
    done = subprocess.run(ctl.argv(*words), input=given, capture_output=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_stdin_and_stdout(ctl: Program, scratch: Scratch, pool: Path) -> None:
    assert piped(ctl, "vol-upload", "one", "-", "p", given=CONTENT) == (b"\n", b"")
    assert (pool / "one").read_bytes() == CONTENT
    assert piped(ctl, "vol-download", "one", "-", "p") == (CONTENT, b"")
    window = piped(ctl, "vol-download", "one", "-", "p", "--offset", 3, "--length", 300)
    assert window == (CONTENT[3:303], b"")
    copy = scratch.folder / "copy"
    with copy.open("wb") as stream:
        stream.write(b"before")
        stream.flush()
        subprocess.run(ctl.argv("vol-download", "one", "-", "p"), stdout=stream, check=True)
        os.write(stream.fileno(), b"after")
    assert copy.read_bytes() == b"before" + CONTENT + b"after"
    with copy.open("rb") as stream:
        stream.seek(6)
        subprocess.run(
            ctl.argv("vol-upload", "one", "-", "p", "--length", MIB), stdin=stream, check=True
        )
    assert (pool / "one").read_bytes() == CONTENT
    assert sorted(os.listdir(pool)) == ["one"]


def test_a_reader_that_stops_ends_the_download(ctl: Program, pool: Path) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen(ctl.argv("vol-download", "one", "-", "p"), stdout=writing,
                          stderr=subprocess.PIPE) as child:  # fmt: skip
        os.close(writing)
        os.read(reading, 10)
        os.close(reading)
        assert child.communicate()[1] == b""
    assert child.returncode == 141


def test_verify_reads_back_and_prints_a_checksum(
    ctl: Program, scratch: Scratch, pool: Path
) -> None:
    def told(text: str | bytes, name: str, *, verified: bool = True) -> None:
        assert json.loads(text) == {
            "volume": name, "bytes": 2 * MIB, "algorithm": "sha256", "checksum": SUM,
            "verified": verified,
        }  # fmt: skip

    data = scratch.folder / "data"
    data.write_bytes(CONTENT)
    told(ctl.ok("vol-upload", "one", data, "p", "--verify"), "one")
    told(piped(ctl, "vol-upload", "one", "-", "p", "--verify", given=CONTENT)[0], "one")
    told(ctl.ok("vol-download", "one", scratch.folder / "back", "p", "--verify"), "one")
    told(ctl.ok("-q", "vol-clone", "one", "two", "p", "--verify").splitlines()[-1], "two")
    out, said = piped(ctl, "vol-download", "one", "-", "p", "--verify")
    assert out == CONTENT
    told(said, "one", verified=False)
    xml = scratch.folder / "vol.xml"
    xml.write_text("<volume><name>q</name><target><format type='qcow2'/></target></volume>")
    line = ctl.ok("-q", "vol-create-from", "p", xml, "one", "p", "--verify").splitlines()[-1]
    found = json.loads(line)
    assert (found["checksum"], found["verified"]) == (None, True)


def test_verify_of_holes(ctl: Program, scratch: Scratch, pool: Path) -> None:
    content = b"x" * 100 + bytes(4 * MIB) + b"y"
    with (pool / "s").open("wb") as stream:
        stream.write(b"x" * 100)
        stream.seek(4 * MIB, os.SEEK_CUR)
        stream.write(b"y")
    for words in (("vol-clone", "s", "c", "p"), ("vol-download", "s", scratch.folder / "d", "p"),
                  ("vol-upload", "s", scratch.folder / "d", "p", "--sparse")):  # fmt: skip
        found = json.loads(ctl.ok("-q", *words, "--verify").splitlines()[-1])
        assert found["checksum"] == hashlib.sha256(content).hexdigest()


def test_a_write_that_was_lost_is_found(ctl: Program, scratch: Scratch, pool: Path) -> None:
    """A target that reads back as something else: here another process changes it meanwhile."""
    program = (
        "import sys; from storagectl.host import bulk; from storagectl.__main__ import run;"
        "real = bulk.Mover.verify;"
        "bulk.Mover.verify = lambda self, fd, at, n: (__import__('os').pwrite(fd, b'!', at),"
        " real(self, fd, at, n))[1];"
        "sys.exit(run(sys.argv[1:]))"
    )
    words = ctl.argv("vol-clone", "one", "two", "p", "--verify")[3:]
    done = subprocess.run([sys.executable, "-c", program, *words], check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.endswith("what was written reads back differently\n")
    assert os.listdir(pool) == ["one"]


def slowly(child: subprocess.Popen[bytes]) -> None:
    """Feed a child for longer than progress waits."""
    assert child.stdin is not None
    for _ in range(8):
        child.stdin.write(bytes(MIB // 8))
        child.stdin.flush()
        time.sleep(0.1)
    child.stdin.close()


@pytest.mark.parametrize(
    ("terminal", "option"),
    [(False, None), (False, "--progress"), (True, None), (True, "--no-progress")],
)
def test_progress(ctl: Program, pool: Path, terminal: bool, option: str | None) -> None:
    reading, writing = pty.openpty() if terminal else os.pipe()
    argv = ctl.argv("vol-upload", "one", "-", "p", *([option] if option else []))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=writing, stdout=subprocess.DEVNULL,
                          env=environment) as child:  # fmt: skip
        os.close(writing)
        slowly(child)
        said = everything(reading)
    assert child.returncode == 0
    if (terminal, option) in ((False, None), (True, "--no-progress")):
        assert said == b""
    elif terminal:
        assert b"\x1b[" in said
        assert b"bytes" in said or b"iB" in said
    else:
        assert said.endswith(b" MiB/s\n")
        assert said.startswith(b"1 MiB, ")


def test_what_is_over_at_once_shows_no_bar(ctl: Program, scratch: Scratch, pool: Path) -> None:
    reading, writing = pty.openpty()
    subprocess.run(ctl.argv("vol-clone", "one", "two", "p"), stderr=writing, check=True)
    os.close(writing)
    assert everything(reading) == b""


def test_an_upload_is_seen_when_it_is_complete(ctl: Program, pool: Path) -> None:
    """S56: who looks meanwhile, or kills it, finds the old content."""
    volume = pool / "one"
    os.chmod(volume, 0o640)
    os.chown(volume, 12, 34)
    os.setxattr(volume, "user.note", b"kept")
    volume.write_bytes(b"o" * 2 * MIB)
    before = volume.stat()
    for end in (subprocess.Popen.kill, None):
        with subprocess.Popen(ctl.argv("vol-upload", "one", "-", "p"), stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL) as child:  # fmt: skip
            assert child.stdin is not None
            child.stdin.write(b"n" * MIB)
            child.stdin.flush()
            wait_for(lambda: any(n.endswith(".part") for n in os.listdir(pool)), "no start", child)
            assert volume.read_bytes() == b"o" * 2 * MIB
            assert ctl.names("p") == ["one"]
            if end is not None:
                end(child)
    now = volume.stat()
    assert volume.read_bytes() == b"n" * MIB + b"o" * MIB
    assert (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, 12, 34)
    assert now.st_blocks >= before.st_blocks
    assert os.getxattr(volume, "user.note") == b"kept"
    assert os.listdir(pool) == ["one"]


@pytest.mark.parametrize("why", ["open", "linked", "offset"])
def test_an_upload_into_the_file_itself(
    ctl: Program, scratch: Scratch, pool: Path, why: str
) -> None:
    """Somebody else has it too, and is to see what is written."""
    volume = pool / "one"
    inode = volume.stat().st_ino
    if why == "linked":
        os.link(volume, scratch.folder / "other")
    offset = 5 if why == "offset" else 0
    with volume.open("rb") if why == "open" else contextlib.nullcontext():
        piped(ctl, "vol-upload", "one", "-", "p", "--offset", offset, given=b"new")
    assert volume.stat().st_ino == inode
    assert volume.read_bytes()[: offset + 3] == bytes(offset) + b"new"


def test_a_device_that_was_written_to_in_part_is_told_of(ctl: Program, scratch: Scratch) -> None:
    """S56: what cannot be undone is said, on Ctrl-C and on errors."""
    device = scratch.loop(16 * MIB)
    ctl.ok("pool-define-as", "d", "disk", "--source-dev", device, "--target", "/dev")
    ctl.ok("pool-build", "d")
    ctl.ok("pool-start", "d")
    name = f"{Path(device).name}p1"
    ctl.ok("vol-create-as", "d", name, "8M")
    with subprocess.Popen(ctl.argv("vol-upload", name, "-", "d"), stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(b"n" * MIB)
        child.stdin.flush()
        # it comes in pieces of what a pipe holds: all but the last of them are counted by then
        wait_for(lambda: bytes_at(f"/dev/{name}", MIB - 4) == b"nnnn", "no data", child)
        child.terminate()
        assert child.stderr is not None
        said = child.stderr.read().decode()
    assert child.returncode == 143
    start, _, rest = said.partition(" bytes 0 to ")
    assert start == f"warning: volume '/dev/{name}':"
    count, _, rest = rest.partition(" ")
    assert 0 < int(count) <= MIB
    assert rest == "are new, the rest is as before\n"


def bytes_at(path: str, offset: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(4)


def test_a_wipe_that_is_interrupted_says_how_far_it_came(ctl: Program, pool: Path) -> None:
    ctl.ok("vol-create-as", "p", "big", "400M")
    with (pool / "big").open("rb+") as stream:
        stream.write(b"data")
    with ctl.start("vol-wipe", "big", "p", "--algorithm", "dod") as child:
        wait_for(lambda: bytes_at(f"{pool}/big", 0) != b"data", "no start", child)
        child.terminate()
        said = child.communicate()[1]
    assert child.returncode == 143
    assert said.startswith(f"warning: volume '{pool}/big' is overwritten to byte ")
    assert " in pass 1 of 4\n" in said
