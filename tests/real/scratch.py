"""Loop devices, mounts and files for one test, and proof that nothing of them remains.

Everything lives below one folder, `sctest-PID-...`, which is also what the proof looks
for: mounts, swaps and loop devices of other programs on the same machine don't matter.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swapping import left_alone
from waiting import holds, wait_for

from storagectl.backends import devices
from storagectl.host import bulk
from storagectl.host.commands import TEST_DEVICES
from storagectl.host.files import is_staged
from storagectl.tools.blockdev import parse_mountinfo, parse_swaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MIB = 1 << 20

# The smallest round sizes on which each file system can be made.
SIZES = {
    "ext2": 64 * MIB, "ext3": 64 * MIB, "ext4": 64 * MIB, "vfat": 64 * MIB, "udf": 64 * MIB,
    "btrfs": 128 * MIB, "xfs": 320 * MIB,
}  # fmt: skip


def run(*argv: object, check: bool = True, **settings: Any) -> str:
    """Run a tool in the C locale and return its stdout."""
    words = [str(word) for word in argv]
    settings.setdefault("env", {**os.environ, "LC_ALL": "C"})
    done = subprocess.run(words, check=False, capture_output=True, text=True, **settings)
    assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


# Devices and mounts


@contextlib.contextmanager
def loop(image: Path, size: int, *, sector: int = 512) -> Iterator[str]:
    """Give a loop device on a new sparse file of `size` bytes; both are gone afterwards."""
    with image.open("xb") as stream:
        stream.truncate(size)
    try:
        with attached(image, sector=sector) as device:
            yield device
    finally:
        image.unlink()


@contextlib.contextmanager
def attached(file: Path | str, *, sector: int = 512) -> Iterator[str]:
    """Give a loop device, with partitions, on a file or on another device."""
    device = run(
        "losetup", "--find", "--show", "--partscan", "--sector-size", sector, file
    ).strip()  # fmt: skip
    try:
        with permitted(device):
            yield device
    finally:
        run("partx", "--delete", device, check=False)
        run("losetup", "--detach", device)
        wait_for(lambda: str(file) not in backing_files().get(device, ""), f"{device} stays")


PERMITTED: list[tuple[str, ...]] = []


@contextlib.contextmanager
def permitted(*paths: str) -> Iterator[None]:
    """Let the program change these devices, those permitted already, and no others."""
    PERMITTED.append(paths)
    before = os.environ.get(TEST_DEVICES, "")
    os.environ[TEST_DEVICES] = ":".join(filter(None, (before, *paths)))
    try:
        yield
    finally:
        # in whatever order they end
        PERMITTED.remove(paths)
        left = os.environ[TEST_DEVICES].split(":")
        os.environ[TEST_DEVICES] = ":".join(path for path in left if path not in paths)
        if not PERMITTED:
            del os.environ[TEST_DEVICES]


@contextlib.contextmanager
def mounted(source: object, folder: Path, *options: str) -> Iterator[Path]:
    """Mount a device on a folder, which is made where it is missing; unmount it afterwards."""
    folder.mkdir(exist_ok=True)
    run("mount", *options, source, folder)
    try:
        yield folder
    finally:
        if str(folder) in [mount.target for mount in mounts()]:
            run("umount", folder)


def make(format: str, device: object) -> None:
    """Make a file system that leaves nothing to be done after the first mount."""
    lazy = ["-E", "lazy_itable_init=0,lazy_journal_init=0"]
    flags = {"ext2": ["-q", "-F"], "ext3": ["-q", "-F", *lazy], "ext4": ["-q", "-F", *lazy],
             "vfat": []}  # fmt: skip
    run(f"mkfs.{format}", *flags.get(format, ["-q", "-f"]), device)


def mounts() -> list[Any]:
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text())


def mount_options(folder: Path) -> set[str]:
    """Return the options of the mount at a folder."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(folder).replace(" ", r"\040"):
            return set(fields[5].split(","))
    raise AssertionError(f"{folder} is not mounted")


def is_mounted(folder: Path) -> bool:
    return str(folder) in [mount.target for mount in mounts()]


def backing_files() -> dict[str, str]:
    return dict(devices.loops())


# Proofs


