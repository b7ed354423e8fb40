"""Pool definitions between XML and `model.Pool`, in libvirt 9.0.0's words and layout.

What a type needs and has comes from pooltypes; parts that a type doesn't have are
checked as libvirt checks them, and then dropped, since libvirt never shows them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    Mistyped,
    NoSupport,
    XmlError,
    XmlSyntaxError,
)
from storagectl.model import (
    Adapter,
    Auth,
    Device,
    Host,
    PciAddress,
    Permissions,
    Pool,
    Source,
)
from storagectl.pooltypes import (
    ADAPTER,
    DEVICE,
    DIR,
    HOST,
    INITIATOR,
    NAME,
    POOL_TYPES,
    PoolType,
)
from storagectl.xmltree import (
    BLANKS,
    DIGITS,
    Node,
    Writer,
    attribute_error,
    choice,
    control_character,
    expect_root,
    integer,
    missing_attribute,
    parse,
    plain,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOUNT_NAMESPACE = "http://libvirt.org/schemas/storagepool/fs/1.0"
NAME_LIMIT = 250
STAGED = ".storagectl-"
HEXADECIMAL = DIGITS[16]
YES_NO = ("yes", "no")
INT_MAX = 2**31 - 1
UINT_MAX = 2**32 - 1


def random_uuid() -> str:
    """Return a new version 4 UUID."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return dashed(raw.hex())


def dashed(digits: str) -> str:
    """Return 32 hexadecimal digits as a UUID is printed."""
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).lower()


def parse_uuid(text: str) -> str | None:
    """Return a UUID in its usual form, None where it is none.

    Dashes and blanks may stand between any two bytes, or be left out.
    Source: libvirt 9.0.0 virUUIDParse.
    """
    if len(text) == 36 and text[8] + text[13] + text[18] + text[23] == "----":
        plain = text.replace("-", "")
        if len(plain) == 32 and HEXADECIMAL.issuperset(plain):
            return text.lower()
    rest = text.strip(BLANKS)
    digits = ""
    while len(digits) < 32:
        rest = rest.lstrip("- ")
        if len(rest) < 2 or not HEXADECIMAL.issuperset(rest[:2]):
            return None
        digits += rest[:2]
        rest = rest[2:]
    return dashed(digits) if not rest else None


def sanitize(path: str) -> str:
    """Return a path without repeated and trailing slashes; two in front are kept.

    Source: libvirt 9.0.0 virFileSanitizePath.
    """
    if "://" in path:
        return path
    parts = [part for part in path.split("/") if part]
    slashes = len(path) - len(path.lstrip("/"))
    return "/" * (slashes if slashes <= 2 else 1) + "/".join(parts)


def check_name(name: str) -> None:
    """Raise XmlError for a pool name that libvirt refuses, or that is no file name of ours."""
    if not name:
        raise XmlError("missing pool source name element")
    if "/" in name:
        raise XmlError(f"name {name} cannot contain '/'")
    found = control_character(name)
    if found is not None:
        shown = "\n" if found == "\n" else f"0x{ord(found):02x}"
        raise XmlSyntaxError(f"invalid char in name: {shown}")
    if name in (".", "..") or name.startswith(STAGED):
        raise XmlError(f"name {name} cannot be used")
    if len(name.encode()) > NAME_LIMIT:
        raise XmlError(f"name {name} is longer than {NAME_LIMIT} bytes")


def parse_pool(
    text: bytes | str, *, new_uuid: Callable[[], str] = random_uuid, validated: bool = False
) -> Pool:
    """Return the pool that a document defines; `new_uuid` gives a missing UUID.

    With `validated` the document must be as the schema says.

    Sizes and free extents are not read.  A type that we do not serve is read as far as
    its row in POOL_TYPES goes: the caller refuses it.

    Raises: XmlError, XmlSyntaxError, SchemaError, ConfigUnsupported, NoSupport, InternalError.
    Source: libvirt 9.0.0 virStoragePoolDefParseXML, whose order of checks this keeps.
    """
    root = parse(text, "(storage_pool_definition)")
    expect_root(root, "pool")
    if validated:
        validate(text, "storagepool")
    return read_pool(root, new_uuid=new_uuid)


