"""What is on a device, by its magic numbers.

`wipefs` knows the same signatures as `blkid -p` (both are libblkid).  It is asked
because it lists all of them where blkid gives up on contradicting ones, and because it
fails on a device that can't be read where blkid says "nothing found".
"""

from __future__ import annotations

import json

from storagectl.errors import InternalError
from storagectl.tools import RUBBISH

# Names that libblkid gives to partition tables (2.38); anything else is a superblock.
TABLES = frozenset((
    "aix", "atari", "bsd", "dos", "gpt", "mac", "minix", "PMBR", "sgi", "solaris_x86", "sun",
    "ultrix", "unixware",
))  # fmt: skip

# What it calls a file system where a pool's format has another name.
SUPERBLOCKS = {"hfs+": "hfsplus", "vmfs": "VMFS"}

# What libblkid tells a content by: of a superblock or PV, of a table, of a partition in one.
IDENTITIES = ("UUID", "PTUUID", "PART_ENTRY_UUID")


def superblock(format: str | None) -> str | None:
    """Return libblkid's name of a pool's format."""
    return SUPERBLOCKS.get(format or "", format)


def signatures(device: str) -> list[str]:
    """List all signatures without touching any."""
    return ["wipefs", "--no-act", "--json", device]


def partition_type(device: str) -> list[str]:
    """Show the type of a partition, a GUID or `0xef`; status 2 for what is none."""
    return ["blkid", "--probe", "--match-tag", "PART_ENTRY_TYPE", "--output", "value", device]


def identity(device: str) -> list[str]:
    """Show what tells the content of a device from others; status 2 where it has no such thing.

    A cache is not asked, and the device alone is looked at.
    """
    tags = (word for tag in IDENTITIES for word in ("--match-tag", tag))
    return ["blkid", "--probe", *tags, "--output", "export", device]


def parse_identity(text: str) -> dict[str, str]:
    r"""Parse what `blkid --output export` printed.

    DEVNAME=/dev/loop0p1
    UUID=0c0f2ad2-7b87-4c48-8d5c-2a4d3f0a1f5e
    PART_ENTRY_UUID=5b1e9a4e-01

    Source: blkid of util-linux 2.38.1.
    """
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in pairs if name in IDENTITIES and value}


def parse_signatures(text: str) -> list[str]:
    """Return the types found: superblocks first, then partition tables, each once.

    {
       "signatures": [
          {
             "device": "loop0",
             "offset": "0x438",
             "type": "ext4",
    Source: wipefs of util-linux 2.38.1.
    """
    if not text.strip():
        return []
    try:
        found = [str(entry["type"]) for entry in json.loads(text, strict=False)["signatures"]]
    except RUBBISH as error:
        raise InternalError(f"cannot understand what wipefs printed: {text[:200]!r}") from error
    return sorted(dict.fromkeys(found), key=lambda name: name in TABLES)
