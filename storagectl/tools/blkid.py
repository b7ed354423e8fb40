"""What is on a device, by its magic numbers.

`wipefs` knows the same signatures as `blkid -p` (both are libblkid).  It is asked
because it lists all of them where blkid gives up on contradicting ones, and because it
fails on a device that can't be read where blkid says "nothing found".
"""

from __future__ import annotations

import json

from storagectl.errors import InternalError

# Names that libblkid gives to partition tables (2.38); anything else is a superblock.
TABLES = frozenset((
    "aix", "atari", "bsd", "dos", "gpt", "mac", "minix", "PMBR", "sgi", "solaris_x86", "sun",
    "ultrix", "unixware",
))  # fmt: skip


def signatures(device: str) -> list[str]:
    """List all signatures without touching any."""
    return ["wipefs", "--no-act", "--json", device]


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
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InternalError(f"cannot understand what wipefs printed: {text[:200]!r}") from error
    return sorted(dict.fromkeys(found), key=lambda name: name in TABLES)
