"""netfs pools on a real NFS server, and on none; what pools could be made of."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB, run
from inprocess import Answer
from labshell import LabShell

from storagectl.backends import netfs

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = "127.0.0.1"
NOBODY_THERE = "192.0.2.2"


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with devices.nfs_server():
        yield


@pytest.fixture
def shell(tmp_path: Path) -> LabShell:
    return LabShell(tmp_path / "root")


@contextmanager
def exported(options: str = "rw,no_root_squash", client: str = HERE) -> Iterator[str]:
    """A folder on the server's disk, exported."""
    with devices.folder() as folder, devices.nfs_export(folder, options, client):
        yield folder


@contextmanager
def unmounted(target: Path) -> Iterator[None]:
    """Take a mount down that a failed test has left, so that only that test fails."""
    try:
        yield
    finally:
        if str(target) in devices.mounts():
            run("umount", "-f", "-l", str(target))


@contextmanager
def silence() -> Iterator[None]:
    """Lose every packet to ourselves: the server is away, and nobody is told."""
    run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "100%")
    try:
        yield
    finally:
        run("tc", "qdisc", "del", "dev", "lo", "root")


@contextmanager
def void() -> Iterator[None]:
    """A network in which NOBODY_THERE swallows every packet."""
    run("ip", "link", "add", "labvoid", "type", "dummy")
    try:
        run("ip", "addr", "add", "192.0.2.1/24", "dev", "labvoid")
        run("ip", "link", "set", "labvoid", "up")
        yield
    finally:
        run("ip", "link", "del", "labvoid")


def mounted(target: Path) -> dict[str, str]:
    """Return kind, source and options of what is mounted at a folder."""
    words = run("findmnt", "--raw", "--noheadings", "-o", "FSTYPE,SOURCE,OPTIONS", str(target))
    kind, source, options = words.split()
    return {"kind": kind, "source": source, "options": options}


def define(shell: LabShell, source: str, target: Path, *words: str, at: str = HERE) -> None:
    shell.ok("pool-define-as", "p", "netfs", "--source-host", at, "--source-path", source,
             "--target", str(target), *words)  # fmt: skip


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        pytest.param("3", "nfs", id="NFSv3"),
        pytest.param("4.2", "nfs4", id="NFSv4"),
    ],
)
def test_life(shell: LabShell, tmp_path: Path, version: str, kind: str) -> None:
    target = tmp_path / "mnt"
    with exported() as folder, unmounted(target):
        (tmp_path / "p.xml").write_text(
            "<pool type='netfs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>"
            f"<name>p</name><source><host name='{HERE}'/><dir path='{folder}'/>"
            f"<format type='nfs'/><protocol ver='{version}'/></source>"
            f"<target><path>{target}</path></target>"
            "<fs:mount_opts><fs:option name='noatime'/></fs:mount_opts></pool>"
        )
        shell.ok("pool-define", str(tmp_path / "p.xml"))
        assert "does not exist" in shell.fails("pool-start", "p")
        shell.ok("pool-build", "p")
        shell.ok("pool-start", "p")
        found = mounted(target)
        assert (found["kind"], found["source"]) == (kind, f"{HERE}:{folder}")
        options = found["options"].split(",")
        assert {"nodev", "nosuid", "noexec", "noatime", f"vers={version}"} <= set(options)
        assert "already active" in shell.fails("pool-start", "p")

        content = os.urandom(3 * MiB)
        (tmp_path / "in").write_bytes(content)
        shell.ok("vol-create-as", "p", "a.raw", "4M")
        shell.ok("vol-create-as", "p", "b.qcow2", "8M", "--format", "qcow2")
        shell.ok("vol-create-as", "p", "sparse", "64M", "--allocation", "0")
        assert os.stat(f"{folder}/a.raw").st_blocks * 512 >= 4 * MiB
        assert os.stat(f"{folder}/sparse").st_blocks == 0
        shell.ok("vol-upload", "a.raw", str(tmp_path / "in"), "p")
        shell.ok("vol-clone", "a.raw", "c.raw", "p")
        shell.ok("vol-clone", "b.qcow2", "d.qcow2", "p")
        with open(f"{folder}/c.raw", "rb") as stream:
            assert stream.read(3 * MiB) == content
        shell.ok("vol-download", "c.raw", str(tmp_path / "out"), "p", "--length", str(3 * MiB))
        assert (tmp_path / "out").read_bytes() == content
        shell.ok("vol-resize", "c.raw", "6M", "p")
        shell.ok("vol-resize", "d.qcow2", "16M", "p")
        assert os.stat(f"{folder}/c.raw").st_size == 6 * MiB
        assert "16.00 MiB" in shell.ok("vol-info", "d.qcow2", "p")
        shell.ok("vol-wipe", "c.raw", "p")
        with open(f"{folder}/c.raw", "rb") as stream:
            assert not any(stream.read())
        shell.ok("vol-delete", "c.raw", "p")
        assert "exists already" in shell.fails("vol-create-as", "p", "a.raw", "1M")
        os.mkdir(f"{folder}/sub")
        shell.ok("pool-refresh", "p")
        names = {"a.raw", "b.qcow2", "d.qcow2", "sparse", "sub"}
        assert shell.volumes("p").keys() == set(os.listdir(folder)) == names
        space = os.statvfs(folder)
        assert shell.capacity("p") == pytest.approx(space.f_blocks * space.f_frsize, rel=0.01)

        shell.ok("pool-destroy", "p")
        assert str(target) not in devices.mounts()
        assert os.listdir(target) == []
        shell.ok("pool-start", "p")
        assert shell.volumes("p").keys() == names
        assert "still active" in shell.fails("pool-delete", "p")
        shell.ok("pool-destroy", "p")
        shell.ok("pool-delete", "p")
        assert not target.exists()
        shell.ok("pool-undefine", "p")
        assert set(os.listdir(folder)) == names


