"""S51, S54, S56, S46: SIGKILL before and after each change of each changing command, all types.

The machine is one of files (`fakemachine`).  After each kill all is as before the command or as
after it, everything that runs is known, and the same command mends what there is to mend.
STORAGECTL_CRASHES is how many kills each case has; `all` is all of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import crashing
import pytest
from fakemachine import IQN, MIB, NODE, PORTAL, WWNN, WWPN, Machine
from inprocess import Answer, storagectl

from storagectl import backends
from storagectl.backends.mpath import Multipath
from storagectl.commands import COMMANDS, find
from storagectl.host import bulk
from storagectl.store import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASKED = os.environ.get("STORAGECTL_CRASHES", "1")
WANTED = None if ASKED == "all" else int(ASKED)
UUID = "11111111-1111-4111-8111-111111111111"
OTHER = UUID.replace("1", "2")
SECRET = UUID.replace("1", "3")
# nothing of this is to wait for a disk
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

POOLS = {
    "dir": ("dir", "--target", "POOL"),
    "fs": ("fs", "--source-dev", "DEV/fs0", "--source-format", "ext4", "--target", "POOL"),
    "netfs": ("netfs", "--source-host", PORTAL, "--source-path", "/export", "--source-format",
              "nfs", "--target", "POOL"),
    "logical": ("logical", "--source-name", "vg", "--source-dev", "DEV/pv0", "--source-dev",
                "DEV/pv1"),
    "disk": ("disk", "--source-dev", "DEV/disk0", "--source-format", "gpt", "--target", "/dev"),
    "iscsi": ("iscsi", "--source-host", PORTAL, "--source-dev", IQN, "--source-initiator",
              "iqn.2026-11.example:me", "--target", "/dev"),
    "scsi": ("scsi", "--adapter-name", "host7", "--target", "/dev"),
    "vhba": ("scsi", "--adapter-wwnn", WWNN, "--adapter-wwpn", WWPN, "--target", "/dev"),
    "mpath": ("mpath", "--target", "/dev/mapper"),
}  # fmt: skip
FILES = ("dir", "fs", "netfs")
FOLDERS_MADE = ("dir", "netfs")
CARVED = ("logical", "disk")
BUILT = ("dir", "fs", "netfs", "logical", "disk")
DATA = (*FILES, *CARVED)


class Case(NamedTuple):
    """A command, what there is before it, and the types it is tried with.

    `stages` are defined, built, started, filled.  With `in_place` a device is overwritten,
    which holds some of both while that lasts; with `between` what is made need not be the
    one or the other, as a pool that is half built.
    """

    words: str
    stage: str = "filled"
    types: tuple[str, ...] = tuple(POOLS)
    in_place: bool = False
    between: bool = False


CASES = [
    Case("pool-define FILE", "empty"),
    Case("pool-define FILE", "defined"),
    Case("pool-define-as p AS", "empty"),
    Case("pool-edit p", "defined"),
    Case("pool-autostart p", "defined"),
    Case("pool-autostart p --disable", "marked"),
    Case("pool-undefine p", "marked"),
    Case("pool-undefine p --forget", "filled", between=True),
    Case("pool-build p", "defined", BUILT, between=True),
    Case("pool-build p --overwrite", "defined", ("fs", "logical", "disk"), between=True),
    Case("pool-start p", "stopped"),
    Case("pool-start p --build --overwrite", "defined", ("fs", "logical", "disk"), between=True),
    Case("pool-start p --build", "defined", FOLDERS_MADE, between=True),
    Case("pool-create FILE", "unknown"),
    Case("pool-create-as p AS", "unknown"),
    Case("pool-create-as p AS --build --overwrite", "empty", ("logical", "disk"), between=True),
    Case("pool-destroy p"),
    Case("pool-destroy p", "transient"),
    Case("pool-stop p"),
    Case("pool-refresh p"),
    Case("pool-delete p", "built", BUILT, between=True),
    Case("autostart", "marked"),
    Case("import LIBVIRT", "empty", ("dir", "disk"), between=True),
    Case("apply APPLIED --build", "empty", ("dir",), between=True),
    Case("secret-define SECRET", "empty", ("dir",)),
    Case("secret-define FLEETING", "secret", ("dir",)),
    Case("secret-define SECRET", "fleeting", ("dir",)),
    Case("secret-set-value UUID --file DATA --plain", "secret", ("dir",)),
    Case("secret-undefine UUID", "secret", ("dir",), between=True),
    Case("vol-create p VOLUME", types=DATA),
    Case("vol-create p FOLDER", types=("dir",)),
    Case("vol-create-as p NEW 2M", types=DATA),
    Case("vol-create-from p VOLUME OLD --inputpool p", types=(*FILES, "logical")),
    Case("vol-clone OLD NEW p", types=(*FILES, "logical")),
    Case("vol-create-from p VOLUME OLD --inputpool p", types=("disk",), between=True),
    Case("vol-clone OLD NEW p", types=("disk",), between=True),
    Case("vol-delete OLD p", types=DATA),
    Case("vol-rename OLD renamed p", types=(*FILES, "logical")),
    Case("vol-resize OLD 3M p", types=(*FILES, "logical")),
    Case("vol-resize OLD 3M p --allocate", types=FILES),
    Case("vol-upload OLD DATA p", types=FILES),
    Case("vol-upload OLD DATA p", types=CARVED, in_place=True),
    Case("vol-download OLD OUT p", types=DATA),
    Case("vol-wipe OLD p", types=DATA, in_place=True),
    Case("vol-wipe SPARSE p", types=("dir",), in_place=True),
]  # fmt: skip


class Scene:
    """The machine, the program's files, and what a case needs, below one folder."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.place = folder / "now"
        self.place.mkdir()
        self.saved = folder / "saved"
        self.machine = Machine(self.place / "machine")
        self.root = self.place / "root"
        self.pool = self.place / "pool"
        self.files = self.place / "files"
        self.files.mkdir()
        (self.files / "data").write_bytes(b"new" * 1000)
        (self.files / "out").write_text("as before")
        editor = self.files / "editor"
        editor.write_text("#!/bin/sh\n")

    def prepare(self, case: Case) -> None:
        """Come to the stage that a case begins at."""
        self.write_documents()
        stage = case.stage
        self.pool.mkdir()
        if stage == "secret" or stage == "fleeting":
            self.ok("secret-define", self.files / f"{stage}.xml")
            self.ok("secret-set-value", SECRET, "--file", self.files / "out", "--plain")
        if stage in ("empty", "secret", "fleeting"):
            return
        self.ok("pool-define", self.files / "p.xml")
        if stage == "defined":
            return
        if self.kind in BUILT:
            flags = ["--overwrite"] if self.kind in ("fs", "logical", "disk") else []
            self.ok("pool-build", "p", *flags)
        if stage == "marked":
            self.ok("pool-autostart", "p")
        if stage in ("built", "marked"):
            return
        self.ok("pool-start", "p")
        if self.kind in DATA:
            for name in (self.name("old"), self.name("kept")):
                self.ok("vol-create-as", "p", name, f"{2 * MIB}")
                self.ok("vol-upload", name, self.files / "data", "p")
            if self.kind in FILES:
                self.ok("vol-create-as", "p", "sparse", f"{2 * MIB}", "--allocation", "0")
        if stage in ("stopped", "unknown"):
            self.ok("pool-destroy", "p")
        if stage == "unknown":
            self.ok("pool-undefine", "p")
        if stage == "transient":
            self.ok("pool-destroy", "p")
            self.ok("pool-undefine", "p")
            self.ok("pool-create", self.files / "p.xml")

    def write_documents(self) -> None:
        document = self.ok("pool-define-as", "p", *self.fill(POOLS[self.kind]), "--print-xml")
        document = document.replace("</name>", f"</name><uuid>{UUID}</uuid>", 1)
        if self.kind == "dir":
            changed = document.replace("</target>", "<permissions><mode>0751</mode>"
                                       "</permissions></target>")  # fmt: skip
        else:
            changed = document
        libvirt = self.files / "libvirt"
        (libvirt / "autostart").mkdir(parents=True)
        (libvirt / "p.xml").write_text(document)
        (libvirt / "autostart/p.xml").symlink_to("../p.xml")
        target = f"<target><path>{self.place}/q</path></target>"
        (libvirt / "q.xml").write_text(
            f"<pool type='dir'><name>q</name><uuid>{OTHER}</uuid>{target}</pool>"
        )
        volume = f"<volume><name>{self.name('new')}</name><capacity unit='MiB'>2</capacity>"
        secret = (
            "<secret ephemeral='{}' private='no'><uuid>" + SECRET + "</uuid>"
            "<usage type='volume'><volume>/v</volume></usage></secret>"
        )
        for name, text in (
            ("p", document), ("changed", changed),
            ("applied", document.replace("</pool>", f"<volumes>{volume}</volume></volumes>"
                                         "</pool>")),
            ("volume", f"{volume}</volume>"),
            ("folder", "<volume><name>folder</name><capacity>0</capacity><target><format"
                       " type='dir'/><permissions><mode>0750</mode></permissions></target>"
                       "</volume>"),
            ("secret", secret.format("no")), ("fleeting", secret.format("yes")),
        ):  # fmt: skip
            (self.files / f"{name}.xml").write_text(text)

    def name(self, which: str) -> str:
        """Return what a volume is called: partitions have no names of their own."""
        number = {"old": 1, "kept": 2, "new": 3}.get(which)
        return f"disk0p{number}" if self.kind == "disk" and number else which

    def fill(self, words: tuple[str, ...] | list[str]) -> list[str]:
        return [w.replace("POOL", str(self.pool)).replace("DEV", str(self.machine.dev))
                for w in words]  # fmt: skip

    def words(self, case: Case) -> list[str]:
        words: list[str] = []
        places = {
            "FILE": "changed.xml" if case.stage == "defined" else "p.xml", "LIBVIRT": "libvirt",
            "APPLIED": "applied.xml", "SECRET": "secret.xml", "FLEETING": "fleeting.xml",
            "VOLUME": "volume.xml", "FOLDER": "folder.xml", "DATA": "data", "OUT": "out",
        }  # fmt: skip
        for word in case.words.split():
            if word == "AS":
                words += self.fill(POOLS[self.kind])
            elif word in places:
                words.append(str(self.files / places[word]))
            elif word in ("OLD", "NEW", "SPARSE"):
                words.append(self.name(word.lower()))
            else:
                words.append(SECRET if word == "UUID" else word)
        return words

    # Running

    def ok(self, *words: object) -> str:
        answer = storagectl(self.root, *map(str, words))
        assert (answer.status, answer.stderr) == (0, ""), (words, answer)
        return answer.stdout

    def run(self, *words: str) -> Answer:
        """Run a command as on a terminal, where errors have hints."""
        return storagectl(self.root, *words, hints=True)

    def save(self) -> None:
        shutil.copytree(self.place, self.saved, symlinks=True, copy_function=copy)

    def restore(self) -> None:
        shutil.rmtree(self.place)
        shutil.copytree(self.saved, self.place, symlinks=True, copy_function=copy)

    # What is there

    def picture(self, *, contents: bool = True) -> dict[str, object]:
        """Return what users see: pools, what runs, volumes with their bytes, secrets."""
        found: dict[str, object] = {
            "pools": self.ok("-q", "pool-list", "--all", "--name", "--persistent"),
            "transient": self.ok("-q", "pool-list", "--all", "--transient", "--name"),
            "active": self.ok("-q", "pool-list", "--name"),
            "marked": self.ok("-q", "pool-list", "--all", "--autostart", "--name"),
            "secrets": self.secrets(),
            "out": (self.files / "out").read_bytes(),
        }
        config = self.root / "etc/storagectl/storage"
        for path in sorted(config.glob("*.xml")):
            # what a start settles is the same before
            text = repr(parsed(path.read_bytes()).replace(uuid=""))
            text = text.replace("managed=None", "managed='yes'").replace("port=0", "port=3260")
            found[path.name] = text
        if "p" in str(found["active"]).split():
            found["volumes"] = self.volumes(contents=contents)
        return found

    def volumes(self, *, contents: bool) -> dict[str, object]:
        found: dict[str, object] = {}
        for line in self.ok("-q", "vol-list", "p").splitlines():
            name, path = line.split()[:2]
            if path.startswith(NODE) or path == f"/dev/mapper/../{NODE.removeprefix('/dev/')}map":
                found[name] = None
            elif Path(path).is_dir():
                found[name] = oct(Path(path).stat().st_mode)
            else:
                content = Path(path).read_bytes()
                found[name] = (len(content), content if contents else None)
        return found

    def secrets(self) -> dict[str, object]:
        uuids = [line.split()[0] for line in self.ok("-q", "secret-list").splitlines()]
        return {
            uuid: (
                self.ok("secret-dumpxml", uuid),
                storagectl(self.root, "secret-get-value", uuid).stdout,
            )
            for uuid in uuids
        }

    def runs(self) -> bool:
        """Tell whether the machine runs what only a started pool has it run."""
        state = self.machine.load()
        return bool(state["mounts"] or self.machine.sessions() or self.machine.vhba_is_there())


