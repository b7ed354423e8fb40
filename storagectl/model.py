"""Pools and volumes as data.  All sizes are bytes unless a name says otherwise."""

from __future__ import annotations

from storagectl.record import Record, field


class Permissions(Record):
    """Owner, group and mode of a file; None where nothing is said."""

    mode: int | None = None
    owner: int | None = None
    group: int | None = None
    label: str | None = None

    def __bool__(self) -> bool:
        return any(part is not None for part in (self.mode, self.owner, self.group, self.label))


class Host(Record):
    """A server; port 0 means the default."""

    name: str
    port: int = 0


class Extent(Record):
    """A range of a device: bytes [start, end)."""

    start: int
    end: int


class Device(Record):
    """A source device of a pool; free extents are known for a running disk pool only."""

    path: str
    part_separator: str | None = None
    free_extents: list[Extent] = field(default_factory=list)


class PciAddress(Record):
    """The address of a SCSI host's parent."""

    domain: int
    bus: int
    slot: int
    function: int


class Adapter(Record):
    """A SCSI host, by name or parent address, or a Fibre Channel vHBA, by WWNs."""

    type: str
    name: str | None = None
    parent_address: PciAddress | None = None
    unique_id: int | None = None
    parent: str | None = None
    parent_wwnn: str | None = None
    parent_wwpn: str | None = None
    parent_fabric_wwn: str | None = None
    managed: str | None = None
    wwnn: str | None = None
    wwpn: str | None = None


class Auth(Record):
    """Who logs in, and which secret (by UUID or by usage) proves it."""

    type: str
    username: str
    secret_type: str | None = None
    secret_uuid: str | None = None
    secret_usage: str | None = None


class Source(Record):
    """Where a pool's storage comes from."""

    hosts: list[Host] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    dir: str | None = None
    adapter: Adapter | None = None
    name: str | None = None
    initiator: str | None = None
    format: str | None = None
    auth: Auth | None = None
    protocol_ver: str | None = None
    vendor: str | None = None
    product: str | None = None


class Pool(Record):
    """A pool's definition, and its sizes while it runs (0 otherwise)."""

    type: str
    name: str
    uuid: str
    source: Source = field(default_factory=Source)
    target: str = ""
    permissions: Permissions = field(default_factory=Permissions)
    cow: str | None = None
    refresh_allocation: str | None = None
    mount_options: list[str] = field(default_factory=list)
    capacity: int = 0
    allocation: int = 0
    available: int = 0


class SecretDefinition(Record):
    """A secret, without its value: what it is for, and who may see it.

    One that is ephemeral is never kept on disk, one that is private never shown.
    """

    uuid: str
    ephemeral: bool = False
    private: bool = False
    description: str | None = None
    usage_type: str | None = None
    usage: str | None = None


class Secret(Record):
    """A reference to a secret of an encrypted volume, by UUID or by usage."""

    type: str
    uuid: str | None = None
    usage: str | None = None


class Cipher(Record):
    """How LUKS encrypts; size is the key size in bits."""

    name: str
    size: int
    mode: str | None = None
    hash: str | None = None
    ivgen: str | None = None
    ivgen_hash: str | None = None


class Encryption(Record):
    """Encryption of a volume."""

    format: str
    engine: str | None = None
    secrets: list[Secret] = field(default_factory=list)
    cipher: Cipher | None = None


class Timestamps(Record):
    """Times of a file in nanoseconds since 1970."""

    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class BackingStore(Record):
    """The image that a volume reads from where it has no data of its own."""

    path: str
    format: str | None = None
    permissions: Permissions = field(default_factory=Permissions)
    timestamps: Timestamps | None = None


class SourceExtent(Record):
    """A range of a device, bytes [start, end), that a volume occupies."""

    device: str
    start: int
    end: int


class Volume(Record):
    """A volume.

    `type` is file, block or dir.  `format` is None for pools whose volumes have
    none.  `features` is None when the format has no feature list at all.  `data_files`
    are where an image says that its data is, if not in itself.  `allocation_given` is
    False in a definition that leaves the allocation to the capacity, `keeps_backing` True
    in that of a copy which is to have the backing store of its source.  `looks` are the states
    of the files of an image when what it leads to was looked at: see `images.look`.
    """

    name: str
    key: str = ""
    path: str = ""
    type: str = "file"
    capacity: int = 0
    allocation: int = 0
    physical: int = 0
    format: str | None = None
    permissions: Permissions = field(default_factory=Permissions)
    timestamps: Timestamps | None = None
    backing: BackingStore | None = None
    encryption: Encryption | None = None
    compat: str | None = None
    cluster_size: int | None = None
    features: tuple[str, ...] | None = None
    nocow: bool = False
    data_files: tuple[str, ...] = ()
    extents: list[SourceExtent] = field(default_factory=list)
    allocation_given: bool = True
    keeps_backing: bool = False
    looks: tuple[tuple[str, tuple[tuple[int, ...], ...]], ...] = ()
