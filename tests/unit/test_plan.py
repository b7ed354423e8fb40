"""The host that plans: nothing of the real host's changes is left in it, and what bash reads."""

from __future__ import annotations

import inspect
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from crashing import PLANNED
from fakehost import FakeHost

from storagectl.backends import devices, in_use
from storagectl.backends.filesystem import FileSystem
from storagectl.backends.iscsi import Iscsi
from storagectl.backends.logical import Logical
from storagectl.backends.scsi import Scsi
from storagectl.errors import SystemFailure, ToolFailed
from storagectl.host import Host
from storagectl.host.plan import Planner
from storagectl.host.script import Script, dd, join, quote
from storagectl.model import Adapter, Auth, Device, Permissions, Pool, Source, Volume
from storagectl.model import Host as Server
from storagectl.tools import blkid, iscsiadm, lvm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# What only reads, locks, asks or talks.
READING = {
    "addresses", "asks_together", "converse", "disk_locked", "find_tool", "has_tool", "is_root",
    "keep_out_of_core_dumps", "may_replace", "mounts",
    "read_text", "require_reachable", "responds", "unreachable",
}  # fmt: skip


def test_everything_that_changes_the_host_is_planned() -> None:
    public = {name for name, _ in inspect.getmembers(Host, callable) if name[0] != "_"}
    assert public - READING <= PLANNED
    assert not READING & PLANNED


HOSTILE = [
    "a b",
    "it's",
    '"',
    "$HOME `id`",
    "a\nb",
    "\x1b[31m",
    "\udcff",
    "\u202ex",
    "-n",
    "",
    "\\",
]


