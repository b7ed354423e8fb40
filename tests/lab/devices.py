"""The lab's devices: each is a context manager which makes one and takes it down again.

Taking down proves that nothing is left, and raises Leftover where something is.  All of
it belongs into the guest: `run` refuses to work anywhere else.
"""

from __future__ import annotations

import glob
import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MiB = 1024 * 1024
# made by the image's recipe; no other machine has it
IN_GUEST = os.path.exists("/etc/storagectl-lab")
SYSTEMD = os.path.exists("/run/systemd/system")
# emulated, the guest is twenty times slower than the machine it runs on
PATIENCE_S = 60
SETTLE_TRIES = 5
WORK = "/var/tmp"


class Leftover(AssertionError):
    """A device was taken down and something of it is still there."""


class ToolError(RuntimeError):
    """A tool that makes a device has failed."""


def run(*argv: str, ok: tuple[int, ...] = (0,), stdin: str = "") -> str:
    """Run a tool.  Returns: its stdout.  Raises: ToolError with its stderr."""
    if not IN_GUEST:
        raise ToolError("only in the lab's guest: bash tests/lab/run")
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        raise ToolError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(what: str, check: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until `check` gives something true.  Raises: ToolError."""
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > end:
            raise ToolError(f"{what}: not after {timeout_s} s")
        time.sleep(0.1)


def settle() -> None:
    """Wait until udev has done all; it drops who waits for it when another one comes."""
    for left in reversed(range(SETTLE_TRIES)):
        try:
            run("udevadm", "settle", "--timeout", str(PATIENCE_S))
        except ToolError as error:
            if not left or "Broken pipe" not in str(error):
                raise
        else:
            return


def read(path: str) -> str:
    """Give the text of a file below /sys or /proc, "" when it is gone."""
    with suppress(OSError), open(path) as file:
        return file.read().strip()
    return ""


# What there is.  Cheap enough to be asked before and after each test.


def mounts() -> list[str]:
    """Give the mount points, in the order in which they were made."""
    lines = read("/proc/self/mountinfo").splitlines()
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]


def loops() -> dict[str, str]:
    """Give the loop devices in use, each with its file."""
    found = glob.glob("/sys/block/loop*/loop/backing_file")
    return {f"/dev/{path.split('/')[3]}": read(path) for path in found}


def maps() -> list[str]:
    """Give the names of the device-mapper maps."""
    return sorted(read(path) for path in glob.glob("/sys/block/dm-*/dm/name"))


def sessions() -> list[str]:
    """Give the names of the targets with an iSCSI session."""
    return sorted(read(path) for path in glob.glob("/sys/class/iscsi_session/*/targetname"))


def scsi_debug_hosts() -> list[str]:
    """Give the SCSI hosts that scsi_debug has made, host2 before host10."""
    found = glob.glob("/sys/class/scsi_host/host*/proc_name")
    hosts = [path.split("/")[4] for path in found if read(path) == "scsi_debug"]
    return sorted(hosts, key=lambda name: int(name[4:]))


def pvs() -> list[str]:
    return sorted(run("pvs", "--noheadings", "-o", "pv_name").split())


def exports() -> list[str]:
    return [line.split()[0] for line in read("/var/lib/nfs/etab").splitlines()]


def snapshot() -> dict[str, object]:
    """Give all that a test may leave behind, except PVs: what they stand on is in here."""
    return {
        "mounts": mounts(),
        "loop devices": loops(),
        "device-mapper maps": maps(),
        "iSCSI sessions": sessions(),
        "scsi_debug hosts": scsi_debug_hosts(),
        "NFS exports": exports(),
    }


# Daemons.  With systemd as init they may run already; then they are left alone.


@contextmanager
def daemon(
    *argv: str, ready: Callable[[], object] | None = None, stop: tuple[str, ...] = ()
) -> Iterator[None]:
    """Run a daemon in the foreground; `stop` is the command that ends it, if TERM does not."""
    name = os.path.basename(argv[0])
    if pids(name):
        yield
        return
    with tempfile.TemporaryFile("w+") as log:
        # iscsid ends its whole process group with itself
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            try:
                wait_for(f"{name} runs", lambda: pids(name))
                if ready:
                    wait_for(f"{name} answers", ready)
            except ToolError as error:
                log.seek(0)
                raise ToolError(f"{error}\n{log.read()}") from error
            yield
        finally:
            if stop:
                run(*stop)
            end(name, kindly=not stop)
            process.wait(PATIENCE_S)


def pids(name: str) -> list[int]:
    """Give the processes of that program, without those that have ended."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        match = re.match(r"(\d+) \((.*)\) (\S)", read(path))
        if match and match[2] == name[:15] and match[3] != "Z":
            found.append(int(match[1]))
    return found


def end(name: str, kindly: bool = True) -> None:
    """End a program that this module started, or wait until it has ended."""
    if kindly:
        for pid in pids(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    with suppress(ToolError):
        wait_for(f"{name} ends", lambda: not pids(name), PATIENCE_S)
        return
    for pid in pids(name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    raise Leftover(f"{name} would not end")


# Local devices


@contextmanager
def folder() -> Iterator[str]:
    """A folder on the guest's disk, gone afterwards with what is in it."""
    with tempfile.TemporaryDirectory(prefix="lab-", dir=WORK) as path:
        yield path


@contextmanager
def sparse_file(size: int) -> Iterator[str]:
    with folder() as path:
        file = os.path.join(path, "disk")
        with open(file, "wb") as opened:
            opened.truncate(size)
        yield file


@contextmanager
def loop_file(file: str, *options: str) -> Iterator[str]:
    """A loop device for a file that is there, with partitions."""
    device = run("losetup", "-f", "--show", "-P", *options, "--", file).strip()
    try:
        settle()
        yield device
    finally:
        settle()
        run("losetup", "-d", device)
        # the kernel waits with it while somebody has the device open
        with suppress(ToolError):
            wait_for(f"{device} is free", lambda: device not in loops(), 10)
        if device in loops():
            raise Leftover(f"{device} is still in use: {run('lsblk', '-f', device)}")
        settle()


@contextmanager
def loop(size: int = 64 * MiB, sector: int = 512) -> Iterator[str]:
    """An empty loop device."""
    with sparse_file(size) as file, loop_file(file, "--sector-size", str(sector)) as device:
        yield device


@contextmanager
def mounted(source: str, kind: str = "", options: str = "") -> Iterator[str]:
    """A mount of a file system, at a folder of its own."""
    argv = ["mount", *(["-t", kind] if kind else []), *(["-o", options] if options else [])]
    with folder() as point:
        run(*argv, source, point)
        try:
            yield point
        finally:
            run("umount", point)
            if point in mounts():
                raise Leftover(f"{point} is still mounted")


@dataclass
class ScsiHost:
    """A host of scsi_debug: its name, and its disks by target and LUN."""

    name: str
    disks: list[str] = field(default_factory=list)


def scsi_disks(host: str) -> list[str]:
    """Give the disks of a SCSI host, ordered by target and LUN."""
    found = glob.glob(f"/sys/class/scsi_host/{host}/device/target*/*/block/*")
    found.sort(key=lambda path: [int(part) for part in path.split("/")[-3].split(":")])
    return ["/dev/" + os.path.basename(path) for path in found]


@contextmanager
def scsi_debug(
    hosts: int = 1, targets: int = 1, luns: int = 1, size: int = 32 * MiB, **options: object
) -> Iterator[list[ScsiHost]]:
    """SCSI hosts with disks in memory.  Their names are chosen by the kernel.

    There is one module, so one of these at a time.  All disks show the same data, except
    with per_host_store=1: then those of one host do.  So what needs disks that differ
    (LVM) takes one disk of each host, or loop devices.
    """
    if scsi_debug_hosts():
        raise ToolError("scsi_debug is in use: one at a time")
    parameters = {
        "add_host": hosts,
        "num_tgts": targets,
        "max_luns": luns,
        "dev_size_mb": size // MiB,
        **options,
    }
    run("modprobe", "scsi_debug", *(f"{name}={value}" for name, value in parameters.items()))
    try:
        count = hosts * targets * luns

        def disks() -> list[str]:
            return [disk for host in scsi_debug_hosts() for disk in scsi_disks(host)]

        wait_for(f"{count} disks", lambda: len(disks()) == count)
        settle()
        yield [ScsiHost(name, scsi_disks(name)) for name in scsi_debug_hosts()]
    finally:
        _remove_module("scsi_debug")
        if left := scsi_debug_hosts():
            raise Leftover(f"scsi_debug still has {left}")


@contextmanager
def nvme() -> Iterator[str]:
    """The guest's NVMe disk: qemu's, with 64 MiB that keep what is written to them."""
    run("modprobe", "nvme")
    try:
        wait_for("an NVMe disk", lambda: glob.glob("/dev/nvme*n1"))
        settle()
        (disk,) = glob.glob("/dev/nvme*n1")
        yield disk
    finally:
        _remove_module("nvme")


def _remove_module(name: str) -> None:
    """Remove a module that udev may still use for a moment."""
    for left in reversed(range(20)):
        settle()
        try:
            run("modprobe", "-r", name)
        except ToolError:
            if not left:
                raise
            time.sleep(0.5)
        else:
            break
    settle()


# Device-mapper


@contextmanager
def group_removed(group: str, *paths: str) -> Iterator[None]:
    """Take a volume group down, and the labels of its devices, that something else has made."""
    try:
        yield
    finally:
        settle()
        run("vgremove", "-q", "-q", "-ff", "-y", group, ok=(0, 5))
        settle()
        run("pvremove", "-q", "-q", "-ff", "-y", *paths, ok=(0, 5))


@contextmanager
def volume_group(*pv_devices: str, name: str = "") -> Iterator[str]:
    """A volume group on these devices; afterwards they have no label."""
    name = name or f"labvg{os.getpid()}"
    run("vgcreate", "-q", "-q", "-y", name, *pv_devices)
    try:
        settle()
        yield name
    finally:
        # a test may have removed or renamed it
        run("vgremove", "-q", "-q", "-ff", "-y", name, ok=(0, 5))
        settle()
        for device in pv_devices:
            run("pvremove", "-q", "-q", "-ff", "-y", device, ok=(0, 5))
        left = [device for device in pv_devices if device in pvs()]
        if left or name in run("vgs", "--noheadings", "-o", "vg_name").split():
            raise Leftover(f"{name}, PVs {left}")


# systemd has a multipathd of its own, which is to keep off disks with one path
MULTIPATH_CONF = """\
defaults {
    user_friendly_names yes
    find_multipaths yes
}
blacklist {
    devnode "^(vd|loop|sr|ram)"
}
"""


@contextmanager
def multipath(size: int = 64 * MiB) -> Iterator[Multipath]:
    """A multipath map over one disk that two SCSI hosts show."""
    with ExitStack() as stack:
        stack.enter_context(_multipath_conf())
        run("modprobe", "dm_multipath")
        stack.enter_context(daemon("multipathd", "-d", "-s", ready=_multipathd_answers))
        run("multipathd", "reconfigure")
        hosts = stack.enter_context(scsi_debug(2, size=size, vpd_use_hostno=0))
        stack.callback(_flush_multipath)
        wait_for("a map over two paths", lambda: len(_paths()) == 2)
        settle()
        (name,) = {path[0] for path in _paths()}
        yield Multipath(name, f"/dev/mapper/{name}", [host.disks[0] for host in hosts])
    if left := _multipath_maps():
        raise Leftover(f"multipath maps {left}")


@contextmanager
def _multipath_conf() -> Iterator[None]:
    """Have a configuration; a test that needs another writes it before."""
    configuration = "/etc/multipath.conf"
    if os.path.exists(configuration):
        yield
        return
    with open(configuration, "w") as file:
        file.write(MULTIPATH_CONF)
    try:
        yield
    finally:
        # multipathd remembers names here, and claims those disks from then on
        for path in (configuration, "/etc/multipath/wwids", "/etc/multipath/bindings"):
            with suppress(FileNotFoundError):
                os.remove(path)
        if pids("multipathd"):
            run("multipathd", "reconfigure")


@dataclass
class Multipath:
    """A map: its name, its node, and the disks that are its paths."""

    name: str
    device: str
    paths: list[str]


def _multipathd_answers() -> bool:
    with suppress(ToolError):
        return "pid" in run("multipathd", "show", "daemon")
    return False


def _paths() -> list[list[str]]:
    """Give map and device of each path that multipathd has in a map."""
    lines = run("multipathd", "show", "paths", "raw", "format", "%m %d", ok=(0, 1)).splitlines()
    rows = [line.split() for line in lines]
    return [row for row in rows if len(row) == 2 and row[0] != "[orphan]"]


def _multipath_maps() -> list[str]:
    return [line.split()[0] for line in run("dmsetup", "ls", "--target", "multipath").splitlines()
            if not line.startswith("No devices")]  # fmt: skip


def _flush_multipath() -> None:
    settle()
    for name in _multipath_maps():
        run("dmsetup", "remove", "--retry", name)
    settle()


# Network


@contextmanager
def nfs_server() -> Iterator[None]:
    """An NFS server for versions 3 and 4, with nothing exported."""
    with ExitStack() as stack:
        if SYSTEMD:
            run("systemctl", "start", "nfs-server")
            end_grace()
            yield
            return
        run("modprobe", "nfsd")
        if "/proc/fs/nfsd" not in mounts():
            run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
            stack.callback(run, "umount", "/proc/fs/nfsd")
        stack.enter_context(daemon("rpcbind", "-w", "-f", ready=lambda: _rpc("portmapper")))
        os.makedirs("/run/rpc_pipefs", exist_ok=True)
        stack.enter_context(daemon("rpc.statd", "--no-notify", "-F", ready=lambda: _rpc("status")))
        # lockd's grace period is no shorter
        _write("/proc/sys/fs/nfs/nlm_timeout", "3")
        run("rpc.nfsd", "--lease-time", "10", "2")
        end_grace()
        stack.callback(run, "rpc.nfsd", "0")
        stack.enter_context(daemon("rpc.mountd", "-F", ready=lambda: _rpc("mountd")))
        yield


def end_grace() -> None:
    """End the time in which a server that has started opens and locks no files."""
    _write("/proc/fs/nfsd/v4_end_grace", "Y")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _rpc(service: str) -> bool:
    return service in run("rpcinfo", "-p", "127.0.0.1", ok=(0, 1))


@contextmanager
def nfs_export(
    path: str, options: str = "rw,no_root_squash", client: str = "127.0.0.1"
) -> Iterator[str]:
    """A folder, exported to this guest.  Gives HOST:PATH."""
    number = os.stat(path).st_ino
    export = f"[{client}]:{path}" if ":" in client else f"{client}:{path}"
    run("exportfs", "-o", f"{options},insecure,no_subtree_check,fsid={number}", export)
    try:
        yield export
    finally:
        run("exportfs", "-u", export)
        # the server may hold files of the folder for later
        run("exportfs", "-f")
        if path in exports():
            raise Leftover(f"{path} is still exported")


@dataclass
class Target:
    """An iSCSI target of tgtd, and the files that its LUNs are."""

    iqn: str
    number: int
    portal: str = "127.0.0.1:3260"
    files: list[str] = field(default_factory=list)

    def by_path(self, lun: int) -> str:
        return f"/dev/disk/by-path/ip-{self.portal}-iscsi-{self.iqn}-lun-{lun}"


@contextmanager
def iscsi_target(
    luns: int = 1, size: int = 32 * MiB, chap: tuple[str, str] | None = None
) -> Iterator[Target]:
    """A target with LUNs 1 to `luns`; `chap` is a name and a secret of 12 to 16 characters."""
    with ExitStack() as stack:
        # tgtd does not end at TERM
        stop = ("tgtadm", "--lld", "iscsi", "--mode", "sys", "--op", "delete")
        stack.enter_context(daemon("tgtd", "-f", ready=_tgt_answers, stop=stop))
        number = 1 + max(_targets(), default=0)
        target = Target(f"iqn.2024-01.lab.storagectl:{os.getpid()}-{number}", number)
        _tgt("target", "new", number, "-T", target.iqn)
        stack.callback(_tgt, "target", "delete", number, "--force")
        if chap:
            name, secret = chap
            _tgt_account("new", "--user", name, "--password", secret)
            stack.callback(_tgt_account, "delete", "--user", name)
            _tgt("account", "bind", number, "--user", name)
        for lun in range(1, luns + 1):
            file = stack.enter_context(sparse_file(size))
            _tgt("logicalunit", "new", number, "--lun", str(lun), "--backing-store", file)
            target.files.append(file)
        _tgt("target", "bind", number, "--initiator-address", "ALL")
        yield target
        # a session of a target that goes away would try to come back for minutes
        if target.iqn in sessions():
            logout(target)
            raise Leftover(f"a session of {target.iqn}")


def _tgt(mode: str, operation: str, number: int, *more: str) -> str:
    return run("tgtadm", "--lld", "iscsi", "--mode", mode, "--op", operation,
               "--tid", str(number), *more)  # fmt: skip


def _tgt_account(operation: str, *more: str) -> str:
    return run("tgtadm", "--lld", "iscsi", "--mode", "account", "--op", operation, *more)


def _tgt_answers() -> bool:
    with suppress(ToolError):
        run("tgtadm", "--lld", "iscsi", "--mode", "sys", "--op", "show")
        return True
    return False


def _targets() -> list[int]:
    shown = run("tgtadm", "--lld", "iscsi", "--mode", "target", "--op", "show")
    return [int(number) for number in re.findall(r"^Target (\d+):", shown, re.MULTILINE)]


@contextmanager
def iscsid() -> Iterator[None]:
    """What iscsiadm needs to log in."""
    # iscsiadm fails with status 6 without it
    os.makedirs("/run/lock/iscsi", exist_ok=True)
    run("modprobe", "iscsi_tcp")
    if SYSTEMD:
        # it has iscsid's socket
        run("systemctl", "start", "iscsid")
        yield
        return
    with daemon("iscsid", "-f"):
        yield


@contextmanager
def iscsi_session(target: Target, chap: tuple[str, str] | None = None) -> Iterator[Target]:
    """A session, with its LUNs there when it begins.  Needs iscsid()."""
    node = ["iscsiadm", "--mode", "node", "--targetname", target.iqn, "--portal", target.portal]
    run("iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--portal", target.portal)
    try:
        if chap:
            for name, value in zip(
                ("authmethod", "username", "password"), ("CHAP", *chap), strict=True
            ):
                run(*node, "--op", "update", "--name", f"node.session.auth.{name}",
                    "--value", value)  # fmt: skip
        run(*node, "--login")
        settle()
        yield target
    finally:
        logout(target)


def logout(target: Target) -> None:
    """End the sessions of a target and forget it."""
    settle()
    node = ["iscsiadm", "--mode", "node", "--targetname", target.iqn]
    # 21, and 6 for a discovery record: there is none
    run(*node, "--logout", ok=(0, 21))
    run(*node, "--op", "delete", ok=(0, 21))
    run("iscsiadm", "--mode", "discoverydb", "--type", "sendtargets", "--portal", target.portal,
        "--op", "delete", ok=(0, 6, 21))  # fmt: skip
    settle()
    if target.iqn in sessions():
        raise Leftover(f"a session of {target.iqn}")


# The oracle


@contextmanager
def libvirtd() -> Iterator[tuple[str, ...]]:
    """libvirt's daemon.  Gives the words that begin a virsh command."""
    virsh = ("virsh", "-c", "qemu:///system")

    def answers() -> bool:
        with suppress(ToolError):
            run(*virsh, "pool-list")
            return True
        return False

    with daemon("libvirtd", ready=answers):
        yield virsh
