"""Volume data between pools of all types, and when a device fails in the middle."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB, run
from labshell import LabShell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = 8 * MiB


@pytest.fixture
def shell(tmp_path: Path) -> LabShell:
    return LabShell(tmp_path)


def folder_pool(shell: LabShell, folder: Path, name: str = "d") -> Path:
    folder.mkdir()
    shell.ok("pool-create-as", name, "dir", "--target", str(folder))
    return folder


def definition(folder: Path, name: str, format: str = "") -> str:
    path = folder / f"{name}.xml"
    target = f"<target><format type='{format}'/></target>" if format else ""
    path.write_text(f"<volume><name>{name}</name><capacity>{SIZE}</capacity>{target}</volume>")
    return str(path)


def digest(path: str) -> str:
    """Return a sum over the first SIZE bytes, which may be the start of a larger device."""
    with open(path, "rb") as stream:
        return hashlib.md5(stream.read(SIZE)).hexdigest()


def test_across_pool_types(shell: LabShell, tmp_path: Path) -> None:
    """Each way a volume's content can go: folder, group, disk and LUN, raw and qcow2."""
    folder = folder_pool(shell, tmp_path / "d")
    with open(folder / "raw", "wb") as stream:
        stream.write(os.urandom(2 * MiB))
        stream.truncate(SIZE)
        stream.seek(5 * MiB)
        stream.write(os.urandom(MiB))
    expected = digest(str(folder / "raw"))
    run("qemu-img", "convert", "-O", "qcow2", str(folder / "raw"), str(folder / "qcow2"))

    def copied(pool: str, name: str, volume: str, source: str, format: str = "") -> None:
        shell.ok("vol-create-from", pool, definition(tmp_path, name, format), volume,
                 "--inputpool", source)  # fmt: skip
        path = shell.ok("vol-path", name, "--pool", pool).strip()
        if format == "qcow2":
            run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, f"{tmp_path}/plain")
            path = f"{tmp_path}/plain"
        assert digest(path) == expected, (pool, name, volume, source)

    with ExitStack() as stack:
        disk, physical = (stack.enter_context(devices.loop()) for _ in range(2))
        group = stack.enter_context(devices.volume_group(physical))
        stack.enter_context(devices.iscsid())
        target = stack.enter_context(devices.iscsi_target())
        stack.callback(devices.logout, target)
        shell.ok("pool-define-as", group, "logical")
        shell.ok("pool-start", group)
        shell.ok("pool-define-as", "disk", "disk", "--source-dev", disk, "--source-format", "gpt",
                 "--target", "/dev")  # fmt: skip
        shell.ok("pool-start", "disk", "--build")
        shell.ok("pool-define-as", "i", "iscsi", "--source-host", "127.0.0.1",
                 "--source-dev", target.iqn, "--target", "/dev/disk/by-path")  # fmt: skip
        shell.ok("pool-start", "i")
        part = f"{os.path.basename(disk)}p"

        copied(group, "one", "raw", "d")
        copied(group, "two", "qcow2", "d")
        copied("disk", f"{part}1", "raw", "d", "linux")
        copied("disk", f"{part}2", "one", group, "linux")
        copied("d", "from-group", "one", group, "raw")
        copied("d", "from-disk", f"{part}1", "disk", "qcow2")
        copied(group, "three", f"{part}2", "disk")

        (lun,) = shell.volumes("i")
        shell.ok("vol-upload", lun, str(folder / "raw"), "i", "--sparse")
        whole = tmp_path / "whole"
        shell.ok("vol-download", lun, str(whole), "i", "--length", str(SIZE))
        assert digest(str(whole)) == expected
        copied("d", "from-lun", lun, "i", "raw")

        for pool in ("i", "disk", group):
            shell.ok("pool-destroy", pool)


