"""Whose pools are meant, what may be changed, and what is logged."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

from storagectl.commands import clientconf
from storagectl.commands.connection import canonical, serves_system
from storagectl.errors import StorageError
from storagectl.store import folders

if TYPE_CHECKING:
    from pathlib import Path

UUID = "11111111-2222-3333-4444-555555555555"
VARIABLES = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, "STORAGECTL_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture(autouse=True)
def configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the libvirt.conf that counts; it is not there yet."""
    path = tmp_path / "config/libvirt/libvirt.conf"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(clientconf, "SYSTEM_FILE", str(path))
    return path


@pytest.mark.parametrize(
    ("uri", "system"),
    [
        ("storage:///system", True), ("qemu:///system", True), ("qemu+unix:///system", True),
        ("storage:/system", True), ("storage:///session", False), ("qemu:///session", False),
    ],
)  # fmt: skip
def test_what_is_served(uri: str, system: bool) -> None:
    assert serves_system(uri) is system


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("test:///default", "no connection driver available for test:///default"),
        ("lxc:///system", "no connection driver available for lxc:///system"),
        ("bogus", "no connection driver available for URI 'bogus' does not include a driver name"),
        ("qemu+ssh://host/system", "unsupported configuration: qemu+ssh://host/system: only "
         "storage:///system and storage:///session of this machine are served"),
        ("qemu+tls:///system", "unsupported configuration: qemu+tls:///system: only "),
        ("storage://host/system", "unsupported configuration: storage://host/system: only "),
        ("qemu:///system?socket=/x", "unsupported configuration: qemu:///system?socket=/x: only "),
        ("storage:///other", "internal error: unexpected storage URI path '/other', try "
         "storage:///system"),
        ("qemu:", "internal error: unexpected qemu URI path '', try qemu:///system"),
    ],
)  # fmt: skip
def test_what_is_not_served(uri: str, words: str) -> None:
    with pytest.raises(StorageError) as refused:
        serves_system(uri)
    assert refused.value.lines()[0] == "failed to connect to the hypervisor"
    assert refused.value.lines()[1].startswith(words)
    status, out, err = storagectl(None, "-c", uri, "pool-list")
    assert (status, out) == (1, "")
    assert err.startswith(f"error: failed to connect to the hypervisor\nerror: {words}")
    assert err.count("\n") == 2


