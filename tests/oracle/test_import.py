"""What a real libvirtd has is taken over by `storagectl import`, and stays as it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TYPES = ["a", "b ü", "d", "f", "i", "l", "m", "n", "s"]
AUTOSTARTED = {"a", "n"}


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: name spaces")
@pytest.mark.skipif(shutil.which("libvirtd") is None, reason="needs libvirtd")
def test_import_from_libvirt(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--fork", "bash", str(HERE / "import.sh")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        env={
            **os.environ, "W": str(tmp_path), "LC_ALL": "C.UTF-8",
            "V": f"{sys.executable} -m storagectl --root {tmp_path}/root",
        },
    )  # fmt: skip
    said = {
        name: text.splitlines()
        for name, _, text in (part.partition("\n") for part in done.stdout.split("== ")[1:])
    }
    active = "; libvirt has it active"
    transient = f"Pool t is transient, and stays libvirt's{active}"
    words = {name: "imported" + ", autostarted" * (name in AUTOSTARTED) for name in TYPES}
    words["a"] += active
    assert said["import"] == [*(f"Pool {name} {words[name]}" for name in TYPES), transient, ""]
    words = dict.fromkeys(TYPES, "is here already")
    words["a"] += active
    assert said["again"] == [*(f"Pool {name} {words[name]}" for name in TYPES), transient, ""]
    rows = [line.rsplit(None, 2) for line in said["list"][2:11]]
    assert rows == [
        [f" {name}", "inactive", "yes" if name in AUTOSTARTED else "no"] for name in TYPES
    ]
    assert sorted(said["list"][12:]) == sorted(f"{name} is the same" for name in TYPES[1:])
    assert said["stopped"] == ["Pool a is here already"]
    assert said["untouched"] == []
    assert (done.returncode, done.stderr) == (0, "")
