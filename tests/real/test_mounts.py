"""The list of mounts that is kept open tells of each change, also to processes that share it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

SCRIPT = """
import os, subprocess, sys
from storagectl.host import Host

place = sys.argv[1]
host = Host()
assert host.mounts() == host.mounts()
assert place not in host.mounts()
subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
assert place in host.mounts()
assert place in Host().mounts()

child = os.fork()
if child == 0:
    assert place in host.mounts()
    subprocess.run(["umount", place], check=True)
    assert place not in host.mounts()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert place not in host.mounts()
print("seen")
"""


def test_mounts_are_seen_at_once(tmp_path: Path) -> None:
    """In a mount name space of its own."""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("seen\n", "")
