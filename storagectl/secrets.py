"""Secrets: what proves to a server, or opens a volume, as virsh's secret commands know them.

    CONFIG/secrets/UUID.xml      what a secret is for, 0600
    CONFIG/secrets/UUID.base64   its value, 0600

Those that are ephemeral are in RUN/secrets, which does not outlive a reboot.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
from typing import TYPE_CHECKING

from storagectl.errors import (
    ConfigUnsupported,
    InternalError,
    InvalidArgument,
    OperationDenied,
    SecretInvalid,
    SecretNotFound,
    StorageError,
    SystemFailure,
    XmlError,
)
from storagectl.model import Secret, SecretDefinition
from storagectl.poolxml import parse_uuid, random_uuid
from storagectl.store import FORMAT_LINE, names_in, require_known_format, warn
from storagectl.xmltree import Writer, expect_root, parse, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storagectl.host import Host
    from storagectl.model import Auth, Encryption
    from storagectl.store import Store
    from storagectl.xmltree import Node

# The element that says what a secret is for, by type of usage, and what libvirt calls the two.
USAGES = {
    "volume": ("volume", "volume usage specified, but volume path is missing"),
    "ceph": ("name", "Ceph usage specified, but name is missing"),
    "iscsi": ("target", "iSCSI usage specified, but target is missing"),
    "tls": ("name", "TLS usage specified, but name is missing"),
    "vtpm": ("name", "vTPM usage specified, but name is missing"),
}
XML = ".xml"
VALUE = ".base64"


def parse_secret(
    text: bytes | str, *, new_uuid: Callable[[], str] = random_uuid, validated: bool = False
) -> SecretDefinition:
    """Return the secret that a document defines; `new_uuid` gives a missing UUID.

    Raises: XmlError, XmlSyntaxError, SchemaError, ConfigUnsupported, InternalError.
    Source: libvirt 9.0.0 virSecretDefParseXML.
    """
    root = parse(text, "(definition_of_secret)")
    expect_root(root, "secret")
    if validated:
        validate(text, "secret")
    ephemeral, private = (_yes(root, name) for name in ("ephemeral", "private"))
    uuid = root.text_of("uuid")
    parsed = parse_uuid(uuid) if uuid is not None else new_uuid()
    if parsed is None:
        raise InternalError("malformed uuid element")
    secret = SecretDefinition(parsed, ephemeral, private, root.text_of("description"))
    usage = root.find("usage")
    if usage is not None:
        secret.usage_type = usage.get("type")
        if secret.usage_type is None:
            raise XmlError("unknown secret usage type")
        if secret.usage_type not in USAGES:
            raise ConfigUnsupported(f"unknown secret usage type {secret.usage_type}")
        element, missing = USAGES[secret.usage_type]
        secret.usage = usage.text_of(element)
        if not secret.usage:
            raise InternalError(missing)
    return secret


def _yes(root: Node, attribute: str) -> bool:
    given = root.get(attribute)
    if given not in (None, "yes", "no"):
        raise XmlError(f"invalid value of '{attribute}'")
    return given == "yes"


def format_secret(secret: SecretDefinition) -> str:
    """Return a secret as secret-dumpxml shows it.  Source: libvirt 9.0.0 virSecretDefFormat."""

    def yes(flag: bool) -> str:
        return "yes" if flag else "no"

    out = Writer()
    out.open("secret", {"ephemeral": yes(secret.ephemeral), "private": yes(secret.private)})
    out.leaf("uuid", secret.uuid)
    if secret.description is not None:
        out.leaf("description", secret.description)
    if secret.usage_type is not None:
        out.open("usage", {"type": secret.usage_type})
        out.leaf(USAGES[secret.usage_type][0], secret.usage)
        out.close()
    out.close()
    return out.document()


class Secrets:
    """All secrets of one store."""

    def __init__(self, store: Store, host: Host) -> None:
        self.store = store
        self.host = host
        self.lasting = os.path.join(os.path.dirname(store.config), "secrets")
        self.fleeting = os.path.join(store.run, "secrets")

    def all(self) -> Iterator[SecretDefinition]:
        """Yield every secret, by UUID."""
        for uuid in sorted(set().union(*map(names_in, self._folders()))):
            secret = self._by_uuid(uuid)
            if secret is not None:
                yield secret

    def _folders(self) -> tuple[str, str]:
        return self.lasting, self.fleeting

    def _read(self, folder: str, uuid: str) -> SecretDefinition | None:
        """Return what the file of a secret says, None where there is none or it says nothing.

        Raises: SystemFailure where we may not know.
        """
        path = os.path.join(folder, uuid + XML)
        try:
            secret = parse_secret(self.host.read_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EACCES:
                raise SystemFailure(f"Failed to open file '{path}': {error.strerror}") from error
            warn(f"Failed to open file '{path}': {error.strerror}")
            return None
        except StorageError as error:
            warn(f"ignoring {path}: {error.lines()[-1]}")
            return None
        if secret.uuid != uuid:
            warn(f"ignoring {path}: the definition is that of secret '{secret.uuid}'")
            return None
        return secret

    def find(self, key: str) -> SecretDefinition:
        """Return the secret with that UUID.  Raises: SecretNotFound, StorageError."""
        action = f"failed to get secret '{key}'"
        uuid = parse_uuid(key)
        if uuid is None:
            raise StorageError(
                "uuidstr in virSecretLookupByUUIDString must be a valid UUID", action=action
            )
        secret = self._by_uuid(uuid)
        if secret is None:
            raise SecretNotFound(f"no secret with matching uuid '{uuid}'", action=action)
        return secret

    def _by_uuid(self, uuid: str) -> SecretDefinition | None:
        found = (self._read(folder, uuid) for folder in self._folders())
        return next((secret for secret in found if secret is not None), None)

    def define(self, secret: SecretDefinition) -> None:
        """Keep a new secret, or an existing one with another description.

        Source: libvirt 9.0.0 virSecretObjListAdd.
        """
        self.store.require_writable("virSecretDefineXML")
        with self._changing():
            old = self._by_uuid(secret.uuid)
            if old is None:
                for other in self.all():
                    same = (other.usage_type, other.usage) == (secret.usage_type, secret.usage)
                    if same and secret.usage_type is not None:
                        raise InternalError(
                            f"a secret with UUID {other.uuid} already defined for use with"
                            f" {other.usage}"
                        )
            elif (old.usage_type, old.usage) != (secret.usage_type, secret.usage):
                raise InternalError(
                    f"a secret with UUID {old.uuid} is already defined for use with {old.usage}"
                )
            elif old.private and not secret.private:
                raise InternalError("cannot change private flag on existing secret")
            value = self._value(old) if old is not None else None
            moved = old if old is not None and old.ephemeral != secret.ephemeral else None
            # the value comes first, and goes last: killed in between, one of the two is whole
            with contextlib.ExitStack() as undo:
                if moved is not None:
                    undo.callback(self._remove, secret, XML, VALUE)
                if moved is not None and value is not None:
                    self._keep(secret, value, old=self._path(moved, VALUE))
                path = self._path(secret, XML)
                self.store.make_folders(os.path.dirname(path))
                require_known_format(self.host, path)
                self.host.write_atomic(path, FORMAT_LINE + format_secret(secret))
                if moved is not None:
                    self._remove(moved, XML, VALUE)
                undo.pop_all()

    def _path(self, secret: SecretDefinition, suffix: str) -> str:
        folder = self.fleeting if secret.ephemeral else self.lasting
        return os.path.join(folder, secret.uuid + suffix)

    def unreadable(self, key: str) -> SecretDefinition | None:
        """Return what stands for a secret whose file says nothing; None where there is no file."""
        uuid = parse_uuid(key)
        for folder in self._folders():
            if uuid is not None and os.path.lexists(os.path.join(folder, uuid + XML)):
                return SecretDefinition(uuid, folder == self.fleeting, True, None)
        return None

    def undefine(self, secret: SecretDefinition) -> None:
        """Forget a secret and its value."""
        self.store.require_writable("virSecretUndefine")
        with self._changing():
            self._remove(secret, VALUE, XML)

    def _remove(self, secret: SecretDefinition, *suffixes: str) -> None:
        """Remove both files in an order, or none."""
        self.host.remove_secret(*(self._path(secret, suffix) for suffix in suffixes))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold all secrets, without what a process that was killed has left of one.

        That is a value that no secret has, and an ephemeral secret that is a lasting one too.
        """
        with self.store.registry():
            self.sweep()
            lasting = names_in(self.lasting)
            for folder in self._folders():
                known = names_in(folder)
                others = lasting if folder == self.fleeting else set()
                for name in files_in(folder):
                    uuid, suffix = os.path.splitext(name)
                    if suffix in (XML, VALUE) and (uuid not in known or uuid in others):
                        self.host.remove_secret(os.path.join(folder, name))
            yield

    def sweep(self) -> None:
        """Overwrite and remove what processes that were killed have left of files of secrets."""
        if not self.store.readonly:
            for folder in self._folders():
                self.host.sweep(folder, secret=True)

    def set_value(self, secret: SecretDefinition, value: bytes) -> None:
        """Keep a secret's value.  Raises: SecretNotFound where it has just been undefined."""
        self.store.require_writable("virSecretSetValue")
        self._require_private(os.path.dirname(self._path(secret, VALUE)), 0o700)
        with self._changing():
            require_known_format(self.host, self._path(secret, XML))
            self._keep(self.find(secret.uuid), value)

    def _keep(self, secret: SecretDefinition, value: bytes, *, old: str | None = None) -> None:
        path = self._path(secret, VALUE)
        self.store.make_folders(os.path.dirname(path))
        self.host.write_secret(path, value, f"the value of secret {secret.uuid}", old=old)

    def value(self, secret: SecretDefinition) -> bytes:
        """Return a secret's value, for its owner.  Raises: SecretInvalid, SecretNotFound."""
        self.store.require_writable("virSecretGetValue")
        if secret.private:
            raise SecretInvalid("secret is private")
        return self._require_value(secret)

    def _value(self, secret: SecretDefinition) -> bytes | None:
        self.host.keep_out_of_core_dumps()
        path = self._path(secret, VALUE)
        self._require_private(os.path.dirname(path), 0o700)
        self._require_private(path, 0o600)
        try:
            with open(path, "rb") as stream:
                return base64.b64decode(stream.read(), validate=True)
        except FileNotFoundError:
            return None
        except (OSError, binascii.Error) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not base64"
            raise SystemFailure(f"cannot read '{path}': {cause}") from error

    def _require_private(self, path: str, mode: int) -> None:
        """Raise where a file of secrets, or its folder, is not its owner's alone."""
        try:
            status = os.stat(path)
        except OSError:
            return  # what reads or writes it tells why
        if status.st_uid != os.geteuid():
            raise OperationDenied(
                f"'{path}' belongs to user {status.st_uid}: chown {os.geteuid()} '{path}'"
            )
        if status.st_mode & 0o077:
            raise OperationDenied(
                f"'{path}' is open to others (mode {status.st_mode & 0o7777:04o}):"
                f" chmod {mode:04o} '{path}'"
            )

    def _require_value(self, secret: SecretDefinition) -> bytes:
        value = self._value(secret)
        if value is None:
            raise SecretNotFound(f"secret '{secret.uuid}' does not have a value")
        return value

    def value_for(self, auth: Auth) -> str:
        """Return the value of the secret that an <auth> names.

        Raises: SecretNotFound, InvalidArgument.
        """
        kind = {"chap": "iscsi"}.get(auth.type, auth.type)
        value = self._referred(kind, auth.secret_uuid, auth.secret_usage)
        return value.decode("utf-8", "surrogateescape")

    def uuid_for(self, auth: Auth) -> str | None:
        """Return the UUID of the secret that an <auth> names by its usage, None for none."""
        secret = self._by_usage({"chap": "iscsi"}.get(auth.type, auth.type), auth.secret_usage)
        return None if secret is None else secret.uuid

    def passphrase(self, encryption: Encryption) -> bytes:
        """Return what opens an encrypted volume.

        Raises: SecretNotFound, InvalidArgument.
        Source: libvirt 9.0.0 storageBackendCreateQemuImgSecretPath.
        """
        if len(encryption.secrets) != 1:
            raise InvalidArgument(
                "A single <secret type='passphrase'...> element is expected in encryption"
                " description"
            )
        (secret,) = encryption.secrets
        return self._referred("volume", secret.uuid, secret.usage)

    def _referred(self, kind: str, uuid: str | None, usage: str | None) -> bytes:
        """Return the value of the secret for `kind` of that UUID or usage, private or not.

        Source: libvirt 9.0.0 virSecretGetSecretString.
        """
        if uuid is None:
            secret = self._by_usage(kind, usage)
            if secret is None:
                raise SecretNotFound(f"no secret with matching usage '{usage}'")
        else:
            secret = self._by_uuid(uuid)
            if secret is None:
                raise SecretNotFound(f"no secret with matching uuid '{uuid}'")
            if secret.usage_type not in (None, kind):
                raise InvalidArgument(
                    f"secret with uuid {secret.uuid} is of type '{secret.usage_type}' not expected"
                    f" '{kind}' type"
                )
        return self._require_value(secret)

    def _by_usage(self, kind: str, usage: str | None) -> SecretDefinition | None:
        return next((s for s in self.all() if (s.usage_type, s.usage) == (kind, usage)), None)

    def of_volume(self, path: str) -> Secret | None:
        """Return the secret that is for the volume at a path, if there is one.

        Source: libvirt 9.0.0 storageBackendLoadDefaultSecrets.
        """
        found = self._by_usage("volume", path)
        return None if found is None else Secret("passphrase", uuid=found.uuid)


def files_in(folder: str) -> list[str]:
    """Return the names in a folder of ours, none where it is missing."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
