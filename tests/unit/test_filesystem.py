"""File system pools: what is run to mount, unmount and format, with a mount table of our own."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost
from fakekernel import FakeKernel

from storagectl.backends import SOURCE, devices, in_use
from storagectl.backends.directory import Directory
from storagectl.backends.filesystem import FileSystem
from storagectl.errors import (
    ConfigUnsupported,
    Inaccessible,
    InvalidArgument,
    OperationFailed,
    OperationInvalid,
    PoolBuilt,
    ResourceBusy,
    SystemFailure,
    ToolFailed,
)
from storagectl.model import Device, Permissions, Pool, Source
from storagectl.tools import mkfs, mount

if TYPE_CHECKING:
    from pathlib import Path

UUID = "11111111-1111-4111-8111-000000000001"
SAFE = "nodev,nosuid,noexec"
ROOT = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"


def line(source: str, target: str, number: str = "7:9") -> str:
    return f"40 22 {number} / {target} rw - ext4 {source} rw\n"


def pool(device: str, target: Path, **source: Any) -> Pool:
    given = {"devices": [Device(device)], "format": "ext4", **source}
    return Pool("fs", "f", UUID, source=Source(**given), target=str(target))


def make(made: Pool, *script: Any, mounts: str = ROOT) -> tuple[FileSystem, FakeHost]:
    host = FakeHost(*script, files={"/proc/self/mountinfo": mounts})
    return FileSystem(made, host), host


@pytest.fixture
def device(tmp_path: Path) -> str:
    """A file in place of a device."""
    path = tmp_path / "device"
    path.write_bytes(bytes(4096))
    return str(path)


# Mounted or not


def test_active_is_what_the_mount_table_says(tmp_path: Path, device: str) -> None:
    target = tmp_path / "mnt"
    made = pool(device, target)
    for mounts, active in (
        (ROOT, False),
        (ROOT + line(device, str(target)), True),
        (ROOT + line("/dev/other", str(target)), False),
        (ROOT + line(device, f"{target}/deeper"), False),
        (ROOT + line(device, str(target)) + line("/dev/other", str(target)), False),
        (ROOT + line("/dev/other", str(target)) + line(device, str(target)), True),
        (ROOT + line(device, str(tmp_path)), False),
        ("", False),
    ):
        assert make(made, mounts=mounts)[0].is_active() == active, mounts


def test_a_btrfs_of_several_devices_shows_any_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeKernel(tmp_path, monkeypatch)
    nodes = {letter: str(tmp_path / f"sd{letter}") for letter in "abc"}
    numbers = {nodes[letter]: os.makedev(8, minor) for minor, letter in enumerate("abc")}
    monkeypatch.setattr(devices, "device_number", numbers.get)
    for minor, letter in enumerate("abc"):
        (tmp_path / f"sd{letter}").touch()
        kernel.add(f"sd{letter}", f"8:{minor}")
    for letter in "ab":
        (kernel.sys / f"fs/btrfs/{UUID}/devices/sd{letter}").mkdir(parents=True)
    target = tmp_path / "mnt"
    for letter, active in (("a", True), ("b", True), ("c", False)):
        for shown in "ab":
            mounts = ROOT + line(nodes[shown], str(target), "0:50")
            assert make(pool(nodes[letter], target), mounts=mounts)[0].is_active() == active


def test_s64_names_with_blanks_and_links(tmp_path: Path, device: str) -> None:
    real = tmp_path / "a b\\c"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "by-id").symlink_to(device)
    escaped = str(real).replace("\\", "\\134").replace(" ", "\\040")
    made = pool(str(tmp_path / "by-id"), tmp_path / "link")
    assert make(made, mounts=ROOT + line(device, escaped))[0].is_active()


def test_a_block_device_is_known_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever name it was mounted by."""
    target = tmp_path / "mnt"
    real = os.stat
    block = os.stat_result((stat.S_IFBLK, *[0] * 9), {"st_rdev": os.makedev(259, 3)})
    monkeypatch.setattr(
        os, "stat", lambda path, **n: block if path == "/dev/some" else real(path, **n)
    )
    made = pool("/dev/some", target)
    mounted = ROOT + line("/dev/disk/by-label/x", str(target), "259:3")
    assert make(made, mounts=mounted)[0].is_active()
    other = ROOT + line("/dev/disk/by-label/x", str(target), "259:4")
    assert not make(made, mounts=other)[0].is_active()


