"""The wheel has what a distribution package needs, in the places where programs look for it."""

from __future__ import annotations

import email
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from storagectl import __version__

ROOT = Path(__file__).resolve().parent.parent
UNIT = "storagectl/systemd/storagectl-autostart.service"
DATA = {
    "share/man/man1/storagectl.1": "man/storagectl.1",
    "share/man/man5/storagectl-pool.5": "man/storagectl-pool.5",
    "share/man/man5/storagectl-volume.5": "man/storagectl-volume.5",
    "share/man/man5/storagectl-secret.5": "man/storagectl-secret.5",
    "share/bash-completion/completions/storagectl": "completions/storagectl.bash",
    "share/zsh/site-functions/_storagectl": "completions/storagectl.zsh",
    "share/fish/vendor_completions.d/storagectl.fish": "completions/storagectl.fish",
    "lib/systemd/system/storagectl-autostart.service": UNIT,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel, without the network."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    return zipfile.ZipFile(path)


# Tenths of what `systemd-analyze security` says; 96 is a service that is not confined at all.
# It may become less, never more.
EXPOSURE = 52
# Each gives a service mounts of its own: pools that it mounts would be there for nobody else.
MOUNT_NAMESPACE = (
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExtensionImages", "InaccessiblePaths",
    "MountFlags", "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateTmp", "PrivateUsers",
    "ProcSubset", "ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname",
    "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc",
    "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootImage",
    "TemporaryFileSystem",
)  # fmt: skip


@pytest.mark.tools
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_service_is_confined() -> None:
    """That all pool types start in it is shown by tests/lab/test_reboot.py."""
    argv = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}"]
    done = subprocess.run(
        [*argv, "--no-pager", ROOT / UNIT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + [done.stderr]


def test_the_service_mounts_for_all() -> None:
    lines = (ROOT / UNIT).read_text().splitlines()
    settings = [line.partition("=")[0] for line in lines if not line.startswith("#")]
    assert set(settings) & set(MOUNT_NAMESPACE) == set()
    assert "PrivateMounts=no" in lines


@pytest.mark.parametrize("place", DATA)
def test_data_files(wheel: zipfile.ZipFile, place: str) -> None:
    name = f"storagectl-{__version__}.data/data/{place}"
    assert wheel.read(name) == (ROOT / DATA[place]).read_bytes()


def test_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.startswith("storagectl/")}
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "storagectl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == modules
    outside = {name.split("/")[0] for name in wheel.namelist()} - {"storagectl"}
    assert outside == {f"storagectl-{__version__}.data", f"storagectl-{__version__}.dist-info"}


def test_metadata(wheel: zipfile.ZipFile) -> None:
    info = f"storagectl-{__version__}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert (
        "storagectl = storagectl.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()
    )


def test_unit_starts_after_the_disks_and_before_the_machines() -> None:
    text = (ROOT / UNIT).read_text()
    for line in (
        "Type=oneshot",
        "RemainAfterExit=yes",
        "ExecStart=storagectl autostart --timing",
        "Wants=network-online.target",
        "WantedBy=multi-user.target",
    ):
        assert line in text.splitlines()
    order = {
        name: " ".join(
            line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")
        ).split()
        for name in ("After", "Before")
    }
    assert {"local-fs.target", "network-online.target", "remote-fs-pre.target"} <= set(
        order["After"]
    )
    assert {"libvirtd.service", "virtqemud.service", "libvirt-guests.service"} <= set(
        order["Before"]
    )


def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "storagectl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / os.path.basename(UNIT)
    unit.write_text((ROOT / UNIT).read_text().replace("=storagectl ", f"={program} "))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "storagectl" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr
