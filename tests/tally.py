"""How many faults tests have tried and how many were survived, for the table in CONTRIBUTING.md.

tests/conftest.py prints it after the tests.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

tried: Counter[str] = Counter()
survived: Counter[str] = Counter()


@contextlib.contextmanager
def counted(kind: str, number: int = 1) -> Iterator[None]:
    """Count one fault, or a number of them, survived when the block ends well."""
    tried[kind] += number
    yield
    survived[kind] += number


def lines() -> list[str]:
    """Return `KIND: TRIED tried, SURVIVED survived` for each kind."""
    return [f"{kind}: {tried[kind]} tried, {survived[kind]} survived" for kind in sorted(tried)]
