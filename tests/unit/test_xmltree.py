"""Reading XML: libxml2's words for what is malformed, refusal of what is hostile."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagectl.errors import StorageError, XmlError, XmlSyntaxError
from storagectl.xmltree import LIMIT, MAX_NODES, Node, Writer, integer, parse

if TYPE_CHECKING:
    from pathlib import Path

LABEL = "(storage_pool_definition)"
NO_DOCTYPE = "document type declarations are not allowed"
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def need_virsh() -> None:
    """Skip where libvirt 9.0.0 is not there to ask; never in CI."""
    found = shutil.which("virsh")
    if found and subprocess.run([found, "-v"], capture_output=True).stdout.strip() == b"9.0.0":
        return
    if os.environ.get("STORAGECTL_CI") == "1":
        pytest.fail("virsh 9.0.0 is not installed")
    pytest.skip("virsh 9.0.0 is not installed")


# Document, line, libxml2's words, what is shown of the document, the caret's line.
# All of it is what virsh 9.0.0 prints.
MALFORMED = [
    (b"", 1, "Document is empty", "(null)", "^"),
    (b" ", 1, "Start tag expected, '<' not found", " ", "-^"),
    (b"hello", 1, "Start tag expected, '<' not found", "hello", "^"),
    (b"\n\nhello", 3, "Start tag expected, '<' not found", "hello", "^"),
    (
        b"<pool>\n  <name>a</nam>\n</pool>\n",
        2, "Opening and ending tag mismatch: name line 2 and nam",
        "  <name>a</nam>", "-" * 15 + "^",
    ),
    (
        b"<pool>\r\n<name>x</name>\r\n</pol>\r\n",
        3, "Opening and ending tag mismatch: pool line 1 and pol", "</pol>", "------^",
    ),
    (b"<pool>\n  <name>a</name>\n", 3, "Premature end of data in tag pool line 1", "(null)", "^"),
    (b"<pool>\n\n\n", 4, "Premature end of data in tag pool line 1", "(null)", "^"),
    (b"<pool><a>x", 1, "Premature end of data in tag a line 1", "<pool><a>x", "-" * 10 + "^"),
    (b"<pool type=dir>", 1, "AttValue: \" or ' expected", "<pool type=dir>", "-" * 11 + "^"),
    (b"<pool type='dir", 1, "AttValue: ' expected", "<pool type='dir", "-" * 15 + "^"),
    (
        b"<pool a='1' a='2'/>",
        1, "Attribute a redefined", "<pool a='1' a='2'/>", "-" * 17 + "^",
    ),
    (b"<pool a/>", 1, "Specification mandates value for attribute a", "<pool a/>", "-" * 7 + "^"),
    (b"<pool>&foo;</pool>", 1, "Entity 'foo' not defined", "<pool>&foo;</pool>", "-" * 11 + "^"),
    (b"<pool>&</pool>", 1, "xmlParseEntityRef: no name", "<pool>&</pool>", "-" * 7 + "^"),
    (
        "<pool>\N{EURO SIGN} &x;</pool>".encode(),
        1, "Entity 'x' not defined", "<pool>\N{EURO SIGN} &x;</pool>", "-" * 13 + "^",
    ),
    (
        b'<pool>\n\t<a b="<"/></pool>',
        2, "Unescaped '<' not allowed in attributes values", '\t<a b="<"/></pool>', "\t------^",
    ),
    (b"<pool/>\n<pool/>", 2, "Extra content at the end of the document", "<pool/>", "^"),
    (b"<pool/>junk", 1, "Extra content at the end of the document", "<pool/>junk", "-------^"),
    (b"<pool", 1, "Couldn't find end of Start Tag pool line 1", "<pool", "-----^"),
    (b"<1/>", 1, "StartTag: invalid element name", "<1/>", "-^"),
    (b"<p>&#0;</p>", 1, "xmlParseCharRef: invalid xmlChar value 0", "<p>&#0;</p>", "-" * 7 + "^"),
    (b"<p>\x01</p>", 1, "PCDATA invalid Char value 1", "<p>\x01</p>", "---^"),
    (b"<p>]]></p>", 1, "Sequence ']]>' not allowed in content", "<p>]]></p>", "---^"),
    (
        b"<p>\xff</p>",
        1, "Input is not proper UTF-8, indicate encoding !\nBytes: 0xFF 0x3C 0x2F 0x70",
        "<p>\udcff</p>", "---^",
    ),
    (
        b"\n<?xml version='1.0'?><pool/>",
        2, "XML declaration allowed only at the start of the document",
        "<?xml version='1.0'?><pool/>", "-----^",
    ),
]  # fmt: skip


def refusal(document: bytes | str) -> str:
    with pytest.raises(StorageError) as caught:
        parse(document, LABEL)
    return caught.value.detail


@pytest.mark.parametrize(("document", "line", "words", "shown", "caret"), MALFORMED)
def test_malformed(document: bytes, line: int, words: str, shown: str, caret: str) -> None:
    with pytest.raises(XmlSyntaxError) as caught:
        parse(document, LABEL)
    assert caught.value.lines() == [f"{LABEL}:{line}: {words}\n{shown}\n{caret}"]


@pytest.mark.oracle
@pytest.mark.parametrize(("document", "line", "words", "shown", "caret"), MALFORMED)
def test_malformed_live(
    document: bytes, line: int, words: str, shown: str, caret: str, tmp_path: Path
) -> None:
    need_virsh()
    file = tmp_path / "pool.xml"
    file.write_bytes(document)
    done = subprocess.run(
        ["virsh", "-c", "test:///default", f"pool-define '{file}'"], capture_output=True
    )
    answer = done.stderr.decode(errors="surrogateescape").split("\n", 1)[1]
    assert answer == f"error: {LABEL}:{line}: {words}\n{shown}\n{caret}\n"


def test_mismatch_is_placed_for_text_too() -> None:
    assert refusal("<a>\n é</b>") == (
        f"{LABEL}:2: Opening and ending tag mismatch: a line 1 and b\n é</b>\n-------^"
    )


LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))


@pytest.mark.parametrize(
    "document",
    [
        "<!DOCTYPE pool><pool/>",
        "<!DOCTYPE pool [<!ENTITY a 'b'>]><pool>&a;</pool>",
        "<!DOCTYPE pool [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><pool><name>&a;</name></pool>",
        "<!DOCTYPE pool [<!ENTITY % a SYSTEM 'file:///etc/passwd'> %a;]><pool/>",
        "<!DOCTYPE pool SYSTEM 'file:///etc/passwd'><pool/>",
        "<!DOCTYPE pool PUBLIC 'x' 'file:///etc/passwd'><pool/>",
        f"<!DOCTYPE pool [<!ENTITY l0 'lol'>{LAUGHS}]><pool>&l9;</pool>",
        f"<!DOCTYPE pool [<!ENTITY l0 'lol'>{LAUGHS}]><pool a='&l9;'/>",
        f"<!DOCTYPE pool [<!ENTITY q '{'q' * 100_000}'>]><pool>{'&q;' * 100_000}</pool>",
        # Broken in a way that only expat minds, so that lxml is asked.
        f"<?xml version='1.1'?><!DOCTYPE p [<!ENTITY l0 'lol'>{LAUGHS}]><pool a='&l9;'/>",
        "<?xml version='1.1'?><!DOCTYPE p SYSTEM 'file:///etc/passwd'><pool/>",
        # And in a way that both mind.
        "<!DOCTYPE pool [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><pool>&a;</poo>",
        "<pool><!DOCTYPE pool></pool>",
        "<!DOCTYPE",
    ],
)
def test_doctype_is_refused(document: str) -> None:
    assert refusal(document) == NO_DOCTYPE
    assert refusal(document.encode()) == NO_DOCTYPE


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nothing_is_fetched(version: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        for document in (
            f"<!DOCTYPE p SYSTEM '{url}'><p/>",
            f"<!DOCTYPE p [<!ENTITY a SYSTEM '{url}'>]><p>&a;</p>",
            f"<p xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='{url}'/></p>",
            f"<?xml-stylesheet href='{url}'?><p></q>",
        ):
            with contextlib.suppress(StorageError):
                parse(f"<?xml version='{version}'?>{document}", LABEL)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


NUL_BYTES = "the document is not UTF-8 text: it has NUL bytes"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"<pool>\0</pool>", NUL_BYTES),
        ("<pool>\0</pool>", NUL_BYTES),
        ("<pool/>".encode("utf-16"), NUL_BYTES),
        ("<pool/>".encode("utf-32-be"), NUL_BYTES),
        (b"<p>" + b"x" * LIMIT + b"</p>", "the document is larger than 10 MiB"),
        (
            b"<p>" + b"<a/>" * MAX_NODES + b"</p>",
            f"the document has more than {MAX_NODES} elements and attributes",
        ),
        (
            b"<p " + b" ".join(b"a%d=''" % n for n in range(MAX_NODES)) + b"/>",
            f"the document has more than {MAX_NODES} elements and attributes",
        ),
    ],
)
def test_what_is_never_read(document: bytes | str, words: str) -> None:
    with pytest.raises(XmlError) as caught:
        parse(document, LABEL)
    assert caught.value.detail == words


@pytest.mark.parametrize("depth", [257, 300, 100_000])
def test_deep_nesting(depth: int) -> None:
    words = refusal(b"<a>" * depth + b"</a>" * depth)
    assert words.startswith(
        f"{LABEL}:1: Excessive depth in document: 256 use XML_PARSE_HUGE option\n"
    )


def test_deepest_nesting() -> None:
    root = parse("<a>x" * 256 + "</a>y" * 255 + "</a>", LABEL)
    assert root.text == "x" * 256 + "y" * 255


@pytest.mark.parametrize(
    "make",
    [
        "b'<p>' + b'x' * (10 * 2**20 - 7) + b'</p>'",
        "b'<a>' * 100000",
        "b'<a>\\n' * 255 + b'x' * (9 * 2**20) + b'\\n</a>' * 255",
        "b'<p>' + b'<a/>' * 2**21 + b'</p>'",
        "b'<p>' + b'<![CDATA[x]]>' * 700000 + b'</p>'",
        "b'<p>' + b'x<!---->' * 2**20 + b'</p>'",
        "b'<p>' + b'&#65;' * 2**20 + b'</p>'",
        "b'<p ' + b' '.join(b'xmlns:a%d=\"u\"' % n for n in range(90000)) + b'/>'",
        "b'<' + b'p' * 2**20 + b'/>'",
        "b'\\n' * (10 * 2**20)",
        "b'<p a=\"' + b'&lt;' * 2**20 + b'\"></q>'",
    ],
)
def test_hostile_documents_take_little_memory_and_time(make: str) -> None:
    program = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
from storagectl.errors import StorageError
from storagectl.xmltree import parse
try:
    parse({make}, "(x)").text
except StorageError as error:
    error.lines()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=120, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "document",
    [
        "<?xml version='1.0' encoding='UTF-8'?><p>é</p>",
        "\ufeff<p>é</p>",
        # libvirt reads everything as UTF-8.
        "<?xml version='1.0' encoding='iso-8859-1'?><p>é</p>",
        "<?xml version='1.0' encoding='utf-7'?><p>é</p>",
        # Only lxml reads these.
        "<?xml version='1.1'?><p>é</p>",
        "<p><![CDATA[é]]></p>",
    ],
)
def test_encodings(document: str) -> None:
    assert parse(document, LABEL).text == "é"
    assert parse(document.encode(), LABEL).text == "é"


@pytest.mark.parametrize("code", [0xDCFF, 0xD800])
def test_surrogates_are_refused(code: int) -> None:
    assert refusal(f"<p>{chr(code)}</p>").startswith(f"{LABEL}:1: Input is not proper UTF-8")


def test_lxml_is_not_imported_for_what_is_well_formed() -> None:
    program = (
        "import sys; from storagectl import volxml, xmltree; xmltree.parse('<a>b</a>', '');"
        "sys.exit('lxml' in sys.modules or 'xml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


TREE = """\
<r a='1' xmlns='d' xmlns:n='u'>
  <b n:a='2' c='3'>x<!-- no --><b xmlns=''>y</b>z</b>
  <n:b/><q:b/><b c=''/><b xmlns='' c='4'>w</b><b xmlns='' c='5'/>
