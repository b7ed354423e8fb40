"""A plan of `apply` as data: steps, in the order that they are done in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from storagectl.record import Record, field

if TYPE_CHECKING:
    from storagectl.documents import Place, WantedPool, WantedVolume
    from storagectl.errors import StorageError
    from storagectl.model import Pool, Volume
    from storagectl.pools import Entry

POOLS, VOLUMES = PRUNABLE = ("pools", "volumes")

# What becomes of a pool, and of a volume: words for what was done, and for what would be.
DEFINED, REDEFINED, BUILT, STARTED = "defined", "redefined", "built", "started"
MARKED, UNMARKED = "marked as autostarted", "unmarked as autostarted"
STOPPED, UNDEFINED = "stopped", "undefined"
CREATED, RESIZED, DELETED = "created", "resized", "deleted"


class Allowed(NamedTuple):
    """What `apply` was told that it may do."""

    build: bool = False
    overwrite: bool = False
    resize: bool = False
    prune: tuple[str, ...] = ()


class Step(Record):
    """One change of a pool, or of a volume of it.

    `before` and `after` are what it is and will be, where that is a matter of its definition.
    With `perhaps` only the pool, when it runs, tells whether it has to be done; with `new_uuid`
    the UUID of `after` was made up.
    """

    did: str
    pool: str
    volume: str | None = None
    before: Pool | Volume | None = None
    after: Pool | Volume | None = None
    place: Place | None = None
    perhaps: bool = False
    new_uuid: bool = False


class PoolPlan(Record):
    """What is to be done to one pool and its volumes.

    `wanted` is None where the files have only volumes of the pool.  With `unseen` the volumes
    can be looked at only when it runs, and are planned again then, as those `partly_seen`, which
    the host shows already though the pool was not started.  `listed` says that the
    files name all its volumes.  `needs` are the pools that have to be done before.
    """

    name: str
    pool: Pool
    wanted: WantedPool | None = None
    entry: Entry | None = None
    asked: list[WantedVolume] = field(default_factory=list)
    listed: bool = False
    unseen: bool = False
    partly_seen: bool = False
    needs: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    deletions: list[Step] = field(default_factory=list)

    def has(self, did: str) -> bool:
        """Tell whether this is going to be done for certain."""
        return any(step.did == did and not step.perhaps for step in self.steps)


class Plan(Record):
    """All that is to be done, and the problems of what is not done at all.

    `refused` are the pools that have a problem as a whole, so that none is done that needs them.
    `notes` are differences that stay, since nothing changes them and nothing fails for them.
    """

    allowed: Allowed
    removals: list[Step] = field(default_factory=list)
    pools: list[PoolPlan] = field(default_factory=list)
    problems: list[StorageError] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def steps(self) -> list[Step]:
        """All steps in order: old pools go first, old volumes last."""
        return [
            *self.removals,
            *(step for pool in self.pools for step in pool.steps),
            *(step for pool in self.pools for step in pool.deletions),
        ]