@pytest.mark.parametrize("variable", VARIABLES)
def test_variables(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URI from the environment is looked at when a command needs it."""
    monkeypatch.setenv(variable, "qemu+ssh://host/system")
    status, out, err = storagectl(None, "pool-list")
    assert (status, out) == (1, "\n")
    assert err.startswith("error: failed to connect to the hypervisor\nerror: unsupported conf")
    assert storagectl(None, "echo", "a") == (0, "a\n", "")
    assert storagectl(None, "pool-list", "--help").status == 0
    assert storagectl(None, "-c", "storage:///session", "uri").stdout == "storage:///session\n\n"
    monkeypatch.setenv(variable, "storage:///session")
    assert storagectl(None, "uri").stdout == "storage:///session\n\n"


def test_the_first_variable_wins_and_an_empty_one_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLES[1], "qemu:///session")
    monkeypatch.setenv(VARIABLES[0], "")
    assert storagectl(None, "uri").stdout == "qemu:///session\n\n"
    monkeypatch.setenv(VARIABLES[0], "qemu:///system")
    assert storagectl(None, "uri").stdout == "qemu:///system\n\n"


@pytest.mark.parametrize("user", [0, 1000])
def test_the_default_is_the_users(user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    expected = "session" if user else "system"
    assert storagectl(None, "uri").stdout == f"storage:///{expected}\n\n"
    assert (folders(None) == folders(None, system=True)) is (user == 0)
    assert (folders(None) == folders(None, system=False)) is (user != 0)


def test_the_session_has_folders_of_the_user(tmp_path: Path) -> None:
    words = ("pool-define-as", "mine", "dir", "--target", "/x")
    assert storagectl(None, "-c", "qemu:///session", *words).status == 0
    assert [path.name for path in (tmp_path / "config").rglob("*.xml")] == ["mine.xml"]
    assert "mine" in storagectl(None, "-c", "storage:///session", "pool-list", "--all").stdout
    line = "connect storage:///session; pool-list --all --name; uri"
    assert storagectl(None, line).stdout == f"\n{'mine':<20}\n\nstorage:///session\n\n"


def test_canonical() -> None:
    assert canonical("storage:/system") == canonical("storage:///system") == "storage:///system"


# Read-only

WRITES = {
    "pool-autostart d": "PoolSetAutostart",
    "pool-autostart d --disable": "PoolSetAutostart",
    "pool-build d": "PoolBuild",
    "pool-create POOL.xml": "PoolCreateXML",
    "pool-create-as z dir --target /z": "PoolCreateXML",
    "pool-define POOL.xml": "PoolDefineXML",
    "pool-define-as z dir --target /z": "PoolDefineXML",
    "pool-delete d": "PoolDelete",
    "pool-destroy d": "PoolDestroy",
    "pool-refresh d": "PoolRefresh",
    "pool-start d": "PoolCreate",
    "pool-undefine d": "PoolUndefine",
    "vol-clone a b d": "VolCreateXMLFrom",
    "vol-create d VOL.xml": "VolCreateXML",
    "vol-create-as d b 1M": "VolCreateXML",
    "vol-create-from d VOL.xml a d": "VolCreateXMLFrom",
    "vol-delete a d": "VolDelete",
    "vol-download a OUT d": "VolDownload",
    "vol-resize a 2M d": "VolResize",
    "vol-upload a VOL.xml d": "VolUpload",
    "vol-wipe a d": "VolWipePattern",
    "vol-wipe a d --algorithm nnsa": "VolWipePattern",
}
OTHER_WRITES = {
    "find-storage-pool-sources logical": "virConnectFindStoragePoolSources",
    "find-storage-pool-sources-as logical": "virConnectFindStoragePoolSources",
    "secret-define SECRET.xml": "virSecretDefineXML",
    f"secret-get-value {UUID}": "virSecretGetValue",
    f"secret-set-value {UUID} aGk=": "virSecretSetValue",
    f"secret-undefine {UUID}": "virSecretUndefine",
}
READS = (
    "pool-dumpxml d", "pool-info d", "pool-list --all --details", "pool-name UUID", "pool-uuid d",
    "pool-capabilities", "vol-dumpxml a d", "vol-info a d", "vol-key a d", "vol-list d",
    "vol-name POOL/a", "vol-path a d", "vol-pool POOL/a", "secret-list", f"secret-dumpxml {UUID}",
    "pool-define-as z dir --print-xml",
)  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a").write_bytes(b"x" * 4096)
    (tmp_path / "POOL.xml").write_text(
        "<pool type='dir'><name>z</name><target><path>/z</path></target></pool>"
    )
    (tmp_path / "VOL.xml").write_text("<volume><name>n</name><capacity>1</capacity></volume>")
    (tmp_path / "SECRET.xml").write_text(f"<secret><uuid>{UUID}</uuid></secret>")
    state = tmp_path / "state"
    target = str(tmp_path / "pool")
    assert storagectl(state, "pool-define-as", "d", "dir", "--target", target).status == 0
    assert storagectl(state, "pool-start", "d").status == 0
    assert storagectl(state, "secret-define", str(tmp_path / "SECRET.xml")).status == 0
    assert storagectl(state, "secret-set-value", UUID, "aGk=").status == 0
    return state


def filled(line: str, folder: Path) -> list[str]:
    """Return the words of a line with the paths of the files that it names."""
    return [
        re.sub("^(POOL|VOL|SECRET|OUT)", lambda found: f"{folder}/{found[0]}", word).replace(
            f"{folder}/POOL/", f"{folder}/pool/"
        )
        for word in line.split()
    ]


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("line", [*WRITES, *OTHER_WRITES])
def test_read_only_refuses_what_changes(line: str, state: Path, tmp_path: Path) -> None:
    """The words are those that virsh 9.0.0 had for each of these commands."""
    function = OTHER_WRITES.get(line) or f"virStorage{WRITES[line]}"
    before = tree(tmp_path)
    status, out, err = storagectl(state, "-r", *filled(line, tmp_path))
    assert (status, out) == (1, "\n")
    lines = err.splitlines()
    assert lines[-1] == f"error: operation forbidden: read only access prevents {function}"
    assert len(lines) == (1 if "get-value" in line else 3 if "set-value" in line else 2)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("line", READS)
def test_read_only_shows_what_is_there(line: str, state: Path, tmp_path: Path) -> None:
    uuid = storagectl(state, "-q", "pool-uuid", "d").stdout.strip()
    words = [uuid if word == "UUID" else word for word in filled(line, tmp_path)]
    before = tree(tmp_path)
    answers = [storagectl(state, *more, *words) for more in ((), ("--readonly",))]
    # others write to the same file system meanwhile
    first, second = (re.sub(r"[\d.]+ [KMGT]iB|'bytes'>\d+", "SIZE", str(each)) for each in answers)
    assert first == second
    assert answers[0].status == 0
    assert tree(tmp_path) == before


def test_read_only_looks_up_first(state: Path) -> None:
    for line in ("pool-start nosuch", "pool-refresh nosuch", "vol-create-as nosuch a 1M",
                 "vol-delete nosuch d"):  # fmt: skip
        assert storagectl(state, "-r", *line.split()) == storagectl(state, *line.split())


def test_read_only_autostart_starts_nothing(state: Path) -> None:
    assert storagectl(state, "pool-autostart", "d").status == 0
    assert storagectl(state, "pool-destroy", "d").status == 0
    status, _, err = storagectl(state, "-r", "autostart")
    assert status == 1
    assert "read only access prevents virStoragePoolCreate" in err
    assert storagectl(state, "-q", "pool-list").stdout == ""


# The log


def test_errors_are_logged(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert storagectl(state, "-l", str(path), "pool-info d; pool-info nosuch").status == 1
    assert storagectl(state, f"--log={path}", "pool-bogus").status == 1
    lines = path.read_text().splitlines()
    stamp = rf"\[\d{{4}}\.\d\d\.\d\d \d\d:\d\d:\d\d storagectl {os.getpid()}\] ERROR "
    words = (
        "failed to get pool 'nosuch'",
        "Storage pool not found: no storage pool with matching name 'nosuch'",
        "unknown command: 'pool-bogus'",
    )
    assert len(lines) == len(words)
    for line, expected in zip(lines, words, strict=True):
        assert re.fullmatch(stamp + re.escape(expected), line)
    assert storagectl(state, "pool-info", "nosuch").status == 1
    assert len(path.read_text().splitlines()) == 3


def test_an_option_of_newer_virsh() -> None:
    assert storagectl(None, "--no-pkttyagent", "echo", "a") == (0, "a\n", "")


def test_the_version_in_its_forms() -> None:
    short = storagectl(None, "-v").stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", short)
    for words in (("--version",), ("--version=short",), ("--version=x",), ("--ver",), ("-v", "x")):
        assert storagectl(None, *words) == (0, short, "")
    long = storagectl(None, "-V")
    assert storagectl(None, "--version=long") == long
    assert short.strip() in long.stdout
    assert " logical " in long.stdout


@pytest.mark.parametrize("level", ["abc", "", "9", "-1", "0x2", "3 "])
def test_a_debug_level_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """Twice, as virsh tells it; once where --debug says otherwise or nothing runs."""
    monkeypatch.setenv("VIRSH_DEBUG", level)
    said = "error: VIRSH_DEBUG not set with a valid numeric value\n"
    assert storagectl(tmp_path, "echo", "x") == (0, "x\n", said * 2)
    assert storagectl(tmp_path, "-d", "4", "echo", "x") == (0, "x\n", said * 2)
    assert storagectl(tmp_path, "-d", "2", "echo", "x") == (0, "x\n", said)
    assert storagectl(tmp_path, "-v").stderr == said
    monkeypatch.setenv("VIRSH_DEBUG", " +3")
    assert storagectl(tmp_path, "echo", "x") == (0, "x\n", "")


def test_the_log_file_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, given = tmp_path / "own", tmp_path / "given"
    monkeypatch.setenv("VIRSH_LOG_FILE", str(own))
    assert storagectl(tmp_path, "pool-info", "nosuch").status == 1
    assert "ERROR failed to get pool 'nosuch'\n" in own.read_text()
    own.unlink()
    assert storagectl(tmp_path, "-l", str(given), "pool-info", "nosuch").status == 1
    assert "ERROR failed to get pool 'nosuch'\n" in given.read_text()
    assert own.read_text() == ""
    monkeypatch.setenv("VIRSH_LOG_FILE", "")
    assert storagectl(tmp_path, "echo", "x").status == 0
    monkeypatch.setenv("VIRSH_LOG_FILE", str(tmp_path / "no/folder"))
    refused = "error: failed to open the log file. check the log file path\n"
    assert storagectl(tmp_path, "-v") == (1, "", refused)


def test_the_default_and_the_names_of_libvirt_conf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configuration: Path
) -> None:
    configuration.write_text(
        "# one\n\nuri_default = 'qemu:///session' # two\n"
        'uri_aliases = [\n  "mine=qemu:///session",\n  "a-l_l=storage:///system",\n'
        '  \'far=qemu+ssh://far/system\',\n]\nuri_default=""\nother = -5; more = """x\ny"""\n'
    )

    def uri(*args: str) -> str:
        return storagectl(tmp_path, "-q", *args, "uri").stdout.strip()

    assert uri() == "qemu:///session"
    assert uri("-c", "mine") == "qemu:///session"
    assert uri("-c", "a-l_l") == "storage:///system"
    assert uri("-c", "qemu:///system") == "qemu:///system"
    assert storagectl(tmp_path, "-q", "connect a-l_l; uri").stdout == "storage:///system\n"
    assert "only storage:///system" in storagectl(tmp_path, "-c", "far", "uri").stderr
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "a-l_l")
    assert uri() == "storage:///system"
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI")
    configuration.write_text("uri_default = 'storage:///system'\n#")
    assert uri("-c", "") == "storage:///system"


def test_a_libvirt_conf_that_cannot_be_read(tmp_path: Path, configuration: Path) -> None:
    configuration.mkdir()
    assert storagectl(tmp_path, "pool-list").stderr == (
        "error: failed to connect to the hypervisor\n"
        f"error: Failed to open file '{configuration}': Is a directory\n"
    )
    configuration.rmdir()
    configuration.parent.rmdir()
    configuration.parent.write_text("no folder")
    assert storagectl(tmp_path, "pool-list").status == 0


# The words are those of virsh 9.0.0 with the same file.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("uri_default", "FILE:1: expecting an assignment"),
        ("\n= 5\n", "FILE:2: expecting a name"),
        ("o.t = 5\n", "FILE:1: expecting an assignment"),
        ("uri_default = \n'x'\n", "FILE:1: expecting a value"),
        ("uri_default = 'x\n", "FILE:1: unterminated string"),
        ("uri_default = 'x' y\n", "FILE:1: expecting a separator"),
        ("a = 5x\n", "FILE:1: expecting a separator"),
        ("uri_aliases = [ 'a=b' 'c=d' ]", "FILE:1: expecting a separator in list"),
        ("uri_aliases = [ 'a=b',,'c=d' ]", "FILE:1: expecting a value"),
        ("uri_aliases = [ 'a=b',\n# no\n'c=d' ]", "FILE:2: expecting a value"),
        ("uri_aliases = [ 'a=b'\n", "FILE:2: list is not closed with ]"),
        ("uri_aliases = [ 5 ]", "FILE: expected a string list for 'uri_aliases' parameter"),
        (
            "uri_aliases = [ 'tt' ]",
            "Malformed 'uri_aliases' config entry 'tt', expected 'alias=uri://host/path'",
        ),
        (
            "uri_aliases = [ 't t=x' ]",
            "Malformed 'uri_aliases' config entry 't t=x', aliases may only contain"
            " 'a-Z, 0-9, _, -'",
        ),
    ],
)
def test_a_libvirt_conf_that_is_wrong(
    tmp_path: Path, configuration: Path, text: str, words: str
) -> None:
    configuration.write_text(text)
    words = words.replace("FILE", str(configuration))
    for command in (["-c", "qemu:///system", "pool-list"], ["-c", "x", "uri"]):
        assert storagectl(tmp_path, *command) == (
            1,
            "",
            "error: failed to connect to the hypervisor\n"
            f"error: configuration file syntax error: {words}\n",
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("uri_aliases = 'x'", "expected a string list for 'uri_aliases' parameter"),
        ("uri_default = 5", "expected a string for 'uri_default' parameter"),
    ],
)
def test_a_libvirt_conf_with_values_of_another_type(
    tmp_path: Path, configuration: Path, text: str, words: str
) -> None:
    configuration.write_text(text)
    assert storagectl(tmp_path, "pool-list").stderr == (
        "error: failed to connect to the hypervisor\n"
        f"error: internal error: {configuration}: {words}\n"
    )
