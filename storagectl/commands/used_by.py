"""Commands that tell who uses a pool or a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.commands.command import command, value
from storagectl.commands.vol_show import volume_options
from storagectl.store import warn

if TYPE_CHECKING:
    from storagectl.backends.users import Seen
    from storagectl.commands.session import Facts, Session

HEADER = ("Kind", "User", "Uses")


@command("pool-used-by", "List what uses a pool: mounts, devices, processes, images and pools.")
@value("pool", "pool name or uuid", required=True)
def pool_used_by(session: Session, pool: str) -> None:
    from storagectl import usage

    entry = session.pools.find(pool)
    seen = usage.of_pool(session.pools, entry)
    show(session, seen)
    session.result(lambda: {"pool": session.facts.pool_reference(entry), **facts_of(seen)})


@command("vol-used-by", "List what uses a vol: mounts, devices, processes, images and pools.")
@volume_options("vol name, key or path")
def vol_used_by(session: Session, vol: str, pool: str | None) -> None:
    from storagectl import usage

    found = session.volumes.find(vol, pool)
    seen = usage.of_volume(session.pools, found)
    show(session, seen)
    session.result(lambda: {"volume": session.volume_before(found), **facts_of(seen)})


def show(session: Session, seen: Seen) -> None:
    rows = [(use.kind, use.user, use.used) for use in seen.uses]
    output.write(output.table(HEADER, rows, quiet=session.quiet))
    if seen.unseen:
        one = seen.unseen == 1
        whose = "a process of other users has" if one else f"{seen.unseen} processes of others have"
        warn(f"what {whose} open is not seen; root sees it")


def facts_of(seen: Seen) -> Facts:
    return {"uses": [use._asdict() for use in seen.uses], "unseen_processes": seen.unseen}
