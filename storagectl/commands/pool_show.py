"""Commands that show pools."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.list_options import list_options, shape_of
from storagectl.commands.session import exclusive
from storagectl.errors import ClientError, Inaccessible, Mistyped, PoolNotFound, StorageError
from storagectl.pools import UUID_LENGTH
from storagectl.pooltypes import POOL_TYPES
from storagectl.store import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from storagectl.backends import PoolState
    from storagectl.commands.session import Session
    from storagectl.pools import Entry

NAME_WIDTH = 20


@command("pool-list", "Returns list of pools.", "Failed to list pools")
@flag("inactive", "list inactive pools")
@flag("all", "list inactive & active pools")
@flag("transient", "list transient pools")
@flag("persistent", "list persistent pools")
@flag("autostart", "list pools with autostart enabled")
@flag("no-autostart", "list pools with autostart disabled")
@value("type", "only list pool of specified type(s) (if supported)")
@flag("details", "display extended details for pools")
@flag("uuid", "list UUID of active pools only")
@flag("name", "list name of active pools only")
@list_options
def pool_list(
    session: Session,
    /,
    inactive: bool,
    all: bool,
    transient: bool,
    persistent: bool,
    autostart: bool,
    no_autostart: bool,
    type: str | None,
    details: bool,
    uuid: bool,
    name: bool,
    **given: Any,
) -> None:
    exclusive(details=details, uuid=uuid)
    exclusive(details=details, name=name)
    exclusive(all=all, inactive=inactive)
    for option, is_given in (("details", details), ("uuid", uuid), ("name", name)):
        exclusive(**{option: is_given, "format": given["format"] is not None})
    types = split_types(type)
    shape = shape_of(session, "pools", given)
    with session.pools.asking_once(), doubts_told(found := session.pools.all()):
        entries = [
            entry
            for entry in found
            if (all or entry.active != inactive)
            and passes(entry.persistent, persistent, transient)
            and passes(entry.autostart, autostart, no_autostart)
            and (not types or entry.pool.type in types)
        ]
        quiet = session.quiet or given["no_header"]
        if shape is not None:
            describe = partial(session.facts.of_pool, measured=shape.full, tolerant=True)
            left = shape.show((describe(entry), entry) for entry in entries)
            if left is None:
                return
            entries = left
        if details:
            rows = [detailed(entry, str if given["bytes"] else output.size) for entry in entries]
            header = (
                "Name", "State", "Autostart", "Persistent", "Capacity", "Allocation", "Available",
            )  # fmt: skip
            output.write(output.table(header, rows, quiet=quiet))
        elif name or uuid:
            for entry in entries:
                shown = padded(entry.name) if name else ""
                output.write(
                    " ".join(filter(None, (entry.pool.uuid if uuid else "", shown))) + "\n"
                )
        else:
            rows = [
                (entry.name, "active" if entry.active else "inactive", yes(entry.autostart))
                for entry in entries
            ]
            output.write(output.table(("Name", "State", "Autostart"), rows, quiet=quiet))


@contextmanager
def doubts_told(entries: Iterable[Entry]) -> Iterator[None]:
    """Tell at the end why the host did not say whether a pool runs: it is listed as inactive."""
    yield
    for entry in entries:
        if entry.unknown is not None:
            warn(f"pool '{entry.name}': {entry.unknown.lines()[-1].rstrip()}")


def split_types(text: str | None) -> set[str]:
    """Return the pool types of a comma list in which `,,` stands for a comma."""
    if text is None:
        return set()
    types = {part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")}
    for name in text.replace(",,", "\0").split(","):
        if name.replace("\0", ",") not in POOL_TYPES:
            raise ClientError(
                f"Invalid pool type '{name.replace(chr(0), ',')}'",
                mistyped=Mistyped(name, lambda: POOL_TYPES),
            )
    return types


def padded(name: str) -> str:
    """Return a name with blanks up to the width of the column, which virsh counts in bytes."""
    return name + " " * (NAME_WIDTH - len(name.encode("utf-8", "surrogateescape")))


def passes(state: bool, wanted: bool, unwanted: bool) -> bool:
    """Tell whether a state passes a pair of filters; both or none let all pass."""
    return wanted == unwanted or state == wanted


def yes(state: bool) -> str:
    return "yes" if state else "no"


def measured(entry: Entry) -> tuple[str, PoolState | None]:
    """Return a pool's state in a word, and what it is like where that can be said."""
    try:
        state = entry.state()
    except Inaccessible:
        return "inaccessible", None
    return "running" if state else "inactive", state


