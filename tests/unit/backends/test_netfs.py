"""Network file system pools: what is mounted and how, and what is done when the server is gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost

from storagectl.backends.netfs import NetworkFileSystem
from storagectl.errors import (
    ConfigUnsupported,
    Inaccessible,
    InvalidArgument,
    OperationFailed,
    OperationInvalid,
    ToolFailed,
    ToolMissing,
    ToolTimeout,
)
from storagectl.host.files import acting_as
from storagectl.model import Host as Server
from storagectl.model import Permissions, Pool, Source, Volume

if TYPE_CHECKING:
    from pathlib import Path

UUID = "11111111-1111-4111-8111-000000000001"
SAFE = "nodev,nosuid,noexec"
ROOT = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"


def line(source: str, target: object) -> str:
    return f"37 24 0:32 / {target} rw,nosuid,nodev,noexec - nfs4 {source} rw,vers=4.2,hard\n"


def pool(target: object, **source: Any) -> Pool:
    given = {"hosts": [Server("nas")], "dir": "/vms", "format": "nfs", **source}
    return Pool("netfs", "n", UUID, source=Source(**given), target=str(target))


class Away(FakeHost):
    """A machine whose mount never ends, by the script's word `slow`, or that does not answer."""

    reachable = True

    def responds(self, path: str) -> bool:
        return self.reachable

    def _spawn(
        self, argv: list[str], limit_s: float | None = None, *_: object
    ) -> tuple[int, str, str]:
        status, stdout, stderr = super()._spawn(argv, limit_s)
        if stdout == "slow":
            assert limit_s is not None
            raise ToolTimeout(argv, limit_s)
        return status, stdout, stderr


def make(made: Pool, *script: Any, mounts: str = ROOT) -> tuple[NetworkFileSystem, Away]:
    host = Away(*script, files={"/proc/self/mountinfo": mounts})
    return NetworkFileSystem(made, host), host


# Mounted or not


def test_active_is_what_the_mount_table_says(tmp_path: Path) -> None:
    target = tmp_path / "mnt"
    for mounts, active in (
        (ROOT, False),
        (ROOT + line("nas:/vms", target), True),
        (ROOT + line("nas:/vms/", target), False),
        (ROOT + line("other:/vms", target), False),
        (ROOT + line("nas:/vms", target / "deeper"), False),
        (ROOT + line("nas:/vms", target) + line("other:/vms", target), False),
        (ROOT + line("other:/vms", target) + line("nas:/vms", target), True),
        ("", False),
    ):
        assert make(pool(target), mounts=mounts)[0].is_active() == active, mounts


def test_s64_blanks_in_names(tmp_path: Path) -> None:
    mounted = line("nas:/a\\040b\\134c", f"{tmp_path}/x\\040y")
    made = pool(tmp_path / "x y", dir="/a b\\c")
    assert make(made, mounts=ROOT + mounted)[0].is_active()


def test_s48_a_mount_point_is_known_without_a_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at the mount of a dead server waits for ever."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    dead = str(tmp_path / "real" / "mnt")
    real = os.lstat

    def lstat(path: Any, **words: Any) -> os.stat_result:
        assert not os.fspath(path).startswith(dead), path
        return real(path, **words)

    monkeypatch.setattr(os, "lstat", lstat)
    for target in (dead, tmp_path / "link" / "mnt"):
        assert make(pool(target), mounts=ROOT + line("nas:/vms", dead))[0].is_active()


