"""What each pool type needs and has: data only, read by whoever asks "does this type ...?"."""

from __future__ import annotations

from storagectl.record import Row

FILE_FORMATS = (
    "none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd",
    "ploop", "cow", "qcow", "qcow2", "qed", "vmdk",
)  # fmt: skip
PARTITION_FORMATS = (
    "none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended",
)  # fmt: skip
FS_FORMATS = (
    "auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+", "xfs",
    "ocfs2", "vmfs",
)  # fmt: skip
TABLE_FORMATS = ("unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2")

# The parts of a source, each with the words libvirt uses when it is missing.
HOST = "host name"
DEVICE = "device name"
DIR = "path"
ADAPTER = "adapter"
NAME = "name"
INITIATOR = "initiator"


class PoolType(Row):
    """One pool type.

    `needs` are the parts of the source that a definition must have, `reads` those it
    may have besides; `module` is its file in storagectl/backends, None for a type
    that libvirt knows and we do not serve.  `target` None means that the definition
    must name one; otherwise it is derived, `{name}` being the source's name.
    `conflict` says what two pools may not share.  Formats are in libvirt's order; the
    defaults are those of a definition; `extra_pool_formats` are read and served though
    libvirt knows nothing of them.
    """

    name: str
    module: str | None
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    pool_formats: tuple[str, ...] = ()
    pool_default: str | None = None
    extra_pool_formats: tuple[str, ...] = ()
    volume_formats: tuple[str, ...] = ()
    volume_default: str | None = None
    target: str | None = None
    cow: bool = False
    mount_options: bool = False
    conflict: str = ""


# In libvirt's order: the place of a type here is its number there.
POOL_TYPES = {
    row.name: row
    for row in (
        PoolType(
            "dir", "directory",
            volume_formats=FILE_FORMATS, volume_default="raw",
            cow=True, conflict="target",
        ),
        PoolType(
            "fs", "filesystem", needs=(DEVICE,),
            pool_formats=FS_FORMATS, pool_default="auto", extra_pool_formats=("btrfs",),
            volume_formats=FILE_FORMATS, volume_default="raw",
            cow=True, mount_options=True, conflict="device",
        ),
        PoolType(
            "netfs", "netfs", needs=(HOST, DIR),
            pool_formats=("auto", "nfs", "glusterfs", "cifs"), pool_default="auto",
            volume_formats=FILE_FORMATS, volume_default="raw",
            mount_options=True, conflict="export",
        ),
        PoolType(
            "logical", "logical", reads=(NAME, DEVICE),
            pool_formats=("unknown", "lvm2"), pool_default="lvm2",
            target="/dev/{name}", conflict="device",
        ),
        PoolType(
            "disk", "disk", needs=(DEVICE,),
            pool_formats=TABLE_FORMATS, pool_default="unknown",
            volume_formats=PARTITION_FORMATS, volume_default="none",
            conflict="device",
        ),
        PoolType("iscsi", "iscsi", needs=(HOST,), reads=(DEVICE, INITIATOR), conflict="initiator"),
        PoolType("iscsi-direct", None),
        PoolType("scsi", "scsi", needs=(ADAPTER,), conflict="adapter"),
        PoolType("mpath", "mpath", conflict="type"),
        PoolType("rbd", None, volume_default="raw"),
        PoolType("sheepdog", None),
        PoolType("gluster", None, volume_formats=FILE_FORMATS, volume_default="raw"),
        PoolType("zfs", None),
        PoolType("vstorage", None, volume_formats=FILE_FORMATS, volume_default="raw"),
    )
}  # fmt: skip
