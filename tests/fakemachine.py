"""A machine of files: LVM, parted, mount and iscsiadm that keep in a folder what they have done.

Where `fakehost.FakeHost` answers from a script, this one has a state, which outlives a process
that is killed.  A device is a regular file; its first bytes say what is on it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crashing import still

from storagectl.backends import blocks, devices
from storagectl.host import Host
from storagectl.model import Permissions, Timestamps
from storagectl.pooltypes import POOL_TYPES
from storagectl.tools import iscsiadm

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

MIB = 1 << 20
EXTENT = MIB
SIZE = 12 * MIB
IQN = "iqn.2026-11.example:disks"
PORTAL = "192.0.2.1"
WWNN, WWPN = "20000000c9831b4b", "10000000c9831b4b"
# Nodes of SCSI disks and multipath maps: they are there when their folder in sysfs is.
NODE = "/dev/crash-"


class Failed(Exception):
    """What a tool says on stderr when it fails, with its exit status."""

    def __init__(self, stderr: str, status: int = 5) -> None:
        super().__init__(stderr)
        self.status = status


class Machine:
    """The machine.  Everything of it is below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dev = folder / "dev"
        self.sys = folder / "sys"
        self.state_file = folder / "machine.json"
        self.records = folder / "iscsi/nodes"
        for path in (self.dev, self.sys / "bus/scsi/devices", self.records):
            path.mkdir(parents=True, exist_ok=True)
        (folder / "iscsi/initiatorname").write_text("InitiatorName=iqn.me\n")
        empty: dict[str, Any] = {"mounts": [], "groups": {}, "tables": {}, "ifaces": {}}
        self.save(empty)
        self.scsi_host(7, 1)
        self.fc_host("host4", "3" * 16, "4" * 16)
        for name in ("fs0", "disk0", "pv0", "pv1"):
            with (self.dev / name).open("wb") as stream:
                stream.truncate(SIZE)

    def load(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.state_file.read_text())
        return found

    def save(self, state: dict[str, Any]) -> None:
        new = self.state_file.with_suffix(".new")
        new.write_text(json.dumps(state))
        os.rename(new, self.state_file)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put the machine in the place of the real one."""
        tell_kernel = Host.tell_kernel

        def told(host: Host, path: str, text: str, failure: str) -> None:
            tell_kernel(host, path, text, failure)
            with still:
                self.told(path)

        patch.setattr(Host, "tell_kernel", told)
        patch.setattr(Host, "find_tool", lambda host, name: name)
        patch.setattr(Host, "_spawn", lambda host, argv, *_: self.spawn(argv))
        patch.setattr(Host, "mounts", lambda host: self.mounts())
        patch.setattr(Host, "require_reachable", lambda *_: None)
        patch.setattr(devices, "SYS", str(self.sys))
        patch.setattr(devices, "settle", lambda host: None)
        patch.setattr(devices, "device_number", self.device_number)
        patch.setattr(devices, "kernel_partition", self.kernel_partition)
        size = devices.device_size
        patch.setattr(
            devices, "device_size", lambda path: MIB if path.startswith(NODE) else size(path)
        )
        looks = blocks.looks
        patch.setattr(
            blocks, "looks",
            lambda p: (Permissions(), Timestamps()) if p.startswith(NODE) else looks(p),
        )  # fmt: skip
        row = POOL_TYPES["logical"]._replace(target=f"{self.dev}/{{name}}")
        patch.setitem(POOL_TYPES, "logical", row)
        patch.setattr(iscsiadm, "RECORDS", (str(self.records),))
        patch.setattr(iscsiadm, "INITIATOR", str(self.folder / "iscsi/initiatorname"))

    # The kernel

    def mounts(self) -> str:
        lines = [
            f"{number} 1 0:{number} / {target} rw - {kind} {source} rw"
            for number, (kind, source, target) in enumerate(self.load()["mounts"], 30)
        ]
        return "".join(f"{line}\n" for line in lines)

    def device_number(self, path: str) -> int | None:
        if path.startswith(NODE):
            there = self.sys.glob(f"bus/scsi/devices/*/block/{path.removeprefix('/dev/')}")
            return 1 if path == f"{NODE}map" or any(there) else None
        place = Path(path)
        if self.dev in place.parents and place.is_file():
            return place.stat().st_ino
        return None

    def kernel_partition(self, path: str) -> devices.KernelPartition | None:
        for device, table in self.load()["tables"].items():
            for number, start, end in table["partitions"]:
                if path == f"{device}p{number}":
                    disk = self.device_number(device)
                    assert disk is not None
                    return devices.KernelPartition(number, disk, start, end - start)
        return None

    def told(self, path: str) -> None:
        """Do what the kernel does when a file of sysfs is written to."""
        name = os.path.basename(path)
        if name == "vport_create":
            self.fc_host("host9", WWNN, WWPN, parent="host4")
            self.lun("9:0:0:0", "crash-fc")
        elif name == "vport_delete":
            for place in (
                "class/fc_host/host9", "class/scsi_host/host9", "devices/pci/host4/vport-0/host9",
            ):  # fmt: skip
                shutil.rmtree(self.sys / place)
            shutil.rmtree(self.sys / "bus/scsi/devices/9:0:0:0")
        elif name == "scan" and "host7" in path:
            self.lun("7:0:0:0", "crash-sda")

    def write(self, path: str, text: str = "") -> None:
        file = self.sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def scsi_host(self, number: int, unique_id: int) -> None:
        self.write(f"class/scsi_host/host{number}/unique_id", f"{unique_id}\n")
        self.write(f"class/scsi_host/host{number}/scan")

    def fc_host(self, name: str, wwnn: str, wwpn: str, parent: str = "") -> None:
        device = self.sys / f"devices/pci/{f'{parent}/vport-0/' if parent else ''}{name}"
        device.mkdir(parents=True, exist_ok=True)
        place = f"class/fc_host/{name}"
        values = {
            "node_name": f"0x{wwnn}", "port_name": f"0x{wwpn}", "port_state": "Online",
            "max_npiv_vports": "9", "npiv_vports_inuse": "0",
            **({} if parent else {"vport_create": "", "vport_delete": ""}),
        }  # fmt: skip
        for key, text in values.items():
            self.write(f"{place}/{key}", f"{text}\n")
        (self.sys / place / "device").symlink_to(device)
        self.scsi_host(int(name.removeprefix("host")), 2)

    def lun(self, address: str, node: str) -> None:
        self.write(f"bus/scsi/devices/{address}/type", "0\n")
        self.write(f"bus/scsi/devices/{address}/state", "running\n")
        (self.sys / f"bus/scsi/devices/{address}/block/{node}").mkdir(parents=True, exist_ok=True)

    def vhba_is_there(self) -> bool:
        return (self.sys / "class/fc_host/host9").exists()

    def sessions(self) -> list[str]:
        folder = self.sys / "class/iscsi_session"
        return os.listdir(folder) if folder.exists() else []

    # The tools

    def spawn(self, argv: list[str]) -> tuple[int, str, str]:
        name = os.path.basename(argv[0])
        tool: Callable[[list[str]], str] = getattr(self, "run_" + name.replace(".", "_"))
        try:
            with still:
                return 0, tool(argv[1:]), ""
        except Failed as failure:
            return failure.status, "", str(failure)

    def on(self, device: str) -> str:
        """Return what is on a device."""
        with open(device, "rb") as stream:
            first = stream.read(64).split(b"\n")[0]
        return first.removeprefix(b"ON ").decode() if first.startswith(b"ON ") else ""

    def put(self, device: str, what: str) -> None:
        with open(device, "r+b") as stream:
            stream.write(f"ON {what}\n".encode() if what else bytes(64))

    def run_wipefs(self, words: list[str]) -> str:
        found = self.on(words[-1])
        return json.dumps({"signatures": [{"type": found}]}) if found else ""

    def run_blkid(self, words: list[str]) -> str:
        found = self.on(words[-1])
        if not found:
            raise Failed("", 2)
        return f"DEVNAME={words[-1]}\nUUID=of-{found}\n"

    def run_mkfs_ext4(self, words: list[str]) -> str:
        self.put(words[-1], "ext4")
        return ""

    def run_mount(self, words: list[str]) -> str:
        state = self.load()
        source, target = words[-2:]
        if not os.path.isdir(target):
            raise Failed(f"mount: {target}: mount point does not exist.\n", 32)
        if source.startswith("/") and self.on(source) != "ext4":
            raise Failed(f"mount: {target}: wrong fs type.\n", 32)
        state["mounts"].append(["ext4" if source.startswith("/") else "nfs4", source, target])
        self.save(state)
        return ""

    def run_umount(self, words: list[str]) -> str:
        state = self.load()
        left = [mount for mount in state["mounts"] if mount[2] != words[-1]]
        if left == state["mounts"]:
            raise Failed(f"umount: {words[-1]}: not mounted.\n", 32)
        state["mounts"] = left
        self.save(state)
        return ""

    def run_dmsetup(self, words: list[str]) -> str:
        return "../crash-map\t(253, 9)\n" if words[0] == "ls" else ""

    def run_blockdev(self, words: list[str]) -> str:
        state = self.load()
        if self.on(words[-1]) != "gpt":
            for number, *_ in state["tables"].pop(words[-1], {"partitions": []})["partitions"]:
                os.remove(f"{words[-1]}p{number}")
        self.save(state)
        return ""

    def run_scsi_id(self, words: list[str]) -> str:
        return f"serial-of-{os.path.basename(words[-1])}\n"

    def run_qemu_img(self, words: list[str]) -> str:
        raise AssertionError(words)

    # Partitions

    def run_parted(self, words: list[str]) -> str:
        words = [word for word in words if word not in ("--script", "--json", "--align", "--fix",
                                                        "cylinder", "none")]  # fmt: skip
        device, *words = words
        state = self.load()
        table = state["tables"].get(device)
        if words[0] == "mklabel":
            self.put(device, words[1])
            state["tables"][device] = {"label": words[1], "partitions": []}
        elif self.on(device) != "gpt" or table is None:
            raise Failed(f"Error: {device}: unrecognised disk label\n", 1)
        elif words[0] == "mkpart":
            start, end = (int(word.removesuffix("B")) for word in words[-2:])
            number = next(n for n in range(1, 99) if n not in [p[0] for p in table["partitions"]])
            table["partitions"].append([number, start, end + 1])
            with open(f"{device}p{number}", "wb") as stream:
                stream.truncate(end + 1 - start)
        elif words[0] == "rm":
            number = int(words[1])
            table["partitions"] = [p for p in table["partitions"] if p[0] != number]
            os.remove(f"{device}p{number}")
        else:
            return json.dumps({"disk": self.printed(device, table)})
        self.save(state)
        return ""

    def printed(self, device: str, table: dict[str, Any]) -> dict[str, object]:
        rows = []
        place = MIB
        for number, start, end in sorted(table["partitions"], key=lambda part: part[1]):
            if start > place:
                rows.append((0, place, start, "free"))
            rows.append((number, start, end, "primary"))
            place = end
        if place < SIZE - MIB:
            rows.append((0, place, SIZE - MIB, "free"))
        return {
            "path": device, "size": f"{SIZE}B", "logical-sector-size": 512, "max-partitions": 128,
            "label": table["label"],
            "partitions": [
                {"number": number, "start": f"{start}B", "end": f"{end - 1}B", "type": kind}
                for number, start, end, kind in rows
            ],
        }  # fmt: skip

    # LVM

    def group(self, state: dict[str, Any], name: str) -> dict[str, Any]:
        found: dict[str, Any] | None = state["groups"].get(name)
        if found is None:
            raise Failed(f'  Volume group "{name}" not found\n  Cannot process it.\n')
        return found

    def run_vgs(self, words: list[str]) -> str:
        name = words[-1]
        group = self.group(self.load(), name)
        size = len(group["pvs"]) * (SIZE - MIB)
        used = sum(volume["size"] for volume in group["lvs"].values())
        row = {
            "vg_name": name, "vg_uuid": "uuid", "vg_size": f"{size}", "vg_free": f"{size - used}",
            "vg_missing_pv_count": "0", "vg_exported": "", "vg_lock_type": "",
            "lv_count": f"{len(group['lvs'])}",
        }  # fmt: skip
        return report("vg", [{**row, "pv_name": device} for device in group["pvs"]])

    def run_lvs(self, words: list[str]) -> str:
        group = self.group(self.load(), words[-1])
        return report("lv", [
            {
                "lv_name": name, "lv_uuid": f"uuid-{volume['id']}", "origin": "",
                "lv_attr": f"-wi-{'a' if group['active'] else '-'}-----",
                "lv_size": f"{volume['size']}", "lv_skip_activation": "", "data_percent": "",
                "seg_size": f"{volume['size']}", "segtype": "linear",
                "devices": f"{group['pvs'][0]}({volume['id']})", "vg_extent_size": f"{EXTENT}",
                "pool_lv": "",
            }
            for name, volume in group["lvs"].items()
        ])  # fmt: skip

    def run_pvs(self, words: list[str]) -> str:
        state = self.load()
        names = {pv: name for name, group in state["groups"].items() for pv in group["pvs"]}
        found = [str(path) for path in self.dev.iterdir() if path.is_file()]
        return report("pv", [
            {"pv_name": device, "vg_name": names.get(device, "")}
            for device in sorted(found) if self.on(device) == "LVM2_member"
        ])  # fmt: skip

    def run_pvcreate(self, words: list[str]) -> str:
        self.put(words[-1], "LVM2_member")
        return ""

    def run_pvremove(self, words: list[str]) -> str:
        if self.on(words[-1]) != "LVM2_member":
            raise Failed(f"  No PV found on device {words[-1]}.\n")
        self.put(words[-1], "")
        return ""

    def run_vgcreate(self, words: list[str]) -> str:
        state = self.load()
        name, *pvs = words
        if name in state["groups"]:
            raise Failed(f"  A volume group called {name} already exists.\n")
        for device in pvs:
            self.put(device, "LVM2_member")
        state["groups"][name] = {"pvs": pvs, "active": True, "lvs": {}, "next": 0}
        self.save(state)
        return ""

    def run_vgremove(self, words: list[str]) -> str:
        state = self.load()
        self.group(state, words[-1])
        del state["groups"][words[-1]]
        self.save(state)
        shutil.rmtree(self.dev / words[-1], ignore_errors=True)
        return ""

    def run_vgchange(self, words: list[str]) -> str:
        state = self.load()
        group = self.group(state, words[-1])
        group["active"] = words[0] == "-aly"
        shown, hidden = self.dev / words[-1], self.folder / f"inactive-{words[-1]}"
        source, target = (hidden, shown) if group["active"] else (shown, hidden)
        if source.exists():
            os.rename(source, target)
        self.save(state)
        return ""

    def run_lvcreate(self, words: list[str]) -> str:
        state = self.load()
        name = words[words.index("--name") + 1]
        size = int(words[words.index("-L") + 1].removesuffix("K")) * 1024
        group_name = words[-2]
        group = self.group(state, group_name)
        if name in group["lvs"]:
            raise Failed(f'  Logical Volume "{name}" already exists in volume group.\n')
        group["lvs"][name] = {"size": -(-size // EXTENT) * EXTENT, "id": group["next"]}
        group["next"] += 1
        (self.dev / group_name).mkdir(exist_ok=True)
        with (self.dev / group_name / name).open("wb") as stream:
            stream.truncate(group["lvs"][name]["size"])
        self.save(state)
        return ""

    def run_lvrename(self, words: list[str]) -> str:
        state = self.load()
        group_name, old, new = words
        volumes = self.group(state, group_name)["lvs"]
        if new in volumes:
            raise Failed(f'  Logical Volume "{new}" already exists.\n')
        volumes[new] = volumes.pop(old)
        os.rename(self.dev / group_name / old, self.dev / group_name / new)
        self.save(state)
        return ""

    def run_lvremove(self, words: list[str]) -> str:
        state = self.load()
        group_name, name = words[-1].split("/")[-2:]
        if self.group(state, group_name)["lvs"].pop(name, None) is None:
            raise Failed(f"  Failed to find logical volume {group_name}/{name}\n")
        os.remove(self.dev / group_name / name)
        self.save(state)
        return ""

    def run_lvextend(self, words: list[str]) -> str:
        state = self.load()
        group_name, name = words[-1].split("/")[-2:]
        size = int(words[words.index("--size") + 1].removesuffix("b"))
        self.group(state, group_name)["lvs"][name]["size"] = size
        os.truncate(self.dev / group_name / name, size)
        self.save(state)
        return ""

    run_lvreduce = run_lvextend

    # iSCSI

    def run_iscsiadm(self, words: list[str]) -> str:
        mode = words[words.index("--mode") + 1]
        given = {word: words[n + 1] for n, word in enumerate(words[:-1]) if word.startswith("-")}
        if mode == "iface":
            return self.iface(given)
        if mode == "session":
            if "--logout" in words:
                shutil.rmtree(self.sys / "class/iscsi_session/session3")
                shutil.rmtree(self.sys / "class/iscsi_connection/connection3:0")
                shutil.rmtree(self.sys / "bus/scsi/devices/8:0:0:0")
            return ""
        portal, tag = given["--portal"].split(",")
        host, port = portal.split(":")
        record = self.records / given["--targetname"] / f"{host},{port},{tag}"
        name = given.get("--interface", "default")
        if given.get("--op") == "new":
            record.mkdir(parents=True, exist_ok=True)
            (record / name).write_text("# BEGIN RECORD 2.1.8\n# END RECORD\n")
        elif given.get("--op") == "delete":
            shutil.rmtree(record)
        elif "--login" in words:
            if self.sessions():
                raise Failed("iscsiadm: default: 1 session requested, but 1 already present.\n", 15)
            if not (record / name).exists():
                raise Failed("iscsiadm: No records found\n", 21)
            self.session(self.load()["ifaces"].get(name, "iqn.me"), host, port)
        return ""

    def iface(self, given: dict[str, str]) -> str:
        state = self.load()
        name = given.get("--interface", "")
        match given.get("--op"):
            case "new":
                if name in state["ifaces"]:
                    raise Failed(f"iscsiadm: interface {name} exists\n", 15)
                state["ifaces"][name] = "<empty>"
            case "update":
                state["ifaces"][name] = given["--value"]
            case "delete":
                if state["ifaces"].pop(name, None) is None:
                    raise Failed("iscsiadm: Could not read iface\n", 6)
            case _:
                lines = [f"{n} tcp,<empty>,<empty>,<empty>,{i}" for n, i in state["ifaces"].items()]
                return "\n".join(["default tcp,<empty>,<empty>,<empty>,<empty>", *lines]) + "\n"
        self.save(state)
        return ""

    def session(self, initiator: str, host: str, port: str) -> None:
        place = "class/iscsi_session/session3"
        device = self.sys / "devices/platform/host8/session3"
        (device / "target8:0:0").mkdir(parents=True, exist_ok=True)
        self.write(f"{place}/targetname", IQN + "\n")
        self.write(f"{place}/initiatorname", initiator + "\n")
        (self.sys / place / "device").symlink_to(device)
        connection = "class/iscsi_connection/connection3:0"
        for key, text in (("persistent_address", host), ("address", host),
                          ("persistent_port", port)):  # fmt: skip
            self.write(f"{connection}/{key}", text + "\n")
        self.lun("8:0:0:0", "crash-iscsi")


def report(kind: str, rows: list[dict[str, str]]) -> str:
    return json.dumps({"report": [{kind: rows}]})
