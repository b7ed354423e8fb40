"""Hostile image headers: listed in bounded time, and nothing that they name is ever opened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hostile import require_refusal, snapshot
from inprocess import Answer, storagectl
from tally import counted

from storagectl.backends import files, images
from storagectl.host import Host
from storagectl.host.commands import Bounds
from storagectl.tools import imageheader, qemu_img

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tools

KIND = "hostile images"
SECRET = b"root:x:0:0:root\n" * 512
QCOW2 = b"QFI\xfb"
EIB = 1 << 60


def number(value: int, length: int) -> bytes:
    return (value & ((1 << 8 * length) - 1)).to_bytes(length, "big")


def qcow2(
    backing: bytes = b"",
    *,
    version: int = 3,
    size: int = 1 << 20,
    name_offset: int | None = None,
    name_length: int | None = None,
    cluster_bits: int = 16,
    l1_entries: int = 1,
    l1_offset: int = 3 << 16,
    refcounts: int = 1 << 16,
    clusters: int = 1,
    incompatible: int = 0,
    extensions: bytes = b"",
    header_length: int = 104,
) -> bytes:
    """Return a header of qcow2, and 512 bytes more."""
    at = 104 + len(extensions) + 8 if name_offset is None else name_offset
    length = len(backing) if name_length is None else name_length
    head = (
        QCOW2 + number(version, 4) + number(at if length else 0, 8) + number(length, 4)
        + number(cluster_bits, 4) + number(size, 8) + number(0, 4)
        + number(l1_entries, 4) + number(l1_offset, 8) + number(refcounts, 8)
        + number(clusters, 4) + number(0, 4) + number(0, 8)
        + number(incompatible, 8) + number(0, 8) + number(0, 8) + number(4, 4)
        + number(header_length, 4)
    )  # fmt: skip
    return head + extensions + number(0, 8) + backing + bytes(512)


def extension(magic: int, data: bytes, length: int | None = None) -> bytes:
    padded = data + bytes(-len(data) % 8)
    return number(magic, 4) + number(len(data) if length is None else length, 4) + padded


def vmdk(*extents: str) -> bytes:
    lines = ["# Disk DescriptorFile", "version=1", "CID=fffffffe", "parentCID=ffffffff",
             'createType="monolithicFlat"', *extents]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


FORMAT, DATA = imageheader.EXTENSION_BACKING_FORMAT, imageheader.EXTENSION_DATA_FILE
# S is the path of a secret outside of all pools.
LEADING = {
    "secret": qcow2(b"S"),
    "secret, raw": qcow2(b"S", extensions=extension(FORMAT, b"raw")),
    "shadow": qcow2(b"/etc/shadow", extensions=extension(FORMAT, b"raw")),
    "disk": qcow2(b"/dev/sda", extensions=extension(FORMAT, b"raw")),
    "terminal": qcow2(b"/dev/tty", extensions=extension(FORMAT, b"raw")),
    "memory": qcow2(b"/dev/mem"),
    "without an end": qcow2(b"/dev/zero"),
    "descriptor": qcow2(b"/proc/self/fd/0"),
    "own memory": qcow2(b"/proc/self/mem"),
    "beside the pool": qcow2(b"../secret"),
    "by way of a folder": qcow2(b"./../pool/../secret"),
    "json, file": qcow2(b'json:{"driver":"raw","file":{"driver":"file","filename":"S"}}'),
    "json, nbd": qcow2(b'json:{"driver":"nbd","host":"127.0.0.1","port":"1"}'),
    "json, rubbish": qcow2(b"json:{"),
    "nbd": qcow2(b"nbd:127.0.0.1:1"),
    "nbd socket": qcow2(b"nbd:unix:/run/x"),
    "nbd URI": qcow2(b"nbd://127.0.0.1:1/x"),
    "ssh": qcow2(b"ssh://root@127.0.0.1/etc/shadow"),
    "http": qcow2(b"http://127.0.0.1:1/x"),
    "fat of a folder": qcow2(b"fat:/etc"),
    "host device": qcow2(b"host_device:/dev/sda"),
    "blkdebug": qcow2(b"blkdebug::S"),
    "file:": qcow2(b"file:S"),
    "format of its own": qcow2(b"S", extensions=extension(FORMAT, b"luks")),
    "format that is a path": qcow2(b"S", extensions=extension(FORMAT, b"../raw")),
    "newline": qcow2(b"S\n/etc/shadow"),
    "escape": qcow2(b"S\x1b[31m"),
    "option": qcow2(b"-f"),
    "data file": qcow2(incompatible=4, extensions=extension(DATA, b"S")),
    "data file in JSON": qcow2(incompatible=4, extensions=extension(DATA, b"json:{}")),
    "data file without a name": qcow2(incompatible=4),
    "data file behind a lie": qcow2(
        incompatible=4, extensions=extension(1, b"x" * 8, 1 << 31) + extension(DATA, b"S")),
    "two data files": qcow2(
        incompatible=4, extensions=extension(DATA, b"inside") + extension(DATA, b"S")),
    "vmdk flat": vmdk('RW 16 FLAT "S" 0'),
    "vmdk vmfs": vmdk('RW 16 VMFS "S"'),
    "vmdk second extent": vmdk('RW 1 ZERO', 'RW 16 FLAT "S" 0'),
    "vmdk relative": vmdk('RW 16 FLAT "../secret" 0'),
    "vmdk parent": vmdk('parentFileNameHint="S"', "RW 16 ZERO"),
    "vmdk in COWD": b"COWD" + b"\1\0\0\0" + bytes(504) + b'parentFileNameHint="S"\n',
    "qed": b"QED\0" + b"\0\0\1\0\4\0\0\0\1\0\0\0" + b"\1".ljust(8, b"\0") + bytes(24)
           + (1 << 20).to_bytes(8, "little") + b"\x40\0\0\0\x01\0\0\0" + b"S" + bytes(500),
    "qcow": QCOW2 + number(1, 4) + number(48, 8) + number(1, 4) + number(0, 4) + number(1 << 20, 8)
            + b"\x0c\x09\0\0" + number(0, 4) + number(0, 8) + b"S" + bytes(500),
    "cow": b"OOOM" + number(2, 4) + b"S".ljust(1024, b"\0") + bytes(4) + number(1 << 20, 8)
           + bytes(500),
}  # fmt: skip

BROKEN = {
    "8 EiB": qcow2(size=8 * EIB),
    "16 EiB less 1": qcow2(size=(1 << 64) - 1),
    "8 EiB less 1": qcow2(size=8 * EIB - 1),
    "no size": qcow2(size=0),
    "all offsets 2^64 - 1": QCOW2 + number(3, 4) + b"\xff" * 1000,
    "all offsets 2^63": qcow2(l1_offset=1 << 63, refcounts=1 << 63, name_offset=1 << 63),
    "L1 table past the end": qcow2(l1_offset=1 << 40, l1_entries=1 << 20),
    "L1 table of 2^32 entries": qcow2(l1_entries=(1 << 32) - 1, size=8 * EIB - 1),
    "refcounts past the end": qcow2(refcounts=1 << 62, clusters=(1 << 32) - 1),
    "name of 1024 bytes": qcow2(b"/" + b"n" * 1023),
    "name of 4096 bytes": qcow2(b"/" + b"n" * 4095),
    "name of 2^32 bytes": qcow2(b"x", name_length=(1 << 32) - 1),
    "name past the end": qcow2(b"x", name_offset=1 << 40),
    "name at 2^64 - 1": qcow2(b"x", name_offset=(1 << 64) - 1),
    "name in the magic": qcow2(b"", name_offset=1, name_length=4),
    "empty name": qcow2(b"\0\0\0\0"),
    "version 0": qcow2(version=0),
    "version 99": qcow2(version=99),
    "version 2^32 - 1": qcow2(version=(1 << 32) - 1),
    "clusters of 2^0": qcow2(cluster_bits=0),
    "clusters of 2^63": qcow2(cluster_bits=63),
    "clusters of 2^(2^32 - 1)": qcow2(cluster_bits=(1 << 32) - 1),
    "header of 2^32 bytes": qcow2(header_length=(1 << 32) - 1),
    "unknown features": qcow2(incompatible=1 << 63),
    "extensions without an end": qcow2(extensions=extension(5, b"x" * 8) * 500),
    "extension of 2^32 bytes": qcow2(extensions=extension(5, b"", (1 << 32) - 1)),
    "magic alone": QCOW2,
    "half a header": qcow2()[:50],
    "vmdk of 10,000 extents": vmdk(*['RW 1 FLAT "x" 0'] * 10_000),
    "vmdk of 2^63 sectors": vmdk(f"RW {1 << 63} ZERO"),
    "vmdk of many digits": vmdk(f"RW {'9' * 5000} ZERO"),
    "vmdk sparse past the end": b"KDMV" + b"\1\0\0\0" + b"\xff" * 500,
    "vhdx": b"vhdxfile" + b"\xff" * 300_000,
    "vhdx regions": b"vhdxfile" + bytes(196600) + b"regi" + b"\xff" * 5000,
    "vdi of 2^64": bytes(64) + b"\x7f\x10\xda\xbe\x01\x00\x01\x00" + b"\xff" * 400,
    "vpc of 2^64": b"conectix" + b"\0\0\0\2\0\1\0\0" + b"\xff" * 500,
    "dmg of 2^64": bytes(1000) + b"koly" + b"\xff" * 508,
    "parallels of 2^64": b"WithouFreSpacExt" + b"\xff" * 500,
    "luks past the end": b"LUKS\xba\xbe\0\1" + b"\xff" * 500,
    "cloop": b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop ".ljust(128, b"x") + b"\xff" * 100,
    "bochs": b"Bochs Virtual HD Image\0".ljust(64, b"x") + b"\0\0\2\0" + b"\xff" * 100,
}  # fmt: skip


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    (folder / "inside").write_bytes(bytes(8192))
    (tmp_path / "copy.xml").write_text("<volume><name>copy</name></volume>")
    answer = storagectl(tmp_path / "root", "pool-create-as", "p", "dir", "--target", str(folder))
    assert answer.status == 0
    return folder


def plant(pool: Path, label: str) -> None:
    """Put an image into the pool that says where the secret is."""
    image = LEADING[label] if label in LEADING else BROKEN[label]
    secret = bytes(pool.parent / "secret")
    if label not in LEADING or not re.search(rb"(?<![A-Za-z])S(?![a-z])", image):
        (pool / "v").write_bytes(image)
        return
    if image.startswith(b"QFI\xfb\0\0\0\3"):
        data = extension(DATA, secret) if b"DATA" in image else b""
        backing = re.search(rb"(json:[^\0]*\}|[a-z:]*S[^\0]*)\0", image)
        if data:
            image = qcow2(incompatible=4, extensions=data)
        else:
            assert backing is not None
            said = re.search(rb"\xe2\x79\x2a\xca\0\0\0.([^\0]*)", image)
            image = qcow2(
                re.sub(rb"(?<![A-Za-z])S", secret, backing[1]),
                extensions=extension(FORMAT, said[1]) if said else b"",
            )
    elif image.startswith(b"QED"):
        image = image.replace(b"\x40\0\0\0\x01\0\0\0S", b"\x40\0\0\0"
                              + len(secret).to_bytes(4, "little") + secret)  # fmt: skip
    elif image.startswith(b"QFI"):
        image = image[:16] + number(len(secret), 4) + image[20:48] + secret + bytes(500)
    elif image.startswith(b"OOOM"):
        image = image[:8] + secret.ljust(1024, b"\0") + image[1032:]
    else:
        image = image.replace(b'"S"', b'"' + secret + b'"')
    (pool / "v").write_bytes(image)


LOOKING = (
    ("vol-list", "p"), ("vol-list", "p", "--details"), ("vol-info", "v", "p"),
    ("vol-dumpxml", "v", "p"), ("vol-used-by", "v", "p"), ("pool-info", "p"),
    ("pool-refresh", "p"), ("pool-used-by", "p"), ("status", "--volumes"), ("doctor",),
)  # fmt: skip
OPENING = (
    ("vol-clone", "v", "copy", "p"),
    ("vol-clone", "v", "copy", "p", "--linked"),
    ("vol-clone", "v", "copy", "p", "--keep-backing"),
    ("vol-create-from", "p", "COPY", "v", "p"),
    ("vol-create-as", "p", "copy", "1M", "--format", "qcow2", "--backing-vol", "v",
     "--backing-vol-format", "qcow2"),
    ("vol-resize", "v", "64M", "p"),
)  # fmt: skip


def answers(pool: Path, *words: str) -> Answer:
    given = (str(pool.parent / "copy.xml") if word == "COPY" else word for word in words)
    return storagectl(pool.parent / "root", *given)


@pytest.mark.parametrize("label", LEADING)
def test_s15_s16_s17_nothing_that_a_header_names_is_opened(
    pool: Path, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be shown.  No tool runs, no file outside of the pool is opened, nothing changes."""
    plant(pool, label)
    opened: list[str] = []
    audited = watching(opened)
    ran: list[list[str]] = []
    spawn = Host._spawn
    monkeypatch.setattr(
        Host, "_spawn", lambda self, argv, *rest: (ran.append(argv), spawn(self, argv, *rest))[1]
    )
    before = snapshot(pool, pool.parent / "root/etc")
    with counted(KIND), audited:
        for words in LOOKING:
            answer = answers(pool, *words)
            assert answer.status == 0, (words, answer)
            assert "Traceback" not in answer.stderr
            assert "root:x" not in answer.stdout + answer.stderr
        for words in OPENING:
            if label in ("qed", "cow", "qcow") and "--backing-vol" in words:
                continue
            answer = answers(pool, *words)
            require_refusal(answer, (label, words))
            assert "root:x" not in answer.stderr
        target = pool.parent / "downloaded"
        assert answers(pool, "vol-download", "v", str(target), "p").status == 0
        assert target.read_bytes() == (pool / "v").read_bytes()
        assert snapshot(pool, pool.parent / "root/etc") == before
        for words in (
            ("vol-rename", "v", "w", "p"),
            ("vol-wipe", "w", "p"),
            ("vol-delete", "w", "p"),
        ):
            assert answers(pool, *words).status == 0, words
    assert not [argv for argv in ran if "qemu-img" in argv[0]]
    assert not [path for path in opened if is_hostile(path, pool)], label
    assert (pool.parent / "secret").read_bytes() == SECRET


