"""Virtual Fibre Channel adapters (NPIV): found, made and deleted through sysfs.

Source: Linux Documentation/scsi/scsi_fc_transport.rst; libvirt 9.0.0 src/util/virvhba.c and
virNodeDeviceCreateVport.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from storagectl.backends import devices
from storagectl.errors import OperationFailed, OperationInvalid, XmlError

if TYPE_CHECKING:
    from storagectl.host import Host
    from storagectl.model import Adapter


ADAPTER_NAME = re.compile(r"(?:scsi_|fc_)?host(\d+)")


def host_named(name: str) -> str | None:
    """Return the host, `host3`, that an adapter's name is for; None where it is no such name.

    Source: libvirt 9.0.0 virSCSIHostGetNumber.
    """
    match = ADAPTER_NAME.fullmatch(name)
    return f"host{int(match[1])}" if match else None


def folder(host: str) -> str:
    return f"{devices.SYS}/class/fc_host/{host}"


def value(host: str, attribute: str) -> str:
    """Return an attribute of an FC host; numbers of 64 bits without their `0x`."""
    return devices.read_line(f"{folder(host)}/{attribute}").removeprefix("0x")


def hosts() -> list[str]:
    """Return the names of all FC hosts, `host3`, by number."""
    names = devices.listing(f"{devices.SYS}/class/fc_host")
    return sorted((name for name in names if name.startswith("host")), key=lambda n: (len(n), n))


def find(node_name: str | None, port_name: str | None) -> str | None:
    """Return the FC host with these world wide names."""
    for host in hosts():
        if (value(host, "node_name"), value(host, "port_name")) == (node_name, port_name):
            return host
    return None


def control(host: str, operation: str) -> str | None:
    """Return the file that makes or deletes virtual ports of an FC host that can have some."""
    for kind in ("fc_host", "scsi_host"):
        path = f"{devices.SYS}/class/{kind}/{host}/{operation}"
        if os.path.exists(path):
            return path
    return None


def parent_of(host: str) -> str | None:
    """Return the FC host that a virtual one belongs to; None for one that is hardware."""
    place = os.path.realpath(f"{folder(host)}/device").split("/")
    above = [part for part in place[:-1] if part.startswith("host")]
    return above[-1] if above else None


def choose_parent(adapter: Adapter) -> str:
    """Return the FC host on which to make an adapter.  Raises: XmlError."""
    if adapter.parent is not None:
        host = host_named(adapter.parent)
        if host is None or host not in hosts():
            raise XmlError(f"parent '{adapter.parent}' specified for vHBA does not exist")
        return host
    if adapter.parent_wwnn is not None:
        found = find(adapter.parent_wwnn, adapter.parent_wwpn)
        if found is None:
            raise XmlError("cannot find parent using provided wwnn/wwpn")
        return found
    for host in hosts():
        if control(host, "vport_create") is None:
            continue
        if adapter.parent_fabric_wwn is not None:
            if value(host, "fabric_name") == adapter.parent_fabric_wwn:
                return host
        elif value(host, "port_state") == "Online" and has_room(host):
            return host
    if adapter.parent_fabric_wwn is not None:
        raise XmlError("cannot find parent using provided fabric_wwn")
    raise XmlError("'parent' for vHBA not specified, and cannot find one on this host")


def has_room(host: str) -> bool:
    most, used = value(host, "max_npiv_vports"), value(host, "npiv_vports_inuse")
    return most.isdecimal() and used.isdecimal() and int(used) < int(most)


def create(machine: Host, adapter: Adapter) -> None:
    """Make a virtual adapter.  Raises: StorageError."""
    parent = choose_parent(adapter)
    manage(machine, parent, "vport_create", adapter)
    if machine.expect(f"{adapter.wwnn}:{adapter.wwpn}"):
        return
    if not devices.wait_until(lambda: find(adapter.wwnn, adapter.wwpn) is not None):
        manage(machine, parent, "vport_delete", adapter)
        raise OperationFailed(f"the vHBA made on '{parent}' did not appear")


def delete(machine: Host, adapter: Adapter) -> None:
    """Delete a virtual adapter; one that is hardware, or gone, is left alone."""
    host = find(adapter.wwnn, adapter.wwpn)
    parent = parent_of(host) if host is not None else None
    if parent is not None:
        manage(machine, parent, "vport_delete", adapter)


def manage(machine: Host, parent: str, operation: str, adapter: Adapter) -> None:
    path = control(parent, operation)
    if path is None:
        raise OperationInvalid(f"vport operation '{operation}' is not supported for {parent}")
    text = f"{adapter.wwpn}:{adapter.wwnn}"
    machine.tell_kernel(
        path, text, f"Write of '{text}' to '{path}' during vport create/delete failed"
    )
