"""Files of ours that somebody or something has damaged, and those of other versions.

Each affects its own pool: the others are listed and work, the file is named on stderr, and one
command mends it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tally
from inprocess import Answer, storagectl

from storagectl.host import Host
from storagectl.store import FORMAT, FORMAT_LINE

if TYPE_CHECKING:
    from collections.abc import Callable

UUID = "33333333-3333-4333-8333-{:012d}"
DAMAGED, OTHERS = "damaged files", "files of other versions"


class Area:
    """The pool `good` runs and has a volume; `bad` is the one whose file is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.config = self.root / "etc/storagectl/storage"
        self.markers = self.root / "run/storagectl/storage"
        self.secrets = self.root / "etc/storagectl/secrets"
        for number, name in enumerate(("good", "bad")):
            path = self.write(folder / f"{name}.xml", name, number)
            assert self.run("pool-define", path).status == 0
        self.ok("pool-start", "good", "--build")
        self.ok("vol-create-as", "good", "v", "1K")
        self.ok("pool-autostart", "good")

    def write(
        self, path: Path, name: str, number: int, *, prolog: str = "", more: str = ""
    ) -> Path:
        path.write_text(
            f"{prolog}<pool type='dir'><name>{name}</name><uuid>{UUID.format(number)}</uuid>{more}"
            f"<target><path>{self.folder}/{name}</path></target></pool>"
        )
        return path

    def run(self, *words: object) -> Answer:
        return storagectl(self.root, *map(str, words))

    def ok(self, *words: object) -> str:
        answer = self.run(*words)
        assert (answer.status, answer.stderr) == (0, ""), (words, answer)
        return answer.stdout

    def refused(self, *words: object) -> str:
        answer = self.run(*words)
        assert answer.status == 1, (words, answer)
        errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 2, (words, answer)
        return answer.stderr

    def check_the_others(self, path: Path) -> None:
        """The good pool is listed and works; where it is looked for, the bad file is named."""
        for words in (
            ["pool-list", "--all"], ["pool-list", "--all", "--details"], ["pool-list", "--json"],
            ["pool-list", "--uuid"], ["status"],
        ):  # fmt: skip
            answer = self.run(*words)
            assert answer.status == 0, answer
            assert ("good" if "--uuid" not in words else UUID.format(0)) in answer.stdout
            named = answer.stdout if words == ["status"] else answer.stderr
            assert path.name.removesuffix(".xml") in named, (words, answer)
            if words != ["status"]:
                assert str(path) in answer.stderr, (words, answer)
        for words in (
            ["pool-info", "good"], ["vol-list", "good"], ["vol-info", "v", "good"],
            ["vol-create-as", "good", "w", "1K"], ["vol-delete", "w", "good"],
            ["pool-refresh", UUID.format(0)], ["vol-path", "v", "good"], ["autostart"],
            ["pool-destroy", "good"], ["pool-autostart", "good", "--disable"],
            ["pool-start", "good"], ["pool-autostart", "good"], ["secret-list"],
        ):  # fmt: skip
            answer = self.run(*words)
            assert answer.status == 0, (words, answer)
            assert not re.search("^error: ", answer.stderr, re.M)


@pytest.fixture
def area(tmp_path: Path) -> Area:
    return Area(tmp_path)


# Definitions


def as_text(text: str | bytes) -> Callable[[Path], object]:
    data = text.encode() if isinstance(text, str) else text
    return lambda path: path.write_bytes(data)


def as_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def cut(path: Path) -> None:
    path.write_bytes(Path(f"{path}.good").read_bytes()[:-20])


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def renamed(path: Path) -> None:
    path.write_text(Path(f"{path}.good").read_text().replace("<name>bad<", "<name>other<"))


