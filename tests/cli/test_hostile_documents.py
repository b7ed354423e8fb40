"""Hostile XML and YAML: read by the real program in little memory and bounded time, or refused."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hostile import require_refusal, snapshot
from inprocess import Answer, storagectl
from tally import counted

if TYPE_CHECKING:
    from pathlib import Path

KIND = "hostile documents"
MEMORY = 512 << 20
# Of the processor's seconds: a busy machine does not count.
CPU_S = 20
# A document of so many bytes without references can't become large.
HARMLESS = 2000
HOSTS = "localhost", "root:"

POOL = "<pool type='dir'><name>{}</name><target><path>{}</path></target></pool>"
VOLUME = "<volume><name>{}</name><capacity>{}</capacity></volume>"


def bound() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def bounded(home: Path, *words: str) -> Answer:
    """Run the real program in 512 MiB."""
    done = subprocess.run(
        [sys.executable, "-m", "storagectl", "--root", str(home / "root"), *words],
        capture_output=True, preexec_fn=bound, cwd=home, check=False,
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
    return Answer(done.returncode, out, err)


def answers(home: Path, *words: str, data: bytes) -> Answer:
    """Run a command that reads data: in little memory where they are a bomb, else here."""
    if len(data) > HARMLESS or b"ENTITY" in data or b"&" in data:
        return bounded(home, *words)
    return storagectl(home / "root", *words)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("root:x:0:0:" * 100)
    target = tmp_path / "pool"
    target.mkdir()
    answer = storagectl(tmp_path / "root", "pool-create-as", "p", "dir", "--target", str(target))
    assert answer.status == 0
    return tmp_path


def doctype(subset: str, use: str = "&a;") -> str:
    return f"<!DOCTYPE pool [{subset}]>" + POOL.format(use, "/t")


def laughs(levels: int) -> str:
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, levels)
    )
    return doctype(entities, f"&a{levels - 1};")


def deep(depth: int) -> str:
    return "<pool type='dir'>" + "<a>" * depth + "</a>" * depth + "</pool>"


BOMBS = {
    "external entity": doctype('<!ENTITY a SYSTEM "file:///etc/shadow">'),
    "parameter entity": doctype('<!ENTITY % a SYSTEM "file:///etc/shadow"> %a;', "x"),
    "entity of one's own": doctype('<!ENTITY a "x">'),
    "entity in an attribute": "<!DOCTYPE p [<!ENTITY a 'dir'>]><pool type='&a;'/>",
    "external DTD": '<!DOCTYPE pool SYSTEM "file:///etc/passwd">' + POOL.format("x", "/t"),
    "public DTD": '<!DOCTYPE pool PUBLIC "x" "http://127.0.0.1:9/d">' + POOL.format("x", "/t"),
    "DTD without anything": "<!DOCTYPE pool>" + POOL.format("x", "/t"),
    "billion laughs": laughs(12),
    "quadratic blow-up": doctype(f'<!ENTITY a "{"x" * 50_000}">', "&a;" * 50_000),
    "recursive entity": doctype('<!ENTITY a "&b;"><!ENTITY b "&a;">'),
    "DOCTYPE behind a comment": "<!-- -->" + doctype('<!ENTITY a "x">'),
    "DOCTYPE behind an error": "<pool/><!DOCTYPE pool [<!ENTITY a 'x'>]>",
    "depth 10,000": deep(10_000),
    "depth 100,000": deep(100_000),
    "depth 1,000,000, never closed": "<pool type='dir'>" + "<a>" * 1_000_000,
    "257 deep": deep(257),
    "110,000 elements": "<pool type='dir'>" + "<a/>" * 110_000 + "</pool>",
    "many attributes": "<pool " + " ".join(f"a{n}=''" for n in range(150_000)) + "/>",
    "10 MiB of attributes": "<pool " + " ".join(f"a{n}=''" for n in range(900_000)) + "/>",
    "long attribute": f"<pool type='{'x' * 9_000_000}'/>",
    "long name": "<" + "x" * 9_000_000 + "/>",
    "long text in the name": POOL.format("n" * 9_000_000, "/t"),
    "many namespaces": "<pool type='dir'>" + "".join(
        f"<a xmlns:n{n}='u{n}'>" for n in range(200)) + "</a>" * 200 + "</pool>",
    "100 MB": POOL.format("x", "/t") + " " * 100_000_000,
    "100 MB without an end": "<pool type='dir'><name>" + "x" * 100_000_000,
    "one open bracket 9 MB away": " " * 9_000_000 + "<",
    "9 MB of lines, then rubbish": "<pool>" + "\n" * 9_000_000 + "<",
    "truncated": POOL.format("x", "/t")[:-9],
    "truncated in a tag": POOL.format("x", "/t")[:-2],
    "empty": "",
    "blank": " \n\t",
    "no XML": "hello",
    "wrong root": "<domain><name>x</name></domain>",
    "root of another document": VOLUME.format("x", "1"),
    "two roots": POOL.format("x", "/t") * 2,
    "text behind the root": POOL.format("x", "/t") + "x",
    "unknown type": "<pool type='zfs2'><name>x</name></pool>",
    "no type": "<pool><name>x</name></pool>",
    "NUL": POOL.format("x\0y", "/t"),
    "NUL as an entity": POOL.format("x&#0;y", "/t"),
    "control character as an entity": POOL.format("x&#27;[31m", "/t"),
    "unknown entity": POOL.format("&nbsp;", "/t"),
    "name of 31 digits": "<pool type='dir'><name>x</name><uuid>" + "1" * 31 + "</uuid></pool>",
    "attribute twice": "<pool type='dir' type='dir'/>",
    "CDATA without an end": "<pool type='dir'><name><![CDATA[x</name></pool>",
    "unknown namespace": "<x:pool xmlns:x='u' type='dir'><name>x</name></x:pool>",
    "negative mode": "<pool type='dir'><name>x</name><target><path>/t</path><permissions>"
                     "<mode>-1</mode></permissions></target></pool>",
    "mode of 5 digits": "<pool type='dir'><name>x</name><target><path>/t</path><permissions>"
                        "<mode>77777</mode></permissions></target></pool>",
    "owner of 2^64": "<pool type='dir'><name>x</name><target><path>/t</path><permissions>"
                     f"<owner>{1 << 64}</owner></permissions></target></pool>",
    "port of 2^64": "<pool type='iscsi'><name>x</name><source><host name='h' port='"
                    f"{1 << 64}'/></source></pool>",
    "number of a million digits": "<pool type='iscsi'><name>x</name><source><host name='h' port='"
                                  f"{'9' * 1_000_000}'/></source></pool>",
}  # fmt: skip
BYTES = {
    "UTF-16": POOL.format("x", "/t").encode("utf-16"),
    "UTF-16 without a mark": POOL.format("x", "/t").encode("utf-16-be"),
    "UTF-32": POOL.format("x", "/t").encode("utf-32"),
    "UTF-7": b"<?xml version='1.0' encoding='UTF-7'?>+ADw-pool type=+ACI-dir+ACI-/+AD4-",
    "invalid UTF-8": POOL.format("x", "/t").encode().replace(b"x", b"\xff\xfe"),
    "overlong UTF-8": POOL.format("x", "/t").encode().replace(b"x", b"\xc0\xaf"),
    "surrogate in UTF-8": POOL.format("x", "/t").encode().replace(b"x", b"\xed\xa0\x80"),
    "unknown encoding, and rubbish": b"<?xml version='1.0' encoding='x-\xff'?><pool/>",
    "EBCDIC": POOL.format("x", "/t").encode("cp500"),
    "random": bytes(range(256)) * 4,
}


@pytest.mark.tools
@pytest.mark.parametrize("label", [*BOMBS, *BYTES])
def test_s10_s11_s12_a_document_that_is_no_pool(home: Path, label: str) -> None:
    """Refused by each command that reads one, as a volume and a secret too; nothing is read."""
    document = home / "document.xml"
    document.write_bytes(BYTES[label] if label in BYTES else BOMBS[label].encode())
    before = snapshot(home)
    with counted(KIND):
        answer = answers(home, "pool-define", str(document), data=document.read_bytes())
        require_refusal(answer, label)
        assert "root:" not in answer.stderr
        assert snapshot(home) == before
        if document.stat().st_size < 1_000_000:
            for words in (
                ("pool-create", str(document)),
                ("pool-define", str(document), "--validate"),
                ("vol-create", "p", str(document)),
                ("secret-define", str(document)),
                ("find-storage-pool-sources", "netfs", str(document)),
                ("apply", str(document)),
            ):
                if words[0] == "vol-create" and label == "root of another document":
                    continue
                answer = storagectl(home / "root", *words)
                require_refusal(answer, (label, words))
                assert snapshot(home) == before, words


@pytest.mark.tools
def test_s10_nothing_is_fetched(home: Path) -> None:
    """A listener on this machine hears of no connection."""
    document = home / "document.xml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        for text in (
            doctype(f'<!ENTITY a SYSTEM "{url}">'),
            f'<!DOCTYPE pool SYSTEM "{url}">' + POOL.format("x", "/t"),
            f"<pool xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='{url}'/></pool>",
        ):
            document.write_text(text)
            for command in ("pool-define", "pool-create", "apply"):
                with counted(KIND):
                    require_refusal(bounded(home, command, str(document)), text)
        with pytest.raises(BlockingIOError):
            server.accept()


LIVE = {
    "byte order mark": "\ufeff" + POOL.format("x", "{t}"),
    "first name counts": POOL.format("x</name><name>y", "{t}"),
    "first target counts": POOL.format("x", "{t}</path></target><target><path>/etc"),
    "names in other elements": POOL.format("x", "{t}").replace(
        "<target>", "<a><name>y</name></a><target>"),
    "processing instructions": "<?xml-stylesheet href='file:///etc/shadow'?>"
                               + POOL.format("x", "{t}"),
    "XInclude": POOL.format("x", "{t}").replace(
        "<target>", "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude'"
                    " href='file:///etc/shadow' parse='text'/><target>"),
    "encoding that is not": "<?xml version='1.0' encoding='UTF-16'?>" + POOL.format("x", "{t}"),
    "CDATA": POOL.format("<![CDATA[x]]>", "{t}"),
    "250 deep": POOL.format("x", "{t}").replace(
        "<target>", "<a>" * 250 + "</a>" * 250 + "<target>"),
    "comments": POOL.format("x", "{t}").replace("<target>", "<!-- <name>y</name> --><target>"),
    "foreign namespace": POOL.format("x", "{t}").replace(
        "<target>", "<n:name xmlns:n='u'>y</n:name><target>"),
}  # fmt: skip


@pytest.mark.tools
@pytest.mark.parametrize("label", LIVE)
def test_s12_a_document_that_virsh_reads_as_well(home: Path, label: str) -> None:
    """Odd, but a pool: what is dumped is defined as the same again, and shows nothing else."""
    document, again = home / "document.xml", home / "again.xml"
    document.write_text(LIVE[label].replace("{t}", str(home / "t")))
    with counted(KIND):
        assert bounded(home, "pool-define", str(document)) == (
            0,
            f"Pool x defined from {document}\n\n",
            "",
        )
        dumped = storagectl(home / "root", "pool-dumpxml", "x").stdout
        again.write_text(dumped)
        assert storagectl(home / "root", "pool-define", str(again)).status == 0
        assert storagectl(home / "root", "pool-dumpxml", "x").stdout == dumped
        assert "root:" not in dumped
        names = storagectl(home / "root", "-q", "pool-list", "--all").stdout.split()[::3]
        assert names == ["p", "x"]


NUMBERS = (
    "-1", "+-1", "1e3", "0x10", "1.5", "\u0663", "1_000", "", " ", "5 G", "10Gbla", "NaN", "inf",
    str(1 << 64), str((1 << 64) + 5), "9" * 200, "1" * 5000, "8E", "9223372036854775808",
)  # fmt: skip


@pytest.mark.tools
@pytest.mark.parametrize("number", NUMBERS)
def test_s09_numbers_that_are_no_size(home: Path, number: str) -> None:
    """As a capacity, an allocation and a new size: refused, and nothing is made."""
    (home / "pool/v").write_bytes(b"x" * 512)
    document = home / "document.xml"
    before = snapshot(home / "pool")
    for tag in ("capacity", "allocation"):
        document.write_text(
            VOLUME.format("w", "1").replace(
                "<capacity>1</capacity>", f"<capacity>1</capacity><{tag}>{number}</{tag}>"
            )
            if tag == "allocation"
            else VOLUME.format("w", number)
        )
        if number != "" or tag == "capacity":
            with counted("hostile numbers"):
                answer = storagectl(home / "root", "vol-create", "p", str(document))
                require_refusal(answer, number)
    for words in (
        ("vol-create-as", "p", "w", f"--capacity={number}"),
        ("vol-create-as", "p", "w", "1", f"--allocation={number}"),
        ("vol-resize", "v", f"--capacity={number}", "p"),
        ("vol-clone", "v", "w", "p", f"--capacity={number}"),
        ("vol-upload", "v", str(document), "p", f"--offset={number}"),
        ("vol-download", "v", str(home / "d"), "p", f"--offset={number}"),
    ):
        with counted("hostile numbers"):
            answer = storagectl(home / "root", *words)
            if words[0] == "vol-download" and number == "9223372036854775808":
                continue
            require_refusal(answer, words)
        assert snapshot(home / "pool") == before, words


# YAML of `apply`


def aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


YAMLS = {
    "object": "!!python/object/apply:os.system ['touch canary']",
    "name of Python's": "pools: !!python/name:os.system",
    "object in a value": "pools:\n- name: !!python/object/new:os.system ['touch canary']",
    "billion laughs": aliases(12),
    "billion laughs of pools": "pools:\n- &a {name: x, type: dir, volumes: &v [{name: v}]}\n"
                               + "volumes: &w [" + ", ".join(["*v"] * 5) + "]",
    "merges of merges": "\n".join(
        ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}"
                              for n in range(1, 12)]),
    "recursive": "pools: &a\n- *a",
    "recursive merge": "pools:\n- &a\n  <<: *a\n  name: x",
    "depth 10,000 of lists": "pools: " + "[" * 10_000,
    "depth 10,000 of mappings": "{a: " * 10_000 + "}" * 10_000,
    "depth 300, closed": "pools: " + "[" * 300 + "]" * 300,
    "depth by indentation": "\n".join(" " * n + "a:" for n in range(1500)),
    "key twice": "pools: []\npools: []",
    "key that is a list": "? [a, b]\n: c",
    "wrong root": "- a\n- b",
    "scalar": "hello",
    "unknown key": "pool:\n- x",
    "unknown tag": "pools: !x y",
    "binary": "pools:\n- name: !!binary aGVsbG8=\n  type: dir\n  target: {path: /t}",
    "set": "pools: !!set {a, b}",
    "tab": "pools:\n\t- name: x",
    "control character": "pools: '\x1b[31m'",
    "NUL": "pools: '\0'",
    "unclosed": "pools: ['a",
    "undefined alias": "pools: *a",
    "number as a name twice": "pools:\n- {name: 1, type: dir, target: {path: /t}}\n"
                              "- {name: '1', type: dir, target: {path: /u}}",
    "name with a slash": "pools:\n- {name: ../x, type: dir, target: {path: /t}}",
    "name with an escape": 'pools:\n- {name: "a\\e[31m", type: dir, target: {path: /t}}',
    "negative capacity": "pool: p\nvolumes:\n- {name: v, capacity: -1}",
    "huge capacity": "pool: p\nvolumes:\n- {name: v, capacity: 99999999999999999999}",
    "capacity in other digits": "pool: p\nvolumes:\n- {name: v, capacity: \u0663}",
    "volume elsewhere": "pool: p\nvolumes:\n- {name: ../x, capacity: 1}",
    "many documents": "--- \npools: x\n" * 2000,
    "directive": "%YAML 9.9\n---\npools: []x",
    "5,000,000 elements": "pools: [" + "a," * 5_000_000 + "]",
    "long line": "pools: " + "x" * 1_000_000,
    "100 MB": "# " + "x" * 100_000_000,
}  # fmt: skip
YAML_BYTES = {
    "UTF-16": "pools: x".encode("utf-16"),
    "invalid UTF-8": b"pools: \xff\xfe",
    "random": bytes(range(256)),
}


@pytest.mark.tools
@pytest.mark.parametrize("label", [*YAMLS, *YAML_BYTES])
def test_s11_s65_a_yaml_document_that_is_refused(home: Path, label: str) -> None:
    """Without a change, a canary or a traceback."""
    document = home / "document.yaml"
    data = YAML_BYTES[label] if label in YAML_BYTES else YAMLS[label].encode()
    document.write_bytes(data)
    before = snapshot(home)
    with counted(KIND):
        require_refusal(answers(home, "apply", str(document), data=data), label)
        assert snapshot(home) == before
        assert not (home / "canary").exists()
        assert snapshot(home) == before


@pytest.mark.tools
def test_s65_definitions_of_libvirt_that_are_hostile(home: Path) -> None:
    """Each is told of; the good one beside them is imported, and no other file is."""
    folder = home / "libvirt"
    (folder / "autostart").mkdir(parents=True)
    (folder / "good.xml").write_text(POOL.format("good", home / "good"))
    bad = {
        "other": POOL.format("another", "/t"),
        "climbing": POOL.format("../climbing", "/t"),
        "entity": doctype('<!ENTITY a SYSTEM "file:///etc/shadow">'),
        "laughs": laughs(12),
        "deep": deep(10_000),
        "empty": "",
        "a\nb": POOL.format("a&#10;b", "/t"),
        ".storagectl-registry": POOL.format(".storagectl-registry", "/t"),
    }
    for name, text in bad.items():
        (folder / f"{name}.xml").write_text(text)
    links = {
        "endless": "/dev/zero",
        "secret": "../secret",
        "loop": "loop.xml",
        "memory": "/proc/self/mem",
    }
    for name, target in links.items():
        (folder / f"{name}.xml").symlink_to(target)
    (folder / "folder.xml").mkdir()
    (folder / "autostart/good.xml").symlink_to("/etc/passwd")
    with counted(KIND, len(bad) + len(links) + 1):
        answer = bounded(home, "import", str(folder))
        assert answer.status == 1
        assert "Traceback" not in answer.stderr
        assert "root:" not in answer.stderr
        assert answer.stdout.startswith("Pool good imported, autostarted\n")
        names = storagectl(home / "root", "-q", "pool-list", "--all").stdout.split()[::3]
        assert names == ["good", "p"]
