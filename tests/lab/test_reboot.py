"""A reboot: pools that are marked at boot 0 run at boot 1, with nobody's hand on them.

    bash tests/lab/run --systemd --reboots 1 tests/lab/test_reboot.py

Boot 0 sets up the machine, its servers and the pools, as an administrator does; nothing of
it is to run then, so that all that runs at boot 1 was started by the boot.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import devices
import pytest
from devices import MiB, run
from inprocess import storagectl

if TYPE_CHECKING:
    from collections.abc import Callable

BOOT = int(os.environ["LAB_BOOT"])
UNIT = "storagectl-autostart"
PREFIX = Path("/opt/lab")
IQN = "iqn.2024-01.lab.storagectl:reboot"
PORTAL = "127.0.0.1:3260"
LUN = f"/dev/disk/by-path/ip-{PORTAL}-iscsi-{IQN}-lun-1"
# swallowed by an interface that leads nowhere
NOBODY = "192.0.2.1"


def ctl(*words: str) -> str:
    answer = storagectl(None, *words)
    assert (answer.status, answer.stderr) == (0, ""), words
    return answer.stdout


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text(text)


# What the pools are on


def nothing() -> None:
    pass


def nfs_server() -> None:
    write("/srv/export/in-export", "")
    write("/etc/exports", "/srv/export 127.0.0.1(rw,no_root_squash,no_subtree_check,fsid=1)\n")


def iscsi_server() -> None:
    """A target whose LUN has a volume group, made on the LUN's file."""
    file = "/var/lib/lab-lun"
    Path(file).touch()
    os.truncate(file, 64 * MiB)
    with devices.loop_file(file) as device:
        run("vgcreate", "-q", "-q", "on-iscsi", device)
        run("lvcreate", "-q", "-q", "-y", "-W", "n", "-n", "in-lun", "-L", "8M", "on-iscsi")
        run("vgchange", "-q", "-q", "-an", "on-iscsi")
        devices.settle()
    write("/etc/tgt/conf.d/lab.conf", f"<target {IQN}>\nbacking-store {file}\n</target>\n")


def scsi_disks() -> None:
    """Two paths to one disk, there from the start, on the first two SCSI hosts."""
    write("/etc/modules-load.d/lab.conf", "scsi_debug\n")
    write(
        "/etc/modprobe.d/lab.conf",
        "options scsi_debug add_host=2 max_luns=1 dev_size_mb=32 vpd_use_hostno=0\n"
        "blacklist ata_piix\n",
    )
    write("/etc/multipath.conf", devices.MULTIPATH_CONF)


