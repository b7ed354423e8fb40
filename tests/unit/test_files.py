"""Volumes that are files: what is listed, and creating that succeeds or leaves nothing."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakehost import FakeHost

from storagectl.backends import files, images
from storagectl.backends.directory import Directory
from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    OperationFailed,
    OperationUnsupported,
    StorageError,
    SystemFailure,
    ToolFailed,
)
from storagectl.host import bulk
from storagectl.host import files as host_files
from storagectl.host.files import staged_path
from storagectl.model import BackingStore, Encryption, Permissions, Pool, Secret, Volume
from storagectl.tools import imageheader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20


def backend(target: Path, host: FakeHost | None = None) -> Directory:
    pool = Pool("dir", "d", "11111111-1111-4111-8111-000000000001", target=str(target))
    return Directory(pool, host or FakeHost())


def listing(target: Path, *, details: bool) -> dict[str, str]:
    return {v.name: v.type for v in backend(target).volumes(details=details)}


def qcow2_header(capacity: int) -> bytes:
    """Source: docs/interop/qcow2.txt of QEMU: magic, version 2, ..., size at 24."""
    fields = b"QFI\xfb" + (2).to_bytes(4, "big") + bytes(8) + bytes(4) + (16).to_bytes(4, "big")
    return (fields + capacity.to_bytes(8, "big")).ljust(512, b"\0")


# What is a volume


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with everything in it that a folder can have."""
    target = tmp_path / "zoo"
    target.mkdir()
    (target / "file").write_bytes(b"x" * 5000)
    (target / "empty").touch()
    (target / "folder").mkdir()
    (target / ".hidden").touch()
    (target / "-rf").touch()
    (target / "ünï").touch()
    (target / "to-file").symlink_to("file")
    (target / "to-folder").symlink_to("folder")
    (target / "dangling").symlink_to("nowhere")
    (target / "circle").symlink_to("circle")
    (target / "to-null").symlink_to("/dev/null")
    os.mkfifo(target / "fifo")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(target)
    try:
        server.bind("socket")
    finally:
        os.chdir(here)
        server.close()
    for name in ("tab\t", "line\n", "esc\x1b[2J", "\x01"):
        (target / name).touch()
    Path(staged_path(str(target))).touch()
    Path(os.fsdecode(os.fsencode(target) + b"/a\xffb")).touch()
    return target


LISTED = {
    "file": "file", "empty": "file", "folder": "dir", ".hidden": "file", "-rf": "file",
    "ünï": "file", "to-file": "file", "to-folder": "dir", "a\udcffb": "file",
}  # fmt: skip


@pytest.mark.parametrize("details", [False, True])
def test_s07_what_is_listed(zoo: Path, details: bool) -> None:
    assert listing(zoo, details=details) == LISTED


def test_what_is_listed_can_be_looked_up_and_nothing_else(zoo: Path) -> None:
    looked_at = backend(zoo)
    found = {n: v.type for n in os.listdir(zoo) if (v := looked_at.volume(n)) is not None}
    assert found == LISTED
    assert looked_at.volume("nowhere") is None
    assert looked_at.volume("a\0b") is None
    assert looked_at.volume("x" * 300) is None


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="cannot open directory '.*/x': No such file"):
        list(backend(tmp_path / "x").volumes(details=False))
    (tmp_path / "f").touch()
    with pytest.raises(SystemFailure, match="cannot open directory '.*/f': Not a directory"):
        list(backend(tmp_path / "f").volumes(details=True))


def test_sizes_of_files(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"x" * 10000)
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(64 * MIB)
    for name, capacity in (("full", 10000), ("sparse", 64 * MIB)):
        volume = backend(tmp_path).volume(name)
        assert volume is not None
        status = (tmp_path / name).stat()
        assert (volume.capacity, volume.physical) == (capacity, capacity)
        assert volume.allocation == status.st_blocks * 512
        assert (volume.format, volume.key, volume.path) == (
            "raw",
            volume.path,
            str(tmp_path / name),
        )
        assert volume.permissions == Permissions(
            status.st_mode & 0o7777, status.st_uid, status.st_gid
        )
        assert volume.timestamps is not None
        assert volume.timestamps.mtime_ns == status.st_mtime_ns
    assert volume.allocation == 0


