"""LUKS volumes, made by the real qemu-img and opened by qemu and cryptsetup."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from inprocess import Answer, put_on_tool_path, storagectl
from quickluks import quick_qemu_img

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MISSING = [tool for tool in ("bash", "cryptsetup", "qemu-img", "qemu-io") if not shutil.which(tool)]

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]

UUID = "11111111-1111-4111-8111-111111111111"
PASSPHRASE = "correct horse battery staple"


class Shell:
    """storagectl with a dir pool `p`, and what its tools were given."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.pool = folder / "pool, with a comma"
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.file = folder / "file.xml"
        for made in (self.pool, self.bin):
            made.mkdir()
        quick_qemu_img(self.bin, self.log)

    def run(self, *args: str) -> Answer:
        return storagectl(self.root, *args)

    def ok(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.status, done.stderr) == (0, ""), done
        return done.stdout

    def fails(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.status, done.stdout) == (1, "\n"), done
        return done.stderr

    def secret(self, usage: str, uuid: str = UUID, attributes: str = "private='yes'") -> None:
        self.file.write_text(
            f"<secret {attributes}><uuid>{uuid}</uuid>"
            f"<usage type='volume'><volume>{usage}</volume></usage></secret>"
        )
        self.ok("secret-define", str(self.file))
        self.file.write_text(PASSPHRASE)
        self.ok("secret-set-value", uuid, "--plain", "--file", str(self.file))
        self.file.unlink()

    def define(self, name: str, kind: str, inside: str, capacity: int = 1) -> str:
        self.file.write_text(
            f"<volume><name>{name}</name><capacity unit='M'>{capacity}</capacity>"
            f"<allocation>0</allocation><target><format type='{kind}'/>{inside}</target></volume>"
        )
        return str(self.file)

    def create(self, name: str, kind: str, inside: str) -> Path:
        self.ok("vol-create", "p", self.define(name, kind, inside))
        return self.pool / name

    def capacity(self, name: str) -> int:
        lines = self.ok("vol-info", name, "p", "--bytes").splitlines()
        return int(lines[2].split()[1])


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    put_on_tool_path(shell.root, shell.bin)
    shell.ok("pool-create-as", "p", "dir", "--target", str(shell.pool))
    yield shell
    assert [name for name in os.listdir(shell.pool) if name.startswith(".")] == []
    require_no_passphrase(tmp_path)


def require_no_passphrase(folder: Path) -> None:
    """No file has it but that of the secret store, whether what tools were given or a volume."""
    coded = base64.b64encode(PASSPHRASE.encode())
    having = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and {PASSPHRASE.encode() in (data := path.read_bytes()), coded in data} != {False}
    ]
    assert [path.suffix for path in having] == [".base64"] * len(having)


def luks(secret: str = f"uuid='{UUID}'", more: str = "") -> str:
    return f"<encryption format='luks'><secret type='passphrase' {secret}/>{more}</encryption>"


def qemu_io(path: Path, command: str, passphrase: str = PASSPHRASE) -> bool:
    """Open a LUKS volume, as a guest would see it."""
    qcow2 = path.read_bytes()[:4] == b"QFI\xfb"
    name = str(path).replace(",", ",,")
    options = f"driver={'qcow2,encrypt.' if qcow2 else 'luks,'}key-secret=k,file.filename={name}"
    argv = ["qemu-io", "--object", f"secret,id=k,data={passphrase}", "-c", command]
    done = subprocess.run([*argv, "--image-opts", options], capture_output=True, text=True)
    return done.returncode == 0 and "failed" not in done.stdout


def cryptsetup(path: Path, passphrase: str = PASSPHRASE) -> int:
    argv = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(path)]
    return subprocess.run(argv, input=passphrase.encode(), capture_output=True).returncode


def has_pattern(path: Path) -> bool:
    return qemu_io(path, "read -P 7 64k 128k")


