"""Doing what a plan says, one pool after the other, and telling of each step as it is done."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from storagectl import backends, conflicts, events, identities, plan, poollife
from storagectl.errors import OperationInvalid, OperationUnsupported, StorageError, SystemFailure
from storagectl.plan import Plan, PoolPlan, Step
from storagectl.volumeplan import VolumePlanner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.model import Pool, Volume
    from storagectl.pools import Pools
    from storagectl.volumes import Volumes

DEFINITIONS = (plan.DEFINED, plan.REDEFINED)
# What an attempt at each step is called in errors.
VERBS = {
    plan.DEFINED: "define",
    plan.REDEFINED: "redefine",
    plan.BUILT: "build",
    plan.STARTED: "start",
    plan.MARKED: "mark as autostarted",
    plan.UNMARKED: "unmark as autostarted",
    plan.STOPPED: "stop",
    plan.UNDEFINED: "undefine",
    plan.CREATED: "create",
    plan.RESIZED: "resize",
    plan.DELETED: "delete",
}


class Outcome(NamedTuple):
    """A step that was done, or has failed."""

    step: Step
    error: StorageError | None = None


class Runner:
    """Carries out a plan.  `skipped` are the names of the pools that were not come to."""

    def __init__(self, pools: Pools, volumes: Volumes, whole: Plan, *, keep_going: bool) -> None:
        self.pools = pools
        self.volumes = volumes
        self.plan = whole
        self.keep_going = keep_going
        self.failed = set(whole.refused)
        self.skipped: list[str] = []

    def run(self) -> Iterator[Outcome]:
        """Yield each step that was done or has failed, until one fails unless told to go on."""
        for step in self.plan.removals:
            if self.stopped or step.pool in self.failed:
                self.skip(step.pool)
                continue
            yield from self.attempt(step)
        for each in self.plan.pools:
            if self.stopped or each.needs & {*self.failed, *self.skipped}:
                if each.steps or each.deletions:
                    self.skip(each.name)
                continue
            yield from self.run_pool(each)
        for each in self.plan.pools:
            for step in each.deletions:
                if self.stopped or each.name in {*self.failed, *self.skipped}:
                    self.skip(each.name)
                else:
                    yield from self.attempt(step)

    @property
    def stopped(self) -> bool:
        return bool(self.failed) and not self.keep_going

    def skip(self, name: str) -> None:
        if name not in (*self.skipped, *self.failed):
            self.skipped.append(name)

    def run_pool(self, each: PoolPlan) -> Iterator[Outcome]:
        """Do the steps of a pool; when one of the pool itself fails, no volume of it is made."""
        steps = [step for step in each.steps if step.volume is None]
        build = next((step for step in steps if step.did == plan.BUILT), None)
        if build is not None:
            definition = next((step for step in steps if step.did in DEFINITIONS), None)
            yield from self.build(each, definition, build)
            steps = [step for step in steps if step not in (definition, build)]
        for step in steps:
            if each.name not in self.failed:
                yield from self.attempt(step)
        if each.name in self.failed:
            return
        if self.pools.host.plans and any(step.volume is not None for step in each.steps):
            with self.telling(each.steps[-1]) as errors:
                require_foreseeable(self.pools, each)
            if errors:
                yield Outcome(each.steps[-1], errors[0])
                return
        if each.unseen or (each.partly_seen and not self.pools.host.plans):
            yield from self.plan_again(each)
        for step in each.steps:
            if step.volume is not None and not self.stopped:
                yield from self.attempt(step)

    def plan_again(self, each: PoolPlan) -> Iterator[Outcome]:
        """Plan the volumes of a pool that runs now; what can't be done fails."""
        seen = Plan(self.plan.allowed, notes=self.plan.notes)
        again = PoolPlan(each.name, each.pool, asked=each.asked, listed=each.listed)
        try:
            backend = self.pools.find(each.name).backend
            there = {volume.name: volume for volume in backend.volumes(details=True)}
            VolumePlanner(seen, again, backend).add(there)
        except StorageError as error:
            error.action = f"Failed to list the volumes of pool {each.name}"
            seen.problems.append(error)
        each.steps, each.deletions = again.steps, again.deletions
        for problem in seen.problems:
            self.failed.add(each.name)
            yield Outcome(Step("", each.name), problem)

    def attempt(self, step: Step) -> Iterator[Outcome]:
        with self.telling(step) as errors, self.pools.host.attempt():
            self.do(step)
        yield Outcome(step, *errors)

    @contextlib.contextmanager
    def telling(self, step: Step) -> Iterator[list[StorageError]]:
        """Give a list that has the error of the block after it, in words, if it had one."""
        errors: list[StorageError] = []
        try:
            yield errors
        except StorageError as error:
            errors.append(error)
        except OSError as error:
            named = f": '{error.filename}'" if error.filename else ""
            errors.append(SystemFailure(f"{error.strerror}{named}"))
        for failure in errors:
            failure.action = attempted(step)
            self.failed.add(step.pool)

    def build(self, plan: PoolPlan, definition: Step | None, step: Step) -> Iterator[Outcome]:
        """Define a pool and build it; where that fails its definition is what it was."""
        built = False
        with self.telling(step) as errors, self.pools.host.attempt():
            built = define_and_build(
                self.pools,
                plan.pool,
                define=definition is not None,
                overwrite=self.plan.allowed.overwrite,
            )
        if errors:
            yield Outcome(step, errors[0])
            return
        if definition is not None:
            yield Outcome(definition)
        if built:
            yield Outcome(step)

    def do(self, step: Step) -> None:
        """Do one step that is not the building of a pool."""
        from storagectl.model import Pool, Volume

        name, pools, after = step.pool, self.pools, step.after
        match step.did:
            case plan.DEFINED | plan.REDEFINED:
                assert isinstance(after, Pool)
                pools.define(after)
            case plan.STARTED:
                poollife.start(pools, name, if_inactive=True)
            case plan.MARKED | plan.UNMARKED:
                pools.set_autostart(name, step.did == plan.MARKED)
            case plan.STOPPED:
                poollife.stop(pools, name)
            case plan.UNDEFINED:
                pools.undefine(name)
            case plan.CREATED:
                assert isinstance(after, Volume)
                self.volumes.create(name, after, metadata=False)
            case plan.RESIZED:
                assert isinstance(after, Volume)
                self.resize(name, after)
            case plan.DELETED:
                assert isinstance(step.before, Volume)
                self.delete(name, step.before)

    def resize(self, pool: str, volume: Volume) -> None:
        """Let a volume grow; its blocks are allocated where the plan has more of them."""
        found = self.volumes.find(volume.name, pool)
        self.volumes.resize(
            found,
            volume.capacity,
            delta=False,
            shrink=False,
            allocate=volume.allocation > found.volume.allocation,
        )

    def delete(self, pool: str, volume: Volume) -> None:
        """Delete a volume that nothing uses, and that is still the one that was planned."""
        from storagectl import references
        from storagectl.backends import files

        found = self.volumes.find(volume.name, pool)
        if found.volume.extents != volume.extents:
            raise OperationInvalid(f"volume '{volume.name}' is another one by now")
        references.require_unreferenced(self.volumes, found)
        if found.volume.type == "file" and not os.path.islink(found.volume.path):
            with files.unused(self.pools.host, found.volume):
                pass
        self.volumes.delete(found, snapshots=False)


