"""Argument lists and parsers of iscsiadm, scsi_id and dmsetup, on output they have printed."""

from __future__ import annotations

import pytest

from storagectl.errors import InternalError
from storagectl.tools import dmsetup, iscsiadm, scsi_id

RECORD = """\
# BEGIN RECORD 2.1.8
node.name = iqn.2026-11.lab:t2
node.tpgt = 1
node.session.auth.authmethod = None
node.session.auth.chap_algs = MD5
# END RECORD
"""


@pytest.mark.parametrize(
    ("host", "port", "portal"),
    [("192.0.2.1", 3260, "192.0.2.1:3260"), ("2001:db8::1", 860, "[2001:db8::1]:860")],
)
def test_portal(host: str, port: int, portal: str) -> None:
    assert iscsiadm.portal(host, port) == portal


def test_node() -> None:
    argv = iscsiadm.node("h:3260,1", "iqn.x", "--login", interface="own")
    assert argv == [
        "iscsiadm", "--mode", "node", "--portal", "h:3260,1", "--targetname", "iqn.x",
        "--login", "--interface", "own",
    ]  # fmt: skip


def test_interfaces() -> None:
    text = (
        "libvirt-iface-07f06ec7 tcp,<empty>,<empty>,<empty>,iqn.2026-11.lab:me\n"
        "default tcp,<empty>,<empty>,<empty>,<empty>\n"
        "iser iser,<empty>,<empty>,<empty>,<empty>\n"
    )
    assert iscsiadm.parse_interfaces(text) == {"iqn.2026-11.lab:me": "libvirt-iface-07f06ec7"}


def test_chap_goes_into_the_record() -> None:
    once = iscsiadm.with_chap(RECORD, "joe", "first # secret")
    assert once.splitlines() == [
        "# BEGIN RECORD 2.1.8",
        "node.name = iqn.2026-11.lab:t2",
        "node.tpgt = 1",
        "node.session.auth.chap_algs = MD5",
        "node.session.auth.authmethod = CHAP",
        "node.session.auth.username = joe",
        "node.session.auth.password = first # secret",
        "# END RECORD",
    ]
    again = iscsiadm.with_chap(once, "ann", "second")
    assert "joe" not in again
    assert "first" not in again
    assert again.count("node.session.auth.password = second\n") == 1


@pytest.mark.parametrize("name", ["", "-x", "../t", "iqn.2026-11.lab:t/1", "iqn x", "iqn\n"])
def test_names_that_could_lead_elsewhere(name: str) -> None:
    assert iscsiadm.NAME.fullmatch(name) is None


def test_serials() -> None:
    assert scsi_id.parse_serial("333333330000007d0\n", export=False) == "333333330000007d0"
    assert scsi_id.parse_serial("", export=False) == ""
    exported = "ID_SCSI=1\nID_VENDOR=LIO\nID_SERIAL=3600140\nID_TARGET_PORT=2\n"
    assert scsi_id.parse_serial(exported, export=True) == "3600140_PORT2"
    assert scsi_id.parse_serial("ID_SCSI=1\nID_SERIAL=3600140\n", export=True) == "3600140"
    assert scsi_id.parse_serial("ID_SCSI=1\nID_TARGET_PORT=2\n", export=True) == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("No devices found\n", []),
        ("mpatha\t(253, 0)\n", [("mpatha", 0)]),
        ("data-\\x20disk\t(253:12)\nmpathb\t(253:3)\n", [("data-\\x20disk", 12), ("mpathb", 3)]),
    ],
)
def test_maps(text: str, found: list[tuple[str, int]]) -> None:
    assert dmsetup.parse_maps(text) == found


def test_states_of_paths() -> None:
    """As dm-mpath.c of Linux 6.1 writes them, with and without features, handler and more."""
    text = (
        "mpatha: 0 131072 multipath 2 0 0 0 2 1 A 0 1 2 8:16 A 0 0 1 E 0 1 2 8:32 F 3 0 1 \n"
        "a: b: 0 131072 multipath 0 1 alua 1 1 A 0 2 0 65:0 A 0 65:16 F 12 \n"
        "empty: 0 8 multipath 2 0 0 0 0 0 \n"
        "other: 0 8 linear \n"
    )
    assert dmsetup.parse_status(text) == {
        "mpatha": [("8:16", True, 0), ("8:32", False, 3)],
        "a: b": [("65:0", True, 0), ("65:16", False, 12)],
        "empty": [],
    }
    assert dmsetup.parse_status("No devices found\n") == {}


@pytest.mark.parametrize(
    "rest", ["", "2 0", "0 0 1 1 A 0 2 0 8:16 A 0", "x", "0 0 1 1 A 0 1 0 8:16 A x"]
)
def test_states_of_paths_that_cannot_be_understood(rest: str) -> None:
    with pytest.raises(InternalError, match="cannot understand what dmsetup printed"):
        dmsetup.parse_status(f"mpatha: 0 8 multipath {rest}")
