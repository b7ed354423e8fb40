"""Moving data in a dry run: the tools that would leave the same bytes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from storagectl.host.bulk import Mover, data_ranges
from storagectl.host.script import dd, quote

if TYPE_CHECKING:
    from hashlib import _Hash

    from storagectl.host.plan import Planner


# Of more holes than that in a file, a script does not tell one by one.
MOST_HOLES = 50


class PlannedMover(Mover):
    """Plans what a Mover does."""

    def __init__(self, host: Planner, digest: _Hash | None = None) -> None:
        super().__init__(digest=digest)
        self.host = host
        self.source: tuple[str | None, int] = (None, 0)

    def _copy(
        self,
        source: int,
        target: int,
        source_offset: int,
        target_offset: int,
        length: int,
        *,
        sparse: bool = False,
    ) -> None:
        self.source = (self.host.name(source), source_offset)
        self.meter.advance(length)
        if length:
            self.host.record(
                dd(
                    self.source[0],
                    self.host.name(target),
                    skip=source_offset,
                    seek=target_offset,
                    count=length,
                    sparse=sparse,
                )
            )

    def copy(
        self, source: int, target: int, source_offset: int, target_offset: int, length: int
    ) -> None:
        self._copy(source, target, source_offset, target_offset, length)

    def copy_data(
        self, source: int, target: int, source_offset: int, target_offset: int, length: int
    ) -> None:
        self._copy(source, target, source_offset, target_offset, length, sparse=True)

    copy_nonzero = copy_data

    def copy_with_holes(
        self, source: int, target: int, source_offset: int, target_offset: int, length: int
    ) -> None:
        self._copy(source, target, source_offset, target_offset, length)
        place = self.host.name(target)
        if place is None or not os.path.isfile(place):
            return  # zeros are holes enough
        end = source_offset + length
        at, holes = source_offset, []
        for start, stop in (*data_ranges(source, source_offset, end), (end, end)):
            if start > at:
                holes.append((at, start - at))
            at = stop
        moved = target_offset - source_offset
        if len(holes) > MOST_HOLES:
            holes = [(source_offset, length)]
            how = "--dig-holes"
        else:
            how = "--punch-hole"
        for start, size in holes:
            self.host.record(
                ["fallocate", how, f"--offset={start + moved}", f"--length={size}", "--", place]
            )

    def stream_in(self, source: int, target: int, room: int, offset: int, *, whole: bool) -> None:
        place = self.host.name(target)
        bounded = room < sys.maxsize - offset
        # what is written in place must not become longer
        whole = whole and target in self.host.places
        limit = (room + 1 if whole else room) if bounded else None
        given = self.host.name(source)
        if given is None:
            self.host.script.comment("The data comes from stdin: bash SCRIPT <DATA")
        self.host.record(dd(given, place, seek=offset, count=limit))
        self.source = (given, 0)
        if whole and bounded and place is not None:
            self.host.script.add(
                f'[ "$(stat --format=%s -- {quote(place)})" -le {offset + room} ]'
                f"  # else it does not fit"
            )

    def stream_out(self, source: int, target: int, offset: int, length: int) -> None:
        self._copy(source, target, offset, 0, length)

    def zero(self, fd: int, offset: int, length: int) -> None:
        self.meter.advance(length)
        if length:
            self.host.record(dd("/dev/zero", self.host.name(fd), seek=offset, count=length))

    def clear(self, fd: int, offset: int, length: int) -> None:
        place = self.host.name(fd)
        assert place is not None
        self.host.record(
            ["fallocate", "--punch-hole", f"--offset={offset}", f"--length={length}", "--", place]
        )

    def read(self, fd: int, offset: int, length: int) -> None:
        self.source = (self.host.name(fd), offset)

    def verify(self, fd: int, offset: int, length: int) -> None:
        source, at = self.source
        place = self.host.name(fd)
        assert place is not None
        if source is None:
            self.host.script.comment("What stdin gave can't be compared with what was written.")
            return
        self.host.record(
            ["cmp", f"--bytes={length}", f"--ignore-initial={at}:{offset}", "--", source, place]
        )


def complete(host: Planner, old: int, new: int, start: int) -> None:
    """Plan to give a new file, which has `start` bytes, the size and the rest of an old one.

    What comes from a pipe, so that nobody knows yet how much it is, has 0 for `start`.
    """
    target, source = host.name(new), host.name(old)
    assert target is not None
    assert source is not None
    status = os.fstat(old)
    if start:
        host.truncate(new, max(status.st_size, start))
        if status.st_size > start:
            if status.st_blocks * 512 >= status.st_size:
                host.allocate(new, status.st_size)
            PlannedMover(host).copy_data(old, new, start, start, status.st_size - start)
        return
    size = status.st_size
    host.script.add(f"start=$(stat --format=%s -- {quote(target)})")
    host.record(["truncate", f"--size=>{size}", "--", target])
    if size and status.st_blocks * 512 >= size:
        host.allocate(new, size)
    host.script.add(
        f'[ "$start" -ge {size} ] || dd if={quote(source)} of={quote(target)} bs=64K'
        ' iflag=skip_bytes oflag=seek_bytes skip="$start" seek="$start"'
        " conv=notrunc,fsync,sparse status=none"
    )