def read_pool(root: Node, *, new_uuid: Callable[[], str] = random_uuid) -> Pool:
    """Return what a <pool> element says, as `parse_pool` does."""
    kind = choice(root, "type", tuple(POOL_TYPES))
    if kind is None:
        raise missing_attribute(root, "type")
    row = POOL_TYPES[kind]

    node = root.find("source")
    source = read_source(node, row) if node else Source(format=row.pool_default)
    name = root.text_of("name") or (source.name if NAME in row.reads else None)
    check_name(name or "")
    assert name is not None
    given = root.text_of("uuid")
    uuid = parse_uuid(given) if given else new_uuid()
    if not uuid:
        raise XmlError("malformed uuid element")

    cow = _cow(root, row)
    if NAME in row.reads:
        source.name = source.name or name
        _check_source_name(source.name)
    _check_needs(source, row)
    _keep_only_own(source, row)
    target = _target(root, source, row)
    permissions = read_permissions(root.find("target/permissions"))
    refresh_allocation = root.text_of("refresh/volume/@allocation")
    if refresh_allocation not in (None, "default", "capacity"):
        raise ConfigUnsupported(
            f"unknown storage pool volume refresh allocation type {refresh_allocation}"
        )
    return Pool(
        type=kind,
        name=name,
        uuid=uuid,
        cow=cow,
        source=source,
        target=target,
        permissions=permissions,
        refresh_allocation=refresh_allocation,
        mount_options=_mount_options(root) if row.mount_options else [],
    )


def parse_source(text: bytes | str, row: PoolType) -> Source:
    """Return what a <source> document says.  Raises: as `parse_pool`."""
    root = parse(text, "(storage_source_specification)")
    expect_root(root, "source")
    return read_source(root, row)


def format_sources(sources: Iterable[Source], row: PoolType) -> str:
    """Return sources of one type as a <sources> document."""
    out = Writer()
    out.open("sources")
    for source in sources:
        write_source(out, source, row)
    out.close()
    return out.document()


def _mount_options(root: Node) -> list[str]:
    options = []
    for group in root.named(f"{{{MOUNT_NAMESPACE}}}mount_opts"):
        for node in group.named(f"{{{MOUNT_NAMESPACE}}}option"):
            option = plain(node, "name")
            if option is None:
                raise XmlError("no fs mount option name specified")
            options.append(option)
    return options


def _cow(root: Node, row: PoolType) -> str | None:
    node = root.find("features/cow")
    state = choice(node, "state", YES_NO) if node else None
    if state is not None and not row.cow:
        raise NoSupport("cow feature may only be used for 'fs' and 'dir' pools")
    return state


def _check_source_name(name: str) -> None:
    """Refuse a source name that would lead the path made of it, or a tool, elsewhere."""
    if "/" in name:
        raise XmlError(f"name {name} cannot contain '/'")
    if name in (".", "..") or name.startswith("-") or control_character(name) is not None:
        raise XmlError(f"name {name} cannot be used")


def _check_needs(source: Source, row: PoolType) -> None:
    given = {HOST: source.hosts, DIR: source.dir, ADAPTER: source.adapter, DEVICE: source.devices}
    for part in (HOST, DIR, ADAPTER, DEVICE):
        if part in row.needs and not given[part]:
            raise XmlError(f"missing storage pool source {part}")
    if ADAPTER in row.needs and source.adapter:
        _check_adapter(source.adapter)


def _keep_only_own(source: Source, row: PoolType) -> None:
    """Drop the parts of a source that its type does not have."""
    own = row.needs + row.reads
    if HOST not in own:
        source.hosts = []
    if DEVICE not in own:
        source.devices = []
    if DIR not in own:
        source.dir = None
    if ADAPTER not in own:
        source.adapter = None
    if NAME not in own:
        source.name = None
    if INITIATOR not in own:
        source.initiator = None


def _target(root: Node, source: Source, row: PoolType) -> str:
    if row.target is not None:
        return sanitize(row.target.format(name=source.name))
    path = root.text_of("target/path")
    if path is None and row.module is not None:
        raise XmlError("missing storage pool target path")
    return sanitize(path or "")


def read_permissions(node: Node | None) -> Permissions:
    """Return what a <permissions> element says; an owner or group of -1 is nothing.

    Source: libvirt 9.0.0 virStorageDefParsePerms.
    """
    if node is None:
        return Permissions()
    mode = node.text_of("mode")
    return Permissions(
        mode=_number(mode, 0o777, 8, "malformed octal mode") if mode else None,
        owner=_owner(node, "owner"),
        group=_owner(node, "group"),
        label=node.text_of("label"),
    )


def _number(text: str, high: int, base: int, problem: str) -> int:
    number = integer(text, 0, high, base)
    if number is None:
        raise XmlError(problem)
    return number