def test_a_device_that_was_pulled_out(tmp_path: Path, device: str) -> None:
    """Its link is gone with it; what is mounted from a node that is gone too must be ours."""
    target = tmp_path / "mnt"
    made = pool(f"{tmp_path}/by-id", target)
    for source, active in ((f"{tmp_path}/sdx", True), (device, False), ("tmpfs", False)):
        mounted = ROOT + line(source, str(target))
        assert make(made, mounts=mounted)[0].is_active() == active, source
    mounted = ROOT + line(f"{tmp_path}/sdx", str(target))
    assert not make(pool(device, target), mounts=mounted)[0].is_active()


# Start


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("ext4", [], ["-o", SAFE, "-t", "ext4"]),
        ("auto", [], ["-o", SAFE, "-t", "auto"]),
        ("hfs+", [], ["-o", SAFE, "-t", "hfsplus"]),
        ("xfs", ["ro", "x=$(id)"], ["-o", f"{SAFE},ro,x=$(id)", "-t", "xfs"]),
    ],
)
def test_s21_start_mounts_what_may_not_run_anything(
    tmp_path: Path, device: str, kind: str, options: list[str], words: list[str]
) -> None:
    target = tmp_path / "mnt"
    made = pool(device, target, format=kind)
    made.mount_options = options
    backend, host = make(made, (["mount", *words, device, str(target)], "", 0))
    with host:
        backend.start()