def detailed(entry: Entry, size: Callable[[int], str]) -> tuple[str, ...]:
    word, state = measured(entry)
    sizes = (
        (size(state.capacity), size(state.allocation), size(state.available))
        if state
        else ("-", "-", "-")
    )
    return (
        entry.name,
        word,
        yes(entry.autostart),
        yes(entry.persistent),
        *sizes,
    )


@command("pool-info", "Returns basic information about the storage pool.")
@value("pool", "pool name or uuid", required=True)
@flag("bytes", "Return pool info in bytes")
def pool_info(session: Session, pool: str, bytes: bool) -> None:
    entry = session.pools.find(pool)
    if session.json:
        session.result({"pool": session.facts.of_pool(entry)})
        return
    word, state = measured(entry)
    lines = [
        ("Name", output.visible(entry.name)),
        ("UUID", entry.pool.uuid),
        ("State", word),
        ("Persistent", yes(entry.persistent)),
        ("Autostart", yes(entry.autostart)),
    ]
    if state:
        show = str if bytes else output.size
        lines += [
            ("Capacity", show(state.capacity)),
            ("Allocation", show(state.allocation)),
            ("Available", show(state.available)),
        ]
    output.write("".join(output.labelled(*line) for line in lines))


@command("pool-exists", "Tell whether there is a pool: the exit status is 0 or 1.")
@value("pool", "pool name or uuid", required=True)
def pool_exists(session: Session, pool: str) -> None:
    session.answer(session.pools.exists(pool))


@command("pool-dumpxml", "Output the pool information as an XML dump to stdout.")
@value("pool", "pool name or uuid", required=True)
@flag("inactive", "show inactive defined XML")
@value("xpath", "xpath expression to filter the XML document", named_only=True)
@flag("wrap", "wrap xpath results in an common root element")
def pool_dumpxml(
    session: Session, pool: str, inactive: bool, xpath: str | None, wrap: bool
) -> None:
    from storagectl.commands.xml import show_xml
    from storagectl.poolxml import format_pool

    entry = session.pools.find(pool)
    document = format_pool(entry.described(inactive=inactive))
    found = show_xml(session, document, xpath, wrap)
    session.result(
        lambda: {
            "xml": document,
            "found": found,
            "pool": session.facts.of_pool(entry, inactive=inactive),
        }
    )


@command("pool-name", "")
@value("pool", "pool name or uuid", required=True)
def pool_name(session: Session, pool: str) -> None:
    from storagectl.poolxml import parse_uuid

    action = f"failed to get pool '{pool}'"
    if len(pool) != UUID_LENGTH:
        raise ClientError(action)
    if parse_uuid(pool) is None:
        raise StorageError(
            "uuidstr in virStoragePoolLookupByUUIDString must be a valid UUID", action=action
        )
    entry = session.pools.by_uuid(pool)
    if entry is None:
        raise PoolNotFound(f"no storage pool with matching uuid '{pool}'", action=action)
    output.write(entry.name + "\n")
    session.result(lambda: {"pool": session.facts.pool_reference(entry)})


@command("pool-uuid", "")
@value("pool", "pool name or uuid", required=True)
def pool_uuid(session: Session, pool: str) -> None:
    entry = session.pools.by_name(pool)
    if entry is None:
        raise PoolNotFound(
            f"no storage pool with matching name '{pool}'", action=f"failed to get pool '{pool}'"
        )
    output.write(entry.pool.uuid + "\n")
    session.result(lambda: {"pool": session.facts.pool_reference(entry)})


@command(
    "pool-capabilities",
    "Returns capabilities of storage pool support.",
    "failed to get storage pool capabilities",
)
def pool_capabilities(session: Session) -> None:
    from storagectl.capabilities import capabilities_xml

    document = capabilities_xml()
    output.write(document + "\n")
    session.result(lambda: {"xml": document, "types": session.facts.of_types()})
