"""Hostile names: each is refused and changes nothing, or is one name like any other."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import pytest
from hostile import NAMES, STAGED, require_refusal, snapshot
from inprocess import Answer, storagectl
from tally import counted

from storagectl.host import Host
from storagectl.pooltypes import POOL_TYPES

if TYPE_CHECKING:
    from pathlib import Path

KIND = "hostile names"
KEPT = 4096 * b"x"
LABELS = pytest.mark.parametrize("label", NAMES)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, where a name that is run as a command would leave `canary`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pool(home: Path) -> Path:
    folder = home / "pool"
    folder.mkdir()
    (folder / "kept").write_bytes(KEPT)
    (home / "beside").write_bytes(KEPT)
    (home / "source").write_bytes(b"new")
    run(home, "pool-create-as", "p", "dir", "--target", str(folder))
    return folder


def run(home: Path, *words: str) -> Answer:
    answer = storagectl(home / "root", *words)
    assert answer.status == 0, (words, answer)
    return answer


def answered(home: Path, *words: str) -> Any:
    return json.loads(run(home, *words, "--json").stdout)["result"]


def attempt(home: Path, *words: str) -> bool:
    """Run what may be refused, and changes nothing then.  Returns: whether it was not."""
    before = snapshot(home)
    answer = storagectl(home / "root", *words)
    if answer.status == 0:
        assert answer.stderr == "", (words, answer)
        return True
    require_refusal(answer, words)
    assert snapshot(home) == before, words
    return False


def attempt_document(home: Path, document: str, *words: str) -> bool:
    """Run a command with a document, which stays the same, in the place of FILE."""
    path = home / "document.xml"
    path.write_bytes(document.encode("utf-8", "surrogateescape"))
    try:
        return attempt(home, *(str(path) if word == "FILE" else word for word in words))
    finally:
        path.unlink()


def pool_names(home: Path) -> list[str]:
    return [each["name"] for each in answered(home, "pool-list", "--all")["pools"]]


def volume_names(home: Path) -> list[str]:
    return [each["name"] for each in answered(home, "vol-list", "p")["volumes"]]


def is_refused_as_pool(name: str) -> bool:
    return (
        name in ("", ".", "..")
        or "/" in name
        or len(name.encode("utf-8", "surrogateescape")) > 250
        or name.startswith(".storagectl-")
        or re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe]", name) is not None
    )


@LABELS
def test_s01_s02_a_pool_of_that_name(home: Path, label: str) -> None:
    """It has one file, one row and a life of its own, and leaves nothing behind."""
    name, target = NAMES[label], str(home / "target")
    run(home, "pool-define-as", "other", "dir", "--target", str(home / "other"))
    before = snapshot(home)
    document = (
        f"<pool type='dir'><name>{escape(name)}</name><target><path>{target}</path></target></pool>"
    )
    with counted(KIND):
        defined = attempt_document(home, document, "pool-define", "FILE")
        assert defined is not is_refused_as_pool(name)
        if not defined:
            assert not attempt_document(home, document, "pool-create", "FILE", "--build")
            assert pool_names(home) == ["other"]
            return
        assert sorted(pool_names(home)) == sorted([name, "other"])
        rows = run(home, "-q", "pool-list", "--all").stdout.splitlines()
        assert len(rows) == 2
        made = set(snapshot(home)) - set(before)
        assert made == {str(home / f"root/etc/storagectl/storage/{name}.xml")}
        dumped = run(home, "pool-dumpxml", f"--pool={name}").stdout
        assert attempt_document(home, dumped, "pool-define", "FILE")
        assert run(home, "pool-dumpxml", f"--pool={name}").stdout == dumped
        run(home, "pool-autostart", f"--pool={name}")
        run(home, "pool-start", f"--pool={name}", "--build")
        assert answered(home, "pool-info", f"--pool={name}")["pool"]["name"] == name
        run(home, "vol-create-as", f"--pool={name}", "v", "1M")
        assert answered(home, "vol-pool", f"{target}/v")["pool"]["name"] == name
        run(home, "vol-delete", "v", f"--pool={name}")
        run(home, "pool-destroy", f"--pool={name}")
        run(home, "pool-delete", f"--pool={name}")
        run(home, "pool-undefine", f"--pool={name}")
    after = {path: what for path, what in snapshot(home).items() if "autostart" not in path}
    assert after == before
    assert (home / "root/etc/storagectl/storage/other.xml").exists()


@LABELS
def test_s02_a_pool_of_that_name_from_options(home: Path, label: str) -> None:
    """The name stands unescaped in a document, as in virsh: more than a name it is not."""
    name = NAMES[label]
    with counted(KIND):
        words = (f"--name={name}", "dir", "--target", str(home / "target"))
        if attempt(home, "pool-define-as", *words):
            (made,) = pool_names(home)
            assert made == name or "&" in name
            run(home, "pool-undefine", f"--pool={made}")
        assert pool_names(home) == []


@LABELS
def test_s01_looking_for_a_pool_of_that_name(home: Path, label: str) -> None:
    """No file is read, and no lock made, elsewhere than in our folders."""
    name = NAMES[label]
    run(home, "pool-define-as", "other", "dir", "--target", str(home / "other"))
    (home / "far.xml").write_text("<pool type='dir'><name>far</name></pool>")
    for command in (
        "pool-info", "pool-dumpxml", "pool-uuid", "pool-start", "pool-destroy", "pool-undefine",
        "pool-delete", "pool-build", "pool-refresh", "pool-autostart", "vol-list",
    ):  # fmt: skip
        with counted(KIND):
            answer = storagectl(home / "root", command, f"--pool={name}")
            require_refusal(answer, (command, name))
            assert "far.xml" not in answer.stderr
    assert pool_names(home) == ["other"]


def is_refused_as_volume(name: str) -> bool:
    return (
        name in ("", ".", "..", STAGED)
        or "/" in name
        or len(name.encode("utf-8", "surrogateescape")) > 255
        or re.search("[\x00-\x1f]", name) is not None
    )


def volume_document(name: str) -> str:
    return f"<volume><name>{escape(name)}</name><capacity>512</capacity></volume>"


@pytest.mark.tools
@LABELS
@pytest.mark.parametrize("verb", ["create", "create-as", "create-from", "clone", "rename"])
def test_s03_s05_a_volume_of_that_name(pool: Path, label: str, verb: str) -> None:
    """The same names are refused by each verb; the others are a file, whatever is in them."""
    home, name = pool.parent, NAMES[label]
    document = volume_document(name)
    with counted(KIND):
        if verb == "create":
            made = attempt_document(home, document, "vol-create", "p", "FILE")
        elif verb == "create-as":
            made = attempt(home, "vol-create-as", "p", f"--name={name}", "512")
        elif verb == "create-from":
            made = attempt_document(home, document, "vol-create-from", "p", "FILE", "kept", "p")
        elif verb == "clone":
            made = attempt(home, "vol-clone", "kept", f"--newname={name}", "p")
        else:
            made = attempt(home, "vol-rename", "kept", f"--newname={name}", "p")
        if is_refused_as_volume(name):
            assert not made
        elif verb in ("clone", "rename"):
            assert made
        if made:
            (new,) = {*volume_names(home)} - {"kept"}
            assert new == name or (verb == "create-as" and "&" in name)
            assert sorted(each.name for each in pool.iterdir()) == sorted(
                {new, "kept"} if verb != "rename" else {new}
            )
        assert (home / "beside").read_bytes() == KEPT
        assert not (home / "canary").exists()


@pytest.mark.tools
@LABELS
def test_s03_s05_the_life_of_a_volume_of_that_name(pool: Path, label: str) -> None:
    home, name = pool.parent, NAMES[label]
    if is_refused_as_volume(name):
        return
    own = (f"--vol={name}", "--pool", "p")
    with counted(KIND):
        run(home, "vol-clone", "kept", f"--newname={name}", "p")
        run(home, "vol-resize", *own, "8192")
        run(home, "vol-upload", *own, "--file", str(home / "source"))
        run(home, "vol-download", *own, "--file", str(home / "downloaded"))
        assert (home / "downloaded").read_bytes().startswith(b"new")
        run(home, "vol-wipe", *own)
        assert answered(home, "vol-path", *own)["volume"]["path"] == f"{pool}/{name}"
        run(home, "vol-info", *own)
        run(home, "vol-delete", *own)
    assert volume_names(home) == ["kept"]
    assert (pool / "kept").read_bytes() == KEPT


@LABELS
def test_s03_looking_for_a_volume_of_that_name(pool: Path, label: str) -> None:
    """There is none, and what would be at such a path is not touched."""
    home, name = pool.parent, NAMES[label]
    before = snapshot(home)
    target = home / "downloaded"
    for words in (
        ("vol-delete",), ("vol-wipe",), ("vol-info",), ("vol-dumpxml",), ("vol-path",),
        ("vol-resize", "--capacity", "1"), ("vol-rename", "--newname", "new"),
        ("vol-clone", "--newname", "new"), ("vol-upload", "--file", str(home / "source")),
        ("vol-download", "--file", str(target)),
    ):  # fmt: skip
        with counted(KIND):
            answer = storagectl(home / "root", words[0], f"--vol={name}", "--pool=p", *words[1:])
            require_refusal(answer, (words, name))
            assert snapshot(home) == before, words


def test_s02_names_that_differ_in_their_normalisation_only(home: Path) -> None:
    """Two names, two files: what looks the same is not the same pool, nor volume."""
    composed, decomposed = NAMES["composed"], NAMES["decomposed"]
    with counted(KIND, 2):
        for name in (composed, decomposed):
            target = str(home / f"of {name}")
            run(home, "pool-create-as", f"--name={name}", "dir", "--target", target, "--build")
            run(home, "vol-create-as", f"--pool={name}", f"--name={name}", "512")
        run(home, "vol-create-as", composed, decomposed, "512")
        assert sorted(pool_names(home)) == sorted([composed, decomposed])
        assert len(list((home / f"of {composed}").iterdir())) == 2
        run(home, "vol-delete", decomposed, composed)
        assert [each.name for each in (home / f"of {composed}").iterdir()] == [composed]
        run(home, "pool-destroy", decomposed)
        assert pool_names(home) == [composed]


@LABELS
def test_s02_the_usage_of_a_secret(home: Path, label: str) -> None:
    """It is text, and no file is called after it."""
    usage = NAMES[label]
    document = (
        "<secret><uuid>11111111-1111-4111-8111-000000000001</uuid>"
        f"<usage type='volume'><volume>{escape(usage)}</volume></usage></secret>"
    )
    with counted(KIND):
        if attempt_document(home, document, "secret-define", "FILE"):
            folder = home / "root/etc/storagectl/secrets"
            assert [each.stem for each in folder.iterdir()] == [
                "11111111-1111-4111-8111-000000000001"
            ]
            rows = run(home, "-q", "secret-list").stdout.strip("\n").splitlines()
            assert len(rows) == 1
            dumped = run(home, "secret-dumpxml", "11111111-1111-4111-8111-000000000001").stdout
            assert attempt_document(home, dumped, "secret-define", "FILE")


# S04 and S08: what comes to the arguments of tools

MARK = "HOSTILE"
SOURCES = {
    "fs": "<device path='{}'/>",
    "netfs host": "<host name='{}'/><dir path='/e'/>",
    "netfs folder": "<host name='h'/><dir path='{}'/>",
    "netfs protocol": "<host name='h'/><dir path='/e'/><format type='nfs'/><protocol ver='{}'/>",
    "logical name": "<name>{}</name><device path='/dev/null'/>",
    "logical device": "<name>g</name><device path='{}'/>",
    "disk": "<device path='{}'/>",
    "iscsi host": "<host name='{}'/><device path='iqn.2026-01.x:y'/>",
    "iscsi target": "<host name='h'/><device path='{}'/>",
    "iscsi initiator": "<host name='h'/><device path='iqn.2026-01.x:y'/>"
                       "<initiator><iqn name='{}'/></initiator>",
    "scsi adapter": "<adapter type='scsi_host' name='{}'/>",
}  # fmt: skip
WORDS = {
    "help": f"--help{MARK}",
    "force": f"-f{MARK}",
    "configuration": f"--config={MARK}",
    "mount option": f"-oexec{MARK}",
    "two words": f"{MARK} -f{MARK}",
    "newline": f"{MARK}\n-f{MARK}",
    "comma": f"{MARK},exec",
    "octal": f"{MARK}\\040-f{MARK}",
    "command": f"$(touch {MARK})",
    "escape": f"{MARK}\x9b31m",
}
# Options that take the next word, whatever it begins with.
TAKING = (
    "-L", "-O", "-b", "-f", "-n", "-o", "-s", "-t", "--interface", "--name", "--op", "--options",
    "--portal", "--targetname", "--thinpool", "--value",
)  # fmt: skip


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the argument lists of all tools that would have run; each succeeds without a word."""
    calls: list[list[str]] = []

    def record(self: Host, argv: list[str], *_: object) -> tuple[int, str, str]:
        calls.append(argv)
        return 0, '{"report": [{"vg": [], "lv": [], "pv": [], "pvseg": []}]}', ""

    monkeypatch.setattr(Host, "_spawn", record)
    monkeypatch.setattr(Host, "find_tool", lambda self, name: name)
    monkeypatch.setattr(Host, "require_reachable", lambda *_: None)
    return calls


