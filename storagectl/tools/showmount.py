"""Argument list and parser of showmount(8): what a file server exports."""

from __future__ import annotations

import re

from storagectl.tools.mount import address

LINE = re.compile(r"(/.*\S) +\S+")


def exports(host: str) -> list[str]:
    """Ask a server what it exports; it understands addresses without brackets only."""
    return ["showmount", "--no-headers", "--exports", address(host)]


def parse_exports(text: str) -> list[str]:
    """Return the exported folders, in the server's order.

    /srv/images  *
    /srv/a b     10.0.0.0/8,192.168.1.5
    /srv         (everyone)

    Source: nfs-utils 2.6.2; the expression is that of libvirt 9.0.0.
    """
    found = (LINE.fullmatch(line) for line in text.splitlines())
    return [match[1] for match in found if match]


def is_offered(folder: str, exports: list[str]) -> bool:
    """Tell whether a folder may be mounted: an export, what is in one, or what is above one.

    NFS 4 shows an export without the path of its root: /srv/nfs/images may be /images there.
    Source: exports(5), fsid=0.
    """
    parts = [part for part in folder.split("/") if part]
    heads = tuple(f"/{'/'.join(parts[:count])}" for count in range(1, len(parts) + 1))
    return (
        not heads
        or "/" in exports
        or any(export.endswith(heads) or export.startswith(f"{heads[-1]}/") for export in exports)
    )
