"""XML text to a small tree, and a tree's lines back to text, as libvirt reads and writes them.

pyexpat reads the documents, since it costs no start-up time.  lxml (libxml2, what
libvirt uses) is imported only for one that expat refuses: it finds the words for
the error.  All text is UTF-8, whatever its declaration says, as in libvirt.
"""

from __future__ import annotations

import os
import pyexpat
from typing import TYPE_CHECKING, Any

from storagectl.errors import Mistyped, SchemaError, XmlError, XmlSyntaxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lxml import etree

LIMIT = 10 * 1024 * 1024
MAX_DEPTH = 256
MAX_NODES = 100_000

BLANKS = " \t\n\v\f\r"
DIGITS = {8: set("01234567"), 10: set("0123456789"), 16: set("0123456789abcdefABCDEF")}
LONGEST_NUMBER = 100
DASHES = bytes(byte if byte == ord("\t") else ord("-") for byte in range(256))

# Which word of libxml2's is an element's name: `Extra element uuid in interleave`.
NAMED_AT = {"RELAXNG_ERR_INTEREXTRA": 2, "RELAXNG_ERR_CONTENTVALID": 1}
SEQUENCE = "RELAXNG_ERR_INTERSEQ"


class Node:
    """An element.  `content` is its text and child elements in document order.

    The tag and attributes of a namespace are '{uri}local'; a prefix without a
    declaration stays part of the name, as in libxml2.
    """

    __slots__ = ("attributes", "content", "line", "tag")

    def __init__(self, tag: str, attributes: dict[str, str], line: int) -> None:
        self.tag = tag
        self.attributes = attributes
        self.line = line
        self.content: list[str | Node] = []

    @property
    def local(self) -> str:
        """The tag without its namespace."""
        return self.tag.rpartition("}")[2]

    @property
    def children(self) -> list[Node]:
        return [part for part in self.content if isinstance(part, Node)]

    @property
    def text(self) -> str:
        """All text below this element, as XPath's string() gives it."""
        if len(self.content) == 1 and isinstance(self.content[0], str):
            return self.content[0]
        found: list[str] = []
        ahead: list[str | Node] = [self]
        while ahead:
            part = ahead.pop()
            if isinstance(part, str):
                found.append(part)
            else:
                ahead.extend(reversed(part.content))
        return "".join(found)

    def get(self, attribute: str) -> str | None:
        """Return an attribute, in whatever namespace, as libxml2's xmlGetProp() does."""
        found = self.attributes.get(attribute)
        if found is None:
            ends = f"}}{attribute}"
            found = next(
                (self.attributes[key] for key in self.attributes if key.endswith(ends)), None
            )
        return found

    def named(self, tag: str) -> list[Node]:
        """Return the child elements with this tag; '*' matches any."""
        return [
            child
            for child in self.content
            if isinstance(child, Node) and (child.tag == tag or tag == "*")
        ]

    def each(self, path: str) -> Iterator[Node]:
        """Yield the elements at a path like 'source/device' of tags without a namespace."""
        tag, _, below = path.partition("/")
        for child in self.content:
            if isinstance(child, Node) and (child.tag == tag or tag == "*"):
                if below:
                    yield from child.each(below)
                else:
                    yield child

    def findall(self, path: str) -> list[Node]:
        """Return the elements at a path."""
        return list(self.each(path)) if "/" in path else self.named(path)

    def find(self, path: str) -> Node | None:
        """Return the first element at a path, None where there is none."""
        if "/" in path:
            return next(self.each(path), None)
        for child in self.content:
            if isinstance(child, Node) and child.tag == path:
                return child
        return None

    def text_of(self, path: str) -> str | None:
        """Return the text of the first match of 'a/b' or 'a/b/@c', None where empty.

        Source: libvirt 9.0.0 virXPathString: nothing and empty are the same.
        """
        above, _, attribute = path.partition("/@")
        if not attribute:
            node = self.find(path)
            return (node.text or None) if node else None
        values = (node.attributes.get(attribute) for node in self.findall(above))
        return next((value for value in values if value is not None), None) or None