def is_hostile(path: str, pool: Path) -> bool:
    named = ("/etc/shadow", "/dev/sda", "/dev/mem", "/dev/tty", "/dev/zero", "/proc/self/mem",
             "/proc/self/fd/0", "/run/x")  # fmt: skip
    real = os.path.realpath(path)
    return real == str(pool.parent / "secret") or path in named


EVENTS: list[list[str]] = []


def note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and EVENTS and isinstance(arguments[0], str):
        EVENTS[-1].append(arguments[0])


sys.addaudithook(note)


class watching:  # noqa: N801
    """Note each path that this process opens.  An audit hook can't be taken away again."""

    def __init__(self, opened: list[str]) -> None:
        self.opened = opened

    def __enter__(self) -> None:
        EVENTS.append(self.opened)

    def __exit__(self, *_: object) -> None:
        EVENTS.pop()


def test_the_watch_sees_what_is_opened(tmp_path: Path) -> None:
    opened: list[str] = []
    with watching(opened):
        os.close(os.open(tmp_path, os.O_RDONLY))
    assert opened == [str(tmp_path)]


@pytest.mark.parametrize("label", BROKEN)
def test_s19_a_header_that_lies_hides_no_other_volume(pool: Path, label: str) -> None:
    """All are listed, in a few reads; what can't be made of it is refused by us or by qemu-img."""
    plant(pool, label)
    with counted(KIND):
        for words in LOOKING:
            answer = answers(pool, *words)
            assert answer.status == 0, (words, answer)
        assert answers(pool, "-q", "vol-list", "p").stdout.split()[::2] == ["inside", "v"]
        for words in OPENING[:1]:
            before = snapshot(pool)
            answer = answers(pool, *words)
            if answer.status:
                require_refusal(answer, (label, words))
                assert snapshot(pool) == before
            else:
                assert answers(pool, "vol-delete", "copy", "p").status == 0
        assert answers(pool, "vol-delete", "v", "p").status == 0


