"""Printing XML, whole or what an XPath expression finds in it."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from storagectl.commands import output
from storagectl.errors import InternalError, XmlError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storagectl.commands.session import Session


def require_values(texts: Iterable[str | None], attributes: Iterable[str | None]) -> None:
    """Raise XmlError for a value that became more than that in a document it was put into.

    To be asked for a document that could be read: what can't be has virsh's error.
    """
    for values, mark in ((texts, "<"), (attributes, "'")):
        for value in values:
            if value is not None and mark in value:
                raise XmlError(f"value {value} cannot contain markup")


def show_xml(session: Session, document: str, xpath: str | None, wrap: bool) -> list[str] | None:
    """Print a document, or each node that `xpath` finds as libxml2 writes it.

    With `wrap` the nodes stand inside one <nodes> element.  An expression that is
    not XPath is reported on stderr and is no failure, as in virsh.
    Returns: what was found, None where nothing was looked for.
    Source: libvirt 9.0.0 virshDumpXML in tools/virsh-util.c.
    """
    if xpath is None:
        output.write(document)
        return None
    from lxml import etree

    root = parsed(document)
    prefixes = {prefix: uri for prefix, uri in root.nsmap.items() if prefix}
    try:
        found: Any = root.getroottree().xpath(xpath, namespaces=prefixes)
    except (etree.XPathError, ValueError) as error:
        session.warn(f"XPath error : {error}")
        return []
    if not isinstance(found, list):
        raise InternalError(f"Incorrect xpath '{xpath}'")
    found = [node for node in found if not isinstance(node, tuple)]  # namespace declarations
    if not wrap:
        texts = [as_text(node) for node in found]
        output.write("".join(f"{text}\n" for text in texts))
        return texts
    nodes = etree.Element("nodes")
    for node in found:
        if isinstance(node, etree._Element):
            nodes.append(deepcopy(node))
        elif getattr(node, "is_attribute", False):
            nodes.set(node.attrname, node)
        elif len(nodes):
            nodes[-1].tail = (nodes[-1].tail or "") + node
        else:
            nodes.text = (nodes.text or "") + node
    text = etree.tostring(nodes, encoding="unicode", pretty_print=True)
    output.write(text)
    return [text]


def parsed(document: str) -> Any:
    """Return the root of one of our own documents.

    Raises: InternalError for names that are no UTF-8, which no XML can carry.
    """
    from lxml import etree

    try:
        return etree.fromstring(document, etree.XMLParser(remove_blank_text=True))
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InternalError("a name in the document is not UTF-8") from error


def as_text(node: Any) -> str:
    """Return an element as XML, an attribute as ` name="value"`, text as it is."""
    from lxml import etree

    if isinstance(node, etree._Element):
        return etree.tostring(node, encoding="unicode", with_tail=False, pretty_print=True).rstrip(
            "\n"
        )
    if getattr(node, "is_attribute", False):
        return f' {node.attrname}="{node}"'
    return str(node)


def renamed(document: str, name: str) -> str:
    """Return a volume's document with another name, in libxml2's style, for vol-clone."""
    from lxml import etree

    try:
        root = etree.fromstring(document)
        root.find("name").text = name  # type: ignore[union-attr]
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InternalError("a name in the document is not UTF-8") from error
    return etree.tostring(root, encoding="unicode")
