"""The mpath pool: all multipath maps of the host.  None is made or deleted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.backends import Backend, Needs, Path, PoolState, blocks, devices
from storagectl.tools import dmsetup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends.troubles import Trouble
    from storagectl.model import Volume


class Multipath(Backend):
    """The maps of device-mapper's multipath target, wherever the pool's own target leads."""

    runs = False

    def is_active(self) -> bool:
        return os.path.isdir("/dev/mapper") or os.path.isdir("/dev/mpath")

    def needs(self) -> Needs:
        return Needs(tools=("dmsetup",))

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        if not active:
            yield troubles.Trouble(
                troubles.ERROR, "module-missing", "the kernel has no device-mapper: no /dev/mapper",
                ("modprobe", "dm_multipath"),
            )  # fmt: skip
            return
        for name, paths in self.paths().items():
            failed = [path.node for path in paths if not path.active]
            if failed:
                severity = troubles.WARNING if len(failed) < len(paths) else troubles.ERROR
                what = f"paths of '{name}' have failed: {', '.join(failed)}"
                command = ("multipath", "-ll")
                yield troubles.Trouble(severity, "path-failed", what, command, mends=False)

    def state(self) -> PoolState:
        total = sum(volume.capacity for volume in self.volumes(details=True))
        return PoolState(capacity=total, allocation=total, available=0)

    def refresh(self) -> None:
        devices.settle(self.host)
        self.state()

    def start(self) -> None:
        devices.settle(self.host)

    def volumes(self, *, details: bool) -> Iterator[Volume]:
        for found in dmsetup.parse_maps(self.host.query(dmsetup.multipath_maps())):
            path = f"/dev/mapper/{found.name}"
            volume = blocks.inspect(f"dm-{found.minor}", path, path)
            if volume is not None:
                yield volume

    def volume(self, name: str) -> Volume | None:
        found = self.volumes(details=True)
        return next((volume for volume in found if volume.name == name), None)

    def paths(self) -> dict[str, list[Path]]:
        states = dmsetup.parse_status(self.host.query(dmsetup.multipath_status()))
        maps = dmsetup.parse_maps(self.host.query(dmsetup.multipath_maps()))
        return {
            f"dm-{found.minor}": [path_at(state) for state in states.get(found.name, [])]
            for found in maps
        }


def path_at(state: dmsetup.PathState) -> Path:
    """Return a path with the names that its device has."""
    folder = os.path.realpath(f"{devices.SYS}/dev/block/{state.device}")
    address = os.path.basename(os.path.realpath(f"{folder}/device"))
    if not os.path.exists(f"{folder}/device"):
        address = ""
    node = devices.node_name(folder) if os.path.exists(folder) else state.device
    return Path(node, address, state.active, state.failures)


BACKENDS = {"mpath": Multipath}