def bash(script: str) -> bytes:
    return subprocess.run(
        ["bash", "-c", os.fsencode(script)], capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("word", HOSTILE)
def test_bash_reads_each_word_as_it_was(word: str) -> None:
    assert quote(word).isprintable()
    assert bash(f"printf %s {quote(word)}") == os.fsencode(word)
    assert bash(join(["printf", r"%s\0", word, "end"])) == os.fsencode(word) + b"\0end\0"


@pytest.mark.parametrize(
    "text",
    ["", "x", "x\n", "EOF\n", "EOF\nEOF_\n", "a\n\n", "$HOME `id` \\n\n", "\udcff\n", "\x1b\n"],
)
def test_a_file_gets_its_text_and_mode(tmp_path: Path, text: str) -> None:
    script = Script()
    path = tmp_path / "a file"
    script.write(str(path), text, 0o640)
    bash(script.text("test"))
    assert path.read_bytes() == os.fsencode(text)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_script_without_lines_says_so() -> None:
    script = Script()
    assert script.text("x") == "# x would change nothing.\n"
    script.secret("it")
    assert script.text("x") == "# x would change nothing.\n"


def test_secrets_have_descriptors_of_their_own() -> None:
    script = Script()
    assert [script.secret(what) for what in ("a", "b", "a", "it's\nc")] == [9, 8, 9, 7]
    script.command(["true"])
    text = script.text("x")
    assert "# Secret: it's?c has to come on descriptor 7," in text
    assert bash(f"exec 9</dev/null 8</dev/null 7</dev/null\n{text}") == b""


def test_dd_changes_only_its_range(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(range(256)) * 1000)
    other.write_bytes(b"." * 300_000)
    bash(join(dd(str(one), str(other), skip=3, seek=1001, count=70_001)))
    expected = bytearray(b"." * 300_000)
    expected[1001 : 1001 + 70_001] = one.read_bytes()[3 : 3 + 70_001]
    assert other.read_bytes() == expected


def test_what_is_planned_is_remembered(tmp_path: Path) -> None:
    host = Planner()
    folder = str(tmp_path / "a")
    assert host.make_folder(folder, 0o700)
    assert not host.make_folder(folder, 0o700)
    host.write_atomic(f"{folder}/x.xml", "text")
    assert host.read_file(f"{folder}/x.xml") == b"text"
    assert host.list_folder(folder) == ["x.xml"]
    host.remove(f"{folder}/x.xml")
    with pytest.raises(FileNotFoundError):
        host.read_file(f"{folder}/x.xml")
    with pytest.raises(SystemFailure):
        host.remove(f"{folder}/x.xml")
    host.remove(f"{folder}/x.xml", missing_ok=True)
    assert host.list_folder(folder) == []
    assert list(tmp_path.iterdir()) == []
    assert len(host.script.lines) == 3


def test_an_attempt_that_fails_is_forgotten(tmp_path: Path) -> None:
    host = Planner()

    def attempt() -> None:
        with host.attempt():
            host.make_folder(str(tmp_path / "a"), 0o700)
            host.script.secret("it")
            raise KeyError

    with pytest.raises(KeyError):
        attempt()
    assert (host.script.lines, host.script.secrets, host.expected) == ([], [], [])
    assert not host.is_folder(str(tmp_path / "a"))


def test_errors_are_those_of_the_real_host(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")

    def attempts(host: Host, folder: Path) -> list[str]:
        found = []
        for attempt in (
            lambda: host.make_folder(str(folder / "no/such"), 0o700),
            lambda: host.make_folder(str(folder / "file"), 0o700),
            lambda: host.make_parents(str(folder / "file/a/b")),
            lambda: host.remove(str(folder / "no")),
            lambda: host.remove(str(folder / "full")),
            lambda: host.remove_folder(str(folder / "full"), "failure"),
            lambda: host.remove_folder(str(folder / "file"), "failure"),
            lambda: host.remove_folder(str(folder / "no"), "failure"),
            lambda: host.remove_folder("/proc", "failure"),
            lambda: host.write_atomic(str(folder / "no/such"), ""),
            lambda: host.rename(str(folder / "no"), str(folder / "new")),
            lambda: host.set_owner_and_mode(str(folder / "no"), None, None, 0o700),
            lambda: host.tell_kernel(str(folder / "no"), "x", "failure"),
            lambda: host.set_nocow(str(folder / "no"), None),
        ):
            with pytest.raises(SystemFailure) as caught:
                attempt()
            found.append(str(caught.value))
        return found

    planner = Planner()
    assert attempts(planner, tmp_path) == attempts(Host(), tmp_path)
    assert planner.script.lines == []


@pytest.mark.parametrize("name", ["plain", "a blank", "a\tb\\n"])
def test_a_folder_on_btrfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shown = str(folder).replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011")
    planner = Planner()
    lines = f"1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / {shown} rw - btrfs /dev/y rw\n"
    monkeypatch.setattr(planner, "mounts", lambda: lines)
    planner.make_folder(str(folder / "below"), 0o700)
    planner.set_nocow(str(folder / "below"), "no")
    planner.set_nocow(str(tmp_path), None)
    assert "".join(planner.script.lines).count("chattr +C -- ") == 1


# Pools whose devices no test here has


class FakePlanner(Planner):
    """Plans with tools that answer from a script."""

    def __init__(self, *script: tuple[Sequence[str], str, int]) -> None:
        super().__init__()
        self.tools = FakeHost(*script)

    def find_tool(self, name: str) -> str:
        return name

    def _spawn(self, argv: list[str], *_: object) -> tuple[int, str, str]:
        return self.tools._spawn(argv)

    def require_reachable(self, name: str, port: int, seconds: float) -> None:
        assert (name, port) == ("server", 3260)


def test_only_root_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(devices=[Device("/dev/null")], format="ext4")
    pool = Pool("fs", "p", "u", source, target=str(tmp_path))
    monkeypatch.setattr(FakePlanner, "is_root", lambda self: False)
    with pytest.raises(ToolFailed, match=f"mount: {tmp_path}: must be superuser to use mount"):
        FileSystem(pool, FakePlanner((blkid.signatures("/dev/null"), "", 0))).start()


IQN = "iqn.2026-11.lab:t1"


def iscsi(auth: Auth | None, initiator: str | None = None) -> Iscsi:
    interfaces = (iscsiadm.interfaces(), "default tcp,<empty>,<empty>,<empty>,<empty>\n", 0)
    host = FakePlanner(*([interfaces] if initiator else []))
    source = Source(hosts=[Server("server")], devices=[Device(IQN)], auth=auth, initiator=initiator)
    backend = Iscsi(Pool("iscsi", "p", "07f06ec7-1", source, target="/dev/disk/by-path"), host)
    backend.secret_of = lambda auth: "top secret"
    return backend


@pytest.fixture
def no_iscsi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No session, and a folder for the records of iscsiadm."""
    monkeypatch.setattr(devices, "SYS", str(tmp_path / "sys"))
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nosuch")
    monkeypatch.setattr(iscsiadm, "RECORDS", (str(tmp_path / "nodes"),))
    return tmp_path / "nodes"


def test_a_login_is_planned(no_iscsi: Path) -> None:
    backend = iscsi(None, "iqn.me")
    backend.start()
    assert isinstance(backend.host, FakePlanner)
    named = "--interface storagectl-iface-07f06ec7"
    node = f"iscsiadm --mode node --portal server:3260,1 --targetname {IQN}"
    assert backend.host.script.lines == [
        f"iscsiadm --mode iface {named} --op new",
        f"iscsiadm --mode iface {named} --op update --name iface.initiatorname --value iqn.me",
        f"{node} --op new {named}",
        f"{node} --op update --name node.session.initial_login_retry_max --value 2 {named}",
        f"timeout 150 {node} --login {named}",
    ]
    assert backend.is_foreseen()
    assert backend.settled().source.hosts[0].port == 3260
    assert not iscsi(None).is_foreseen()


def test_a_password_goes_into_the_record_only(no_iscsi: Path) -> None:
    backend = iscsi(Auth("chap", "jo'e", "u", None))
    backend.start()
    assert isinstance(backend.host, FakePlanner)
    text = backend.host.script.text("pool-start")
    assert "top secret" not in text
    assert "the password of iSCSI user jo'e has to come on descriptor 9" in text
    record = no_iscsi / IQN / "server,3260,1/default"
    record.parent.mkdir(parents=True)
    before = (
        "# BEGIN RECORD 2.1.8\nnode.name = x\nnode.session.auth.authmethod = None\n# END RECORD\n"
    )
    record.write_text(before)
    fakes = "iscsiadm() { :; }\ntimeout() { :; }\n"
    value = no_iscsi.parent / "value"
    value.write_text("top secret")
    bash(f"exec 9<{value}\n{fakes}{text}")
    assert record.read_text() == iscsiadm.with_chap(before, "jo'e", "top secret")


def logical(*script: tuple[Sequence[str], str, int]) -> Logical:
    source = Source(name="vg", devices=[Device("/dev/null")])
    return Logical(Pool("logical", "p", "u", source, target="/dev/vg"), FakePlanner(*script))


def test_a_volume_group_is_planned_and_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nosuch")
    monkeypatch.setattr(in_use, "require_unused", lambda host, device: None)
    monkeypatch.setattr(devices, "require_empty", lambda host, device, wanted: None)
    monkeypatch.setattr(devices, "clear_edges", lambda host, device: None)
    backend = logical((lvm.vgs("vg"), 'Volume group "vg" not found', 5))
    backend.build(overwrite=False, no_overwrite=False)
    backend.start()
    assert isinstance(backend.host, FakePlanner)
    assert backend.host.script.lines == [
        "pvcreate /dev/null", "vgcreate vg /dev/null", "vgchange -aly vg"
    ]  # fmt: skip
    assert backend.is_foreseen()


def test_a_logical_volume_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nosuch")
    backend = logical((lvm.lvs("vg"), '{"report": [{"lv": []}]}', 0))
    volume = Volume("new", capacity=1 << 20, allocation=1 << 20)
    volume.permissions = Permissions(0o640, 1, None)
    backend.create_volume(volume, metadata=False)
    assert isinstance(backend.host, FakePlanner)
    assert backend.host.script.lines == [
        "lvcreate --name new -L 1024K vg --yes",
        "for _ in {1..100}; do [ -b /dev/vg/new ] && break; sleep 0.1; done; [ -b /dev/vg/new ]",
        "chown -- 1 /dev/vg/new",
        "chmod -- 0640 /dev/vg/new",
    ]
    assert backend.host.expected_at("new") == "/dev/vg/new"


def test_a_group_is_stopped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nosuch")
    text = '{"report": [{"lv": []}]}'
    backend = logical((lvm.lvs("vg"), text, 0), (lvm.lvs("vg"), text, 0))
    backend.stop()
    assert isinstance(backend.host, FakePlanner)
    assert backend.host.script.lines == ["vgchange -aln vg"]


def test_a_vhba_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "SYS", str(tmp_path))
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nosuch")
    parent = tmp_path / "class/fc_host/host3"
    parent.mkdir(parents=True)
    for name in ("node_name", "port_name", "vport_create", "vport_delete"):
        (parent / name).write_text("0x1\n")
    adapter = Adapter("fc_host", wwnn="20", wwpn="10", parent="scsi_host3")
    pool = Pool("scsi", "p", "u", Source(adapter=adapter), target="/dev/disk/by-id")
    backend = Scsi(pool, FakePlanner())
    backend.start()
    assert isinstance(backend.host, FakePlanner)
    assert backend.host.script.lines == [f"printf %s 10:20 >{parent}/vport_create"]
    assert backend.is_foreseen()
    assert backend.settled().source.adapter == adapter.replace(managed="yes")
    assert (parent / "vport_create").read_text() == "0x1\n"


def test_what_is_done_as_another_user_is_in_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file server that lets root make no files."""
    host = FakePlanner()
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 99)
    monkeypatch.setattr(os, "getgroups", lambda: [99])
    host.change(["mkfs.x", "a b"], limit_s=30.0)
    assert host.script.lines == [
        "setpriv --reuid=1234 --regid=99 --groups=99 timeout 30 mkfs.x 'a b'"
    ]
