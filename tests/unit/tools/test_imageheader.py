"""Image header probing: against qemu-img where it can make the image, else hand-built headers."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storagectl.tools.imageheader import LONGEST_READ, ImageInfo, probe

MIB = 1 << 20
SECRET = ("--object", "secret,id=s,data=abc")
LIBVIRT_NAMES = {"parallels": "ploop", "luks": "raw"}

# name: (format, options, backing file, backing format, extra arguments)
IMAGES = {
    "v2": ("qcow2", "compat=0.10", None, None, ()),
    "v3": ("qcow2", "", None, None, ()),
    "cluster512": ("qcow2", "cluster_size=512", None, None, ()),
    "cluster2M": ("qcow2", "cluster_size=2M", None, None, ()),
    "lazy": ("qcow2", "lazy_refcounts=on", None, None, ()),
    "extl2": ("qcow2", "extended_l2=on,cluster_size=128k", None, None, ()),
    "both": ("qcow2", "lazy_refcounts=on,extended_l2=on", None, None, ()),
    "backed": ("qcow2", "", "base", "qcow2", ()),
    "backed-v2": ("qcow2", "compat=0.10", "base", "vmdk", ()),
    "backed-json": (
        "qcow2",
        "",
        'json:{"driver":"qcow2","file":{"driver":"file","filename":"/b"}}',
        "qcow2",
        (),
    ),
    "backed-uri": ("qcow2", "", "nbd://localhost/x", "raw", ()),
    "backed-longest": ("qcow2", "", "/" + "n" * 1022, "raw", ()),
    "data-file": ("qcow2", "data_file=ext.data", None, None, ()),
    "data-file-backed": ("qcow2", "data_file=ext2.data", "base", "raw", ()),
    "aes-qcow2": ("qcow2", "encrypt.format=aes,encrypt.key-secret=s", None, None, SECRET),
    "qcow": ("qcow", "", None, None, ()),
    "aes-qcow": ("qcow", "encrypt.format=aes,encrypt.key-secret=s", None, None, SECRET),
    "backed-qcow": ("qcow", "", "base", "raw", ()),
    "sparse.vmdk": ("vmdk", "subformat=monolithicSparse", None, None, ()),
    "flat.vmdk": ("vmdk", "subformat=monolithicFlat", None, None, ()),
    "split.vmdk": ("vmdk", "subformat=twoGbMaxExtentSparse", None, None, ()),
    "stream.vmdk": ("vmdk", "subformat=streamOptimized", None, None, ()),
    "backed.vmdk": ("vmdk", "", "sparse.vmdk", "vmdk", ()),
    "vpc": ("vpc", "", None, None, ()),
    "vhdx": ("vhdx", "", None, None, ()),
    "vhdx-fixed": ("vhdx", "subformat=fixed", None, None, ()),
    "vdi": ("vdi", "", None, None, ()),
    "qed": ("qed", "", None, None, ()),
    "backed-qed": ("qed", "", "base", "qcow2", ()),
    "raw-backed-qed": ("qed", "", "base", "raw", ()),
    "parallels": ("parallels", "", None, None, ()),
    "raw": ("raw", "", None, None, ()),
}


class Image:
    """Bytes with a length of their own and some overwritten, counting what is read of them."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data = data
        self.patches: list[tuple[int, bytes]] = []
        self.size = len(data) if size is None else size
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert 0 < length <= LONGEST_READ
        self.reads.append((offset, length))
        chunk = bytearray(self.data[offset : min(offset + length, self.size)])
        for at, value in self.patches:
            if offset <= at and at + len(value) <= offset + len(chunk):
                chunk[at - offset : at - offset + len(value)] = value
        return bytes(chunk)


def probe_bytes(
    data: bytes, size: int | None = None, patches: tuple[tuple[int, bytes], ...] = ()
) -> ImageInfo:
    image = Image(data, size)
    image.patches.extend(patches)
    info = probe(image.read, image.size)
    assert len(image.reads) <= 4
    return info


def probe_file(path: str) -> ImageInfo:
    with open(path, "rb") as file:
        fd = file.fileno()
        return probe(lambda offset, length: os.pread(fd, length, offset), os.fstat(fd).st_size)


def require_qemu_img() -> None:
    if shutil.which("qemu-img"):
        return
    if os.environ.get("STORAGECTL_CI") == "1":
        pytest.fail("qemu-img is missing")
    pytest.skip("qemu-img is missing")


