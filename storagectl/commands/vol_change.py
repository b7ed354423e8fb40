"""Commands that change, move or destroy the content of volumes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from storagectl.commands import command, flag, value
from storagectl.commands.vol_show import volume_options
from storagectl.errors import ClientError, StorageError
from storagectl.units import COMMAND_LIMIT, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.commands.session import Session


@command("vol-delete", "Delete a given vol.", "Failed to delete vol {vol}")
@volume_options("vol name, key or path")
@flag(
    "delete-snapshots",
    "delete snapshots associated with volume (must be supported by storage driver)",
)
@click.pass_obj
def vol_delete(session: Session, vol: str, pool: str | None, delete_snapshots: bool) -> None:
    session.volumes.delete(session.volumes.find(vol, pool), snapshots=delete_snapshots)
    session.say(f"Vol {vol} deleted")


@command(
    "vol-resize",
    "Resizes a storage volume. This is safe only for storage volumes not in use by an active"
    " guest.\nSee blockresize for live resizing.",
)
@value("vol", "vol name, key or path", required=True)
@value("capacity", "new capacity for the vol, as scaled integer (default bytes)", required=True)
@value("pool", "pool name or uuid")
@flag("allocate", "allocate the new capacity, rather than leaving it sparse")
@flag("delta", "use capacity as a delta to current size, rather than the new size")
@flag("shrink", "allow the resize to shrink the volume")
@click.pass_obj
def vol_resize(
    session: Session,
    vol: str,
    capacity: str,
    pool: str | None,
    allocate: bool,
    delta: bool,
    shrink: bool,
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
        session.volumes.resize(found, size, delta=delta, shrink=shrink, allocate=allocate)
    session.say(f"Size of volume '{name}' successfully changed {how} {shown}")


def window_options(verb: str, preposition: str) -> Callable[[Any], Any]:
    """Declare the part of a volume that is moved."""

    def declare(function: Any) -> Any:
        function = flag("sparse", "preserve sparseness of volume")(function)
        function = value("length", f"amount of data to {verb}", number=True, wraps=True)(function)
        summary = f"volume offset to {verb} {preposition}"
        return value("offset", summary, number=True)(function)

    return declare


@command("vol-upload", "Upload file contents to a volume")
@value("vol", "vol name, key or path", required=True)
@value("file", "file", required=True)
@value("pool", "pool name or uuid")
@window_options("upload", "to")
@click.pass_obj
def vol_upload(
    session: Session,
    vol: str,
    file: str,
    pool: str | None,
    offset: int | None,
    length: int | None,
    sparse: bool,
) -> None:
    found = session.volumes.find(vol, pool)
    try:
        source = open(file, "rb")  # noqa: SIM115
    except IsADirectoryError as error:
        raise StorageError(
            f"send handler failed: {error.strerror}", action=f"cannot send data to volume {vol}"
        ) from error
    except OSError as error:
        raise ClientError(f"cannot read {file}") from error
    with source, session.doing(f"cannot upload to volume {vol}"):
        session.volumes.upload(
            found, source.fileno(), offset=offset or 0, length=(length or 0) % 2**64, sparse=sparse
        )


@command("vol-download", "Download volume contents to a file")
@value("vol", "vol name, key or path", required=True)
@value("file", "file", required=True)
@value("pool", "pool name or uuid")
@window_options("download", "from")
@click.pass_obj
def vol_download(
    session: Session,
    vol: str,
    file: str,
    pool: str | None,
    offset: int | None,
    length: int | None,
    sparse: bool,
) -> None:
    found = session.volumes.find(vol, pool)
    with contextlib.ExitStack() as stack:
        try:
            target = stack.enter_context(session.host.replacing(file))
        except OSError as error:
            raise ClientError(f"cannot create {file}") from error
        with session.doing(f"cannot download from volume {vol}"):
            session.volumes.download(
                found, target, offset=offset or 0, length=(length or 0) % 2**64, sparse=sparse
            )


@command(
    "vol-wipe",
    "Ensure data previously on a volume is not accessible to future reads",
    "Failed to wipe vol {vol}",
)
@volume_options("vol name, key or path")
@value("algorithm", "perform selected wiping algorithm")
@click.pass_obj
def vol_wipe(session: Session, vol: str, pool: str | None, algorithm: str | None) -> None:
    from storagectl.volumes import WIPE_ALGORITHMS

    found = session.volumes.find(vol, pool)
    if algorithm is not None and algorithm not in WIPE_ALGORITHMS:
        raise ClientError(f"Unsupported algorithm '{algorithm}'")
    session.volumes.wipe(found, algorithm or "zero")
    session.say(f"Vol {vol} wiped")
