"""Commands that show volumes."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.list_options import list_options, shape_of
from storagectl.commands.session import exclusive

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.commands.session import Session
    from storagectl.model import Volume


def volume_options(words: str) -> Callable[[Any], Any]:
    """Declare the volume that a command works on, and the pool it is in."""

    def declare(function: Any) -> Any:
        function = value("pool", "pool name or uuid")(function)
        return value("vol", words, required=True)(function)

    return declare


@command("vol-list", "Returns list of vols by pool.", "Failed to list volumes")
@value("pool", "pool name or uuid", required=True)
@flag("details", "display extended details for volumes")
@list_options
def vol_list(session: Session, /, pool: str, details: bool, **given: Any) -> None:
    exclusive(details=details, format=given["format"] is not None)
    shape = shape_of(session, "volumes", given)
    size = str if given["bytes"] else output.size

    def row(volume: Volume) -> tuple[str, ...]:
        if not details:
            return volume.name, volume.path
        sizes = size(volume.capacity), size(volume.allocation)
        return volume.name, volume.path, volume.type, *sizes

    if shape is not None:
        known = session.volumes.all(pool, details=details or shape.full)
        entry = session.pools.find(pool)
        left = shape.show((session.facts.of_volume(v, entry), v) for v in known)
        if left is None:
            return
        rows = list(map(row, left))
    else:
        # Of a million volumes no more is kept than is shown.
        volumes = session.volumes
        shown = map(row, volumes.sizes(pool)) if details else volumes.places(pool)
        rows = sorted(shown, key=itemgetter(0))
        rows.sort(key=lambda row: row[0].lower())
    header = ("Name", "Path", *(("Type", "Capacity", "Allocation") if details else ()))
    for part in output.table_parts(header, rows, quiet=session.quiet or given["no_header"]):
        output.write(part)


@command("vol-exists", "Tell whether there is a vol: the exit status is 0 or 1.")
@volume_options("vol name, key or path")
def vol_exists(session: Session, vol: str, pool: str | None) -> None:
    there = session.volumes.look_up(vol, pool) is not None
    if not there and pool is None and "/" not in vol:
        session.note(f"No vol has the key '{vol}'; --pool tells where to look for a name")
    session.answer(there)


@command("vol-info", "Returns basic information about the storage vol.")
@volume_options("vol name, key or path")
@flag("bytes", "sizes are represented in bytes rather than pretty units")
@flag("physical", "return the physical size of the volume in allocation field")
def vol_info(session: Session, vol: str, pool: str | None, bytes: bool, physical: bool) -> None:
    found = session.volumes.find(vol, pool)
    volume = found.volume
    session.result(lambda: {"volume": session.facts.of_volume(volume, found.entry)})
    second = ("Physical", volume.physical) if physical else ("Allocation", volume.allocation)
    lines = [("Name", output.visible(volume.name)), ("Type", volume.type)]
    for label, number in (("Capacity", volume.capacity), second):
        lines.append((label, f"{number} bytes" if bytes else output.size(number)))
    output.write("".join(output.labelled(*line) for line in lines))


@command("vol-dumpxml", "Output the vol information as an XML dump to stdout.")
@volume_options("vol name, key or path")
@value("xpath", "xpath expression to filter the XML document", named_only=True)
@flag("wrap", "wrap xpath results in an common root element")
def vol_dumpxml(
    session: Session, vol: str, pool: str | None, xpath: str | None, wrap: bool
) -> None:
    from storagectl.commands.xml import show_xml
    from storagectl.pooltypes import POOL_TYPES
    from storagectl.volxml import format_volume

    found = session.volumes.find(vol, pool)
    document = format_volume(found.volume, POOL_TYPES[found.entry.pool.type])
    nodes = show_xml(session, document, xpath, wrap)
    session.result(
        lambda: {
            "xml": document,
            "found": nodes,
            "volume": session.facts.of_volume(found.volume, found.entry),
        }
    )


@command("vol-path", "")
@volume_options("volume name or key")
def vol_path(session: Session, vol: str, pool: str | None) -> None:
    found = session.volumes.find(vol, pool)
    output.write(found.volume.path + "\n")
    session.result(lambda: {"volume": session.volume_before(found)})


@command("vol-key", "")
@volume_options("volume name or path")
def vol_key(session: Session, vol: str, pool: str | None) -> None:
    found = session.volumes.find(vol, pool)
    output.write(found.volume.key + "\n")
    session.result(lambda: {"volume": session.volume_before(found)})


@command("vol-name", "")
@value("vol", "volume key or path", required=True)
def vol_name(session: Session, vol: str) -> None:
    found = session.volumes.find(vol, None, pool_option=None)
    output.write(found.volume.name + "\n")
    session.result(lambda: {"volume": session.volume_before(found)})


@command("vol-pool", "")
@value("vol", "volume key or path", required=True)
@flag("uuid", "return the pool uuid rather than pool name")
def vol_pool(session: Session, vol: str, uuid: bool) -> None:
    found = session.volumes.find(vol, None, pool_option=None)
    entry = found.entry
    output.write((entry.pool.uuid if uuid else entry.name) + "\n")
    session.result(
        lambda: {
            "pool": session.facts.pool_reference(entry),
            "volume": session.volume_before(found),
        }
    )
