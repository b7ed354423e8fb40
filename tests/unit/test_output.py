"""Tables, labels and sizes as virsh 9.0.0 prints them."""

from __future__ import annotations

import locale
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagectl.commands import output
from storagectl.commands.output import in_table, labelled, size, table, visible, width

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Printed by virsh 9.0.0.
POOLS = """\
 Name   State      Autostart
------------------------------
 big    active     no
 rh1    inactive   no
"""
DETAILS = """\
 Name   State      Autostart   Persistent   Capacity     Allocation   Available
----------------------------------------------------------------------------------
 big    running    no          yes          251.97 GiB   27.29 GiB    224.68 GiB
 rh1    inactive   no          yes          -            -            -
"""
EMPTY = """\
 Name   State   Autostart
---------------------------
"""
HEADER = ("Name", "State", "Autostart")
LONG_HEADER = (*HEADER, "Persistent", "Capacity", "Allocation", "Available")


def rows_of(sample: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("   ") if cell.strip()]
            for line in sample.splitlines()[2:]]  # fmt: skip


@pytest.mark.parametrize(
    ("sample", "header"), [(POOLS, HEADER), (DETAILS, LONG_HEADER), (EMPTY, HEADER)]
)
def test_virshs_own_tables(sample: str, header: tuple[str, ...]) -> None:
    assert table(header, rows_of(sample), quiet=False) == sample


def test_quiet_measures_without_the_header() -> None:
    assert table(HEADER, [("d", "active", "no")], quiet=True) == " d   active   no\n"
    assert table(HEADER, [], quiet=True) == ""


def test_wide_characters_take_two_columns() -> None:
    rows = [("日本", "inactive", "no"), ("a", "inactive", "no"), ("e\u0301e", "x", "no")]
    shown = table(HEADER, rows, quiet=False).splitlines()
    assert shown[2] == " 日本   inactive   no"
    assert shown[3] == " a      inactive   no"
    assert shown[4] == " e\u0301e     x          no"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("ab", 2), ("é", 1), ("日本", 4), ("e\u0301", 1), ("a\u20dd", 1), ("♥\ufe0f", 1),
        ("👍🏽", 4), ("👩\u200d👧", 4), ("नि", 2), ("กำ", 2), ("ᄒ\u1161\u11ab", 2),
        ("\u302e", 2), ("a\u00adb", 3), ("a\u200bb", 2),
    ],
)  # fmt: skip
def test_width_as_virsh_counts_it(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("virsh") is None, reason="needs virsh")
def test_wide_characters_as_virsh_prints_them() -> None:
    names = ["日本", "äöü", "e\u0301e", "plain"]
    script = "; ".join(f"pool-define-as {name} dir --target /{n}" for n, name in enumerate(names))
    done = subprocess.run(
        ["virsh", "-q", "-c", "test:///default", f"{script}; pool-list --inactive"],
        capture_output=True, text=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
    )  # fmt: skip
    ours = table(HEADER, [(name, "inactive", "no") for name in names], quiet=True)
    assert sorted(done.stdout.splitlines()) == sorted(ours.splitlines())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"), ("ünï 日本", "ünï 日本"), ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\tb\nc", "a\\x09b\\x0ac"), ("\x7f", "\\x7f"), ("\x9b", "\\xc2\\x9b"),
        ("a\udcffb", "a\\xffb"), ("\u202e", "\\xe2\\x80\\xae"), ("\u2028", "\\xe2\\x80\\xa8"),
        ("\u2067", "\\xe2\\x81\\xa7"), ("\u0378", "\\xcd\\xb8"), ("\u200b", "\u200b"),
        ("👩\u200d👧", "👩\u200d👧"), ("a\u3000b", "a\u3000b"), ("a\u00adb", "a\u00adb"),
        ("", ""),
    ],
)  # fmt: skip
def test_s07_nothing_reaches_the_terminal_but_characters(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert table(("Name", "x"), [(text, "y")], quiet=True) == f" {shown}   y\n"


def test_a_table_tells_a_byte_from_what_looks_like_one() -> None:
    rows = [("a\\x41", "y"), ("a\x1b", "y")]
    assert table(("Name", "x"), rows, quiet=True) == " a\\x5cx41   y\n a\\x1b      y\n"


HARMFUL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
cells = st.text(st.characters(codec="utf-8"), max_size=12)


@given(st.lists(st.tuples(cells, cells, cells), max_size=6), st.booleans())
def test_s07_columns_start_at_the_same_place(rows: list[tuple[str, str, str]], quiet: bool) -> None:
    shown = table(HEADER, rows, quiet=quiet)
    lines = shown.splitlines()
    assert len(lines) == len(rows) + (0 if quiet else 2)
    assert not HARMFUL.search(shown)
    if not rows:
        return
    clean = [[in_table(cell) for cell in row] for row in rows]
    first = max(width(row[0]) for row in clean)
    second = max(width(row[1]) for row in clean)
    if not quiet:
        first, second = max(first, 4), max(second, 5)
    for line, row in zip(lines[0 if quiet else 2 :], clean, strict=True):
        assert line.startswith(" " + row[0])
        assert line.endswith(" " + row[2])
        assert width(line) == 1 + first + 2 + 1 + second + 2 + 1 + width(row[2])


def test_labels() -> None:
    assert labelled("Name", "rh1") == "Name:           rh1\n"
    assert labelled("Allocation", "30.77 GiB") == "Allocation:     30.77 GiB\n"
    assert size(270553174016) == "251.97 GiB"


def test_write_is_stdout_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.write("a\tb")
    assert capsys.readouterr() == ("a\tb", "")


@pytest.fixture
def comma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a locale with a decimal comma and return its name."""
    source = tmp_path / "source"
    source.write_text(
        'LC_NUMERIC\ndecimal_point ","\nthousands_sep ""\ngrouping -1\nEND LC_NUMERIC\n'
    )
    subprocess.run(
        ["localedef", "-c", "-i", source, tmp_path / "xx_DE"], capture_output=True, check=False
    )
    assert (tmp_path / "xx_DE/LC_NUMERIC").exists()
    for name in ("LC_ALL", "LC_NUMERIC", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    output.decimal_point.cache_clear()
    yield "xx_DE"
    output.decimal_point.cache_clear()
    locale.setlocale(locale.LC_NUMERIC, "C")


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"LC_NUMERIC": "xx_DE"}, "10,00 MiB"), ({"LANG": "xx_DE"}, "10,00 MiB"),
        ({"LC_NUMERIC": "xx_DE", "LC_ALL": "C.UTF-8"}, "10.00 MiB"),
        ({"LC_NUMERIC": "no_SUCH"}, "10.00 MiB"), ({}, "10.00 MiB"),
    ],
)  # fmt: skip
@pytest.mark.tools
def test_the_decimal_point_is_the_locales(
    comma: str, variables: dict[str, str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert size(10 << 20) == shown


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("virsh") is None, reason="needs virsh")
def test_the_decimal_point_as_virsh_prints_it(comma: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_NUMERIC", comma)
    words = ["virsh", "-c", "test:///default", "pool-info", "default-pool"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert labelled("Capacity", size(100 << 30)) in done.stdout.splitlines(keepends=True)
