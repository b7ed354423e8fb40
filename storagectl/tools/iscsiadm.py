"""iscsiadm of open-iscsi: argument lists, parsers, and the text of node records.

The arguments are libvirt's, in its order, so that errors show the same command.  No name can
be taken for an option: each follows the option that wants it.
"""

from __future__ import annotations

import re

DEFAULT_PORT = 3260

# Where node records are: Debian and older ones, then the others.  Source: iscsiadm(8), FILES.
RECORDS = ("/etc/iscsi/nodes", "/var/lib/iscsi/nodes")

# The host's initiator name.  Source: iscsid(8), FILES.
INITIATOR = "/etc/iscsi/initiatorname.iscsi"

# What a name may consist of.  Source: RFC 3722; libvirt makes no folder of it, iscsiadm does.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")


def portal(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def discover(portal: str, interface: str | None = None) -> list[str]:
    """Ask a portal for its targets; nothing is recorded."""
    return [
        "iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--portal", portal,
        "--op", "nonpersistent", *through(interface),
    ]  # fmt: skip


def through(interface: str | None) -> list[str]:
    return ["--interface", interface] if interface else []


def parse_targets(text: str) -> list[str]:
    """Return the names of the targets that a portal has told of, each once.

    127.0.0.1:3260,1 iqn.2024-01.lab:t1
    127.0.0.1:3260,1 iqn.2024-01.lab:t2
    """
    rows = (line.split() for line in text.splitlines())
    return list(dict.fromkeys(row[1] for row in rows if len(row) == 2))


def node(portal: str, target: str, *words: str, interface: str | None = None) -> list[str]:
    """Act on the record of a target at a portal, through an interface if one is named."""
    return [
        "iscsiadm", "--mode", "node", "--portal", portal, "--targetname", target,
        *words, *through(interface),
    ]  # fmt: skip


def tries(portal: str, target: str, count: int, *, interface: str | None = None) -> list[str]:
    """Set how often a login is tried before it has failed."""
    name = "node.session.initial_login_retry_max"
    words = ("--op", "update", "--name", name, "--value", str(count))
    return node(portal, target, *words, interface=interface)


def session(number: int, *words: str) -> list[str]:
    """Act on a session."""
    return ["iscsiadm", "--mode", "session", "-r", str(number), *words]


def interface(name: str, *words: str) -> list[str]:
    """Act on an interface, which may have an initiator name of its own."""
    return ["iscsiadm", "--mode", "iface", "--interface", name, *words]


def interfaces() -> list[str]:
    return ["iscsiadm", "--mode", "iface"]


def parse_interfaces(text: str) -> dict[str, str]:
    """Return the interfaces by their initiator names.

    libvirt-iface-07f06ec7 tcp,<empty>,<empty>,<empty>,iqn.2026-11.lab:me
    default tcp,<empty>,<empty>,<empty>,<empty>
    iser iser,<empty>,<empty>,<empty>,<empty>
    """
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        initiator = rest.split(",", 4)[-1]
        if rest.count(",") == 4 and initiator != "<empty>":
            found[initiator] = name
    return found


def parse_initiator(text: str) -> str | None:
    """Return the host's initiator name.

    ## DO NOT EDIT OR REMOVE THIS FILE!
    InitiatorName=iqn.1993-08.org.debian:01:1d3d2ee6d4a
    """
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "InitiatorName":
            return value.strip()
    return None


def with_chap(record: str, username: str, password: str) -> str:
    """Return the text of a node record that logs in with CHAP.

    # BEGIN RECORD 2.1.8
    node.name = iqn.2026-11.lab:t2
    node.session.auth.authmethod = None
    # END RECORD

    Source: what iscsiadm 2.1.8 writes below /etc/iscsi/nodes.
    """
    wanted = {
        "node.session.auth.authmethod": "CHAP",
        "node.session.auth.username": username,
        "node.session.auth.password": password,
    }
    kept = [line for line in record.splitlines() if line.partition(" = ")[0] not in wanted]
    place = next((n for n, line in enumerate(kept) if line.startswith("# END RECORD")), len(kept))
    added = [f"{name} = {value}" for name, value in wanted.items()]
    return "\n".join([*kept[:place], *added, *kept[place:]]) + "\n"


def chap_lines(path: str, username: str) -> list[str]:
    """Return lines of bash that do what `with_chap` does to a record; "$secret" is the password."""
    import shlex

    dropped = r"/^node\.session\.auth\.\(authmethod\|username\|password\) = /d; /^# END RECORD/d"
    user = shlex.quote(f"node.session.auth.username = {username}")
    return [
        shlex.join(["sed", "--in-place", dropped, path]),
        f"printf '%s\\n' 'node.session.auth.authmethod = CHAP' {user}"
        f" \"node.session.auth.password = $secret\" '# END RECORD' >>{shlex.quote(path)}",
    ]
