"""What may be done with a volume when, on real files in dir pools."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from folders import MIB, UUID, Lab, last, lines

from storagectl import host, poollife
from storagectl.backends import in_use
from storagectl.backends.directory import Directory
from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    InvalidArgument,
    NoSupport,
    OperationDenied,
    OperationFailed,
    OperationInvalid,
    PoolInactive,
    PoolNotFound,
    ResourceBusy,
    StorageError,
    SystemFailure,
    VolumeElsewhere,
    VolumeExists,
    VolumeNameTaken,
    VolumeNotFound,
    VolumesInactive,
)
from storagectl.host import Host, bulk, files, lasting, locks
from storagectl.model import BackingStore, Encryption, Pool, Volume
from storagectl.volumes import sanitized

if TYPE_CHECKING:
    from pathlib import Path

BAD_NAMES = ["../escape", "x/y", "/abs", "..", ".", "", "a\0b", "a\nb"]


# Look-up


def test_with_a_pool_a_volume_is_found_by_name_key_and_path(lab: Lab) -> None:
    lab.make("one", "a", b"x")
    path = str(lab.path("one", "a"))
    for key in ("a", path, f"{path}/", path.replace("/one/", "//one///")):
        found = lab.volumes.find(key, "one")
        assert (found.entry.name, found.volume.name, found.volume.path) == ("one", "a", path)
    assert lab.volumes.find("a", UUID.format(0)).entry.name == "one"


def test_without_a_pool_only_key_and_path_count(lab: Lab) -> None:
    lab.make("one", "a", b"x")
    assert lab.volumes.find(str(lab.path("one", "a")), None).volume.name == "a"
    assert lines(lambda: lab.volumes.find("a", None), VolumeNotFound) == [
        "failed to get vol 'a', specifying --pool might help",
        "Storage volume not found: no storage vol with matching path 'a'",
    ]
    assert lines(lambda: lab.volumes.find("a", None, pool_option="inputpool"), VolumeNotFound)[
        0
    ].endswith("specifying --inputpool might help")
    assert lines(lambda: lab.volumes.find("a", None, pool_option=None), VolumeNotFound)[0] == (
        "failed to get vol 'a'"
    )


def test_not_found_in_a_pool(lab: Lab) -> None:
    assert lines(lambda: lab.volumes.find("a", "one"), VolumeNotFound) == [
        "failed to get vol 'a'",
        "Storage volume not found: no storage vol with matching path 'a'",
    ]
    assert lines(lambda: lab.volumes.find("/x//y/", "one"), VolumeNotFound)[1] == (
        "Storage volume not found: no storage vol with matching path '/x//y/' (/x/y)"
    )


def test_a_volume_of_another_pool(lab: Lab) -> None:
    lab.make("two", "a", b"x")
    path = str(lab.path("two", "a"))
    assert lines(lambda: lab.volumes.find(path, "one"), VolumeElsewhere) == [
        f"Requested volume '{path}' is not in pool 'one'"
    ]
    lines(lambda: lab.volumes.find("a", "one"), VolumeNotFound)


def test_volumes_of_inactive_pools_are_not_found(lab: Lab) -> None:
    lab.path("off", "a").write_bytes(b"x")
    assert lines(lambda: lab.volumes.find("a", "off"), VolumesInactive) == [
        "pool 'off' is not active"
    ]
    lines(lambda: lab.volumes.find(str(lab.path("off", "a")), None), VolumeNotFound)
    assert last(lambda: lab.volumes.all("off", details=False), PoolInactive) == (
        "Requested operation is not valid: storage pool 'off' is not active"
    )
    lines(lambda: lab.volumes.find("a", "none"), PoolNotFound)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_s03_no_look_up_leaves_the_folder(lab: Lab, name: str) -> None:
    """delete, upload, download, wipe and resize all come here first."""
    (lab.root / "escape").write_bytes(b"precious")
    (lab.path("one", "x")).mkdir()
    (lab.path("one", "x") / "y").write_bytes(b"precious")
    lines(lambda: lab.volumes.find(name, "one"), VolumeNotFound)
    lines(lambda: lab.volumes.find(f"{lab.root}/one/../escape", None), VolumeNotFound)
    lines(lambda: lab.volumes.find(f"{lab.root}/one/x/y", None), VolumeNotFound)
    lines(lambda: lab.volumes.find(f"{lab.root}/one/", None), VolumeNotFound)


def test_a_broken_pool_hides_no_volume_of_the_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S60."""
    lab.make("two", "a", b"x")
    real = Directory.volume_name_at

    def broken(self: Directory, path: str) -> str | None:
        if self.pool.name == "one":
            raise SystemFailure("gone")
        return real(self, path)

    monkeypatch.setattr(Directory, "volume_name_at", broken)
    assert lab.volumes.find(str(lab.path("two", "a")), None).entry.name == "two"


