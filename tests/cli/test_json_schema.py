"""Every command answers in JSON as storagectl/schemas/output-1.json says, also when it fails.

A new command needs lines in LINES, and its answer in the schema.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from answers import SCHEMA, check, document_of
from inprocess import storagectl

from storagectl import events
from storagectl.commands import COMMANDS, find
from storagectl.commands.command import option_name
from storagectl.commands.document import error_facts
from storagectl.commands.pool_event import show_as_json
from storagectl.errors import StorageError, ToolFailed, code
from storagectl.model import Source
from storagectl.pools import Pools

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).resolve().parents[2]
UUID = "b5c0a2f1-6a1c-4c0c-9f7e-3f8f2f1d2a10"

# What each command is tried with, one after the other in the folder of `root`: those with !
# in front fail.  Every command of the program must be here.
LINES: dict[str, tuple[str, ...]] = {
    "apply": (
        "apply --diff apply.xml",
        "! apply --diff --detailed-exitcode apply.xml",
        "apply apply.xml",
        "apply apply.xml",
        "apply --diff --detailed-exitcode apply.xml",
        "! apply pool.xml pool.xml",
        "! apply nosuch.xml",
        "! apply vol.xml",
    ),
    "autostart": (
        "autostart",
        "pool-autostart off",
        "! autostart --timing",
        "pool-build off",
        "autostart",
        "! autostart x",
    ),
    "cd": ("! cd /",),
    "connect": ("connect", "connect storage:///session --readonly", "! connect test:///default"),
    "doctor": ("doctor d", "! doctor", "! doctor off", "! doctor nosuch"),
    "echo": ("echo a b", "echo --shell 'a b'", "echo --err x", "! echo --bogus"),
    "exit": ("exit", "! exit now"),
    "find-storage-pool-sources": (
        "! find-storage-pool-sources dir",
        "! find-storage-pool-sources netfs",
        "! find-storage-pool-sources netfs nofile",
    ),
    "find-storage-pool-sources-as": (
        "! find-storage-pool-sources-as disk",
        "! find-storage-pool-sources-as nosuch",
    ),
    "help": ("help", "help pool-list", "help pool", "! help nosuch"),
    "import": ("import --folder libvirt", "! import --folder .", "! import --folder nosuch"),
    "pool-autostart": (
        "pool-autostart d",
        "pool-autostart d --disable",
        "! pool-autostart nosuch",
        "! pool-autostart transient",
    ),
    "pool-build": (
        "pool-build off",
        "! pool-build d",
        "pool-build d --if-inactive",
        "! pool-build nosuch",
    ),
    "pool-capabilities": ("pool-capabilities", "! pool-capabilities x"),
    "pool-create": (
        "pool-create pool.xml --build",
        "! pool-create pool.xml",
        "pool-create pool.xml --if-inactive",
        "! pool-create pool.xml --overwrite --no-overwrite",
    ),
    "pool-create-as": (
        "pool-create-as n dir --target {t}/n --build",
        "pool-create-as m dir --print-xml",
        "! pool-create-as o dir --target nowhere",
    ),
    "pool-define": ("pool-define pool.xml --validate", "pool-define d.xml", "! pool-define x"),
    "pool-define-as": (
        "pool-define-as n dir --target {t}/n",
        "pool-define-as n dir --target {t}/n --print-xml",
        "pool-define-as n dir --target {t}/n --if-missing",
        "pool-define-as all fs --source-dev /dev/x --source-format ext4 --target /all",
        "pool-define-as san iscsi --source-host h --source-dev iqn --target /dev/disk/by-path"
        " --auth-type chap --auth-username joe --secret-usage u --source-initiator i",
        "pool-define-as hba scsi --adapter-wwnn 20000000c9831b4b --adapter-wwpn 10000000c9831b4b"
        " --target /dev/disk/by-id",
        "! pool-define-as n2 dir --target {t}/n",
        "! pool-define-as n",
    ),
    "pool-delete": ("pool-delete empty", "! pool-delete d", "! pool-delete nosuch"),
    "pool-destroy": ("pool-destroy d", "pool-destroy transient", "! pool-destroy d"),
    "pool-dumpxml": (
        "pool-dumpxml d",
        "pool-dumpxml off --inactive",
        "pool-dumpxml d --xpath //name",
        "pool-dumpxml d --xpath //name --wrap",
        "pool-dumpxml d --xpath ///",
        "! pool-dumpxml d --xpath 1",
        "! pool-dumpxml nosuch",
    ),
    "pool-edit": ("pool-edit d", "! pool-edit nosuch"),
    "pool-event": (
        "pool-event --list",
        "! pool-event --event lifecycle --timeout 1",
        "! pool-event",
    ),
    "pool-exists": ("pool-exists d", "! pool-exists nosuch", "! pool-exists"),
    "pool-info": ("pool-info d", "pool-info off --bytes", "! pool-info nosuch", "! pool-info"),
    "pool-list": (
        "pool-list",
        "pool-list --all --details",
        "--timing pool-list --inactive --name",
        "pool-list --type disk",
        "pool-list --all --filter active=no --sort -name",
        "! pool-list --format name",
        "! pool-list --type nosuch",
        "! pool-list --all --inactive",
    ),
    "pool-name": (f"pool-name {UUID}", "! pool-name d", f"! pool-name {UUID[::-1]}"),
    "pool-refresh": ("pool-refresh d", "! pool-refresh off", "pool-refresh off --if-active"),
    "pool-start": (
        "pool-start off --build",
        "! pool-start off",
        "pool-start off --if-inactive",
        "! pool-start nosuch",
    ),
    "pool-stop": (
        "pool-stop d",
        "! pool-stop d",
        "pool-stop d --if-active",
        "pool-stop transient",
    ),
    "pool-undefine": (
        "pool-undefine off",
        "! pool-undefine d",
        "! pool-undefine off",
        "pool-undefine off --if-exists",
        "pool-undefine d --forget",
    ),
    "pool-used-by": (
        "pool-used-by d",
        "pool-define-as n dir --target {t}/d/n",
        "pool-used-by d",
        "pool-used-by off",
        "! pool-used-by nosuch",
    ),
    "pool-uuid": ("pool-uuid d", "! pool-uuid nosuch"),
    "pwd": ("pwd", "! pwd x"),
    "quit": ("quit", "! quit now"),
    "secret-define": ("secret-define new.xml", "! secret-define pool.xml"),
    "secret-dumpxml": (
        f"secret-dumpxml {UUID}",
        f"secret-dumpxml {UUID} --xpath //uuid",
        "! secret-dumpxml x",
    ),
    "secret-get-value": (
        f"secret-set-value {UUID} --file pool.xml --plain",
        f"secret-get-value {UUID}",
        f"secret-get-value {UUID} --plain",
        "! secret-get-value x",
    ),
    "secret-list": (
        "secret-list",
        "secret-list --ephemeral",
        "secret-list --private",
        "! secret-list --sort x",
    ),
    "secret-set-value": (
        f"secret-set-value {UUID} --base64 Zm9v",
        f"! secret-set-value {UUID} --base64 Z",
        f"! secret-set-value {UUID}",
    ),
    "secret-undefine": (
        f"secret-undefine {UUID}",
        f"! secret-undefine {UUID}",
        f"secret-undefine {UUID} --if-exists",
    ),
    "status": (
        "status",
        "status d off --volumes",
        "! status nosuch",
        "! status --watch",
        "! status --watch=0",
    ),
    "uri": ("uri", "! --connect test:///default uri"),
    "vol-clone": (
        "vol-clone a c d",
        "vol-clone a e d --verify --capacity 1M",
        "vol-clone a f d --print-xml",
        "! vol-clone a c d",
        "vol-clone a c d --if-missing",
        "! vol-clone nosuch c d",
    ),
    "vol-create": ("vol-create d vol.xml", "! vol-create d vol.xml", "! vol-create off vol.xml"),
    "vol-create-as": (
        "vol-create-as d n 1M --allocation 0 --mode 0600",
        "vol-create-as d m 1M --print-xml",
        "! vol-create-as d n 1M",
        "vol-create-as d n 1M --if-missing",
        "! vol-create-as d o 1Q",
        "! vol-create-as nosuch n 1M",
    ),
    "vol-create-from": (
        "vol-create-from d vol.xml a d --verify",
        "vol-delete v d",
        "vol-create-from d vol.xml a d",
        "! vol-create-from d vol.xml a d",
        "vol-create-from d vol.xml a d --if-missing",
        "! vol-create-from d vol.xml nosuch",
    ),
    "vol-delete": (
        "vol-delete a d",
        "! vol-delete a d",
        "vol-delete a d --if-exists",
        "! vol-delete a",
    ),
    "vol-download": (
        "vol-download a out d",
        "vol-download a out d --verify --length 10",
        "! vol-download a nosuch/out d",
        "! vol-download nosuch out d",
    ),
    "vol-dumpxml": (
        "vol-dumpxml a d",
        "vol-dumpxml image d",
        "vol-dumpxml a d --xpath //key",
        "! vol-dumpxml nosuch d",
    ),
    "vol-exists": ("vol-exists a d", "! vol-exists nosuch d", "! vol-exists nosuch"),
    "vol-info": ("vol-info a d", "vol-info image d --bytes --physical", "! vol-info nosuch d"),
    "vol-key": ("vol-key a d", "! vol-key nosuch d"),
    "vol-list": (
        "vol-list d",
        "vol-list d --sort -capacity --filter capacity>1K",
        "! vol-list off",
        "! vol-list nosuch",
    ),
    "vol-name": ("vol-name {t}/d/a", "! vol-name {t}/d/nosuch"),
    "vol-path": ("vol-path a d", "! vol-path nosuch d"),
    "vol-pool": ("vol-pool {t}/d/a", "vol-pool {t}/d/a --uuid", "! vol-pool {t}/d/nosuch"),
    "vol-rename": ("vol-rename image z d", "! vol-rename image y d", "! vol-rename a b d"),
    "vol-resize": (
        "vol-resize a 1M d",
        "vol-resize a 1M d --delta",
        "! vol-resize a 1 d",
        "! vol-resize a -1 d",
    ),
    "vol-upload": (
        "vol-upload a pool.xml d",
        "vol-upload a pool.xml d --verify",
        "! vol-upload a vol.xml d --offset 1T",
        "! vol-upload a nosuch d",
    ),
    "vol-used-by": (
        "vol-used-by a d",
        "! vol-used-by nosuch d",
        "! vol-used-by a off",
    ),
    "vol-wipe": ("vol-wipe a d", "! vol-wipe a d --algorithm nosuch", "! vol-wipe nosuch d"),
}
# What has no data to answer with.
ANSWER_WITH_TEXT = ("help", "echo")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with pools, volumes, a secret and files of definitions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISUAL", "true")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"x" * 5000)
    (tmp_path / "d/image").write_bytes(qcow2())
    (tmp_path / "empty").mkdir()
    (tmp_path / "t").mkdir()
    (tmp_path / "libvirt").mkdir()
    (tmp_path / "pool.xml").write_text(pool_xml("new", tmp_path / "new"))
    (tmp_path / "libvirt/one.xml").write_text(pool_xml("one", tmp_path / "one"))
    (tmp_path / "apply.xml").write_text(
        "<storage>"
        + pool_xml("applied", tmp_path / "applied").replace("'>", "' build='yes'>", 1)
        + "<volume pool='applied'><name>v</name><capacity>6000</capacity></volume></storage>"
    )
    (tmp_path / "vol.xml").write_text("<volume><name>v</name><capacity>6000</capacity></volume>")
    (tmp_path / "d.xml").write_text(pool_xml("d", tmp_path / "d", f"<uuid>{UUID}</uuid>"))
    (tmp_path / "s.xml").write_text(
        f"<secret><uuid>{UUID}</uuid><description>ä</description>"
        "<usage type='iscsi'><target>t</target></usage></secret>"
    )
    (tmp_path / "new.xml").write_text("<secret ephemeral='yes' private='yes'/>")
    for line in (
        "pool-define d.xml",
        "pool-start d",
        f"pool-define-as off dir --target {tmp_path}/off",
        f"pool-define-as empty dir --target {tmp_path}/empty",
        f"pool-create-as transient dir --target {tmp_path}/t",
        "secret-define s.xml",
    ):
        assert storagectl(tmp_path / "root", *line.split()).status == 0
    return tmp_path


def pool_xml(name: str, target: Path, more: str = "") -> str:
    path = f"<target><path>{target}</path></target>"
    return f"<pool type='dir'><name>{name}</name>{more}{path}</pool>"


def qcow2() -> bytes:
    """Return the header of an empty image of 1 MiB with the backing file `a`."""
    header = b"QFI\xfb" + b"".join(
        number.to_bytes(size, "big")
        for number, size in (
            (3, 4), (104, 8), (1, 4), (16, 4), (1 << 20, 8), (0, 4), (1, 4), (196608, 8),
            (65536, 8), (1, 4), (0, 4), (0, 8), (0, 8), (0, 8), (0, 8), (4, 4), (104, 4),
        )
    )  # fmt: skip
    return header.ljust(104, b"\0")[:104] + b"a" + bytes(262144 - 105)


def words(line: str, root: Path) -> list[str]:
    return shlex.split(line.removeprefix("! ").replace("{t}", str(root)))


def test_every_command_is_here() -> None:
    assert set(LINES) == set(COMMANDS)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    named = [name for row in SCHEMA["$defs"]["answer"]["else"]["allOf"]
             for name in row["if"]["properties"]["command"]["enum"]]  # fmt: skip
    assert sorted(named) == sorted(COMMANDS)


@pytest.mark.parametrize("name", LINES)
def test_answers_are_as_the_schema_says(name: str, root: Path) -> None:
    for line in LINES[name]:
        given = words(line, root)
        answer = storagectl(root / "root", *given, "--json")
        document = document_of(answer)
        assert document["ok"] == (not line.startswith("! ")), (line, document)
        if document["error"] is not None:
            shown = document["error"]
            lines = filter(None, (shown["action"], shown["message"]))
            expected = "".join(f"error: {line}\n" for text in lines for line in text.split("\n"))
            assert answer.stderr.endswith(expected) or "\n" in shown["message"]
        if document["command"] is not None:
            assert document["command"] == next(word for word in given if word in COMMANDS)
        if document["ok"] and name not in ANSWER_WITH_TEXT:
            assert "text" not in document["result"], line
        assert ("seconds" in document) == (given[0] == "--timing")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str) -> None:
    document = document_of(storagectl(None, name, "--json", "--help"))
    assert document["result"]["text"] == storagectl(None, name, "--help").stdout.removesuffix("\n")


def takes_dry_run(name: str) -> bool:
    found = find(name)
    assert found is not None
    return any(option_name(param) == "dry-run" for param in found.params)


@pytest.mark.parametrize("name", list(filter(takes_dry_run, COMMANDS)))
def test_dry_runs_are_as_the_schema_says(name: str, root: Path) -> None:
    """A dry run answers with a script, or, as a line before the command's own is needed, fails."""
    found = []
    for line in LINES[name]:
        given = words(line, root)
        document = document_of(storagectl(root / "root", *given, "--json", "--dry-run"))
        if document["ok"] and name in given and "--print-xml" not in given:
            found.append(document["result"])
    assert found
    for result in found:
        assert result["did"] == "nothing"