def attempted(step: Step) -> str:
    """Return the first line of the error of a step that has failed."""
    if step.volume is None:
        return f"Failed to {VERBS[step.did]} pool {step.pool}"
    return f"Failed to {VERBS[step.did]} vol {step.volume} of pool {step.pool}"


def require_foreseeable(pools: Pools, each: PoolPlan) -> None:
    """Raise OperationUnsupported where a dry run cannot say what is done to volumes."""
    entry = pools.find(each.name)
    if each.unseen or not entry.active:
        raise OperationUnsupported(
            f"what a pool of type '{entry.pool.type}' has is not known before it runs",
            hint="apply --diff shows as much as can be known",
        )


def define_and_build(pools: Pools, pool: Pool, *, define: bool, overwrite: bool) -> bool:
    """Build what is missing of an inactive pool, which is defined before with `define`.

    When that fails, or is interrupted, the definition is what it was.
    Returns: whether anything was missing.
    """
    store = pools.store
    store.require_writable("virStoragePoolBuild")
    backend = backends.load(pool, pools.host)
    with store.lock(pool.name):
        entry = pools.by_name(pool.name)
        if entry is not None and entry.active:
            raise OperationInvalid(f"storage pool '{pool.name}' is already active")
        before = store.definition(pool.name)
        if define:
            with store.registry(), identities.remembered_anew(store, backend):
                conflicts.require_unique(pools, pool, starting=False)
                store.define(pool)
        try:
            identities.require_same(store, backend, build=True)
            missing = bool(backend.unbuilt())
            backend.build_rest(overwrite=overwrite)
            identities.remember(store, backend)
            poollife.settle(pools, backend)
        except BaseException:
            backend.unbuild()
            if define and before is None:
                store.undefine(pool.name)
            elif define and before is not None:
                store.define(before)
            raise
        if define:
            pools.events.tell(pool, events.DEFINED)
        if missing:
            pools.events.tell(pool, events.CREATED)
    return missing