def run(*argv: str, cwd: str) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(folder: str, name: str) -> str:
    fmt, options, backing, backing_format, extra = IMAGES[name]
    argv = ["qemu-img", "create", "-q", "-f", fmt, *extra]
    if options:
        argv += ["-o", options]
    if backing:
        argv += ["-u", "-b", backing] if fmt != "vmdk" else ["-b", backing]
    if backing_format:
        argv += ["-F", backing_format]
    run(*argv, name, "10M", cwd=folder)
    return os.path.join(folder, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    require_qemu_img()
    folder = str(tmp_path_factory.mktemp("images"))
    create(folder, "sparse.vmdk")
    return folder


@pytest.mark.parametrize("name", IMAGES)
def test_agrees_with_qemu_img(folder: str, name: str) -> None:
    path = create(folder, name)
    info = probe_file(path)
    told = json.loads(run("qemu-img", "info", "--output=json", name, cwd=folder))
    fmt = told["format"]
    assert info.format == LIBVIRT_NAMES.get(fmt, fmt)
    assert (info.capacity or os.path.getsize(path)) == told["virtual-size"]
    assert info.backing_path == told.get("backing-filename")
    if fmt not in ("qed", "vmdk"):
        assert info.backing_format == told.get("backing-filename-format")
    specific = told.get("format-specific", {}).get("data", {})
    if fmt == "qcow2":
        v3 = specific["compat"] == "1.1"
        assert info.cluster_size == told["cluster-size"]
        assert info.compat == ("1.1" if v3 else None)
        wanted = tuple(
            feature
            for feature, key in (
                ("lazy_refcounts", "lazy-refcounts"),
                ("extended_l2", "extended-l2"),
            )
            if specific.get(key)
        )
        assert info.features == (wanted if v3 else None)
        assert info.data_files == tuple(filter(None, [specific.get("data-file")]))
    else:
        assert info.cluster_size is info.compat is info.features is None
    assert info.encryption == ("qcow" if told.get("encrypted") else None)


def test_qed_raw_backing_is_marked(folder: str) -> None:
    assert probe_file(create(folder, "raw-backed-qed")).backing_format == "raw"
    assert probe_file(create(folder, "backed-qed")).backing_format is None


def test_vmdk_descriptor_names_its_extent(folder: str) -> None:
    assert probe_file(create(folder, "flat.vmdk")).data_files == ("flat-flat.vmdk",)
    assert probe_file(create(folder, "sparse.vmdk")).data_files == ()


def test_fixed_vhd_is_raw_as_in_libvirt(folder: str) -> None:
    run("qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed", "f", "10M", cwd=folder)
    info = probe_file(os.path.join(folder, "f"))
    assert (info.format, info.capacity) == ("raw", None)


def bochs(version: int = 0x20000) -> bytes:
    names = struct.pack("<32s16s16s", b"Bochs Virtual HD Image", b"Redolog", b"Growing")
    numbers = struct.pack("<IIIII", version, 512, 2048, 1, 4096)
    return names + numbers + (bytes(4) if version == 0x20000 else b"") + struct.pack("<Q", 7 * MIB)


def cloop() -> bytes:
    script = (
        b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
    )
    return script.ljust(128, b"\0") + struct.pack(">II", 65536, 16)


def cow(backing: bytes = b"base.img") -> bytes:
    return struct.pack(">4sI1024sIQI", b"OOOM", 2, backing, 0, 9 * MIB, 512)


def dmg(data: int) -> bytes:
    return bytes(data) + struct.pack(">4sII480xQ", b"koly", 4, 512, 99).ljust(512, b"\0")


def qcow2(
    *,
    version: int = 3,
    name: tuple[int, int] = (0, 0),
    bits: int = 16,
    capacity: int = 10 * MIB,
    incompatible: int = 0,
    extensions: bytes = b"",
    size: int = 65536,
) -> bytearray:
    image = bytearray(size)
    struct.pack_into(">4sIQIIQI", image, 0, b"QFI\xfb", version, *name, bits, capacity, 0)
    start = 72
    if version == 3:
        struct.pack_into(">QQQII", image, 72, incompatible, 0, 0, 4, 112)
        start = 112
    image[start : start + len(extensions)] = extensions
    return image


def extension(magic: int, payload: bytes) -> bytes:
    return struct.pack(">II", magic, len(payload)) + payload + bytes(-len(payload) % 8)


@pytest.mark.parametrize(
    ("data", "fmt", "capacity"),
    [
        (bochs(), "bochs", 7 * MIB),
        (bochs(0x10000), "bochs", 7 * MIB),
        (bochs(0x30000), "raw", None),
        (cloop(), "cloop", MIB),
        (cow(), "cow", 9 * MIB),
        (cow().replace(b"\0\0\0\2", b"\0\0\0\3", 1), "raw", None),
        (dmg(0), "dmg", 99 * 512),
        (dmg(40000), "dmg", 99 * 512),
        (bytes(32769) + b"CD001", "iso", None),
        (bytes(32769) + b"CD00", "raw", None),
        (struct.pack("<4sIIII", b"COWD", 1, 3, 2048, 16), "vmdk", MIB),
        (b"WithoutFreeSpace" + bytes(20) + struct.pack("<II", 2048, 7), "ploop", MIB),
        (b"vhdxfile", "vhdx", None),
        (b"conectix" + bytes(504), "raw", None),
        (b"KDMV\4\0\0\0", "vmdk", None),
        (b"QFI\xfb\0\0\0\4", "raw", None),
        (b"QFI\xfb\0\0\0\3", "qcow2", None),
        (b"QED is a text", "raw", None),
        (b"", "raw", None),
    ],
)
def test_hand_built(data: bytes, fmt: str, capacity: int | None) -> None:
    info = probe_bytes(data)
    assert (info.format, info.capacity) == (fmt, capacity)


@pytest.mark.parametrize(
    ("name", "data"), [("bochs", bochs()), ("cloop", cloop())], ids=["bochs", "cloop"]
)
def test_hand_built_agree_with_qemu_img(folder: str, name: str, data: bytes) -> None:
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data.ljust(16384, b"\0"))
    told = json.loads(run("qemu-img", "info", "--output=json", name, cwd=folder))
    assert told["format"] == name
    assert told["virtual-size"] == probe_bytes(data).capacity