def without_times(document: Any) -> Any:
    """Return a document without what may differ from one run to the next."""
    changing = r'"(atime|mtime|ctime)": "[^"]*"|"(available|allocation|capacity)": \d+'
    return re.sub(changing, "", json.dumps(document))


@pytest.mark.parametrize("line", ["pool-list --all", "vol-info a d", "pool-info nosuch", "foo"])
def test_before_and_after_the_command_and_by_variable(
    line: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = root / "root"
    after = document_of(storagectl(top, *line.split(), "--json"))
    before = document_of(storagectl(top, "--json", *line.split()))
    text = document_of(storagectl(top, f"{line} --json"))
    monkeypatch.setenv("STORAGECTL_OUTPUT", "json")
    variable = document_of(storagectl(top, *line.split()))
    shown = {without_times(found) for found in (after, before, text, variable)}
    assert len(shown) == 1
    monkeypatch.setenv("STORAGECTL_OUTPUT", "text")
    assert not storagectl(top, *line.split()).stdout.startswith("{")
    monkeypatch.setenv("STORAGECTL_OUTPUT", "yaml")
    status, out, err = storagectl(top, *line.split())
    assert (status, out) == (1, "")
    assert err == "error: STORAGECTL_OUTPUT is neither text nor json: 'yaml'\n"


@pytest.mark.parametrize("args", ["--json --bogus", "--json --log", "--json -k x pwd", "--json -h",
                                  "--json --version", "--json -V"])  # fmt: skip
def test_the_programs_own_options(args: str) -> None:
    document = document_of(storagectl(None, *args.split()))
    assert document["command"] is None
    if document["ok"]:
        plain = storagectl(None, *args.split()[1:]).stdout
        assert document["result"] == {"text": plain}


def test_several_commands_are_a_document_each(root: Path) -> None:
    given = "pool-uuid d; vol-path nosuch d; pwd"
    status, out, _ = storagectl(root / "root", "--json", given)
    documents = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [document["ok"] for document in documents] == [True, False, True]
    for document in documents:
        check(document)


def test_lines_of_stdin_are_a_document_each(root: Path) -> None:
    typed = "cd /\npwd\nnosuch\nconnect --readonly\npool-uuid d; quit\npwd\n"
    done = subprocess.run(
        [sys.executable, "-m", "storagectl", "--root", str(root / "root"), "--json"],
        input=typed, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    for document in documents:
        check(document)
    assert [document["command"] for document in documents] == [
        "cd", "pwd", None, "connect", "pool-uuid", "quit",
    ]  # fmt: skip
    assert documents[1]["result"] == {"folder": "/"}


def test_data_on_stdout_is_not_mixed_with_the_document(root: Path) -> None:
    top = root / "root"
    done = subprocess.run(
        [sys.executable, "-m", "storagectl", "--root", str(top), "vol-download", "a", "-", "d",
         "--json", "--verify"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    assert done.stdout == "x" * 5000
    document = json.loads(done.stderr)
    check(document)
    assert document["result"]["file"] is None
    assert document["result"]["verification"]["bytes"] == 5000
    status, out, err = storagectl(top, "vol-download", "nosuch", "-", "d", "--json")
    assert (status, out) == (1, "")
    *_, last = err.splitlines()
    check(json.loads(last))


def test_plain_output_is_what_it_was(root: Path) -> None:
    top = root / "root"
    assert storagectl(top, "--json", "pool-start", "off", "--build").status == 0
    assert storagectl(top, "pool-destroy", "off").stdout == "Pool off destroyed\n\n"


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Pools, "find_sources", lambda *_: [Source(name="vg", format="lvm2")])
    return


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("name", ["find-storage-pool-sources", "find-storage-pool-sources-as"])
def test_sources(name: str) -> None:
    document = document_of(storagectl(None, name, "logical", "--json"))
    (source,) = document["result"]["sources"]
    assert (source["name"], source["format"]) == ("vg", "lvm2")
    assert "<name>vg</name>" in document["result"]["xml"]


def test_events(capsys: pytest.CaptureFixture[str]) -> None:
    show_as_json(events.Event("d", UUID, events.STARTED))
    show_as_json(events.Event("d", UUID, events.REFRESHED))
    show_as_json(events.Event("d", UUID, events.CREATED, "v"))
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    for document in (first, second, third):
        check(document)
    assert (first["event"]["type"], first["event"]["detail"]) == ("lifecycle", "Started")
    assert (second["event"]["type"], second["event"]["detail"]) == ("refresh", None)
    assert (third["event"]["type"], third["event"]["volume"]) == ("volume", "v")


def test_results_tell_what_was_done(root: Path) -> None:
    top = root / "root"

    def result(line: str) -> Any:
        return document_of(storagectl(top, *words(line, root), "--json"))["result"]

    made = result("vol-create-as d n 1M")
    assert made["did"] == "created"
    assert made["volume"]["path"] == f"{root}/d/n"
    assert made["volume"]["capacity"] == 1 << 20
    assert result("vol-delete n d") == {
        "did": "deleted",
        "volume": {"name": "n", "pool": "d", "key": f"{root}/d/n", "path": f"{root}/d/n",
                   "type": "file"},
    }  # fmt: skip
    assert result("pool-destroy d")["pool"]["state"] == "inactive"
    assert result("pool-destroy transient")["pool"].keys() == {"name", "uuid", "type"}
    assert result("pool-undefine d")["pool"] == {"name": "d", "uuid": UUID, "type": "dir"}
    result(f"secret-set-value {UUID} --file pool.xml --plain")
    value = result(f"secret-get-value {UUID}")["base64"]
    assert base64.b64decode(value) == (root / "pool.xml").read_bytes()


def test_warnings(root: Path) -> None:
    top = root / "root"
    (top / "etc/storagectl/storage/off.xml").write_text("<pool")
    document = document_of(storagectl(top, "pool-list", "--json"))
    (warning,) = document["warnings"]
    assert warning.startswith("ignoring ")
    document = document_of(
        storagectl(top, *f"secret-set-value {UUID} --base64 Zm9v --json".split())
    )
    assert "insecure" in document["warnings"][-1]


def test_names_that_are_no_utf8(root: Path) -> None:
    (root / os.fsdecode(b"d/\xff")).touch()
    out = storagectl(root / "root", "vol-list", "d", "--json").stdout
    assert '"\\udcff"' in out
    assert out.isascii() or out.encode()
    names = [volume["name"] for volume in json.loads(out)["result"]["volumes"]]
    assert os.fsencode(names[-1]) == b"\xff"


def classes(kind: type[StorageError]) -> Iterator[type[StorageError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from classes(below)


# Scripts know these: one may come, none may change.
CODES = [
    "argument-unsupported", "client-error", "config-file-error", "config-unsupported",
    "document-error", "inaccessible", "internal-error", "invalid-argument", "no-support",
    "operation-denied",
    "operation-failed", "operation-invalid", "operation-timeout", "operation-unsupported",
    "overflow", "pool-active", "pool-built", "pool-exists", "pool-inactive", "pool-not-found",
    "probe-failed", "resource-busy", "schema-error", "secret-invalid", "secret-not-found",
    "source-conflict", "storage-error", "system-failure", "tool-failed",
    "tool-missing", "tool-talkative", "tool-timeout", "unusable", "usage-error",
    "volume-elsewhere", "volume-exists",
    "volume-name-taken", "volume-not-found", "xml-error", "xml-syntax-error",
]  # fmt: skip


def test_codes_of_errors() -> None:
    assert sorted(set(map(code, classes(StorageError)))) == CODES


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pool-start d", "pool-active"),
        ("pool-undefine d", "pool-active"),
        ("pool-destroy off", "pool-inactive"),
        ("vol-list off", "pool-inactive"),
        ("vol-info a off", "pool-inactive"),
        ("pool-info nosuch", "pool-not-found"),
        ("vol-info nosuch d", "volume-not-found"),
        ("vol-create-as d a 1", "volume-exists"),
        ("pool-define-as d dir --target /x", "pool-exists"),
        ("pool-define-as d2 dir --target {t}/d", "source-conflict"),
        ("pool-define-as d2 nosuch", "xml-error"),
        ("secret-dumpxml 00000000-0000-4000-8000-000000000000", "secret-not-found"),
        ("--readonly pool-start off", "operation-denied"),
        ("pool-info", "usage-error"),
        ("vol-create-as d x 1Q", "invalid-argument"),
    ],
)
def test_the_code_of(line: str, expected: str, root: Path) -> None:
    document = document_of(storagectl(root / "root", *words(line, root), "--json"))
    assert document["error"]["code"] == expected


def test_a_signal_ends_a_command_with_a_document(root: Path) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", "storagectl", "--root", str(root / "root"), "--json",
         "pool-event", "--event", "lifecycle", "--loop"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    folder = root / "root/run/storagectl/events"
    deadline = time.monotonic() + 30
    while not (folder.is_dir() and list(folder.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert storagectl(root / "root", "pool-destroy", "d").status == 0
    assert waiting.stdout is not None
    stopped = json.loads(waiting.stdout.readline())
    waiting.terminate()
    out, err = waiting.communicate(timeout=30)
    ended = json.loads(out)
    for document in (stopped, ended):
        check(document)
    assert (stopped["event"]["pool"]["name"], stopped["event"]["detail"]) == ("d", "Stopped")
    assert (waiting.returncode, err) == (143, "")
    assert ended["error"]["code"] == "interrupted"


def test_a_pool_that_does_not_autostart_has_the_code_of_its_error(root: Path) -> None:
    assert storagectl(root / "root", "pool-autostart", "off").status == 0
    document = document_of(storagectl(root / "root", "autostart", "--json"))
    assert document["error"]["code"] == "client-error"
    (pool,) = (pool for pool in document["result"]["pools"] if pool["name"] == "off")
    assert pool["error"]["action"].startswith("Failed to autostart storage pool 'off'")
    assert pool["error"]["code"] == "system-failure"


def test_a_tool_that_failed_is_named() -> None:
    facts = error_facts(ToolFailed(["/bin/mount", "x"], -9, "no\n"))
    assert facts["tool"] == {"arguments": ["/bin/mount", "x"], "status": -9, "stderr": "no\n"}
    assert facts["code"] == "tool-failed"
    assert facts["message"].startswith("internal error: Child process (/bin/mount x)")
