"""config.toml: what a user wants to have otherwise, for all commands.

The system's file counts for everybody, a user's own for that user's pools on top of it.
Where there is none nothing is imported.  A key acts, or is an error.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from storagectl.errors import (
    ConfigFileError,
    ConfigUnsupported,
    Mistyped,
    OperationDenied,
    StorageError,
    SystemFailure,
)
from storagectl.host.commands import TOOL_PATH
from storagectl.host.files import content
from storagectl.store import user_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FILE = "storagectl/config.toml"
LIMITS = "time-limits"
OUTPUTS = ("text", "json")
# Seconds.  `command` is for each host command that has no limit of its own.
TIME_LIMITS = (
    "answer", "autostart", "command", "copy", "discovery", "format", "lock", "login", "mount",
    "query", "unmount",
)  # fmt: skip
LONGEST_S = 1_000_000


class Config:
    """What the files say, and the defaults for the rest."""

    def __init__(self) -> None:
        self.confirm = False
        self.log: str | None = None
        self.output = "text"
        self.wipe_algorithm = "zero"
        self.time_limits: dict[str, float] = {}
        self.tool_path: tuple[str, ...] = TOOL_PATH

    def read(self, path: str) -> None:
        """Take over what a file says, if there is one that the user may read.

        Root trusts none that others may write: it says which programs run.
        Raises: StorageError that names the file and the key.
        """
        try:
            data = content(path, partial(require_trusted, path))
            self._apply(parsed(data))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return
        except OSError as error:
            raise SystemFailure(
                f"Failed to open file '{path}': {error.strerror}", action=action(path)
            ) from error
        except StorageError as error:
            error.action = action(path)
            raise

    def _apply(self, given: dict[str, object]) -> None:
        takers: dict[str, Callable[[object], None]] = {
            "confirm": self._take_confirm,
            "log": self._take_log,
            "output": self._take_output,
            "tool-path": self._take_tool_path,
            "wipe-algorithm": self._take_wipe_algorithm,
            LIMITS: self._take_limits,
        }
        for key, value in given.items():
            if key not in takers:
                raise unknown(key, takers)
            takers[key](value)

    def _take_confirm(self, value: object) -> None:
        if not isinstance(value, bool):
            raise unfit("confirm", "true or false")
        self.confirm = value

    def _take_log(self, value: object) -> None:
        if not isinstance(value, str) or not os.path.isabs(value) or "\0" in value:
            raise unfit("log", "an absolute path")
        self.log = value

    def _take_output(self, value: object) -> None:
        if not isinstance(value, str) or value not in OUTPUTS:
            raise unfit("output", f"one of {', '.join(OUTPUTS)}")
        self.output = value

    def _take_tool_path(self, value: object) -> None:
        folders = value if isinstance(value, list) else []
        if not folders or not all(isinstance(f, str) and os.path.isabs(f) for f in folders):
            raise unfit("tool-path", "a list of absolute folders")
        self.tool_path = tuple(folders)

    def _take_wipe_algorithm(self, value: object) -> None:
        from storagectl.volumedata import WIPE_ALGORITHMS

        if not isinstance(value, str) or value not in WIPE_ALGORITHMS:
            raise unfit("wipe-algorithm", f"one of {', '.join(WIPE_ALGORITHMS)}")
        self.wipe_algorithm = value

    def _take_limits(self, value: object) -> None:
        if not isinstance(value, dict):
            raise unfit(LIMITS, "a table")
        for key, limit in value.items():
            if key not in TIME_LIMITS:
                raise unknown(f"{LIMITS}.{key}", [f"{LIMITS}.{name}" for name in TIME_LIMITS])
            number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if not number or not math.isfinite(limit) or not 0 < limit <= LONGEST_S:
                raise unfit(f"{LIMITS}.{key}", f"seconds, above 0 and up to {LONGEST_S}")
            self.time_limits[key] = float(limit)


def load(root: str | None, *, system: bool) -> Config:
    """Return what counts for the system's pools, for a user's, or for those below `root`.

    Raises: StorageError.
    """
    config = Config()
    for path in paths(root, system=system):
        config.log = None  # the system's is not for everybody to write
        config.read(path)
    return config


def paths(root: str | None, *, system: bool) -> list[str]:
    """Return the files that count, the one that wins last.

    Root's pools do not listen to XDG_CONFIG_HOME: sudo may have kept another user's.
    """
    if root is not None:
        return [os.path.join(root, "etc", FILE)]
    found = [os.path.join("/etc", FILE)]
    if not system:
        found.append(os.path.join(user_folder("XDG_CONFIG_HOME", "~/.config"), FILE))
    return found


def require_trusted(path: str, status: os.stat_result) -> None:
    """Raise where root would obey a file that is another user's, or that others may write to."""
    if os.geteuid() != 0:
        return
    if status.st_uid != 0:
        raise OperationDenied(f"it belongs to user {status.st_uid}: chown root '{path}'")
    if status.st_mode & 0o022:
        mode = status.st_mode & 0o7777
        raise OperationDenied(f"others may write to it (mode {mode:04o}): chmod go-w '{path}'")


@lru_cache(maxsize=4)
def parsed(data: bytes) -> dict[str, object]:
    """Return what a file says.  Raises: ConfigFileError with the line.

    The same bytes always say the same: a file is looked at for each command, and understood once.
    """
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigFileError(f"line {line} is not UTF-8") from error
    except ValueError as error:  # tomllib's own, or of a number with too many digits
        raise ConfigFileError(str(error)) from error
    except RecursionError as error:
        raise ConfigFileError("nested too deeply") from error


def action(path: str) -> str:
    """Return the first line of an error about a file."""
    return f"failed to read the configuration '{path}'"


def unknown(key: str, known: Iterable[str]) -> ConfigUnsupported:
    """Return the error for a key that has no meaning."""
    return ConfigUnsupported(f"unknown key '{key}'", mistyped=Mistyped(key, lambda: known))


def unfit(key: str, wanted: str) -> ConfigUnsupported:
    """Return the error for a value that its key cannot have."""
    return ConfigUnsupported(f"key '{key}' must be {wanted}")
