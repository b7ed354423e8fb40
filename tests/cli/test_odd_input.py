"""Odd and hostile input: images that lead elsewhere (S15 to S17), strange names and paths."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.tools

SECRET = "root:x:0:0:root\n" * 512
VMDK = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicFlat"
RW 16 FLAT "{secret}" 0
"""


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    (tmp_path / "secret").write_text(SECRET)
    assert storagectl(tmp_path, "pool-create-as", "p", "dir", "--target", str(folder)).status == 0
    return folder


def image(pool: Path, name: str, *options: str) -> None:
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(pool / name), "1M"], check=True
    )


def overlay(pool: Path, backing: Path | str, format: str) -> str:
    """Return the file of a definition of a volume `over` with a backing store."""
    document = pool.parent / "over.xml"
    document.write_text(
        f"<volume><name>over</name><capacity>1048576</capacity><target><format type='qcow2'/>"
        f"</target><backingStore><path>{backing}</path><format type='{format}'/></backingStore>"
        f"</volume>"
    )
    return str(document)


def plain(pool: Path) -> str:
    document = pool.parent / "plain.xml"
    document.write_text("<volume><name>copy</name></volume>")
    return str(document)


def format_of(pool: Path, name: str) -> str:
    shown = storagectl(pool.parent, "vol-dumpxml", name, "p", "--xpath", "//target/format/@type")
    return shown.stdout.partition('"')[2].partition('"')[0]


def refused(pool: Path, name: str, cause: str) -> None:
    """Nothing may touch the volume, or be based on it, and the secret stays as it was."""
    before = sorted(path.name for path in pool.iterdir())
    definition = overlay(pool, pool / name, format_of(pool, name))
    for words in (
        ("vol-clone", name, "copy", "p"),
        ("vol-clone", name, "over", "p", "--linked"),
        ("vol-create-from", "p", plain(pool), name, "p"),
        ("vol-create", "p", definition),
        ("vol-resize", name, "2M", "p"),
    ):
        if definition in words or "--linked" in words:
            cause = cause.replace(f"volume '{name}'", "volume 'over'")
        else:
            cause = cause.replace("volume 'over'", f"volume '{name}'")
        answer = storagectl(pool.parent, *words)
        assert answer.status == 1
        assert answer.stderr.splitlines()[1] == f"error: Requested operation is not valid: {cause}"
    assert sorted(path.name for path in pool.iterdir()) == before
    assert (pool.parent / "secret").read_text() == SECRET


def elsewhere(pool: Path, name: str) -> str:
    return f"volume '{name}' refers to '{pool.parent}/secret', which is no volume of a running pool"


def test_s15_backing_file_outside_of_all_pools(pool: Path) -> None:
    image(pool, "v", "-u", "-b", str(pool.parent / "secret"), "-F", "raw")
    refused(pool, "v", elsewhere(pool, "v"))
    shown = storagectl(pool.parent, "vol-dumpxml", "v", "p")
    assert shown.status == 0
    assert "root:" not in shown.stdout


def test_s15_backing_file_outside_behind_one_inside(pool: Path) -> None:
    image(pool, "base", "-u", "-b", str(pool.parent / "secret"), "-F", "raw")
    image(pool, "v", "-u", "-b", "base", "-F", "qcow2")
    refused(pool, "v", elsewhere(pool, "v"))


def test_s16_external_data_file(pool: Path) -> None:
    image(pool, "w", "-o", f"data_file={pool.parent}/other")
    refused(
        pool,
        "w",
        f"volume 'w' refers to '{pool.parent}/other', which is no volume of a running pool",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("RW", 'RW 16 FLAT "inside" 0\nRW'),
        lambda text: text.replace("RW 16 FLAT", "RW\n16FLAT"),
        lambda text: text.replace("# Disk DescriptorFile", "#"),
    ],
)
def test_s17_vmdk_descriptor_of_a_host_file(pool: Path, change: Callable[[str], str]) -> None:
    (pool / "inside").write_bytes(bytes(8192))
    (pool / "v.vmdk").write_text(change(VMDK.format(secret=pool.parent / "secret")))
    refused(pool, "v.vmdk", elsewhere(pool, "v.vmdk"))