def luks(payload_sectors: int = 4040) -> bytes:
    """Make a LUKS1 header, as qemu-img takes 2 s for one and fails on a busy machine."""
    names = struct.pack(">6sH32s32s32s", b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256")
    numbers = struct.pack(">II52xI40s", payload_sectors, 64, 1000, b"0" * 36)
    slots = [struct.pack(">II32xII", 0xDEAD, 0, 8 + 504 * slot, 4000) for slot in range(8)]
    return names + numbers + b"".join(slots)


def test_luks_agrees_with_qemu_img(folder: str) -> None:
    path = os.path.join(folder, "luks")
    with open(path, "wb") as file:
        file.write(luks())
        file.truncate(4040 * 512 + 10 * MIB)
    told = json.loads(run("qemu-img", "info", "--output=json", "luks", cwd=folder))
    info = probe_file(path)
    assert told["format"] == "luks"
    assert (info.format, info.encryption) == ("raw", "luks")
    assert info.capacity == told["virtual-size"] == 10 * MIB


@pytest.mark.parametrize(("crypt", "encryption"), [(0, None), (1, "qcow"), (2, "luks"), (3, None)])
def test_qcow2_encryption(crypt: int, encryption: str | None) -> None:
    data = qcow2()
    struct.pack_into(">I", data, 32, crypt)
    assert probe_bytes(bytes(data)).encryption == encryption


@pytest.mark.parametrize(("version", "encryption"), [(1, "luks"), (2, "luks2"), (3, None)])
def test_luks_versions(version: int, encryption: str | None) -> None:
    info = probe_bytes(b"LUKS\xba\xbe" + struct.pack(">H", version) + bytes(4096))
    assert (info.format, info.encryption, info.capacity) == ("raw", encryption, None)


@pytest.mark.parametrize("sectors", [9, 0xFFFFFFFF])
def test_luks_payload_past_the_end(sectors: int) -> None:
    assert probe_bytes(luks(sectors).ljust(4096, b"\0")).capacity is None


def test_cow_backing() -> None:
    assert probe_bytes(cow()).backing_path == "base.img"
    assert probe_bytes(cow(b"x" * 1024)).backing_path == "x" * 1024
    assert probe_bytes(cow(b"")).backing_path is None


@pytest.mark.parametrize(
    ("size", "reads"),
    [(0, 1), (4096, 1), (MIB, 2), (10 * MIB, 2), (5000, 2), (MIB + 512, 3)],
)
def test_plain_files_are_read_little(size: int, reads: int) -> None:
    image = Image(b"\xeb\x63\x90" * 20, size)
    assert probe(image.read, size).format == "raw"
    assert len(image.reads) == reads


def test_plain_qcow2_is_read_once() -> None:
    data = qcow2(name=(600, 4), extensions=extension(0xE2792ACA, b"raw"))
    data[600:604] = b"base"
    image = Image(bytes(data))
    info = probe(image.read, image.size)
    assert (info.backing_path, info.backing_format) == ("base", "raw")
    assert len(image.reads) == 1


def test_backing_name_beyond_the_first_read() -> None:
    padding = extension(0x12345678, bytes(39000))
    data = qcow2(name=(40000, 4), extensions=padding + extension(0xE2792ACA, b"qed"))
    data[40000:40004] = b"base"
    info = probe_bytes(bytes(data))
    assert (info.backing_path, info.backing_format) == ("base", "qed")


def test_backing_name_is_cut_at_nul_and_keeps_odd_bytes() -> None:
    data = qcow2(name=(600, 9))
    data[600:609] = b"a\xffb\nc\0dir"
    assert os.fsencode(probe_bytes(bytes(data)).backing_path or "") == b"a\xffb\nc"


@pytest.mark.parametrize(
    "name",
    [(600, 1024), (600, 0xFFFFFFFF), (65530, 7), (1 << 40, 4), (0xFFFFFFFFFFFFFFFF, 4), (0, 4)],
)
def test_lying_backing_names_are_none(name: tuple[int, int]) -> None:
    info = probe_bytes(bytes(qcow2(name=name)))
    assert (info.format, info.capacity) == ("qcow2", 10 * MIB)
    assert info.backing_path is info.backing_format is None
    assert (info.compat, info.features) == ("1.1", ())


@pytest.mark.parametrize(
    ("capacity", "wanted"),
    [(0, None), (1, 1), (2**63 - 1, 2**63 - 1), (2**63, None), (2**64 - 1, None)],
)
def test_capacity_limits(capacity: int, wanted: int | None) -> None:
    assert probe_bytes(bytes(qcow2(capacity=capacity))).capacity == wanted


@pytest.mark.parametrize("bits", [0, 8, 22, 63, 64, 0xFFFFFFFF])
def test_lying_cluster_bits(bits: int) -> None:
    assert probe_bytes(bytes(qcow2(bits=bits))).cluster_size is None


def test_extension_of_4_gib() -> None:
    data = qcow2(name=(600, 4), extensions=struct.pack(">II", 0x12345678, 0xFFFFFFFF))
    data[600:604] = b"base"
    info = probe_bytes(bytes(data))
    assert (info.backing_path, info.backing_format) == ("base", None)


@pytest.mark.parametrize(
    ("extensions", "wanted"),
    [
        (extension(0x44415441, b"/etc/shadow"), "/etc/shadow"),
        (extension(0x12345678, bytes(5000)) + extension(0x44415441, b"far"), "far"),
        (b"", ""),
        (struct.pack(">II", 0x44415441, 0xFFFFFFFF), ""),
        (struct.pack(">II", 0x44415441, 3000).ljust(3100, b"x"), ""),
    ],
)
def test_data_file_is_never_overlooked(extensions: bytes, wanted: str) -> None:
    assert probe_bytes(bytes(qcow2(incompatible=4, extensions=extensions))).data_files == (wanted,)
    assert probe_bytes(bytes(qcow2(incompatible=0, extensions=extensions))).data_files == ()


def test_vmdk_text_descriptor() -> None:
    head = b"# Disk DescriptorFile\nversion=1\n"
    extents = b'RW 2048 FLAT "a b.vmdk" 0\nRDONLY 4096 ZERO\nRW junk FLAT "y" 0\nRW 0FLAT "z"\n'
    info = probe_bytes(head + b'parentFileNameHint="p.vmdk"\n' + extents)
    assert (info.format, info.capacity) == ("vmdk", 3 * MIB)
    assert (info.backing_path, info.data_files) == ("p.vmdk", ("a b.vmdk", "z"))
    info = probe_bytes(head + b'RW 2048 FLAT "x" 0\n' * 3000)
    assert info.capacity == 3000 * MIB
    info = probe_bytes(head + b'RW 2048 FLAT "x" 0\n' * 9000)
    assert (info.capacity, info.data_files) == (None, ("x", ""))
    info = probe_bytes(head + b'parentFileNameHint="open\nRW ' + b"9" * 5000 + b" FLAT x\n")
    assert (info.capacity, info.backing_path) == (None, None)


def test_vmdk_without_a_capacity_is_its_descriptor() -> None:
    header = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 0, 128, 8, 20).ljust(4096, b"\0")
    info = probe_bytes(header + b'createType="x"\nRW 2048 FLAT "/etc/shadow" 0\n\0')
    assert (info.format, info.capacity, info.data_files) == ("vmdk", MIB, ("/etc/shadow",))


