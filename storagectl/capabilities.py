"""What pool-capabilities prints: the table of pool types as XML.

Source: libvirt 9.0.0 virStoragePoolCapsFormat in src/conf/storage_capabilities.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl.pooltypes import POOL_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator


def capabilities_xml() -> str:
    """Return the document, with a final newline."""
    lines = ["<storagepoolCapabilities>"]
    for row in POOL_TYPES.values():
        supported = "yes" if row.module else "no"
        lines.append(f"  <pool type='{row.name}' supported='{supported}'>")
        if row.pool_default is not None:
            lines += options("pool", "source", row.pool_default, row.pool_formats)
        if row.volume_default is not None:
            lines += options("vol", "target", row.volume_default, row.volume_formats)
        lines.append("  </pool>")
    return "\n".join([*lines, "</storagepoolCapabilities>", ""])


def options(element: str, part: str, default: str, formats: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines for the formats of pools or of their volumes."""
    yield f"    <{element}Options>"
    yield f"      <defaultFormat type='{default}'/>"
    yield f"      <enum name='{part}FormatType'>"
    yield from (f"        <value>{name}</value>" for name in formats)
    yield "      </enum>"
    yield f"    </{element}Options>"