def parse(text: bytes | str, label: str) -> Node:
    """Return the root of a document; `label` names it in errors: '(storage_pool_definition)'.

    Raises: XmlSyntaxError where it is not well-formed, XmlError for what we never read:
    a DOCTYPE, more than 10 MiB, more than 100,000 elements and attributes, NUL bytes.
    """
    data = encoded(text) if isinstance(text, str) else text
    if len(data) > LIMIT:
        raise XmlError("the document is larger than 10 MiB")
    if b"\0" in data:
        raise XmlError("the document is not UTF-8 text: it has NUL bytes")
    try:
        return _parse_expat(data)
    except (pyexpat.ExpatError, _TooDeep):
        return _parse_lxml(data, label)


def encoded(text: str) -> bytes:
    """Return a text as UTF-8, where a stray byte is itself; what is no character is wrong there."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


class _TooDeep(Exception):
    """More nesting than libxml2 reads."""


def _refuse_doctype(*_: object) -> None:
    raise XmlError("document type declarations are not allowed")


class _Builder:
    """Builds the tree from expat's events.

    Namespaces are resolved here and not by expat, which refuses a prefix without
    a declaration where libxml2 does not.
    """

    def __init__(self, parser: pyexpat.XMLParserType, *, namespaces: bool) -> None:
        self.parser = parser
        self.namespaces = namespaces  # whether any is declared
        self.root: Node | None = None
        self.open: list[Node] = []
        self.scopes: list[dict[str, str]] = []  # of the elements that declare namespaces
        self.declaring: list[bool] = []  # of all that are open
        self.count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.count += 1 + len(attributes)
        if self.count > MAX_NODES:
            raise XmlError(f"the document has more than {MAX_NODES} elements and attributes")
        if len(self.open) >= MAX_DEPTH:
            raise _TooDeep
        if self.namespaces:
            tag, attributes = self.scoped(tag, attributes)
        node = Node(tag, attributes, self.parser.CurrentLineNumber)
        if self.open:
            self.open[-1].content.append(node)
        else:
            self.root = node
        self.open.append(node)

    def scoped(self, tag: str, attributes: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Take the declarations of an element; return its name and attributes in their scope."""
        scope = {}
        if attributes:
            for name in [name for name in attributes if name.startswith("xmlns")]:
                prefix, colon, local = name.partition(":")
                if prefix == "xmlns":
                    scope[local if colon else ""] = attributes.pop(name)
        self.declaring.append(bool(scope))
        if scope:
            self.scopes.append(scope)
        if self.scopes:
            tag = self.resolve(tag)
            if any(":" in name for name in attributes):
                attributes = {
                    self.resolve(name) if ":" in name else name: value
                    for name, value in attributes.items()
                }
        return tag, attributes

    def resolve(self, name: str) -> str:
        prefix, colon, local = name.rpartition(":")
        for scope in reversed(self.scopes):
            uri = scope.get(prefix)
            if uri is not None:
                return f"{{{uri}}}{local}" if uri else name
        return name

    def end(self, tag: str) -> None:
        self.open.pop()
        if self.namespaces and self.declaring.pop():
            self.scopes.pop()

    def characters(self, text: str) -> None:
        self.open[-1].content.append(text)


def _parse_expat(data: bytes) -> Node:
    parser = pyexpat.ParserCreate("utf-8")
    builder = _Builder(parser, namespaces=b"xmlns" in data)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.Parse(data, True)
    assert builder.root is not None
    return builder.root


def _parse_lxml(data: bytes, label: str) -> Node:
    if b"<!DOCTYPE" in data:
        _refuse_doctype()
    from lxml import etree

    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False,
        huge_tree=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        entries = list(parser.error_log)
        fatal = [entry for entry in entries if entry.level_name == "FATAL"] or entries
        if not fatal:
            raise XmlError("failed to parse xml document") from error
        first = fatal[0]
        raise _syntax_error(data, label, first.line, first.column, first.message) from error
    try:
        return _parse_expat(etree.tostring(root, encoding="utf-8"))
    except (pyexpat.ExpatError, _TooDeep) as error:
        raise XmlError("failed to parse xml document") from error


