"""Pool definitions and runtime markers on disk, and the locks around them.

    CONFIG/NAME.xml             a persistent definition, 0600
    CONFIG/autostart/NAME.xml   a symlink to it: started at boot
    CONFIG/devices/NAME.json    what the pool's devices are, 0600: see `identities`
    RUN/storage/NAME.xml        the pool was started, with the definition it runs with
    RUN/filling/NAME/VOLUME     a volume is being filled under its own name
    RUN/lock/NAME               locked by commands that change the pool or its volumes

RUN does not outlive a reboot.  A marker alone does not make a pool active: the
host must agree (`pools.Entry.active`).  Readers never lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    OperationDenied,
    ResourceBusy,
    StorageError,
    SystemFailure,
)
from storagectl.host.files import is_at, is_staged, system_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.host import Host
    from storagectl.model import Pool

SUFFIX = ".xml"
IDENTITIES_SUFFIX = ".json"
REGISTRY = ".storagectl-registry"  # no pool may have such names
LAYOUTS = ".storagectl-layout"
LOCK_WAIT_S = 30.0
LOCK_POLL_S = 0.02
CONTROLS = "[\x00-\x09\x0b-\x1f\x7f-\x9f]"
# What files of ours are written in.  It is raised when a program that ignores what it does not
# know would do harm with them.
FORMAT = 1
FORMAT_LINE = f'<?storagectl format="{FORMAT}"?>\n'
FORMAT_OF = re.compile(rb'<\?storagectl\s+format="(\d{1,9})"\s*\?>')
NOTICE = """\
<!--
Written by storagectl, which replaces this file: change it with
  storagectl pool-edit {name}
-->

