"""iSCSI pools: a target that is logged in to; its LUNs are the volumes.

Sessions are read from sysfs, iscsiadm makes and ends them.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from storagectl.backends import Needs, Port, devices
from storagectl.backends.scsi import Luns
from storagectl.errors import (
    ConfigUnsupported,
    InvalidArgument,
    OperationFailed,
    StorageError,
    XmlError,
)
from storagectl.model import Device, Source
from storagectl.model import Host as Server
from storagectl.tools import iscsiadm
from storagectl.xmltree import control_character

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends.troubles import Trouble
    from storagectl.host import Host
    from storagectl.model import Auth, Pool

REACH_S = 10.0
DISCOVERY_LIMIT_S = 30.0

# iscsid gives up by itself after the tries of a record, each of 15 s: by default 8, here fewer.
# Ended any earlier it would go on trying.
LOGIN_TRIES = 2
LOGIN_LIMIT_S = 150.0

INTERFACE_PREFIX = "storagectl-iface-"


def find_targets(host: Host, asked: Source) -> list[Source]:
    """Return the targets at a portal, as an initiator that there is an interface for.

    Source: libvirt 9.0.0 virStorageBackendISCSIFindPoolSources.
    """
    server = asked.hosts[0]
    port = server.port or iscsiadm.DEFAULT_PORT
    interface = None
    if asked.initiator is not None:
        known = iscsiadm.parse_interfaces(host.query(iscsiadm.interfaces()))
        interface = known.get(asked.initiator)
        if interface is None:
            raise OperationFailed(f"no iSCSI interface defined for IQN {asked.initiator}")
    discover = iscsiadm.discover(f"{iscsiadm.portal(server.name, port)},1", interface)
    found = iscsiadm.parse_targets(
        host.query(discover, limit_s=host.limits.get("discovery", DISCOVERY_LIMIT_S))
    )
    place = [Server(server.name, port)]
    return [Source(hosts=place, devices=[Device(target)]) for target in found]


class Session(NamedTuple):
    """A session: its number, and how the SCSI addresses of its LUNs begin."""

    number: int
    address: str


class Iscsi(Luns):
    """A session with one target at one portal."""

    find_sources = staticmethod(find_targets)

    def require_source(self) -> None:
        """Raise where the definition does not name one target at one host.

        Source: libvirt 9.0.0 virStorageBackendISCSIStartPool.
        """
        source = self.pool.source
        if len(source.hosts) != 1:
            raise ConfigUnsupported("Expected exactly 1 host for the storage pool")
        if len(source.devices) != 1 or not source.devices[0].path:
            raise ConfigUnsupported("missing source device")
        for name in filter(None, (source.devices[0].path, source.initiator)):
            if iscsiadm.NAME.fullmatch(name) is None:
                raise InvalidArgument(f"'{name}' is not an iSCSI name")
        if source.auth is not None and source.auth.type != "chap":
            raise XmlError("iscsi pool only supports 'chap' auth type")

    @property
    def target(self) -> str:
        return self.pool.source.devices[0].path

    @property
    def place(self) -> tuple[str, int]:
        """The portal's host and port."""
        host = self.pool.source.hosts[0]
        return host.name, host.port or iscsiadm.DEFAULT_PORT

    def needs(self) -> Needs:
        default = iscsiadm.DEFAULT_PORT
        places = [(host.name, host.port or default) for host in self.pool.source.hosts]
        ports = (
            Port(name, port, tuple(iscsiadm.discover(iscsiadm.portal(name, port))))
            for name, port in places
        )
        return Needs(tools=("iscsiadm",), ports=tuple(ports))

    def troubles(self, *, active: bool) -> Iterator[Trouble]:
        from storagectl.backends import troubles

        yield from troubles.of_target(self)

    def settled(self) -> Pool:
        runs = self.host.expects(self.target) or self.is_active()
        return self.settled_as(self.pool) if runs else self.pool

    def settled_as(self, config: Pool) -> Pool:
        source = self.pool.source
        places = [host.replace(port=host.port or iscsiadm.DEFAULT_PORT) for host in source.hosts]
        return self.pool.replace(source=source.replace(hosts=places))

    # Sessions

    def _session(self) -> Session | None:
        """Return the session with the pool's target at its portal, as its initiator."""
        folder = f"{devices.SYS}/class/iscsi_session"
        for name in devices.listing(folder):
            place = f"{folder}/{name}"
            number = name.removeprefix("session")
            if devices.read_line(f"{place}/targetname") != self.target:
                continue
            if not self._is_by_initiator(place) or not self._is_at_portal(number):
                continue
            host = os.path.realpath(f"{place}/device").split("/host")[-1].partition("/")[0]
            below = (n for n in devices.listing(f"{place}/device") if n.startswith("target"))
            channel = next(below, f"target{host}:0:0").removeprefix("target")
            return Session(int(number), f"{channel}:")
        return None

    def _is_by_initiator(self, session: str) -> bool:
        """Tell whether a session is the pool's initiator's, by default the host's own.

        The default interface is the host's own, whatever its name was at the login; no pool with
        an initiator uses it.
        """
        name = devices.read_line(f"{session}/initiatorname")
        initiator = self.pool.source.initiator
        if initiator:
            return name == initiator
        own = devices.read_line(f"{session}/ifacename") == "default"
        return own or self.own_initiator() in (None, name)

    def own_initiator(self) -> str | None:
        """Return the name by which the host logs in unless an interface has another."""
        try:
            return iscsiadm.parse_initiator(self.host.read_text(iscsiadm.INITIATOR))
        except StorageError:
            return None

    def _is_at_portal(self, session: str) -> bool:
        """Tell whether a session is with the pool's portal, whichever name or spelling that has."""
        name, port = self.place
        for place in self._connections(session):
            given = devices.read_line(f"{place}/persistent_address")
            if devices.read_line(f"{place}/persistent_port") != str(port):
                continue
            if given == name:
                return True
            used = {plain(given), plain(devices.read_line(f"{place}/address"))}
            if not used.isdisjoint(map(plain, (name, *self.host.addresses(name)))):
                return True
        return False

    def _connections(self, session: str) -> Iterator[str]:
        folder = f"{devices.SYS}/class/iscsi_connection"
        for name in devices.listing(folder):
            if name.startswith(f"connection{session}:"):
                yield f"{folder}/{name}"

    def _require_session(self) -> Session:
        session = self._session()
        if session is None:
            raise OperationFailed(f"there is no session with target '{self.target}'")
        return session

    def address(self) -> str:
        return self._require_session().address

    def scan(self) -> None:
        self.host.change(iscsiadm.session(self._require_session().number, "-R"))

    def is_active(self) -> bool:
        with contextlib.suppress(StorageError):
            self.require_source()
            return self._session() is not None
        return False

    # Logging in and out

    def start(self) -> None:
        self.require_source()
        if self._session() is not None:
            self.find_new()
            return
        self._log_in()
        if self.host.expect(self.target):
            devices.settle(self.host)
            return
        try:
            self.find_new()
        except BaseException:
            with contextlib.suppress(StorageError):
                self.stop()
            raise

    def _log_in(self) -> None:
        """Log in; a record and an interface that were made for it go when that fails."""
        auth = self.pool.source.auth
        password = self._password(auth) if auth is not None else ""
        self.host.require_reachable(*self.place, REACH_S)
        with contextlib.ExitStack() as made:
            interface = self._interface(made)
            portal = self._portal(interface)
            if portal is None:
                portal = f"{iscsiadm.portal(*self.place)},1"
                delete, new = (
                    iscsiadm.node(portal, self.target, "--op", verb, interface=interface)
                    for verb in ("delete", "new")
                )
                made.callback(self._forget, delete)
                self.host.change(new)
                tries = iscsiadm.tries(portal, self.target, LOGIN_TRIES, interface=interface)
                self.host.change(tries)
            if auth is not None:
                self._set_chap(made, portal, interface, auth.username, password)
            # without a name iscsiadm logs in through every interface that has a record
            several = any(devices.listing(folder)[1:] for _, folder in self.records())
            through = interface or ("default" if several else None)
            login = iscsiadm.node(portal, self.target, "--login", interface=through)
            self.host.change(login, limit_s=self.host.limits.get("login", LOGIN_LIMIT_S))
            made.pop_all()

    def _password(self, auth: Auth) -> str:
        assert self.secret_of is not None
        password = self.secret_of(auth)
        for what, text in (("user name", auth.username), ("secret", password)):
            if control_character(text) is not None or text != text.strip():
                raise InvalidArgument(
                    f"the {what} cannot be used for CHAP: it has blanks around"
                    " it or control characters"
                )
        return password

    def _interface(self, made: contextlib.ExitStack) -> str | None:
        """Return the interface that has the pool's initiator name, made where there is none."""
        initiator = self.pool.source.initiator
        if initiator is None:
            return None
        listed = self.host.query(iscsiadm.interfaces())
        found = iscsiadm.parse_interfaces(listed)
        if initiator in found:
            return found[initiator]
        name = INTERFACE_PREFIX + self.pool.uuid.partition("-")[0]
        made.callback(self._forget, iscsiadm.interface(name, "--op", "delete"))
        # it may be left, without a name yet, of a start that was killed
        if not any(line.startswith(f"{name} ") for line in listed.splitlines()):
            self.host.change(iscsiadm.interface(name, "--op", "new"))
        self.host.change(
            iscsiadm.interface(
                name, "--op", "update", "--name", "iface.initiatorname", "--value", initiator
            )
        )
        return name

    def _forget(self, argv: list[str]) -> None:
        self.host.try_change(argv, limit_s=LOGIN_LIMIT_S)

    def records(self) -> Iterator[tuple[str, str]]:
        """Yield the portal group tag and the folder of each record at the pool's portal."""
        host, port = self.place
        for folder in iscsiadm.RECORDS:
            for name in devices.listing(f"{folder}/{self.target}"):
                front, _, tag = name.rpartition(",")
                if front == f"{host},{port}":
                    yield tag, f"{folder}/{self.target}/{name}"

    def _portal(self, interface: str | None) -> str | None:
        """Return the portal, with its group's tag, for which there is a record already."""
        for tag, folder in self.records():
            if os.path.exists(f"{folder}/{interface or 'default'}"):
                return f"{iscsiadm.portal(*self.place)},{tag}"
        return None

    def _set_chap(
        self,
        made: contextlib.ExitStack,
        portal: str,
        interface: str | None,
        username: str,
        password: str,
    ) -> None:
        """Put the user and the password into the record, which only root can read.

        A login that fails leaves it as it was.
        iscsiadm takes a password as an argument only, where every process could see it.
        """
        wanted = portal.rpartition(",")[2]
        if self.host.plans:
            place = (
                f"{self.target}/{self.place[0]},{self.place[1]},{wanted}/{interface or 'default'}"
            )
            roots = [folder for folder in iscsiadm.RECORDS if os.path.isdir(folder)]
            self.host.plan_with_secret(
                f"the password of iSCSI user {username}",
                iscsiadm.chap_lines(f"{(roots or iscsiadm.RECORDS)[0]}/{place}", username),
            )
            return
        for tag, folder in self.records():
            if tag == wanted:
                path = f"{folder}/{interface or 'default'}"
                self.host.sweep(folder, secret=True)
                record = self.host.read_text(path)
                made.callback(self._put_back, path, record)
                self.host.write_atomic(path, iscsiadm.with_chap(record, username, password))
                return
        raise OperationFailed(f"the record of target '{self.target}' was not found")

    def _put_back(self, path: str, record: str) -> None:
        with contextlib.suppress(StorageError):
            self.host.write_atomic(path, record)

    def gone_when_stopped(self) -> str:
        return f"the session with {self.target} and the devices of its LUNs"

    def kept_when_stopped(self) -> str:
        return "the LUNs on the server"

    def stop(self) -> None:
        session = self._session() if self.is_active() else None
        if session is not None:
            # udev opens new disks for a moment
            devices.settle(self.host)
            self.require_luns_unused()
            self.host.change(iscsiadm.session(session.number, "--logout"))
            devices.settle(self.host)
            if not self.host.plans and self._session() == session:
                raise OperationFailed(f"the session with '{self.target}' has not ended")


def plain(host: str) -> str:
    """Return an address in its shortest spelling, without its scope; a name as it is.

    The kernel writes 2001:db8::1 as 2001:0db8:0000:0000:0000:0000:0000:0001.
    """
    import ipaddress

    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host.partition("%")[0]))
    return host


BACKENDS = {"iscsi": Iscsi}
