"""What has to be done to the volumes of one pool so that they are as files ask for.

A volume that is there keeps its data: it may grow, and whatever else differs is a problem.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl import backends
from storagectl.errors import ConfigUnsupported, OperationInvalid, StorageError
from storagectl.host.files import is_staged
from storagectl.plan import CREATED, DELETED, RESIZED, VOLUMES, Plan, PoolPlan, Step
from storagectl.pooltypes import POOL_TYPES
from storagectl.volumes import require_plain_name
from storagectl.volxml import read_volume
from storagectl.xmltree import control_character

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends import Backend
    from storagectl.documents import WantedVolume
    from storagectl.model import Permissions, Volume

# What the header of an encrypted block volume takes beside the capacity that was asked for.
LUKS_ROOM = 2 << 20


class VolumePlanner:
    """Adds the steps of one pool's volumes to the plan; `backend` is what has them."""

    def __init__(self, whole: Plan, plan: PoolPlan, backend: Backend) -> None:
        self.whole = whole
        self.plan = plan
        self.backend = backend
        self.target = backend.pool.target

    def add(self, there: dict[str, Volume], *, perhaps: bool = False) -> None:
        """Add the steps, given the volumes that the pool has by name.

        With `perhaps` nobody knows yet which it has.
        Raises: StorageError where the pool as a whole can't be as it is asked for.
        """
        found = []
        for wanted in self.plan.asked:
            try:
                volume = self.read(wanted)
                step = self.step(wanted, volume, there.get(volume.name), perhaps=perhaps)
            except StorageError as error:
                if error.action is None:
                    error.action = f"Failed to apply {wanted.place}"
                self.whole.problems.append(error)
                continue
            if step is not None:
                found.append(step)
        self.plan.steps += self.in_order(found)
        if self.plan.listed and VOLUMES in self.whole.allowed.prune:
            self.plan.deletions = self.deletions(there)

    def read(self, wanted: WantedVolume) -> Volume:
        row = POOL_TYPES[self.plan.pool.type]
        volume = read_volume(wanted.node, row, capacity_optional=False)
        require_plain_name(volume.name)
        hidden = volume.name in (".", "..") or is_staged(volume.name)
        if hidden or control_character(volume.name) is not None:
            raise OperationInvalid(f"volume name {volume.name!r} cannot be listed")
        return volume

    def step(
        self, wanted: WantedVolume, volume: Volume, found: Volume | None, *, perhaps: bool
    ) -> Step | None:
        """Return what makes a volume as it is asked for, None where it is so.

        Raises: StorageError where nothing can, or may.
        """
        name = self.plan.name
        if found is None:
            if not perhaps:
                backends.require(self.backend, "create_volume")
            return Step(
                CREATED, name, volume.name, None, volume, place=wanted.place, perhaps=perhaps
            )
        self.require_same(volume, found)
        self.note_permissions(volume, found)
        if volume.format == "dir" or (volume.backing is not None and not volume.capacity):
            return None
        room = LUKS_ROOM if volume.encryption is not None and found.type == "block" else 0
        least = volume.capacity + room
        if least > found.capacity:
            return self.growth(wanted, volume, found, least)
        if found.capacity - least >= self.backend.grain(found):
            raise OperationInvalid(
                f"volume '{volume.name}' of pool '{name}' has a capacity of {found.capacity}"
                f" bytes, more than {least}, and is not shrunk"
            )
        return None

    def growth(self, wanted: WantedVolume, volume: Volume, found: Volume, least: int) -> Step:
        """Return the step that lets a volume grow.  Raises: StorageError unless that is allowed.

        A raw file that has all its blocks, and is to, gets those of the larger one.
        """
        if not self.whole.allowed.resize:
            raise OperationInvalid(
                f"volume '{found.name}' of pool '{self.plan.name}' has a capacity of"
                f" {found.capacity} bytes, and grows to {least} with --resize only"
            )
        backends.require(self.backend, "resize_volume")
        capacity = self.backend.rounded(found, least)
        after = found.replace(capacity=capacity)
        plain = found.type == "file" and found.format == "raw" and found.encryption is None
        if plain and volume.allocation >= volume.capacity and found.allocation >= found.capacity:
            after.allocation = capacity
        return Step(RESIZED, self.plan.name, found.name, found, after, place=wanted.place)

    def require_same(self, volume: Volume, found: Volume) -> None:
        """Refuse a volume that is another than what is asked for, whatever its size is."""
        wrong = [
            f"{what} {has or 'none'}, not {wanted or 'none'}"
            for what, has, wanted in self.differences(volume, found)
        ]
        if wrong:
            raise ConfigUnsupported(
                f"volume '{volume.name}' of pool '{self.plan.name}' has {'; '.join(wrong)}"
            )

    def differences(self, volume: Volume, found: Volume) -> Iterator[tuple[str, object, object]]:
        """Yield what differs for good: what it is, what the volume has, what is asked for."""
        backing, wanted = (
            each.backing.path if each.backing is not None else "" for each in (found, volume)
        )
        if not same_path(backing, wanted, self.target):
            yield "the backing store", backing, wanted
        if found.format is None or not self.backend.own_permissions:
            return
        if found.format != volume.format:
            yield "the format", found.format, volume.format
        cipher, wanted = (
            each.encryption.format if each.encryption is not None else ""
            for each in (found, volume)
        )
        if cipher != wanted:
            yield "the encryption", cipher, wanted
        if volume.compat is not None and found.compat != volume.compat:
            yield "the compat", found.compat, volume.compat
        if volume.cluster_size is not None and found.cluster_size != volume.cluster_size:
            yield "the cluster size", found.cluster_size, volume.cluster_size
        if volume.features is not None and (found.features or ()) != volume.features:
            yield "the features", ", ".join(found.features or ()), ", ".join(volume.features)

    def note_permissions(self, volume: Volume, found: Volume) -> None:
        """Note another owner or mode: a guest that runs has its images given to it."""
        wrong = other_permissions(found.permissions, volume.permissions)
        note = f"volume '{volume.name}' of pool '{self.plan.name}' has {wrong}"
        if wrong and self.backend.own_permissions and note not in self.whole.notes:
            self.whole.notes.append(note)

    def in_order(self, steps: list[Step]) -> list[Step]:
        """Return the making of volumes after that of those they are based on."""
        places = {self.place(step.volume or ""): step for step in steps}
        found: dict[str | None, Step] = {}
        for step in steps:
            chain = {step.volume: step}
            while step.volume not in found:
                backing = getattr(step.after, "backing", None)
                base = places.get(self.place(backing.path)) if backing is not None else None
                if base is None or base.volume in chain:
                    break
                step = chain[base.volume] = base
            found |= {name: step for name, step in reversed(chain.items()) if name not in found}
        return list(found.values())

    def place(self, path: str) -> str:
        """Return a path, which may be relative to the pool's target, without links."""
        return os.path.realpath(os.path.join(self.target, path))

    def deletions(self, there: dict[str, Volume]) -> list[Step]:
        """Return the deletion of what no file has, overlays first.  Folders are left alone.

        Raises: OperationInvalid where a volume that stays would lose its name by that.
        """
        asked = {wanted.name for wanted in self.plan.asked}
        doomed = [
            volume
            for name, volume in sorted(there.items())
            if name not in asked and volume.type != "dir"
        ]
        lost = {volume.name: self.backend.names_lost_without(volume) for volume in doomed}
        for name, others in lost.items():
            for other in others:
                if other not in lost:
                    raise OperationInvalid(
                        f"volume '{other}' of pool '{self.plan.name}' would lose its name with"
                        f" volume '{name}'"
                    )
        steps = [Step(DELETED, self.plan.name, v.name, before=v, after=v) for v in doomed]
        steps = self.in_order(steps)[::-1]
        for step in steps:
            step.after = None
        return sorted(steps, key=lambda step: len(lost[step.volume or ""]))


def other_permissions(has: Permissions, wanted: Permissions) -> str:
    """Return in words where permissions are not those that are wanted."""
    pairs = (
        ("mode", octal(has.mode), octal(wanted.mode)),
        ("owner", has.owner, wanted.owner),
        ("group", has.group, wanted.group),
        ("label", has.label, has.label and wanted.label),  # none where there are no labels
    )
    return ", ".join(f"{what} {a}, not {b}" for what, a, b in pairs if b is not None and a != b)


def same_path(one: str, other: str, folder: str) -> bool:
    """Tell whether two paths, which may be relative to a folder, are of one file."""
    if not one or not other:
        return one == other
    return len({os.path.realpath(os.path.join(folder, path)) for path in (one, other)}) == 1


def octal(mode: int | None) -> str | None:
    return None if mode is None else f"0{mode:o}"