def _owner(node: Node, tag: str) -> int | None:
    if node.find(tag) is None:
        return None
    number = integer(node.text_of(tag) or "", -1, UINT_MAX)
    if number is None:
        raise XmlError(f"malformed {tag} element")
    return number if number not in (-1, UINT_MAX) else None


def read_source(node: Node, row: PoolType) -> Source:
    """Return what a <source> element says, whatever the type makes of it.

    Source: libvirt 9.0.0 virStoragePoolDefParseSource.
    """
    if not node.children:
        return Source(format=row.pool_default)
    source = Source(name=node.text_of("name"))
    if row.pool_formats:
        source.format = node.text_of("format/@type") or row.pool_default
        if source.format not in row.pool_formats + row.extra_pool_formats:
            raise ConfigUnsupported(
                f"unknown pool format type {source.format}",
                mistyped=Mistyped(source.format or "", lambda: row.pool_formats),
            )
    used = HOST in (*row.needs, *row.reads)
    source.hosts = [_host(host, used=used) for host in node.findall("host")]
    source.initiator = _initiator(node.find("initiator/iqn"))
    source.devices = [_device(device) for device in node.findall("device")]
    folder = _one_line(node, "dir", "path")
    source.dir = sanitize(folder) if folder else None
    adapter = node.find("adapter")
    source.adapter = _adapter(adapter) if adapter else None
    auth = node.find("auth")
    source.auth = _auth(auth) if auth else None
    source.protocol_ver = _protocol(_one_line(node, "protocol", "ver"), source, row)
    source.vendor = node.text_of("vendor/@name")
    source.product = node.text_of("product/@name")
    return source


def _host(node: Node, *, used: bool) -> Host:
    """Read a host; one that the pool type has no use for (`-` in scripts) may be anything."""
    name = plain(node, "name")
    if name is None:
        raise XmlError("missing storage pool host name")
    strange = not name or name.startswith("-") or any(c in ",/" or c.isspace() for c in name)
    if used and strange:
        raise attribute_error(node, "name")
    port = node.get("port")
    number = integer(port, -INT_MAX - 1, INT_MAX) if port is not None else 0
    if number is None:
        raise attribute_error(node, "port", " Expected integer value")
    return Host(name, number)


def _initiator(node: Node | None) -> str | None:
    name = plain(node, "name") if node else None
    if node and name and (name.startswith("-") or " " in name):
        raise attribute_error(node, "name")
    return name or None


def _device(node: Node) -> Device:
    path = node.get("path")
    if path is None:
        raise XmlError("missing storage pool source device path")
    return Device(path, part_separator=choice(node, "part_separator", YES_NO))


def _adapter(node: Node) -> Adapter | None:
    """Source: libvirt 9.0.0 virStorageAdapterParseXML; the old form without type is kept."""
    kind = choice(node, "type", ("scsi_host", "fc_host"))
    name = plain(node, "name")
    if kind is None:
        if any(node.get(key) is not None for key in ("wwnn", "wwpn", "parent")):
            raise XmlError(
                "Use of 'wwnn', 'wwpn', and 'parent' attributes requires use of the adapter 'type'"
            )
        if node.find("parentaddr"):
            raise XmlError("Use of 'parentaddr' element requires use of the adapter 'type'")
        return Adapter("scsi_host", name=name) if name is not None else None
    if kind == "fc_host":
        return Adapter(
            kind,
            managed=choice(node, "managed", YES_NO),
            parent=plain(node, "parent"),
            parent_wwnn=node.get("parent_wwnn"),
            parent_wwpn=node.get("parent_wwpn"),
            parent_fabric_wwn=node.get("parent_fabric_wwn"),
            wwnn=node.get("wwnn"),
            wwpn=node.get("wwpn"),
        )
    adapter = Adapter(kind, name=name)
    if node.find("parentaddr"):
        address = node.find("parentaddr/address")
        if address is None:
            raise XmlError("Missing scsi_host PCI address element")
        adapter.parent_address = _pci_address(address)
        unique_id = node.text_of("parentaddr/@unique_id") or ""
        adapter.unique_id = _number(
            unique_id, INT_MAX, 10, "Missing or invalid scsi adapter 'unique_id' value"
        )
    return adapter


