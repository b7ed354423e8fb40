"""Nobody sees a secret: not in arguments, environments, output, logs, documents or core dumps."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tally
from inprocess import Answer, put_on_tool_path, storagectl
from quickluks import quick_qemu_img

from storagectl.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).resolve().parents[2]
UUID = "11111111-1111-4111-8111-111111111111"
VALUE = "Nobody-Sees-Me-7"
FORMS = (VALUE.encode(), base64.b64encode(VALUE.encode()), VALUE.encode().hex().encode())
IQN = "iqn.2024-01.lab.storagectl:leaks"

pytestmark = pytest.mark.tools


def secret(root: Path, folder: Path, usage: str) -> None:
    """Define a secret with the value, for one use."""
    document, value = folder / "secret.xml", folder / "value"
    document.write_text(f"<secret><uuid>{UUID}</uuid>{usage}</secret>")
    value.write_text(VALUE)
    for words in (
        ("secret-define", str(document)),
        ("secret-set-value", UUID, "--plain", "--file", str(value)),
    ):
        require_unseen(storagectl(root, *words))
    value.unlink()


def require_unseen(*where: Answer | bytes) -> None:
    """Count what may have a secret in it, and see that it has none in any form."""
    for place in where:
        with tally.counted("places where a secret could be seen"):
            data = place if isinstance(place, bytes) else repr(place).encode()
            assert [form for form in FORMS if form in data] == []


# CHAP


ISCSIADM = """#!/bin/bash
cat /proc/$$/cmdline /proc/$$/environ >>'{folder}/given'
record='{records}/{iqn}/127.0.0.1,{port},1/default'
case "$*" in
*--op\\ new*) mkdir -p "${{record%/*}}"; echo '# END RECORD' >"$record"; chmod 600 "$record" ;;
*--op\\ delete*) rm -r '{records}/{iqn}' ;;
*--login*) cp "$record" '{folder}/used'; echo 'iscsiadm: login failed' >&2; exit 24 ;;
esac
"""


@pytest.fixture
def iscsi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pool `p` of a target that wants CHAP and refuses it; the folder of the stub's notes."""
    records = tmp_path / "records"
    records.mkdir()
    monkeypatch.setattr("storagectl.tools.iscsiadm.RECORDS", (str(records),))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "bin").mkdir()
        stub = tmp_path / "bin/iscsiadm"
        stub.write_text(ISCSIADM.format(folder=tmp_path, records=records, iqn=IQN, port=port))
        stub.chmod(0o755)
        root = tmp_path / "root"
        put_on_tool_path(root, tmp_path / "bin")
        secret(root, tmp_path, "<usage type='iscsi'><target>chap</target></usage>")
        (tmp_path / "pool.xml").write_text(
            f"<pool type='iscsi'><name>p</name><source><host name='127.0.0.1' port='{port}'/>"
            f"<device path='{IQN}'/><auth type='chap' username='joe'><secret usage='chap'/></auth>"
            "</source><target><path>/dev/disk/by-path</path></target></pool>"
        )
        assert storagectl(root, "pool-define", str(tmp_path / "pool.xml")).status == 0
        yield tmp_path


@pytest.mark.parametrize(
    "options",
    [(), ("--verbose",), ("--json",), ("--dry-run",), ("--verbose", "--json"), ("--debug", "0")],
    ids=" ".join,
)
def test_s28_s29_s31_a_login_that_fails_shows_and_leaves_no_password(
    iscsi: Path, options: tuple[str, ...]
) -> None:
    root = iscsi / "root"
    log = iscsi / "log"
    done = storagectl(root, "--log", str(log), *options, "pool-start", "p", hints=True)
    require_unseen(log.read_bytes())
    if "--dry-run" in options:
        assert done.status == 0
        assert not (iscsi / "used").exists()
    else:
        assert done.status == 1
        assert f"node.session.auth.password = {VALUE}\n" in (iscsi / "used").read_text()
        require_unseen((iscsi / "given").read_bytes())
    require_unseen(done)
    assert list((iscsi / "records").iterdir()) == []


