"""parted: every label that it makes here, against libvirt's own reading of the same disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from storagectl.errors import InternalError
from storagectl.tools import parted

FIXTURES = Path(__file__).parent / "fixtures" / "parted"
TABLES = sorted(
    path.stem for path in FIXTURES.glob("*.json") if path.stem not in ("none", "cylinders")
)


def recorded(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return loaded


@pytest.mark.parametrize("name", TABLES)
def test_table_is_read_as_libvirt_reads_it(name: str) -> None:
    record = recorded(name)
    expect = record["expect"]
    table = parted.parse_table(record["stdout"])
    assert table.label == expect["label"]
    assert table.sector_size == expect["sector_size"]
    assert [list(part) for part in table.partitions] == expect["partitions"]
    assert [list(free) for free in table.free] == expect["free"]


@pytest.mark.parametrize("name", TABLES)
def test_recorded_command_is_the_one_we_run(name: str) -> None:
    argv = recorded(name)["argv"]
    assert parted.print_table(argv[5]) == argv


def test_every_label_is_recorded() -> None:
    labels = {recorded(name)["expect"]["label"] for name in TABLES}
    assert labels == {"dos", "gpt", "mac", "bsd", "sun", "dvh", "pc98"}


def test_device_without_table() -> None:
    record = recorded("none")
    assert record["status"] == 1
    assert parted.UNRECOGNISED in record["stderr"]
    table = parted.parse_table(record["stdout"])
    assert table.label == "unknown"
    assert table.partitions == ()
    assert table.free == ()


def test_cylinder() -> None:
    record = recorded("cylinders")
    assert parted.print_cylinders(record["argv"][3]) == record["argv"]
    assert parted.parse_cylinder_sectors(record["stdout"]) == 255 * 2


@pytest.mark.parametrize("text", ["", "CYL;\n", "CYL;\n/dev/x;\n1:0:0:x;\n", "a\nb\nc:d:e\n"])
def test_cylinder_of_nonsense(text: str) -> None:
    with pytest.raises(InternalError, match="what parted printed"):
        parted.parse_cylinder_sectors(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"disk": null}',
        '{"disk": {"label": "gpt"}}',
        '{"disk": {"label": "gpt", "size": "many", "logical-sector-size": 512}}',
        '{"disk": {"label": "gpt", "size": "1B", "logical-sector-size": 512,'
        ' "partitions": [{"type": "primary"}]}}',
        "Warning: something\n{}",
    ],
)
def test_nonsense(text: str) -> None:
    with pytest.raises(InternalError, match="what parted printed"):
        parted.parse_table(text)


def test_half_a_table_is_refused() -> None:
    text = recorded("dos-logical")["stdout"]
    with pytest.raises(InternalError):
        parted.parse_table(text[: len(text) // 2])


def test_arguments() -> None:
    assert parted.mklabel("/dev/sdb", "dos") == [
        "parted",
        "--script",
        "/dev/sdb",
        "mklabel",
        "msdos",
    ]
    assert parted.mklabel("/dev/sdb", "gpt")[-1] == "gpt"
    assert parted.mkpart("/dev/sdb", ["primary", "ext2"], 1048576, 2097152) == [
        "parted", "--script", "--fix", "--align", "none", "/dev/sdb",
        "mkpart", "primary", "ext2", "1048576B", "2097151B",
    ]  # fmt: skip
    assert parted.rm("/dev/nvme0n1", 2) == ["parted", "--script", "/dev/nvme0n1", "rm", "2"]


def test_numbers_by_kind() -> None:
    table = parted.parse_table(recorded("dos-logical")["stdout"])
    assert table.numbers(parted.LOGICAL) == {5, 6, 7}
    assert table.numbers(parted.PRIMARY, parted.EXTENDED) == {1, 2, 3}
