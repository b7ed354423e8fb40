"""Options of lists: which rows, in which order, and what of them.  The work is in lists.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storagectl.commands.command import flag, value

if TYPE_CHECKING:
    from storagectl.commands.lists import Shape
    from storagectl.commands.session import Session


def list_options(function: Any) -> Any:
    """Declare what all lists take; the command gets them as keywords for `shape_of`."""
    for declare in (
        flag("bytes", "show sizes in bytes rather than pretty units"),
        value(
            "filter",
            "show only what is like COLUMN=VALUE; also != > < >= <= and ~ for a pattern",
            named_only=True,
            multiple=True,
        ),
        value("sort", "sort by this column, with - in front downwards", named_only=True),
        flag("no-header", "show no header, and no empty line at the end"),
        value(
            "format",
            "show these columns, as name,capacity, or a line like '{name}\\t{capacity}' each",
            named_only=True,
        ),
    ):
        function = declare(function)
    return function


def shape_of(session: Session, of: str, given: dict[str, Any]) -> Shape | None:
    """Return how a list of pools, volumes or secrets is to be shown; None for just as virsh does.

    Raises: StorageError for what names no column, and for options that don't go together.
    """
    if not session.json and not any(given.values()):
        return None
    from storagectl.commands.lists import Shape

    return Shape(session, of, **given)