def _syntax_error(data: bytes, label: str, line: int, column: int, message: str) -> XmlSyntaxError:
    """Return the error as libvirt prints it: place and words, the line, a caret below it.

    Source: libvirt 9.0.0 catchXMLError.  libxml2 counts columns in characters, the
    caret is placed in bytes.
    """
    from bisect import bisect_left

    data = data.removeprefix(b"\xef\xbb\xbf")
    ends = range(len(data) + 1)
    offset = bisect_left(ends, line - 1, key=lambda end: data.count(b"\n", 0, end))
    here = data[offset:].partition(b"\n")[0]
    left = here.decode("utf-8", "surrogateescape")[: column - 1]
    offset += len(left.encode("utf-8", "surrogateescape"))
    # lxml's libxml2 2.14 words these differently from libvirt's 2.9.
    if message == "Invalid bytes in character encoding":
        message = "Input is not proper UTF-8, indicate encoding !"
        wrong = data[offset : offset + 4]
        if len(wrong) == 4:
            message += "\nBytes: " + " ".join(f"0x{byte:02X}" for byte in wrong)
    message = message.replace("in document: 256, use", "in document: 256 use")

    # The caret's line is the one before, where the error is at a line's end.
    last = len(data[: offset + 1].rstrip(b"\r\n")) - 1 if offset < len(data) else offset
    start = max(data.rfind(end, 0, max(last, 0)) for end in (b"\n", b"\r")) + 1
    if data[start : start + 1] in (b"\n", b"\r"):
        start += 1
    shown = data[start:].partition(b"\n")[0].partition(b"\r")[0]
    pointer = shown[: offset - start].translate(DASHES) + b"^"
    source = shown.decode("utf-8", "surrogateescape") or "(null)"
    return XmlSyntaxError(f"{label}:{line}: {message}\n{source}\n{pointer.decode()}")


def expect_root(root: Node, name: str) -> None:
    """Raise XmlError unless the root element has this name, in whatever namespace."""
    if root.local != name:
        raise XmlError(f"expecting root element of '{name}', not '{root.local}'")


def validate(text: bytes | str, schema: str) -> None:
    """Raise SchemaError unless a document that `parse` has read is as a schema says.

    `schema` is a file in storagectl/schemas: 'storagepool', 'storagevol', 'secret'.
    Source: libvirt 9.0.0 virXMLValidatorValidate; libxml2's lines have no place in it.
    """
    from lxml import etree

    data = encoded(text) if isinstance(text, str) else text
    # Well-formed, as `parse` found: what is recovered from is a prefix without a declaration.
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False,
        huge_tree=False, recover=True,
    )  # fmt: skip
    path = os.path.join(os.path.dirname(__file__), "schemas", f"{schema}.rng")
    rules = etree.RelaxNG(file=path)
    root = etree.fromstring(data, parser)
    if root is None:
        raise XmlError("failed to parse xml document")
    if not rules.validate(root):
        lines = "".join(f"{entry.message}\n" for entry in rules.error_log)
        raise SchemaError(
            f"Unable to validate doc against {path}\n{lines}", hint=place(root, rules.error_log)
        )


def place(root: etree._Element, log: etree._ListErrorLog) -> str:
    """Return the line and the path of the innermost element that a schema's errors are about.

    Some errors have no place, or one beside it, and a name: that counts where it is the only one.
    `Invalid sequence` has the place where it ends, or, of no use, where it begins.
    """
    tree = root.getroottree()
    found = [(root.sourceline, tree.getpath(root))]
    for entry in log:
        if entry.type_name in NAMED_AT:
            name = entry.message.split()[NAMED_AT[entry.type_name]]
            named = list(root.iter("{*}" + name))
            if len(named) == 1:
                found.append((named[0].sourceline, tree.getpath(named[0])))
        elif entry.path and not (entry.type_name == SEQUENCE and is_first(root, entry.path)):
            found.append((entry.line, entry.path))
    line, path = max(found, key=lambda place: place[1].count("/"))
    return f"line {line}: {path}"


def is_first(root: etree._Element, path: str) -> bool:
    """Tell whether the element at a path is the first in the one around it."""
    from lxml import etree

    prefixes = {prefix: uri for prefix, uri in root.nsmap.items() if prefix}
    try:
        found: Any = root.xpath(path, namespaces=prefixes)
    except etree.XPathError:  # a prefix without a declaration
        return False
    return found[0].getprevious() is None


