"""Recognise disk image formats from their first bytes, in process.

Pure: the caller hands in a read function, nothing here opens a file. Every number in a header is
hostile until checked: probing never raises, reads a handful of times, and never more than 64 KiB.

Names and values are those of libvirt 9.0.0 (src/storage_file/storage_file_probe.c). On purpose we
tell more than libvirt, which calls these raw: bochs, cloop, dmg, vhdx (not a libvirt name), vmdk
text descriptors and COWD, old parallels; luks2 (no encryption shown). A fixed VHD has its
signature only at the end and stays raw, as in libvirt and QEMU.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

FIRST_READ = 4096
# Longest stretch of qcow2 header extensions or VMDK descriptor looked at, in bytes.
LONGEST_READ = 65536
MIB = 1 << 20
CAPACITY_MAX = (1 << 63) - 1
# QEMU's limit for a backing file name; libvirt has the same for qcow and qcow2.
NAME_MAX = 1023

QCOW_HEADER = Struct(">4sIQIIQI")
QCOW2_V3_HEADER = Struct(">QQ12xI")
QCOW2_EXTENSION = Struct(">II")
QCOW2_V2_HEADER_LENGTH = 72
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_DATA_FILE = 0x44415441
INCOMPATIBLE_DATA_FILE = 1 << 2
INCOMPATIBLE_EXTENDED_L2 = 1 << 4
COMPATIBLE_LAZY_REFCOUNTS = 1 << 0
QCOW_ENCRYPTION = {1: "qcow", 2: "luks"}

# Where QEMU looks for the parent of a sparse VMDK, whatever its header says.
VMDK_DESCRIPTOR = 512
VMDK_VERSIONS = (b"version=1", b"version=2", b"version=3")

VHDX_REGION_TABLE = 196608
VHDX_METADATA_REGION = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
VHDX_VIRTUAL_DISK_SIZE = bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8")


class ImageInfo:
    """What an image's header says about it.

    format: a libvirt volume format name, or "vhdx".
    capacity: virtual size in bytes, 1 to 2^63-1; None: the header has none to believe, use the
        file's size.
    backing_path: as stored, cut at its first NUL: a path, a URI or "json:...", undecodable bytes
        as surrogate escapes.
    backing_format: as stored, so maybe a driver name libvirt lacks; None: to be probed.
    compat: "1.1" for qcow2 version 3; None for version 2, where libvirt shows none.
    cluster_size: bytes, qcow2 only.
    features: qcow2 version 3: those of "lazy_refcounts", "extended_l2" that are set, in this order.
    encryption: "luks" (volume or qcow2), "luks2", or "qcow" for the old AES of qcow and qcow2.
    data_files: where QEMU would read the guest's data from if not this file: qcow2's external data
        file or a VMDK descriptor's extents; "" stands for one that we could not find the name of.
    """

    __slots__ = (
        "backing_format",
        "backing_path",
        "capacity",
        "cluster_size",
        "compat",
        "data_files",
        "encryption",
        "features",
        "format",
    )

    def __init__(
        self,
        format: str,
        capacity: int | None = None,
        *,
        backing_path: str | None = None,
        backing_format: str | None = None,
        compat: str | None = None,
        cluster_size: int | None = None,
        features: tuple[str, ...] | None = None,
        encryption: str | None = None,
        data_files: tuple[str, ...] = (),
    ) -> None:
        self.format = format
        self.capacity = capacity if capacity and 0 < capacity <= CAPACITY_MAX else None
        self.backing_path = backing_path
        self.backing_format = backing_format
        self.compat = compat
        self.cluster_size = cluster_size
        self.features = features
        self.encryption = encryption
        self.data_files = data_files

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"ImageInfo({fields})"


def probe(read: Read, size: int) -> ImageInfo:
    """Tell an image's format and what its header says.

    `read(offset, length)` returns up to length bytes, fewer only at the end; `size` is the file's
    or device's length in bytes. Anything not recognised is "raw".
    """
    # Zeros mean "none" in every format here, so a truncated header needs no further checks.
    head = read(0, FIRST_READ).ljust(FIRST_READ, b"\0")
    parse = PARSERS.get(head[:4])
    info = parse(head, read, size) if parse else _vmdk_text(head, read, size)
    return info or _without_leading_magic(head, read, size)


def _without_leading_magic(head: bytes, read: Read, size: int) -> ImageInfo:
    if head[64:72] == b"\x7f\x10\xda\xbe\x01\x00\x01\x00":
        return ImageInfo("vdi", _little(head, 368, 8))
    if size >= 32774 and read(32769, 5) == b"CD001":
        return ImageInfo("iso")
    # A .dmg is known by a trailer. Guests' disks are whole MiB and so spared this read.
    if size % MIB and size >= 512:
        trailer = head[size - 512 : size] if size <= FIRST_READ else read(size - 512, 512)
        if trailer[:4] == b"koly" and len(trailer) == 512:
            return ImageInfo("dmg", _big(trailer, 492, 8) * 512)
    return ImageInfo("raw")


def _qcow(head: bytes, read: Read, size: int) -> ImageInfo | None:
    """Source: QEMU docs/interop/qcow2.txt; version 1: QEMU block/qcow.c."""
    _, version, name_offset, name_length, cluster_bits, capacity, crypt = QCOW_HEADER.unpack_from(
        head
    )
    if version not in (1, 2, 3):
        return None
    backing_path = _name(head, read, size, name_offset, name_length)
    if version == 1:
        return ImageInfo(
            "qcow",
            capacity,
            backing_path=backing_path,
            encryption="qcow" if _big(head, 36, 4) == 1 else None,
        )
    cluster_size = 1 << cluster_bits if 9 <= cluster_bits <= 21 else None
    incompatible, compatible, extensions_start = 0, 0, QCOW2_V2_HEADER_LENGTH
    features: tuple[str, ...] | None = None
    if version == 3:
        incompatible, compatible, extensions_start = QCOW2_V3_HEADER.unpack_from(head, 72)
        lazy = ("lazy_refcounts",) if compatible & COMPATIBLE_LAZY_REFCOUNTS else ()
        extended = ("extended_l2",) if incompatible & INCOMPATIBLE_EXTENDED_L2 else ()
        features = lazy + extended
    backing_format = None
    data_files: tuple[str, ...] = ()
    external = incompatible & INCOMPATIBLE_DATA_FILE
    if backing_path is not None or external:
        end = name_offset or cluster_size or LONGEST_READ
        extensions = _qcow2_extensions(head, read, extensions_start, min(end, size, LONGEST_READ))
        if backing_path is not None:
            backing_format = _text(extensions.get(EXTENSION_BACKING_FORMAT, b"")) or None
        if external:
            data_files = (_text(extensions.get(EXTENSION_DATA_FILE, b"")),)
    return ImageInfo(
        "qcow2",
        capacity,
        backing_path=backing_path,
        backing_format=backing_format,
        compat="1.1" if version == 3 else None,
        cluster_size=cluster_size,
        features=features,
        encryption=QCOW_ENCRYPTION.get(crypt),
        data_files=data_files,
    )


def _qcow2_extensions(head: bytes, read: Read, start: int, end: int) -> dict[int, bytes]:
    """Collect the backing format and data file extensions between two file offsets.

    Returns: {extension magic: payload}; a repeated extension counts as QEMU does, the last one.
    """
    found: dict[int, bytes] = {}
    area = head
    offset = start
    while offset + 8 <= end:
        if offset + 8 + NAME_MAX > len(area) and area is head and end > FIRST_READ:
            area = read(0, end)
            end = len(area)
            continue
        magic, length = QCOW2_EXTENSION.unpack_from(area, offset)
        offset += 8
        if magic == 0 or offset + length > end:
            break
        if length <= NAME_MAX and magic in (EXTENSION_BACKING_FORMAT, EXTENSION_DATA_FILE):
            found[magic] = area[offset : offset + length]
        offset += (length + 7) & ~7
    return found


def _qed(head: bytes, read: Read, size: int) -> ImageInfo:
    """Source: QEMU docs/interop/qed_spec.txt."""
    features = _little(head, 16, 8)
    path = None
    if features & 1:
        path = _name(head, read, size, _little(head, 56, 4), _little(head, 60, 4))
    raw = path is not None and features & 4
    return ImageInfo(
        "qed",
        _little(head, 48, 8),
        backing_path=path,
        backing_format="raw" if raw else None,
    )


def _vmdk_sparse(head: bytes, read: Read, size: int) -> ImageInfo:
    """Source: VMware Virtual Disk Format 5.0, hosted sparse extents; QEMU block/vmdk.c, which
    looks at the version last."""
    capacity = 0
    data_files: tuple[str, ...] = ()
    start = _little(head, 28, 8) * 512
    if 0 < start < size:
        text = head[start:].partition(b"\0")[0]
        if start + len(text) >= FIRST_READ:
            text = read(start, LONGEST_READ)
        capacity, data_files = _vmdk_extents(text)
    sparse_capacity = _little(head, 12, 8) * 512
    # Without a capacity of its own QEMU takes the file for a mere descriptor.
    return ImageInfo(
        "vmdk",
        sparse_capacity or capacity,
        backing_path=_vmdk_parent(read(VMDK_DESCRIPTOR, LONGEST_READ)),
        data_files=() if sparse_capacity else data_files,
    )


def _vmdk_text(head: bytes, read: Read, size: int) -> ImageInfo | None:
    """Read a descriptor that is a file of its own, as QEMU recognises it: behind comments and
    blank lines comes the version."""
    lines = head.split(b"\n")
    while lines and (lines[0].startswith(b"#") or not lines[0].removesuffix(b"\r").strip(b" ")):
        del lines[0]
    known = lines and lines[0].removesuffix(b"\r") in VMDK_VERSIONS
    if not known and not head.startswith(b"# Disk DescriptorFile"):
        return None
    text = head if size <= FIRST_READ else read(0, LONGEST_READ)
    capacity, data_files = _vmdk_extents(text)
    return ImageInfo(
        "vmdk",
        capacity if size <= LONGEST_READ else None,
        backing_path=_vmdk_parent(text),
        data_files=data_files,
    )


def _vmdk_extents(text: bytes) -> tuple[int, tuple[str, ...]]:
    """Read a VMDK descriptor, the text that lists the extents:

        parentFileNameHint="base.vmdk"
        RW 20480 FLAT "disk-flat.vmdk" 0
        RW 63 ZERO

    QEMU's sscanf takes a line's end for any other blank, and needs none behind a number.
    Returns: (capacity in bytes or 0, file names of the extents).
    """
    import re

    cut = len(text) >= LONGEST_READ and b"\0" not in text
    text = text.partition(b"\0")[0]
    sectors = 0
    for line in text.split(b"\n"):
        words = line.split(None, 3)
        # 19 digits are more than any real size and int() refuses very many.
        if (
            len(words) >= 3
            and words[0] in (b"RW", b"RDONLY", b"NOACCESS")
            and words[1].isdigit()
            and len(words[1]) <= 19
        ):
            sectors += int(words[1])
    names = re.findall(
        rb'^\s*(?:RW|RDONLY|NOACCESS)\s+[+-]?[0-9]+\s*[A-Z]+\s*"([^\n\r"]{1,511})', text, re.M
    )
    return sectors * 512, (*map(_text, dict.fromkeys(names)), *([""] if cut else []))


def _vmdk_parent(text: bytes) -> str | None:
    """Return the parent that a descriptor names; QEMU passes over the two bytes `="` unseen."""
    found = text.partition(b"\0")[0].partition(b"parentFileNameHint")[2]
    hint, quote, _ = found[2:].partition(b'"')
    return _text(hint) if hint and quote else None


def _vmdk_cowd(head: bytes, read: Read, size: int) -> ImageInfo | None:
    if _little(head, 4, 4) != 1:
        return None
    return ImageInfo(
        "vmdk",
        _little(head, 12, 4) * 512,
        backing_path=_vmdk_parent(read(VMDK_DESCRIPTOR, LONGEST_READ)),
    )


def _vpc(head: bytes, read: Read, size: int) -> ImageInfo | None:
    if head[:8] != b"conectix" or _big(head, 12, 4) != 0x10000:
        return None
    # The original size: what libvirt shows, even where the current size (offset 48) differs.
    return ImageInfo("vpc", _big(head, 40, 8))


def _vhdx(head: bytes, read: Read, size: int) -> ImageInfo | None:
    if head[:8] != b"vhdxfile":
        return None
    return ImageInfo("vhdx", _vhdx_capacity(read, size))


def _vhdx_capacity(read: Read, size: int) -> int | None:
    """Follow region table, metadata table and virtual disk size item.

    Source: Microsoft MS-VHDX 2.2.3 and 2.6. Both tables have 32-byte entries that start with a
    GUID; the first 126 are looked at.
    """
    table = read(VHDX_REGION_TABLE, FIRST_READ)
    entry = _vhdx_entry(table, b"regi", 16, _little(table, 8, 4), VHDX_METADATA_REGION)
    region = _little(entry, 16, 8)
    if not entry or region + FIRST_READ > size:
        return None
    table = read(region, FIRST_READ)
    entry = _vhdx_entry(table, b"metadata", 32, _little(table, 10, 2), VHDX_VIRTUAL_DISK_SIZE)
    item = region + _little(entry, 16, 4)
    if not entry or item + 8 > size:
        return None
    return _little(read(item, 8), 0, 8)


def _vhdx_entry(table: bytes, signature: bytes, start: int, count: int, guid: bytes) -> bytes:
    if not table.startswith(signature):
        return b""
    for offset in range(start, start + 32 * min(count, 126), 32):
        if table[offset : offset + 16] == guid:
            return table[offset : offset + 32]
    return b""


def _parallels(head: bytes, read: Read, size: int) -> ImageInfo | None:
    """Source: QEMU docs/interop/parallels.txt."""
    if head[:16] == b"WithouFreSpacExt":
        return ImageInfo("ploop", _little(head, 36, 8) * 512)
    if head[:16] == b"WithoutFreeSpace":
        return ImageInfo("ploop", _little(head, 36, 4) * 512)
    return None


def _luks(head: bytes, read: Read, size: int) -> ImageInfo | None:
    """Source: LUKS1 on-disk format 1.2.3 (payload offset in 512-byte sectors); LUKS2 1.1.1."""
    if head[4:6] != b"\xba\xbe":
        return None
    version = _big(head, 6, 2)
    if version == 1:
        payload = _big(head, 104, 4) * 512
        return ImageInfo("raw", size - payload if payload else None, encryption="luks")
    return ImageInfo("raw", encryption="luks2") if version == 2 else None


def _cow(head: bytes, read: Read, size: int) -> ImageInfo | None:
    """Source: user-mode Linux copy-on-write header, version 2."""
    if _big(head, 4, 4) != 2:
        return None
    return ImageInfo("cow", _big(head, 1036, 8), backing_path=_text(head[8:1032]) or None)


def _bochs(head: bytes, read: Read, size: int) -> ImageInfo | None:
    """Source: QEMU block/bochs.c."""
    version = _little(head, 64, 4)
    if head[:23] != b"Bochs Virtual HD Image\0" or version not in (0x10000, 0x20000):
        return None
    return ImageInfo("bochs", _little(head, 84 if version == 0x10000 else 88, 8))


def _cloop(head: bytes, read: Read, size: int) -> ImageInfo | None:
    """Source: QEMU block/cloop.c: block size and number of blocks follow the script."""
    if not head.startswith(b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop "):
        return None
    return ImageInfo("cloop", _big(head, 128, 4) * _big(head, 132, 4))


PARSERS: dict[bytes, Callable[[bytes, Read, int], ImageInfo | None]] = {
    b"QFI\xfb": _qcow,
    b"QED\0": _qed,
    b"KDMV": _vmdk_sparse,
    b"COWD": _vmdk_cowd,
    b"cone": _vpc,
    b"vhdx": _vhdx,
    b"With": _parallels,
    b"LUKS": _luks,
    b"OOOM": _cow,
    b"Boch": _bochs,
    b"#!/b": _cloop,
}


def _name(head: bytes, read: Read, size: int, offset: int, length: int) -> str | None:
    end = offset + length
    if not offset or not 0 < length <= NAME_MAX or end > size:
        return None
    name = head[offset:end] if end <= FIRST_READ else read(offset, length)
    return _text(name) or None if len(name) == length else None


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _little(data: bytes, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "little")


def _big(data: bytes, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "big")
