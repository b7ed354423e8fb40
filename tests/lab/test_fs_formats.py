"""fs pools in the formats that the machine's own kernel may lack, each built and used."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import devices
import pytest
from devices import MiB

if TYPE_CHECKING:
    from pathlib import Path


def ctl(root: Path, *words: str) -> str:
    argv = ["storagectl", "--root", str(root), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), (words, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize(
    "kind",
    ["vfat", "udf", "gfs2", "ocfs2", "xfs"],
)
def test_life(kind: str, tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    with devices.loop(400 * MiB) as device:
        ctl(root, "pool-define-as", "p", "fs", "--source-dev", device, "--source-format", kind,
            "--target", str(target))  # fmt: skip
        ctl(root, "pool-build", "p", "--no-overwrite")
        ctl(root, "pool-start", "p")
        try:
            assert os.path.ismount(target)
            ctl(root, "vol-create-as", "p", "a.raw", "8M", "--allocation", "0")
            ctl(root, "vol-create-as", "p", "b.qcow2", "8M", "--format", "qcow2")
            (target / "a.raw").write_bytes(b"x" * 8 * MiB)
            ctl(root, "vol-clone", "a.raw", "c.raw", "p")
            assert (target / "c.raw").read_bytes() == b"x" * 8 * MiB
            ctl(root, "vol-delete", "b.qcow2", "p")
        finally:
            ctl(root, "pool-destroy", "p")
        assert not os.path.ismount(target)
        ctl(root, "pool-start", "p")
        listed = ctl(root, "vol-list", "p")
        ctl(root, "pool-destroy", "p")
        assert "a.raw" in listed
        assert "c.raw" in listed
        assert "b.qcow2" not in listed