def test_odd_names(shell: LabShell, tmp_path: Path) -> None:
    """Blanks, quotes and what looks like an option; an IPv6 address with and without brackets."""
    target = tmp_path / "-o exec $(id) 'x"
    with exported(client="::1") as folder, unmounted(target):
        inner = f"{folder}/-o exec,dev ;x"
        os.mkdir(inner)
        open(f"{inner}/v", "w").close()
        define(shell, inner, target, at="::1")
        shell.ok("pool-start", "p", "--build")
        assert shell.state("p") == "running"
        assert shell.ok("-q", "vol-list", "p") == f" v   {target}/v\n"
        options = run("findmnt", "--noheadings", "-o", "OPTIONS", str(target))
        assert {"nodev", "nosuid", "noexec"} <= set(options.split(","))
        shell.ok("pool-destroy", "p")
        shell.ok("pool-undefine", "p")
        define(shell, inner, target, at="[::1]")
        shell.ok("pool-start", "p")
        shell.ok("pool-destroy", "p")


def test_what_is_there_already(shell: LabShell, tmp_path: Path) -> None:
    target = tmp_path / "mnt"
    with exported() as folder, exported() as other, unmounted(target):
        define(shell, folder, target)
        error = shell.fails("pool-define-as", "q", "netfs", "--source-host", HERE,
                            "--source-path", folder, "--target", "/elsewhere")  # fmt: skip
        assert error == (
            "error: Failed to define pool q\n"
            "error: operation failed: Storage source conflict with pool: 'p'\n"
            f"hint: pool 'p' ({shell.ok('pool-uuid', 'p').strip()}, inactive) has that source:"
            " storagectl pool-start p\n"
        )
        shell.ok("pool-build", "p")
        run("mount", f"{HERE}:{other}", str(target))
        assert f"already the mount point of '{HERE}:{other}'" in shell.fails("pool-start", "p")
        run("umount", str(target))
        run("mount", f"{HERE}:{folder}", str(target))
        # it was not started, whatever is mounted
        assert shell.state("p") == "inactive"
        shell.ok("pool-start", "p")
        assert devices.mounts().count(str(target)) == 1

        with open(target / "held", "w"):
            error = shell.fails("pool-destroy", "p")
            assert "device is busy" in error
            assert f"process {os.getpid()} (" in error
            assert shell.state("p") == "running"
        shell.ok("pool-destroy", "p")
        assert str(target) not in devices.mounts()


