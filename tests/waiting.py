"""Waiting for what another process does: not for ever, and not once that process has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

PATIENCE_S = 60


def holds(
    condition: Callable[[], object],
    patience_s: float = PATIENCE_S,
    child: subprocess.Popen[bytes] | subprocess.Popen[str] | None = None,
) -> bool:
    """Tell whether a condition comes to hold, before time is up and before the child has ended."""
    deadline = time.monotonic() + patience_s
    pause = 0.005
    while not condition():
        if time.monotonic() > deadline:
            return False
        if child is not None and child.poll() is not None:
            return bool(condition())
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return True


def wait_for(
    condition: Callable[[], object],
    what: str,
    child: subprocess.Popen[bytes] | subprocess.Popen[str] | None = None,
) -> None:
    """Wait until a condition holds; fail with `what`."""
    assert holds(condition, child=child), what
