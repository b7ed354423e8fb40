"""Drawings of pools for a terminal or, as plain text, for a file: made with rich, imported here.

Colours are the terminal's own sixteen, never a background, so that they suit dark and light.
Nothing reaches the terminal that `output.visible` has not seen.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from storagectl.commands import output
from storagectl.status import BROKEN, INACCESSIBLE, INACTIVE, RUNNING
from storagectl.units import pretty

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table
    from rich.text import Text

    from storagectl.backends import Layout, Path, Range
    from storagectl.status import Link, PoolStatus

STATES = {RUNNING: "green", INACTIVE: "", INACCESSIBLE: "bold red", BROKEN: "bold red"}
FULL, NEARLY = 95, 80
WIDE = 110
# Neighbours on a map differ in glyph and colour.
USED = (("█", "cyan"), ("▓", "blue"), ("█", "magenta"), ("▓", "green"))
FREE = ("░", "dim")
GAP = (" ", "")


class Paper(NamedTuple):
    """What is drawn on: how many columns it has, and whether it is no terminal."""

    width: int
    plain: bool

    @property
    def bar(self) -> int:
        return 10 if self.plain or self.width < WIDE else 24

    @property
    def map(self) -> int:
        return 64 if self.plain else max(self.width - 4, 10)


PLAIN = Paper(10_000, True)


def text(words: str, style: str = "") -> Text:
    """Return words, whatever is in them, as rich takes them: nothing in them acts."""
    from rich.text import Text

    return Text().append(output.visible(words), style)


def grid(paper: Paper) -> Table:
    """Return a table without lines, headings or edges."""
    from rich.table import Table

    return Table.grid(padding=(0, 2 if not paper.plain else 3, 0, 0), expand=False)


def size(number: int) -> str:
    """Return a size in bytes with one decimal: `1.5 GiB`."""
    value, unit = pretty(number)
    return f"{output.decimal(value, 1 if unit != 'B' else 0)} {unit}"


def percent(part: int, whole: int) -> int:
    """Return how much of the whole a part is; full only when nothing is left, 0 only for none."""
    if whole <= 0 or part <= 0:
        return 0
    return min(max(100 * part // whole, 1), 100)


def bar(part: int, whole: int, paper: Paper) -> Text:
    """Return a bar that is filled as far as a part of the whole, and the percentage."""
    share = percent(part, whole)
    filled = min(-(-share * paper.bar // 100), paper.bar)
    colour = "red" if share >= FULL else "yellow" if share >= NEARLY else "green"
    used, free = ("#", ".") if paper.plain else ("█", "░")
    drawn = text(used * filled, colour)
    drawn.append_text(text(free * (paper.bar - filled), "dim"))
    return drawn.append_text(text(f" {share:>3} %", "bold" if share >= NEARLY else ""))


def usage(status: PoolStatus, paper: Paper) -> Text:
    """Return the cell that says how full a pool is, or why nobody knows."""
    if status.why:
        return text(status.why, "" if status.state == INACTIVE else "red")
    found = status.measured
    if found is None:
        return text("-", "dim")
    if not status.divides:
        return text(size(found.capacity))
    drawn = bar(found.allocation, found.capacity, paper)
    free = f"  {size(found.available)} free"
    if paper.plain or paper.width >= WIDE:
        free += f" of {size(found.capacity)}"
    return drawn.append(free)


def overview(rows: Sequence[PoolStatus], paper: Paper) -> Table:
    """Return a line for each pool, of several where it tells what is wrong."""
    table = grid(paper)
    room = paper.width - sum(
        max((len(cell) for cell in column), default=0) + 2
        for column in ([*(row.state for row in rows), "State"], [*(r.type for r in rows), "Type"])
    )
    # What is left of the line, for name, source and usage.
    usage_width = paper.bar + (37 if paper.width >= WIDE else 23)
    left = max(room - usage_width - 4, 12)
    names = [output.width(output.visible(row.name)) for row in rows]
    name_width = min(max(*names, 4), max(left // 2, 12))
    source_width = max(left - name_width, 6)
    table.add_column(width=None if paper.plain else name_width, overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(max_width=None if paper.plain else source_width, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(*(text(word, "bold") for word in ("Pool", "State", "Type", "Source", "Usage")))
    for row in rows:
        source = output.visible(row.source)
        table.add_row(
            text(row.name, "bold" if row.is_trouble else ""),
            text(row.state, STATES[row.state]),
            text(row.type),
            text(source if paper.plain else shortened(source, source_width), "dim"),
            usage(row, paper),
        )
    return table


def shortened(words: str, columns: int) -> str:
    """Return words in at most that many columns: the middle goes, both ends tell more."""
    if output.width(words) <= columns:
        return words
    front, back = "", ""
    letters = list(words)
    while letters:
        at_front = output.width(front) < output.width(back)
        letter = letters[0] if at_front else letters[-1]
        if output.width(front + letter + back) > columns - 1:
            break
        letters.pop(0 if at_front else -1)
        front, back = (front + letter, back) if at_front else (front, letter + back)
    return f"{front}…{back}"


def summary(rows: Sequence[PoolStatus]) -> str:
    """Return how many pools there are, by state."""
    counts = {state: sum(row.state == state for row in rows) for state in STATES}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{len(rows)} {'pool' if len(rows) == 1 else 'pools'}: {states}"


def details(status: PoolStatus, paper: Paper) -> Iterator[Any]:
    """Yield a pool's volumes as a tree, maps of its devices, and the paths to its disks."""
    if not (status.links is not None or status.layouts or status.paths):
        return
    yield text("")
    yield text(status.name, "bold")
    if status.links is not None:
        yield tree(status.links, paper) if status.links else text("  no volumes", "dim")
        free = status.measured.available if status.measured is not None else status.growth
        if status.growth > free:
            words = f"  overcommitted: may grow by {size(status.growth)}, {size(free)} free"
            yield text(words, "yellow")
    for layout in status.layouts:
        yield from device_map(layout, paper)
    for name, found in (status.paths or {}).items():
        yield text(f"  {name}")
        yield path_table(found, paper)