def test_servers_that_refuse(shell: LabShell, tmp_path: Path) -> None:
    target = tmp_path / "mnt"
    with exported() as folder, exported("ro,no_root_squash") as read_only, unmounted(target):
        for source, words, said in (
            (f"{folder}/nosuch", (), "No such file or directory"),
            ("/nosuch", (), "access denied by server"),
            (folder, ("--source-protocol-ver", "9"), "mount.nfs: "),
            (folder, ("--source-format", "cifs"), "Cannot find 'mount.cifs' in path"),
            (folder, ("--source-format", "glusterfs"), "Cannot find 'mount.glusterfs' in path"),
        ):
            define(shell, source, target, *words)
            error = shell.fails("pool-start", "p", "--build")
            assert said in error, error
            assert (shell.state("p"), str(target) in devices.mounts()) == ("inactive", False)
            shell.ok("pool-undefine", "p")
        assert "hint: install the package glusterfs-client" in error

        define(shell, read_only, target)
        shell.ok("pool-start", "p", "--build")  # what failed has left no folder
        assert "Read-only file system" in shell.fails("vol-create-as", "p", "v", "1M")
        shell.ok("pool-destroy", "p")

        run("rpc.nfsd", "0")
        try:
            began = time.monotonic()
            assert "mount.nfs: Connection refused" in shell.fails("pool-start", "p")
            assert time.monotonic() - began < 30
        finally:
            run("rpc.nfsd", "2")
            devices.end_grace()


def test_a_server_that_is_silent(
    shell: LabShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netfs.NetworkFileSystem, "mount_limit_s", 4.0)
    monkeypatch.setattr(netfs, "ASK_LIMIT_S", 2.0)
    target = tmp_path / "mnt"
    with void(), unmounted(target):
        define(shell, "/x", target, at=NOBODY_THERE)
        began = time.monotonic()
        error = shell.fails("pool-start", "p", "--build")
        assert "did not end within 4 s" in error
        assert f"does '{NOBODY_THERE}' answer?" in error
        error = shell.fails("find-storage-pool-sources-as", "netfs", NOBODY_THERE)
        assert f"no storage pools were found on host '{NOBODY_THERE}'" in error
        assert "did not end within 2 s" in error
        assert time.monotonic() - began < 30
        assert str(target) not in devices.mounts()
        assert shell.state("p") == "inactive"
        for name in ("mount", "mount.nfs", "showmount"):
            assert devices.pids(name) == []


def interrupted(shell: LabShell, *words: str) -> tuple[int, str, str]:
    """Run the program, and press Ctrl-C when it waits for a server."""
    process = subprocess.Popen(
        ["storagectl", "--root", str(shell.root), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    devices.wait_for("it waits", lambda: len(os.listdir(f"/proc/{process.pid}/task")) > 1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def in_time(
    shell: LabShell, *lines: tuple[str, ...], limit_s: int = 2
) -> list[tuple[tuple[str, ...], Answer]]:
    """Run commands at the same time, with that limit for a folder to answer; all must end.

    One that waits for the server would do so until the end of the run.
    """
    configuration = Path(shell.root, "etc/storagectl/config.toml")
    configuration.write_text(f"[time-limits]\nanswer = {limit_s}\n")
    configuration.chmod(0o644)
    answers = []
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    ["storagectl", "--root", shell.root, *words],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )
            )
            for words in lines
        ]  # fmt: skip
        for process in running:
            stack.callback(process.kill)
        for words, process in zip(lines, running, strict=True):
            stdout, stderr = process.communicate(timeout=120)
            answers.append((words, Answer(process.returncode, stdout, stderr)))
    configuration.unlink()
    return answers


def at_once(shell: LabShell, *lines: tuple[str, ...]) -> None:
    """Run commands that wait for nothing: a limit that they met would be longer than the test."""
    for words, done in in_time(shell, *lines, limit_s=1000):
        assert (done.status, done.stderr) == (0, ""), (words, done)


