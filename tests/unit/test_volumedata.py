"""The content of volumes: uploads, downloads and wipes, on real files in dir pools."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost
from fakekernel import FakeKernel
from folders import MIB, Lab, last

from storagectl import volumedata
from storagectl.backends import devices, in_use
from storagectl.errors import (
    ArgumentUnsupported,
    InternalError,
    InvalidArgument,
    ResourceBusy,
    SystemFailure,
)
from storagectl.host import Host, bulk
from storagectl.model import Volume

if TYPE_CHECKING:
    from pathlib import Path

# Upload and download


def upload(lab: Lab, content: bytes, *, pipe: bool = False, **window: Any) -> bytes:
    given = {"offset": 0, "length": 0, "sparse": False, **window}
    found = lab.volumes.find("a", "one")
    if pipe:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
    else:
        (lab.root / "input").write_bytes(content)
        reading = os.open(lab.root / "input", os.O_RDONLY)
    try:
        volumedata.upload(lab.volumes, found, reading, bulk.Mover(), **given)
    finally:
        os.close(reading)
    return lab.path("one", "a").read_bytes()


@pytest.mark.parametrize("pipe", [False, True])
def test_upload_into_a_window(lab: Lab, pipe: bool) -> None:
    lab.make("one", "a", b"." * 10)
    assert upload(lab, b"abc", pipe=pipe) == b"abc......."
    assert upload(lab, b"xyz", pipe=pipe, offset=7) == b"abc....xyz"
    assert upload(lab, b"12345", pipe=pipe, offset=3, length=2) == b"abc12..xyz"
    assert upload(lab, b"12", pipe=pipe, offset=3, length=2**64 - 1) == b"abc12..xyz"
    assert upload(lab, b"", pipe=pipe) == b"abc12..xyz"


@pytest.mark.parametrize("path", ["/proc/version", "/sys/devices/system/cpu/online"])
def test_upload_of_what_has_another_size_than_it_says(lab: Lab, path: str) -> None:
    found = lab.make("one", "a", b"." * 9999)
    with open(path, "rb") as stream:
        volumedata.upload(
            lab.volumes, found, stream.fileno(), bulk.Mover(), offset=0, length=0, sparse=False
        )
        stream.seek(0)
        content = stream.read()
    assert content
    assert lab.path("one", "a").read_bytes() == content.ljust(9999, b".")


@pytest.mark.parametrize("size", [0, 1, MIB])
def test_a_file_of_holes_is_as_large_as_it_says(tmp_path: Path, size: int) -> None:
    with (tmp_path / "holes").open("w+b") as stream:
        stream.truncate(size)
        assert volumedata.bytes_left(stream.fileno()) == size


def test_upload_that_does_not_fit_writes_nothing(lab: Lab) -> None:
    lab.make("one", "a", b"." * 10)
    path = lab.path("one", "a")
    for content, window in ((b"x" * 11, {}), (b"x" * 4, {"offset": 7}), (b"x", {"offset": 2**63})):
        text = last(lambda c=content, w=window: upload(lab, c, **w), InvalidArgument)
        assert text.endswith("do not fit into volume 'a' of 10 bytes")
        assert path.read_bytes() == b"." * 10
    assert upload(lab, b"x" * 11, length=10) == b"x" * 10


@pytest.mark.parametrize("window", [{}, {"length": 20}, {"offset": 20}, {"length": 2**64 - 1}])
def test_a_pipe_with_too_much_is_an_error_and_not_cut_short(lab: Lab, window: Any) -> None:
    lab.make("one", "a", b"." * 10)
    text = last(lambda: upload(lab, b"x" * 11, pipe=True, **window), InvalidArgument)
    assert re.fullmatch("invalid argument: there is more data than the [0-9]+ bytes that fit", text)
    assert lab.path("one", "a").stat().st_size == 10


def test_upload_of_holes(lab: Lab) -> None:
    lab.make("one", "a", b"\xee" * MIB)
    with (lab.root / "holes").open("wb") as stream:
        stream.truncate(MIB)
        os.pwrite(stream.fileno(), b"data", 65536)
    found = lab.volumes.find("a", "one")
    with (lab.root / "holes").open("rb") as stream:
        volumedata.upload(
            lab.volumes, found, stream.fileno(), bulk.Mover(), offset=0, length=0, sparse=True
        )
    assert lab.path("one", "a").read_bytes() == (lab.root / "holes").read_bytes()


def download(
    lab: Lab, *, pipe: bool = False, offset: int = 0, length: int = 0, sparse: bool = False
) -> bytes:
    found = lab.volumes.find("a", "one")
    if pipe:
        reading, writing = os.pipe()
        volumedata.download(
            lab.volumes, found, writing, bulk.Mover(), offset=offset, length=length, sparse=sparse
        )
        os.close(writing)
        with open(reading, "rb") as stream:
            return stream.read()
    with (lab.root / "output").open("wb") as stream:
        volumedata.download(
            lab.volumes,
            found,
            stream.fileno(),
            bulk.Mover(),
            offset=offset,
            length=length,
            sparse=sparse,
        )
    return (lab.root / "output").read_bytes()


@pytest.mark.parametrize("pipe", [False, True])
def test_download_of_a_window(lab: Lab, pipe: bool) -> None:
    lab.make("one", "a", b"0123456789")
    assert download(lab, pipe=pipe) == b"0123456789"
    assert download(lab, pipe=pipe, offset=3) == b"3456789"
    assert download(lab, pipe=pipe, offset=3, length=4) == b"3456"
    assert download(lab, pipe=pipe, offset=8, length=2**64 - 1) == b"89"
    assert download(lab, pipe=pipe, offset=10) == b""
    for past_the_end in (11, 2**63, 2**64 - 1):
        assert download(lab, pipe=pipe, offset=past_the_end) == b""


@pytest.mark.parametrize("sparse", [False, True])
def test_download_keeps_holes(lab: Lab, sparse: bool) -> None:
    with lab.path("one", "a").open("wb") as stream:
        stream.truncate(16 * MIB)
        os.pwrite(stream.fileno(), b"data", 5 * MIB)
    assert download(lab, sparse=sparse) == lab.path("one", "a").read_bytes()
    assert ((lab.root / "output").stat().st_blocks * 512 < MIB) is sparse


def test_a_target_that_is_full_is_not_called_a_volume_that_cannot_be_opened(lab: Lab) -> None:
    """S53."""
    found = lab.make("one", "a", b"x" * 10)
    with open("/dev/full", "wb", buffering=0) as stream:
        text = last(
            lambda: volumedata.download(
                lab.volumes, found, stream.fileno(), bulk.Mover(), offset=0, length=0, sparse=True
            ),
            SystemFailure,
        )
    assert text.startswith("cannot move data of volume")
    assert text.endswith("No space left on device")


def test_s22_upload_and_wipe_do_not_follow_a_link(lab: Lab) -> None:
    victim = lab.root / "victim"
    victim.write_bytes(b"precious")
    lab.path("one", "a").symlink_to(victim)
    words = f"'{lab.path('one', 'a')}': Too many levels of symbolic links"
    assert last(lambda: upload(lab, b"x"), SystemFailure) == f"cannot open volume {words}"
    found = lab.volumes.find("a", "one")
    for algorithm in ("zero", "random"):
        failure = last(
            lambda kind=algorithm: volumedata.wipe(lab.volumes, found, kind, bulk.Mover()),
            SystemFailure,
        )
        assert failure == f"Failed to open storage volume with path {words}"
    assert lab.host.calls == []
    assert victim.read_bytes() == b"precious"
    assert download(lab) == b"precious"


@pytest.mark.parametrize("verb", ["upload", "download", "wipe"])
def test_folders_have_no_content(lab: Lab, verb: str) -> None:
    lab.path("one", "a").mkdir()
    action = {
        "upload": lambda: upload(lab, b"x"),
        "download": lambda: download(lab),
        "wipe": lambda: volumedata.wipe(
            lab.volumes, lab.volumes.find("a", "one"), "zero", bulk.Mover()
        ),
    }[verb]
    assert last(action, InternalError) == "internal error: Unexpected volume type 'dir' of 'a'"


def test_s57_one_writer_at_a_time(lab: Lab) -> None:
    found = lab.make("one", "a", b"precious")
    with Host().opened(found.volume.path):
        for action in (
            lambda: upload(lab, b"x"),
            lambda: volumedata.wipe(lab.volumes, found, "zero", bulk.Mover()),
            lambda: lab.volumes.resize(found, MIB, delta=False, shrink=False, allocate=False),
        ):
            assert f"worked on by process {os.getpid()} " in last(action, ResourceBusy)
    assert lab.path("one", "a").read_bytes() == b"precious"


# Wipe


def test_wipe_overwrites_in_place(lab: Lab) -> None:
    found = lab.make("one", "a", b"secret" * 1000)
    inode = lab.path("one", "a").stat().st_ino
    volumedata.wipe(lab.volumes, found, "zero", bulk.Mover())
    assert lab.path("one", "a").read_bytes() == bytes(6000)
    assert lab.path("one", "a").stat().st_ino == inode


def test_wipe_of_a_sparse_volume_leaves_it_sparse(lab: Lab) -> None:
    with lab.path("one", "a").open("wb") as stream:
        stream.truncate(16 * MIB)
        os.pwrite(stream.fileno(), b"secret", 5 * MIB)
        os.fsync(stream.fileno())
    volumedata.wipe(lab.volumes, lab.volumes.find("a", "one"), "zero", bulk.Mover())
    status = lab.path("one", "a").stat()
    assert (status.st_size, status.st_blocks) == (16 * MIB, 0)


def test_an_interrupted_wipe_says_how_far_it_came(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lab.make("one", "a", b"x" * 4 * MIB)
    real = bulk.write_all

    def interrupted(fd: int, block: bytes, offset: int) -> None:
        if offset == 2 * MIB:
            raise KeyboardInterrupt
        real(fd, block, offset)

    monkeypatch.setattr(bulk, "write_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        volumedata.wipe(lab.volumes, found, "zero", bulk.Mover())
    assert capsys.readouterr().err == (
        f"warning: volume '{found.volume.path}': bytes 0 to {2 * MIB} are overwritten,"
        " the rest is as before\n"
    )


def test_wipe_by_scrub(lab: Lab) -> None:
    found = lab.make("one", "a", b"x")
    argv = ["stdbuf", "-o0", "scrub", "-f", "-p", "gutmann", found.volume.path]
    lab.host.script.append((argv, "", 0))
    with lab.host:
        volumedata.wipe(lab.volumes, found, "gutmann", bulk.Mover())


def test_trim_is_refused(lab: Lab) -> None:
    found = lab.make("one", "a", b"x")
    assert last(
        lambda: volumedata.wipe(lab.volumes, found, "trim", bulk.Mover()), ArgumentUnsupported
    ) == ("argument unsupported: 'trim' algorithm not supported")
    assert lab.path("one", "a").read_bytes() == b"x"


@pytest.mark.parametrize(("volume", "opened"), [("sda", "sda1"), ("sda1", "sda")])
def test_s34_a_device_with_another_part_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: str, opened: str
) -> None:
    kernel = FakeKernel(tmp_path, monkeypatch)
    kernel.add("sda", "8:0")
    kernel.add("sda/sda1", "8:1", partition="1")
    numbers = {"/dev/sda": os.makedev(8, 0), "/dev/sda1": os.makedev(8, 1)}
    monkeypatch.setattr(devices, "device_number", numbers.get)
    monkeypatch.setattr(
        in_use,
        "writers",
        lambda paths: ["process 7 (qemu)"] if f"/dev/{opened}" in paths else [],
    )
    lun = Volume("v", path=f"/dev/{volume}", type="block")
    words = f"device '/dev/{volume}' is in use: process 7 (qemu)"
    assert last(lambda: volumedata.require_no_user(FakeHost(), lun), ResourceBusy).endswith(words)
