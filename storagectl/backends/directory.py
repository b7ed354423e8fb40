"""Pools whose volumes are the files in a folder: dir as it is, others after a mount."""

from __future__ import annotations

import contextlib
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from storagectl.backends import SOURCE, Backend, Needs, PoolState
from storagectl.backends.attributes import permissions_of
from storagectl.errors import Inaccessible, OperationInvalid
from storagectl.host.files import is_open_once, is_staged, system_errors
from storagectl.model import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from storagectl.backends.troubles import Trouble
    from storagectl.host.bulk import Mover

POOL_MODE = 0o711
# What the capacity of an image is a multiple of: qemu-img gets it in KiB.  A vpc image has whole
# cylinders, of 16 heads with 255 sectors at most.
# Source: Virtual Hard Disk Image Format Specification, appendix CHS Calculation.
IMAGE_GRAIN = 1024
LARGER_GRAINS = {"vpc": 16 * 255 * 512}


class Directory(Backend):
    """A folder; every file and sub-folder in it is a volume.

    `as_owner` says that a new file is made by its owner where root may not make it.
    """

    is_folder = True
    runs = False
    stable_links = False
    as_owner = False
    built_permissions = True
    starts_at_once = True
    _made: Sequence[str] = ()  # the deepest folder first

    def is_active(self) -> bool:
        target = self.pool.target
        return not self.host.responds(target) or self.host.is_folder(target)

    def _require_answer(self) -> None:
        """Raise Inaccessible where the folder is on a file server that is gone.

        Whoever looks at a file of it waits for ever, deaf to Ctrl-C.
        """
        target = self.pool.target
        if not self.host.responds(target):
            raise Inaccessible(f"'{target}' does not answer", hint=self._advice())

    def _advice(self) -> str:
        """Return what may help when the folder does not answer."""
        return ""

    def state(self) -> PoolState:
        self._require_answer()
        target = self.pool.target
        with system_errors(f"cannot open directory '{target}'"):
            os.close(os.open(target, os.O_RDONLY | os.O_DIRECTORY))
            status = os.stat(target)
        with system_errors(f"cannot statvfs path '{target}'"):
            space = os.statvfs(target)
        permissions = permissions_of(target, status)
        capacity = space.f_blocks * space.f_frsize
        available = space.f_bfree * space.f_frsize
        return PoolState(capacity, capacity - available, available, permissions)

    def needs(self) -> Needs:
        return Needs(root=False)

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        yield from troubles.of_folder(self, mounted=True)

    def build(self, *, overwrite: bool, no_overwrite: bool) -> None:
        self._make_target()
        if overwrite or no_overwrite:
            raise OperationInvalid(
                f"No source device specified when formatting pool '{self.pool.name}'"
            )

    def unbuilt(self) -> str:
        self._require_answer()
        return "" if os.path.isdir(self.pool.target) else SOURCE

    def build_rest(self, *, overwrite: bool) -> None:
        if self.unbuilt():
            self.build(overwrite=False, no_overwrite=False)

    def _make_target(self) -> None:
        self._require_answer()
        target, wanted = self.pool.target, self.pool.permissions
        self._made = self.host.make_parents(target)
        made = self.host.make_folder(target, POOL_MODE if wanted.mode is None else wanted.mode)
        if made:
            self._made = [target, *self._made]
        if wanted or not made:
            place = os.path.realpath(target)
            self.host.set_owner_and_mode(place, wanted.owner, wanted.group, wanted.mode)
            if wanted.label is not None:
                self.host.set_label(place, wanted.label)
        self.host.set_nocow(target, self.pool.cow)

    def unbuild(self) -> None:
        self.host.unmake(self._made)

    def devices_of_users(self) -> list[str]:
        return []

    def kept_when_stopped(self) -> str:
        return f"{self.pool.target} with all that is in it"

    def refresh(self) -> None:
        self._require_answer()
        self.host.sweep(self.pool.target)
        super().refresh()

    def delete(self) -> None:
        self._require_answer()
        target = self.pool.target
        self.host.sweep(target)
        self.host.remove_folder(target, f"failed to remove pool '{target}'")

    def _is_new(self) -> bool:
        """Tell whether a dry run has planned to make the folder, which is empty then.

        Raises: OperationUnsupported where it has planned what may have volumes already.
        """
        return self.host.expects(self.pool.target)

    def volumes(self, *, details: bool) -> Iterator[Volume]:
        with self._entries() as there:
            found = self._inspected(there) if details else map(self._glance, there)
            yield from (volume for volume in found if volume is not None)

    def sizes(self) -> Iterator[Volume]:
        with self._entries() as there:
            found = self._inspected(there, attributes=False)
            yield from (volume for volume in found if volume is not None)

    def places(self) -> Iterator[tuple[str, str]]:
        target = self.pool.target
        with self._entries() as there:
            yield from ((one.name, f"{target}/{one.name}") for one in there if kind_of(one))

    @contextlib.contextmanager
    def _entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Give what is in the folder and can be a volume by its name."""
        if self._is_new():
            yield iter(())
            return
        self._require_answer()
        target = self.pool.target
        with system_errors(f"cannot open directory '{target}'"):
            entries = os.scandir(target)
        with entries, system_errors(f"cannot read directory '{target}'"):
            yield (entry for entry in entries if listed(entry.name))

    def _inspected(
        self, entries: Iterable[os.DirEntry[str]], *, attributes: bool = True
    ) -> Iterator[Volume | None]:
        from storagectl.backends.images import inspect, inspect_in_thread
        from storagectl.host.spread import spread

        alone, together = (
            partial(work, self.pool.target, attributes=attributes)
            for work in (inspect, inspect_in_thread)
        )
        return spread(alone, together, (entry.name for entry in entries))

    def _glance(self, entry: os.DirEntry[str]) -> Volume | None:
        """Return a volume's name, path and type without opening it."""
        kind = kind_of(entry)
        path = f"{self.pool.target}/{entry.name}"
        return Volume(entry.name, path, path, kind) if kind else None

    def volume(self, name: str) -> Volume | None:
        if "/" in name or name in ("", ".", "..") or not listed(name) or self._is_new():
            return None
        self._require_answer()
        return self._inspect(name)

    def _inspect(self, name: str) -> Volume | None:
        from storagectl.backends.images import inspect

        return inspect(self.pool.target, name)

    def volume_name_at(self, path: str) -> str | None:
        folder, name = os.path.split(path)
        return name if folder == self.pool.target else None

    def create_volume(self, volume: Volume, *, metadata: bool) -> None:
        from storagectl.backends import files

        files.create(
            self.host,
            self.pool.target,
            volume,
            metadata=metadata,
            as_owner=self.as_owner,
            passphrase_of=self.passphrase_of,
        )

    def create_volume_from(
        self, volume: Volume, source: Volume, mover: Mover, *, metadata: bool, reflink: bool
    ) -> None:
        from storagectl.backends import files

        files.create_from(
            self.host,
            self.pool.target,
            volume,
            source,
            mover,
            metadata=metadata,
            reflink=reflink,
            as_owner=self.as_owner,
            passphrase_of=self.passphrase_of,
        )

    def delete_volume(self, volume: Volume) -> None:
        if volume.type == "dir":
            self.host.remove_folder(volume.path, f"cannot remove directory '{volume.path}'")
            return
        with contextlib.ExitStack() as stack:
            alone = os.path.islink(volume.path)
            with contextlib.suppress(OSError):  # a link or the like can't be locked, but unlinked
                fd = stack.enter_context(self.host.opened(volume.path, write=True))
                alone = is_open_once(fd)
            if not alone:
                from storagectl.backends import in_use

                in_use.require_no_device_on(volume.path)
            self.host.remove(volume.path, lasts=True)

    def resize_volume(self, volume: Volume, capacity: int, *, allocate: bool, shrink: bool) -> None:
        from storagectl.backends import files

        files.resize(
            self.host,
            volume,
            capacity,
            allocate=allocate,
            shrink=shrink,
            passphrase_of=self.passphrase_of,
        )

    def grain(self, volume: Volume) -> int:
        return 1 if volume.format == "raw" else LARGER_GRAINS.get(volume.format or "", IMAGE_GRAIN)

    def rename_volume(self, volume: Volume, name: str) -> None:
        from storagectl.backends import files

        path = files.free_path(self.pool.target, volume.replace(name=name))
        with files.unused(self.host, volume):
            self.host.rename(volume.path, path)


def kind_of(entry: os.DirEntry[str]) -> str:
    """Return the type of the volume that a file is, "" for what is none."""
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "dir"
        return "block" if stat.S_ISBLK(entry.stat().st_mode) else ""
    except OSError:
        return ""


def listed(name: str) -> bool:
    """Tell whether a file is a volume by its name: unfinished ones of ours are not, nor,
    as in libvirt, names with control characters."""
    plain = name.isprintable() or all(character >= " " for character in name)
    return plain and not is_staged(name)


BACKENDS = {"dir": Directory}
