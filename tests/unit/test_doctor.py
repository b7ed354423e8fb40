"""What doctor finds wrong, with a host that answers from a script."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost

from storagectl import doctor, packages
from storagectl.backends import devices, in_use, load, mpath, troubles
from storagectl.backends.iscsi import Iscsi
from storagectl.errors import OperationFailed, PoolNotFound, ToolMissing
from storagectl.model import Adapter, Auth, Device, Permissions, Pool, SecretDefinition, Source
from storagectl.model import Host as Server
from storagectl.pools import Pools
from storagectl.pooltypes import POOL_TYPES
from storagectl.store import Store
from storagectl.tools import blkid, iscsiadm, lvm, parted, showmount

if TYPE_CHECKING:
    from storagectl.backends.troubles import Trouble

FIXTURES = Path(__file__).parent / "tools/fixtures"
VG = "lab.v-g+1"
OWN_INITIATOR = Iscsi.own_initiator


def recorded(tool: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / tool / f"{name}.json").read_text())
    return loaded


class Host(FakeHost):
    """Some tools are missing, some servers do not answer."""

    def __init__(
        self, *script: Any, missing: tuple[str, ...] = (), away: tuple[str, ...] = (), **more: Any
    ) -> None:
        super().__init__(*script, **more)
        self.root = True
        self.missing = missing
        self.away = away
        self.asked: list[tuple[str, int, float]] = []

    def is_root(self) -> bool:
        return self.root

    def find_tool(self, name: str) -> str:
        if name in self.missing:
            raise ToolMissing(f"Cannot find '{name}' in path: No such file or directory")
        return name

    def require_reachable(self, name: str, port: int, seconds: float) -> None:
        self.asked.append((name, port, seconds))
        if name in self.away:
            raise OperationFailed(f"cannot reach '{name}' at port {port}: timed out")


@pytest.fixture(autouse=True)
def _host_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "UDEV_CONTROL", "/nonexistent")
    monkeypatch.setattr(Iscsi, "own_initiator", lambda _: "iqn.2026-11.lab:us")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)


def looked(pool: Pool, *script: Any, active: bool = False) -> list[Trouble]:
    with Host(*script) as host:
        return list(load(pool, host).troubles(active=active))


def brief(found: list[Trouble]) -> list[tuple[str, str]]:
    return [(one.code, " ".join(one.command)) for one in found]


def pools_of(tmp_path: Path, *pools: Pool, host: Host | None = None) -> Pools:
    host = host or Host()
    store = Store(host, str(tmp_path / "root"))
    for pool in pools:
        store.define(pool)
    return Pools(store, host)


def codes(report: doctor.Report) -> list[tuple[str, str, str]]:
    return [(one.pool, one.trouble.severity, one.trouble.code) for one in report.findings]


def dir_pool(target: Path, name: str = "d", uuid: str = "1", **more: Any) -> Pool:
    uuid = f"{uuid * 8}-1111-4111-8111-111111111111"
    return Pool("dir", name, uuid, target=str(target), **more)


# Folders


def test_a_target_that_is_there(tmp_path: Path) -> None:
    assert looked(dir_pool(tmp_path)) == []


def test_a_target_that_is_missing(tmp_path: Path) -> None:
    found = looked(dir_pool(tmp_path / "x", name="--p"))
    assert brief(found) == [("target-missing", "storagectl pool-build --pool=--p")]
    assert found[0].mends


def test_a_target_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert brief(looked(dir_pool(tmp_path / "x"))) == [
        ("target-no-folder", "storagectl pool-edit d")
    ]
    assert brief(looked(dir_pool(tmp_path / "x/y")))[0][0] == "target-refused"


def test_a_target_unlike_its_definition(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    status = tmp_path.stat()
    same = Permissions(0o700, status.st_uid, status.st_gid)
    assert looked(dir_pool(tmp_path, permissions=same)) == []
    other = Permissions(0o711, status.st_uid, status.st_gid + 1)
    assert brief(looked(dir_pool(tmp_path, permissions=other))) == [
        ("target-mode", f"chmod 0711 {tmp_path}"),
        ("target-owner", f"chown :{status.st_gid + 1} {tmp_path}"),
    ]


def test_a_target_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    (found,) = looked(dir_pool(tmp_path))
    assert (found.code, found.mends) == ("target-refused", False)
    monkeypatch.setattr(os, "access", lambda _, wanted, **__: wanted != os.W_OK)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid or 1)
    (found,) = looked(dir_pool(tmp_path))
    assert found.severity == troubles.WARNING


def test_a_target_on_a_server_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "responds", lambda *_: False)
    found = looked(dir_pool(tmp_path))
    assert brief(found) == [("target-silent", f"umount -f -l {tmp_path}")]


# Mounts and file systems


def fs_pool(tmp_path: Path, format: str | None = "ext4", content: bytes = b"") -> Pool:
    device = tmp_path / "device"
    device.write_bytes(content.ljust(1 << 20, b"\0"))
    (tmp_path / "t").mkdir(exist_ok=True)
    source = Source(devices=[Device(str(device))], format=format)
    return Pool("fs", "f", "2" * 8 + "-1111-4111-8111-111111111111", source, str(tmp_path / "t"))


def finds(pool: Pool, name: str) -> Any:
    device = pool.source.devices[0].path
    return blkid.signatures(device), recorded("wipefs", name)["stdout"], 0


@pytest.mark.parametrize(
    ("format", "found", "answer"),
    [
        ("ext4", "ext4", []),
        ("auto", "ext4", []),
        ("xfs", "ext4", [("format-differs", "storagectl pool-edit f")]),
        ("ext4", "lvm", [("format-differs", "storagectl pool-edit f")]),
        ("ext4", "empty", [("format-missing", "storagectl pool-build f --no-overwrite")]),
        ("auto", "empty", [("format-missing", "storagectl pool-edit f")]),
    ],
)
def test_what_is_on_a_device(
    tmp_path: Path, format: str, found: str, answer: list[tuple[str, str]]
) -> None:
    pool = fs_pool(tmp_path, format)
    assert brief(looked(pool, finds(pool, found))) == answer


def test_data_that_nobody_knows_is_not_to_be_overwritten(tmp_path: Path) -> None:
    pool = fs_pool(tmp_path, content=b"precious")
    (found,) = looked(pool, finds(pool, "empty"))
    assert (found.code, found.mends) == ("format-missing", False)


def test_something_else_is_mounted_at_the_target(tmp_path: Path) -> None:
    pool = fs_pool(tmp_path)
    line = f"36 35 98:0 / {tmp_path}/t rw - ext4 /dev/other rw\n"
    with Host(finds(pool, "ext4"), files={"/proc/self/mountinfo": line}) as host:
        found = list(load(pool, host).troubles(active=False))
    assert brief(found) == [("target-busy", f"umount {tmp_path}/t")]


def test_a_device_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = fs_pool(tmp_path)
    user = ""
    monkeypatch.setattr(in_use, "user_of_file", lambda _: user)
    user = "mounted on /mnt"
    (found,) = looked(pool, finds(pool, "ext4"))
    assert (found.severity, found.command) == (troubles.WARNING, ("umount", "/mnt"))
    user = "held by /dev/mapper/x"
    (found,) = looked(pool, finds(pool, "ext4"))
    assert (found.severity, found.mends) == (troubles.ERROR, False)


@pytest.mark.parametrize(
    ("path", "file", "code"),
    [
        ("relative", False, ["device-relative"]),
        ("/nonexistent/x", False, ["device-missing"]),
        ("/dev/null", False, ["device-no-device"]),
        (__file__, False, ["device-no-device"]),
        (__file__, True, []),
        ("/sys/devices/virtual", True, ["device-no-device"]),
    ],
)
def test_devices(path: str, file: bool, code: list[str]) -> None:
    assert [one.code for one in troubles.of_device(path, "p", file=file)] == code


# Disks


def disk_pool(tmp_path: Path, content: bytes = b"") -> Pool:
    pool = fs_pool(tmp_path, "gpt", content)
    return pool.replace(type="disk", target="/dev")


def prints(pool: Pool, name: str) -> Any:
    record = recorded("parted", name)
    text = record["stdout"] if record["status"] == 0 else record["stderr"]
    return parted.print_table(pool.source.devices[0].path), text, record["status"]


@pytest.mark.parametrize(
    ("on_it", "table", "answer"),
    [
        ("gpt", "gpt-empty", []),
        ("empty", "none", [("format-missing", "storagectl pool-build f")]),
        ("dos", "dos-empty", [("format-differs", "storagectl pool-edit f")]),
        ("ext4", None, [("format-differs", "storagectl pool-edit f")]),
    ],
)
def test_the_table_of_a_disk(
    tmp_path: Path, on_it: str, table: str | None, answer: list[tuple[str, str]]
) -> None:
    pool = disk_pool(tmp_path)
    script = [finds(pool, on_it)] + ([prints(pool, table)] if table else [])
    assert brief(looked(pool, *script)) == answer


def test_a_disk_with_unknown_data(tmp_path: Path) -> None:
    pool = disk_pool(tmp_path, b"precious")
    (found,) = looked(pool, finds(pool, "empty"), prints(pool, "none"))
    assert (found.code, found.mends) == ("format-missing", False)


# Volume groups


def group_pool(*paths: str) -> Pool:
    source = Source(name=VG, devices=[Device(path) for path in paths])
    return Pool("logical", "v", "3" * 8 + "-1111-4111-8111-111111111111", source, f"/dev/{VG}")


def says(name: str) -> Any:
    record = recorded("lvm", name)
    text = record["stdout"] if record["status"] == 0 else record["stderr"]
    return lvm.vgs(VG), text.replace("nosuch", VG), record["status"]


def test_a_group_that_is_well() -> None:
    assert looked(group_pool("/dev/loop0"), says("vgs-three")) == []


@pytest.mark.parametrize(
    ("said", "code", "command", "mends"),
    [
        ("vgs-exported", "group-exported", f"vgimport {VG}", True),
        ("vgs-partial", "group-incomplete", "pvs -o", False),
        ("vgs-foreign", "group-foreign", f"vgs --foreign -o +vg_systemid {VG}", False),
        ("vgs-nosuch", "group-missing", "vgs -a", False),
    ],
)
def test_groups_that_are_not_well(said: str, code: str, command: str, mends: bool) -> None:
    (found,) = looked(group_pool(), says(said))
    assert (found.code, found.mends) == (code, mends)
    assert " ".join(found.command).startswith(command)


def test_a_shared_group() -> None:
    argv, text, status = says("vgs-three")
    shared = text.replace('"vg_lock_type":""', '"vg_lock_type":"sanlock"')
    assert shared != text
    (found,) = looked(group_pool(), (argv, shared, status))
    assert found.code == "group-shared"


def test_a_group_on_other_devices(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    found = looked(group_pool(str(tmp_path / "x")), says("vgs-three"))
    assert brief(found) == [("group-elsewhere", "storagectl pool-edit v")]


def test_two_groups_of_one_name() -> None:
    argv, text, status = says("vgs-three")
    uuid = lvm.parse_groups(text)[0].uuid
    (found,) = looked(group_pool(), (argv, text.replace(uuid, "other", 1), status))
    assert found.code == "group-twice"
    assert found.command[0] == "vgrename"
    assert found.command[1] in ("other", uuid)


def test_a_group_that_is_not_made_yet(tmp_path: Path) -> None:
    device = tmp_path / "x"
    device.write_bytes(bytes(512))
    pool = group_pool(str(device))
    found = looked(pool, says("vgs-nosuch"), finds(pool, "empty"))
    assert brief(found) == [("group-missing", "storagectl pool-build v")]


@pytest.mark.parametrize("listed", [False, True])
def test_a_device_that_lvm_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    device, known = tmp_path / "x", tmp_path / "system.devices"
    device.write_bytes(bytes(512))
    if listed:
        known.touch()
    monkeypatch.setattr(troubles, "LVM_DEVICES", str(known))
    pool = group_pool(str(device))
    pvs = (lvm.pvs(), recorded("lvm", "pvs")["stdout"], 0)
    (found,) = looked(pool, says("vgs-nosuch"), finds(pool, "lvm"), pvs)
    assert (found.code, found.mends) == ("group-hidden", listed)
    assert found.command == (
        ("lvmdevices", "--adddev", str(device))
        if listed
        else ("lvmconfig", "devices/filter", "devices/global_filter")
    )


# Storage networks


def iscsi_pool(**changes: Any) -> Pool:
    source = Source(hosts=[Server("nas")], devices=[Device("iqn.2026-11.lab:t")])
    uuid = "4" * 8 + "-1111-4111-8111-111111111111"
    return Pool("iscsi", "i", uuid, source.replace(**changes), "/dev/disk/by-path")


def test_an_iscsi_source_that_names_no_target() -> None:
    assert brief(looked(iscsi_pool(devices=[]))) == [("source-invalid", "storagectl pool-edit i")]


def test_a_host_without_an_initiator_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Iscsi, "own_initiator", OWN_INITIATOR)
    monkeypatch.setattr(iscsiadm, "RECORDS", ())
    for text, count in (("# none\n", 1), ("InitiatorName=iqn.2026-11.lab:us\n", 0)):
        for missing in ((), ("iscsi-iname",)):
            host = Host(files={iscsiadm.INITIATOR: text}, missing=missing)
            found = list(load(iscsi_pool(), host).troubles(active=False))
            expected = [] if missing else ["initiator-missing"] * count
            assert [one.code for one in found] == expected


@pytest.mark.parametrize(("mode", "count"), [(0o600, 0), (0o644, 1)])
def test_a_record_with_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, count: int
) -> None:
    monkeypatch.setattr(iscsiadm, "RECORDS", (str(tmp_path),))
    record = tmp_path / "iqn.2026-11.lab:t/nas,3260,1/default"
    record.parent.mkdir(parents=True)
    record.write_text("node.session.auth.password = x\n")
    record.chmod(mode)
    found = looked(iscsi_pool())
    assert brief(found) == [("secret-mode", f"chmod 600 {record}")] * count


def test_a_scsi_host_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "SYS", str(tmp_path))
    source = Source(adapter=Adapter("scsi_host", "host7"))
    pool = Pool("scsi", "s", "u", source, "/dev/disk/by-path")
    (found,) = looked(pool)
    assert (found.code, found.what) == ("adapter-missing", "there is no SCSI host 'host7'")
    (tmp_path / "class/scsi_host/host7").mkdir(parents=True)
    assert looked(pool) == []


def test_paths_that_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = (devices_path(active) for active in (True, False))
    states = {"dm-0": [good], "dm-1": [good, bad], "dm-2": [bad, bad]}
    monkeypatch.setattr(mpath.Multipath, "paths", lambda _: states)
    found = looked(Pool("mpath", "m", "u"), active=True)
    assert [(one.severity, one.code) for one in found] == [
        ("warning", "path-failed"), ("error", "path-failed"),
    ]  # fmt: skip
    assert [one.code for one in looked(Pool("mpath", "m", "u"))] == ["module-missing"]


def devices_path(active: bool) -> Any:
    from storagectl.backends import Path as Way

    return Way("sda", "1:0:0:0", active, 0)


# What all pools need


def nfs_pool(tmp_path: Path) -> Pool:
    (tmp_path / "n").mkdir()
    source = Source(hosts=[Server("nas")], dir="/x", format="nfs")
    uuid = "5" * 8 + "-1111-4111-8111-111111111111"
    return Pool("netfs", "n", uuid, source, str(tmp_path / "n"))


def test_missing_tools_and_servers_that_are_away(tmp_path: Path) -> None:
    host = Host(
        missing=("mount.nfs",), away=("nas",), files={"/etc/os-release": 'ID="opensuse-leap"\n'}
    )
    report = doctor.examine(pools_of(tmp_path, nfs_pool(tmp_path), host=host))
    assert codes(report) == [
        ("n", "error", "tool-missing"), ("n", "error", "server-unreachable"),
    ]  # fmt: skip
    tool, server = (one.trouble for one in report.findings)
    assert tool.command == ("zypper", "install", "nfs-client")
    for words in ("Debian: nfs-common", "Fedora: nfs-utils", "Arch: nfs-utils", "SUSE: nfs-client"):
        assert words in tool.what
    assert not server.mends
    assert host.asked == [("nas", 2049, doctor.REACH_S)]
    assert doctor.REACH_S <= 5


EXPORTS = showmount.exports("nas")


def test_nothing_wrong(tmp_path: Path) -> None:
    with Host((EXPORTS, "/x *\n", 0)) as host:
        report = doctor.examine(pools_of(tmp_path, nfs_pool(tmp_path), host=host))
    assert report == (("n",), ())


@pytest.mark.parametrize(
    ("said", "status", "missing"),
    [
        ("/y *\n/xx *\n", 0, True),
        ("", 0, False),  # the list is hidden
        ("clnt_create: RPC: Program not registered\n", 1, False),  # NFS 4 alone
    ],
)
def test_an_export_that_the_server_does_not_list(
    tmp_path: Path, said: str, status: int, missing: bool
) -> None:
    with Host((EXPORTS, said, status)) as host:
        found = doctor.examine(pools_of(tmp_path, nfs_pool(tmp_path), host=host)).findings
    assert [(one.trouble.code, one.trouble.command) for one in found] == (
        [("export-missing", tuple(EXPORTS))] if missing else []
    )


def test_only_an_nfs_server_that_answers_is_asked_what_it_exports(tmp_path: Path) -> None:
    pool = nfs_pool(tmp_path)
    with Host(away=("nas",)) as host:
        (found,) = doctor.examine(pools_of(tmp_path, pool, host=host)).findings
    assert found.trouble.code == "server-unreachable"
    pool.source.format = "cifs"
    pools = pools_of(tmp_path, pool)
    assert doctor.examine(pools).findings == ()
    pool.source.format = "nfs"
    pools.store.define(pool)
    pools.store.mark_started(pool)
    mounts = f"41 29 0:51 / {pool.target} rw - nfs4 nas:/x rw\n"
    host = Host(files={"/proc/self/mountinfo": mounts})
    assert doctor.examine(pools_of(tmp_path, host=host)).findings == ()


def test_another_source_by_the_same_name(tmp_path: Path) -> None:
    uuid = "7" * 8 + "-1111-4111-8111-111111111111"
    pool = Pool("logical", "l", uuid, Source(name=VG), f"/dev/{VG}")
    asked = (lvm.vgs(VG), recorded("lvm", "vgs-three")["stdout"], 0)
    with Host(asked, asked, asked, asked) as host:
        pools = pools_of(tmp_path, pool, host=host)
        known = load(pool, host).identities(built=True)
        pools.store.keep_identities("l", {what: {"UUID": "another"} for what in known})
        (found,) = doctor.examine(pools).findings
        assert (found.pool, found.trouble.code) == ("l", "device-changed")
        assert f"volume group {VG}" in found.trouble.what
        assert found.trouble.command[0] == "lsblk"
        pools.store.keep_identities("l", known)
        host.script.append(asked)
        assert doctor.examine(pools).findings == ()


def test_root_is_needed(tmp_path: Path) -> None:
    host = Host()
    host.root = False
    pools = pools_of(tmp_path, nfs_pool(tmp_path), dir_pool(tmp_path), host=host)
    found = doctor.examine(pools).findings
    assert [(one.pool, one.trouble.code) for one in found] == [("n", "needs-root")]
    assert found[0].trouble.command[:3] == ("sudo", "storagectl", "pool-define")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ID=debian\n", "apt-get install lvm2"),
        ("NAME=x\nID=linuxmint\nID_LIKE='ubuntu debian'\n", "apt-get install lvm2"),
        ("ID=fedora\n", "dnf install lvm2"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install lvm2"),
        ("ID=arch\n", "pacman -S lvm2"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', "zypper install lvm2"),
        ("ID=unheard-of\n", "apt-get install lvm2"),
    ],
)
def test_the_command_that_installs(text: str, command: str) -> None:
    host = Host(files={packages.OS_RELEASE: text})
    assert " ".join(packages.install("vgs", host)) == command
    assert packages.install("nosuch", host) == ()


def test_a_server_that_needs_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iscsiadm, "RECORDS", (str(tmp_path / "records"),))
    auth = Auth("chap", "joe", secret_usage="t")
    pools = pools_of(tmp_path, iscsi_pool(auth=auth))
    (found,) = doctor.examine(pools).findings
    assert (found.trouble.code, found.trouble.mends) == ("secret-missing", False)
    uuid = "6" * 8 + "-1111-4111-8111-111111111111"
    secret = SecretDefinition(uuid, usage_type="iscsi", usage="t")
    pools.secrets.define(secret)
    (found,) = doctor.examine(pools).findings
    command = ("storagectl", "secret-set-value", uuid, "--interactive")
    assert (found.trouble.command, found.trouble.mends) == (command, True)
    pools.secrets.set_value(secret, b"secret")
    assert doctor.examine(pools).findings == ()


# Our own files


def test_definitions_that_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = pools_of(tmp_path, dir_pool(tmp_path), dir_pool(tmp_path / "root", "e", "2"))
    config = Path(pools.store.config)
    (config / "bad.xml").write_text("<pool")
    (config / "other.xml").write_text((config / "d.xml").read_text())
    (config / "e.xml").rename(config / "f.xml")
    for path in config.glob("*.xml"):
        path.chmod(0o600)
    report = doctor.examine(pools)
    assert [(one.pool, one.trouble.code, one.trouble.command) for one in report.findings] == [
        ("bad", "definition-broken", ("vi", f"{config}/bad.xml")),
        ("f", "definition-misnamed", ("mv", f"{config}/f.xml", f"{config}/e.xml")),
        ("other", "definition-misnamed",
         ("mv", f"{config}/other.xml", f"{config}/other.xml.unused")),
    ]  # fmt: skip
    assert report.pools == ("bad", "d", "f", "other")
    monkeypatch.setenv("EDITOR", "ed -s")
    assert doctor.examine(pools, "bad").findings[0].trouble.command[:2] == ("ed", "-s")
    monkeypatch.setenv("VISUAL", "it's")
    assert doctor.examine(pools, "bad").findings[0].trouble.command[0] == "it's"
    assert codes(doctor.examine(pools, "bad")) == [("bad", "error", "definition-broken")]
    assert doctor.examine(pools, "d").findings == ()
    with pytest.raises(PoolNotFound):
        doctor.examine(pools, "nosuch")


def test_markers(tmp_path: Path) -> None:
    gone = dir_pool(tmp_path / "gone")
    fleeting = dir_pool(tmp_path / "fleeting", "t", "2")
    pools = pools_of(tmp_path, gone)
    pools.store.mark_started(gone)
    pools.store.mark_started(fleeting)
    bad = Path(pools.store.markers, "x.xml")
    bad.write_text("")
    bad.chmod(0o600)
    found = [(f.pool, f.trouble.code, f.trouble.command[0]) for f in doctor.examine(pools).findings]
    assert found == [
        ("d", "target-missing", "storagectl"),
        ("d", "marker-stale", "storagectl"),
        ("t", "marker-stale", "rm"),
        ("x", "marker-broken", "rm"),
    ]


def test_conflicts_are_told_of_at_the_pool_that_does_not_run(tmp_path: Path) -> None:
    one, other = dir_pool(tmp_path, "a"), dir_pool(tmp_path, "b", "2")
    third = dir_pool(tmp_path / "root", "c", "1")
    pools = pools_of(tmp_path, one, other, third)
    pools.store.mark_started(other)
    pools.store.mark_started(third)
    report = doctor.examine(pools)
    assert codes(report) == [("a", "error", "source-conflict"), ("a", "error", "uuid-conflict")]
    assert {one.trouble.command for one in report.findings} == {
        ("storagectl", "pool-undefine", "a")
    }
    assert doctor.examine(pools, "b").findings == ()


def test_files_that_others_may_read_or_change(tmp_path: Path) -> None:
    pools = pools_of(tmp_path, dir_pool(tmp_path))
    uuid = "6" * 8 + "-1111-4111-8111-111111111111"
    pools.secrets.define(SecretDefinition(uuid))
    pools.secrets.set_value(SecretDefinition(uuid), b"secret")
    assert doctor.examine(pools).findings == ()
    config = Path(pools.store.config)
    secret = config.parent / f"secrets/{uuid}.base64"
    secret.chmod(0o644)
    (config / "d.xml").chmod(0o664)
    config.chmod(0o777)
    report = doctor.examine(pools)
    assert {(one.trouble.code, " ".join(one.trouble.command)) for one in report.findings} == {
        ("folder-mode", f"chmod 700 {config}"),
        ("definition-mode", f"chmod 600 {config}/d.xml"),
        ("secret-mode", f"chmod 600 {secret}"),
    }
    assert doctor.examine(pools, "d").findings == ()
    (config / "d.xml").chmod(0o644)
    config.chmod(0o755)
    secret.chmod(0o600)
    assert doctor.examine(pools).findings == ()


def test_what_leads_nowhere_and_what_is_left(tmp_path: Path) -> None:
    pools = pools_of(tmp_path, dir_pool(tmp_path))
    pools.store.set_autostart("d", True)
    link = Path(pools.store.autostart, "gone.xml")
    link.symlink_to("../gone.xml")
    left = Path(pools.store.config, ".storagectl-0011.part")
    left.touch()
    found = [(f.pool, f.trouble.code, f.trouble.command) for f in doctor.examine(pools).findings]
    assert found == [
        ("", "autostart-dangling", ("rm", str(link))),
        ("", "file-left", ("rm", str(left))),
    ]


def test_the_service_at_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = pools_of(tmp_path, dir_pool(tmp_path))
    for name in ("SYSTEMD", "UNITS"):
        monkeypatch.setattr(doctor, name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    monkeypatch.setattr(doctor, "SYSTEM_CONFIG", pools.store.config)
    assert doctor.examine(pools).findings == ()
    pools.store.set_autostart("d", True)
    (found,) = doctor.examine(pools).findings
    assert found.trouble.command == ("systemctl", "enable", "storagectl-autostart.service")
    wants = tmp_path / "UNITS/multi-user.target.wants"
    wants.mkdir()
    (wants / "storagectl-autostart.service").symlink_to("/x")
    assert doctor.examine(pools).findings == ()


def test_a_type_that_is_not_served_and_a_relative_target(tmp_path: Path) -> None:
    odd = dir_pool(tmp_path / "x", "z", "2").replace(type="zfs", source=Source(name="z"))
    pools = pools_of(tmp_path, dir_pool(Path("relative")), odd)
    assert codes(doctor.examine(pools)) == [
        ("d", "error", "target-relative"), ("z", "error", "type-unserved"),
    ]  # fmt: skip


def test_what_fails_otherwise_is_a_finding_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = pools_of(tmp_path, fs_pool(tmp_path), host=Host((["wipefs"], "", 0)))

    def fails(*_: object) -> None:
        raise OperationFailed("parted is ill")

    monkeypatch.setattr(devices, "signatures", fails)
    (found,) = doctor.examine(pools).findings
    assert (found.trouble.code, found.trouble.what) == (
        "not-readable", "operation failed: parted is ill",
    )  # fmt: skip


def test_a_device_that_is_mounted_where_it_belongs_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = fs_pool(tmp_path)
    target, device = pool.target, pool.source.devices[0].path
    monkeypatch.setattr(in_use, "user_of_file", lambda _: f"mounted on {target}")
    line = f"36 35 7:9 / {target} rw - ext4 {device} rw\n"
    with Host(finds(pool, "ext4"), files={"/proc/self/mountinfo": line}) as host:
        assert list(load(pool, host).troubles(active=False)) == []


@pytest.mark.parametrize("kind", [row.name for row in POOL_TYPES.values() if row.module])
def test_every_tool_that_a_type_needs_has_a_package_everywhere(kind: str) -> None:
    formats = POOL_TYPES[kind].pool_formats or (None,)
    for format in formats:
        source = Source(hosts=[Server("h")], devices=[Device("/d")], dir="/x", format=format)
        for tool in load(Pool(kind, "p", "u", source, "/t"), Host()).needs().tools:
            words = packages.everywhere(tool)
            assert words.count(":") == len(packages.DISTRIBUTIONS), tool


@pytest.mark.parametrize("kind", ["fs", "disk"])
def test_a_device_without_a_medium(tmp_path: Path, kind: str) -> None:
    pool = fs_pool(tmp_path) if kind == "fs" else disk_pool(tmp_path)
    Path(pool.source.devices[0].path).write_bytes(b"")
    assert codes(doctor.examine(pools_of(tmp_path, pool))) == [("f", "error", "device-empty")]