def copy(source: str, target: str) -> None:
    """Copy a file, holes and all."""
    with open(source, "rb") as old, open(target, "wb") as new:
        bulk.complete(old.fileno(), new.fileno(), 0)
    shutil.copymode(source, target)


@pytest.fixture
def scene_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Scene]]:
    folders: list[str] = []

    def make(kind: str) -> Scene:
        monkeypatch.undo()
        monkeypatch.setenv("EDITOR", "sed -i s/0711/0751/")
        folders.append(tempfile.mkdtemp(prefix="crash-", dir=MEMORY))
        scene = Scene(Path(folders[-1]), kind)
        scene.machine.install(monkeypatch)
        monkeypatch.setattr(Multipath, "is_active", lambda self: True)
        return scene

    yield make
    for folder in folders:
        shutil.rmtree(folder)


def check(scene: Scene, case: Case, before: dict[str, object], after: dict[str, object]) -> None:
    """Assert what must hold after a kill, and that one more run of the command mends the rest."""
    config, markers = scene.root / "etc/storagectl/storage", scene.root / "run/storagectl/storage"
    crashing.documents((config, markers))
    if case.between and "p" in scene.ok("-q", "pool-list", "--name").split():
        crashing.mend(scene.run, scene.run("vol-list", "p"))
    exact = not case.in_place
    now = scene.picture(contents=exact)
    if not case.between:
        assert now in (without(before, exact), without(after, exact)), changed(now, before, after)
    if scene.runs() and "--forget" not in case.words:
        assert "p" in str(now["active"]).split(), "what runs is forgotten"
    words = scene.words(case)
    crashing.repeat(scene.run, words)
    done = scene.picture()
    assert done == after, changed(done, after)
    assert not crashing.unfinished(scene.place), crashing.unfinished(scene.place)
    live(scene, done)
    assert scene.picture() == after or "p" not in str(after["pools"]), "stop and start"


