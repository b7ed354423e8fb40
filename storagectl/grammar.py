"""What a <pool> and a <volume> in a file for `apply` may hold, as data.

pool-define and vol-create pass over what they don't know, as virsh does.  A file in a
repository is written by hand, so that a misspelt word in it is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import DocumentError
from storagectl.poolxml import MOUNT_NAMESPACE

if TYPE_CHECKING:
    from storagectl.xmltree import Node


class Element(NamedTuple):
    """An element: its attributes, and its child elements by their tag.

    `main` is the attribute that a bare value stands for in YAML; where it is "" that is the
    text, which the element has when `text` says so.  `items` is the tag of what a list in YAML
    holds, where that is not the element itself several times.
    """

    attributes: tuple[str, ...] = ()
    children: dict[str, Element] = {}
    main: str = ""
    text: bool = False
    items: str = ""


# Attributes that are yes or no; in YAML they may be true or false.
SWITCHES = ("autostart", "build", "managed", "part_separator", "start", "state")

TEXT = Element(text=True)
EMPTY = Element()
SIZE = Element(("unit",), text=True)
NAMED = Element(("name",), main="name")
FORMAT = Element(("type",), main="type")
PERMISSIONS = Element(children=dict.fromkeys(("mode", "owner", "group", "label"), TEXT))
SECRET = Element(("type", "uuid", "usage"))
TIMESTAMPS = Element(children=dict.fromkeys(("atime", "mtime", "ctime", "btime"), TEXT))
RANGE = Element(("start", "end"))
FILE = {"path": TEXT, "format": FORMAT, "permissions": PERMISSIONS, "timestamps": TIMESTAMPS}

VOLUME = Element(
    ("type", "pool"),
    {
        "name": TEXT,
        "key": TEXT,
        "capacity": SIZE,
        "allocation": SIZE,
        "physical": SIZE,
        "source": Element(children={
            "device": Element(("path",), {"extent": RANGE}, main="path"),
        }),
        "target": Element(children={
            **FILE,
            "encryption": Element(("format", "engine"), {
                "secret": SECRET,
                "cipher": Element(("name", "size", "mode", "hash")),
                "ivgen": Element(("name", "hash")),
            }),
            "compat": TEXT,
            "clusterSize": SIZE,
            "nocow": EMPTY,
            "features": Element(children={"lazy_refcounts": EMPTY, "extended_l2": EMPTY}),
        }),
        "backingStore": Element(children=FILE),
    },
)  # fmt: skip

ADAPTER = Element(
    (
        "type", "name", "parent", "parent_wwnn", "parent_wwpn", "parent_fabric_wwn", "managed",
        "wwnn", "wwpn",
    ),
    {
        "parentaddr": Element(("unique_id",), {
            "address": Element(("domain", "bus", "slot", "function", "multifunction")),
        }),
    },
    main="name",
)  # fmt: skip

POOL = Element(
    ("type", "build", "start", "autostart"),
    {
        "name": TEXT,
        "uuid": TEXT,
        "capacity": SIZE,
        "allocation": SIZE,
        "available": SIZE,
        "features": Element(children={"cow": Element(("state",), main="state")}),
        "source": Element(children={
            "host": Element(("name", "port"), main="name"),
            "device": Element(("path", "part_separator"), {"freeExtent": RANGE}, main="path"),
            "dir": Element(("path",), main="path"),
            "adapter": ADAPTER,
            "name": TEXT,
            "initiator": Element(children={"iqn": NAMED}),
            "format": FORMAT,
            "auth": Element(("type", "username"), {"secret": SECRET}),
            "protocol": Element(("ver",), main="ver"),
            "vendor": NAMED,
            "product": NAMED,
        }),
        "target": Element(children={"path": TEXT, "permissions": PERMISSIONS}),
        "refresh": Element(children={
            "volume": Element(("allocation",), main="allocation"),
        }),
        "mount_opts": Element(children={"option": NAMED}, items="option"),
        "volumes": Element(children={"volume": VOLUME}, items="volume"),
    },
)  # fmt: skip

STORAGE = Element(
    children={
        "pool": POOL,
        "pools": Element(children={"pool": POOL}, items="pool"),
        "volume": VOLUME,
        "volumes": Element(children={"volume": VOLUME}, items="volume"),
    }
)

# Elements that in XML are in a namespace.
NAMESPACES = {"mount_opts": MOUNT_NAMESPACE, "option": MOUNT_NAMESPACE}


def at(path: str, line: int) -> str:
    """Return the first line of an error about a place in a file."""
    return f"Failed to read {path}, line {line}"


def tag_of(name: str) -> str:
    """Return the tag of an element with its namespace."""
    return f"{{{NAMESPACES[name]}}}{name}" if name in NAMESPACES else name


def check(node: Node, element: Element, path: str) -> None:
    """Raise DocumentError for the first element, attribute or text that does not belong."""

    def wrong(what: str, line: int) -> DocumentError:
        return DocumentError(what, action=at(path, line))

    for name in node.attributes:
        if name not in element.attributes:
            raise wrong(f"<{node.local}> has no attribute '{name}'", node.line)
    for part in node.content:
        if isinstance(part, str):
            if part.strip() and not element.text:
                raise wrong(f"<{node.local}> has no text: '{part.strip()}'", node.line)
        elif part.local not in element.children or part.tag != tag_of(part.local):
            raise wrong(f"<{node.local}> has no element '{part.tag}'", part.line)
        else:
            check(part, element.children[part.local], path)
