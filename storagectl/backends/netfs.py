"""Pools on a file server's export, mounted while the pool runs."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl.backends import Needs, Port
from storagectl.backends.filesystem import Mounted
from storagectl.errors import (
    ConfigUnsupported,
    InvalidArgument,
    OperationFailed,
    ToolFailed,
    ToolTimeout,
)
from storagectl.host.files import acting_as
from storagectl.model import Host as Server
from storagectl.model import Source
from storagectl.tools import mount, showmount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends.troubles import Trouble
    from storagectl.host import Host
    from storagectl.model import Volume
    from storagectl.tools.blockdev import Mount

HELPERS = {"auto": "mount.nfs"}
ASK_LIMIT_S = 15.0
# Source: IANA's registry of port numbers; glusterd(8).
PORTS = {"cifs": 445, "glusterfs": 24007}
NFS_PORT = 2049
NFS = (None, "auto", "nfs")


def find_exports(host: Host, asked: Source) -> list[Source]:
    """Return what an NFS server exports.

    Raises: OperationFailed, in libvirt's words, also for a server that can't be asked.
    """
    server = asked.hosts[0]
    why = ""
    folders: list[str] = []
    try:
        folders = showmount.parse_exports(
            host.query(
                showmount.exports(server.name), limit_s=host.limits.get("discovery", ASK_LIMIT_S)
            )
        )
    except ToolTimeout as error:
        why = error.detail
    except ToolFailed as error:
        why = error.stderr.strip()
    if not folders:
        raise OperationFailed(f"no storage pools were found on host '{server.name}'", hint=why)
    return [Source(hosts=[Server(server.name)], dir=folder, format="nfs") for folder in folders]


class NetworkFileSystem(Mounted):
    """An export that is mounted at the target while the pool runs."""

    mount_limit_s = 30.0
    umount_limit_s = 20.0
    as_owner = True
    find_sources = staticmethod(find_exports)

    @property
    def export(self) -> str:
        source = self.pool.source
        assert source.dir is not None
        return mount.export(source.hosts[0].name, source.dir, source.format)

    def needs(self) -> Needs:
        format = self.pool.source.format or "auto"
        helper = HELPERS.get(format, f"mount.{format}")
        port = PORTS.get(format, NFS_PORT)
        servers = ((mount.address(host.name), host.port) for host in self.pool.source.hosts)
        ports = (Port(name, own or port, self._ask(name, format)) for name, own in servers)
        needs = super().needs()
        return needs._replace(tools=(*needs.tools, helper), ports=tuple(ports))

    def _ask(self, server: str, format: str) -> tuple[str, ...]:
        """Return what shows what a server has."""
        if format == "cifs":
            return ("smbclient", "-N", "-L", server)
        if format == "glusterfs":
            return ("gluster", f"--remote-host={server}", "volume", "info")
        return tuple(showmount.exports(server))

    def unoffered(self) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        if self.pool.source.format in NFS:
            yield from troubles.of_export(self)

    def is_source(self, mount: Mount) -> bool:
        return mount.source == self.export

    def mount_command(self) -> list[str]:
        source = self.pool.source
        if len(source.hosts) != 1:
            raise ConfigUnsupported("expected exactly 1 host for the storage pool")
        assert source.dir is not None
        assert source.format is not None
        if source.format == "glusterfs" and not is_one_word(source.dir):
            # mount.glusterfs is a script that splits it
            raise InvalidArgument(f"source path '{source.dir}' is no glusterfs volume")
        self.host.find_tool(HELPERS.get(source.format, f"mount.{source.format}"))
        return mount.mount_export(
            source.hosts[0].name,
            source.dir,
            self.pool.target,
            source.format,
            source.protocol_ver,
            self.pool.mount_options,
        )

    def start(self) -> None:
        try:
            super().start()
        except ToolTimeout as error:
            error.hint = f"does '{self.pool.source.hosts[0].name}' answer?"
            raise

    def kept_when_stopped(self) -> str:
        return f"the files on {self.export}"

    def stop(self) -> None:
        try:
            super().stop()
            return
        except ToolTimeout:
            if not self.is_active():
                return
        try:
            self._unmount(mount.umount(self.pool.target, away=True))
        except ToolTimeout as error:
            if self.is_active():
                error.hint = self._advice()
                raise

    def _advice(self) -> str:
        return (
            f"wait for '{self.pool.source.hosts[0].name}', or give up what is not written yet:"
            f" umount -f -l {self.pool.target}"
        )

    def delete_volume(self, volume: Volume) -> None:
        with self._as_owner(volume, self.pool.target):
            super().delete_volume(volume)

    def resize_volume(self, volume: Volume, capacity: int, *, allocate: bool, shrink: bool) -> None:
        with self._as_owner(volume, volume.path):
            super().resize_volume(volume, capacity, allocate=allocate, shrink=shrink)

    @contextlib.contextmanager
    def _as_owner(self, volume: Volume, place: str) -> Iterator[None]:
        """Act as a volume's owner where the server does not let us write to `place`."""
        owner = volume.permissions
        if os.access(place, os.W_OK, effective_ids=True):
            yield
            return
        with acting_as(owner.owner, owner.group):
            yield


def is_one_word(text: str) -> bool:
    """Tell whether a shell leaves a text as it is."""
    return not any(character.isspace() or character in "*?[]\\" for character in text)


BACKENDS = {"netfs": NetworkFileSystem}