def test_backing_volumes_are_looked_up_everywhere(lab: Lab) -> None:
    lab.make("one", "a", b"x")
    lab.make("two", "b", b"x")
    assert lab.volumes.find_backing("a", "one").name == "a"
    assert lab.volumes.find_backing(str(lab.path("two", "b")), "one").name == "b"
    assert lines(lambda: lab.volumes.find_backing("b", "one"), VolumeNotFound) == [
        "failed to get vol 'b'",
        "Storage volume not found: no storage vol with matching path 'b'",
    ]


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("a", "a"), ("a/", "a"), ("/a//b/", "/a/b"), ("//a/b", "//a/b"), ("///a/b", "/a/b"),
        ("a//b", "a/b"), ("/", "/"), ("", ""), ("/a/../b", "/a/../b"),
    ],
)  # fmt: skip
def test_sanitized(path: str, clean: str) -> None:
    assert sanitized(path) == clean


def test_the_list_is_sorted_as_virsh_sorts(lab: Lab) -> None:
    for name in ("b", "A", "a", "B", "_x", "ü"):
        lab.path("one", name).write_bytes(b"")
    names = [volume.name for volume in lab.volumes.all("one", details=True)]
    assert names == ["_x", "A", "a", "B", "b", "ü"]
    assert [volume.name for volume in lab.volumes.all("one", details=False)] == names


# Create


@pytest.mark.parametrize(
    ("capacity", "allocation"), [(0, 0), (1, 0), (MIB, 0), (MIB, MIB), (MIB, 4096), (4097, MIB)]
)
def test_create_raw(lab: Lab, capacity: int, allocation: int) -> None:
    lab.volumes.create("one", lab.raw("a", capacity, allocation), metadata=False)
    status = lab.path("one", "a").stat()
    assert status.st_size == capacity
    assert status.st_mode & 0o777 == 0o600
    assert status.st_blocks * 512 >= min(capacity, allocation)
    if not allocation:
        assert status.st_blocks == 0
    assert os.listdir(lab.root / "one") == ["a"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_s25_a_volume_has_the_mode_that_was_asked_for(lab: Lab, umask: int) -> None:
    before = os.umask(umask)
    try:
        lab.volumes.create("one", lab.raw("a"), metadata=False)
        volume = lab.raw("b")
        volume.permissions.mode = 0o640
        lab.volumes.create("one", volume, metadata=False)
    finally:
        os.umask(before)
    assert lab.path("one", "a").stat().st_mode & 0o777 == 0o600
    assert lab.path("one", "b").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", BAD_NAMES)
def test_s03_bad_names_are_refused(lab: Lab, name: str) -> None:
    source = lab.make("one", "src", b"x")
    (lab.path("one", "x")).mkdir()
    before = lab.everything()
    for action in (
        lambda: lab.volumes.create("one", lab.raw(name), metadata=False),
        lambda: lab.volumes.create_from(
            "one", lab.raw(name), source, bulk.Mover(), metadata=False, reflink=False
        ),
    ):
        text = last(action, OperationInvalid)
        assert text.startswith("Requested operation is not valid: volume ")
        assert f"volume name '{name}'" in text or f"/{name}' already exists" in text
    assert lab.everything() == before
    assert not (lab.root / "escape").exists()


@pytest.mark.parametrize("name", ["-rf", "--help", "$(id)", "a b", "`id`", "a;b", "*", "é", "'"])
def test_s04_s05_odd_names_are_only_names(lab: Lab, name: str) -> None:
    lab.volumes.create("one", lab.raw(name), metadata=False)
    assert os.listdir(lab.root / "one") == [name]
    lab.volumes.delete(lab.volumes.find(name, "one"), snapshots=False)
    assert os.listdir(lab.root / "one") == []


@pytest.mark.parametrize("name", ["a\tb", "a\x1b[2J", ".storagectl-0123.part"])
def test_s07_names_that_are_never_listed_are_refused(lab: Lab, name: str) -> None:
    text = last(lambda: lab.volumes.create("one", lab.raw(name), metadata=False), OperationInvalid)
    assert text.endswith("can't be listed")
    assert os.listdir(lab.root / "one") == []


def test_a_name_that_is_taken(lab: Lab) -> None:
    source = lab.make("one", "a", b"old")
    assert lines(lambda: lab.volumes.create("one", lab.raw("a"), metadata=False), VolumeExists) == [
        "storage volume 'a' exists already"
    ]
    assert lines(
        lambda: lab.volumes.create_from(
            "one", lab.raw("a"), source, bulk.Mover(), metadata=False, reflink=False
        ),
        VolumeNameTaken,
    ) == ["internal error: storage volume name 'a' already in use."]
    assert lab.path("one", "a").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["dangling", "fifo", "link"])
