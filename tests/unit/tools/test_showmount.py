"""showmount's argument list, and what it printed as it was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storagectl.tools import showmount

FIXTURES = Path(__file__).parent / "fixtures" / "showmount"


def test_exports() -> None:
    recorded = json.loads((FIXTURES / "five.json").read_text())
    assert showmount.exports("127.0.0.1") == recorded["argv"]
    assert showmount.parse_exports(recorded["stdout"]) == [
        "/srv/sq", "/srv/exp", "/srv/a b", "/srv", "/srv/ro",
    ]  # fmt: skip


def test_brackets_are_not_understood() -> None:
    recorded = json.loads((FIXTURES / "unknown-host.json").read_text())
    assert recorded["status"] == 1
    assert showmount.exports("[::1]")[-1] == showmount.exports("::1")[-1] == "::1"


def test_s63_what_is_no_export_is_left_out() -> None:
    assert showmount.parse_exports("") == []
    assert showmount.parse_exports("Export list for nas:\n/\n  /x *\nx *\n/y\n") == []


@pytest.mark.parametrize(
    ("folder", "exports", "offered"),
    [
        ("/srv/a", ["/srv/a"], True),
        ("/srv/a/b/", ["/srv/a"], True),
        ("/srv/ab", ["/srv/a"], False),
        ("/srv", ["/srv/a"], True),
        ("/sr", ["/srv/a"], False),
        ("/", ["/srv/a"], True),
        ("/x", ["/"], True),
        ("/a", ["/srv/nfs/a"], True),
        ("/a/b", ["/srv/nfs/a"], True),
        ("/b", ["/srv/nfs/a", "/srv/bb"], False),
    ],
)
def test_what_is_offered(folder: str, exports: list[str], offered: bool) -> None:
    assert showmount.is_offered(folder, exports) is offered