def _pci_address(node: Node) -> PciAddress:
    parts = []
    for key in ("domain", "bus", "slot", "function"):
        text = node.get(key)
        number = integer(text, 0, UINT_MAX, base=0) if text is not None else 0
        if number is None:
            raise attribute_error(node, key, " Expected non-negative integer value")
        parts.append(number)
    choice(node, "multifunction", ("on", "off"))
    for key, number, limit in (("bus", parts[1], 0xFF), ("slot", parts[2], 0x1F)):
        if number > limit:
            raise XmlError(f"Invalid PCI address {key}='{number:#x}', must be <= 0x{limit:X}")
    if parts[3] > 7 and any(parts[:3]):  # as in libvirt, which takes 0:0:0 for no address
        raise XmlError(f"Invalid PCI address function={parts[3]:#x}, must be <= 7")
    return PciAddress(*parts)


def _check_adapter(adapter: Adapter) -> None:
    """Source: libvirt 9.0.0 virStorageAdapterValidate."""
    if adapter.type == "scsi_host":
        if adapter.name is None and adapter.parent_address is None:
            raise XmlError(
                "Either 'name' or 'parent' must be specified for the 'scsi_host' adapter"
            )
        if adapter.name is not None and adapter.parent_address is not None:
            raise XmlError(
                "Both 'name' and 'parent' cannot be specified for the 'scsi_host' adapter"
            )
        return
    if adapter.wwnn is None or adapter.wwpn is None:
        raise XmlError("'wwnn' and 'wwpn' must be specified for adapter type 'fchost'")
    _check_wwns(adapter.wwnn, adapter.wwpn)
    given, other = adapter.parent_wwnn, adapter.parent_wwpn
    if given is not None and other is None:
        raise XmlError(
            f"when providing parent_wwnn='{given}', the parent_wwpn must also be provided"
        )
    if given is None and other is not None:
        raise XmlError(
            f"when providing parent_wwpn='{other}', the parent_wwnn must also be provided"
        )
    _check_wwns(given, other, adapter.parent_fabric_wwn)


def _check_wwns(*names: str | None) -> None:
    for name in names:
        if name is not None and (len(name) != 16 or not HEXADECIMAL.issuperset(name)):
            raise InternalError(f"Malformed wwn: {name}")


def _auth(node: Node) -> Auth:
    """Source: libvirt 9.0.0 virStorageAuthDefParse."""
    username = plain(node, "username")
    if not username:
        raise XmlError("missing username for auth")
    kind = node.get("type") or "none"
    if kind not in ("none", "chap", "ceph"):
        raise ConfigUnsupported(f"unknown auth type '{kind}'")
    secret = node.find("secret")
    if secret is None:
        raise XmlError("Missing <secret> element in auth")
    uuid, usage = read_secret(secret)
    if kind == "none":
        raise ConfigUnsupported("storage pool missing auth type")
    return Auth(kind, username, plain(secret, "type"), uuid, usage)


def read_secret(node: Node) -> tuple[str | None, str | None]:
    """Return the UUID or the usage of a <secret>.

    Source: libvirt 9.0.0 virSecretLookupParseSecret.
    """
    uuid, usage = node.get("uuid"), plain(node, "usage")
    if uuid is None and usage is None:
        raise XmlError("missing secret uuid or usage attribute")
    if uuid is None:
        return None, usage
    if usage is not None:
        raise XmlError("either secret uuid or usage expected")
    parsed = parse_uuid(uuid)
    if parsed is None:
        raise XmlError(f"invalid secret uuid '{uuid}'")
    return parsed, None


def _one_line(node: Node, tag: str, attribute: str) -> str | None:
    """Return the attribute of the first child that has it.  Raises: XmlError as `plain` does."""
    value = node.text_of(f"{tag}/@{attribute}")
    if value is not None and control_character(value) is not None:
        raise XmlError(f"Invalid value for attribute '{attribute}' in element '{tag}': '{value}'.")
    return value


def _protocol(version: str | None, source: Source, row: PoolType) -> str | None:
    """Return the NFS version.

    libvirt compares the place of the pool's format in its own list with those of nfs
    and auto in the list of netfs, and takes the name in its refusal from there too.
    """
    if version is None:
        return None
    formats = row.pool_formats + row.extra_pool_formats
    place = formats.index(source.format) if source.format else 0
    names = POOL_TYPES["netfs"].pool_formats
    if place > names.index("nfs"):
        shown = names[place] if place < len(names) else "(null)"
        raise ConfigUnsupported(f"storage pool protocol ver unsupported for pool type '{shown}'")
    if "," in version:
        raise XmlSyntaxError(f"storage pool protocol ver '{version}' must not contain ','")
    return version


