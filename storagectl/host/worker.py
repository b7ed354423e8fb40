"""A function of ours that runs in a process of its own, so that it can be ended from outside."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from storagectl.host.commands import STOPPING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

GRACE_S = 10.0  # for cleaning up
TICK_S = 0.5
CHUNK = 65536


class Worker:
    """One process; `answer` is what its function returns, None where that never comes.

    The first signal of STOPPING makes the function clean up, and further ones change
    nothing: Ctrl-C and systemd reach every process, and `end` comes on top of that.
    """

    def __init__(self, function: Callable[[], str], limit_s: float) -> None:
        self.began = time.monotonic()
        self.answer: str | None = None
        self.told_to_end = False
        self._end_at = self.began + limit_s
        self._received = b""
        self._reader, writer = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                work(function, writer, before)
        finally:
            os.close(writer)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.began

    def fileno(self) -> int:
        return self._reader

    def is_over(self) -> bool:
        """Tell, once, that it is done.  At its limit it is told to end, and later killed."""
        while wait([self], 0):
            chunk = os.read(self._reader, CHUNK)
            self._received += chunk
            if not chunk:
                os.close(self._reader)
                if os.waitpid(self._pid, 0)[1] == 0:
                    self.answer = self._received.decode(errors="surrogateescape")
                return True
        late_s = time.monotonic() - self._end_at
        if late_s > GRACE_S and self.told_to_end:
            os.close(self._reader)
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, os.WNOHANG)  # it may be stuck in the kernel
            return True
        if late_s > 0:
            self.end()
        return False

    def end(self) -> None:
        """Have the function stop and clean up."""
        if not self.told_to_end:
            self.told_to_end = True
            self._end_at = time.monotonic()
            os.kill(self._pid, signal.SIGTERM)


def work(function: Callable[[], str], writer: int, mask: Iterable[int]) -> NoReturn:
    """Run the function in the new process, and end that whatever happens."""
    status = 1
    try:
        for number in STOPPING:
            signal.signal(number, end_once)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        answer = function().encode(errors="surrogateescape")
        while answer:
            answer = answer[os.write(writer, answer) :]
        status = 0
    except SystemExit:
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def end_once(signum: int, frame: object) -> NoReturn:
    """Leave by way of every clean-up, which no second signal cuts short."""
    for number in STOPPING:
        # not SIG_IGN: Python complains when one that has arrived already is ignored by then
        signal.signal(number, lambda signum, frame: None)
    raise SystemExit(128 + signum)


def wait(workers: Collection[Worker], timeout_s: float | None = None) -> list[Worker]:
    """Wait for workers that answer or end, but not for long: TICK_S where no time is given."""
    return select.select(list(workers), [], [], TICK_S if timeout_s is None else timeout_s)[0]


def end_all(workers: Collection[Worker]) -> None:
    """End all of them, and wait for that."""
    left = list(workers)
    for worker in left:
        worker.end()
    while left:
        wait(left)
        left = [worker for worker in left if not worker.is_over()]