@pytest.mark.parametrize(
    "extents",
    [
        b'RW 1 ZERO\nRW 1 FLAT "%s" 0\n',
        b'RW\n1\nFLAT\n"%s" 0\n',
        b'  RW 1FLAT "%s" 0\n',
        b'RW -1 SPARSE "%s',
    ],
)
@pytest.mark.parametrize(
    "start",
    [b"version=1\n", b"# x\n  \nversion=3\r\n", b"# Disk DescriptorFile\n", b"sparse", b"odd"],
)
def test_s17_an_extent_is_seen_however_it_is_written(start: bytes, extents: bytes) -> None:
    """QEMU's parser lets more pass than the format has."""
    if start in (b"sparse", b"odd"):
        version = 1 if start == b"sparse" else 99
        start = struct.pack("<4sIIQQQQ", b"KDMV", version, 3, 0, 128, 8, 20).ljust(4096, b"\0")
    info = probe_bytes(start + extents % b"/etc/shadow")
    assert (info.format, info.data_files) == ("vmdk", ("/etc/shadow",))


def test_s17_an_extent_too_far_to_be_seen_is_not_overlooked() -> None:
    text = b"# Disk DescriptorFile\nversion=1\n" + b"#" * 70000 + b'\nRW 1 FLAT "/etc/shadow" 0\n'
    assert probe_bytes(text).data_files == ("",)
    header = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 0, 128, 8, 20).ljust(4096, b"\0")
    assert probe_bytes(header + text).data_files == ("",)


