"""Argument lists of mount(8) and umount(8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The exit status of both for a failure.
FAILED = 32

# File systems that one driver of the kernel mounts.
FAMILIES = ({"ext2", "ext3", "ext4"}, {"xfs"}, {"btrfs"}, {"vfat"})

# A guest's disk is not trusted: nothing on it may run or be a device (virsh does the same).
SAFE_OPTIONS = ("nodev", "nosuid", "noexec")

# The kernel's names where libvirt has others.
KERNEL_TYPES = {"hfs+": "hfsplus"}


def failure(why: str) -> str:
    """Return what mount(8) prints when the kernel refuses.  Source: util-linux 2.38."""
    return (
        f"mount: {why}.\n"
        "       dmesg(1) may have more information after failed mount system call.\n"
    )


def may_be(type: str | None, found: Sequence[str]) -> bool:
    """Tell whether a file system of a type may be mounted from what libblkid has found."""
    family = next((family for family in FAMILIES if type in family), None)
    return family is None or not family.isdisjoint(found)


def mount(source: str, target: str, type: str | None, options: Sequence[str] = ()) -> list[str]:
    """Mount a device or export; None as the type leaves it to mount."""
    argv = ["mount", "-o", ",".join((*SAFE_OPTIONS, *options))]
    if type is not None:
        argv += ["-t", KERNEL_TYPES.get(type, type)]
    return [*argv, *guard(source, target), source, target]


def mount_export(
    host: str,
    folder: str,
    target: str,
    type: str | None,
    version: str | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """Mount what a file server exports.

    Without retry=0, mount.nfs tries a server that is gone for two minutes.
    Source: nfs(5); libvirt 9.0.0 virStorageBackendFileSystemMountCmd for the rest.
    """
    own = []
    if type in ("auto", "nfs"):
        own = [*([f"nfsvers={version}"] if version else []), "retry=0"]
    elif type == "cifs":
        own = ["guest"]
    elif type == "glusterfs":
        own = ["direct-io-mode=1"]
    kind = None if type == "auto" else type
    return mount(export(host, folder, type), target, kind, (*own, *options))


def export(host: str, folder: str, type: str | None) -> str:
    """Return what is mounted: HOST:FOLDER, //HOST/SHARE for cifs.

    An IPv6 address stands in brackets for NFS alone, given with them or not.
    Source: nfs(5); resolve_host.c of cifs-utils; mount.glusterfs, a script that takes none.
    """
    host = address(host)
    if type == "cifs":
        return f"//{host}/{folder.lstrip('/')}"
    if ":" in host and type != "glusterfs":
        host = f"[{host}]"
    return f"{host}:{folder}"


def address(host: str) -> str:
    """Return a server's name or address, an IPv6 one without the brackets it may be given in."""
    return host.removeprefix("[").removesuffix("]")


def umount(target: str, *, away: bool = False) -> list[str]:
    """Unmount what is mounted at a folder.

    When a file server is `away`, umount is not to look at the folder: it would wait with it.
    """
    quickly = ["--internal-only", "--no-canonicalize"] if away else []
    return ["umount", *quickly, *guard(target), target]


def guard(*words: str) -> list[str]:
    """Return what keeps words from being read as options."""
    return ["--"] if any(word.startswith("-") for word in words) else []
