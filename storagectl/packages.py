"""Which package brings a tool on which distribution, and what installs it.  Data only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import StorageError
from storagectl.host.commands import PACKAGES

if TYPE_CHECKING:
    from storagectl.host import Host

OS_RELEASE = "/etc/os-release"


class Distribution(NamedTuple):
    """A family of distributions.

    `ids` are its names in os-release(5), `others` the packages whose names are not Debian's.
    """

    name: str
    ids: tuple[str, ...]
    install: tuple[str, ...]
    others: dict[str, str]


DISTRIBUTIONS = (
    Distribution("Debian", ("debian", "ubuntu"), ("apt-get", "install"), {}),
    Distribution(
        "Fedora",
        ("fedora", "rhel", "centos"),
        ("dnf", "install"),
        {
            "dmsetup": "device-mapper",
            "glusterfs-client": "glusterfs-fuse",
            "mount": "util-linux",
            "nfs-common": "nfs-utils",
            "open-iscsi": "iscsi-initiator-utils",
            "qemu-utils": "qemu-img",
            "udev": "systemd-udev",
        },
    ),
    Distribution(
        "Arch",
        ("arch",),
        ("pacman", "-S"),
        {
            "dmsetup": "device-mapper",
            "glusterfs-client": "glusterfs",
            "mount": "util-linux",
            "nfs-common": "nfs-utils",
            "qemu-utils": "qemu-img",
            "udev": "systemd",
        },
    ),
    Distribution(
        "SUSE",
        ("suse", "opensuse"),
        ("zypper", "install"),
        {
            "btrfs-progs": "btrfsprogs",
            "dmsetup": "device-mapper",
            "glusterfs-client": "glusterfs",
            "mount": "util-linux",
            "nfs-common": "nfs-client",
            "qemu-utils": "qemu-img",
        },
    ),
)


def package(tool: str, distribution: Distribution) -> str | None:
    """Return the package of a tool, None where nobody has noted it."""
    name = PACKAGES.get(tool)
    return None if name is None else distribution.others.get(name, name)


def everywhere(tool: str) -> str:
    """Return the package of a tool on each distribution, in words."""
    found = [(one.name, package(tool, one)) for one in DISTRIBUTIONS]
    return ", ".join(f"{name}: {brings}" for name, brings in found if brings is not None)


def here(host: Host) -> Distribution | None:
    """Return the distribution of this machine.  Source: os-release(5), ID and ID_LIKE."""
    try:
        text = host.read_text(OS_RELEASE)
    except StorageError:
        return None
    ids: list[str] = []
    for name in ("ID", "ID_LIKE"):
        for found in re.finditer(rf"^{name}=[\"']?([^\"'\n]*)", text, re.M):
            ids += found[1].lower().split()
    for word in ids:
        for one in DISTRIBUTIONS:
            if any(word == known or word.startswith(f"{known}-") for known in one.ids):
                return one
    return None


def install(tool: str, host: Host) -> tuple[str, ...]:
    """Return the command that installs a tool; without the distribution, Debian's."""
    distribution = here(host) or DISTRIBUTIONS[0]
    brings = package(tool, distribution)
    return (*distribution.install, brings) if brings is not None else ()
