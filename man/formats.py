"""The parts of the manual pages of section 5 that are made from elements.toml and the code.

Which pool types have an element is read from the schemas, what their sources need and which formats
there are from pooltypes, and what can be done with volumes from the backends.
"""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storagectl import backends, xmltree
from storagectl.pooltypes import ADAPTER, DEVICE, DIR, HOST, INITIATOR, NAME, POOL_TYPES
from storagectl.tools import mkfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMAS = Path(xmltree.__file__).parent / "schemas"
ELEMENTS = Path(__file__).resolve().parent / "elements.toml"
RNG = "{http://relaxng.org/ns/structure/1.0}"
FS = "http://libvirt.org/schemas/storagepool/fs/1.0"
SERVED = {row.name: row for row in POOL_TYPES.values() if row.module}
PLACES = {
    HOST: "source/host",
    DEVICE: "source/device",
    DIR: "source/dir",
    ADAPTER: "source/adapter",
    NAME: "source/name",
    INITIATOR: "source/initiator",
}
OPERATIONS = {
    "create_volume": "vol-create, vol-create-as",
    "create_volume_from": "vol-create-from, vol-clone",
    "resize_volume": "vol-resize",
    "rename_volume": "vol-rename",
    "delete_volume": "vol-delete",
}


class Schema:
    """A RelaxNG schema, as the paths that it allows."""

    def __init__(self, name: str) -> None:
        self.root = ET.parse(SCHEMAS / name).getroot()
        self.defines = {node.get("name"): node for node in self.root.iter(f"{RNG}define")}
        for include in self.root.iter(f"{RNG}include"):
            self.defines |= Schema(include.get("href", "")).defines

    def paths(self, node: ET.Element, prefix: str = "") -> Iterator[str]:
        """Yield what a pattern allows below `prefix`, as XPaths."""
        for child in node:
            tag = child.tag.removeprefix(RNG)
            if tag == "ref":
                yield from self.paths(self.defines[child.get("name")], prefix)
            elif tag == "attribute":
                yield f"{prefix}@{child.get('name')}"
            elif tag == "element":
                spaced = child.get("ns") == FS or "fs:" in prefix
                path = f"{prefix}{'fs:' if spaced else ''}{child.get('name')}"
                yield path
                yield from self.paths(child, f"{path}/")
            elif tag in ("optional", "zeroOrMore", "oneOrMore", "choice", "group", "interleave"):
                yield from self.paths(child, prefix)


def pool_paths() -> dict[str, list[str]]:
    """Return what a pool's document may have, each with the served types that have it."""
    schema = Schema("storagepool.rng")
    found: dict[str, list[str]] = {}
    for kind in SERVED:
        for path in dict.fromkeys(schema.paths(schema.defines[kind])):
            found.setdefault(path, []).append(kind)
    return found


def paths_below(root: str, name: str) -> list[str]:
    """Return what a document with that root may have by a schema with one start."""
    schema = Schema(name)
    (start,) = schema.root.iter(f"{RNG}start")
    paths = dict.fromkeys(schema.paths(start))
    return [path.removeprefix(f"{root}/") for path in paths if path != root]


def elements(kind: str) -> dict[str, list[dict[str, Any]]]:
    """Return the entries for `pool`, `volume` or `secret`, by their group."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in tomllib.loads(ELEMENTS.read_text())[kind]:
        groups.setdefault(entry["group"], []).append(entry)
    return groups


def elements_text(kind: str, roff: Callable[[str], str]) -> str:
    """Return all elements and attributes of a document as tagged paragraphs."""
    types = pool_paths() if kind == "pool" else {}
    lines: list[str] = []
    for group, entries in elements(kind).items():
        lines += [f".SS {roff(group)}"]
        for entry in entries:
            path = entry["path"]
            notes = [entry["need"]]
            having = entry["types"].split() if "types" in entry else types.get(path, list(SERVED))
            if len(having) < len(SERVED):
                notes.insert(0, types_words(having))
            lines += [".TP", f"\\fB{roff(path)}\\fR ({'; '.join(notes)})"]
            lines += [roff(line) for line in entry["text"].strip().splitlines()]
    return "\n".join(lines)


def types_words(having: list[str]) -> str:
    """Return some of the pool types in words."""
    others = [kind for kind in SERVED if kind not in having]
    return f"not {others[0]}" if len(others) == 1 else ", ".join(having)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table for tbl(1)."""
    columns = len(head) - 1
    layout = ["tab(|);", "lb2" * columns + "lb", "lb2" + "l2" * (columns - 1) + "l."]
    return "\n".join([".TS", *layout, *("|".join(row) for row in [head, *rows]), ".TE"])


def sources_table() -> str:
    """Return which type needs or takes what of a source."""
    rows = []
    for part, path in PLACES.items():
        cells = [
            "yes" if part in row.needs else "may" if part in row.reads else "-"
            for row in SERVED.values()
        ]
        rows.append([path.removeprefix("source/"), *cells])
    rows.append(["format", *("may" if row.pool_formats else "-" for row in SERVED.values())])
    return table(["", *SERVED], rows)


def pool_formats_text(roff: Callable[[str], str]) -> str:
    """Return the formats of the sources."""
    lines = []
    for row in SERVED.values():
        if not row.pool_formats:
            continue
        names = (*row.pool_formats, *row.extra_pool_formats)
        shown = ", ".join(f"\\fB{roff(name)}\\fR" for name in names)
        lines += [".TP", f"\\fB{row.name}\\fR", f"{shown}; default \\fB{row.pool_default}\\fR."]
        if row.pool_formats[0] == "auto" and any(map(mkfs.can_make, names)):
            made = ", ".join(roff(name) for name in names if mkfs.can_make(name))
            lines += [f"\\fBpool\\-build\\fR can make {made}."]
    return "\n".join(lines)


def volume_formats_text(roff: Callable[[str], str]) -> str:
    """Return the formats of volumes, once for all types that have the same."""
    groups: dict[tuple[tuple[str, ...], str], list[str]] = {}
    without = []
    for row in SERVED.values():
        if row.volume_default is None:
            without.append(row.name)
        else:
            names = tuple(n for n in row.volume_formats if n != "none" or n == row.volume_default)
            groups.setdefault((names, row.volume_default), []).append(row.name)
    lines = []
    for (names, default), types in groups.items():
        shown = ", ".join(f"\\fB{roff(name)}\\fR" for name in names)
        lines += [".TP", f"\\fB{', '.join(types)}\\fR", f"{shown}; default \\fB{default}\\fR."]
    lines += [".TP", f"\\fB{', '.join(without)}\\fR", "None: what is given is not looked at."]
    return "\n".join(lines)


def operations_table() -> str:
    """Return which pool type can do what with volumes."""
    rows = []
    for method, commands in OPERATIONS.items():
        cells = [
            "-" if getattr(backends.of_type(kind), method) is None else "yes" for kind in SERVED
        ]
        rows.append([re.sub("-", r"\\-", commands.split(", ")[0]), *cells])
    return table(["", *SERVED], rows)