def test_s31_a_record_that_was_there_is_as_before(iscsi: Path) -> None:
    root = iscsi / "root"
    assert storagectl(root, "pool-start", "p").status == 1
    (port,) = re.findall(r"port='(\d+)'", (iscsi / "pool.xml").read_text())
    record = iscsi / f"records/{IQN}/127.0.0.1,{port},1/default"
    record.parent.mkdir(parents=True)
    record.write_text("node.startup = manual\nnode.session.auth.password = old\n# END RECORD\n")
    record.chmod(0o600)
    before = record.read_bytes()
    (iscsi / "used").unlink()
    assert storagectl(root, "pool-start", "p").status == 1
    assert VALUE.encode() in (iscsi / "used").read_bytes()
    assert (record.read_bytes(), stat.S_IMODE(record.stat().st_mode)) == (before, 0o600)


def test_s30_no_document_has_a_value(iscsi: Path) -> None:
    root = iscsi / "root"
    for words in (
        "pool-dumpxml p", "pool-dumpxml p --inactive", "pool-info p", "pool-list --all --details",
        f"secret-dumpxml {UUID}", "secret-list", "status", "doctor",
    ):  # fmt: skip
        require_unseen(storagectl(root, *words.split()), storagectl(root, *words.split(), "--json"))
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".base64"]
    require_unseen(*(path.read_bytes() for path in files))


# LUKS


