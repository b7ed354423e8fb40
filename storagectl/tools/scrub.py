"""scrub(1): how it overwrites a file, and what it says meanwhile.

    scrub: using DoD 5220.22-M patterns
    scrub: scrubbing /srv/a 62914560 bytes (~60MB)
    scrub: random  |................................................|
    scrub: 0x00    |.....

Source: scrub 2.6.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.host.bulk import Meter

PASSES = {
    "nnsa": 4,
    "dod": 4,
    "bsi": 9,
    "gutmann": 35,
    "schneier": 7,
    "pfitzner7": 7,
    "pfitzner33": 33,
    "random": 1,
}
DOTS = 48
# What makes it print each dot at once.
UNBUFFERED = ("stdbuf", "-o0")


def overwrite(program: str, algorithm: str, path: str) -> list[str]:
    """Overwrite a file or device, whatever is said to be on it."""
    return [*UNBUFFERED, program, "-f", "-p", algorithm, path]


def hearing(meter: Meter, size: int) -> Callable[[bytes], None]:
    """Return what hears the dots of all passes over `size` bytes, and tells a meter."""
    dots = 0
    begun = False

    def heard(chunk: bytes) -> None:
        nonlocal dots, begun
        for byte in chunk:
            if byte in b"|\n":
                begun = byte == ord("|")
            elif begun and byte == ord("."):
                dots += 1
        meter.advance(dots * size // DOTS - meter.done)

    return heard
