"""What a user sees when something is wrong: the exact words, and exit status 1.

virsh 9.0.0 was asked for every text of `SAME` (system connection, libvirtd 9.0.0); those
that need no host are asked for again wherever virsh is installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scratch import MIB, attached, failed, make, nothing_changed, run
from waiting import wait_for

if TYPE_CHECKING:
    from scratch import Program, Scratch

pytestmark = pytest.mark.root

INACTIVE = "Requested operation is not valid: storage pool 'idle' is not active"
NO_POOL = failed(
    "failed to get pool 'nosuch'",
    "Storage pool not found: no storage pool with matching name 'nosuch'",
)
NO_VOLUME = "Storage volume not found: no storage vol with matching path 'nosuch'"
TARGET_PATH = "XML error: missing storage pool target path"

# The command line after the program's name, and stderr.  DIR is the test's folder; the
# pool `idle` is defined there, the pool `busy` runs and has the volume `vol`.
SAME = [
    ("pool-info nosuch", NO_POOL),
    ("pool-start nosuch", NO_POOL),
    ("vol-list nosuch", NO_POOL),
    ("pool-info", "error: command 'pool-info' requires <pool> option\n"),
    ("pool-inf x", "error: unknown command: 'pool-inf'\n"),
    ("pool-info x y", "error: unexpected data 'y'\n"),
    ("pool-info --nosuch x", "error: command 'pool-info' doesn't support option --nosuch\n"),
    ("pool-info --pool", "error: expected syntax: --pool <string>\n"),
    ("pool-define DIR/none",
     "error: Failed to open file 'DIR/none': No such file or directory\n"),
    ("pool-define DIR/bad-pool",
     failed("Failed to define pool from DIR/bad-pool",
            "(storage_pool_definition):2: Opening and ending tag mismatch: name line 2 and nam\n"
            "  <name>x</nam>\n---------------^")),
    ("pool-define DIR/empty",
     failed("Failed to define pool from DIR/empty",
            "(storage_pool_definition):1: Document is empty\n(null)\n^")),
    ("pool-define-as a/b dir --target DIR/t",
     failed("Failed to define pool a/b", "XML error: name a/b cannot contain '/'")),
    ("pool-define-as x dir", failed("Failed to define pool x", TARGET_PATH)),
    ("pool-define-as x fs --source-dev /dev/x", failed("Failed to define pool x", TARGET_PATH)),
    ("pool-define-as x fs --target DIR/t",
     failed("Failed to define pool x", "XML error: missing storage pool source device name")),
    ("pool-define-as x bogus --target DIR/t",
     failed("Failed to define pool x",
            "XML error: Invalid value for attribute 'type' in element 'pool': 'bogus'.")),
    ("vol-info vol idle", "error: pool 'idle' is not active\n"),
    ("pool-refresh idle", failed("Failed to refresh pool idle", INACTIVE)),
    ("pool-destroy idle", failed("Failed to destroy pool idle", INACTIVE)),
    ("vol-create-as idle v 1M", failed("Failed to create vol v", INACTIVE)),
    ("vol-create-as busy v 1X",
     failed("Malformed size 1X", "invalid argument: unknown suffix 'X'")),
    ("vol-create-as busy v abc", "error: Malformed size abc\n"),
    ("vol-create-as busy v 1.5G",
     failed("Malformed size 1.5G", "invalid argument: unknown suffix '.5G'")),
    ("vol-info vol",
     failed("failed to get vol 'vol', specifying --pool might help",
            "Storage volume not found: no storage vol with matching path 'vol'")),
    ("vol-delete nosuch busy", failed("failed to get vol 'nosuch'", NO_VOLUME)),
    ("vol-upload vol DIR/none busy", "error: cannot read DIR/none\n"),
    ("pool-start busy --overwrite --no-overwrite",
     "error: Options --overwrite and --no-overwrite are mutually exclusive\n"),
]  # fmt: skip
SAME_ON_A_HOST = [
    ("vol-list idle", failed("Failed to list volumes", INACTIVE)),
    ("pool-start idle",
     failed("Failed to start pool idle",
            "cannot open directory 'DIR/idle': No such file or directory")),
    ("pool-start busy",
     failed("Failed to start pool busy",
            "Requested operation is not valid: storage pool 'busy' is already active")),
    ("pool-undefine busy",
     failed("Failed to undefine pool busy",
            "Requested operation is not valid: storage pool 'busy' is still active")),
    ("pool-delete busy",
     failed("Failed to delete pool busy",
            "Requested operation is not valid: storage pool 'busy' is still active")),
    ("pool-build idle --overwrite --no-overwrite",
     failed("Failed to build pool idle",
            "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE'"
            " are mutually exclusive")),
    ("vol-create-as busy a/b 1M",
     failed("Failed to create vol a/b",
            "Requested operation is not valid: volume name 'a/b' cannot contain '/'")),
    ("vol-create-as busy vol 1M",
     failed("Failed to create vol vol", "storage volume 'vol' exists already")),
    ("vol-create-as busy x 1M --format bogus",
     failed("Failed to create vol x",
            "unsupported configuration: unknown volume format type bogus")),
    ("vol-create busy DIR/bad-volume",
     failed("Failed to create vol from DIR/bad-volume",
            "(storage_volume_definition):1: Opening and ending tag mismatch: volume line 1 and"
            " pool\n<volume><name>v</name></pool>\n-----------------------------^")),
    ("vol-resize vol 512K busy",
     failed("Failed to change size of volume 'vol' to 512K",
            "invalid argument: can't shrink capacity below existing allocation")),
    ("vol-download vol DIR/none/x busy", "error: cannot create DIR/none/x\n"),
    ("vol-upload vol DIR/empty busy --offset abc",
     "error: Numeric value 'abc' for <offset> option is malformed or out of range\n"),
    ("vol-wipe vol busy --algorithm bogus", "error: Unsupported algorithm 'bogus'\n"),
    ("vol-wipe vol busy --algorithm trim",
     failed("Failed to wipe vol vol", "argument unsupported: 'trim' algorithm not supported")),
    ("pool-build fs --overwrite",
     failed("Failed to build pool fs",
            "Requested operation is not valid: Source device does not exist when formatting pool"
            " 'fs'")),
]  # fmt: skip


def write_documents(folder: Path) -> None:
    (folder / "bad-pool").write_text("<pool type='dir'>\n  <name>x</nam>\n</pool>\n")
    (folder / "bad-volume").write_text("<volume><name>v</name></pool>")
    (folder / "empty").write_text("")


@pytest.fixture
def pools(ctl: Program, scratch: Scratch) -> Path:
    write_documents(scratch.folder)
    for name in ("idle", "busy"):
        ctl.ok("pool-define-as", name, "dir", "--target", scratch.folder / name)
    ctl.ok("pool-define-as", "fs", "fs", "--source-dev", scratch.folder / "nothing",
           "--source-format", "ext4", "--target", scratch.folder / "mnt")  # fmt: skip
    ctl.ok("pool-start", "busy", "--build")
    ctl.ok("vol-create-as", "busy", "vol", "1M")
    return scratch.folder


def test_same_as_virsh(ctl: Program, pools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGECTL_HINTS", "never")
    for line, stderr in (*SAME, *SAME_ON_A_HOST):
        words = line.replace("DIR", str(pools)).split()
        with nothing_changed(ctl.root, [], pools):
            assert ctl.refused(*words) == stderr.replace("DIR", str(pools)), line


@pytest.mark.oracle
@pytest.mark.skipif(not shutil.which("virsh"), reason="needs virsh")
def test_virsh_says_so(tmp_path: Path) -> None:
    """Its test driver has its own pool, state of one process, and no daemon."""
    write_documents(tmp_path)
    before = f"pool-define-as idle dir --target {tmp_path}/idle; "
    before += f"pool-create-as busy dir --target {tmp_path}/busy; vol-create-as busy vol 1M; "
    for line, stderr in SAME:
        script = before + line.replace("DIR", str(tmp_path))
        done = subprocess.run(
            ["virsh", "-c", "test:///default", script], capture_output=True, text=True, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        said = done.stderr.removesuffix("\n") if "\n\n" in done.stderr else done.stderr
        assert (done.returncode, said) == (1, stderr.replace("DIR", str(tmp_path))), line


# Tools


def hide(tool: str) -> None:
    """Put something over a program that can't be run; only in our mount namespace."""
    path = shutil.which(tool)
    assert path is not None
    run("mount", "--bind", "/dev/null", os.path.realpath(path))