def remains(folder: str) -> list[str]:
    """Return what is left on the machine of a test that worked below `folder`."""
    left = [f"mount {mount.target}" for mount in mounts() if folder in mount.target]
    left += [f"swap {path}" for path in parse_swaps(Path("/proc/swaps").read_text())
             if folder in backing_files().get(path, path)]  # fmt: skip
    left += [f"loop {loop} on {file}" for loop, file in devices.loops() if folder in file]
    left += [f"process {pid}" for pid in processes_in(folder)]
    left += [f"file {path}" for path in Path(folder).rglob("*") if is_staged(path.name)]
    return left


def processes_in(folder: str) -> list[int]:
    """Return the processes whose command line names the folder, but this one."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if folder.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
    return found


def tear_down(folder: str) -> None:
    """Take away whatever is left, so that one failing test does not spoil the next."""
    for pid in processes_in(folder):
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
    for mount in reversed(mounts()):
        if folder in mount.target:
            run("umount", "--lazy", mount.target, check=False)
    for device, file in devices.loops():
        if folder in file:
            run("swapoff", device, check=False)
            run("losetup", "--detach", device, check=False)


@contextlib.contextmanager
def nothing_left() -> Iterator[Path]:
    """Give a folder for a test; whatever the test did, nothing of it remains afterwards."""
    folder = tempfile.mkdtemp(prefix=f"sctest-{os.getpid()}-")
    try:
        yield Path(folder)
        holds(lambda: not remains(folder), 20)
        left = remains(folder)
    finally:
        tear_down(folder)
        holds(lambda: not remains(folder), 20)
        shutil.rmtree(folder, ignore_errors=True)
    assert left == []
    assert remains(folder) == []
    assert not os.path.exists(folder)


def digest(path: Path | str) -> str:
    """Return the SHA-256 of a file's or loop device's content, as quickly as its holes allow."""
    given = str(path)
    if stat.S_ISBLK(os.stat(path).st_mode):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        path = backing_files().get(str(path), path)
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        found.update(f"{size}".encode())
        ranges = bulk.data_ranges(stream.fileno(), 0, size)
        blocks = {n for start, end in ranges for n in range(start // MIB, -(-end // MIB))}
        for number in sorted(blocks):
            block = os.pread(stream.fileno(), MIB, number * MIB)
            block = left_alone(given, block, number * MIB)
            if block.strip(b"\0"):
                found.update(f"{number}".encode() + block)
    return found.hexdigest()


def listing(folder: Path) -> list[tuple[object, ...]]:
    """Return all below a folder with its owner, mode and content; locks don't count."""
    found: list[tuple[object, ...]] = []
    for path in sorted(folder.rglob("*")):
        if "/run/storagectl/lock" in str(path):
            continue
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = (status.st_size, status.st_mtime_ns, digest(path))
        found.append((str(path), status.st_mode, status.st_uid, status.st_gid, content))
    return found


def picture(given: Iterable[str], folders: Iterable[Path], root: Path) -> dict[str, object]:
    """Return all that a refused command must not have changed."""
    given, folders = list(given), list(folders)
    names = [*given, *map(str, folders), str(root.parent)]
    lines = Path("/proc/mounts").read_text().splitlines()
    return {
        "definitions and markers": [row for row in listing(root) if row[-1] is not None],
        "folders": [(str(f), f.exists() and f.stat().st_mode, listing(f)) for f in folders],
        "mounts": [line for line in lines if any(name in line for name in names)],
        "loops": [pair for pair in devices.loops() if any(n in " ".join(pair) for n in names)],
        "devices": {device: digest(device) for device in given},
        "block devices": [block_devices(device) for device in given if device.startswith("/dev/")],
        "volume groups": volume_groups(given),
        "iSCSI sessions": sorted(devices.listing("/sys/class/iscsi_session")),
    }  # fmt: skip


def block_devices(device: str) -> str:
    """Return a device with its parts and all that is on it, as lsblk tells it."""
    columns = "NAME,MAJ:MIN,SIZE,RO,TYPE,MOUNTPOINTS"
    return run("lsblk", "--paths", "--noheadings", "--output", columns, device, check=False)


def volume_groups(given: list[str]) -> list[str]:
    """Return the volume groups on some devices, with what is in them."""
    if not shutil.which("vgs"):
        return []
    rows = run("vgs", "--noheadings", "--options", "pv_name,vg_uuid,vg_seqno").splitlines()
    return sorted(row for row in rows if any(device in row for device in given))


