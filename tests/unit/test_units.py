"""Sizes from text and to text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagectl.commands.output import size
from storagectl.errors import ClientError, InvalidArgument, Overflow, StorageError
from storagectl.units import COMMAND_LIMIT, XML_LIMIT, parse, pretty, scale

FACTORS = [
    ("", 1), ("b", 1), ("byte", 1), ("bytes", 1),
    *((f"{letter}{tail}", 1024 ** (n + 1)) for n, letter in enumerate("kmgtpe")
      for tail in ("", "ib")),
    *((f"{letter}b", 1000 ** (n + 1)) for n, letter in enumerate("kmgtpe")),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "factor"), FACTORS)
def test_suffixes_in_any_case(suffix: str, factor: int) -> None:
    for spelled in (suffix, suffix.upper(), suffix.title()):
        assert parse(f"3{spelled}", COMMAND_LIMIT) == 3 * factor
        assert scale(3, spelled, COMMAND_LIMIT) == 3 * factor


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("10X", "X"), ("10Gbla", "Gbla"), ("1.5G", ".5G"), ("1e3", "e3"), ("0x10", "x10"),
        ("5K ", "K "), ("5 K", " K"), ("5kk", "kk"), ("5i", "i"), ("5ib", "ib"), ("5GiBs", "GiBs"),
        ("5\n", "\n"), ("5٣", "٣"), ("5\u212a", "\u212a"), ("5-1", "-1"),  # noqa: RUF001
    ],
)  # fmt: skip
def test_s09_unknown_suffixes(text: str, suffix: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text, COMMAND_LIMIT)
    assert caught.value.lines() == [
        f"Malformed size {text}",
        f"invalid argument: unknown suffix '{suffix}'",
    ]


@pytest.mark.parametrize(
    "text", ["abc", "-1", "٣", "²", " 5G", "", "G", ".5", "+", "18446744073709551616", "9" * 5000]
)
def test_s09_what_is_no_number(text: str) -> None:
    """virsh reads numbers of 64 bits; what is more is no number there either."""
    with pytest.raises(ClientError) as caught:
        parse(text, COMMAND_LIMIT)
    assert caught.value.lines() == [f"Malformed size {text}"]


@pytest.mark.parametrize("text", ["16E", "20E", "18446744073709551615K", "18446744073709552KB"])
def test_s09_overflow(text: str) -> None:
    with pytest.raises(Overflow) as caught:
        parse(text, COMMAND_LIMIT)
    assert caught.value.lines() == [
        f"Malformed size {text}",
        f"numerical overflow: value too large: {text}",
    ]


def test_the_limit_itself_is_allowed() -> None:
    assert parse("18446744073709551615", COMMAND_LIMIT) == COMMAND_LIMIT
    assert scale(XML_LIMIT, "", XML_LIMIT) == XML_LIMIT
    with pytest.raises(Overflow):
        scale(XML_LIMIT + 1, "", XML_LIMIT)


@given(st.integers(0, 2**70), st.sampled_from(FACTORS))
def test_parse_is_exact_or_refuses(number: int, unit: tuple[str, int]) -> None:
    try:
        assert parse(f"{number}{unit[0]}", COMMAND_LIMIT) == number * unit[1]
    except StorageError:
        assert number * unit[1] > COMMAND_LIMIT


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0.00 B"), (1023, "1023.00 B"), (1024, "1.00 KiB"), (200704, "196.00 KiB"),
        (10485760, "10.00 MiB"), (1 << 30, "1.00 GiB"), (1 << 40, "1.00 TiB"),
        (1 << 50, "1.00 PiB"), (1 << 60, "1.00 EiB"), (COMMAND_LIMIT, "16.00 EiB"),
        ((1 << 20) - 1, "1024.00 KiB"),
    ],
)  # fmt: skip
def test_pretty(value: int, shown: str) -> None:
    assert size(value) == shown


@given(st.integers(0, COMMAND_LIMIT))
def test_pretty_is_near_the_truth(value: int) -> None:
    number, unit = pretty(value)
    assert 0 <= number < 1024
    power = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert abs(Decimal(number) * 1024**power - value) <= Decimal(value) / 10**12


@given(st.integers(0, COMMAND_LIMIT), st.integers(0, COMMAND_LIMIT))
def test_pretty_keeps_the_order(one: int, other: int) -> None:
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    small, large = sorted((one, other))
    key = [(units.index(unit), number) for number, unit in (pretty(small), pretty(large))]
    assert key[0] <= key[1]
