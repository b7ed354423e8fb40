"""Commands that find what pools could be made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.commands.command import command, value
from storagectl.commands.session import read_file
from storagectl.pooltypes import POOL_TYPES

if TYPE_CHECKING:
    from storagectl.commands.session import Session


@command(
    "find-storage-pool-sources",
    "Returns XML <sources> document.",
    "Failed to find any {type} pool sources",
)
@value("type", "type of storage pool sources to discover", required=True)
@value("srcSpec", "optional file of source xml to query for pools")
def find_storage_pool_sources(session: Session, type: str, srcspec: str | None) -> None:
    show_sources(session, type, None if srcspec is None else read_file(srcspec))


@command(
    "find-storage-pool-sources-as",
    "Returns XML <sources> document.",
    "Failed to find any {type} pool sources",
)
@value("type", "type of storage pool sources to find", required=True)
@value("host", "optional host to query")
@value("port", "optional port to query")
@value("initiator", "optional initiator IQN to use for query")
def find_storage_pool_sources_as(
    session: Session, type: str, host: str | None, port: str | None, initiator: str | None
) -> None:
    document = None if host is None else source_document(host, port, initiator)
    show_sources(session, type, document)


def show_sources(session: Session, kind: str, wanted: bytes | str | None) -> None:
    from storagectl.poolxml import format_sources

    sources = session.pools.find_sources(kind, wanted)
    document = format_sources(sources, POOL_TYPES[kind])
    output.write(document)
    session.result(
        lambda: {"xml": document, "sources": [session.facts.of_source(s) for s in sources]}
    )


def source_document(host: str, port: str | None, initiator: str | None) -> str:
    """Return the XML of a source that options describe, as virsh writes it, unescaped.

    Source: libvirt 9.0.0 cmdPoolDiscoverSourcesAs in tools/virsh-pool.c.
    """
    at = f" port='{port}'" if port else ""
    lines = ["<source>", f"  <host name='{host}'{at}/>"]
    if initiator:
        lines += ["  <initiator>", f"    <iqn name='{initiator}'/>", "  </initiator>"]
    return "\n".join([*lines, "</source>", ""])