@contextmanager
def failing_device(start: int, stop: int) -> Iterator[tuple[str, Callable[[bool], None]]]:
    """A device of 64 MiB, and what makes its bytes from start to stop bad or good.

    It starts inside of the device below, where LVM would find its label a second time.
    """
    with devices.loop(65 * MiB) as under:
        name = f"labbad{os.getpid()}"

        def table(bad: bool) -> str:
            parts = ((0, start, False), (start, stop, bad), (stop, 64 * MiB, False))
            return "\n".join(
                f"{first // 512} {(end - first) // 512} "
                + ("error" if wrong else f"linear {under} {(MiB + first) // 512}")
                for first, end, wrong in parts
                if first < end
            )

        def switch(bad: bool) -> None:
            run("dmsetup", "suspend", "--nolockfs", name)
            run("dmsetup", "load", name, stdin=table(bad))
            run("dmsetup", "resume", name)
            run("sysctl", "-q", "vm.drop_caches=3")

        run("dmsetup", "create", name, stdin=table(False))
        devices.settle()
        try:
            yield f"/dev/mapper/{name}", switch
        finally:
            devices.settle()
            run("dmsetup", "remove", "--retry", name)


def test_device_fails_in_the_middle(shell: LabShell, tmp_path: Path) -> None:
    """A volume over bad sectors: what reads or writes it fails and leaves nothing half done."""
    folder = folder_pool(shell, tmp_path / "d")
    (folder / "data").write_bytes(os.urandom(40 * MiB))
    with (
        failing_device(32 * MiB, 40 * MiB) as (device, switch),
        devices.volume_group(device) as group,
    ):
        run("lvcreate", "-y", "-n", "v", "-L", "40M", group)
        shell.ok("pool-define-as", group, "logical", "--source-dev", device)
        shell.ok("pool-start", group)
        shell.ok("vol-upload", "v", str(folder / "data"), group)
        switch(True)

        copy = tmp_path / "copy"
        assert "Input/output error" in shell.fails("vol-download", "v", str(copy), group)
        assert not copy.exists()
        for format in ("raw", "qcow2"):
            assert "Input/output error" in shell.fails(
                "vol-create-from", "d", definition(tmp_path, "new", format), "v",
                "--inputpool", group,
            )  # fmt: skip
            assert os.listdir(folder) == ["data"]
        for words in (("vol-upload", "v", str(folder / "data"), group), ("vol-wipe", "v", group)):
            done = shell.run(*words)
            assert done.status == 1, words
            assert "Input/output error" in done.stderr, words
            assert f"warning: volume '/dev/{group}/v': bytes 0 to " in done.stderr, words
            assert " the rest is as before\n" in done.stderr, words

        run("lvremove", "-y", f"{group}/v")
        devices.settle()
        for words in (
            ("vol-create-from", group, definition(tmp_path, "new"), "data", "--inputpool", "d"),
            ("vol-create-from", group, definition(tmp_path, "new"), "data", "--inputpool", "d",
             "--verify"),
        ):  # fmt: skip
            assert "Input/output error" in shell.fails(*words)
            assert shell.volumes(group) == {}

        switch(False)
        shell.ok("vol-create-from", group, definition(tmp_path, "new"), "data", "--inputpool", "d")
        assert digest(f"/dev/{group}/new") == digest(str(folder / "data"))
        shell.ok("pool-destroy", group)


def test_file_system_fails_in_the_middle(shell: LabShell, tmp_path: Path) -> None:
    """Bad sectors below a file system: what is incomplete is not there when they are good again."""
    data = tmp_path / "data"
    data.write_bytes(os.urandom(SIZE))
    with failing_device(MiB, 64 * MiB) as (device, switch):
        shell.ok("pool-define-as", "f", "fs", "--source-dev", device, "--source-format", "ext4",
                 "--target", str(tmp_path / "f"))  # fmt: skip
        shell.ok("pool-start", "f", "--build", "--overwrite")
        try:
            shell.ok("vol-create-as", "f", "old", str(SIZE))
            shell.ok("vol-upload", "old", str(data), "f")
            expected = digest(str(data))
            data.write_bytes(os.urandom(SIZE))
            switch(True)
            for words in (
                ("vol-upload", "old", str(data), "f"),
                ("vol-clone", "old", "new", "f"),
                ("vol-create-as", "f", "new", str(SIZE)),
            ):
                done = shell.run(*words)
                assert done.status == 1, (words, done)
                assert "Input/output error" in done.stderr or "Read-only file" in done.stderr
        finally:
            shell.ok("pool-destroy", "f")
        switch(False)
        shell.ok("pool-start", "f")
        try:
            assert [*shell.volumes("f")] == ["lost+found", "old"]
            assert digest(str(tmp_path / "f" / "old")) == expected
        finally:
            shell.ok("pool-destroy", "f")
