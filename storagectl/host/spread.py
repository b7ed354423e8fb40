"""Work on many files: one by one while the storage answers at once, by threads where it does not.

Where each operation takes milliseconds, as on a file server, threads wait at the same time;
where it takes microseconds they would only be in each other's way.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
Result = TypeVar("Result")

BATCH = 16
SLOW_S = 0.001  # for most of a batch: one may have had to wait for the processor
THREADS = 32


def spread(
    work: Callable[[T], Result], together: Callable[[T], Result], items: Iterable[T]
) -> Iterator[Result]:
    """Yield what `work` returns for each item, in order.

    `together` does the same in several threads at once.  What it raises is raised nowhere:
    the item is done again by `work`, alone.
    """
    import time

    left = iter(items)
    while batch := list(islice(left, BATCH)):
        slow = 0
        for item in batch:
            began = time.monotonic()
            result = work(item)
            slow += time.monotonic() - began > SLOW_S
            yield result
        if slow > len(batch) // 2:
            yield from by_threads(work, together, list(left))


def by_threads(
    work: Callable[[T], Result], together: Callable[[T], Result], items: list[T]
) -> Iterator[Result]:
    """Yield what `work` returns for each item, in order, done by threads as far as they can."""
    import threading

    done: dict[int, Result] = {}
    left = iter(enumerate(items))

    def do() -> None:
        for place, item in left:
            try:
                done[place] = together(item)
            except Exception:
                continue

    threads = [threading.Thread(target=do, daemon=True) for _ in range(min(THREADS, len(items)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for _ in left:  # nothing more for threads that nobody waits for
            pass
    for place, item in enumerate(items):
        yield done.pop(place) if place in done else work(item)
