"""What volumes lead to: the files that images are based on, and what is based on a volume."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.errors import OperationInvalid
from storagectl.volumes import listed

if TYPE_CHECKING:
    from storagectl.model import BackingStore, Volume
    from storagectl.volumes import Found, Volumes

# As libvirt; a longer backing chain is a trap.
MAX_CHAIN = 200


def require_unreferenced(volumes: Volumes, found: Found) -> None:
    """Refuse a volume whose path, or one below it, a pool's definition or another volume has."""
    from storagectl.backends import devices, users
    from storagectl.usage import lies_in

    name, path = found.volume.name, found.volume.path
    seen = users.Files(volumes.host)
    real = os.path.join(seen.real(os.path.dirname(path)), name)

    def leads_there(place: str) -> bool:
        return lies_in(place, path) or (os.path.isabs(place) and lies_in(seen.real(place), real))

    for entry in volumes.pools.all():
        pool = entry.pool
        for place in (pool.target, *(device.path for device in pool.source.devices)):
            if leads_there(place):
                raise OperationInvalid(f"pool '{pool.name}' is on volume '{name}': {place}")
        inside = entry.name == found.entry.name and entry.backend.keeps_references
        for other in [] if inside else listed(entry):
            files = [("backing", other.backing.path)] if other.backing else []
            files += [("data", file) for file in other.data_files]
            for use, file in files:
                same = devices.same_file(file, path)
                if same or leads_there(file):
                    raise OperationInvalid(
                        f"volume '{name}' {'is' if same else 'has'} the {use} file of volume"
                        f" '{other.name}' in pool '{pool.name}'"
                    )


def require_known(volumes: Volumes, volume: Volume, *, allowed: bool) -> None:
    """Refuse to let qemu-img open a volume that leads to files nobody has named.

    The volume has `looks` then, for the backend to see whether that is so still.
    """
    if not is_raw(volume):
        looks = require_known_files(volumes, volume.name, volume.path, allowed=allowed)
        volume.looks = tuple(looks)


def require_known_files(
    volumes: Volumes, name: str, path: str, *, allowed: bool
) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Refuse an image whose header leads to a file that is no volume of a running pool.

    Who fills an image says what its header is: qemu-img would read or change that file.
    Each image is taken for what its first bytes say, for so does qemu-img where a header
    does not name the format of the next.  With `allowed` only a circle is refused.  `name`
    is that of the volume that is asked for.

    Returns: `images.look` of each file.
    Source: CVE-2015-5163, CVE-2024-32498 and CVE-2022-47951 of OpenStack.
    """
    from storagectl.backends.images import inspect, look

    looks = []
    checked: set[str] = set()

    def follow(path: str, above: frozenset[str]) -> None:
        place = os.path.realpath(path)
        if place in above or len(above) == MAX_CHAIN:
            raise OperationInvalid(f"the backing chain of volume '{name}' has no end")
        if place in checked:
            return
        checked.add(place)
        looks.append(look(path))
        image = inspect(*os.path.split(path))
        for next_path, format in [] if image is None else files_besides(image):
            if not allowed:
                require_volume(volumes, name, next_path, format)
            if next_path.startswith("/"):
                follow(next_path, above | {place})

    follow(path, frozenset())
    return looks


def require_volume(volumes: Volumes, name: str, path: str, format: str | None) -> None:
    """Refuse a reference of an image to what is no volume, or to text taken for a VMDK."""
    found = None
    if path.startswith("/"):
        found = volumes.at(path, None) or volumes.at(os.path.realpath(path), None)
    if found is None:
        raise OperationInvalid(
            f"volume '{name}' refers to '{path}', which is no volume of a running pool"
        )
    if format == "vmdk" != found.volume.format:
        raise OperationInvalid(f"volume '{name}' refers to '{path}', which is no vmdk image")


def files_besides(image: Volume) -> list[tuple[str, str | None]]:
    """Return the files that qemu-img opens besides an image, and as what."""
    found: list[tuple[str, str | None]] = [(path, None) for path in image.data_files]
    if image.backing is not None:
        found.append((image.backing.path, image.backing.format))
    return found


def is_raw(file: Volume | BackingStore) -> bool:
    """Tell whether qemu-img is told that a file is raw data, so that nothing in it leads on."""
    from storagectl.tools import qemu_img

    return qemu_img.driver(file.format) == "raw"