def test_s17_text_that_an_image_takes_for_a_vmdk(pool: Path) -> None:
    """qemu-img believes an image that says what its backing store is."""
    text = VMDK.format(secret=pool.parent / "secret").splitlines(keepends=True)
    (pool / "text").write_text("".join(text[2:]))
    image(pool, "v", "-u", "-b", "text", "-F", "vmdk")
    assert format_of(pool, "text") == "raw"
    refused(pool, "v", f"volume 'v' refers to '{pool}/text', which is no vmdk image")


def test_s17_extents_lead_on_as_backing_stores_do(pool: Path) -> None:
    secret = VMDK.format(secret=pool.parent / "secret")
    (pool / "inner").write_text(secret)
    image(pool, "base")
    outer = VMDK.format(secret="inner").replace("FLAT", "SPARSE")
    (pool / "v").write_text(f'{outer}parentFileNameHint="base"\n')
    refused(pool, "v", elsewhere(pool, "v"))


def test_s19_backing_chain_without_end(pool: Path) -> None:
    image(pool, "v", "-u", "-b", "v", "-F", "qcow2")
    refused(pool, "v", "the backing chain of volume 'v' has no end")
    image(pool, "w", "-u", "-b", "x", "-F", "qcow2")
    image(pool, "x", "-u", "-b", "./w", "-F", "qcow2")
    refused(pool, "w", "the backing chain of volume 'w' has no end")


@pytest.mark.parametrize("backing", ["v", "./v", "../pool/v"])
def test_s19_a_circle_is_refused_whatever_is_allowed(pool: Path, backing: str) -> None:
    image(pool, "v", "-u", "-b", backing, "-F", "qcow2")
    definition = overlay(pool, "v", "qcow2")
    for words in (
        ("vol-clone", "v", "copy", "p"),
        ("vol-create", "p", definition),
        ("vol-create-as", "p", "over", "1M", "--format", "qcow2", "--backing-vol", "v",
         "--backing-vol-format", "qcow2"),
        ("vol-resize", "v", "2M", "p"),
    ):  # fmt: skip
        answer = storagectl(pool.parent, *words, "--allow-backing")
        assert answer.status == 1
        assert answer.stderr.endswith("' has no end\n")


def test_s19_a_chain_of_300_is_refused(pool: Path) -> None:
    image(pool, "v0", "-u", "-b", "v1", "-F", "qcow2")
    header = bytearray((pool / "v0").read_bytes())
    start = int.from_bytes(header[8:16], "big")
    for number in range(1, 300):
        name = f"v{number + 1}".encode()
        header[16:20] = len(name).to_bytes(4, "big")
        header[start : start + len(name)] = name
        (pool / f"v{number}").write_bytes(header)
    for words in (
        ("vol-clone", "v0", "copy", "p"),
        ("vol-create", "p", overlay(pool, "v0", "qcow2")),
    ):
        answer = storagectl(pool.parent, *words, "--allow-backing")
        assert (answer.status, answer.stderr.endswith("' has no end\n")) == (1, True)


def test_allow_backing_lets_files_be_opened_that_are_no_volumes(pool: Path) -> None:
    outside = pool.parent / "outside"
    outside.mkdir()
    image(outside, "base", "-b", str(pool.parent / "secret"), "-F", "raw")
    image(pool, "v", "-b", "../outside/base", "-F", "qcow2")
    definition = overlay(pool, pool / "v", "qcow2")
    for number, words in enumerate((
        ("vol-clone", "v", "c0", "p"),
        ("vol-clone", "v", "c1", "p", "--linked"),
        ("vol-create-from", "p", plain(pool), "v", "p"),
        ("vol-create", "p", definition),
        ("vol-create-as", "p", "c3", "1M", "--format", "qcow2", "--backing-vol", "v",
         "--backing-vol-format", "qcow2"),
        ("vol-resize", "v", "2M", "p"),
    )):  # fmt: skip
        assert storagectl(pool.parent, *words).status == 1, number
        assert storagectl(pool.parent, *words, "--allow-backing").status == 0, number
    assert (pool / "copy").read_bytes().startswith(b"root:")