@pytest.mark.skipif(
    not (shutil.which("strace") and shutil.which("qemu-img")), reason="needs strace and qemu-img"
)
def test_s28_s29_no_passphrase_in_what_is_executed(tmp_path: Path) -> None:
    """As strace sees it, arguments and environment of all that a command starts."""
    root, pool, trace = tmp_path / "root", tmp_path / "pool", tmp_path / "trace"
    pool.mkdir()
    (tmp_path / "bin").mkdir()
    quick_qemu_img(tmp_path / "bin", tmp_path / "log")
    put_on_tool_path(root, tmp_path / "bin")
    secret(root, tmp_path, f"<usage type='volume'><volume>{pool}/v</volume></usage>")
    document = tmp_path / "v.xml"
    encryption = f"<encryption format='luks'><secret type='passphrase' uuid='{UUID}'/></encryption>"
    for name, more in (("v", encryption), ("w", encryption), ("bad", encryption.replace(
            "</enc", "<cipher name='rot13' size='8'/></enc"))):  # fmt: skip
        (tmp_path / f"{name}.xml").write_text(
            f"<volume><name>{name}</name><capacity>1048576</capacity>"
            f"<target><format type='qcow2'/>{more}</target></volume>"
        )
    assert storagectl(root, "pool-create-as", "p", "dir", "--target", str(pool)).status == 0
    for words, status in (
        (f"vol-create p {document}", 0),
        (f"--verbose vol-create-from p {tmp_path}/w.xml v --inputpool p", 0),
        ("--json vol-resize v 8M p", 0),
        (f"vol-create p {tmp_path}/bad.xml", 1),
        (f"--dry-run vol-create p {tmp_path}/bad.xml", 0),
    ):
        done = subprocess.run(
            ["strace", "-f", "-qq", "-v", "-s", "65536", "-e", "trace=execve,execveat",
             "-o", str(trace), sys.executable, "-m", "storagectl", "--root", str(root),
             *words.split()],
            env={**os.environ, "PYTHONPATH": str(SOURCES), "STORAGECTL_HINTS": "always"},
            capture_output=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done
        executed = trace.read_bytes()
        assert b"execve(" in executed
        require_unseen(executed, done.stdout, done.stderr)
    assert "qemu-img" in (tmp_path / "log").read_text(errors="replace")
    require_unseen((tmp_path / "log").read_bytes())


# Files and memory


@contextmanager
def opened_to(path: Path, mode: int) -> Iterator[None]:
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


@pytest.mark.parametrize(
    ("name", "mode", "mend"),
    [
        ("value", 0o640, "0600"),
        ("value", 0o604, "0600"),
        ("value", 0o620, "0600"),
        ("folder", 0o750, "0700"),
        ("folder", 0o705, "0700"),
        ("folder", 0o777, "0700"),
    ],
)
def test_s30_what_others_may_read_is_refused(
    tmp_path: Path, name: str, mode: int, mend: str
) -> None:
    secret(tmp_path, tmp_path, "")
    (value,) = tmp_path.rglob("*.base64")
    place = value if name == "value" else value.parent
    before = value.read_bytes()
    with opened_to(place, mode), tally.counted("secrets with a wrong mode or owner"):
        done = storagectl(tmp_path, "secret-get-value", UUID)
        assert (done.status, done.stdout) == (1, "\n")
        assert done.stderr == (
            f"error: operation forbidden: '{place}' is open to others (mode {mode:04o}):"
            f" chmod {mend} '{place}'\n"
        )
        require_unseen(done)
        assert value.read_bytes() == before
    assert storagectl(tmp_path, "secret-get-value", UUID).status == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_s30_the_value_of_another_owner_is_refused(tmp_path: Path) -> None:
    secret(tmp_path, tmp_path, "")
    (value,) = tmp_path.rglob("*.base64")
    for place in (value, value.parent):
        os.chown(place, 65534, 0)
        with tally.counted("secrets with a wrong mode or owner"):
            done = storagectl(tmp_path, "secret-get-value", UUID)
            said = f"error: operation forbidden: '{place}' belongs to user 65534: chown 0 '{place}'"
            assert done == (1, "\n", f"{said}\n")
        os.chown(place, 0, 0)


@pytest.mark.parametrize("attributes", ["", "ephemeral='yes'"])
@pytest.mark.parametrize("change", ["undefine", "replace", "define"])
def test_values_are_overwritten_when_they_go(tmp_path: Path, attributes: str, change: str) -> None:
    """Who holds the file open, as a disk holds its blocks, finds zeros in it."""
    document, value = tmp_path / "secret.xml", tmp_path / "v"
    document.write_text(f"<secret {attributes}><uuid>{UUID}</uuid></secret>")
    value.write_text(VALUE)
    assert storagectl(tmp_path, "secret-define", str(document)).status == 0
    setting = ("secret-set-value", UUID, "--plain", "--file", str(value))
    assert storagectl(tmp_path, *setting).status == 0
    (kept,) = tmp_path.rglob("*.base64")
    with kept.open("rb") as held, tally.counted("values wiped"):
        if change == "undefine":
            assert storagectl(tmp_path, "secret-undefine", UUID).status == 0
            assert list(tmp_path.rglob("*.base64")) == []
        elif change == "replace":
            value.write_text("another")
            assert storagectl(tmp_path, *setting).status == 0
        else:
            # it moves from /etc to /run, or back
            other = "" if attributes else "ephemeral='yes'"
            document.write_text(f"<secret {other}><uuid>{UUID}</uuid></secret>")
            assert storagectl(tmp_path, "secret-define", str(document)).status == 0
            (moved,) = tmp_path.rglob("*.base64")
            assert moved != kept
            assert base64.b64decode(moved.read_bytes()) == VALUE.encode()
        assert set(held.read()) == {0}


def test_a_link_in_the_place_of_a_value_is_not_followed_to_be_wiped(tmp_path: Path) -> None:
    secret(tmp_path, tmp_path, "")
    (value,) = tmp_path.rglob("*.base64")
    victim, twin = tmp_path / "victim", tmp_path / "twin"
    victim.write_text("precious")
    os.link(value, twin)
    content = twin.read_bytes()
    Host().remove_secret(str(value))
    assert twin.read_bytes() == content  # it has another name, which somebody relies on
    value.symlink_to(victim)
    Host().remove_secret(str(value))
    assert victim.read_text() == "precious"
    assert not value.is_symlink()


DUMPED = """
import ctypes, os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from storagectl.host import Host
if sys.argv[1] == "kept out":
    Host().keep_out_of_core_dumps()
PR_GET_DUMPABLE = 3
limit = open("/proc/self/limits").read().split("Max core file size")[1].split()[:2]
print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), *limit, flush=True)
os.abort()
"""


@pytest.mark.parametrize(("how", "said"), [("kept out", "0 1 1"), ("dumped", "1 ")])
def test_s28_no_core_dump(tmp_path: Path, how: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DUMPED, how], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(SOURCES)}, check=False,
    )  # fmt: skip
    assert done.returncode == -6
    assert done.stdout.startswith(said)
    if how == "kept out":
        assert list(tmp_path.iterdir()) == []


def test_s28_who_reads_a_secret_is_kept_out_of_core_dumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(Host, "keep_out_of_core_dumps", lambda self: called.append(self))
    secret(tmp_path, tmp_path, "")
    assert called
    called.clear()
    storagectl(tmp_path, "secret-get-value", UUID)
    assert called
    called.clear()
    storagectl(tmp_path, "secret-list")
    assert called == []