@pytest.mark.parametrize(
    ("tool", "format", "package"),
    [
        ("mkfs.xfs", "xfs", "xfsprogs"),
        ("mkfs.ext4", "ext4", "e2fsprogs"),
        ("mkfs.btrfs", "btrfs", "btrfs-progs"),
        ("wipefs", "ext4", "util-linux"),
    ],
)
def test_missing_mkfs(
    ctl: Program, scratch: Scratch, tool: str, format: str, package: str
) -> None:  # fmt: skip
    device = scratch.loop()
    target = scratch.folder / "target"
    ctl.ok("pool-define-as", "p", "fs", "--source-dev", device, "--source-format", format,
           "--target", target)  # fmt: skip
    hide(tool)
    with nothing_changed(ctl.root, [device], target):
        assert ctl.refused("pool-build", "p", "--no-overwrite") == failed(
            "Failed to build pool p",
            f"Cannot find '{tool}' in path: No such file or directory",
            f"install the package {package}",
        )


def test_missing_qemu_img_and_scrub(ctl: Program, pools: Path) -> None:
    hide("qemu-img")
    with nothing_changed(ctl.root, [], pools):
        assert ctl.refused("vol-create-as", "busy", "new", "1M", "--format", "qcow2") == failed(
            "Failed to create vol new",
            "Cannot find 'qemu-img' in path: No such file or directory",
            "install the package qemu-utils",
        )
    if shutil.which("scrub"):
        hide("scrub")
    assert ctl.refused("vol-wipe", "vol", "busy", "--algorithm", "dod") == failed(
        "Failed to wipe vol vol",
        "Cannot find 'scrub' in path: No such file or directory",
        "install the package scrub",
    )