def test_s54_what_mount_has_mounted_in_place_of_the_source_is_unmounted(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = str(tmp_path / "mnt")
    backend, host = make(
        pool(device, tmp_path / "mnt"),
        (["mount", "-o", SAFE, "-t", "ext4", device, target], "", 0),
        (["umount", target], "", 0),
    )
    spawn = host._spawn

    def mounting(argv: list[str], *rest: object) -> tuple[int, str, str]:
        there = line("/dev/other", target) if argv[0] == "mount" else ""
        host.files["/proc/self/mountinfo"] = ROOT + there
        return spawn(argv, *rest)

    monkeypatch.setattr(host, "_spawn", mounting)
    with host, pytest.raises(OperationFailed, match=f"mounted at '{target}' is '/dev/other'"):
        backend.start()


def test_start_of_what_is_mounted_does_nothing(tmp_path: Path, device: str) -> None:
    target = tmp_path / "mnt"
    backend, host = make(pool(device, target), mounts=ROOT + line(device, str(target)))
    backend.start()
    assert host.calls == []


def test_start_never_mounts_over_another_mount(tmp_path: Path, device: str) -> None:
    target = tmp_path / "mnt"
    backend, host = make(pool(device, target), mounts=ROOT + line("/dev/other", str(target)))
    with pytest.raises(OperationInvalid, match="already the mount point of '/dev/other'"):
        backend.start()
    assert host.calls == []


@pytest.mark.parametrize("name", ["-oexec", "--bind", "LABEL=x", "UUID=1", "device", ""])
def test_s04_a_source_that_is_no_path_is_refused(tmp_path: Path, name: str) -> None:
    backend, host = make(pool(name, tmp_path))
    with pytest.raises(InvalidArgument, match=f"source device '{name}' is not an absolute path"):
        backend.start()
    with pytest.raises(InvalidArgument, match="not an absolute path"):
        backend.build(overwrite=True, no_overwrite=False)
    assert host.calls == []


def test_s04_a_target_is_never_an_option(device: str) -> None:
    assert mount.mount(device, "-l", None) == ["mount", "-o", SAFE, "--", device, "-l"]
    assert mount.umount("-l") == ["umount", "--", "-l"]
    assert mount.umount("/mnt") == ["umount", "/mnt"]


def test_exactly_one_device(tmp_path: Path) -> None:
    backend, _ = make(pool("", tmp_path, devices=[Device("/dev/a"), Device("/dev/b")]))
    with pytest.raises(ConfigUnsupported, match="expected exactly 1 device for the storage pool"):
        backend.start()


@pytest.mark.parametrize(
    ("found", "status", "hint"),
    [
        ("", 0, "storagectl pool-build f --no-overwrite"),
        ("xfs", 0, "found on 'DEVICE': xfs"),
        ("ext4", 0, ""),
        ("", 1, ""),
    ],
)
def test_a_mount_that_fails_says_why(
    tmp_path: Path, device: str, found: str, status: int, hint: str
) -> None:
    argv = ["mount", "-o", SAFE, "-t", "ext4", device, str(tmp_path)]
    signatures = f'{{"signatures": [{{"type": "{found}", "offset": "0x0"}}]}}' if found else ""
    backend, _ = make(
        pool(device, tmp_path),
        (argv, "wrong fs type\n", 32),
        (["wipefs", "--no-act", "--json", device], signatures, status),
    )
    with pytest.raises(ToolFailed, match="unexpected exit status 32: wrong fs type") as caught:
        backend.start()
    assert caught.value.hint.endswith(hint.replace("DEVICE", device))
    assert bool(caught.value.hint) == bool(hint)


# Stop


def test_stop_unmounts(tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "mnt"
    done = (["umount", str(target)], "", 0)
    backend, host = make(
        pool(device, target), done, done, mounts=ROOT + line(device, str(target))
    )  # fmt: skip
    spawn = host._spawn

    def unmount(argv: list[str], *rest: object) -> tuple[int, str, str]:
        host.files["/proc/self/mountinfo"] = ROOT
        return spawn(argv, *rest)

    with host:
        with pytest.raises(OperationFailed, match="is still mounted"):
            backend.stop()
        monkeypatch.setattr(host, "_spawn", unmount)
        backend.stop()


def test_stop_leaves_what_is_not_ours(tmp_path: Path, device: str) -> None:
    target = tmp_path / "mnt"
    for mounts in (ROOT, ROOT + line("/dev/other", str(target))):
        backend, host = make(pool(device, target), mounts=mounts)
        backend.stop()
        assert host.calls == []


def test_s44_a_busy_target_is_not_forced(tmp_path: Path, device: str) -> None:
    target = tmp_path / "mnt"
    backend, host = make(
        pool(device, target),
        (["umount", str(target)], "target is busy.\n", 32),
        mounts=ROOT + line(device, str(target)),
    )
    with pytest.raises(ToolFailed, match="target is busy"):
        backend.stop()
    assert host.calls == [["umount", str(target)]]


# Build


@pytest.fixture
def unused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Devices as nobody uses them and nothing is on them; what was asked, in order."""
    asked: list[str] = []
    monkeypatch.setattr(in_use, "require_unused", lambda host, path: asked.append("unused"))
    monkeypatch.setattr(devices, "require_empty", lambda host, path, want: asked.append("empty"))
    return asked


def test_build_without_a_flag_makes_the_folder_only(tmp_path: Path, device: str) -> None:
    made = pool(device, tmp_path / "a" / "mnt")
    made.permissions = Permissions(mode=0o750)
    backend, host = make(made)
    backend.build(overwrite=False, no_overwrite=False)
    assert (tmp_path / "a" / "mnt").stat().st_mode & 0o777 == 0o750
    assert host.calls == []


@pytest.mark.parametrize("kind", mkfs.COMMANDS)
def test_build_formats(tmp_path: Path, device: str, unused: list[str], kind: str) -> None:
    argv = [*mkfs.COMMANDS[kind], device]
    assert argv[0].startswith("mkfs.")
    look = ["wipefs", "--no-act", "--json", device]
    made = (look, f'{{"signatures": [{{"type": "{kind}"}}]}}', 0)
    done = (argv, "", 0)
    backend, host = make(
        pool(device, tmp_path / "mnt", format=kind),
        done, made, done, made, done, (look, '{"signatures": []}', 0),
    )  # fmt: skip
    with host:
        backend.build(overwrite=True, no_overwrite=False)
        assert unused == ["unused", "unused"]
        unused.clear()
        backend.build(overwrite=False, no_overwrite=True)
        # again right before the change
        assert unused == ["unused", "empty", "unused"]
        with pytest.raises(OperationFailed, match="no file system was made on"):
            backend.build(overwrite=True, no_overwrite=False)


@pytest.mark.parametrize(
    ("format", "found", "missing"),
    [("vmfs", "VMFS", ""), ("hfs+", "hfsplus", ""), ("ext4", "ext4", ""), ("ext4", "xfs", SOURCE)],
)
def test_what_is_built_has_the_format_by_whatever_name(
    tmp_path: Path, device: str, format: str, found: str, missing: str
) -> None:
    look = (
        ["wipefs", "--no-act", "--json", device],
        f'{{"signatures": [{{"type": "{found}"}}]}}',
        0,
    )
    backend, _ = make(pool(device, tmp_path, format=format), look)
    assert backend.unbuilt() == missing


@pytest.mark.parametrize("kind", ["auto", "iso9660", "gfs", "vmfs"])
def test_formats_that_cannot_be_made(
    tmp_path: Path, device: str, unused: list[str], kind: str
) -> None:
    backend, host = make(pool(device, tmp_path / "mnt", format=kind))
    with pytest.raises(ConfigUnsupported, match=f"a file system of format '{kind}' cannot be made"):
        backend.build(overwrite=True, no_overwrite=False)
    assert host.calls == []
    assert not (tmp_path / "mnt").exists()


def test_s32_a_device_with_data_is_left_alone(
    tmp_path: Path, device: str, unused: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(host: object, path: str, wanted: str) -> None:
        raise PoolBuilt(f"Device '{path}' already formatted using '{wanted}'")

    monkeypatch.setattr(devices, "require_empty", built)
    backend, host = make(pool(device, tmp_path / "mnt"))
    with pytest.raises(PoolBuilt):
        backend.build(overwrite=False, no_overwrite=True)
    assert host.calls == []
    assert not (tmp_path / "mnt").exists()


def test_s34_a_device_in_use_is_refused_even_with_overwrite(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used(host: object, path: str) -> None:
        raise ResourceBusy("mounted")

    monkeypatch.setattr(in_use, "require_unused", used)
    backend, host = make(pool(device, tmp_path / "mnt"))
    for flags in ({"overwrite": True, "no_overwrite": False},
                  {"overwrite": False, "no_overwrite": True}):  # fmt: skip
        with pytest.raises(ResourceBusy):
            backend.build(**flags)
    assert host.calls == []


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    backend, host = make(pool("/nowhere/x", tmp_path / "mnt"))
    with pytest.raises(OperationInvalid) as caught:
        backend.build(overwrite=True, no_overwrite=False)
    assert caught.value.lines() == [
        "Requested operation is not valid: Source device does not exist when formatting pool 'f'"
    ]
    assert host.calls == []


# The folder itself


def directory(target: Path, **fields: Any) -> Directory:
    return Directory(Pool("dir", "d", UUID, target=str(target), **fields), FakeHost())


def test_state_of_a_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o2751)
    state = directory(tmp_path).state()
    assert state.capacity == state.allocation + state.available
    assert state.permissions == Permissions(0o2751, os.getuid(), os.getgid())
    with pytest.raises(SystemFailure, match="cannot open directory '.*/x': No such file"):
        directory(tmp_path / "x").state()


def test_build_changes_the_mode_of_an_old_folder_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "d"
    target.mkdir(mode=0o705)
    target.chmod(0o705)
    directory(target).build(overwrite=False, no_overwrite=False)
    assert target.stat().st_mode & 0o777 == 0o705
    asked = directory(target, permissions=Permissions(mode=0o750))
    asked.build(overwrite=False, no_overwrite=False)
    assert target.stat().st_mode & 0o777 == 0o750


def test_s25_a_new_folder_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    for number, umask in enumerate((0o000, 0o077)):
        before = os.umask(umask)
        try:
            directory(tmp_path / str(number)).build(overwrite=False, no_overwrite=False)
        finally:
            os.umask(before)
        assert (tmp_path / str(number)).stat().st_mode & 0o777 == 0o711


def test_a_file_in_place_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert not directory(tmp_path / "f").is_active()
    with pytest.raises(SystemFailure, match="cannot create directory '.*/f': File exists"):
        directory(tmp_path / "f").build(overwrite=False, no_overwrite=False)


def test_s48_a_folder_on_a_server_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = directory(tmp_path)
    monkeypatch.setattr(backend.host, "responds", lambda path: False)
    monkeypatch.setattr(os.path, "isdir", lambda path: pytest.fail("would wait for ever"))
    assert backend.is_active()
    for look in (
        backend.state,
        backend.refresh,
        lambda: list(backend.volumes(details=False)),
        lambda: backend.volume("x"),
    ):
        with pytest.raises(Inaccessible, match="'.*' does not answer"):
            look()