@pytest.mark.parametrize("start", [b"KDMV\1\0\0\0", b"COWD\1\0\0\0"])
def test_s17_the_parent_is_where_qemu_looks_for_it(start: bytes) -> None:
    for hint in (b'="/etc/shadow"', b'::/etc/shadow"parentFileNameHint="x"'):
        text = start.ljust(512, b"\0") + b"parentFileNameHint" + hint
        assert probe_bytes(text.ljust(4096, b"\0")).backing_path == "/etc/shadow"


MAGICS = [
    b"QFI\xfb\0\0\0\1",
    b"QFI\xfb\0\0\0\2",
    b"QFI\xfb\0\0\0\3",
    b"QED\0",
    b"KDMV\1\0\0\0",
    b"COWD\1\0\0\0",
    b"# Disk DescriptorFile\n",
    b"conectix\0\0\0\0\0\1\0\0",
    b"vhdxfile",
    b"WithouFreSpacExt",
    b"LUKS\xba\xbe\0\1",
    b"OOOM\0\0\0\2",
    bochs()[:68],
    cloop()[:128],
    bytes(64) + b"\x7f\x10\xda\xbe\1\0\1\0",
]


@given(
    magic=st.sampled_from([b"", *MAGICS]),
    rest=st.binary(max_size=1200),
    fill=st.sampled_from([b"\0", b"\xff", b"\x01", b"a"]),
    length=st.integers(0, 70000),
    size=st.none() | st.integers(0, 2**63 - 1),
)
@example(magic=MAGICS[2], rest=b"\xff" * 1200, fill=b"\xff", length=70000, size=2**63 - 1)
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_read_within_bounds(
    magic: bytes, rest: bytes, fill: bytes, length: int, size: int | None
) -> None:
    check(probe_bytes((magic + rest).ljust(length, fill), size))


def check(info: ImageInfo) -> None:
    assert info.capacity is None or 0 < info.capacity < 2**63
    assert info.backing_path != ""
    assert info.cluster_size is None or info.format == "qcow2"
    assert info.backing_format is None or info.backing_path is not None
    assert repr(info).startswith("ImageInfo(")


@pytest.fixture(scope="module")
def headers(folder: str) -> list[bytes]:
    """The first bytes of an image of every kind; as far as the metadata of VHDX."""
    names = ["backed", "data-file", "qcow", "backed.vmdk", "flat.vmdk", "vhdx", "vpc", "vdi"]
    names += ["backed-qed", "parallels"]
    images = [luks()]
    for name in names:
        with open(create(folder, name), "rb") as file:
            images.append(file.read(4 * MIB if name == "vhdx" else 8192))
    return images


@given(seed=st.integers(0, 2**64))
@settings(deadline=None, max_examples=60)
def test_mutated_real_headers_never_raise(headers: list[bytes], seed: int) -> None:
    chance = random.Random(seed)
    for header in headers:
        patches = []
        for _ in range(chance.randrange(1, 8)):
            near = chance.choice([64, 128, 512, 1200, 4096])
            start = chance.choice([0, 0, 196608, 3 * MIB]) + chance.randrange(near)
            value = chance.choice([b"\0", b"\xff", b"\x7f", b"\x80", chance.randbytes(1)])
            patches.append((start, value * chance.choice([1, 2, 4, 8])))
        size = chance.choice([len(header), chance.randrange(len(header)), 2**63 - 1])
        check(probe_bytes(header, size, tuple(patches)))