def test_the_header_tells_the_format(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(qcow2_header(3 << 30))
    volume = backend(tmp_path).volume("a")
    assert volume is not None
    assert (volume.format, volume.capacity, volume.physical) == ("qcow2", 3 << 30, 512)


def test_s19_a_broken_header_hides_no_other_volume(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"x")
    for number, cut in enumerate((4, 5, 23, 24, 31)):
        (tmp_path / f"cut{number}").write_bytes(qcow2_header(1)[:cut])
    (tmp_path / "huge").write_bytes(qcow2_header(2**64 - 1))
    (tmp_path / "wild").write_bytes(b"QFI\xfb" + b"\xff" * 1000)
    names = listing(tmp_path, details=True)
    assert {"good", "huge", "wild", "cut0", "cut4"} <= set(names)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user without privileges, who we are for the time being."""
    folder = Path(tempfile.mkdtemp(prefix="h6-", dir="/tmp"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(folder)


def test_s27_an_unreadable_file_is_shown_with_what_its_inode_tells(unprivileged: Path) -> None:
    (unprivileged / "a").write_bytes(qcow2_header(1 << 30))
    (unprivileged / "a").chmod(0)
    volume = backend(unprivileged).volume("a")
    assert volume is not None
    assert (volume.format, volume.capacity, volume.type) == ("raw", 512, "file")
    assert volume.permissions.mode == 0
    assert listing(unprivileged, details=True) == {"a": "file"}


def test_s54_a_folder_that_cannot_be_given_away_is_removed(unprivileged: Path) -> None:
    volume = Volume("d", format="dir", permissions=Permissions(owner=0))
    with pytest.raises(SystemFailure, match="cannot change permissions of .*not permitted"):
        backend(unprivileged).create_volume(volume, metadata=False)
    raw = Volume("f", format="raw", capacity=5, permissions=Permissions(owner=0))
    with pytest.raises(SystemFailure, match="cannot change permissions of .*not permitted"):
        backend(unprivileged).create_volume(raw, metadata=False)
    assert os.listdir(unprivileged) == []


def test_a_folder_that_cannot_be_written(unprivileged: Path) -> None:
    unprivileged.chmod(0o500)
    volume = Volume("f", format="raw", capacity=5)
    try:
        with pytest.raises(SystemFailure, match=f"Failed to create file '{unprivileged}/f': Perm"):
            backend(unprivileged).create_volume(volume, metadata=False)
    finally:
        unprivileged.chmod(0o700)


# Creating that fails half-way


def raising(problem: BaseException) -> Callable[..., Any]:
    def fail(*args: object, **named: object) -> None:
        raise problem

    return fail


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
STEPS = [
    (os, "posix_fallocate"),
    (os, "ftruncate"),
    (os, "fsync"),
    (host_files, "renamed_new"),
    (os, "chmod"),
]
PROBLEMS = [KeyboardInterrupt(), SystemExit(143), FULL, OSError(errno.EIO, "Input/output error")]


@pytest.mark.parametrize(
    ("ordered", "kinds"), [(False, [stat.S_IFREG, stat.S_IFDIR]), (True, [stat.S_IFDIR])]
)
def test_a_volume_without_data_is_synced_with_its_name_where_that_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordered: bool, kinds: list[int]
) -> None:
    synced = []
    monkeypatch.setattr(files, "is_ordered", lambda *_: ordered)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_IFMT(os.fstat(fd).st_mode)))
    volume = Volume("a", format="raw", capacity=MIB, allocation=MIB)
    backend(tmp_path).create_volume(volume, metadata=False)
    assert synced == kinds


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
@pytest.mark.parametrize("problem", PROBLEMS, ids=["int", "term", "full", "io"])
def test_s53_s54_s55_create_leaves_nothing_at_any_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: Any,
    problem: BaseException,
    ordered: bool,
) -> None:
    monkeypatch.setattr(files, "is_ordered", lambda *_: ordered)
    volume = Volume("a", format="raw", capacity=MIB, allocation=MIB)
    volume.permissions.mode = 0o640
    with monkeypatch.context() as patch:
        patch.setattr(*step, raising(problem))
        expected = SystemFailure if isinstance(problem, OSError) else type(problem)
        with pytest.raises(expected) as caught:
            backend(tmp_path).create_volume(volume, metadata=False)
        if isinstance(caught.value, SystemFailure):
            assert str(caught.value).endswith(problem.strerror)
            assert str(tmp_path) in str(caught.value)
    assert os.listdir(tmp_path) == []
    backend(tmp_path).create_volume(volume, metadata=False)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("problem", PROBLEMS, ids=["int", "term", "full", "io"])
@pytest.mark.parametrize(
    "step", [(bulk.Mover, "copy_data"), (bulk, "allocate")], ids=lambda s: s[1]
)
def test_s54_s56_clone_leaves_nothing_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Any, problem: BaseException
) -> None:
    (tmp_path / "src").write_bytes(b"content")
    looked_at = backend(tmp_path)
    source = looked_at.volume("src")
    monkeypatch.setattr(*step, raising(problem))
    volume = Volume("a", format="raw", capacity=MIB, allocation=MIB)
    with pytest.raises((StorageError, KeyboardInterrupt, SystemExit)):
        looked_at.create_volume_from(volume, source, bulk.Mover(), metadata=False, reflink=False)
    assert os.listdir(tmp_path) == ["src"]
    assert (tmp_path / "src").read_bytes() == b"content"


def test_s53_no_space_names_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", raising(FULL))
    with pytest.raises(SystemFailure) as caught:
        backend(tmp_path).create_volume(
            Volume("a", format="raw", capacity=MIB, allocation=4096), metadata=False
        )
    assert caught.value.lines() == [
        f"cannot allocate 4096 bytes in file '{tmp_path}/a': No space left on device"
    ]


def test_create_sweeps_what_a_killed_process_left(tmp_path: Path) -> None:
    """S51."""
    left = Path(staged_path(str(tmp_path)))
    left.touch()
    backend(tmp_path).create_volume(Volume("a", format="raw"), metadata=False)
    assert os.listdir(tmp_path) == ["a"]


# Images made by qemu-img


class Images(FakeHost):
    """qemu-img as the script says, told the hidden file's name only when it runs.

    Where it fails to create a file it deletes it, else it makes one that is missing, unless it
    is not `busy`.
    """

    def __init__(self, *answers: tuple[str, int], busy: bool = True) -> None:
        super().__init__()
        self.answers = list(answers)
        self.bounds: list[object] = []
        self.busy = busy

    def _spawn(self, argv: list[str], *rest: object) -> tuple[int, str, str]:
        self.calls.append(argv)
        self.bounds.append(rest[2])
        text, status = self.answers.pop(0)
        path = argv[-1] if argv[1] == "convert" else argv[-2]
        if status and argv[1] == "create":
            os.unlink(path)
        elif self.busy and not status:
            self.make(path, argv)
        return status, "", text.replace("STAGED", path)

    def make(self, path: str, argv: list[str]) -> None:
        """Make an image, which has not more than a header."""
        size = argv[-1]
        capacity = {
            "convert": lambda: (
                imageheader.probe(
                    lambda at, length: Path(argv[-2]).read_bytes()[at : at + length],
                    os.path.getsize(argv[-2]),
                ).capacity
                or os.path.getsize(argv[-2])
            ),
            "create": lambda: int(size.removesuffix("K")) * 1024,
            "resize": lambda: int(size),
        }[argv[1]]()
        encrypted = b"LUKS\xba\xbe\0\1".ljust(104, b"\0") + (4096).to_bytes(4, "big")
        image = encrypted.ljust(4096 * 512, b"\0") + bytes(capacity)
        Path(path).write_bytes(image if "luks" in argv else qcow2_header(capacity))


def test_an_image_is_made_under_a_hidden_name(tmp_path: Path) -> None:
    host = Images(("", 0))
    volume = Volume("a.qcow2", format="qcow2", capacity=MIB + 1)
    backend(tmp_path, host).create_volume(volume, metadata=False)
    (argv,) = host.calls
    assert argv[:6] == ["qemu-img", "create", "-f", "qcow2", "-o", "compat=0.10"]
    assert os.path.basename(argv[6]).startswith(".storagectl-")
    assert argv[7:] == ["1025K"]
    assert os.listdir(tmp_path) == ["a.qcow2"]


def encrypting(target: Path, host: Images) -> Directory:
    found = backend(target, host)
    found.passphrase_of = lambda encryption: b"pass"
    return found


LUKS = Encryption("luks", secrets=[Secret("passphrase", usage="x")])


def test_qemu_img_tries_again_where_its_clock_was_too_coarse(tmp_path: Path) -> None:
    coarse = ("qemu-img: STAGED: Unable to get accurate CPU usage\n", 1)
    volume = Volume("a", format="raw", capacity=MIB, encryption=LUKS)
    host = Images(coarse, coarse, ("", 0))
    encrypting(tmp_path, host).create_volume(volume, metadata=False)
    assert len({argv[-2] for argv in host.calls}) == 3
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    (tmp_path / "a").unlink()
    for answers, calls in (([coarse] * 50, 40), ([("other", 1)], 1)):
        host = Images(*answers)
        with pytest.raises(ToolFailed):
            encrypting(tmp_path, host).create_volume(volume, metadata=False)
        assert len(host.calls) == calls
    assert os.listdir(tmp_path) == []


def test_old_encryptions_are_neither_copied_nor_resized(tmp_path: Path) -> None:
    """A qcow2 header with crypt_method 1."""
    (tmp_path / "old").write_bytes(qcow2_header(MIB)[:32] + (1).to_bytes(4, "big") + bytes(476))
    looked_at = encrypting(tmp_path, Images())
    old = looked_at.volume("old")
    assert old is not None
    assert old.encryption == Encryption("qcow")
    with pytest.raises(ConfigUnsupported, match="resize of qcow2 encrypted image"):
        looked_at.resize_volume(old, 2 * MIB, allocate=False, shrink=False)
    for encryption, said in (
        (None, "encryption format of inputvol must be LUKS"),
        (LUKS, "encryption format of inputvol must be LUKS"),
        (Encryption("qcow"), "creation of qcow2 encrypted image is not supported"),
    ):
        volume = Volume("a", format="qcow2", capacity=MIB, encryption=encryption)
        with pytest.raises(ConfigUnsupported, match=said):
            looked_at.create_volume_from(volume, old, bulk.Mover(), metadata=False, reflink=False)


def test_a_luks2_volume_is_bytes_like_any_other(tmp_path: Path) -> None:
    """As in libvirt 9.0.0, which does not know it."""
    content = b"LUKS\xba\xbe\0\2".ljust(MIB, b"x")
    (tmp_path / "a").write_bytes(content)
    looked_at = backend(tmp_path)
    source = looked_at.volume("a")
    assert source is not None
    assert source.encryption is None
    clone = source.replace(name="b")
    looked_at.create_volume_from(clone, source, bulk.Mover(), metadata=False, reflink=False)
    assert (tmp_path / "b").read_bytes() == content


def test_s54_a_failing_tool_leaves_nothing_and_names_the_volume(tmp_path: Path) -> None:
    host = Images(("qemu-img: STAGED: no space\n", 1))
    with pytest.raises(ToolFailed) as caught:
        backend(tmp_path, host).create_volume(
            Volume("a", format="qcow2", capacity=MIB), metadata=False
        )
    assert caught.value.lines() == [
        f"internal error: Child process (qemu-img create -f qcow2 -o compat=0.10 {tmp_path}/a"
        f" 1024K) unexpected exit status 1: qemu-img: {tmp_path}/a: no space\n"
    ]
    assert os.listdir(tmp_path) == []


def test_a_converted_image_grows_to_its_capacity(tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"x" * MIB)
    host = Images(("", 0), ("", 0))
    looked_at = backend(tmp_path, host)
    wanted = Volume("a", format="qcow2", capacity=2 * MIB)
    looked_at.create_volume_from(
        wanted, looked_at.volume("src"), bulk.Mover(), metadata=False, reflink=False
    )
    first, second = host.calls
    assert first[:6] == ["qemu-img", "convert", "-f", "raw", "-O", "qcow2"]
    assert first[-2] == f"{tmp_path}/src"
    assert second[:4] == ["qemu-img", "resize", "-f", "qcow2"]
    assert second[4:] == [first[-1], str(2 * MIB)]


def test_s15_source_formats_are_always_named(tmp_path: Path) -> None:
    """qemu-img probes no raw volume; one that has become an image by now is refused."""
    (tmp_path / "src").write_bytes(bytes(512))
    host = Images(("", 0))
    source = Volume("src", path=f"{tmp_path}/src", format="raw", capacity=512)
    wanted = Volume("a", format="qcow2", capacity=512)
    backend(tmp_path, host).create_volume_from(
        wanted, source, bulk.Mover(), metadata=False, reflink=False
    )
    assert host.calls[0][2:4] == ["-f", "raw"]
    (tmp_path / "src").write_bytes(qcow2_header(MIB))
    with pytest.raises(OperationFailed, match="volume 'src' is of format 'qcow2' by now"):
        backend(tmp_path, Images()).create_volume_from(
            wanted.replace(name="b"), source, bulk.Mover(), metadata=False, reflink=False
        )


@pytest.mark.parametrize(
    ("fields", "metadata", "words"),
    [
        ({"format": "vmdk"}, True, "metadata preallocation only available with qcow2"),
        ({"format": "vdi", "compat": "1.1"}, False, "compatibility option only available with qc"),
        (
            {"format": "vdi", "features": ("lazy_refcounts",)},
            False,
            "format features only available with qcow2",
        ),
        (
            {"format": "qcow2", "features": ("lazy_refcounts",)},
            False,
            "lazy_refcounts not supported with compat level 0.10",
        ),
        (
            {"format": "qcow2", "features": ("extended_l2",), "compat": "0.10"},
            False,
            "'extended_l2' not supported with compat level 0.10",
        ),
        (
            {"format": "qcow2", "backing": BackingStore("/dev/null")},
            True,
            "metadata preallocation conflicts with backing store",
        ),
    ],
)
def test_refusals_before_any_tool_runs(
    tmp_path: Path, fields: dict[str, Any], metadata: bool, words: str
) -> None:
    with pytest.raises(ConfigUnsupported, match=words):
        backend(tmp_path).create_volume(Volume("a", capacity=1, **fields), metadata=metadata)
    assert os.listdir(tmp_path) == []


def test_a_backing_store_that_is_not_there(tmp_path: Path) -> None:
    volume = Volume("a", format="qcow2", capacity=1, backing=BackingStore("/nowhere/b", "raw"))
    with pytest.raises(SystemFailure) as caught:
        backend(tmp_path).create_volume(volume, metadata=False)
    assert caught.value.lines() == [
        "inaccessible backing store volume /nowhere/b: No such file or directory"
    ]


def test_reflink_is_for_raw_volumes(tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"x")
    looked_at = backend(tmp_path)
    source = looked_at.volume("src")
    with pytest.raises(StorageError, match=r"unsupported flags \(0x2\)"):
        looked_at.create_volume_from(
            Volume("a", format="qcow2"), source, bulk.Mover(), metadata=False, reflink=True
        )
    assert os.listdir(tmp_path) == ["src"]


@pytest.mark.parametrize("encryption", [None, LUKS])
@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_s63_qemu_img_that_ends_well_with_nothing_done(
    tmp_path: Path, kind: str, encryption: Encryption | None
) -> None:
    (tmp_path / "src").write_bytes(b"x" * MIB)
    (tmp_path / "image").write_bytes(qcow2_header(MIB))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    looked_at = encrypting(tmp_path, Images(*[("", 0)] * 9, busy=False))
    wanted = Volume("a", format=kind, capacity=MIB, encryption=encryption)
    source = looked_at.volume("src" if kind == "qcow2" else "image")
    idle = f"qemu-img did not fail, and '{tmp_path}/a' is no "
    if (kind, encryption) != ("raw", None):
        with pytest.raises(OperationFailed, match=idle):
            looked_at.create_volume(wanted, metadata=False)
    with pytest.raises(OperationFailed, match=idle):
        looked_at.create_volume_from(wanted, source, bulk.Mover(), metadata=False, reflink=False)
    with pytest.raises(OperationFailed, match=f"did not resize '{tmp_path}/image'"):
        looked_at.resize_volume(looked_at.volume("image"), 2 * MIB, allocate=False, shrink=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_s63_qemu_img_that_makes_an_encrypted_volume_and_does_not_fill_it(tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"x" * MIB)

    class Lazy(Images):
        def make(self, path: str, argv: list[str]) -> None:
            if argv[1] == "create":
                super().make(path, argv)

    looked_at = encrypting(tmp_path, Lazy(("", 0), ("", 0)))
    wanted = Volume("a", format="raw", capacity=MIB, encryption=LUKS)
    with pytest.raises(OperationFailed, match=f"and wrote nothing to '{tmp_path}/a'"):
        looked_at.create_volume_from(
            wanted, looked_at.volume("src"), bulk.Mover(), metadata=False, reflink=False
        )
    assert os.listdir(tmp_path) == ["src"]


def test_s20_qemu_img_has_bounds_whenever_it_reads_what_others_have_made(tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"x" * MIB)
    host = Images(*[("", 0)] * 9)
    looked_at = backend(tmp_path, host)
    looked_at.create_volume(
        Volume("made", format="qcow2", capacity=MIB, backing=BackingStore("src", "raw")),
        metadata=False,
    )
    looked_at.create_volume_from(
        Volume("copy", format="qcow2", capacity=2 * MIB), looked_at.volume("src"), bulk.Mover(),
        metadata=False, reflink=False,
    )  # fmt: skip
    looked_at.resize_volume(looked_at.volume("copy"), 3 * MIB, allocate=False, shrink=False)
    assert [argv[1] for argv in host.calls] == ["create", "convert", "resize", "resize"]
    assert all(bounds is not None for bounds in host.bounds)


def test_s21_an_image_that_changes_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    """Who may write to it could have led qemu-img elsewhere, and have put it back."""
    source, base = tmp_path / "src", tmp_path / "base"
    for path in (source, base):
        path.write_bytes(qcow2_header(MIB))
        path.chmod(0o666)

    class Meanwhile(Images):
        changed: Path | None = None

        def make(self, path: str, argv: list[str]) -> None:
            super().make(path, argv)
            if self.changed is not None:
                content, status = self.changed.read_bytes(), self.changed.stat()
                self.changed.write_bytes(b"")
                self.changed.write_bytes(content)
                os.utime(self.changed, ns=(status.st_atime_ns, status.st_mtime_ns))

    host = Meanwhile(*[("", 0)] * 9)
    looked_at = backend(tmp_path, host)
    volume = looked_at.volume("src")
    volume.looks = tuple(images.look(str(path)) for path in (source, base))
    wanted = Volume("a", format="qcow2", capacity=MIB)
    for path in (source, base):
        host.changed = path
        with pytest.raises(OperationFailed, match=f"'{path}' was changed while volume 'src' was"):
            looked_at.create_volume_from(
                wanted, volume, bulk.Mover(), metadata=False, reflink=False
            )
        assert sorted(os.listdir(tmp_path)) == ["base", "src"]
        volume.looks = tuple(images.look(str(path)) for path in (source, base))
    host.changed = None
    looked_at.create_volume_from(wanted, volume, bulk.Mover(), metadata=False, reflink=False)
    assert sorted(os.listdir(tmp_path)) == ["a", "base", "src"]


def test_s21_a_link_that_led_elsewhere_for_a_moment_is_seen(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(qcow2_header(MIB))
    link = tmp_path / "link"
    link.symlink_to("real")
    before = images.look(str(link))
    assert images.look(str(link)) == before
    link.unlink()
    link.symlink_to("real")
    assert images.look(str(link)) != before


def test_an_image_of_root_alone_may_get_another_owner_while_it_is_copied(tmp_path: Path) -> None:
    """As when a guest starts that is based on it too."""
    image = tmp_path / "base"
    image.write_bytes(qcow2_header(MIB))
    image.chmod(0o644)
    before = images.look(str(image))
    image.chmod(0o444)
    assert (images.look(str(image)) == before) == (image.stat().st_uid == 0)


@pytest.mark.parametrize("shrink", [False, True])
def test_resize_of_an_image(tmp_path: Path, shrink: bool) -> None:
    (tmp_path / "a").write_bytes(qcow2_header(MIB))
    flag = ["--shrink"] if shrink else []
    host = Images(("", 0))
    looked_at = backend(tmp_path, host)
    volume = looked_at.volume("a")
    assert volume is not None
    looked_at.resize_volume(volume, 1025, allocate=False, shrink=shrink)
    assert host.calls == [["qemu-img", "resize", "-f", "qcow2", *flag, f"{tmp_path}/a", "1536"]]
    with pytest.raises(OperationUnsupported, match="preallocate is only supported for raw"):
        looked_at.resize_volume(volume, 2 * MIB, allocate=True, shrink=False)


def test_s22_an_image_is_not_resized_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(qcow2_header(MIB))
    (tmp_path / "a").symlink_to("real")
    host = FakeHost()
    looked_at = backend(tmp_path, host)
    with pytest.raises(SystemFailure, match="cannot open volume .*symbolic links"):
        looked_at.resize_volume(looked_at.volume("a"), 2 * MIB, allocate=False, shrink=False)
    assert host.calls == []


def test_free_path_refuses_folders_as_sources(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    looked_at = backend(tmp_path)
    with pytest.raises(InternalError, match="cannot copy from volume of type 'dir'"):
        files.create_from(
            looked_at.host, str(tmp_path), Volume("a", format="raw"), looked_at.volume("d"),
            bulk.Mover(), metadata=False, reflink=False,
        )  # fmt: skip


def test_a_file_system_without_modes_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vfat: fchmod(2) is not permitted, even to the owner."""
    monkeypatch.setattr(os, "fchmod", raising(PermissionError(errno.EPERM, "not permitted")))
    volume = Volume("a", format="raw", capacity=MIB)
    backend(tmp_path).create_volume(volume, metadata=False)
    assert os.listdir(tmp_path) == ["a"]