def test_a_target_that_is_a_link_to_the_mount_point(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mnt")
    mounts = ROOT + line("nas:/vms", tmp_path / "mnt")
    assert make(pool(tmp_path / "link"), mounts=mounts)[0].is_active()


# Start


@pytest.mark.parametrize(
    ("source", "options", "argv"),
    [
        ({"format": "auto"}, [], ["-o", f"{SAFE},retry=0", "nas:/vms"]),
        ({"format": "nfs"}, [], ["-o", f"{SAFE},retry=0", "-t", "nfs", "nas:/vms"]),
        (
            {"format": "nfs", "protocol_ver": "4.1"},
            ["sync", "noatime"],
            ["-o", f"{SAFE},nfsvers=4.1,retry=0,sync,noatime", "-t", "nfs", "nas:/vms"],
        ),
        (
            {"format": "auto", "protocol_ver": "3"},
            [],
            ["-o", f"{SAFE},nfsvers=3,retry=0", "nas:/vms"],
        ),
        (
            {"format": "cifs", "dir": "share"},
            ["user=x"],
            ["-o", f"{SAFE},guest,user=x", "-t", "cifs", "//nas/share"],
        ),
        (
            {"format": "cifs", "dir": "/share/deep"},
            [],
            ["-o", f"{SAFE},guest", "-t", "cifs", "//nas/share/deep"],
        ),
        (
            {"format": "glusterfs", "dir": "/vol"},
            [],
            ["-o", f"{SAFE},direct-io-mode=1", "-t", "glusterfs", "nas:/vol"],
        ),
        (
            {"format": "nfs", "hosts": [Server("fe80::1%eth0")]},
            [],
            ["-o", f"{SAFE},retry=0", "-t", "nfs", "[fe80::1%eth0]:/vms"],
        ),
        (
            {"format": "nfs", "hosts": [Server("[::1]")]},
            [],
            ["-o", f"{SAFE},retry=0", "-t", "nfs", "[::1]:/vms"],
        ),
        (
            {"format": "cifs", "dir": "share", "hosts": [Server("[::1]")]},
            [],
            ["-o", f"{SAFE},guest", "-t", "cifs", "//::1/share"],
        ),
        (
            {"format": "glusterfs", "dir": "/vol", "hosts": [Server("[::1]")]},
            [],
            ["-o", f"{SAFE},direct-io-mode=1", "-t", "glusterfs", "::1:/vol"],
        ),
        (
            {"format": "glusterfs", "dir": "/vol", "hosts": [Server("fe80::1%eth0")]},
            [],
            ["-o", f"{SAFE},direct-io-mode=1", "-t", "glusterfs", "fe80::1%eth0:/vol"],
        ),
        (
            {"format": "nfs", "dir": "-o exec $(id);x"},
            [],
            ["-o", f"{SAFE},retry=0", "-t", "nfs", "nas:-o exec $(id);x"],
        ),
    ],
)
def test_s21_start_mounts_as_libvirt_does(
    tmp_path: Path, source: dict[str, Any], options: list[str], argv: list[str]
) -> None:
    made = pool(tmp_path, **source)
    made.mount_options = options
    backend, host = make(made, (["mount", *argv, str(tmp_path)], "", 0))
    with host:
        backend.start()


@pytest.mark.parametrize("kind", ["nfs", "cifs", "glusterfs"])
def test_a_server_is_reached_by_its_address_without_brackets(tmp_path: Path, kind: str) -> None:
    backend, _ = make(pool(tmp_path, format=kind, hosts=[Server("[::1]")]))
    (port,) = backend.needs().ports
    assert port.host == "::1"
    assert not any("[" in word for word in port.ask)


def test_start_of_what_is_mounted_does_nothing(tmp_path: Path) -> None:
    backend, host = make(pool(tmp_path), mounts=ROOT + line("nas:/vms", tmp_path))
    backend.start()
    assert host.calls == []


def test_start_never_mounts_over_another_mount(tmp_path: Path) -> None:
    backend, host = make(pool(tmp_path), mounts=ROOT + line("other:/vms", tmp_path))
    with pytest.raises(OperationInvalid, match="already the mount point of 'other:/vms'"):
        backend.start()
    assert host.calls == []


@pytest.mark.parametrize("hosts", [[], [Server("a"), Server("b")]])
def test_exactly_one_host(tmp_path: Path, hosts: list[Server]) -> None:
    backend, _ = make(pool(tmp_path, hosts=hosts))
    with pytest.raises(ConfigUnsupported, match="expected exactly 1 host for the storage pool"):
        backend.start()


@pytest.mark.parametrize("folder", ["/v --log-file=/etc/passwd", "/v*", "/v\tx", "/[ab]", "/a\\b"])
def test_s04_what_a_shell_would_split_is_no_glusterfs_volume(tmp_path: Path, folder: str) -> None:
    backend, host = make(pool(tmp_path, format="glusterfs", dir=folder))
    with pytest.raises(InvalidArgument, match="is no glusterfs volume"):
        backend.start()
    assert host.calls == []


@pytest.mark.parametrize(
    ("kind", "helper"),
    [("auto", "mount.nfs"), ("nfs", "mount.nfs"), ("cifs", "mount.cifs"),
     ("glusterfs", "mount.glusterfs")],
)  # fmt: skip
def test_a_helper_that_is_not_installed_is_named(
    tmp_path: Path, kind: str, helper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, host = make(pool(tmp_path, format=kind))

    def missing(name: str) -> str:
        raise ToolMissing(name)

    monkeypatch.setattr(host, "find_tool", missing)
    with pytest.raises(ToolMissing, match=helper):
        backend.start()


def test_s48_a_server_that_is_silent_fails_in_time_and_leaves_no_mount(tmp_path: Path) -> None:
    argv = ["mount", "-o", f"{SAFE},retry=0", "-t", "nfs", "nas:/vms", str(tmp_path)]
    for mounts, script in (
        (ROOT, []),
        # it came in the moment in which it was given up
        (ROOT + line("nas:/vms", tmp_path), [(["umount", str(tmp_path)], "", 0)]),
    ):
        backend, host = make(pool(tmp_path), (argv, "slow", 0), *script)
        host.files = {"/proc/self/mountinfo": ROOT}

        def then(host: Away = host, mounts: str = mounts) -> str:
            return mounts if host.calls else ROOT

        host.mounts = then  # type: ignore[method-assign]
        with host, pytest.raises(ToolTimeout, match="did not end within 30 s") as caught:
            backend.start()
        assert caught.value.hint == "does 'nas' answer?"


# While the server is away


def test_s48_a_dead_server_is_an_error_and_no_wait(tmp_path: Path) -> None:
    made = pool(tmp_path)
    backend, host = make(made, mounts=ROOT + line("nas:/vms", tmp_path))
    host.reachable = False
    assert backend.is_active()
    for look in (
        backend.state,
        backend.refresh,
        lambda: list(backend.volumes(details=False)),
        lambda: backend.volume("x"),
    ):
        with pytest.raises(Inaccessible, match="'.*' does not answer") as caught:
            look()
        assert f"umount -f -l {tmp_path}" in caught.value.hint
    host.reachable = True
    assert list(backend.volumes(details=True)) == []


# Stop


def test_stop_unmounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = ROOT + line("nas:/vms", tmp_path)
    umount = (["umount", str(tmp_path)], "", 0)
    backend, host = make(pool(tmp_path), umount, mounts=mounts)
    with host, pytest.raises(OperationFailed, match=f"'{tmp_path}' is still mounted"):
        backend.stop()
    backend, host = make(pool(tmp_path), umount)
    monkeypatch.setattr(host, "mounts", lambda: ROOT if host.calls else mounts)
    with host:
        backend.stop()


def test_stop_leaves_what_is_not_ours(tmp_path: Path) -> None:
    for mounts in (ROOT, ROOT + line("other:/vms", tmp_path)):
        backend, host = make(pool(tmp_path), mounts=mounts)
        backend.stop()
        assert host.calls == []


def test_s44_a_busy_target_is_not_forced(tmp_path: Path) -> None:
    mounts = ROOT + line("nas:/vms", tmp_path)
    argv = ["umount", str(tmp_path)]
    backend, host = make(pool(tmp_path), (argv, "target is busy.\n", 32), mounts=mounts)
    with pytest.raises(ToolFailed, match="target is busy"):
        backend.stop()
    assert host.calls == [argv]


def test_s48_stop_of_what_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = ROOT + line("nas:/vms", tmp_path)
    first = (["umount", str(tmp_path)], "slow", 0)
    argv = ["umount", "--internal-only", "--no-canonicalize", str(tmp_path)]
    backend, host = make(pool(tmp_path), first, (argv, "", 0))
    monkeypatch.setattr(host, "mounts", lambda: mounts if len(host.calls) < 2 else ROOT)
    with host:
        backend.stop()
    backend, host = make(pool(tmp_path), first, (argv, "slow", 0), mounts=mounts)
    with host, pytest.raises(ToolTimeout, match="umount .* did not end within 20 s") as caught:
        backend.stop()
    assert f"umount -f -l {tmp_path}" in caught.value.hint
    for calls in (1, 2):
        backend, host = make(pool(tmp_path), first, (argv, "slow", 0))

        def table(host: Away = host, calls: int = calls) -> str:
            return ROOT if len(host.calls) == calls else mounts

        host.mounts = table  # type: ignore[method-assign]
        backend.stop()
        assert len(host.calls) == calls


# Servers that do not let root


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as others")
def test_a_volume_is_made_and_deleted_as_its_owner_where_root_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _ = make(pool(tmp_path))
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    tmp_path.chmod(0o777)
    real, made_by = os.open, []

    def record(path: Any, flags: int, *rest: Any, **words: Any) -> int:
        if flags & os.O_CREAT:
            made_by.append((os.geteuid(), os.getegid(), os.getgroups()))
        return real(path, flags, *rest, **words)

    monkeypatch.setattr(os, "open", record)
    for format in ("raw", "dir"):
        wanted = Volume("v", capacity=4096, format=format, permissions=Permissions(None, 1234, 567))
        backend.create_volume(wanted, metadata=False)
        status = (tmp_path / "v").stat()
        assert (status.st_uid, status.st_gid) == (1234, 567)
        assert os.geteuid() == 0
        found = backend.volume("v")
        assert found is not None
        backend.delete_volume(found)
        assert os.listdir(tmp_path) == []
    assert made_by == [(1234, 567, [567])]
    # the owner may not write there, root may
    tmp_path.chmod(0o755)
    backend.create_volume(
        Volume("v", capacity=4096, format="raw", permissions=Permissions(None, 1234, 567)),
        metadata=False,
    )
    assert made_by[1][0] == 0
    assert (tmp_path / "v").stat().st_uid == 1234


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as others")
def test_acting_as_somebody_ends_whatever_happens() -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()

    def fail() -> None:
        with acting_as(1234, None):
            assert (os.geteuid(), os.getegid()) == (1234, before[1])
            with acting_as(7, 7):
                assert os.geteuid() == 1234
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    for nobody in ((None, None), (0, 0), (0, None)):
        with acting_as(*nobody):
            assert (os.geteuid(), os.getegid(), os.getgroups()) == before
