"""Volumes between XML and `model.Volume`, in libvirt 9.0.0's words and layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl.errors import ConfigUnsupported, Mistyped, XmlError
from storagectl.model import BackingStore, Cipher, Encryption, Secret, Volume
from storagectl.poolxml import UINT_MAX, read_permissions, read_secret, write_permissions
from storagectl.units import COMMAND_LIMIT, XML_LIMIT, scale
from storagectl.xmltree import (
    Node,
    Writer,
    attribute_error,
    choice,
    expect_root,
    integer,
    missing_attribute,
    parse,
    validate,
)

if TYPE_CHECKING:
    from storagectl.model import Timestamps
    from storagectl.pooltypes import PoolType

VOLUME_TYPES = ("file", "block", "dir", "network", "netdir", "ploop")
ENCRYPTION_FORMATS = ("default", "qcow", "luks", "luks2")
FEATURES = ("lazy_refcounts", "extended_l2")
BILLION = 10**9


def parse_volume(
    text: bytes | str, row: PoolType, *, capacity_optional: bool, validated: bool = False
) -> Volume:
    """Return the volume that a document describes, for a pool of the type `row`.

    With `capacity_optional` a missing capacity is 0 and the caller's to fill in, as is
    one with a backing store.  A missing allocation is the capacity.  Key, path and type
    are what the document says: the backend knows better.  With `validated` the document must
    be as the schema says.

    Raises: XmlError, XmlSyntaxError, SchemaError, ConfigUnsupported, InvalidArgument, Overflow.
    Source: libvirt 9.0.0 virStorageVolDefParseXML, whose order of checks this keeps.
    """
    root = parse(text, "(storage_volume_definition)")
    expect_root(root, "volume")
    if validated:
        validate(text, "storagevol")
    return read_volume(root, row, capacity_optional=capacity_optional)


def read_volume(root: Node, row: PoolType, *, capacity_optional: bool) -> Volume:
    """Return what a <volume> element says, as `parse_volume` does."""
    name = root.text_of("name")
    if name is None:
        raise XmlError("missing volume name element")
    kind = root.get("type") or "file"
    if kind not in VOLUME_TYPES:
        raise ConfigUnsupported(f"unknown volume type '{kind}'")
    volume = Volume(name, key=root.text_of("key") or "", type=kind)

    backing = root.text_of("backingStore/path")
    if backing is not None:
        volume.backing = BackingStore(
            backing,
            format=_format(root, "backingStore/format/@type", row),
            permissions=read_permissions(root.find("backingStore/permissions")),
        )
    capacity = _size(root, "capacity")
    if capacity is None and not capacity_optional and backing is None:
        raise XmlError("missing capacity element")
    volume.capacity = capacity or 0
    allocation = _size(root, "allocation")
    volume.allocation = volume.capacity if allocation is None else allocation
    volume.allocation_given = allocation is not None

    volume.path = root.text_of("target/path") or ""
    volume.format = _format(root, "target/format/@type", row)
    volume.permissions = read_permissions(root.find("target/permissions"))
    encryption = root.find("target/encryption")
    volume.encryption = _encryption(encryption) if encryption else None
    volume.compat = _compat(root.text_of("target/compat"))
    volume.nocow = root.find("target/nocow") is not None
    volume.cluster_size = _cluster_size(root)
    if root.find("target/features"):
        volume.compat = volume.compat or "1.1"
        volume.features = _features(root)
    return volume


def _size(root: Node, tag: str) -> int | None:
    """Return a size in bytes, None where it is not given.

    The words are the same for both tags.  Source: libvirt 9.0.0 virStorageSize.
    """
    return _scaled(root, tag, XML_LIMIT, "malformed capacity element")


def _cluster_size(root: Node) -> int | None:
    tag = "target/clusterSize"
    text = root.text_of(tag)
    refusal = f"Invalid value '{text}' for element or attribute './{tag}'"
    return _scaled(root, tag, COMMAND_LIMIT, refusal) or None


def _scaled(root: Node, tag: str, limit: int, refusal: str) -> int | None:
    """Return the bytes that a number and its unit are, None where there is none."""
    text = root.text_of(tag)
    if text is None:
        return None
    number = integer(text, 0, COMMAND_LIMIT)
    if number is None:
        raise XmlError(refusal)
    return scale(number, root.text_of(f"{tag}/@unit") or "", limit)


def _format(root: Node, path: str, row: PoolType) -> str | None:
    """Return a volume's format, None for pools whose volumes have none.

    `none` is a format that is shown but not asked for, except where it is the default.
    """
    if row.volume_default is None:
        return None
    name = root.text_of(path)
    if name is None or name == row.volume_default:
        return row.volume_default
    if name not in row.volume_formats or name == "none":
        raise ConfigUnsupported(
            f"unknown volume format type {name}",
            mistyped=Mistyped(name, lambda: set(row.volume_formats) - {"none"}),
        )
    return name


def _compat(text: str | None) -> str | None:
    """Return `N.M`.  libvirt lets blanks and signs pass, to be refused by qemu-img."""
    numbers = (text or "0.0").split(".")
    if len(numbers) != 2 or any(
        not part[:1].isdigit() or integer(part, 0, UINT_MAX) is None for part in numbers
    ):
        raise XmlError("forbidden characters in 'compat' attribute")
    return text


def _features(root: Node) -> tuple[str, ...]:
    asked = [node.local for node in root.findall("target/features/*")]
    for name in asked:
        if name not in FEATURES:
            raise ConfigUnsupported(f"unsupported feature {name}")
    return tuple(name for name in FEATURES if name in asked)


def _encryption(node: Node) -> Encryption:
    """Source: libvirt 9.0.0 virStorageEncryptionParseNode."""
    kind = node.get("format")
    if not kind:
        raise XmlError("unknown volume encryption format")
    if kind not in ENCRYPTION_FORMATS:
        raise ConfigUnsupported(f"unknown volume encryption format type {kind}")
    encryption = Encryption(kind, engine=choice(node, "engine", ("qemu", "librbd")))
    for secret in node.findall("secret"):
        use = secret.get("type")
        if not use:
            raise XmlError("unknown volume encryption secret type")
        if use != "passphrase":
            raise ConfigUnsupported(f"unknown volume encryption secret type {use}")
        encryption.secrets.append(Secret(use, *read_secret(secret)))
    if kind == "luks":
        encryption.cipher = _cipher(node)
    return encryption


def _cipher(node: Node) -> Cipher | None:
    cipher, ivgen = node.find("cipher"), node.find("ivgen")
    if cipher is None:
        if ivgen:
            raise XmlError("ivgen element found, but cipher is missing")
        return None
    name, size = cipher.get("name"), cipher.get("size")
    if name is None:
        raise XmlError("cipher info missing 'name' attribute")
    if size is None:
        raise missing_attribute(cipher, "size")
    bits = integer(size, 0, UINT_MAX)
    if bits is None:
        raise attribute_error(cipher, "size", " Expected non-negative integer value")
    found = Cipher(name, bits, mode=cipher.get("mode"), hash=cipher.get("hash"))
    if ivgen:
        found.ivgen, found.ivgen_hash = ivgen.get("name"), ivgen.get("hash")
        if found.ivgen is None:
            raise XmlError("missing ivgen info name string")
    return found


def format_volume(volume: Volume, row: PoolType) -> str:
    """Return a volume as the XML document that vol-dumpxml shows, with its final newline.

    Source: libvirt 9.0.0 virStorageVolDefFormat.
    """
    out = Writer()
    out.open("volume", {"type": volume.type})
    out.leaf("name", volume.name)
    out.leaf("key", volume.key or None)
    _write_extents(out, volume)
    out.leaf("capacity", volume.capacity, {"unit": "bytes"})
    out.leaf("allocation", volume.allocation, {"unit": "bytes"})
    out.leaf("physical", volume.physical or None, {"unit": "bytes"})
    out.open("target")
    _write_file(out, volume, row)
    if volume.encryption is not None:
        _write_encryption(out, volume.encryption)
    out.leaf("compat", volume.compat)
    out.leaf("clusterSize", volume.cluster_size or None, {"unit": "B"})
    if volume.features:
        out.open("features")
        for name in FEATURES:
            if name in volume.features:
                out.empty(name)
        out.close()
    elif volume.features is not None:
        out.empty("features")
    out.close()
    if volume.backing is not None:
        out.open("backingStore")
        _write_file(out, volume.backing, row)
        out.close()
    out.close()
    return out.document()


def _write_file(out: Writer, file: Volume | BackingStore, row: PoolType) -> None:
    out.leaf("path", file.path or None)
    if row.volume_default is not None:
        out.empty("format", {"type": file.format or row.volume_default})
    write_permissions(out, file.permissions)
    if file.timestamps is not None:
        _write_timestamps(out, file.timestamps)


def _write_extents(out: Writer, volume: Volume) -> None:
    """Write the extents, one <device> for each run on the same device."""
    if not volume.extents:
        return
    out.open("source")
    device = None
    for extent in volume.extents:
        if extent.device != device:
            if device is not None:
                out.close()
            device = extent.device
            out.open("device", {"path": device})
        out.empty("extent", {"start": extent.start, "end": extent.end})
    out.close()
    out.close()


def _write_timestamps(out: Writer, times: Timestamps) -> None:
    """Write the times; libvirt never learns a birth time on Linux."""
    out.open("timestamps")
    for tag, moment in (
        ("atime", times.atime_ns),
        ("mtime", times.mtime_ns),
        ("ctime", times.ctime_ns),
        ("btime", 0),
    ):
        seconds, rest = divmod(moment, BILLION)
        out.leaf(tag, f"{seconds}.{rest:09}" if rest else seconds)
    out.close()


def _write_encryption(out: Writer, encryption: Encryption) -> None:
    out.open("encryption", {"format": encryption.format, "engine": encryption.engine})
    for secret in encryption.secrets:
        out.empty("secret", {"type": secret.type, "uuid": secret.uuid, "usage": secret.usage})
    cipher = encryption.cipher
    if cipher is not None:
        out.empty(
            "cipher",
            {"name": cipher.name, "size": cipher.size, "mode": cipher.mode, "hash": cipher.hash},
        )
        if cipher.ivgen is not None:
            out.empty("ivgen", {"name": cipher.ivgen, "hash": cipher.ivgen_hash})
    out.close()
