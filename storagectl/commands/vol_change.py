"""Commands that change, move or destroy the content of volumes."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.progress import (
    moving,
    progress_options,
    verification,
    verified,
    verify_option,
)
from storagectl.commands.vol_options import allow_backing_option
from storagectl.commands.vol_show import volume_options
from storagectl.errors import ClientError, Mistyped, StorageError
from storagectl.host.files import system_errors
from storagectl.units import COMMAND_LIMIT, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.commands.session import Session

# The name that stands for stdin or stdout.
STANDARD = "-"
STDIN, STDOUT = 0, 1


@command("vol-delete", "Delete a given vol.", "Failed to delete vol {vol}", changes=True)
@volume_options("vol name, key or path")
@flag(
    "delete-snapshots",
    "delete snapshots associated with volume (must be supported by storage driver)",
)
@flag("if-exists", "succeed where there is no such vol, or no such pool")
def vol_delete(
    session: Session, vol: str, pool: str | None, delete_snapshots: bool, if_exists: bool
) -> None:
    found = session.volumes.find_to_delete(vol, pool, missing_ok=if_exists)
    if found is None:
        session.done(f"Vol {vol} does not exist: nothing to delete", "nothing")
        return
    session.volumes.delete(found, snapshots=delete_snapshots)
    session.done(f"Vol {vol} deleted", "deleted", volume=session.volume_before(found))


@command("vol-rename", "Rename a vol.", "Failed to rename vol {vol} to {newname}", changes=True)
@value("vol", "vol name, key or path", required=True)
@value("newname", "new name of the vol", required=True)
@value("pool", "pool name or uuid")
def vol_rename(session: Session, vol: str, newname: str, pool: str | None) -> None:
    found = session.volumes.find(vol, pool)
    session.volumes.rename(found, newname)
    session.done(
        f"Vol {vol} renamed to {newname}",
        "renamed",
        before=session.volume_before(found),
        volume=session.volume(newname, found.entry.name),
    )


@command(
    "vol-resize",
    "Resizes a storage volume. This is safe only for storage volumes not in use by an active"
    " guest.\nSee blockresize for live resizing.",
    changes=True,
)
@value("vol", "vol name, key or path", required=True)
@value("capacity", "new capacity for the vol, as scaled integer (default bytes)", required=True)
@value("pool", "pool name or uuid")
@flag("allocate", "allocate the new capacity, rather than leaving it sparse")
@flag("delta", "use capacity as a delta to current size, rather than the new size")
@flag("shrink", "allow the resize to shrink the volume")
@allow_backing_option
def vol_resize(
    session: Session,
    vol: str,
    capacity: str,
    pool: str | None,
    allocate: bool,
    delta: bool,
    shrink: bool,
    allow_backing: bool,
) -> None:
    found = session.volumes.find(vol, pool)
    shown = capacity
    if capacity.startswith("-"):
        if not shrink:
            raise ClientError("negative size requires --shrink")
        delta = True
        shown = capacity[1:]
    size = parse(shown, COMMAND_LIMIT)
    name = found.volume.name
    how = "by" if delta else "to"
    with session.doing(f"Failed to change size of volume '{name}' {how} {shown}"):
        session.volumes.resize(
            found,
            size,
            delta=delta,
            shrink=shrink,
            allocate=allocate,
            allow_backing=allow_backing,
        )
    session.done(
        f"Size of volume '{name}' successfully changed {how} {shown}",
        "resized",
        capacity_before=found.volume.capacity,
        volume=session.volume(name, found.entry.name),
    )


def window_options(verb: str, preposition: str) -> Callable[[Any], Any]:
    """Declare the part of a volume that is moved."""

    def declare(function: Any) -> Any:
        function = flag("sparse", "preserve sparseness of volume")(function)
        function = value("length", f"amount of data to {verb}", number=True, wraps=True)(function)
        summary = f"volume offset to {verb} {preposition}"
        return value("offset", summary, number=True)(function)

    return declare


@command("vol-upload", "Upload file contents to a volume", changes=True)
@value("vol", "vol name, key or path", required=True)
@value("file", "file, - for stdin", required=True)
@value("pool", "pool name or uuid")
@window_options("upload", "to")
@progress_options
@verify_option
def vol_upload(
    session: Session,
    vol: str,
    file: str,
    pool: str | None,
    offset: int | None,
    length: int | None,
    sparse: bool,
    verify: bool,
    progress: bool,
    no_progress: bool,
) -> None:
    from storagectl import volumedata

    found = session.volumes.find(vol, pool)
    try:
        source = open(file if file != STANDARD else STDIN, "rb", closefd=file != STANDARD)  # noqa: SIM115
    except IsADirectoryError as error:
        raise StorageError(
            f"send handler failed: {error.strerror}", action=f"cannot send data to volume {vol}"
        ) from error
    except OSError as error:
        raise ClientError(f"cannot read {file}") from error
    with (
        source,
        moving(progress, no_progress, verify=verify) as mover,
        session.doing(f"cannot upload to volume {vol}"),
    ):
        volumedata.upload(
            session.volumes,
            found,
            source.fileno(),
            mover,
            offset=offset or 0,
            length=(length or 0) % 2**64,
            sparse=sparse,
        )
    session.done_silently(
        "uploaded",
        bytes=mover.meter.done,
        verification=verification(mover) if verify else None,
        volume=session.volume(found.volume.name, found.entry.name),
    )
    if verify:
        output.write(verified(mover, found.volume.name))


@command("vol-download", "Download volume contents to a file", changes=True)
@value("vol", "vol name, key or path", required=True)
@value("file", "file, - for stdout", required=True)
@value("pool", "pool name or uuid")
@window_options("download", "from")
@progress_options
@verify_option
def vol_download(
    session: Session,
    vol: str,
    file: str,
    pool: str | None,
    offset: int | None,
    length: int | None,
    sparse: bool,
    verify: bool,
    progress: bool,
    no_progress: bool,
) -> None:
    from storagectl import volumedata

    to_stdout = file == STANDARD
    session.has_data_on_stdout = to_stdout and session.json
    found = session.volumes.find(vol, pool)
    with session.doing(f"cannot download from volume {vol}"), contextlib.ExitStack() as stack:
        if to_stdout:
            sys.stdout.flush()
            session.has_data_on_stdout = True
            target = STDOUT
        else:
            stack.enter_context(system_errors(f"cannot write '{file}'"))
            try:
                target = stack.enter_context(session.host.replacing(file))
            except OSError as error:
                raise ClientError(f"cannot create {file}") from error
        mover = stack.enter_context(moving(progress, no_progress, verify=verify))
        volumedata.download(
            session.volumes,
            found,
            target,
            mover,
            offset=offset or 0,
            length=(length or 0) % 2**64,
            sparse=sparse,
            in_order=to_stdout,
        )
    session.done_silently(
        "downloaded",
        bytes=mover.meter.done,
        verification=verification(mover) if verify else None,
        file=None if to_stdout else file,
        volume=session.volume(found.volume.name, found.entry.name),
    )
    if verify and not (session.json or session.dry_run):
        line = verified(mover, found.volume.name)
        if to_stdout:
            output.put(sys.stderr, line)
        else:
            output.write(line)


@command(
    "vol-wipe",
    "Ensure data previously on a volume is not accessible to future reads",
    "Failed to wipe vol {vol}",
    changes=True,
)
@volume_options("vol name, key or path")
@value("algorithm", "perform selected wiping algorithm")
@progress_options
def vol_wipe(
    session: Session,
    vol: str,
    pool: str | None,
    algorithm: str | None,
    progress: bool,
    no_progress: bool,
) -> None:
    from storagectl import volumedata

    found = session.volumes.find(vol, pool)
    if algorithm is None:
        algorithm = session.config.wipe_algorithm
    if algorithm not in volumedata.WIPE_ALGORITHMS:
        raise ClientError(
            f"Unsupported algorithm '{algorithm}'",
            mistyped=Mistyped(algorithm, lambda: volumedata.WIPE_ALGORITHMS),
        )
    with moving(progress, no_progress) as mover:
        volumedata.wipe(session.volumes, found, algorithm, mover)
    session.done(
        f"Vol {vol} wiped",
        "wiped",
        algorithm=algorithm,
        volume=session.volume(found.volume.name, found.entry.name),
    )