def test_a_backing_store_that_the_definition_names_is_trusted(pool: Path) -> None:
    """But not what its own header leads to, and raw data has no header."""
    secret = pool.parent / "secret"
    outside = pool.parent / "outside"
    image(pool, "planted", "-u", "-b", str(secret), "-F", "raw")
    (pool / "planted").rename(outside)
    definition = overlay(pool, outside, "raw")
    assert storagectl(pool.parent, "vol-create", "p", definition).status == 0
    assert storagectl(pool.parent, "vol-delete", "over", "p").status == 0
    definition = overlay(pool, outside, "qcow2")
    answer = storagectl(pool.parent, "vol-create", "p", definition)
    assert answer.stderr.splitlines()[-1].endswith(elsewhere(pool, "over"))
    assert sorted(path.name for path in pool.iterdir()) == []


def test_s15_raw_volume_with_a_planted_header(pool: Path) -> None:
    """A guest writes the header of an image with the backing file /etc/shadow to its raw disk."""
    image(pool, "disk", "-u", "-b", "/etc/shadow", "-F", "raw")
    planted = (pool / "disk").read_bytes()
    refused(
        pool, "disk", "volume 'disk' refers to '/etc/shadow', which is no volume of a running pool"
    )
    target = pool.parent / "downloaded"
    assert storagectl(pool.parent, "vol-download", "disk", str(target), "p").status == 0
    assert target.read_bytes() == planted
    assert (pool / "disk").read_bytes() == planted


def test_s15_raw_backing_store_with_a_planted_header(pool: Path) -> None:
    """An image that does not say what its backing store is lets qemu-img guess."""
    image(pool, "disk", "-u", "-b", str(pool.parent / "secret"), "-F", "raw")
    for format in ("qcow2", "qcow"):
        subprocess.run(
            ["qemu-img", "create", "-q", "-u", "-f", format, "-b", "disk", "-F", "raw",
             str(pool / "v"), "1M"], check=True,
        )  # fmt: skip
        header = (pool / "v").read_bytes()
        (pool / "v").write_bytes(header.replace(b"\xe2\x79\x2a\xca", b"\x12\x34\x56\x78"))
        refused(pool, "v", elsewhere(pool, "v"))


def test_relative_backing_file_in_another_running_pool(pool: Path) -> None:
    other = pool.parent / "bases"
    other.mkdir()
    storagectl(pool.parent, "pool-create-as", "b", "dir", "--target", str(other))
    image(other, "base")
    image(pool, "v", "-b", "../bases/base", "-F", "qcow2")
    assert storagectl(pool.parent, "vol-clone", "v", "copy", "p").status == 0


def test_backing_file_in_another_running_pool_is_followed(pool: Path) -> None:
    other = pool.parent / "bases"
    other.mkdir()
    storagectl(pool.parent, "pool-create-as", "b", "dir", "--target", str(other))
    image(other, "base")
    image(pool, "v", "-b", str(other / "base"), "-F", "qcow2")
    assert storagectl(pool.parent, "vol-clone", "v", "copy", "p").status == 0
    assert storagectl(pool.parent, "pool-destroy", "b").status == 0
    assert storagectl(pool.parent, "vol-clone", "v", "copy2", "p").status == 1


def test_a_qcow2_volume_grows_as_an_upload_needs(pool: Path) -> None:
    image(pool, "small")
    source = pool.parent / "source.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(source), "1M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 1M", str(source)],
                   check=True, capture_output=True)  # fmt: skip
    assert source.stat().st_size > (pool / "small").stat().st_size
    assert storagectl(pool.parent, "vol-upload", "small", str(source), "p").status == 0
    assert (pool / "small").read_bytes() == source.read_bytes()