def without(picture: dict[str, object], contents: bool) -> dict[str, object]:
    """Return a picture, without the bytes of volumes unless those are wanted."""
    if contents or "volumes" not in picture:
        return picture
    volumes = picture["volumes"]
    assert isinstance(volumes, dict)
    sizes = {n: (v[0], None) if isinstance(v, tuple) else v for n, v in volumes.items()}
    return {**picture, "volumes": sizes}


def changed(now: dict[str, object], *others: dict[str, object]) -> str:
    """Return in what a picture differs from each of others."""
    keys = {key for other in others for key in {*now, *other} if now.get(key) != other.get(key)}
    return repr({key: [str(p.get(key))[:300] for p in (now, *others)] for key in sorted(keys)})


def live(scene: Scene, done: dict[str, object]) -> None:
    """Assert that the pool can be stopped and started, and leaves nothing behind."""
    if "p" in str(done["active"]).split():
        scene.ok("pool-destroy", "p")
        assert not scene.runs(), "something runs on"
        if "p" in str(done["pools"]).split():
            scene.ok("pool-start", "p")


@pytest.mark.parametrize("kind", POOLS)
def test_s51_killed_at_each_change(kind: str, scene_of: Callable[[str], Scene]) -> None:
    """S51, S54, S56, S46."""
    tally = crashing.Tally(f"SIGKILL, {kind}")
    for seed, case in enumerate(CASES):
        if kind not in case.types:
            continue
        scene = scene_of(kind)
        scene.prepare(case)
        scene.save()
        words = scene.words(case)
        before = scene.picture()
        usual = crashing.run(scene.root, *words)
        assert (usual.status, usual.stderr) == (0, ""), (case, usual)
        after = scene.picture()
        for number in crashing.points(len(usual.changes), WANTED, 7 * seed):
            scene.restore()
            name = usual.changes[number] if number < len(usual.changes) else "the end"
            killed = crashing.run(scene.root, *words, kill_before=number)
            where = f"{case.words} ({case.stage}) before {number} {name}"
            with tally.trying(where, done=name != "the end"):
                assert killed.status == (0 if name == "the end" else -9), killed
                check(scene, case, before, after)
    tally.check()


def test_every_changing_command_is_killed() -> None:
    changing = {name for name in COMMANDS if getattr(find(name), "changes", False)}
    assert changing == {case.words.split()[0] for case in CASES}


def test_every_type_is_killed() -> None:
    served = {name for name, row in backends.POOL_TYPES.items() if row.module}
    assert served == {words[0] for words in POOLS.values()}
