"""Each command that changes something, and what there is before it: for tests that try all.

A new command without a case fails in tests/cli/test_dry_run.py.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from typing import TYPE_CHECKING, NamedTuple

from inprocess import Answer, storagectl

from storagectl.commands import COMMANDS, find

if TYPE_CHECKING:
    from pathlib import Path

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SECRET_UUID = "11111111-1111-4111-8111-111111111111"
OTHER_UUID = "22222222-2222-4222-8222-222222222222"
DATA = bytes(8192) + b"begin" + bytes(300_000) + b"end" * 100
SECRET = "correct horse battery staple"

POOL = ("pool-define-as p dir --target POOL", "pool-start p --build")
RAW = (*POOL, "vol-create-as p a.img 3M")
SPARSE = (*POOL, "vol-create-as p a.img 3M --allocation 0", "vol-upload a.img DATA p")
IMAGE = (*POOL, "vol-create-as p a.qcow2 8M --format qcow2")
BASE = (*IMAGE, "vol-create-as p b.qcow2 8M --format qcow2 --backing-vol a.qcow2")
SECRETS = ("secret-define SECRET",)
LUKS = (*POOL, *SECRETS, "secret-set-value VALUED --file VALUE --plain", "vol-create p LUKS")


CHAINED = [
    "<volume pool='p'><name>base</name><capacity unit='MiB'>2</capacity><target><format"
    " type='qcow2'/></target></volume>",
    "<volume pool='p'><name>over</name><capacity unit='MiB'>2</capacity><target><format"
    " type='qcow2'/></target><backingStore><path>TARGETp/base</path><format type='qcow2'/>"
    "</backingStore></volume>",
]


class Case(NamedTuple):
    """A command, and what there is before it."""

    command: str
    before: tuple[str, ...] = ()
    secret: bool = False


CASES = [
    Case("pool-define-as p dir --target POOL"),
    Case("pool-define FILE"),
    Case("pool-define FILE", ("pool-define-as other dir --target /nowhere",)),
    Case("pool-create FILE --build"),
    Case("pool-create FILE", ("pool-create FILE --build", "pool-destroy named")),
    Case("pool-create-as p dir --target POOL --build"),
    Case("pool-create-as p dir --target POOL/deep/er --build"),
    Case("pool-edit p", POOL),
    Case("pool-build p", POOL[:1]),
    Case("pool-build owned", ("pool-define OWNED",)),
    Case("pool-start p", (*POOL, "pool-destroy p")),
    Case("pool-start p --build", POOL[:1]),
    Case("pool-autostart p", POOL),
    Case("pool-autostart p --disable", (*POOL, "pool-autostart p")),
    Case("autostart", (*POOL, "pool-autostart p", "pool-destroy p")),
    Case("pool-refresh p", RAW),
    Case("pool-destroy p", RAW),
    Case("pool-stop p", RAW),
    Case("pool-delete p", (*POOL, "pool-destroy p")),
    Case("pool-undefine p", (*POOL, "pool-autostart p", "pool-destroy p")),
    Case("pool-undefine p --forget", RAW),
    Case("import --folder LIBVIRT"),
    Case("apply APPLIED"),
    Case("apply APPLIED", POOL),
    Case("apply APPLIED", ("apply APPLIED",)),
    Case("apply APPLIED --prune pools", (*POOL, "pool-define-as q dir --target POOL/q")),
    Case("apply APPLIED --resize --prune volumes", (*RAW, "vol-create-as p other 1M")),
    Case("apply APPLIED", ("pool-define-as p dir --target POOL/other",)),
    Case("secret-define SECRET"),
    Case("secret-define FLEETING", (*SECRETS, "secret-set-value VALUED --file VALUE --plain")),
    Case("secret-set-value VALUED --file VALUE --plain", SECRETS, secret=True),
    Case("secret-undefine VALUED", (*SECRETS, "secret-set-value VALUED --file VALUE --plain")),
    Case("vol-create-as p a.img 3M", POOL),
    Case("vol-create-as p a.img 3M --allocation 0 --mode 0640", POOL),
    Case("vol-create-as p a.img 3M --allocation 1M", POOL),
    Case("vol-create-as p \"it's a\" 1M", POOL),
    Case("vol-create-as p a.qcow2 8M --format qcow2", POOL),
    Case("vol-create-as p b.qcow2 8M --format qcow2 --backing-vol a.qcow2", IMAGE),
    Case("vol-create p LUKS", LUKS[:-1], secret=True),
    Case("vol-create p FOLDER", POOL),
    Case("vol-create-from p VOLUME a.img p", RAW),
    Case("vol-create-from p VOLUME a.qcow2 p", IMAGE),
    Case("vol-clone a.img b.img p", RAW),
    Case("vol-clone a.img b.img p --verify", RAW),
    Case("vol-clone a.img b.img p", SPARSE),
    Case("vol-clone a.img b.img p --capacity 5M --mode 0600", SPARSE),
    Case("vol-clone a.qcow2 b.qcow2 p --verify", IMAGE),
    Case("vol-clone a.qcow2 b.qcow2 p --linked", IMAGE),
    Case("vol-clone b.qcow2 c.qcow2 p --keep-backing", BASE),
    Case("apply CHAIN"),
    Case("apply CHAIN --resize --prune volumes", ("apply CHAIN", *RAW[2:])),
    Case("vol-delete a.img p", RAW),
    Case("vol-rename a.img 'b c.img' p", RAW),
    Case("vol-resize a.img 5M p", RAW),
    Case("vol-resize a.img 1M p --shrink", SPARSE),
    Case("vol-resize a.img 5M p --allocate", SPARSE),
    Case("vol-resize a.qcow2 16M p", IMAGE),
    Case("vol-upload a.img DATA p", RAW),
    Case("vol-upload a.img DATA p --sparse --verify", SPARSE),
    Case("vol-upload a.img DATA p --offset 4097 --length 70000", RAW),
    Case("vol-upload a.img DATA p --offset 4096 --sparse", RAW),
    Case("vol-upload a.qcow2 DATA p", IMAGE),
    Case("vol-download a.img OUT p", SPARSE),
    Case("vol-download a.img OUT p --sparse --verify", SPARSE),
    Case("vol-download a.img DATA p --offset 5 --length 100001", SPARSE),
    Case("vol-wipe a.img p", SPARSE),
    Case("vol-wipe a.img p", (*RAW, "vol-upload a.img DATA p --offset 9")),
]  # fmt: skip


class Place:
    """A folder with quotes in its name where a case is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / 'it\'s "one" $HOME'
        self.root = self.folder / "root"

    def anew(self, case: Case) -> None:
        """Make the folder as it is before the command."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "libvirt/autostart").mkdir(parents=True)
        (self.folder / "data").write_bytes(DATA)
        texts = {
            "value": SECRET,
            "pool.xml": pool("named"),
            "owned.xml": pool("owned", f"<permissions><mode>0750</mode><owner>{os.getuid()}</owner>"
                                       f"<group>{os.getgid()}</group></permissions>"),
            "secret.xml": secret("no"),
            "fleeting.xml": secret("yes"),
            "luks.xml": "<volume><name>l.img</name><capacity unit='MiB'>4</capacity><target>"
                        "<format type='raw'/><encryption format='luks'><secret type='passphrase' "
                        f"uuid='{SECRET_UUID}'/></encryption></target></volume>",
            "folder.xml": "<volume><name>sub</name><capacity>0</capacity><target><format "
                          "type='dir'/><permissions><mode>0751</mode></permissions></target>"
                          "</volume>",
            "volume.xml": "<volume><name>copy</name><capacity unit='MiB'>9</capacity><target>"
                          "<format type='qcow2'/></target></volume>",
            "applied.xml": pool("p").replace("'>", "' build='yes'>").replace(
                "</pool>",
                "<volumes><volume><name>a.img</name><capacity unit='MiB'>5</capacity><target>"
                "<permissions><mode>0600</mode></permissions></target></volume><volume><name>b"
                "</name><capacity unit='MiB'>1</capacity><allocation>0</allocation></volume>"
                "</volumes></pool>",
            ),
            "chain.xml": "<storage>" + pool("p").replace("<pool", "<pool build='yes'")
                           + "".join(CHAINED) + "</storage>",
            "libvirt/one.xml": pool("one", uuid=OTHER_UUID),
            "libvirt/two.xml": pool("two", uuid=OTHER_UUID.replace("2", "3")),
        }  # fmt: skip
        for name, text in texts.items():
            (self.folder / name).write_text(text.replace("TARGET", f"{self.folder}/pool-"))
        os.symlink("../one.xml", self.folder / "libvirt/autostart/one.xml")
        for words in case.before:
            assert self.run(words).status == 0, words

    def run(self, words: str, *more: str) -> Answer:
        return storagectl(self.root, *map(self.meant, shlex.split(words)), *more)

    def meant(self, word: str) -> str:
        head, slash, tail = word.partition("/")
        named = {
            "POOL": "pool-p", "DATA": "data", "OUT": "out", "VALUE": "value", "FILE": "pool.xml",
            "OWNED": "owned.xml", "SECRET": "secret.xml", "FLEETING": "fleeting.xml",
            "LUKS": "luks.xml", "FOLDER": "folder.xml", "VOLUME": "volume.xml",
            "LIBVIRT": "libvirt", "APPLIED": "applied.xml", "CHAIN": "chain.xml",
        }  # fmt: skip
        if head == "VALUED":
            return SECRET_UUID
        return f"{self.folder}/{named[head]}{slash}{tail}" if head in named else word

    def state(self) -> dict[str, object]:
        """Return all there is, but for blocks, and for empty folders of ours: they are no state."""
        found = self.picture(times=False)
        return {
            name: row[:-1] for name, row in found.items()
            if not name.startswith("root") or row[3] is not None
        }  # fmt: skip

    def picture(self, *, times: bool) -> dict[str, tuple[object, ...]]:
        """Return all there is, but for locks; what is random looks the same each time."""
        found: dict[str, tuple[object, ...]] = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if name.startswith("root/run/storagectl/lock"):
                continue
            if not times and name in ("root/run", "root/run/storagectl"):
                continue  # locks are in there
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
                if name.startswith("root"):
                    content = UUID.sub("UUID", content.decode())
                elif name.endswith("l.img"):
                    content = len(content)  # its keys are random
            allocated = status.st_blocks * 512 >= status.st_size
            found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, content, allocated)
            if times:
                found[name] += (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return found


def pool(name: str, more: str = "", uuid: str = "") -> str:
    named = f"<uuid>{uuid}</uuid>" if uuid else ""
    return (
        f"<pool type='dir'><name>{name}</name>{named}<target><path>TARGET{name}</path>{more}"
        "</target></pool>"
    )


def secret(ephemeral: str) -> str:
    return (
        f"<secret ephemeral='{ephemeral}'><uuid>{SECRET_UUID}</uuid>"
        "<usage type='volume'><volume>/v</volume></usage></secret>"
    )


def changing() -> set[str]:
    """Return the commands that say of themselves that they change something."""
    found = {name: find(name) for name in COMMANDS}
    return {name for name, command in found.items() if command is not None and command.changes}


def make_editor(folder: Path) -> str:
    """Return an editor that changes the definition that it is given."""
    editor = folder / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/<capacity.*//; s/pool-p</pool-q</' \"$1\"\n")
    editor.chmod(0o755)
    return str(editor)
