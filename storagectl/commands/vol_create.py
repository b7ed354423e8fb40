"""Commands that make volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.progress import (
    moving,
    progress_options,
    verification,
    verified,
    verify_option,
)
from storagectl.commands.session import exclusive, read_file
from storagectl.commands.vol_options import (
    allow_backing_option,
    if_missing_option,
    permission_lines,
    permission_options,
    permissions,
)
from storagectl.errors import VolumeExists, VolumeNameTaken
from storagectl.pooltypes import POOL_TYPES
from storagectl.units import COMMAND_LIMIT, parse

if TYPE_CHECKING:
    from storagectl.commands.session import Session
    from storagectl.model import Volume


@command("vol-create", "Create a vol.", "Failed to create vol from {file}", changes=True)
@value("pool", "pool name", required=True)
@value("file", "file containing an XML vol description", required=True)
@flag("prealloc-metadata", "preallocate metadata (for qcow2 instead of full allocation)")
@flag("validate", "validate the XML against the schema")
@allow_backing_option
@if_missing_option
def vol_create(
    session: Session,
    pool: str,
    file: str,
    prealloc_metadata: bool,
    validate: bool,
    allow_backing: bool,
    if_missing: bool,
) -> None:
    from storagectl.volxml import parse_volume

    row = POOL_TYPES[session.pools.find(pool).pool.type]
    volume = parse_volume(read_file(file), row, capacity_optional=False, validated=validate)
    try:
        session.volumes.create(
            pool, volume, metadata=prealloc_metadata, allow_backing=allow_backing
        )
    except VolumeExists:
        if not if_missing:
            raise
        tell_that_it_exists(session, volume.name, pool, "create")
    else:
        words = f"Vol {volume.name} created from {file}"
        session.done(words, "created", volume=session.volume(volume.name, pool))


def tell_that_it_exists(session: Session, name: str, pool: str, verb: str) -> None:
    """Say that there was nothing to do for a command with --if-missing."""
    words = f"Vol {name} exists already: nothing to {verb}"
    session.done(words, "nothing", volume=session.volume(name, pool))


@command("vol-create-as", "Create a vol.", "Failed to create vol {name}", changes=True)
@value("pool", "pool name", required=True)
@value("name", "name of the volume", required=True)
@value(
    "capacity",
    "size of the vol, as scaled integer (default bytes)",
    required=True,
)
@value("allocation", "initial allocation size, as scaled integer (default bytes)")
@value("format", "file format type raw,bochs,qcow,qcow2,qed,vmdk")
@value("backing-vol", "the backing volume if taking a snapshot")
@value("backing-vol-format", "format of backing volume if taking a snapshot")
@flag("prealloc-metadata", "preallocate metadata (for qcow2 instead of full allocation)")
@flag("print-xml", "print XML document, but don't define/create")
@permission_options
@allow_backing_option
@if_missing_option
def vol_create_as(
    session: Session,
    pool: str,
    name: str,
    capacity: str,
    allocation: str | None,
    format: str | None,
    backing_vol: str | None,
    backing_vol_format: str | None,
    prealloc_metadata: bool,
    print_xml: bool,
    owner: str | None,
    group: str | None,
    mode: str | None,
    allow_backing: bool,
    if_missing: bool,
) -> None:
    from storagectl.commands.xml import require_values
    from storagectl.volxml import parse_volume

    wanted = permissions(owner, group, mode)
    entry = session.pools.find(pool)
    size = parse(capacity, COMMAND_LIMIT)
    lines = [
        "<volume>",
        f"  <name>{name}</name>",
        f"  <capacity>{size}</capacity>",
    ]
    if allocation is not None:
        lines.append(f"  <allocation>{parse(allocation, COMMAND_LIMIT)}</allocation>")
    target = [] if format is None else [f"    <format type='{format}'/>"]
    if wanted:
        target += permission_lines(wanted)
    if target:
        lines += ["  <target>", *target, "  </target>"]
    backing: Volume | None = None
    if backing_vol is not None:
        backing = session.volumes.find_backing(backing_vol, pool)
        lines += ["  <backingStore>", f"    <path>{backing.path}</path>"]
        if backing_vol_format is not None:
            lines.append(f"    <format type='{backing_vol_format}'/>")
        lines.append("  </backingStore>")
    document = "\n".join([*lines, "</volume>", ""])
    if print_xml:
        output.write(document)
        session.result({"xml": document})
        return
    volume = parse_volume(document, POOL_TYPES[entry.pool.type], capacity_optional=False)
    require_values((name, backing.path if backing else None), (format, backing_vol_format))
    session.volumes.give(pool, volume, wanted)
    try:
        session.volumes.create(
            pool, volume, metadata=prealloc_metadata, allow_backing=allow_backing
        )
    except VolumeExists:
        if not if_missing:
            raise
        tell_that_it_exists(session, name, pool, "create")
    else:
        session.done(f"Vol {name} created", "created", volume=session.volume(name, pool))


@command(
    "vol-create-from",
    "Create a vol from an existing volume.",
    "Failed to create vol from {file}",
    changes=True,
)
@value("pool", "pool name or uuid", required=True)
@value("file", "file containing an XML vol description", required=True)
@value("vol", "vol name, key or path", required=True)
@value("inputpool", "pool name or uuid of the input volume's pool")
@flag("prealloc-metadata", "preallocate metadata (for qcow2 instead of full allocation)")
@flag("reflink", "use btrfs COW lightweight copy")
@flag("validate", "validate the XML against the schema")
@progress_options
@verify_option
@value("capacity", "size of the vol, as scaled integer (default bytes)", named_only=True)
@permission_options
@flag("keep-backing", "keep the backing store of a qcow2 vol instead of copying its data")
@allow_backing_option
@if_missing_option
def vol_create_from(
    session: Session,
    pool: str,
    file: str,
    vol: str,
    inputpool: str | None,
    prealloc_metadata: bool,
    reflink: bool,
    validate: bool,
    verify: bool,
    progress: bool,
    no_progress: bool,
    capacity: str | None,
    owner: str | None,
    group: str | None,
    mode: str | None,
    keep_backing: bool,
    allow_backing: bool,
    if_missing: bool,
) -> None:
    from storagectl.volumes import grow
    from storagectl.volxml import parse_volume

    exclusive(keep_backing=keep_backing, reflink=reflink)
    exclusive(keep_backing=keep_backing, prealloc_metadata=prealloc_metadata)
    wanted = permissions(owner, group, mode)
    size = None if capacity is None else parse(capacity, COMMAND_LIMIT)
    row = POOL_TYPES[session.pools.find(pool).pool.type]
    source = session.volumes.find(vol, inputpool, pool_option="inputpool")
    volume = parse_volume(read_file(file), row, capacity_optional=True, validated=validate)
    session.volumes.give(pool, volume, wanted)
    if size is not None:
        grow(volume, source.volume, size)
    volume.keeps_backing = keep_backing
    try:
        with moving(progress, no_progress, verify=verify) as mover:
            session.volumes.create_from(
                pool,
                volume,
                source,
                mover,
                metadata=prealloc_metadata,
                reflink=reflink,
                allow_backing=allow_backing,
            )
    except VolumeNameTaken:
        if not if_missing:
            raise
        tell_that_it_exists(session, volume.name, pool, "create")
        return
    session.done(
        f"Vol {volume.name} created from input vol {source.volume.name}",
        "created",
        source=session.volume_before(source),
        verification=verification(mover) if verify else None,
        volume=session.volume(volume.name, pool),
    )
    if verify:
        output.write(verified(mover, volume.name))


@command(
    "vol-clone",
    "Clone an existing volume within the parent pool.",
    "Failed to clone vol from {vol}",
    changes=True,
)
@value("vol", "vol name, key or path", required=True)
@value("newname", "clone name", required=True)
@value("pool", "pool name or uuid")
@flag("prealloc-metadata", "preallocate metadata (for qcow2 instead of full allocation)")
@flag("reflink", "use btrfs COW lightweight copy")
@flag("print-xml", "print XML document rather than clone the volume")
@progress_options
@verify_option
@value("capacity", "size of the clone, as scaled integer (default bytes)", named_only=True)
@permission_options
@flag("linked", "make a qcow2 vol that reads from the vol what it has not itself")
@flag("keep-backing", "keep the backing store of a qcow2 vol instead of copying its data")
@allow_backing_option
@if_missing_option
def vol_clone(
    session: Session,
    vol: str,
    newname: str,
    pool: str | None,
    prealloc_metadata: bool,
    reflink: bool,
    print_xml: bool,
    verify: bool,
    progress: bool,
    no_progress: bool,
    capacity: str | None,
    owner: str | None,
    group: str | None,
    mode: str | None,
    linked: bool,
    keep_backing: bool,
    allow_backing: bool,
    if_missing: bool,
) -> None:
    from storagectl.volumes import grow

    exclusive(linked=linked, keep_backing=keep_backing, reflink=reflink)
    exclusive(linked=linked, keep_backing=keep_backing, prealloc_metadata=prealloc_metadata)
    exclusive(linked=linked, verify=verify)
    wanted = permissions(owner, group, mode)
    size = None if capacity is None else parse(capacity, COMMAND_LIMIT)
    source = session.volumes.find(vol, pool)
    home = source.entry.name
    volume = source.volume.replace(name=newname, keeps_backing=keep_backing)
    if linked:
        volume = session.volumes.linked(source, newname)
    session.volumes.give(home, volume, wanted)
    if size is not None:
        grow(volume, source.volume, size)
    if print_xml:
        from storagectl.commands.xml import renamed
        from storagectl.volxml import format_volume

        row = POOL_TYPES[source.entry.pool.type]
        document = renamed(format_volume(volume.replace(name=source.volume.name), row), newname)
        output.write(document)
        session.result({"xml": document})
        return
    try:
        with moving(progress, no_progress, verify=verify) as mover:
            if linked:
                session.volumes.create(home, volume, metadata=False, allow_backing=allow_backing)
            else:
                session.volumes.create_from(
                    home,
                    volume,
                    source,
                    mover,
                    metadata=prealloc_metadata,
                    reflink=reflink,
                    allow_backing=allow_backing,
                )
    except (VolumeExists, VolumeNameTaken):
        if not if_missing:
            raise
        tell_that_it_exists(session, newname, home, "clone")
        return
    session.done(
        f"Vol {newname} cloned from {source.volume.name}",
        "cloned",
        source=session.volume_before(source),
        verification=verification(mover) if verify else None,
        volume=session.volume(newname, home),
    )
    if verify:
        output.write(verified(mover, newname))
