"""Commands that take pool definitions: define, create, edit."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.session import exclusive, read_file
from storagectl.errors import StorageError
from storagectl.host.files import system_errors

if TYPE_CHECKING:
    from storagectl.commands.session import Session
    from storagectl.model import Pool

SOURCE_OPTIONS = (
    ("source-host", "source-host for underlying storage"),
    ("source-path", "source path for underlying storage"),
    ("source-dev", "source device for underlying storage"),
    ("source-name", "source name for underlying storage"),
    ("target", "target for underlying storage"),
    ("source-format", "format for underlying storage"),
    ("auth-type", "auth type to be used for underlying storage"),
    ("auth-username", "auth username to be used for underlying storage"),
    ("secret-usage", "auth secret usage to be used for underlying storage"),
    ("secret-uuid", "auth secret UUID to be used for underlying storage"),
    ("adapter-name", "adapter name to be used for underlying storage"),
    ("adapter-wwnn", "adapter wwnn to be used for underlying storage"),
    ("adapter-wwpn", "adapter wwpn to be used for underlying storage"),
    ("adapter-parent", "adapter parent scsi_hostN to be used for underlying vHBA storage"),
    (
        "adapter-parent-wwnn",
        "adapter parent scsi_hostN wwnn to be used for underlying vHBA storage",
    ),
    (
        "adapter-parent-wwpn",
        "adapter parent scsi_hostN wwpn to be used for underlying vHBA storage",
    ),
    (
        "adapter-parent-fabric-wwn",
        "adapter parent scsi_hostN fabric_wwn to be used for underlying vHBA storage",
    ),
    ("source-protocol-ver", "nfsvers value for NFS pool mount option"),
    ("source-initiator", "initiator iqn for underlying storage"),
)
# What names the parent of a vHBA: the first that is given.
ADAPTER_PARENTS = (
    ("adapter_parent",),
    ("adapter_parent_wwnn", "adapter_parent_wwpn"),
    ("adapter_parent_fabric_wwn",),
)


def definition_options(function: Any) -> Any:
    """Declare the name, the type and the options that describe a pool."""
    for name, summary in reversed(SOURCE_OPTIONS):
        function = value(name, summary, multiple=name == "source-dev")(function)
    function = flag("print-xml", "print XML document, but don't define/create")(function)
    function = value("type", "type of the pool", required=True)(function)
    return value("name", "name of the pool", required=True)(function)


def if_inactive_option(function: Any) -> Any:
    """Declare that a pool which is active is no error."""
    return flag("if-inactive", "succeed and do nothing where the pool is active")(function)


def if_missing_option(function: Any) -> Any:
    """Declare that a pool which is defined is no error."""
    what = "succeed and do nothing where a pool of that name is defined"
    return flag("if-missing", what)(function)


def build_options(function: Any) -> Any:
    """Declare whether a pool is built before it starts, and over what."""
    function = flag("overwrite", "overwrite any existing data")(function)
    function = flag("no-overwrite", "do not overwrite any existing data")(function)
    return flag("build", "build the pool as normal")(function)


@command(
    "pool-define",
    "Define or modify a persistent storage pool.",
    "Failed to define pool from {file}",
    changes=True,
)
@value("file", "file containing an XML pool description", required=True)
@flag("validate", "validate the XML against the schema")
@if_missing_option
def pool_define(session: Session, file: str, validate: bool, if_missing: bool) -> None:
    from storagectl.poolxml import parse_pool

    pool = parse_pool(read_file(file), validated=validate)
    define(session, pool, f"Pool {pool.name} defined from {file}", if_missing=if_missing)


@command("pool-define-as", "Define a pool.", "Failed to define pool {name}", changes=True)
@definition_options
@if_missing_option
def pool_define_as(
    session: Session, /, name: str, print_xml: bool, if_missing: bool, **given: Any
) -> None:
    document = pool_document(name, given)
    if print_xml:
        output.write(document)
        session.result({"xml": document})
        return
    pool = parse_options(document, name, given)
    define(session, pool, f"Pool {name} defined", if_missing=if_missing)


def define(session: Session, pool: Pool, words: str, *, if_missing: bool) -> None:
    """Define a pool and say so in these words, or that there is one of its name."""
    did = "defined"
    if not session.pools.define(pool, if_missing=if_missing):
        words, did = f"Pool {pool.name} exists already: nothing to define", "nothing"
    session.done(words, did, pool=session.pool(pool.name))


@command("pool-create", "Create a pool.", "Failed to create pool from {file}", changes=True)
@value("file", "file containing an XML pool description", required=True)
@build_options
@if_inactive_option
def pool_create(
    session: Session,
    file: str,
    build: bool,
    overwrite: bool,
    no_overwrite: bool,
    if_inactive: bool,
) -> None:
    from storagectl.poolxml import parse_pool

    exclusive(overwrite=overwrite, no_overwrite=no_overwrite)
    pool = parse_pool(read_file(file))
    words = f"Pool {pool.name} created from {file}"
    create(
        session, pool, words,
        build=build, overwrite=overwrite, no_overwrite=no_overwrite, if_inactive=if_inactive,
    )  # fmt: skip


@command("pool-create-as", "Create a pool.", "Failed to create pool {name}", changes=True)
@definition_options
@build_options
@if_inactive_option
def pool_create_as(
    session: Session,
    /,
    name: str,
    print_xml: bool,
    build: bool,
    overwrite: bool,
    no_overwrite: bool,
    if_inactive: bool,
    **given: Any,
) -> None:
    exclusive(overwrite=overwrite, no_overwrite=no_overwrite)
    document = pool_document(name, given)
    if print_xml:
        output.write(document)
        session.result({"xml": document})
        return
    create(
        session, parse_options(document, name, given), f"Pool {name} created",
        build=build, overwrite=overwrite, no_overwrite=no_overwrite, if_inactive=if_inactive,
    )  # fmt: skip


def create(session: Session, pool: Pool, words: str, *, if_inactive: bool, **how: bool) -> None:
    from storagectl import poollife

    """Create a pool and say so in these words, or that it is active."""
    did = "created"
    if not poollife.create(session.pools, pool, if_inactive=if_inactive, **how):
        words, did = f"Pool {pool.name} is active: nothing to create", "nothing"
    session.done(words, did, pool=session.pool(pool.name))


def parse_options(document: str, name: str, given: dict[str, Any]) -> Pool:
    """Return the pool of a document of `pool_document`.  Raises: as `parse_pool`, XmlError."""
    from storagectl.commands.xml import require_values
    from storagectl.poolxml import parse_pool

    pool = parse_pool(document)
    texts = {"source_name", "target"}
    rest = (text for option, text in given.items() if option not in {*texts, "source_dev"})
    require_values((name, *map(given.get, texts)), (*rest, *given["source_dev"]))
    return pool


def pool_document(name: str, given: dict[str, Any]) -> str:
    """Return the XML of a pool that options describe, as virsh writes it.

    As there, values are not escaped.
    Source: libvirt 9.0.0 virshBuildPoolXML in tools/virsh-pool.c.
    """
    exclusive(secret_usage=bool(given["secret_usage"]), secret_uuid=bool(given["secret_uuid"]))
    source: list[str] = []
    if given["source_host"]:
        source.append(f"<host name='{given['source_host']}'/>")
    if given["source_path"]:
        source.append(f"<dir path='{given['source_path']}'/>")
    source += [f"<device path='{path}'/>" for path in given["source_dev"]]
    if given["source_initiator"]:
        source += ["<initiator>", f"  <iqn name='{given['source_initiator']}'/>", "</initiator>"]
    if given["adapter_wwnn"] and given["adapter_wwpn"]:
        parent = next((keys for keys in ADAPTER_PARENTS if all(given[key] for key in keys)), ())
        words = [
            f" {key.removeprefix('adapter_')}='{given[key]}'"
            for key in (*parent, "adapter_wwnn", "adapter_wwpn")
        ]
        source.append(f"<adapter type='fc_host'{''.join(words)}/>")
    elif given["adapter_name"]:
        source.append(f"<adapter type='scsi_host' name='{given['adapter_name']}'/>")
    auth: list[str] = []
    secret = given["secret_usage"] or given["secret_uuid"]
    if given["auth_type"] and given["auth_username"] and secret:
        kind = "usage" if given["secret_usage"] else "uuid"
        auth = [
            f"<auth type='{given['auth_type']}' username='{given['auth_username']}'>",
            f"  <secret {kind}='{secret}'/>",
            "</auth>",
        ]
    named: list[str] = []
    if given["source_format"]:
        named.append(f"<format type='{given['source_format']}'/>")
    if given["source_name"]:
        named.append(f"<name>{given['source_name']}</name>")
    lines = [f"<pool type='{given['type']}'>", f"  <name>{name}</name>"]
    if source or named:  # what else there is makes no source
        source += [*auth, *named]
        if given["source_protocol_ver"]:
            source.append(f"<protocol ver='{given['source_protocol_ver']}'/>")
        lines += ["  <source>", *(f"    {line}" for line in source), "  </source>"]
    if given["target"]:
        lines += ["  <target>", f"    <path>{given['target']}</path>", "  </target>"]
    return "\n".join([*lines, "</pool>", ""])


@command("pool-edit", "Edit the XML configuration for a storage pool.", changes=True)
@value("pool", "pool name or uuid", required=True)
def pool_edit(session: Session, pool: str) -> None:
    from storagectl.poolxml import format_pool, parse_pool

    found = session.pools.find(pool)
    before = format_pool(found.described(inactive=True))
    with session.pools.store.scratch() as folder:
        path = os.path.join(folder, f"{found.name}.xml")
        with system_errors(f"cannot write '{path}'"), open(path, "wb") as stream:
            stream.write(before.encode("utf-8", "surrogateescape"))
        answer = "y"
        while True:
            if answer == "y":
                session.host.converse([*editor(), path])
            after = read_file(path)
            if after.decode("utf-8", "surrogateescape") == before:
                session.done(
                    f"Pool {pool} XML configuration not changed.",
                    "unchanged",
                    pool=session.pool(pool),
                )
                return
            try:
                edited = parse_pool(after)
                session.pools.define(edited)
                break
            except StorageError as error:
                if session.json or not sys.stdin.isatty():
                    raise
                output.report(error)
                answer = ask_again()
                if answer == "n":
                    raise click.exceptions.Exit(1) from error
    session.done(
        f"Pool {edited.name} XML configuration edited.", "edited", pool=session.pool(edited.name)
    )


AGAIN = {
    "y": "yes, start editor again",
    "n": "no, throw away my changes",
    "f": "force, try to redefine again",
    "?": "print this help",
}


def ask_again() -> str:
    """Ask on the terminal what to do with an edit that failed; return y, n or f.

    Source: libvirt 9.0.0 vshAskReedit in tools/vsh.c.
    """
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    answer = ""
    try:
        while answer not in ("y", "n", "f"):
            output.write_control(f"\rFailed. Try again? [{','.join(AGAIN)}]: ")
            sys.stdout.flush()
            answer = os.read(terminal, 1).decode("ascii", "replace").lower()
            if answer in ("", "\x03"):
                raise KeyboardInterrupt
            if answer == "?":
                for key, does in AGAIN.items():
                    output.write_control(f"\r\n{key} - {does}")
                output.write_control("\r\n")
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    output.write_control("\r\n")
    return answer


def editor() -> list[str]:
    """Return the user's editor as an argument list."""
    import shlex

    return shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "sensible-editor")
