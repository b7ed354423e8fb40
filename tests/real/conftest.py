"""Fixtures of the tests on real devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("scratch")

from scratch import Program, Scratch, scratch_area  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    """What a test may use up; nothing of it remains."""
    with scratch_area() as area:
        yield area


@pytest.fixture
def ctl(scratch: Scratch) -> Program:
    """The program, with definitions below the test's folder."""
    return Program(scratch.folder / "root")