</r>"""


def test_namespaces() -> None:
    root = parse(TREE, LABEL)
    assert root.tag == "{d}r"
    assert [child.tag for child in root.children] == ["{d}b", "{u}b", "q:b", "{d}b", "b", "b"]
    assert root.children[0].attributes == {"{u}a": "2", "c": "3"}
    assert root.children[0].get("a") == "2"
    assert root.text_of("*/@a") is None
    assert root.attributes == {"a": "1"}


def test_paths() -> None:
    root = parse(TREE, LABEL)
    assert root.named("{d}b")[0].text == "xyz"
    assert root.text_of("*/b") == "y"
    assert root.text_of("b/@c") == "4"
    assert root.text_of("b/@d") is None
    assert root.text_of("*/@c") == "3"
    assert root.text_of("q:b") is None
    assert root.text_of("none/none") is None
    assert [node.tag for node in root.findall("*/*")] == ["b"]
    assert [node.tag for node in root.named("{u}b")] == ["{u}b"]
    assert [node.line for node in root.findall("b")] == [3, 3]
    assert root.find("none") is None
    assert root.get("a") == "1"


@pytest.mark.parametrize(
    ("text", "base", "number"),
    [
        ("0", 10, 0), ("007", 10, 7), (" \t\n\v\f\r5", 10, 5), ("+5", 10, 5), ("-5", 10, -5),
        ("5 ", 10, None), ("", 10, None), ("+", 10, None), ("+-5", 10, None), ("5_0", 10, None),
        ("\N{ARABIC-INDIC DIGIT THREE}", 10, None), ("\N{SUPERSCRIPT TWO}", 10, None),
        ("\N{NO-BREAK SPACE}5", 10, None), ("1e3", 10, None), ("0x10", 10, None), ("11", 10, None),
        ("-11", 10, None), ("9" * 5000, 10, None), ("5\n", 10, None),
        ("12", 8, 10), ("8", 8, None),
        ("010", 0, 8), ("0xA", 0, 10), ("0Xa", 0, 10), ("9", 0, 9), ("0", 0, 0), ("08", 0, None),
        ("0x", 0, None), ("0b1", 0, None), ("0o7", 0, None),
    ],
)  # fmt: skip
def test_integer(text: str, base: int, number: int | None) -> None:
    assert integer(text, -10, 10, base) == number


def test_unsigned_integer() -> None:
    assert integer("-0", 0, 10) is None
    assert integer("-1", 0, 10) is None


def test_writer() -> None:
    out = Writer()
    out.open("a", {"b": "'\"<>&\t\n\r", "c": None, "d": 0})
    out.leaf("e", "'\"<>&\t\n\r\x1b[31m\x00\uffff")
    out.leaf("f", None)
    out.leaf("g", "", {"h": ""})
    out.empty("i")
    out.close()
    assert out.document() == (
        "<a b='&apos;&quot;&lt;&gt;&amp;&#9;&#10;&#13;' d='0'>\n"
        "  <e>&apos;&quot;&lt;&gt;&amp;\t\n&#13;[31m</e>\n"
        "  <g h=''></g>\n"
        "  <i/>\n"
        "</a>\n"
    )


@PATIENT
@given(st.text())
def test_written_text_is_read_back(text: str) -> None:
    out = Writer()
    out.leaf("a", text, {"b": text})
    node = parse(out.document(), LABEL)
    kept = "".join(each for each in text if each >= " " or each in "\t\n\r")
    kept = kept.replace("\ufffe", "").replace("\uffff", "")
    assert node.text == kept
    assert node.get("b") == kept


@PATIENT
@given(st.text("<>/a'\"=! -[]&;?x:\n") | st.binary())
def test_anything_is_read_or_refused(document: str | bytes) -> None:
    with contextlib.suppress(StorageError):
        assert isinstance(parse(document, LABEL), Node)