def test_names_that_are_not_utf_8_end_in_an_error(pool: Path) -> None:
    (pool / "a\udcff").write_bytes(b"x")
    assert (
        "not UTF-8"
        in storagectl(pool.parent, "vol-dumpxml", "a\udcff", "p", "--xpath", "//name").stderr
    )
    assert (
        "not UTF-8"
        in storagectl(pool.parent, "vol-clone", "a\udcff", "b", "p", "--print-xml").stderr
    )
    assert storagectl(pool.parent, "vol-clone", "a\udcff", "b", "p").status == 0
    answer = storagectl(pool.parent, "vol-dumpxml", "b", "p", "--xpath", "//\udcff")
    assert (answer.status, answer.stdout) == (0, "\n")
    assert answer.stderr.startswith("XPath error : ")
    answer = storagectl(pool.parent, "vol-dumpxml", "b", "p", "--xpath", "//namespace::*")
    assert (answer.status, answer.stdout) == (0, "\n")


def test_a_relative_target_is_refused_when_it_would_be_used(pool: Path) -> None:
    assert storagectl(pool.parent, "pool-define-as", "r", "dir", "--target", "r").status == 0
    for command in ("pool-build", "pool-start"):
        assert "is not absolute" in storagectl(pool.parent, command, "r").stderr


@pytest.mark.parametrize(
    ("now", "cause"),
    [
        ("nothing", "No such file or directory"),
        ("file", "Not a directory"),
        ("loop of links", "Too many levels of symbolic links"),
    ],
)
def test_folder_that_is_none_any_more(tmp_path: Path, now: str, cause: str) -> None:
    """A persistent pool is inactive, a transient one is gone."""
    for name, define in (("p", ("pool-define-as",)), ("t", ("pool-create-as", "--build"))):
        target = tmp_path / name
        assert storagectl(tmp_path, *define, name, "dir", "--target", str(target)).status == 0
    assert storagectl(tmp_path, "pool-start", "p", "--build").status == 0
    for name in ("p", "t"):
        (tmp_path / name).rmdir()
        if now == "file":
            (tmp_path / name).touch()
        elif now == "loop of links":
            (tmp_path / name).symlink_to(name)
    listed = storagectl(tmp_path, "-q", "pool-list", "--all")
    assert (listed.status, listed.stderr) == (0, "")
    assert listed.stdout.split() == ["p", "inactive", "no"]
    for words, detail in (
        (("vol-list", "p"), "storage pool 'p' is not active"),
        (("pool-refresh", "p"), "storage pool 'p' is not active"),
        (("pool-destroy", "p"), "storage pool 'p' is not active"),
        (("vol-create-as", "p", "new", "1M"), "storage pool 'p' is not active"),
        (("pool-info", "t"), "no storage pool with matching name 't'"),
        (("pool-start", "p"), f"cannot open directory '{tmp_path}/p': {cause}"),
    ):
        answer = storagectl(tmp_path, *words)
        assert answer.status == 1, words
        assert answer.stderr.splitlines()[1].endswith(detail), (words, answer)
    assert storagectl(tmp_path, "pool-undefine", "p").status == 0


@pytest.mark.parametrize("allocation", ["default", "capacity"])
def test_refresh_counts_in_rbd_pools_only(tmp_path: Path, allocation: str) -> None:
    """As in virsh 9.0.0 the allocation of a file is what it has, whatever <refresh> says."""
    (tmp_path / "pool").mkdir()
    with (tmp_path / "pool/v").open("wb") as stream:
        stream.truncate(8 << 20)
    refresh = f"<refresh><volume allocation='{allocation}'/></refresh>"
    target = f"<target><path>{tmp_path}/pool</path></target>"
    (tmp_path / "p.xml").write_text(f"<pool type='dir'><name>p</name>{target}{refresh}</pool>")
    assert storagectl(tmp_path, "pool-create", str(tmp_path / "p.xml")).status == 0
    assert storagectl(tmp_path, "pool-refresh", "p").status == 0
    assert "Allocation:     0.00 B\n" in storagectl(tmp_path, "vol-info", "v", "p").stdout
    dump = storagectl(tmp_path, "pool-dumpxml", "p").stdout
    assert "".join(line.strip() for line in dump.splitlines()).endswith(f"{refresh}</pool>")