def require_no_options(calls: list[list[str]]) -> None:
    """No word that is from the user begins with a dash where a tool would take it for an option."""
    for argv in calls:
        for place, word in enumerate(argv):
            if MARK in word and word.startswith("-"):
                assert "--" in argv[:place] or argv[place - 1] in TAKING, argv
            assert not (MARK in word and "\n" in word), argv


def from_source(home: Path, source: str, value: str) -> str:
    """Return a pool's document with a value in its source, and make its target."""
    kind = source.split()[0]
    text = escape(value, {"'": "&apos;", "\n": "&#10;", "\t": "&#9;"})
    target = "" if POOL_TYPES[kind].target else f"<target><path>{home}/t</path></target>"
    (home / "t").mkdir()
    return (
        f"<pool type='{kind}'><name>p</name><source>{SOURCES[source].format(text)}</source>"
        f"{target}</pool>"
    )


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("source", SOURCES)
def test_s04_s08_what_a_source_says_is_never_an_option(
    home: Path, spoken: list[list[str]], source: str, word: str
) -> None:
    document = from_source(home, source, WORDS[word])
    with counted("hostile words for tools"):
        if attempt_document(home, document, "pool-define", "FILE"):
            for words in (
                ("pool-build", "p"), ("pool-build", "p", "--overwrite"), ("pool-start", "p"),
                ("pool-refresh", "p"), ("vol-create-as", "p", "v", "1M"), ("pool-destroy", "p"),
                ("pool-delete", "p"), ("status",), ("doctor",),
            ):  # fmt: skip
                answer = storagectl(home / "root", *words)
                assert "Traceback" not in answer.stderr
        require_no_options(spoken)
    assert not (home / MARK).exists()


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("kind", ["fs", "netfs", "dir"])
def test_s04_what_a_target_says_is_never_an_option(
    home: Path, spoken: list[list[str]], kind: str, word: str
) -> None:
    source = {"fs": "<device path='/dev/null'/>", "netfs": "<host name='h'/><dir path='/e'/>"}
    target = escape(WORDS[word])
    document = (
        f"<pool type='{kind}'><name>p</name><source>{source.get(kind, '')}</source>"
        f"<target><path>{target}</path></target></pool>"
    )
    with counted("hostile words for tools"):
        if attempt_document(home, document, "pool-define", "FILE"):
            for command in ("pool-build", "pool-start", "pool-destroy", "pool-delete"):
                require_refusal(storagectl(home / "root", command, "p"), (command, target))
        require_no_options(spoken)
    assert sorted(path.name for path in home.iterdir()) == ["root"]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (source, value)
        for source in ("netfs host", "iscsi host")
        for value in ("h,exec", "h h", "h\nh", "-h", "", "h/e", "h\t")
    ]
    + [("netfs protocol", value) for value in ("4,exec", "4\nexec", "4\t", "\x9b4")]
    + [("iscsi target", value) for value in ("iqn.x\n-f", "../../x", "-f", "iqn x", "iqn.x/../y")]
    + [("iscsi initiator", value) for value in ("iqn.x\nnode.y = z", "-f", "a b")]
    + [("logical name", value) for value in ("-f", "..", "a/b", "a\nb", ".")],
)
def test_s08_fields_that_a_tool_would_read_as_more(
    home: Path, spoken: list[list[str]], source: str, value: str
) -> None:
    """Refused when it is defined, or when it would be used; no tool is told of it."""
    document = from_source(home, source, value)
    with counted("hostile words for tools"):
        if attempt_document(home, document, "pool-define", "FILE"):
            require_refusal(storagectl(home / "root", "pool-start", "p"), value)
        assert not [argv for argv in spoken if any(value and value in word for word in argv)]


