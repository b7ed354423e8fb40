"""What the system's log is told of commands that change something."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scratch import Program

LOG = "/dev/log"
IN_ITS_PLACE = f'mount --bind "$0" {LOG} && exec "$@"'

pytestmark = pytest.mark.root


class Log:
    """A log in the place of the machine's, if it has one, for the commands run with it."""

    def __init__(self, ctl: Program, folder: Path) -> None:
        self.ctl = ctl
        self.is_only_one = not os.path.exists(LOG)
        self.path = LOG if self.is_only_one else str(folder / "log")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def close(self) -> None:
        self.socket.close()
        os.unlink(self.path)

    def run(self, *words: str) -> int:
        argv = self.ctl.argv(*words)
        if not self.is_only_one:
            argv = ["unshare", "--mount", "sh", "-c", IN_ITS_PLACE, self.path, *argv]
        return subprocess.run(argv, capture_output=True, check=False).returncode

    def lines(self) -> list[str]:
        """Return what has come of the test's own commands, without time and process."""
        found = []
        while True:
            try:
                line = self.socket.recv(65536).decode()
            except BlockingIOError:
                return found
            if f" --root {self.ctl.root} " in line:
                found.append(re.sub(r"^<\d+>.{15} storagectl\[\d+\]: ", "", line))


@pytest.fixture
def log(ctl: Program, tmp_path: Path) -> Iterator[Log]:
    log = Log(ctl, tmp_path)
    yield log
    log.close()


def test_changes_are_logged(log: Log, tmp_path: Path) -> None:
    target = tmp_path / "pool"
    assert log.run("pool-define-as", "p", "dir", "--target", str(target)) == 0
    assert log.run("pool-start", "p", "--build") == 0
    assert log.run("pool-list", "--all") == 0
    assert log.run("vol-create-as", "p", "two words", "1M", "--dry-run") == 0
    assert log.run("vol-delete", "--help") == 0
    assert log.run("vol-create-as", "p", "two words\x1b", "1M") == 1
    assert log.run("vol-delete", "nosuch", "p") == 1
    who = r"user 0(?: \(logged in as \d+\))?: storagectl --root \S+ "
    took = r" \(\d+\.\d{3} s\)"
    expected = (
        re.escape(f"pool-define-as --name=p --type=dir --target={target}: succeeded"),
        "pool-start --pool=p --build: succeeded",
        r"vol-create-as --pool=p \$'--name=two words\\x1b' --capacity=1M: .*invalid Char.*",
        "vol-delete --vol=nosuch --pool=p: Storage volume not found: .*'nosuch'",
    )
    lines = log.lines()
    assert len(lines) == len(expected), lines
    for line, text in zip(lines, expected, strict=True):
        assert re.fullmatch(who + text + took, line), line


def test_no_secret_is_logged(log: Log, tmp_path: Path) -> None:
    document = tmp_path / "secret.xml"
    document.write_text(
        "<secret private='yes'><usage type='iscsi'><target>t</target></usage></secret>"
    )
    assert log.run("secret-define", str(document)) == 0
    uuid = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", log.ctl.ok("secret-list"))[0]
    for words in (("--base64", "c2VjcmV0"), ("c2VjcmV0",)):
        assert log.run("secret-set-value", uuid, *words) == 0
    define, *values = log.lines()
    assert define.split(": ")[-1].startswith("succeeded")
    assert len(values) == 2
    for line in values:
        assert f"secret-set-value --secret={uuid} '--base64=***': succeeded" in line
