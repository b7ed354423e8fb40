"""Questions that may never be answered, as those to a file server that is gone."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Question:
    """What is asked in a thread of its own, which does not keep the process from ending."""

    def __init__(self, ask: Callable[[], object], limit_s: float) -> None:
        self.error: Exception | None = None
        self._until = time.monotonic() + limit_s
        self._ask = ask
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._ask()
        except Exception as error:
            self.error = error

    def is_answered(self) -> bool:
        """Wait for an answer until the limit is over, counted from when it was asked."""
        self._thread.join(max(self._until - time.monotonic(), 0))
        return not self._thread.is_alive()