def nowhere() -> None:
    write(
        "/etc/systemd/system/lab-nowhere.service",
        "[Unit]\nBefore=network-pre.target\nWants=network-pre.target\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        "ExecStart=ip link add nowhere type dummy\n"
        "ExecStart=ip address add 192.0.2.2/24 dev nowhere\n"
        "ExecStart=ip link set nowhere up\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    run("systemctl", "-q", "enable", "lab-nowhere")


class Row(NamedTuple):
    """A pool: what follows its name in pool-define-as, what it stands on, and a volume of it.

    It is built at boot 0, and `volume` is made then, where the words for that are given.
    """

    definition: str
    prepare: Callable[[], None] = nothing
    volume: str = ""
    build: tuple[str, ...] | None = None
    create: str = ""


GOOD = {
    "dir": Row("dir --target /srv/dir", volume="in-dir", build=(), create="1M"),
    "fs": Row(
        "fs --source-dev /dev/vdb --source-format ext4 --target /srv/fs",
        volume="in-fs",
        build=("--no-overwrite",),
        create="1M",
    ),
    "a-dir-in-fs": Row("dir --target /srv/fs/below", volume="in-below", build=(), create="1M"),
    "logical": Row(
        "logical --source-dev /dev/vdc --source-name vms --target /dev/vms",
        volume="in-vms",
        build=(),
        create="8M",
    ),
    "disk": Row(
        "disk --source-dev /dev/vdd --source-format gpt --target /dev",
        volume="vdd1",
        build=("--no-overwrite",),
        create="8M",
    ),
    "netfs": Row(
        "netfs --source-host 127.0.0.1 --source-path /srv/export --target /srv/netfs",
        nfs_server,
        volume="in-export",
        build=(),
    ),
    "iscsi": Row(
        f"iscsi --source-host 127.0.0.1 --source-dev {IQN} --target /dev/disk/by-path",
        iscsi_server,
        volume="unit:0:0:1",
    ),
    "a-group-on-iscsi": Row(
        f"logical --source-dev {LUN} --source-name on-iscsi --target /dev/on-iscsi",
        volume="in-lun",
    ),
    "scsi": Row(
        # paths of a multipath map have no links in /dev/disk
        "scsi --adapter-name host0 --target /dev",
        scsi_disks,
        volume="unit:0:0:0",
    ),
    "mpath": Row("mpath --target /dev/mapper", volume="dm-"),
}
BAD = {
    "broken": Row(
        "fs --source-dev /dev/vdx --source-format ext4 --target /srv/broken", build=()
    ),
    "slow": Row(
        f"netfs --source-host {NOBODY} --source-path /x --target /srv/slow", nowhere, build=()
    ),
}  # fmt: skip


if BOOT == 0:

    @pytest.fixture(autouse=True)
    def _nothing_left() -> None:
        """What is left is the point."""

    @pytest.fixture(scope="session", autouse=True)
    def _no_physical_volumes_left() -> None:
        pass

    def test_unit_is_installed_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
        """The lines of README.md, but for the place of the environment."""
        os.symlink(PREFIX / "bin/storagectl", "/usr/local/bin/storagectl")
        blocks = re.findall(r"```sh\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines() if UNIT in line]
        assert len(lines) == 2
        monkeypatch.chdir(PREFIX)
        for line in lines:
            run(*shlex.split(line))
        write(f"/etc/systemd/system/{UNIT}.service.d/lab.conf",
              "[Unit]\nAfter=nfs-server.service tgt.service\n")  # fmt: skip
        # a busy machine is no failure
        write("/etc/storagectl/config.toml", "[time-limits]\nautostart = 400\nlogin = 300\n")
        servers = ("nfs-server", "tgt", "multipathd", "open-iscsi", "libvirtd")
        assert set(run("systemctl", "is-enabled", UNIT, *servers).split()) == {"enabled"}

    @pytest.mark.parametrize("name", [*GOOD, *BAD])
    def test_set_up(name: str) -> None:
        row = {**GOOD, **BAD}[name]
        row.prepare()
        ctl("pool-define-as", name, *row.definition.split())
        ctl("pool-autostart", name)
        if name == "a-dir-in-fs":
            ctl("pool-start", "fs")
        if row.build is not None:
            ctl("pool-build", name, *row.build)
        if row.create:
            ctl("pool-start", name)
            ctl("vol-create-as", name, row.volume, row.create)
            ctl("pool-destroy", name)
        if name == "a-dir-in-fs":
            ctl("pool-destroy", "fs")


class Line(NamedTuple):
    time_s: float
    text: str


def journal() -> list[Line]:
    """Give what the unit wrote at this boot, with the seconds since the boot."""
    argv = ["journalctl", "--boot", "--output", "json", "--unit", UNIT]
    rows = [json.loads(line) for line in run(*argv).splitlines()]
    return [Line(int(row["__MONOTONIC_TIMESTAMP"]) / 1e6, row["MESSAGE"]) for row in rows]


def property_of(unit: str, name: str) -> str:
    return run("systemctl", "show", "--value", "--property", name, unit).strip()


def stamp(unit: str, name: str) -> int:
    """Give the microseconds since the boot at which something happened to a unit."""
    return int(property_of(unit, f"{name}TimestampMonotonic"))


if BOOT == 1:

    def test_every_good_pool_is_active() -> None:
        listed = [line.split() for line in ctl("-q", "pool-list", "--all").splitlines()]
        assert {row[0]: row[1:] for row in listed} == {
            **dict.fromkeys(GOOD, ["active", "yes"]),
            **dict.fromkeys(BAD, ["inactive", "yes"]),
        }

    @pytest.mark.parametrize("name", GOOD)
    def test_volumes_are_back(name: str) -> None:
        assert GOOD[name].volume in ctl("-q", "vol-list", name)

    def test_what_the_confined_service_mounted_is_there_for_all() -> None:
        """As the first process sees it, with the options of what is not trusted (S21)."""
        argv = ["findmnt", "--task", "1", "--json", "--output", "TARGET,FSTYPE,OPTIONS"]
        rows = json.loads(run(*argv, "--list"))["filesystems"]
        found = {row["target"]: row for row in rows}
        for target in ("/srv/fs", "/srv/netfs"):
            options = set(found[target]["options"].split(","))
            assert {"nodev", "nosuid", "noexec"} <= options, target
        for option in ("NoNewPrivileges", "MemoryDenyWriteExecute", "RestrictNamespaces"):
            assert property_of(UNIT, option) not in ("no", ""), option
        assert property_of(UNIT, "PrivateMounts") == "no"

    def test_nobody_was_held_back() -> None:
        """All but those that need another had begun long before the slow one was given up."""
        lines = journal()
        print(*lines, sep="\n")
        first_s = stamp(UNIT, "ExecMainStart") / 1e6
        began = {}
        for at_s, text in lines:
            if up := re.match(r"Pool (.*) started in ([\d.]+) s", text):
                began[up[1]] = at_s - float(up[2]) - first_s
        (slow_s,) = [
            float(found[1])
            for _, text in lines
            if (found := re.match(r"error: Failed .* pool 'slow' in ([\d.]+) s", text))
        ]
        assert began.keys() == GOOD.keys()
        assert slow_s > 5
        # the file server of netfs comes up in the same boot: it may take a second try
        alone = {name for name in began if not name.startswith("a-")} - {"netfs"}
        assert max(began[name] for name in alone) < slow_s

    def test_status_tells_what_failed() -> None:
        assert property_of(UNIT, "Result") == "exit-code"
        assert property_of(UNIT, "ExecMainStatus") == "1"
        status = run("systemctl", "--full", "--lines", "10", "status", UNIT, ok=(3,))
        everything = len(GOOD) + len(BAD)
        assert f"error: {len(BAD)} of {everything} autostarted pools are not active: " in status
        assert all(name in status.split("are not active: ")[1] for name in BAD)

    def test_order() -> None:
        start, end = stamp(UNIT, "ExecMainStart"), stamp(UNIT, "ExecMainExit")
        for earlier in ("network-online.target", "local-fs.target", "multipathd", "nfs-server"):
            assert 0 < stamp(earlier, "ActiveEnter") < start, earlier
        assert stamp("libvirtd", "ExecMainStart") > end

    def test_nothing_is_left_of_the_bad_ones() -> None:
        assert not set(devices.mounts()) & {"/srv/broken", "/srv/slow"}
        assert devices.pids("mount.nfs") == []

    def test_again_without_the_bad_ones() -> None:
        """Pools that are active are left alone."""
        for name in BAD:
            ctl("pool-autostart", "--disable", name)
        before = devices.snapshot()
        run("systemctl", "restart", UNIT)
        assert property_of(UNIT, "Result") == "success"
        assert devices.snapshot() == before
        assert ctl("-q", "pool-list", "--name").split() == sorted(GOOD)