"""


class Unusable(StorageError):
    """A file of ours that is no definition of the pool it is called after, and why not.

    `other` is the pool that it defines instead.
    """

    def __init__(self, detail: str, path: str, reason: str, other: str | None = None) -> None:
        super().__init__(detail)
        self.path = path
        self.reason = reason
        self.other = other


class Store:
    """The files of one set of pools: the system's, a user's, or one below `root`."""

    def __init__(
        self,
        host: Host,
        root: str | None = None,
        *,
        system: bool | None = None,
        readonly: bool = False,
    ) -> None:
        self.host = host
        self.readonly = readonly
        self.config, self.run = folders(root, system=system)
        self.autostart = f"{self.config}/autostart"
        self.devices = f"{self.config}/devices"
        self.markers = f"{self.run}/storage"
        self.locks = f"{self.run}/lock"
        self.touched: set[str] = set()
        """The pools that were to be changed or worked on, by name."""

    def require_writable(self, function: str) -> None:
        """Raise OperationDenied, with the name that libvirt has for it, where changes are refused.

        Asked by the rules before each change, and before what reads secret or whole content.
        """
        if self.readonly:
            raise OperationDenied(f"read only access prevents {function}")

    def names(self) -> set[str]:
        """Return the names of all pools that have a definition or a marker."""
        return self.defined() | self.started()

    def defined(self) -> set[str]:
        """Return the names of all pools that have a definition."""
        return names_in(self.config, self.host)

    def started(self) -> set[str]:
        """Return the names of all pools that have a marker."""
        return names_in(self.markers, self.host)

    def autostarted(self) -> set[str]:
        """Return the names of all pools that are started at boot."""
        return {name for name in names_in(self.autostart) if self.is_autostarted(name)}

    def definition(self, name: str) -> Pool | None:
        """Return the persistent definition of a pool, None where it has none."""
        return self._read(self.config, name)

    def marker(self, name: str, otherwise: Pool | None = None) -> Pool | None:
        """Return the definition that a pool was started with, None where it was not.

        What can't be read is taken for `otherwise`: that it was started is known all the same.
        """
        try:
            return self.read(self.markers, name)
        except Unusable as error:
            warn(error.detail)
        except SystemFailure as error:
            if otherwise is None:
                raise
            if self._has_no_marker(name):
                return None
            warn(error.detail)
        return otherwise

    def _has_no_marker(self, name: str) -> bool:
        """Tell whether there is no marker, of one that can't be opened."""
        try:
            os.lstat(os.path.join(self.markers, name + SUFFIX))
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def definition_path(self, name: str) -> str:
        """Return where the definition of a pool is kept."""
        return os.path.join(self.config, name + SUFFIX)

    def _read(self, folder: str, name: str) -> Pool | None:
        try:
            return self.read(folder, name)
        except Unusable as error:
            warn(error.detail)
            return None

    def read(self, folder: str, name: str) -> Pool | None:
        """Return what the file of a pool in a folder says, None where there is none.

        Raises: Unusable for a document that is no definition of that pool, SystemFailure.
        """
        path = f"{folder}/{name}{SUFFIX}"
        try:
            pool = parsed(self.host.read_file(path)).replace()
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise SystemFailure(f"Failed to open file '{path}': {error.strerror}") from error
        except StorageError as error:
            reason = error.lines()[-1]
            raise Unusable(f"ignoring {path}: {reason}", path, reason) from error
        if pool.name != name:
            raise Unusable(
                f"Storage pool config filename '{path}' does not match pool name '{pool.name}'",
                path,
                f"the definition is that of pool '{pool.name}'",
                other=pool.name,
            )
        return pool

    def require_known_format(self, name: str) -> None:
        """Raise ConfigUnsupported where a newer program has written a file of the pool."""
        for folder in (self.config, self.markers):
            require_known_format(self.host, os.path.join(folder, name + SUFFIX))

    def define(self, pool: Pool, *, autostart: bool = False) -> None:
        """Write a persistent definition; a new pool is started at boot only with `autostart`.

        The link comes first: alone it means nothing.
        """
        with contextlib.ExitStack() as undo:
            if not self.is_autostarted(pool.name):
                self.set_autostart(pool.name, autostart)
                undo.callback(self.set_autostart, pool.name, False)
            self._write(self.config, pool)
            undo.pop_all()

    def undefine(self, name: str) -> None:
        """Remove a definition, and then what means nothing without it.

        That is its autostart link, and what is known of its devices.
        """
        with contextlib.ExitStack() as undo:
            autostart, definition = self.is_autostarted(name), self.definition(name)
            self.host.remove(self.definition_path(name), lasts=True)
            if definition is not None:
                undo.callback(self.define, definition, autostart=autostart)
            self.set_autostart(name, False)
            self.keep_identities(name, {})
            undo.pop_all()

    def is_unreadable(self, name: str) -> bool:
        """Tell whether a file of a pool is there, and is no definition of it."""
        try:
            self.read(self.config, name)
            self.read(self.markers, name)
        except (Unusable, SystemFailure):
            return True
        return False

    def discard(self, name: str) -> None:
        """Remove the files of a pool, whatever they are."""
        self.host.remove(self.definition_path(name), missing_ok=True, lasts=True)
        self.mark_stopped(name)
        self.set_autostart(name, False)
        self.keep_identities(name, {})

    def is_autostarted(self, name: str) -> bool:
        """Tell whether a pool is started at boot."""
        path = os.path.join(self.autostart, name + SUFFIX)
        return os.path.islink(path) and os.path.exists(path)

    def set_autostart(self, name: str, wanted: bool) -> None:
        """Make or remove the autostart link of a pool."""
        path = os.path.join(self.autostart, name + SUFFIX)
        if wanted and not self.is_autostarted(name):
            self.make_folders(self.autostart)
            self.host.link(os.path.join("..", name + SUFFIX), path)
        elif not wanted and os.path.lexists(path):
            self.host.remove(path, missing_ok=True, lasts=True)

    def identities(self, name: str) -> dict[str, dict[str, str]]:
        """Return what is known of each device of a pool, nothing where nothing was noted."""
        path = os.path.join(self.devices, name + IDENTITIES_SUFFIX)
        try:
            text = self.host.read_file(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return {}
            raise SystemFailure(f"Failed to open file '{path}': {error.strerror}") from error
        import json

        try:
            found = json.loads(text)
            return {
                str(what): {str(key): str(value) for key, value in known.items()}
                for what, known in found.items()
            }
        except (ValueError, AttributeError, RecursionError):
            warn(f"ignoring {path}: it does not tell what the devices of a pool are")
            return {}

    def keep_identities(self, name: str, known: dict[str, dict[str, str]]) -> None:
        """Note what is known of each device of a pool; of none removes the note."""
        path = os.path.join(self.devices, name + IDENTITIES_SUFFIX)
        if not known:
            if self.host.is_folder(self.devices):
                self.host.remove(path, missing_ok=True)
            return
        import json

        self.make_folders(self.devices)
        self.host.sweep(self.devices)
        self.host.write_atomic(path, json.dumps(known, indent=1) + "\n")

    def mark_started(self, pool: Pool) -> None:
        """Note that a pool was started with this definition."""
        self._write(self.markers, pool)

    def mark_stopped(self, name: str) -> None:
        """Forget that a pool was started."""
        self.host.remove(os.path.join(self.markers, name + SUFFIX), missing_ok=True)

    def _write(self, folder: str, pool: Pool) -> None:
        from storagectl.poolxml import format_pool

        self.make_folders(folder)
        notice = NOTICE.format(name=pool.name.replace("--", "- -"))
        path = os.path.join(folder, pool.name + SUFFIX)
        require_known_format(self.host, path)
        self.host.write_atomic(path, notice + FORMAT_LINE + format_pool(pool))

    @contextlib.contextmanager
    def filling(self, pool: str, volume: str) -> Iterator[None]:
        """Note that a volume is not complete; the note of a process that is killed stays."""
        path = self._note(pool, volume)
        self.make_folders(os.path.dirname(path))
        self.host.sweep(os.path.dirname(path))
        self.host.write_atomic(path, "")
        try:
            yield
        finally:
            self.host.remove(path, missing_ok=True)

    def is_incomplete(self, pool: str, volume: str) -> bool:
        """Tell whether a volume is being filled, or who did so was killed."""
        return os.path.exists(self._note(pool, volume))

    def forget_filling(self, pool: str, volume: str) -> None:
        """Drop the note on a volume that is gone."""
        if self.is_incomplete(pool, volume):
            self.host.remove(self._note(pool, volume), missing_ok=True)

    def _note(self, pool: str, volume: str) -> str:
        return os.path.join(self.run, "filling", pool, volume)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """Give a folder of ours for a file that the user edits.  Raises: SystemFailure."""
        import tempfile

        parent = self.run
        if self.readonly:
            parent = tempfile.gettempdir()
        elif not self.host.plans:
            self.make_folders(self.run)
        self.host.sweep_scratch(parent)
        with self.host.scratch(parent) as folder:
            yield folder

    def make_folders(self, folder: str) -> None:
        """Make a folder of ours and those above it, for their owner only."""
        missing = []
        while folder and not self.host.is_folder(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            self.host.make_folder(path, 0o700)

    @contextlib.contextmanager
    def registry(self) -> Iterator[None]:
        """Hold the one lock under which names, UUIDs and sources are checked and taken.

        Taken after the lock of a pool, never before it, and held for moments only.
        """
        with self._locked(REGISTRY, "the list of definitions is", shared=False):
            yield

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a pool for a change of the pool itself.

        Raises: InternalError at once when volumes are being worked on, ResourceBusy
        when another change of the pool has not ended within the time limit `lock`.
        What a process that was killed has left of its files goes.
        """
        self.touched.add(name)
        with self._locked(name, f"pool '{name}' is", shared=False):
            self.sweep()
            yield

    def sweep(self) -> None:
        """Remove what processes that were killed have left of files of pools."""
        if not self.readonly:
            for folder in (self.config, self.markers, self.devices):
                self.host.sweep(folder)
            self.host.sweep_scratch(self.run)

    def is_being_changed(self, name: str) -> bool:
        """Tell whether a command, which may be this one, has the lock of a pool for a change."""
        from storagectl.host.locks import holders

        try:
            fd = os.open(os.path.join(self.locks, name), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return any(not holder.shared for holder in holders(fd))
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def lock_for_volumes(self, name: str) -> Iterator[None]:
        """Hold a pool for work on its volumes: others may do so too, but not stop it."""
        self.touched.add(name)
        with self._locked(name, f"pool '{name}' is", shared=True):
            yield

    @contextlib.contextmanager
    def layout(self, name: str) -> Iterator[None]:
        """Hold what the volumes of a pool are carved out of, such as a partition table."""
        path = os.path.join(LAYOUTS, name)
        with self._locked(path, f"the layout of pool '{name}' is", shared=False):
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, what: str, *, shared: bool) -> Iterator[None]:
        """Hold a lock, which the kernel takes from a process that is killed.

        `what` is being changed, says the error of who has waited in vain.
        """
        path = os.path.join(self.locks, name)
        if self.host.plans and not os.path.exists(path):
            yield  # nobody has ever locked it
            return
        fd = self._locked_file(path, what, shared=shared)
        try:
            yield
        finally:
            os.close(fd)

    def _locked_file(self, path: str, what: str, *, shared: bool) -> int:
        """Open and lock a file, which is made where it is missing; one that is gone is no lock."""
        while True:
            self.make_folders(os.path.dirname(path))
            with system_errors(f"cannot open '{path}'"):
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                self._wait(fd, what, shared=shared)
                if is_at(fd, path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _wait(self, fd: int, what: str, *, shared: bool) -> None:
        """Lock an open file, or tell who has it when the time limit is over."""
        import fcntl

        limit_s = self.host.limits.get("lock", LOCK_WAIT_S)
        deadline = time.monotonic() + limit_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                return
            is_over = time.monotonic() > deadline
            if is_over or not shared:
                from storagectl.host.locks import holders, named

                found = holders(fd)
                readers = [holder for holder in found if holder.shared]
                if readers and not shared:
                    raise InternalError(
                        f"{what.removesuffix(' is')} has asynchronous jobs running.",
                        hint=f"held by {named(readers)}",
                    )
                if is_over:
                    raise ResourceBusy(
                        f"{what} being changed by {named(found)}",
                        hint=f"waited {limit_s:g} s, see time-limits.lock of config.toml",
                    )
            time.sleep(LOCK_POLL_S)


def require_known_format(host: Host, path: str) -> None:
    """Raise ConfigUnsupported where a newer program has written a file: it is kept as it is.

    It may be read: what is not known is ignored, as in any definition.
    """
    try:
        found = FORMAT_OF.search(host.read_file(path))
    except (OSError, ValueError):
        return
    if found and int(found[1]) > FORMAT:
        raise ConfigUnsupported(
            f"'{path}' has format {int(found[1])}, of a newer storagectl; this one knows {FORMAT}"
        )


@lru_cache(maxsize=2048)
def parsed(document: bytes) -> Pool:
    """Return what a definition says.

    The same bytes always say the same: a file is read each time, and understood once.
    """
    from storagectl.poolxml import parse_pool

    return parse_pool(document)


warned: list[str] = []


def warn(text: str) -> None:
    """Tell on stderr about a file of ours that is of no use; the command goes on.

    A file may be called anything: control characters are shown as \\xNN.
    """
    shown = re.sub(CONTROLS, lambda found: f"\\x{ord(found[0]):02x}", text)
    sys.stderr.write(f"warning: {shown}\n")
    warned.append(text)


def names_in(folder: str, host: Host | None = None) -> set[str]:
    """Return what the definitions in a folder are called, none where it is missing.

    With `host`, those that a dry run has planned count.
    """
    try:
        found = os.listdir(folder) if host is None else host.list_folder(folder)
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise SystemFailure(f"cannot open directory '{folder}': {error.strerror}") from error
    return {
        name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX) and not is_staged(name)
    }


def folders(root: str | None, *, system: bool | None = None) -> tuple[str, str]:
    """Return the folders of definitions and of runtime state, by default root's or the user's.

    Source: XDG Base Directory Specification 0.8 for users; where XDG_RUNTIME_DIR is
    not set the cache folder serves, below the boot's id, so that a reboot still
    forgets.
    """
    if root is not None:
        below = root.rstrip("/")
        return f"{below}/etc/storagectl/storage", f"{below}/run/storagectl"
    if os.geteuid() == 0 if system is None else system:
        return "/etc/storagectl/storage", "/run/storagectl"
    config = user_folder("XDG_CONFIG_HOME", "~/.config")
    run = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(run):
        run = os.path.join(run, "storagectl")
    else:
        cache = user_folder("XDG_CACHE_HOME", "~/.cache")
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            run = os.path.join(cache, "storagectl", stream.read().strip())
    return os.path.join(config, "storagectl/storage"), run


def user_folder(variable: str, default: str) -> str:
    """Return a folder of the user's; what is not absolute does not count, as XDG has it."""
    for path in (os.environ.get(variable, ""), os.path.expanduser(default)):
        if os.path.isabs(path):
            return path
    raise SystemFailure(f"no folder for {variable}: neither it nor HOME is set", action="")