def test_s05_no_shell_in_the_program() -> None:
    """A process is started from an argument list (ruff's S602, S604 and S605 see to it as well)."""
    import storagectl

    folder = next(iter(storagectl.__path__))
    from pathlib import Path

    for path in Path(folder).rglob("*.py"):
        text = path.read_text()
        assert "shell=True" not in text, path
        assert not re.search(r"\bos\.(system|popen)\b", text), path


# S02 and neighbours: a value that would become more than a value in virsh's unescaped document


@pytest.mark.parametrize(
    "words",
    [
        ("--name=a</name><name>b", "dir", "--target", "/t"),
        ("a", "dir", "--target", "/t</path><permissions><mode>0777</mode></permissions><path>"),
        ("a", "dir' x='y", "--target", "/t"),
        ("a", "netfs", "--source-host", "h' port='1", "--source-path", "/e", "--target", "/t"),
        ("a", "netfs", "--source-host", "h'/><host name='i", "--source-path", "/e",
         "--target", "/t"),
        ("a", "logical", "--source-name", "g</name><device path='/dev/sda'/><name>"),
        ("a", "fs", "--source-dev", "/dev/x'/><device path='/dev/sda", "--target", "/t"),
    ],
)  # fmt: skip
def test_s02_a_value_does_not_add_elements_to_a_pool(home: Path, words: tuple[str, ...]) -> None:
    with counted(KIND):
        assert not attempt(home, "pool-define-as", *words)
        assert "cannot contain markup" in storagectl(home / "r", "pool-define-as", *words).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--name=v</name><backingStore><path>/etc/shadow</path></backingStore><name>", "1M"),
        ("v", "1M", "--format", "qcow2'/><permissions><mode>0666</mode></permissions><x y='"),
    ],
)
def test_s15_a_value_does_not_add_elements_to_a_volume(pool: Path, words: tuple[str, ...]) -> None:
    with counted(KIND):
        assert not attempt(pool.parent, "vol-create-as", "p", *words)
        assert [each.name for each in pool.iterdir()] == ["kept"]
