"""Odd and hostile input: images that lead elsewhere (S15 to S17), strange names and paths."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from inprocess import storagectl

if TYPE_CHECKING:
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


def refused(pool: Path, name: str, cause: str) -> None:
    """Neither clone nor resize may touch the volume, and the secret stays as it was."""
    before = sorted(path.name for path in pool.iterdir())
    for words in (("vol-clone", name, "copy", "p"), ("vol-resize", name, "2M", "p")):
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


def test_s17_vmdk_descriptor_of_a_host_file(pool: Path) -> None:
    (pool / "v.vmdk").write_text(VMDK.format(secret=pool.parent / "secret"))
    refused(pool, "v.vmdk", elsewhere(pool, "v.vmdk"))


def test_s19_backing_chain_without_end(pool: Path) -> None:
    image(pool, "v", "-u", "-b", "v", "-F", "qcow2")
    refused(pool, "v", "the backing chain of volume 'v' has no end")


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
