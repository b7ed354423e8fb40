"""Options that several commands on volumes have and virsh lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storagectl.commands.command import flag, value
from storagectl.errors import InvalidArgument
from storagectl.model import Permissions

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ID = (1 << 32) - 2


def permission_options(function: Any) -> Any:
    """Declare who is to have a new volume."""
    for name, what in (
        ("mode", "permission bits of the vol, octal"),
        ("group", "group of the vol, by name or number"),
        ("owner", "owner of the vol, by name or number"),
    ):
        function = value(name, what, named_only=True)(function)
    return function


def allow_backing_option(function: Any) -> Any:
    """Declare that an image may lead to files which are no volumes."""
    what = "allow backing and data files of images that are no volumes of running pools"
    return flag("allow-backing", what)(function)


def if_missing_option(function: Any) -> Any:
    """Declare that a new volume's name may be taken."""
    what = "succeed and do nothing where the pool has a vol of that name, whatever it is like"
    return flag("if-missing", what)(function)


def permissions(owner: str | None, group: str | None, mode: str | None) -> Permissions:
    """Return who is to have a volume.  Raises: InvalidArgument for whom the host knows not."""
    bits = None
    if mode is not None:
        if not mode.isascii() or not mode.isdecimal() or not 0 <= octal(mode) <= 0o777:
            raise InvalidArgument(f"mode '{mode}' is no octal number from 0 to 0777")
        bits = octal(mode)

    def user(name: str) -> int:
        import pwd

        return pwd.getpwnam(name).pw_uid

    def members(name: str) -> int:
        import grp

        return grp.getgrnam(name).gr_gid

    return Permissions(bits, identity("user", owner, user), identity("group", group, members))


def octal(digits: str) -> int:
    """Return a number written in octal; -1 where it is not."""
    return int(digits, 8) if set(digits) <= set("01234567") else -1


def identity(what: str, name: str | None, look_up: Callable[[str], int]) -> int | None:
    """Return the number of a user or group that is given by name or number."""
    if name is None:
        return None
    if name.isascii() and name.isdecimal():
        number = int(name) if len(name) <= len(str(MOST_ID)) else MOST_ID + 1
        if number > MOST_ID:
            raise InvalidArgument(f"{what} {name} is above {MOST_ID}")
        return number
    try:
        return look_up(name)
    except (KeyError, ValueError):
        raise InvalidArgument(f"the host has no {what} '{name}'") from None


def permission_lines(wanted: Permissions) -> list[str]:
    """Return a volume's <permissions> as lines of XML."""
    lines = ["    <permissions>"]
    if wanted.mode is not None:
        lines.append(f"      <mode>0{wanted.mode:o}</mode>")
    if wanted.owner is not None:
        lines.append(f"      <owner>{wanted.owner}</owner>")
    if wanted.group is not None:
        lines.append(f"      <group>{wanted.group}</group>")
    return [*lines, "    </permissions>"]
