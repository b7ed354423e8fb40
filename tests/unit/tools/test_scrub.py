"""What scrub says of how far it is."""

from __future__ import annotations

import pytest

from storagectl.host.bulk import Meter
from storagectl.tools import scrub
from storagectl.volumedata import WIPE_ALGORITHMS

SIZE = 48_000
SAID = b"""scrub: using DoD 5220.22-M patterns
scrub: scrubbing /srv/a.b|c... 48000 bytes (~47KB)
scrub: random  |................................................|
scrub: 0x00    |............"""


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_dots_are_counted_however_they_come(piece: int) -> None:
    meter = Meter()
    heard = scrub.hearing(meter, SIZE)
    said = SAID.replace(b".b|c...", b"")
    for start in range(0, len(said), piece):
        heard(said[start : start + piece])
    assert meter.done == SIZE + SIZE // 4


def test_every_algorithm_has_its_passes() -> None:
    assert {*scrub.PASSES, "zero", "trim"} == set(WIPE_ALGORITHMS)