@contextlib.contextmanager
def nothing_changed(root: Path, devices: Iterable[str] = (), *folders: Path) -> Iterator[None]:
    """Prove that the block changes no definition, folder, mount or device."""
    given = list(devices)
    before = picture(given, folders, root)
    yield
    assert picture(given, folders, root) == before


# The program


class Program:
    """storagectl as a user runs it, with definitions below a folder of the test's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def argv(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "storagectl", "--root", str(self.root), *map(str, words)]

    def run(self, *words: object, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run a command; no traceback, whatever happens."""
        settings.setdefault("env", {"STORAGECTL_HINTS": "always", **os.environ})
        done = subprocess.run(
            self.argv(*words), check=False, capture_output=True, text=True, timeout=60, **settings
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ok(self, *words: object) -> str:
        """Run a command that succeeds without a word of complaint; return its output.

        What is gone and what is kept when a pool stops is none.
        """
        done = self.run(*words)
        said = re.sub("^Gone: .*\n", "", done.stderr)
        assert (done.returncode, said) == (0, ""), (words, done.stdout, done.stderr)
        return done.stdout

    def refused(self, *words: object) -> str:
        """Run a command that fails as virsh fails; return what it says on stderr."""
        done = self.run(*words)
        assert done.returncode == 1, (words, done.stdout, done.stderr)
        assert done.stdout in ("", "\n"), done.stdout
        assert done.stderr.startswith("error: ")
        return done.stderr

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Run a command in the background, in a process group of its own."""
        return subprocess.Popen(
            self.argv(*words), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def names(self, pool: str) -> list[str]:
        """Return the names of a pool's volumes, as virsh sorts them."""
        lines = self.ok("-q", "vol-list", pool).splitlines()
        return [line.split()[0] for line in lines]

    def state(self, pool: str) -> str:
        lines = self.ok("pool-info", pool).splitlines()
        return next(line.split()[1] for line in lines if line.startswith("State:"))


def failed(action: str, cause: str, hint: str = "") -> str:
    """Return what a failed command prints: what it tried, why it failed, and what helps."""
    text = f"error: {action}\nerror: {cause}\n"
    return text + f"hint: {hint}\n" if hint else text


class Scratch:
    """What a test may use up: devices and mounts that go away in reverse order."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.count = 0

    def loop(self, size: int = 64 * MIB) -> str:
        self.count += 1
        return self.stack.enter_context(loop(self.folder / f"disk{self.count}.img", size))

    def mount(self, source: object, name: str, *options: str) -> Path:
        return self.stack.enter_context(mounted(source, self.folder / name, *options))

    def mount_new(self, format: str, name: str, size: int | None = None) -> Path:
        """Mount a new file system."""
        device = self.loop(SIZES[format] if size is None else size)
        make(format, device)
        return self.mount(device, name)


@contextlib.contextmanager
def private_mounts() -> Iterator[None]:
    """Mount in a namespace of our own.

    A program that is started elsewhere with a namespace of its own would otherwise keep
    our mounts, and the devices below them, after we have unmounted them.
    Source: mount_namespaces(7); CLONE_NEWNS, MS_REC and MS_SLAVE of the kernel's headers.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), name)

    folder = os.getcwd()
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    try:
        call("unshare", 0x00020000)
        call("mount", None, b"/", None, ctypes.c_ulong(0x4000 | 1 << 19), None)
        yield
    finally:
        call("setns", home, 0x00020000)
        os.close(home)
        os.chdir(folder)


@contextlib.contextmanager
def scratch_area() -> Iterator[Scratch]:
    """Give a test its folder, devices and mounts, and prove that they are gone at the end."""
    with private_mounts(), nothing_left() as folder, permitted(), contextlib.ExitStack() as stack:
        stack.callback(unmount_below, folder)
        yield Scratch(folder, stack)
        unmount_below(folder)


def unmount_below(folder: Path) -> None:
    """Unmount the pools that a test leaves running; busy ones wait until they are free."""
    for mount in reversed(mounts()):
        if str(folder) in mount.target:
            deadline = time.monotonic() + 5
            while True:
                done = subprocess.run(["umount", mount.target], capture_output=True, check=False)
                if done.returncode == 0 or time.monotonic() > deadline:
                    break
                time.sleep(0.05)