def tree(links: Sequence[Link], paper: Paper) -> Table:
    """Return volumes, each below the one that it is based on, with their sizes."""
    table = grid(paper)
    table.add_column(overflow="fold")
    for _ in range(2):
        table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    for link in links:
        volume = link.volume
        note = f"on {link.outside}" if link.outside else ""
        table.add_row(
            text(guides(link, paper), "dim").append_text(text(volume.name)),
            text(volume.format or volume.type),
            text("-" if volume.type == "dir" else size(volume.capacity)),
            text(f"{size(volume.allocation)} used" if volume.type != "dir" else "").append_text(
                text(f"  {note}" if note else "", "dim")
            ),
        )
    return table


def guides(link: Link, paper: Paper) -> str:
    """Return the lines that lead to a volume in a tree."""
    if paper.plain:
        return "  " * (len(link.last) + 1)
    lines = ["   " if last else "│  " for last in link.last[:-1]]
    lines += ["└─ " if last else "├─ " for last in link.last[-1:]]
    return "  " + "".join(lines)


def device_map(layout: Layout, paper: Paper) -> Iterator[Text]:
    """Yield a device to scale, and what the parts of it are."""
    yield text(f"  {layout.device}").append_text(text(f"  {size(layout.size)}", "dim"))
    if not layout.ranges:
        yield text("  nothing is known of it", "red")
        return
    pens = list(map_pens(layout.ranges, paper))
    drawn = text("  ")
    cells = scaled(layout.ranges, layout.size, paper.map)
    for cell, run in groupby(cells):
        glyph, style = pens[cell] if cell is not None else GAP
        drawn.append(glyph * len(list(run)), style)
    yield drawn
    yield from legend(layout.ranges, pens, paper)


def map_pens(ranges: Sequence[Range], paper: Paper) -> Iterator[tuple[str, str]]:
    """Yield glyph and colour of each range; as plain text parts are digits, then letters."""
    letters = "123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    numbers: dict[str, int] = {}
    for one in ranges:
        if not one.name:
            yield (".", "") if paper.plain else FREE
            continue
        number = numbers.setdefault(one.name, len(numbers))
        yield (letters[number % len(letters)], "") if paper.plain else USED[number % len(USED)]


def scaled(ranges: Sequence[Range], whole: int, cells: int) -> list[int | None]:
    """Return, for each cell of a map, the number of the range that has most of it.

    A used range that has most of none gets the one at its middle, unless another used range
    would vanish from the map by that.  None is where there is no range.
    """
    most: list[int | None] = [None] * cells
    share = [0] * cells
    for number, one in enumerate(ranges):
        first, last = one.start * cells // whole, -(-one.end * cells // whole)
        for cell in range(first, min(last, cells)):
            inside = min(one.end * cells, (cell + 1) * whole) - max(one.start * cells, cell * whole)
            if inside > share[cell]:
                most[cell], share[cell] = number, inside
    for number, one in enumerate(ranges):
        if not one.name or number in most:
            continue
        cell = min((one.start + one.end) * cells // (2 * whole), cells - 1)
        owner = most[cell]
        if owner is None or not ranges[owner].name or most.count(owner) > 1:
            most[cell] = number
    return most


def legend(
    ranges: Sequence[Range], pens: Sequence[tuple[str, str]], paper: Paper
) -> Iterator[Text]:
    """Yield lines that tell what is what on a map; what is in several pieces is told of once."""
    totals: dict[str, int] = {}
    shown: dict[str, tuple[str, str]] = {}
    for one, pen in zip(ranges, pens, strict=True):
        totals[one.name] = totals.get(one.name, 0) + one.end - one.start
        shown.setdefault(one.name, pen)
    line = text(" ")
    names = [name for name in totals if name] + [""] * ("" in totals)
    for name in names:
        entry = text(" ").append(*shown[name])
        entry.append_text(text(f" {name or 'free'} {size(totals[name])} "))
        if line.cell_len > 1 and line.cell_len + entry.cell_len > min(paper.width, 100):
            yield line
            line = text(" ")
        line.append_text(entry)
    yield line


def path_table(paths: Sequence[Path], paper: Paper) -> Table:
    """Return the paths to a disk, and which of them have failed."""
    table = grid(paper)
    for _ in range(3):
        table.add_column(no_wrap=True)
    if not paths:
        table.add_row(text("    no paths", "red"))
    for path in paths:
        often = f" {path.failures} times" if path.failures > 1 else ""
        state = text("active", "green") if path.active else text(f"failed{often}", "bold red")
        table.add_row(text(f"    {path.node}"), text(path.address or "-", "dim"), state)
    return table