def format_pool(pool: Pool) -> str:
    """Return a pool as the XML document that pool-dumpxml shows, with its final newline.

    Source: libvirt 9.0.0 virStoragePoolDefFormatBuf.
    """
    row = POOL_TYPES[pool.type]
    out = Writer()
    out.open(
        "pool",
        {"type": pool.type, "xmlns:fs": MOUNT_NAMESPACE if pool.mount_options else None},
    )
    out.leaf("name", pool.name)
    out.leaf("uuid", pool.uuid)
    for tag, size in (
        ("capacity", pool.capacity),
        ("allocation", pool.allocation),
        ("available", pool.available),
    ):
        out.leaf(tag, size, {"unit": "bytes"})
    if pool.cow is not None:
        out.open("features")
        out.empty("cow", {"state": pool.cow})
        out.close()
    write_source(out, pool.source, row)
    if pool.target:
        out.open("target")
        out.leaf("path", pool.target)
        write_permissions(out, pool.permissions)
        out.close()
    if pool.refresh_allocation is not None:
        out.open("refresh")
        out.empty("volume", {"allocation": pool.refresh_allocation})
        out.close()
    if pool.mount_options:
        out.open("fs:mount_opts")
        for option in pool.mount_options:
            out.empty("fs:option", {"name": option})
        out.close()
    out.close()
    return out.document()


def write_source(out: Writer, source: Source, row: PoolType) -> None:
    """Write the <source> of a type.  Source: libvirt 9.0.0 virStoragePoolSourceFormat."""
    own = row.needs + row.reads
    out.open("source")
    if HOST in own:
        for host in source.hosts:
            out.empty("host", {"name": host.name, "port": host.port or None})
    if DEVICE in own:
        for device in source.devices:
            _write_device(out, device)
    if DIR in own and source.dir is not None:
        out.empty("dir", {"path": source.dir})
    if ADAPTER in own and source.adapter is not None:
        _write_adapter(out, source.adapter)
    if NAME in own:
        out.leaf("name", source.name)
    if INITIATOR in own and source.initiator is not None:
        out.open("initiator")
        out.empty("iqn", {"name": source.initiator})
        out.close()
    if source.format is not None:
        out.empty("format", {"type": source.format})
    if source.auth is not None:
        auth = source.auth
        out.open("auth", {"type": auth.type, "username": auth.username})
        out.empty(
            "secret",
            {"type": auth.secret_type, "uuid": auth.secret_uuid, "usage": auth.secret_usage},
        )
        out.close()
    if source.protocol_ver is not None:
        out.empty("protocol", {"ver": source.protocol_ver})
    if source.vendor is not None:
        out.empty("vendor", {"name": source.vendor})
    if source.product is not None:
        out.empty("product", {"name": source.product})
    out.close()


def _write_device(out: Writer, device: Device) -> None:
    attributes = {"path": device.path, "part_separator": device.part_separator}
    if not device.free_extents:
        out.empty("device", attributes)
        return
    out.open("device", attributes)
    for extent in device.free_extents:
        out.empty("freeExtent", {"start": extent.start, "end": extent.end})
    out.close()


def _write_adapter(out: Writer, adapter: Adapter) -> None:
    address = adapter.parent_address
    attributes = {
        "type": adapter.type,
        "name": adapter.name,
        "parent": adapter.parent,
        "parent_wwnn": adapter.parent_wwnn,
        "parent_wwpn": adapter.parent_wwpn,
        "parent_fabric_wwn": adapter.parent_fabric_wwn,
        "managed": adapter.managed,
        "wwnn": adapter.wwnn,
        "wwpn": adapter.wwpn,
    }
    if address is None:
        out.empty("adapter", attributes)
        return
    out.open("adapter", attributes)
    out.open("parentaddr", {"unique_id": adapter.unique_id})
    out.empty(
        "address",
        {
            "domain": f"0x{address.domain:04x}",
            "bus": f"0x{address.bus:02x}",
            "slot": f"0x{address.slot:02x}",
            "function": f"0x{address.function:x}",
        },
    )
    out.close()
    out.close()


def write_permissions(out: Writer, permissions: Permissions) -> None:
    """Write <permissions>, or nothing where nothing is known.

    libvirt writes an owner above 2^31 as a negative number, which it then can't read.
    """
    if not permissions:
        return
    out.open("permissions")
    if permissions.mode is not None:
        out.leaf("mode", f"0{permissions.mode:o}")
    out.leaf("owner", permissions.owner)
    out.leaf("group", permissions.group)
    out.leaf("label", permissions.label)
    out.close()
