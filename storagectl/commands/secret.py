"""Commands on secrets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.lines import read_line
from storagectl.commands.list_options import list_options, shape_of
from storagectl.commands.session import exclusive, read_file
from storagectl.errors import ClientError, SecretNotFound, StorageError

if TYPE_CHECKING:
    from typing import TextIO

    from storagectl.commands.session import Session

NO_VALUE = "value in virSecretSetValue must not be NULL"


@command(
    "secret-define",
    "Define or modify a secret.",
    "Failed to set attributes from {file}",
    changes=True,
)
@value("file", "file containing secret attributes in XML", required=True)
@flag("validate", "validate the XML against the schema")
def secret_define(session: Session, file: str, validate: bool) -> None:
    from storagectl.secrets import parse_secret

    secret = parse_secret(read_file(file), validated=validate)
    session.pools.secrets.define(secret)
    session.done(
        f"Secret {secret.uuid} created",
        "defined",
        secret=lambda: session.facts.of_secret(session.pools.secrets.find(secret.uuid)),
    )


@command("secret-dumpxml", "Output attributes of a secret as an XML dump to stdout.")
@value("secret", "secret UUID", required=True)
@value("xpath", "xpath expression to filter the XML document", named_only=True)
@flag("wrap", "wrap xpath results in an common root element")
def secret_dumpxml(session: Session, secret: str, xpath: str | None, wrap: bool) -> None:
    from storagectl.commands.xml import show_xml
    from storagectl.secrets import format_secret

    definition = session.pools.secrets.find(secret)
    document = format_secret(definition)
    found = show_xml(session, document, xpath, wrap)
    session.result(
        lambda: {"xml": document, "found": found, "secret": session.facts.of_secret(definition)}
    )


@command("secret-set-value", "Set a secret value.", "Failed to set secret value", changes=True)
@value("secret", "secret UUID", required=True)
@value("file", "read secret from file", named_only=True)
@flag("plain", "read the secret from file without converting from base64")
@flag("interactive", "read the secret from the terminal")
@value("base64", "base64-encoded secret value")
def secret_set_value(
    session: Session,
    secret: str,
    file: str | None,
    plain: bool,
    interactive: bool,
    base64: str | None,
) -> None:
    exclusive(file=file is not None, base64=base64 is not None)
    exclusive(plain=plain, base64=base64 is not None)
    exclusive(interactive=interactive, base64=base64 is not None)
    exclusive(interactive=interactive, plain=plain)
    exclusive(interactive=interactive, file=file is not None)
    found = session.pools.secrets.find(secret)
    session.host.keep_out_of_core_dumps()
    if interactive:
        given = asked("Enter new value for secret:", sys.stderr if session.json else sys.stdout)
    elif file is not None:
        given = read_file(file)
        given = given if plain else decoded(given)
    elif base64 is not None:
        session.warn("error: Passing secret value as command-line argument is insecure!")
        given = decoded(base64.encode("utf-8", "surrogateescape"))
    else:
        raise ClientError("Input secret value is missing")
    if not given:
        raise StorageError(NO_VALUE)
    session.pools.secrets.set_value(found, given)
    session.done("Secret value set", "value-set", secret=lambda: session.facts.of_secret(found))


def asked(prompt: str, terminal: TextIO) -> bytes:
    """Read a value from the terminal, unseen, or a line from stdin; what ends at once is empty."""
    if not sys.stdin.isatty():
        output.write(prompt)
        sys.stdout.flush()
        return read_line(b"\n") or b""
    from getpass import getpass

    try:
        return getpass(prompt, terminal).encode("utf-8", "surrogateescape")
    except EOFError:
        return b""


def decoded(text: bytes) -> bytes:
    """Return what base64 stands for.  Raises: StorageError where it is cut short."""
    from base64 import b64decode
    from binascii import Error

    try:
        return b64decode(text)
    except Error as error:
        raise StorageError(NO_VALUE, hint=f"the value is not base64: {error}") from error


@command("secret-get-value", "Output a secret value to stdout.")
@value("secret", "secret UUID", required=True)
@flag("plain", "get value without converting to base64")
def secret_get_value(session: Session, secret: str, plain: bool) -> None:
    secrets = session.pools.secrets
    definition = secrets.find(secret)
    found = secrets.value(definition)
    if session.json:
        from base64 import b64encode

        session.result({"uuid": definition.uuid, "base64": b64encode(found).decode()})
        return
    if plain:
        sys.stdout.flush()
        sys.stdout.buffer.write(found)
        return
    from base64 import b64encode

    output.write(b64encode(found).decode())


@command("secret-list", "Returns a list of secrets")
@flag("ephemeral", "list ephemeral secrets")
@flag("no-ephemeral", "list non-ephemeral secrets")
@flag("private", "list private secrets")
@flag("no-private", "list non-private secrets")
@list_options
def secret_list(
    session: Session,
    /,
    ephemeral: bool,
    no_ephemeral: bool,
    private: bool,
    no_private: bool,
    **given: Any,
) -> None:
    with session.doing("Failed to list secrets"):
        shape = shape_of(session, "secrets", given)
    secrets = [
        secret
        for secret in session.pools.secrets.all()
        if chosen(secret.ephemeral, ephemeral, no_ephemeral)
        and chosen(secret.private, private, no_private)
    ]
    if shape is not None:
        left = shape.show((session.facts.of_secret(secret), secret) for secret in secrets)
        if left is None:
            return
        secrets = left
    quiet = session.quiet or given["no_header"]
    rows = [
        (
            secret.uuid,
            f"{secret.usage_type} {secret.usage}" if secret.usage_type else "Unused",
        )
        for secret in secrets
    ]
    output.write(output.table(("UUID", "Usage"), rows, quiet=quiet))


def chosen(has: bool, wanted: bool, unwanted: bool) -> bool:
    """Tell whether a filter of two options lets through what has, or has not, a property."""
    return wanted == unwanted or has == wanted


@command("secret-undefine", "Undefine a secret.", "Failed to delete secret {secret}", changes=True)
@value("secret", "secret UUID", required=True)
@flag("if-exists", "succeed and do nothing where there is no such secret")
def secret_undefine(session: Session, secret: str, if_exists: bool) -> None:
    secrets = session.pools.secrets
    try:
        found = secrets.find(secret)
    except SecretNotFound:
        secrets.sweep()  # it may have been undefined by who was killed
        broken = secrets.unreadable(secret)
        if broken is None and not if_exists:
            raise
        if broken is None:
            session.done(f"Secret {secret} does not exist: nothing to delete", "nothing")
            return
        found = broken
    secrets.undefine(found)
    session.done(
        f"Secret {secret} deleted", "deleted", secret=lambda: session.facts.of_secret(found)
    )