def test_a_raw_luks_volume(shell: Shell) -> None:
    shell.secret("by usage")
    more = "<cipher name='aes' size='128' mode='cbc' hash='sha512'/><ivgen name='plain64'/>"
    path = shell.create("a", "raw", luks("usage='by usage'", more))
    assert path.stat().st_mode & 0o777 == 0o600
    dump = subprocess.run(["cryptsetup", "luksDump", path], capture_output=True, text=True)
    words = dict(line.split(":", 1) for line in dump.stdout.splitlines() if ":" in line)
    found = [words[name].strip() for name in ("Version", "Cipher name", "Cipher mode", "Hash spec")]
    assert found == ["1", "aes", "cbc-plain64", "sha512"]
    assert (cryptsetup(path), cryptsetup(path, "wrong")) == (0, 2)
    assert (qemu_io(path, "read 0 1M"), qemu_io(path, "read 0 1M", "wrong")) == (True, False)
    assert shell.capacity("a") == 1 << 20


def test_a_qcow2_volume_with_an_ephemeral_secret(shell: Shell) -> None:
    shell.secret(f"{shell.pool}/a", attributes="private='yes' ephemeral='yes'")
    path = shell.create("a", "qcow2", luks())
    assert (qemu_io(path, "read 0 1M"), qemu_io(path, "read 0 1M", "wrong")) == (True, False)
    shown = shell.ok("vol-dumpxml", "a", "p").replace("\n", "").replace("  ", "")
    assert luks() in shown


def test_copies_and_sizes(shell: Shell) -> None:
    for number, name in enumerate(("a", "clone", "again")):
        shell.secret(f"{shell.pool}/{name}", UUID.replace("4111", f"411{number}"))
    encryption = luks(f"uuid='{UUID.replace('4111', '4110')}'")
    assert qemu_io(shell.create("a", "raw", encryption), "write -P 7 64k 128k")
    shell.ok("vol-clone", "a", "clone", "p", "--verify")
    assert has_pattern(shell.pool / "clone")

    shell.ok("vol-create-from", "p", shell.define("plain", "raw", ""), "a", "p", "--verify")
    plain = shell.pool / "plain"
    assert plain.read_bytes()[64 << 10 : 192 << 10] == b"\7" * (128 << 10)
    again = shell.define("again", "qcow2", encryption, 2)
    shell.ok("vol-create-from", "p", again, "plain", "p", "--verify")
    assert (shell.capacity("again"), has_pattern(shell.pool / "again")) == (2 << 20, True)

    for name in ("clone", "again"):
        shell.ok("vol-resize", name, "8M", "p")
        assert (shell.capacity(name), has_pattern(shell.pool / name)) == (8 << 20, True)
        assert qemu_io(shell.pool / name, "read 2M 1M")


def test_what_fails_leaves_nothing(shell: Shell) -> None:
    shell.secret("x")
    cipher = "<cipher name='rot13' size='8'/>"
    said = shell.fails("vol-create", "p", shell.define("a", "raw", luks(more=cipher)))
    assert said.endswith("Parameter 'cipher-alg' does not accept value 'rot13-8'\n\n")
    assert f"{shell.pool}/a" in said
    assert ".storagectl" not in said
    shell.create("plain", "raw", "")
    missing = luks("usage='nosuch'")
    said = shell.fails("vol-create-from", "p", shell.define("a", "qcow2", missing), "plain", "p")
    assert said.endswith("error: Secret not found: no secret with matching usage 'nosuch'\n")
    assert os.listdir(shell.pool) == ["plain"]


def test_s28_a_passphrase_is_not_where_others_can_see_it(shell: Shell) -> None:
    """The fixture looks for it in all arguments, environments and files."""
    shell.secret("x")
    shell.create("a", "raw", luks())
    given = shell.log.read_bytes().split(b"\0")
    assert any(word.startswith(b"secret,id=key,file=/proc/self/fd/") for word in given)
    assert any(word.startswith(b"PATH=") for word in given)
    (kept,) = shell.root.rglob("*.base64")
    assert base64.b64decode(kept.read_bytes()) == PASSPHRASE.encode()