def test_s22_what_stands_there_unseen_is_never_replaced(lab: Lab, kind: str) -> None:
    victim = lab.root / "victim"
    path = lab.path("one", "a")
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(victim)
        if kind == "link":
            victim.mkdir(mode=0o755)
            os.mkfifo(victim / "x")
    for action in (
        lambda: lab.volumes.create("one", lab.raw("a"), metadata=False),
        lambda: lab.volumes.create("one", Volume("a", format="dir"), metadata=False),
    ):
        with pytest.raises(StorageError, match="already exists|exists already"):
            action()
    assert victim.exists() == (kind == "link")


def test_s57_the_race_that_another_process_wins(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.path("one", "a")
    ftruncate = os.ftruncate

    def other_first(fd: int, size: int) -> None:
        path.write_bytes(b"first")
        ftruncate(fd, size)

    monkeypatch.setattr(os, "ftruncate", other_first)
    text = last(lambda: lab.volumes.create("one", lab.raw("a"), metadata=False), OperationInvalid)
    assert text == f"Requested operation is not valid: volume target path '{path}' already exists"
    assert path.read_bytes() == b"first"
    assert os.listdir(lab.root / "one") == ["a"]


def test_refusals_of_create(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Volume("a", format="raw", capacity=1, encryption=Encryption("luks"))
    assert last(lambda: lab.volumes.create("one", secret, metadata=False), InvalidArgument) == (
        "invalid argument: A single <secret type='passphrase'...> element is expected in"
        " encryption description"
    )
    assert last(
        lambda: lab.volumes.create("one", lab.raw("a"), metadata=True), ConfigUnsupported
    ) == ("unsupported configuration: metadata preallocation is not supported for raw volumes")
    backed = Volume("a", format="raw", capacity=1, backing=BackingStore("/x"))
    assert last(lambda: lab.volumes.create("one", backed, metadata=False), NoSupport).endswith(
        "backing storage not supported for raw volumes"
    )
    assert last(
        lambda: lab.volumes.create("off", lab.raw("a"), metadata=False), PoolInactive
    ).endswith("storage pool 'off' is not active")
    monkeypatch.setattr(Directory, "create_volume", None)
    assert last(lambda: lab.volumes.create("one", lab.raw("a"), metadata=False), NoSupport) == (
        "this function is not supported by the connection driver: storage pool does not support"
        " volume creation"
    )
    assert lab.everything() == {}


@pytest.mark.parametrize("capacity", [2**63 - 1, 2**63, 2**64 - 1])
def test_s09_more_than_a_file_can_hold(lab: Lab, capacity: int) -> None:
    text = last(
        lambda: lab.volumes.create("one", lab.raw("a", capacity), metadata=False), SystemFailure
    )
    assert text == f"cannot extend file '{lab.path('one', 'a')}': File too large"
    assert lab.everything() == {}


def test_create_a_folder(lab: Lab) -> None:
    lab.volumes.create("one", Volume("d", format="dir"), metadata=False)
    assert lab.path("one", "d").is_dir()
    assert lab.volumes.find("d", "one").volume.type == "dir"


# Clone


def test_clone_is_equal_and_sparse(lab: Lab) -> None:
    content = bytearray(8 * MIB)
    content[MIB : MIB + 5000] = os.urandom(5000)
    with lab.path("one", "a").open("wb") as stream:
        stream.truncate(8 * MIB)
        os.pwrite(stream.fileno(), content[MIB : MIB + 5000], MIB)
    source = lab.volumes.find("a", "one")
    lab.volumes.create_from(
        "two", lab.raw("b"), source, bulk.Mover(), metadata=False, reflink=False
    )
    made = lab.path("two", "b")
    assert made.read_bytes() == content
    assert made.stat().st_blocks <= lab.path("one", "a").stat().st_blocks + 16
    assert made.stat().st_mode & 0o777 == 0o600


def test_clone_into_a_larger_and_allocated_volume(lab: Lab) -> None:
    source = lab.make("one", "a", b"abc")
    wanted = lab.raw("b", MIB, MIB)
    lab.volumes.create_from("one", wanted, source, bulk.Mover(), metadata=False, reflink=False)
    status = lab.path("one", "b").stat()
    assert lab.path("one", "b").read_bytes() == b"abc" + bytes(MIB - 3)
    assert status.st_blocks * 512 >= MIB


def test_clone_never_shrinks(lab: Lab) -> None:
    source = lab.make("one", "a", b"abcdef")
    lab.volumes.create_from(
        "one", lab.raw("b", 1), source, bulk.Mover(), metadata=False, reflink=False
    )
    assert lab.path("one", "b").read_bytes() == b"abcdef"


def test_refusals_of_clone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.path("one", "d").mkdir()
    folder = lab.volumes.find("d", "one")
    kwargs = {"metadata": False, "reflink": False}
    assert last(
        lambda: lab.volumes.create_from("one", lab.raw("b"), folder, bulk.Mover(), **kwargs),
        InternalError,
    ) == ("internal error: cannot copy from volume of type 'dir'")
    source = lab.make("one", "a", b"x")
    monkeypatch.setattr(Directory, "create_volume_from", None)
    assert last(
        lambda: lab.volumes.create_from("one", lab.raw("b"), source, bulk.Mover(), **kwargs),
        NoSupport,
    ).endswith("storage pool does not support volume creation from an existing volume")
    assert sorted(os.listdir(lab.root / "one")) == ["a", "d"]


def test_s57_a_volume_that_is_being_written_is_not_cloned(lab: Lab) -> None:
    source = lab.make("one", "a", b"x")
    with Host().opened(source.volume.path, write=True):
        text = last(
            lambda: lab.volumes.create_from(
                "one", lab.raw("b"), source, bulk.Mover(), metadata=False, reflink=False
            ),
            ResourceBusy,
        )
    assert f"is being worked on by process {os.getpid()} " in text
    assert os.listdir(lab.root / "one") == ["a"]


# Delete


def test_delete(lab: Lab) -> None:
    lab.volumes.delete(lab.make("one", "a", b"x"), snapshots=False)
    assert lab.everything() == {}


def test_delete_a_folder_only_when_it_is_empty(lab: Lab) -> None:
    (lab.path("one", "d") / "e").mkdir(parents=True)
    found = lab.volumes.find("d", "one")
    path = lab.path("one", "d")
    assert last(lambda: lab.volumes.delete(found, snapshots=False), SystemFailure) == (
        f"cannot remove directory '{path}': Directory not empty"
    )
    (path / "e").rmdir()
    lab.volumes.delete(found, snapshots=False)
    assert not path.exists()


def test_s22_delete_removes_a_link_and_not_its_target(lab: Lab) -> None:
    victim = lab.root / "victim"
    victim.write_bytes(b"precious")
    lab.path("one", "a").symlink_to(victim)
    lab.volumes.delete(lab.volumes.find("a", "one"), snapshots=False)
    assert victim.read_bytes() == b"precious"
    assert lab.everything() == {}


def test_refusals_of_delete(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    found = lab.make("one", "a", b"x")
    assert last(lambda: lab.volumes.delete(found, snapshots=True), StorageError) == (
        "unsupported flags (0x2) in function virStorageBackendVolDeleteLocal"
    )
    poollife.stop(lab.pools, "one")
    assert last(lambda: lab.volumes.delete(found, snapshots=False), PoolInactive).endswith(
        "storage pool 'one' is not active"
    )
    poollife.start(lab.pools, "one", build=False, overwrite=False, no_overwrite=False)
    monkeypatch.setattr(Directory, "delete_volume", None)
    assert last(lambda: lab.volumes.delete(found, snapshots=False), NoSupport).endswith(
        "storage pool does not support vol deletion"
    )
    assert lab.path("one", "a").exists()


# Resize


def resize(lab: Lab, capacity: int, **flags: bool) -> int:
    found = lab.volumes.find("a", "one")
    given = {"delta": False, "shrink": False, "allocate": False, **flags}
    lab.volumes.resize(found, capacity, **given)
    return lab.path("one", "a").stat().st_size


def test_resize(lab: Lab) -> None:
    lab.volumes.create("one", lab.raw("a", MIB), metadata=False)
    assert resize(lab, 2 * MIB) == 2 * MIB
    assert resize(lab, MIB, delta=True) == 3 * MIB
    assert resize(lab, MIB, shrink=True) == MIB
    assert resize(lab, 1000, delta=True, shrink=True) == MIB - 1000
    assert resize(lab, 2**63, delta=True, shrink=True) == 0
    assert lab.path("one", "a").stat().st_blocks == 0
    assert resize(lab, MIB, allocate=True) == MIB
    assert lab.path("one", "a").stat().st_blocks * 512 >= MIB


def test_shrinking_what_gives_its_allocation_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Directory, "shrinks_allocation", True)
    lab.make("one", "a", b"x" * 8192)
    with pytest.raises(InvalidArgument, match="unless shrink flag explicitly specified"):
        resize(lab, 4096)
    assert resize(lab, 4096, shrink=True) == 4096


def test_refusals_of_resize(lab: Lab) -> None:
    lab.make("one", "a", b"x" * 8192)
    assert last(lambda: resize(lab, 100, shrink=True), InvalidArgument) == (
        "invalid argument: can't shrink capacity below existing allocation"
    )
    os.truncate(lab.path("one", "a"), MIB)
    assert last(lambda: resize(lab, MIB - 1), InvalidArgument) == (
        "invalid argument: Can't shrink capacity below current capacity unless shrink flag"
        " explicitly specified"
    )
    assert last(lambda: resize(lab, 2**62, allocate=True), OperationFailed) == (
        "operation failed: Not enough space left in storage pool"
    )
    assert lab.path("one", "a").stat().st_size == MIB


@pytest.mark.parametrize("capacity", [2**63 - 1, 2**63, 2**64 - 1])
def test_s09_resize_to_more_than_a_file_can_hold(lab: Lab, capacity: int) -> None:
    lab.make("one", "a", b"x" * 10)
    text = last(lambda: resize(lab, capacity), SystemFailure)
    assert text == f"Failed to truncate file '{lab.path('one', 'a')}': File too large"
    assert lab.path("one", "a").read_bytes() == b"x" * 10


def test_s53_resize_that_finds_no_space_changes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.make("one", "a", b"x" * 10)

    def full(fd: int, offset: int, length: int) -> None:
        os.ftruncate(fd, offset + length // 2)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bulk, "fallocate", lambda *args: False)
    monkeypatch.setattr(os, "posix_fallocate", full)
    text = last(lambda: resize(lab, MIB, allocate=True), SystemFailure)
    assert text.endswith("/one/a': No space left on device")
    assert lab.path("one", "a").read_bytes() == b"x" * 10


def test_s22_resize_does_not_follow_a_link(lab: Lab) -> None:
    victim = lab.root / "victim"
    victim.write_bytes(b"precious")
    lab.path("one", "a").symlink_to(victim)
    with pytest.raises((StorageError, OSError)):
        resize(lab, MIB)
    assert victim.read_bytes() == b"precious"


def test_a_folder_has_no_capacity(lab: Lab) -> None:
    lab.path("one", "a").mkdir()
    assert last(lambda: resize(lab, MIB), InternalError) == (
        "internal error: Unexpected volume type 'dir' of 'a'"
    )


def test_resize_to_the_size_that_it_has_changes_nothing(lab: Lab) -> None:
    """Neither the file nor, as no tool runs, an image."""
    lab.make("one", "a", b"x" * 8192)
    os.utime(lab.path("one", "a"), (0, 0))
    resize(lab, 8192)
    resize(lab, 0, delta=True)
    assert lab.path("one", "a").stat().st_mtime == 0
    image = b"QFI\xfb" + struct.pack(">IQIIQ", 2, 0, 0, 16, 4096) + bytes(480)
    found = lab.make("one", "q", image)
    assert (found.volume.format, found.volume.capacity) == ("qcow2", 4096)
    lab.volumes.resize(found, 4096, delta=False, shrink=False, allocate=False)
    assert lab.path("one", "q").read_bytes() == image


# Rename


def rename(lab: Lab, name: str = "b", of: str = "a") -> None:
    lab.volumes.rename(lab.volumes.find(of, "one"), name)


@pytest.mark.parametrize("name", ["b", "-rf", "a b", "$(id)", "é"])
def test_rename(lab: Lab, name: str) -> None:
    lab.make("one", "a", b"content")
    lab.path("one", "d").mkdir()
    (lab.path("one", "d") / "inside").write_bytes(b"x")
    rename(lab, name)
    rename(lab, name + "d", of="d")
    assert sorted(os.listdir(lab.root / "one")) == sorted([name, name + "d"])
    assert lab.path("one", name).read_bytes() == b"content"
    assert os.listdir(lab.path("one", name + "d")) == ["inside"]


def test_rename_is_told(lab: Lab) -> None:
    lab.make("one", "a", b"")
    with lab.pools.events.listening() as listener:
        rename(lab)
        assert next(listener.events(time.monotonic() + 5)).type == "refresh"


@pytest.mark.parametrize("name", [*BAD_NAMES, "a\tb", ".storagectl-0123.part"])
def test_s03_no_rename_leaves_the_folder(lab: Lab, name: str) -> None:
    lab.make("one", "a", b"x")
    lab.path("one", "x").mkdir()
    before = lab.everything()
    with pytest.raises(OperationInvalid):
        rename(lab, name)
    assert lab.everything() == before


@pytest.mark.parametrize("of", ["a", "d"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "fifo"])
def test_s22_rename_replaces_nothing(
    lab: Lab, kind: str, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is looked at before, nor what comes in between, whatever rename(2) can do."""
    lab.make("one", "a", b"x")
    lab.path("one", "d").mkdir()
    path = lab.path("one", "b")

    def other_first() -> None:
        if kind == "file":
            path.write_bytes(b"precious")
        elif kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to("nowhere")

    other_first()
    with pytest.raises((VolumeExists, OperationInvalid)):
        rename(lab, of=of)
    (path.rmdir if kind == "folder" else path.unlink)()
    real = files.rename_new

    def late(old: str, new: str) -> None:
        other_first()
        real(old, new)

    monkeypatch.setattr(lasting, "rename_new", late)
    for flags in (files.NOREPLACE, 1 << 30):  # the kernel knows no such flag: EINVAL
        monkeypatch.setattr(files, "NOREPLACE", flags)
        text = last(lambda: rename(lab, of=of), OperationInvalid)
        assert text.endswith(f"volume target path '{path}' already exists")
        assert sorted(os.listdir(lab.root / "one")) == ["a", "b", "d"]
        (path.rmdir if kind == "folder" else path.unlink)()


def test_rename_where_the_file_system_knows_no_flags(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "NOREPLACE", 1 << 30)
    test_rename(lab, "b")


def test_rename_of_what_is_in_use(lab: Lab) -> None:
    path = lab.path("one", "a")
    lab.make("one", "a", b"x" * 4096)
    with lab.host.opened(str(path)):
        text = last(lambda: rename(lab), ResourceBusy)
        assert text.startswith(f"resource busy: '{path}' is in use: process {os.getpid()} (")
    script = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); print(flush=True); input()"
    for taken in ("", "fcntl.lockf(f, fcntl.LOCK_SH, 1, 100);"):
        code = script.replace("print", f"{taken} print")
        with subprocess.Popen(
            [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            text = last(lambda: rename(lab), ResourceBusy)
            assert text == f"resource busy: '{path}' is in use: process {process.pid} (python)"
            with open(path, "rb") as stream:
                assert files.locked_by_others(stream.fileno()) == bool(taken)
            process.stdin.close()
    assert os.listdir(lab.root / "one") == ["a"]


@pytest.mark.parametrize("byte", [100, files.VOLUME_LOCK], ids=["qemu", "storagectl"])
def test_rename_of_what_a_process_that_cannot_be_seen_has_locked(
    lab: Lab, byte: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another machine, or for an ordinary user by root."""
    monkeypatch.setattr(in_use, "openers", lambda path: [])
    monkeypatch.setattr(locks, "by_descriptors", lambda file, own: [])
    lab.make("one", "a", b"x" * 4096)
    with open(lab.path("one", "a"), "r+b") as stream:
        assert host.lock_byte(stream.fileno(), byte, fcntl.F_RDLCK)
        with pytest.raises(ResourceBusy, match="worked on by another|locked by another"):
            rename(lab)
    rename(lab)


def overlay_of(path: Path) -> bytes:
    """Return the header of a qcow2 image that is based on another."""
    name = os.fsencode(path)
    header = b"QFI\xfb" + struct.pack(">IQIIQ", 2, 72, len(name), 16, 4096)
    return header.ljust(72, b"\0") + name + bytes(400)


def test_rename_of_what_others_rely_on(lab: Lab) -> None:
    path = lab.path("one", "a")
    lab.make("one", "a", b"x" * 4096)
    overlay = lab.make("two", "over", overlay_of(path))
    assert overlay.volume.backing is not None
    assert last(lambda: rename(lab), OperationInvalid) == (
        "Requested operation is not valid: volume 'a' is the backing file of volume 'over' in"
        " pool 'two'"
    )
    lab.volumes.delete(overlay, snapshots=False)
    lab.path("one", "d").mkdir()
    inner = Pool("dir", "inner", UUID.format(7), target=f"{lab.root}/one/d/x")
    lab.pools.define(inner)
    assert last(lambda: rename(lab, of="d"), OperationInvalid).endswith(
        f"pool 'inner' is on volume 'd': {lab.root}/one/d/x"
    )
    rename(lab)


@pytest.mark.parametrize("way", ["one/d", "link/d"])
def test_rename_of_a_folder_that_others_rely_on(lab: Lab, way: str) -> None:
    """Also where the path that they know goes through a link."""
    for name in ("d", "d2"):
        lab.path("one", name).mkdir()
    (lab.root / "link").symlink_to("one")
    place = lab.root / way
    (place / "base").write_bytes(b"x" * 4096)
    overlay = lab.make("two", "over", overlay_of(place / "base"))
    assert last(lambda: rename(lab, of="d"), OperationInvalid).endswith(
        "volume 'd' has the backing file of volume 'over' in pool 'two'"
    )
    lab.volumes.delete(overlay, snapshots=False)
    lab.pools.define(Pool("dir", "inner", UUID.format(7), target=str(place / "x")))
    assert last(lambda: rename(lab, of="d"), OperationInvalid).endswith(
        f"pool 'inner' is on volume 'd': {place}/x"
    )
    rename(lab, of="d2")


@pytest.mark.parametrize("name", ["a", "b"])
def test_rename_to_a_name_that_is_taken(lab: Lab, name: str) -> None:
    lab.make("one", "a", b"x")
    lab.make("one", "b", b"y")
    before = lab.everything()
    text = last(lambda: rename(lab, name), VolumeExists)
    assert text == f"storage volume '{name}' exists already"
    assert lab.everything() == before


def test_refusals_of_rename(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    found = lab.make("one", "a", b"x")
    monkeypatch.setattr(Directory, "rename_volume", None)
    assert last(lambda: rename(lab, "c"), NoSupport).endswith(
        "storage pool does not support volume renaming"
    )
    lab.pools.store.readonly = True
    assert last(lambda: rename(lab, "c"), OperationDenied).endswith("virStorageVolRename")
    lab.pools.store.readonly = False
    poollife.stop(lab.pools, "one")
    assert last(lambda: lab.volumes.rename(found, "c"), PoolInactive).endswith(
        "storage pool 'one' is not active"
    )
