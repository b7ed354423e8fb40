"""Options of vol-create-as, vol-clone and vol-create-from that virsh lacks."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from inprocess import Answer, storagectl

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tools

MIB = 1 << 20
UNSUPPORTED = "error: Operation not supported: "
INVALID = "error: invalid argument: "


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    assert storagectl(tmp_path, "pool-create-as", "p", "dir", "--target", str(folder)).status == 0
    (folder / "raw").write_bytes(b"data".ljust(MIB, b"\1"))
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "base", "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 512k", folder / "base")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", folder / "over")
    return folder


def run(*argv: object) -> str:
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True).stdout


def call(pool: Path, line: str) -> Answer:
    return storagectl(pool.parent, *line.split())


def ok(pool: Path, line: str) -> str:
    answer = call(pool, line)
    assert (answer.status, answer.stderr) == (0, "")
    return answer.stdout


def refused(pool: Path, line: str) -> str:
    """Return the last line of an error; nothing has changed."""
    before = {path.name: path.stat() for path in pool.iterdir()}
    answer = call(pool, line)
    assert (answer.status, answer.stdout.strip()) == (1, "")
    assert {path.name: path.stat() for path in pool.iterdir()}.keys() == before.keys()
    return answer.stderr.splitlines()[-1]


def info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("qemu-img", "info", "--output=json", path))
    return found


def definition(pool: Path, name: str, rest: str = "") -> str:
    path = pool.parent / f"{name}.xml"
    path.write_text(f"<volume><name>{name}</name>{rest}</volume>")
    return str(path)


CLONE = "vol-clone raw new p"


def made(pool: Path) -> tuple[str, ...]:
    """The commands that take owner, group and mode."""
    permissions = "<target><permissions><mode>0604</mode></permissions></target>"
    return (
        "vol-create-as p new 1M",
        CLONE,
        f"vol-create-from p {definition(pool, 'new', permissions)} raw p",
    )


@pytest.mark.root
def test_owner_group_and_mode(pool: Path) -> None:
    user, group = pwd.getpwall()[1], grp.getgrall()[1]
    for command in made(pool):
        for owner, members in ((user.pw_name, group.gr_name), (user.pw_uid, group.gr_gid)):
            ok(pool, f"{command} --owner {owner} --group {members} --mode 640")
            status = (pool / "new").stat()
            assert (status.st_uid, status.st_gid) == (user.pw_uid, group.gr_gid)
            assert status.st_mode & 0o7777 == 0o640
            (pool / "new").unlink()


def test_what_is_not_given_is_as_without_the_options(pool: Path) -> None:
    (pool / "raw").chmod(0o604)
    for command, mode in zip(made(pool), (0o600, 0o604, 0o604), strict=True):
        ok(pool, f"{command} --owner {os.geteuid()}")
        assert (pool / "new").stat().st_mode & 0o7777 == mode
        (pool / "new").unlink()


@pytest.mark.parametrize(
    ("option", "cause"),
    [
        ("--owner nobody-has-this", "the host has no user 'nobody-has-this'"),
        ("--group nobody-has-this", "the host has no group 'nobody-has-this'"),
        ("--owner -1", "the host has no user '-1'"),
        ("--owner 4294967295", "user 4294967295 is above 4294967294"),
        ("--group 99999999999999999999", "group 99999999999999999999 is above 4294967294"),
        ("--mode 8", "mode '8' is no octal number from 0 to 0777"),
        ("--mode 1777", "mode '1777' is no octal number from 0 to 0777"),
        ("--mode rw", "mode 'rw' is no octal number from 0 to 0777"),
        ("--mode 0x1", "mode '0x1' is no octal number from 0 to 0777"),
    ],
)
def test_unknown_owner_group_or_mode(pool: Path, option: str, cause: str) -> None:
    for command in made(pool):
        assert refused(pool, f"{command} {option}") == INVALID + cause


def test_new_options_take_no_words_by_position(pool: Path) -> None:
    assert refused(pool, f"{CLONE} 2M") == "error: unexpected data '2M'"
    assert refused(pool, f"vol-create-from p {definition(pool, 'new')} raw p 2M") == (
        "error: unexpected data '2M'"
    )


def test_capacity_grows_the_copy(pool: Path) -> None:
    ok(pool, "vol-clone raw new p --capacity 2M")
    data = (pool / "new").read_bytes()
    assert data == (pool / "raw").read_bytes() + bytes(MIB)
    assert (pool / "new").stat().st_blocks * 512 >= 2 * MIB, "what had all blocks has all again"
    ok(pool, "vol-clone base new2 p --capacity 3M")
    assert info(pool / "new2")["virtual-size"] == 3 * MIB
    ok(pool, f"vol-create-from p {definition(pool, 'new3')} base p --capacity 4M")
    assert (pool / "new3").stat().st_size == 4 * MIB
    xml = definition(pool, "new4", "<capacity>1</capacity><allocation>0</allocation>")
    ok(pool, f"vol-create-from p {xml} raw p --capacity 5M")
    assert (pool / "new4").stat().st_size == 5 * MIB
    assert (pool / "new4").stat().st_blocks * 512 < 2 * MIB
    ok(pool, "vol-clone raw new5 p --capacity 1M")
    assert (pool / "new5").read_bytes() == (pool / "raw").read_bytes()


def test_capacity_that_is_too_small_or_none(pool: Path) -> None:
    less = INVALID + "capacity of 1048575 bytes is less than the 1048576 of volume 'raw'"
    assert refused(pool, "vol-clone raw new p --capacity 1048575") == less
    xml = definition(pool, "new")
    assert refused(pool, f"vol-create-from p {xml} raw p --capacity 1048575") == less
    assert refused(pool, "vol-clone raw new p --capacity 1X").endswith("unknown suffix 'X'")
    assert refused(pool, "vol-clone raw new p --capacity x") == "error: Malformed size x"
    (pool / "folder").mkdir()
    assert refused(pool, "vol-clone folder new p --capacity 1M") == (
        UNSUPPORTED + "volume 'folder' is a folder and has no capacity"
    )


def test_linked_is_an_overlay(pool: Path) -> None:
    for name, format in (("raw", "raw"), ("over", "qcow2")):
        (pool / name).chmod(0o640)
        ok(pool, f"vol-clone {name} new p --linked --capacity 2M")
        told = info(pool / "new")
        assert told["format"] == "qcow2"
        assert told["virtual-size"] == 2 * MIB
        assert told["full-backing-filename"] == str(pool / name)
        assert told["backing-filename-format"] == format
        assert (pool / "new").stat().st_mode & 0o7777 == 0o640
        run("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", pool / "new", "1M")
        run("qemu-img", "compare", "-F", format, "-f", "qcow2", pool / "new", pool / name)
        (pool / "new").unlink()


def test_linked_to_a_raw_volume_with_a_planted_header(pool: Path) -> None:
    """S15: the base is named as what it is; what a guest writes into it leads nowhere."""
    ok(pool, "vol-clone raw new p --linked")
    (pool / "secret").write_text("root:x:0:0")
    planted = run_header(pool, pool / "secret")
    (pool / "raw").write_bytes(planted.ljust(MIB, b"\0"))
    assert info(pool / "new")["backing-filename-format"] == "raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", pool / "new", pool.parent / "out")
    assert (pool.parent / "out").read_bytes()[: len(planted)] == planted


def run_header(pool: Path, backing: Path) -> bytes:
    image = pool.parent / "planted"
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "raw", image, "1M")
    return image.read_bytes()


def test_linked_is_refused_where_there_can_be_no_overlay(pool: Path) -> None:
    (pool / "folder").mkdir()
    assert refused(pool, "vol-clone folder new p --linked") == (
        UNSUPPORTED + "volume 'folder' is in format 'dir': nothing is based on it"
    )
    (pool / "locked").write_bytes(b"LUKS\xba\xbe\0\1".ljust(MIB, b"\0"))
    assert refused(pool, "vol-clone locked new p --linked") == (
        UNSUPPORTED + "volume 'locked' is encrypted: nothing is based on it"
    )


def test_keep_backing_keeps_the_reference(pool: Path) -> None:
    run("qemu-io", "-f", "qcow2", "-c", "write -P 9 768k 64k", pool / "over")
    ok(pool, "vol-clone over new p --keep-backing --capacity 2M")
    other = pool.parent / "other"
    other.mkdir()
    ok(pool, f"pool-create-as o dir --target {other}")
    target = "<target><format type='qcow2'/><compat>1.1</compat></target>"
    ok(pool, f"vol-create-from o {definition(pool, 'n', target)} over p --keep-backing")
    for copy, size in ((pool / "new", 2 * MIB), (other / "n", MIB)):
        told = info(copy)
        assert told["full-backing-filename"] == str(pool / "base")
        assert (told["backing-filename-format"], told["virtual-size"]) == ("qcow2", size)
        assert copy.stat().st_size < MIB // 2, "the data of the backing store is not in it"
        run("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", copy, pool / "over")


def test_without_keep_backing_the_copy_stands_alone(pool: Path) -> None:
    ok(pool, "vol-clone over new p")
    assert "backing-filename" not in info(pool / "new")
    ok(pool, "vol-clone base new2 p --keep-backing")
    assert "backing-filename" not in info(pool / "new2")


def test_keep_backing_in_another_format(pool: Path) -> None:
    refusal = "error: unsupported configuration: only a qcow2 copy of a qcow2 volume keeps its"
    xml = definition(pool, "new")
    assert refused(pool, f"vol-create-from p {xml} over p --keep-backing") == (
        f"{refusal} backing store: 'over' is qcow2, 'new' raw"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("linked", "reflink"),
        ("linked", "prealloc-metadata"),
        ("linked", "keep-backing"),
        ("linked", "verify"),
        ("keep-backing", "reflink"),
        ("keep-backing", "prealloc-metadata"),
    ],
)
def test_contradictory_options(pool: Path, first: str, second: str) -> None:
    refusal = f"error: Options --{first} and --{second} are mutually exclusive"
    assert refused(pool, f"vol-clone over new p --{second} --{first}") == refusal
    if first == "keep-backing":
        xml = definition(pool, "new")
        assert refused(pool, f"vol-create-from p {xml} over p --{first} --{second}") == refusal


def test_print_xml_shows_what_would_be_made(pool: Path) -> None:
    shown = ok(pool, "vol-create-as p new 1M --mode 640 --owner 7 --group 8 --print-xml")
    wanted = (
        "<permissions>\n      <mode>0640</mode>\n      <owner>7</owner>\n      <group>8</group>"
    )
    assert wanted in shown
    shown = ok(pool, "vol-clone raw new p --capacity 2M --owner 7 --print-xml")
    assert '<capacity unit="bytes">2097152</capacity>' in shown
    assert "<owner>7</owner>" in shown
    shown = ok(pool, "vol-clone over new p --linked --print-xml")
    assert f"<backingStore>\n    <path>{pool}/over</path>" in shown
    assert "<name>new</name>" in shown
    assert not (pool / "new").exists()


def test_print_xml_of_a_linked_clone_makes_the_same(pool: Path) -> None:
    xml = pool.parent / "linked.xml"
    xml.write_text(ok(pool, "vol-clone raw new p --linked --print-xml"))
    ok(pool, f"vol-create p {xml}")
    ok(pool, "vol-clone raw new2 p --linked")
    assert (pool / "new").read_bytes() == (pool / "new2").read_bytes()