def test_a_server_that_dies(
    shell: LabShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S48: each command ends within its limit, and other pools answer at once."""
    target = tmp_path / "mnt"

    def alone(*words: str) -> subprocess.CompletedProcess[str]:
        """Run the program as a user has it: in this process a thread would go on waiting."""
        argv = ["storagectl", "--root", str(shell.root), *words]
        variables = os.environ | {"STORAGECTL_HINTS": "always"}
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, env=variables
        )

    with exported() as folder, unmounted(target):
        define(shell, folder, target)
        shell.ok("pool-start", "p", "--build")
        shell.ok("vol-create-as", "p", "v", "1M")
        shell.ok("pool-create-as", "other", "dir", "--target", str(tmp_path))
        shell.ok("pool-create-as", "within", "dir", "--target", str(target))
        # whether the folder of "within" is there only the server can tell
        plain = LabShell(tmp_path / "plain")
        define(plain, folder, target)
        plain.ok("pool-start", "p")
        plain.ok("pool-create-as", "other", "dir", "--target", str(tmp_path))
        with silence():
            done = alone("pool-list", "--details")
            rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()[2:-1]}
            assert rows == {"other": "running", "p": "inaccessible", "within": "inaccessible"}
            done = alone("vol-delete", f"{target}/v")
            assert done.returncode == 1, done
            assert f"error: operation failed: '{target}' does not answer\n" in done.stderr
            assert f"umount -f -l {target}" in done.stderr
            at_once(plain, ("pool-list",), ("pool-info", "other"), ("vol-list", "other"))
            for line in (
                ("pool-refresh", "p"), ("vol-list", "p", "--details"), ("vol-info", "v", "p"),
                ("vol-create-as", "p", "w", "1M"), ("vol-list", "within"),
            ):  # fmt: skip
                ((words, done),) = in_time(shell, line)
                assert (done.status, "does not answer" in done.stderr) == (1, True), (words, done)
            assert interrupted(shell, "vol-list", "p") == (130, "\n", "")
            monkeypatch.setattr(netfs.NetworkFileSystem, "umount_limit_s", 3.0)
            shell.ok("pool-destroy", "p")
            assert str(target) not in devices.mounts()
        assert os.listdir(folder) == ["v"]
        shell.ok("pool-start", "p")
        with silence():
            time.sleep(1)
        devices.wait_for("the server is back", lambda: os.path.exists(target / "v"))
        assert shell.state("p") == "running"
        assert shell.volumes("p").keys() == {"v"}
        shell.ok("pool-destroy", "p")


def owned(folder: Path, kind: str) -> str:
    """Write the definition of a volume that belongs to 1000:1001."""
    path = folder / f"{kind}.xml"
    path.write_text(
        f"<volume><name>own.{kind}</name><capacity>1048576</capacity><target>"
        f"<format type='{kind}'/><permissions><mode>0640</mode><owner>1000</owner>"
        "<group>1001</group></permissions></target></volume>"
    )
    return str(path)


def test_s50_root_squash(shell: LabShell, tmp_path: Path) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(exported("rw,root_squash"))
        # its owners must come this far
        place = stack.enter_context(devices.folder())
        os.chmod(place, 0o711)
        target = Path(place, "mnt")
        stack.enter_context(unmounted(target))
        os.chmod(folder, 0o755)
        os.chown(folder, 1000, 1001)
        define(shell, folder, target)
        shell.ok("pool-start", "p", "--build")
        error = shell.fails("vol-create-as", "p", "n.raw", "1M")
        assert f"Failed to create file '{target}/n.raw': Permission denied" in error
        assert os.listdir(folder) == []
        shell.ok("pool-destroy", "p")
        os.chmod(folder, 0o700)
        assert f"open directory '{target}': Permission denied" in shell.fails("pool-start", "p")
        assert str(target) not in devices.mounts()
        os.chmod(folder, 0o755)
        shell.ok("pool-start", "p")

        # what may not be deleted is still there, and listed; so is what was not made
        os.chmod(folder, 0o555)
        open(f"{folder}/kept", "w").close()
        devices.wait_for("a look at the server", lambda: "kept" in shell.volumes("p"))
        for words in (("vol-delete", "kept", "p"), ("vol-create-as", "p", "kept2", "1M")):
            assert "Permission denied" in shell.fails(*words)
            assert shell.volumes("p").keys() == set(os.listdir(folder)) == {"kept"}
        os.remove(f"{folder}/kept")
        os.chmod(folder, 0o755)
        devices.wait_for("a look at the server", lambda: not shell.volumes("p"))

        kinds = ("raw", "qcow2", "dir")
        for kind in kinds:
            shell.ok("vol-create", "p", owned(tmp_path, kind))
            status = os.stat(f"{folder}/own.{kind}")
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1000, 1001, 0o640)
        assert set(os.listdir(folder)) == {f"own.{kind}" for kind in kinds}
        assert "<format type='qcow2'/>" in shell.ok("vol-dumpxml", "own.qcow2", "p")
        for kind in ("raw", "qcow2"):
            shell.ok("vol-resize", f"own.{kind}", "2M", "p")
        content = os.urandom(5000)
        (tmp_path / "in").write_bytes(content)
        shell.ok("vol-upload", "own.raw", str(tmp_path / "in"), "p")
        shell.ok("vol-download", "own.raw", str(tmp_path / "out"), "p", "--length", "5000")
        assert (tmp_path / "out").read_bytes() == content
        # from where only root may read
        shell.ok("pool-create-as", "d", "dir", "--target", str(tmp_path))
        os.chmod(tmp_path / "in", 0o600)
        (tmp_path / "copy.xml").write_text(
            (tmp_path / "raw.xml").read_text().replace("own.raw", "copy").replace("0640", "0600")
        )
        shell.ok("vol-create-from", "p", str(tmp_path / "copy.xml"), "in", "--inputpool", "d")
        with open(f"{folder}/copy", "rb") as stream:
            assert stream.read(5000) == content
        for name in ("copy", *(f"own.{kind}" for kind in kinds)):
            shell.ok("vol-delete", name, "p")
        assert os.listdir(folder) == []
        assert (os.geteuid(), os.getegid()) == (0, 0)
        shell.ok("pool-destroy", "p")


# What pools could be made of


def test_sources_of_a_file_server(shell: LabShell, tmp_path: Path) -> None:
    with exported() as one, exported("ro") as two:
        found = shell.ok("find-storage-pool-sources-as", "netfs", HERE)
        for folder in (one, two):
            assert (
                f"  <source>\n    <host name='{HERE}'/>\n    <dir path='{folder}'/>\n"
                "    <format type='nfs'/>\n  </source>\n"
            ) in found
        (tmp_path / "s.xml").write_text("<source><host name='::1'/></source>")
        there = shell.ok("find-storage-pool-sources", "netfs", str(tmp_path / "s.xml"))
        assert there == found.replace(HERE, "::1")
    error = shell.fails("find-storage-pool-sources-as", "netfs", HERE)
    assert f"operation failed: no storage pools were found on host '{HERE}'" in error


def test_sources_of_logical_pools(shell: LabShell) -> None:
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(devices.loop()) for _ in range(3))
        wide = stack.enter_context(devices.volume_group(one, three, name="lab.v-g+1"))
        stack.enter_context(devices.volume_group(two, name="labalpha"))
        assert shell.ok("find-storage-pool-sources-as", "logical") == (
            f"<sources>\n  <source>\n    <device path='{one}'/>\n    <device path='{three}'/>\n"
            f"    <name>{wide}</name>\n    <format type='lvm2'/>\n  </source>\n"
            f"  <source>\n    <device path='{two}'/>\n    <name>labalpha</name>\n"
            "    <format type='lvm2'/>\n  </source>\n</sources>\n\n"
        )
    assert shell.ok("-q", "find-storage-pool-sources", "logical") == "<sources>\n</sources>\n"


def test_sources_of_iscsi_pools(shell: LabShell) -> None:
    with devices.iscsid(), devices.iscsi_target() as target:
        assert shell.ok("find-storage-pool-sources-as", "iscsi", HERE) == (
            f"<sources>\n  <source>\n    <host name='{HERE}' port='3260'/>\n"
            f"    <device path='{target.iqn}'/>\n  </source>\n</sources>\n\n"
        )
        error = shell.fails("find-storage-pool-sources-as", "iscsi", HERE, "--initiator", "iqn.x")
        assert "operation failed: no iSCSI interface defined for IQN iqn.x" in error