def test_missing_mount(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    make("ext4", device)
    ctl.ok("pool-define-as", "p", "fs", "--source-dev", device, "--target", scratch.folder / "t")
    ctl.ok("pool-build", "p")
    hidden = os.path.realpath(shutil.which("mount") or "")
    run("mount", "--bind", "/dev/null", hidden)
    try:
        assert ctl.refused("pool-start", "p") == failed(
            "Failed to start pool p",
            "Cannot find 'mount' in path: No such file or directory",
            "install the package mount",
        )
    finally:
        run("umount", hidden)
    assert ctl.state("p") == "inactive"


# Rights

AS_NOBODY = """\
import importlib, os, pkgutil, sys
import fcntl, subprocess, struct, uuid, ctypes, inspect, time, json, re, shlex, signal, click
import lxml.etree, storagectl
for module in pkgutil.walk_packages(storagectl.__path__, "storagectl."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from storagectl.__main__ import run
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


def as_nobody(ctl: Program, *words: object) -> tuple[int, str, str]:
    argv = [sys.executable, "-c", AS_NOBODY, *ctl.argv(*words)[3:]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip(), done.stderr


def test_no_permission(ctl: Program, pools: Path) -> None:
    """Another user reads no definition of a store that is not theirs, and changes nothing."""
    pools.chmod(0o755)
    config = f"{ctl.root}/etc/storagectl/storage/autostart"
    with nothing_changed(ctl.root, [], pools):
        status, stdout, stderr = as_nobody(ctl, "pool-list", "--all")
        assert (status, stdout, stderr) == (
            1,
            "",
            failed("Failed to list pools", f"cannot open directory '{config}': Permission denied"),
        )
        for words in (
            ["pool-info", "busy"],
            ["pool-start", "idle"],
            ["pool-destroy", "busy"],
            ["pool-undefine", "idle"],
            ["pool-define-as", "new", "dir", "--target", pools / "new"],
            ["vol-list", "busy"],
            ["vol-create-as", "busy", "new", "1M"],
            ["vol-delete", pools / "busy/vol"],
        ):
            status, stdout, stderr = as_nobody(ctl, *words)
            assert (status, stdout) == (1, ""), words
            assert stderr.endswith(": Permission denied\n"), (words, stderr)
            assert "uuid" not in stderr.lower()


def test_store_of_ones_own_pool_of_another(ctl: Program, scratch: Scratch) -> None:
    scratch.folder.chmod(0o755)
    target = scratch.folder / "pool"
    target.mkdir(mode=0o755)
    ctl.root.mkdir()
    os.chown(ctl.root, 65534, 65534)
    assert as_nobody(ctl, "pool-define-as", "p", "dir", "--target", target)[0] == 0
    assert as_nobody(ctl, "pool-start", "p")[0] == 0
    status, _, stderr = as_nobody(ctl, "vol-create-as", "p", "v", "1M")
    assert (status, stderr) == (
        1,
        failed("Failed to create vol v", f"Failed to create file '{target}/v': Permission denied"),
    )
    (target / "other").write_bytes(b"x" * 1000)
    (target / "other").chmod(0o600)
    status, _, stderr = as_nobody(ctl, "vol-wipe", "other", "p")
    assert (status, stderr) == (
        1,
        failed("Failed to wipe vol other",
               f"Failed to open storage volume with path '{target}/other': Permission denied"),
    )  # fmt: skip
    status, _, stderr = as_nobody(ctl, "vol-delete", "other", "p")
    assert (status, stderr) == (
        1,
        failed("Failed to delete vol other",
               f"cannot unlink file '{target}/other': Permission denied"),
    )  # fmt: skip
    assert (target / "other").read_bytes() == b"x" * 1000


# Devices, space, interruption


def test_device_in_use(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    ctl.ok("pool-define-as", "p", "fs", "--source-dev", device, "--source-format", "ext4",
           "--target", scratch.folder / "target")  # fmt: skip
    with attached(device) as upper, nothing_changed(ctl.root, [device], scratch.folder):
        assert ctl.refused("pool-build", "p", "--overwrite") == failed(
            "Failed to build pool p",
            f"resource busy: device '{device}' is in use: attached to {upper}",
        )


def test_disk_full(ctl: Program, scratch: Scratch) -> None:
    target = scratch.mount_new("ext4", "tiny", 16 * MIB) / "pool"
    ctl.ok("pool-create-as", "p", "dir", "--target", target, "--build")
    with nothing_changed(ctl.root, [], target):
        assert ctl.refused("vol-create-as", "p", "big", "1G") == failed(
            "Failed to create vol big",
            f"cannot allocate {1 << 30} bytes in file '{target}/big': No space left on device",
        )


def test_interrupted(ctl: Program, scratch: Scratch, pools: Path) -> None:
    with subprocess.Popen(ctl.argv("vol-upload", "vol", "/dev/stdin", "busy"), text=True,
                          stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # fmt: skip
        inode = f":{(pools / 'busy/vol').stat().st_ino} "
        wait_for(lambda: inode in Path("/proc/locks").read_text(), "the upload does not begin")
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate()
    assert (child.returncode, stderr) == (130, "")
    ctl.ok("vol-info", "vol", "busy")


@pytest.mark.parametrize(
    "words", [["pool-list", "--all"], ["pool-dumpxml", "busy"], ["vol-list", "busy"]]
)
def test_output_that_cannot_be_written(ctl: Program, pools: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(ctl.argv(*words), stdout=full, stderr=subprocess.PIPE, text=True,
                              check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