def chain(pool: Path, length: int) -> None:
    """Make a chain of images, v on v1 on v2 and so on, each in the same pool."""
    for at in range(length):
        name = "v" if at == 0 else f"v{at}"
        raw = extension(FORMAT, b"qcow2")
        (pool / name).write_bytes(qcow2(b"v%d" % (at + 1), extensions=raw))
    (pool / f"v{length}").write_bytes(qcow2())


@pytest.mark.parametrize("length", [200, 300, 10_000])
def test_s19_a_long_chain(pool: Path, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed in one look at each; followed for 200, and refused behind that whatever is allowed."""
    chain(pool, length)
    looked = 0
    real = images.inspect

    def look(*arguments: Any, **options: Any) -> Any:
        nonlocal looked
        looked += 1
        return real(*arguments, **options)

    monkeypatch.setattr(images, "inspect", look)
    with counted(KIND):
        assert answers(pool, "vol-info", "v", "p").status == 0
        for words in (OPENING[0], OPENING[-1], ("vol-clone", "v", "copy", "p", "--keep-backing")):
            looked = 0
            answer = answers(pool, *words, "--allow-backing")
            assert looked < 1300
            require_refusal(answer, words)
            assert answer.stderr.endswith("the backing chain of volume 'v' has no end\n")


@pytest.mark.parametrize(
    "backing", [b"v", b"./v", b"../pool/v", b"w", b"/proc/self/cwd/v", b"v/../v", b"v/."]
)
def test_s19_a_chain_that_is_a_circle(
    pool: Path, backing: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pool)
    (pool / "v").write_bytes(qcow2(backing, extensions=extension(FORMAT, b"qcow2")))
    (pool / "w").write_bytes(qcow2(b"v", extensions=extension(FORMAT, b"qcow2")))
    with counted(KIND):
        for words in LOOKING:
            assert answers(pool, *words).status == 0
        for words in OPENING:
            require_refusal(answers(pool, *words), words)


def test_s15_no_file_outside_is_opened_by_the_real_program(pool: Path) -> None:
    """What strace sees of the program and of all it starts."""
    words = (*LOOKING[:4], OPENING[0], OPENING[3], OPENING[5])
    line = "; ".join(" ".join(each) for each in words).replace("COPY", f"{pool.parent}/copy.xml")
    log = pool.parent / "strace"
    for label in ("secret", "shadow", "nbd", "data file", "vmdk flat", "json, file"):
        plant(pool, label)
        with counted(KIND, len(words)):
            done = subprocess.run(
                ["strace", "-f", "-qq", "-s", "4096", "-o", str(log),
                 "-e", "trace=open,openat,connect,execve", sys.executable, "-m", "storagectl",
                 "--root", str(pool.parent / "root"), line],
                capture_output=True, check=False,
                env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
            assert done.stderr.count(b"refers to") == 3, done
            seen = log.read_text(errors="replace")
            assert f'"{pool}/v"' in seen
            for never in (f'"{pool.parent}/secret"', "/etc/shadow", "AF_INET", "qemu-img"):
                assert never not in seen, label


@pytest.mark.parametrize("backing", ["nbd:127.0.0.1:1", "json:{}", "ssh://h/x", "host_device:x"])
def test_s15_a_definition_cannot_name_a_protocol(pool: Path, backing: str) -> None:
    """Not even where a file of that name is in the pool."""
    folder, _, name = backing.rpartition("/")
    (pool / folder).mkdir(parents=True, exist_ok=True)
    (pool / folder / name).write_bytes(bytes(512))
    document = pool.parent / "over.xml"
    document.write_text(
        "<volume><name>over</name><capacity>1048576</capacity><target><format type='qcow2'/>"
        f"</target><backingStore><path>{backing}</path><format type='raw'/></backingStore></volume>"
    )
    with counted(KIND):
        for more in ((), ("--allow-backing",)):
            answer = answers(pool, "vol-create", "p", str(document), *more)
            require_refusal(answer, backing)
            assert not (pool / "over").exists()


# S20: qemu-img reads in bounds


def stub(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


def test_s20_a_tool_that_only_reads_has_bounds(tmp_path: Path) -> None:
    """They are the child's, and not ours."""
    stub(tmp_path, "tool", "ulimit -v; ulimit -t; ulimit -St\n")
    host = Host()
    host.find_tool = lambda name: str(tmp_path / name)  # type: ignore[method-assign]
    found = host.query(["tool"], bounds=Bounds(1 << 30, 30)).split()
    assert found == [str(1 << 20), "30", "30"] or found == [str(1 << 20), "31", "30"]
    assert host.query(["tool"]).split()[0] == "unlimited"


def test_s20_a_tool_that_takes_too_much_is_ended(tmp_path: Path) -> None:
    stub(tmp_path, "eats", f"exec {sys.executable} -c 'x = bytes(1 << 31)'\n")
    stub(tmp_path, "spins", "while :; do :; done\n")
    host = Host()
    host.find_tool = lambda name: str(tmp_path / name)  # type: ignore[method-assign]
    for tool, words in (("eats", "MemoryError"), ("spins", "fatal signal")):
        with counted(KIND), pytest.raises(files.ToolFailed) as caught:
            host.query([tool], bounds=Bounds(1 << 30, 1))
        assert words in str(caught.value)


def test_s20_qemu_img_compares_in_bounds(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds are those of the size, which the source's header says."""
    used: list[Bounds | None] = []
    spawn = Host._spawn

    def record(self: Host, argv: list[str], *rest: object) -> tuple[int, str, str]:
        if argv[1:2] == ["compare"]:
            used.append(rest[2])  # type: ignore[arg-type]
        return spawn(self, argv, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "_spawn", record)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", pool / "q", "100M"], check=True)
    assert answers(pool, "vol-clone", "q", "copy", "p", "--verify").status == 0
    assert used == [Bounds(qemu_img.MEMORY, qemu_img.LEAST_CPU_S + 20)]