def open_to_all(path: Path) -> None:
    path.write_bytes(Path(f"{path}.good").read_bytes())
    path.chmod(0o666)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "R01 rubbish": as_text("rubbish"),
    "R02 empty": as_text(""),
    "R03 cut short": cut,
    "R04 a FIFO": lambda path: os.mkfifo(path),
    "R05 a socket": as_socket,
    "R06 a link to nothing": link("nowhere"),
    "R07 a link to a device without end": link("/dev/zero"),
    "R08 a link to itself": lambda path: path.symlink_to(path.name),
    "R09 another document": as_text("<network><name>bad</name></network>"),
    "R10 another pool's name": renamed,
    "R11 an unknown type": as_text("<pool type='x'><name>bad</name></pool>"),
    "R12 not UTF-8": as_text(b"<pool type='dir'><name>bad\xff</name></pool>"),
    "R13 NUL bytes": as_text(bytes(4096)),
    "R14 a document type": as_text("<!DOCTYPE pool [<!ENTITY a 'b'>]><pool type='dir'/>"),
    "R15 nested deeply": as_text("<pool>" * 10_000),
    "R16 larger than any definition": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "R17 others may write it": open_to_all,
    "R18 a folder": lambda path: path.mkdir(),
}
UNLISTED = ("R06 a link to nothing",)  # as if it were not there


@pytest.mark.parametrize("mend", ["pool-define", "pool-undefine"])
@pytest.mark.parametrize("case", DAMAGES)
@tally.counted(DAMAGED)
def test_rot_of_a_definition(area: Area, case: str, mend: str) -> None:
    path = area.config / "bad.xml"
    os.rename(path, f"{path}.good")
    DAMAGES[case](path)
    if case not in UNLISTED:
        area.check_the_others(path)
    answer = area.run("pool-info", "bad")
    assert answer.status == 1
    assert "Traceback" not in answer.stderr
    if case == "R18 a folder":
        assert "Is a directory" in area.refused("pool-undefine", "bad")
        path.rmdir()
    words = ["bad"] if mend == "pool-undefine" else [area.folder / "bad.xml"]
    expected = 1 if case in ("R18 a folder", *UNLISTED) and mend == "pool-undefine" else 0
    assert area.run(mend, *words).status == expected
    path.unlink(missing_ok=True) if case in UNLISTED and expected else None
    names = ["bad", "good"] if mend == "pool-define" else ["good"]
    assert area.ok("pool-list", "--all", "--name").split() == names
    assert area.ok("doctor", "good")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
