"""What has to be done so that the machine has the pools and volumes that files ask for.

Planning looks at the machine and changes nothing.  What was not allowed, or cannot be, is a
problem of the plan and known before the first step.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl import backends, conflicts
from storagectl.autostart import around
from storagectl.errors import OperationInvalid, PoolNotFound, StorageError
from storagectl.grammar import at
from storagectl.plan import (
    BUILT,
    DEFINED,
    MARKED,
    POOLS,
    REDEFINED,
    STARTED,
    STOPPED,
    UNDEFINED,
    UNMARKED,
    Allowed,
    Plan,
    PoolPlan,
    Step,
)
from storagectl.pools import Entry, require_absolute
from storagectl.volumeplan import VolumePlanner, other_permissions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.documents import Place, Wanted, WantedPool, WantedVolume
    from storagectl.model import Pool
    from storagectl.pools import Pools


def make(pools: Pools, wanted: Wanted, allowed: Allowed) -> Plan:
    """Return the plan for what files ask for.  A pool or volume with a problem has no steps."""
    return Planner(pools, wanted, allowed).made()


class Planner:
    """Makes one plan."""

    def __init__(self, pools: Pools, wanted: Wanted, allowed: Allowed) -> None:
        self.pools = pools
        self.wanted = wanted
        self.plan = Plan(allowed)
        unread: dict[str, StorageError] = {}
        self.entries = {entry.name: entry for entry in pools.all(unread)}
        self.defined = {each.pool.name for each in wanted.pools}
        for name, error in unread.items():
            if name in self.defined or POOLS in allowed.prune:
                error.action = f"failed to get pool '{name}'"
                raise error
        self.volumes: dict[str, list[WantedVolume]] = {}
        for volume in wanted.volumes:
            self.volumes.setdefault(volume.pool, []).append(volume)
        self.volume_paths = {
            f"{each.pool.target}/{volume.name}": each.pool.name
            for each in wanted.pools
            for volume in self.volumes.get(each.pool.name, ())
        }
        self.used = self.volumes.keys() | wanted.listed

    def made(self) -> Plan:
        if POOLS in self.plan.allowed.prune:
            self.remove_others()
        found = [*self.wanted_pools(), *self.pools_with_volumes()]
        for each in found:
            each.needs = self.needs(each)
        self.plan.pools = in_order(found)
        for each in self.plan.pools:
            try:
                self.add_volumes(each)
            except StorageError as error:
                self.plan.refused.add(each.name)
                each.steps = []
                self.problem(error, each.asked[0].place if each.asked else None)
        return self.plan

    def problem(self, error: StorageError, place: Place | None) -> None:
        if error.action is None and place is not None:
            error.action = at(*place).replace("read", "apply", 1)
        self.plan.problems.append(error)

    def remove_others(self) -> None:
        """Plan to stop and forget the pools that no file has.  Transient ones are left alone."""
        for name, entry in list(self.entries.items()):
            if name in self.defined | self.used or not entry.persistent:
                continue
            del self.entries[name]
            if entry.active:
                self.plan.removals.append(Step(STOPPED, name))
            self.plan.removals.append(Step(UNDEFINED, name, before=entry.config))

    # Pools

    def wanted_pools(self) -> Iterator[PoolPlan]:
        accepted: list[Entry] = []
        for each in self.wanted.pools:
            entry = self.entries.get(each.pool.name)
            try:
                pool = self.checked(each, entry, accepted)
                accepted.append(Entry(self.pools.host, pool, None, autostart=False))
                yield self.pool_plan(each, pool, entry)
            except StorageError as error:
                self.plan.refused.add(each.pool.name)
                self.problem(error, each.place)

    def checked(self, wanted: WantedPool, entry: Entry | None, accepted: list[Entry]) -> Pool:
        """Return the definition of a pool, with the UUID that it has on this machine.

        Raises: StorageError for one that cannot be here, or not beside the others.
        """
        pool = wanted.pool
        if entry is not None and not wanted.has_uuid:
            pool = pool.replace(uuid=entry.pool.uuid)
        backends.load(pool, self.pools.host)
        require_absolute(pool)
        own = [entry] if entry is not None else []
        others = [other for name, other in self.entries.items() if name not in self.defined]
        conflicts.require_unique(self.pools, pool, starting=False, entries=[*own, *others])
        try:
            conflicts.require_unique(self.pools, pool, starting=False, entries=accepted)
        except StorageError as error:
            error.hint = ""  # that one may not be here to be used
            raise
        return pool

    def pool_plan(self, wanted: WantedPool, pool: Pool, entry: Entry | None) -> PoolPlan:
        """Return what is to be done to a pool itself."""
        name, config = pool.name, entry.config if entry else None
        active = entry is not None and entry.active
        backend = backends.load(pool, self.pools.host)
        settled = backend.settled_as(config) if config is not None else pool
        found = PoolPlan(name, settled, wanted, entry)
        if config is None:
            new = not wanted.has_uuid and entry is None
            found.steps.append(Step(DEFINED, name, after=pool, place=wanted.place, new_uuid=new))
        elif config not in (pool, settled):
            found.steps.append(
                Step(REDEFINED, name, before=config, after=settled, place=wanted.place)
            )
            if active:
                self.plan.notes.append(
                    f"pool '{name}' runs with its old definition until it is stopped and started"
                )
        if entry is not None and active and backend.built_permissions:
            self.note_permissions(entry, pool)
        if not active and (wanted.build or self.plan.allowed.build):
            later = bool(self.needs(found))
            if later or backend.unbuilt():
                found.steps.append(Step(BUILT, name, perhaps=later))
        if not active and wanted.start:
            found.steps.append(Step(STARTED, name))
        if (entry is not None and entry.autostart) != wanted.autostart:
            found.steps.append(Step(MARKED if wanted.autostart else UNMARKED, name))
        return found

    def note_permissions(self, entry: Entry, pool: Pool) -> None:
        """Note another owner or mode of a running pool's folder, which only building gives it."""
        with contextlib.suppress(StorageError):
            state = entry.state()
            has = state.permissions if state is not None else None
            wrong = other_permissions(has, pool.permissions) if has is not None else ""
            if wrong:
                self.plan.notes.append(f"the folder of pool '{pool.name}' has {wrong}")

    def needs(self, plan: PoolPlan) -> set[str]:
        """Return the names of the pools that have what a pool, or a volume of it, is on."""
        found = set()
        if plan.wanted is not None:
            found |= around(plan.pool, [each.pool for each in self.wanted.pools])
        paths = [plan.pool.target, *(device.path for device in plan.pool.source.devices)]
        for volume in self.volumes.get(plan.name, ()):
            backing = volume.node.text_of("backingStore/path")
            if backing:
                paths.append(os.path.join(plan.pool.target, backing))
        found |= {self.volume_paths[path] for path in paths if path in self.volume_paths}
        return found - {plan.name}

    def pools_with_volumes(self) -> Iterator[PoolPlan]:
        """Yield the pools that the files have only volumes of."""
        for name in sorted(self.used - self.defined):
            entry = self.entries.get(name)
            place = next((each.place for each in self.volumes.get(name, ())), None)
            if entry is None:
                self.problem(PoolNotFound(f"no storage pool with matching name '{name}'"), place)
            else:
                yield PoolPlan(name, entry.pool, None, entry)

    # Volumes

    def add_volumes(self, plan: PoolPlan) -> None:
        """Add what is to be done to the volumes of a pool, as far as they can be looked at.

        Raises: StorageError where the pool does not run and will not.
        """
        plan.asked = self.volumes.get(plan.name, [])
        plan.listed = plan.name in self.wanted.listed
        entry = plan.entry if plan.entry is not None and plan.entry.active else None
        starts = plan.has(STARTED)
        if not plan.asked and not (plan.listed and (entry or starts)):
            return
        if entry is None and not starts:
            raise OperationInvalid(f"storage pool '{plan.name}' is not active, nor to be started")
        if entry is not None and moved(entry.pool, plan.pool):
            raise OperationInvalid(
                f"storage pool '{plan.name}' runs with another source or target",
                hint=f"storagectl pool-destroy {plan.name} stops it",
            )
        backend = backends.load(entry.pool if entry else plan.pool, self.pools.host)
        planner = VolumePlanner(self.plan, plan, backend)
        if entry is not None or (not plan.has(BUILT) and backend.is_active()):
            plan.partly_seen = entry is None
            planner.add({volume.name: volume for volume in backend.volumes(details=True)})
        elif plan.has(BUILT) and backend.unbuilt() == backends.SOURCE:
            planner.add({})
        else:
            plan.unseen = True
            planner.add({}, perhaps=True)


def moved(one: Pool, other: Pool) -> bool:
    """Tell whether volumes of one definition of a pool would not be in the other."""
    return (one.type, one.target, one.source.replace(format=None)) != (
        other.type, other.target, other.source.replace(format=None),
    )  # fmt: skip


def in_order(plans: list[PoolPlan]) -> list[PoolPlan]:
    """Return pools after those that they need, otherwise as they are; a circle stays as it is."""
    left = list(plans)
    found = []
    while left:
        names = {each.name for each in left}
        first = next((each for each in left if not each.needs & (names - {each.name})), left[0])
        left.remove(first)
        found.append(first)
    return found