def attribute_error(node: Node, attribute: str, expected: str = "") -> XmlError:
    """Return libvirt's error for an attribute with a wrong value."""
    return XmlError(
        f"Invalid value for attribute '{attribute}' in element '{node.local}':"
        f" '{node.get(attribute)}'.{expected}"
    )


def missing_attribute(node: Node, attribute: str) -> XmlError:
    """Return libvirt's error for an attribute that must be there."""
    return XmlError(f"Missing required attribute '{attribute}' in element '{node.local}'")


def choice(node: Node, attribute: str, allowed: tuple[str, ...]) -> str | None:
    """Return an attribute that is absent or one of `allowed`.  Raises: XmlError."""
    value = node.get(attribute)
    if value is not None and value not in allowed:
        error = attribute_error(node, attribute)
        error.mistyped = Mistyped(value, lambda: allowed)
        raise error
    return value


def plain(node: Node, attribute: str) -> str | None:
    """Return an attribute that ends in one line of a tool's files or arguments.

    Raises: XmlError for control characters, which libvirt lets pass.
    """
    value = node.get(attribute)
    if value is not None and control_character(value) is not None:
        raise attribute_error(node, attribute)
    return value


def control_character(text: str) -> str | None:
    """Return the first control or unencodable character of a text, None without one."""
    if text.isprintable():
        return None
    bad = (each for each in text if each < " " or "\x7f" <= each <= "\x9f" or is_surrogate(each))
    return next(bad, None)


def is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def integer(text: str, low: int, high: int, base: int = 10) -> int | None:
    """Return a text as a number, None where it is none or out of range.

    Blanks and a sign may precede the ASCII digits, nothing may follow, as strtoll
    reads them.  Base 0 means that 0x and 0 in front tell the base.
    """
    digits = text.lstrip(BLANKS)
    sign = digits[:1] if digits[:1] in ("+", "-") else ""
    digits = digits[len(sign) :]
    if base == 0:
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[:1] == "0" else 10
        digits = digits[2:] if base == 16 else digits
    if not digits or len(text) > LONGEST_NUMBER or not DIGITS[base].issuperset(digits):
        return None
    number = int(sign + digits, base)
    return number if low <= number <= high and (low < 0 or sign != "-") else None


# Characters that XML cannot hold are left out, as libvirt does.  CR, and tab and
# newline in an attribute, are escaped, which libvirt forgets: a reader would change them.
TEXT = {code: None for code in (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)} | {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord("'"): "&apos;",
    ord('"'): "&quot;",
    ord("\r"): "&#13;",
}
ATTRIBUTE = TEXT | {ord("\t"): "&#9;", ord("\n"): "&#10;"}


class Writer:
    """Writes elements in libvirt's layout: two spaces deeper inside each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.open_tags: list[str] = []

    def open(self, tag: str, attributes: Mapping[str, object] | None = None) -> None:
        self._line(_start(tag, attributes) + ">")
        self.open_tags.append(tag)

    def close(self) -> None:
        tag = self.open_tags.pop()
        self._line(f"</{tag}>")

    def empty(self, tag: str, attributes: Mapping[str, object] | None = None) -> None:
        self._line(_start(tag, attributes) + "/>")

    def leaf(self, tag: str, value: object, attributes: Mapping[str, object] | None = None) -> None:
        """Write an element with a text, or nothing where the value is None."""
        if value is not None:
            self._line(f"{_start(tag, attributes)}>{str(value).translate(TEXT)}</{tag}>")

    def document(self) -> str:
        return "\n".join([*self.lines, ""])

    def _line(self, text: str) -> None:
        self.lines.append("  " * len(self.open_tags) + text)


def _start(tag: str, attributes: Mapping[str, object] | None) -> str:
    return "<" + tag + "".join(_written(attributes or {}))


def _written(attributes: Mapping[str, object]) -> Iterator[str]:
    for name, value in attributes.items():
        if value is not None:
            yield f" {name}='{str(value).translate(ATTRIBUTE)}'"