@tally.counted(DAMAGED)
def test_rot_r19_a_definition_that_cannot_be_read(
    area: Area, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = area.config / "bad.xml"
    real = Host.read_file

    def read(host: Host, place: str) -> bytes:
        if place == str(path):
            raise OSError(number, os.strerror(number))
        return real(host, place)

    with monkeypatch.context() as patch:
        patch.setattr(Host, "read_file", read)
        area.check_the_others(path)
        assert os.strerror(number) in area.refused("pool-info", "bad")
        assert area.run("pool-undefine", "bad").status == 0
    assert area.ok("pool-list", "--all", "--name").split() == ["good"]


@tally.counted(DAMAGED)
def test_rot_r20_two_definitions_with_one_uuid(area: Area) -> None:
    """Neither is taken for the other: by its UUID no pool is changed, by its name each is."""
    twin = area.write(area.config / "twin.xml", "twin", 1)
    area.check_the_others(twin)
    stderr = area.run("pool-list", "--all").stderr
    assert stderr == f"warning: {twin}: pool 'bad' has the same UUID {UUID.format(1)}\n"
    for words in (["pool-undefine"], ["pool-start", "--build"], ["pool-info"]):
        said = area.refused(*words, UUID.format(1))
        assert f"pools 'bad', 'twin' have the same UUID {UUID.format(1)}" in said
    assert area.run("pool-undefine", "twin").status == 0
    assert area.ok("pool-name", UUID.format(1)).strip() == "bad"


# Markers and links


@pytest.mark.parametrize("case", [case for case in DAMAGES if case not in UNLISTED])
@tally.counted(DAMAGED)
def test_rot_of_a_marker(area: Area, case: str) -> None:
    """A pool that runs is known to run, and can be stopped, with what its definition says."""
    area.ok("pool-start", "bad", "--build")
    path = area.markers / "bad.xml"
    os.rename(path, f"{path}.good")
    DAMAGES[case](path)
    answer = area.run("pool-list", "--name")
    assert answer.stdout.split() == ["bad", "good"]
    assert str(path) in answer.stderr
    assert area.run("vol-list", "bad").status == 0
    assert area.run("vol-list", "good").status == 0
    if case == "R18 a folder":
        path.rmdir()
        path.touch()
    assert area.run("pool-destroy", "bad").status == 0
    area.ok("pool-start", "bad")
    assert area.ok("pool-list", "--name").split() == ["bad", "good"]


@tally.counted(DAMAGED)
def test_rot_r21_a_broken_marker_of_a_transient_pool(area: Area) -> None:
    path = area.markers / "gone.xml"
    path.write_text("rubbish")
    area.check_the_others(path)
    assert area.run("pool-undefine", "gone").status == 0
    assert not path.exists()


@tally.counted(DAMAGED)
def test_rot_r22_a_link_that_leads_nowhere_starts_nothing(area: Area) -> None:
    """Nor does a new pool of that name inherit it."""
    area.ok("pool-autostart", "bad")
    (area.config / "bad.xml").unlink()
    area.ok("autostart")
    assert "autostart-dangling" in area.run("doctor", "--json").stdout
    area.ok("pool-define", area.folder / "bad.xml")
    assert area.ok("pool-info", "bad").split("Autostart:")[1].split()[0] == "no"


# Secrets


@pytest.mark.parametrize("mend", ["secret-define", "secret-undefine"])
@pytest.mark.parametrize("case", [case for case in DAMAGES if case not in UNLISTED])
@tally.counted(DAMAGED)
def test_rot_of_a_secret(area: Area, case: str, mend: str) -> None:
    documents = []
    for number in (1, 2):
        document = area.folder / f"secret{number}.xml"
        document.write_text(
            f"<secret><uuid>{UUID.format(number)}</uuid><description>bad</description>"
            f"<usage type='iscsi'><target>t{number}</target></usage></secret>"
        )
        area.ok("secret-define", document)
        documents.append(document)
    uuid = UUID.format(1)
    path = area.secrets / f"{uuid}.xml"
    os.rename(path, f"{path}.good")
    DAMAGES[case](path)
    if case == "R10 another pool's name":
        path.write_text(Path(f"{path}.good").read_text().replace(uuid, UUID.format(3)))
    answer = area.run("secret-list")
    assert answer.status == 0
    assert UUID.format(2) in answer.stdout
    assert uuid not in answer.stdout
    assert str(path) in answer.stderr
    assert area.run("secret-dumpxml", UUID.format(2)).status == 0
    if case == "R18 a folder":
        assert "Is a directory" in area.refused("secret-undefine", uuid)
        path.rmdir()
        path.touch()
    words = [uuid] if mend == "secret-undefine" else [documents[0]]
    assert area.run(mend, *words).status == 0
    assert (uuid in area.ok("secret-list")) == (mend == "secret-define")


# Versions


NEWER = FORMAT_LINE.replace(f'"{FORMAT}"', f'"{FORMAT + 1}"')
UNKNOWN = "<compression level='9'><window>1</window></compression>"


@tally.counted(OTHERS)
def test_r30_an_older_programs_files_are_read_and_rewritten_with_the_next_change(
    area: Area,
) -> None:
    """Those of storagectl before there were formats, and of libvirt, have no such line."""
    path = area.write(area.config / "bad.xml", "bad", 1)
    assert "storagectl" not in path.read_text()
    assert f"<uuid>{UUID.format(1)}</uuid>" in area.ok("pool-dumpxml", "bad")
    area.ok("pool-start", "bad", "--build")
    assert "storagectl" not in path.read_text()
    assert FORMAT_LINE in (area.markers / "bad.xml").read_text()
    area.ok("pool-define", area.folder / "bad.xml")
    assert FORMAT_LINE in path.read_text()
    assert FORMAT_LINE not in area.ok("pool-dumpxml", "bad")


@tally.counted(OTHERS)
def test_r31_the_line_is_none_of_the_definition(area: Area) -> None:
    """A program that does not know it, such as libvirt, passes over it: it is no element."""
    from lxml import etree

    root = etree.fromstring((area.config / "bad.xml").read_bytes())
    assert root.tag == "pool"
    assert area.run("pool-define", area.config / "bad.xml", "--validate").status == 0


CHANGES: list[list[object]] = [
    ["pool-start", "bad"], ["pool-build", "bad"], ["pool-delete", "bad"], ["pool-undefine", "bad"],
    ["pool-autostart", "bad"],
]  # fmt: skip


@pytest.mark.parametrize("words", CHANGES, ids=lambda words: words[0])
@tally.counted(OTHERS)
def test_r32_a_newer_programs_definition_is_read_and_kept_as_it_is(
    area: Area, words: list[object]
) -> None:
    path = area.write(area.config / "bad.xml", "bad", 1, prolog=NEWER, more=UNKNOWN)
    before = path.read_bytes()
    assert area.ok("pool-list", "--all", "--name").split() == ["bad", "good"]
    assert f"<uuid>{UUID.format(1)}</uuid>" in area.ok("pool-dumpxml", "bad")
    said = f"'{path}' has format {FORMAT + 1}, of a newer storagectl; this one knows {FORMAT}\n"
    assert said in area.refused(*words)
    assert said in area.refused("pool-define", area.folder / "bad.xml")
    assert path.read_bytes() == before
    assert not (area.folder / "bad").exists()
    area.ok("pool-start", "--if-inactive", "good")
    assert area.run("pool-undefine", "--forget", "bad").status == 0
    assert not path.exists()


@tally.counted(OTHERS)
def test_r33_a_pool_that_a_newer_program_has_started(area: Area) -> None:
    area.ok("pool-start", "bad", "--build")
    area.ok("vol-create-as", "bad", "v", "1K")
    path = area.write(area.markers / "bad.xml", "bad", 1, prolog=NEWER, more=UNKNOWN)
    assert "v" in area.ok("-q", "vol-list", "bad").split()
    area.ok("vol-download", "v", area.folder / "copy", "bad")
    lines: list[list[Any]] = [
        ["pool-destroy", "bad"], ["vol-create-as", "bad", "w", "1K"], ["vol-delete", "v", "bad"],
        ["vol-wipe", "v", "bad"], ["vol-upload", "v", area.folder / "copy", "bad"],
        ["vol-rename", "v", "x", "bad"], ["vol-clone", "v", "x", "bad"],
        ["vol-resize", "v", "2K", "bad"],
    ]  # fmt: skip
    for words in lines:
        assert f"'{path}' has format {FORMAT + 1}" in area.refused(*words), words
    assert os.listdir(area.folder / "bad") == ["v"]


@tally.counted(OTHERS)
def test_r34_what_this_version_does_not_know_is_passed_over(area: Area) -> None:
    """A definition of this format with more in it, as of libvirt: it works, as with virsh."""
    path = area.write(area.config / "bad.xml", "bad", 1, prolog=FORMAT_LINE, more=UNKNOWN)
    area.ok("pool-start", "bad", "--build")
    area.ok("pool-destroy", "bad")
    assert UNKNOWN in path.read_text()


@tally.counted(OTHERS)
def test_r35_a_newer_programs_secret(area: Area) -> None:
    document = area.folder / "secret.xml"
    document.write_text(f"<secret><uuid>{UUID.format(1)}</uuid></secret>")
    area.ok("secret-define", document)
    path = area.secrets / f"{UUID.format(1)}.xml"
    assert path.read_text().startswith(FORMAT_LINE)
    path.write_text(NEWER + path.read_text().removeprefix(FORMAT_LINE))
    area.ok("secret-dumpxml", UUID.format(1))
    value = area.folder / "value"
    value.write_text("c2VjcmV0")
    setting = ["secret-set-value", UUID.format(1), "--file", value]
    for words in (["secret-define", document], setting):
        assert f"'{path}' has format {FORMAT + 1}" in area.refused(*words)
    assert path.read_text().startswith(NEWER)
