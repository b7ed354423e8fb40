"""Printing XML, whole or what an XPath expression finds in it."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import Any

from storagectl.commands import output
from storagectl.errors import InternalError


def show_xml(document: str, xpath: str | None, wrap: bool) -> None:
    """Print a document, or each node that `xpath` finds as libxml2 writes it.

    With `wrap` the nodes stand inside one <nodes> element.  An expression that is
    not XPath is reported on stderr and is no failure, as in virsh.
    Source: libvirt 9.0.0 virshDumpXML in tools/virsh-util.c.
    """
    if xpath is None:
        output.write(document)
        return
    from lxml import etree

    root = parsed(document)
    prefixes = {prefix: uri for prefix, uri in root.nsmap.items() if prefix}
    try:
        found: Any = root.getroottree().xpath(xpath, namespaces=prefixes)
    except (etree.XPathError, ValueError) as error:
        sys.stderr.write(f"XPath error : {error}\n")
        return
    if not isinstance(found, list):
        raise InternalError(f"Incorrect xpath '{xpath}'")
    found = [node for node in found if not isinstance(node, tuple)]  # namespace declarations
    if not wrap:
        output.write("".join(f"{as_text(node)}\n" for node in found))
        return
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
    output.write(etree.tostring(nodes, encoding="unicode", pretty_print=True))


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
