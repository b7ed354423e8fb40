"""What can go wrong, in libvirt's words.

An error carries only its detail; the class gives libvirt's fixed prefix
(Source: libvirt 9.0.0, virErrorMsgStrings in src/util/virerror.c).  The line
above it ("Failed to start pool d1") is `action`: a look-up sets its own, for
anything else the command that ran says what it tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagectl.record import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Mistyped(Row):
    """A word that nothing has for a name, and what gives the names that are known.

    They are asked for only where somebody is there to read which one may be meant.
    `elsewhere`, asked first, tells in words where that very name is after all.
    """

    word: str
    known: Callable[[], Iterable[str]]
    elsewhere: Callable[[], str] | None = None


class StorageError(Exception):
    """What has no class of its own; the base of all errors shown to the user.

    `action` is the first line ("" for none, None to let the command say it),
    `hint` a last line that tells what would help; where there is none, it is made of
    `mistyped`.  `code` is what programs know an error by, where that is not the name of its class.
    """

    prefix = ""
    code = ""

    def __init__(
        self,
        detail: str,
        *,
        action: str | None = None,
        hint: str = "",
        mistyped: Mistyped | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.action = action
        self.hint = hint
        self.mistyped = mistyped

    def lines(self) -> list[str]:
        """Return the message as it is printed, without `error: `, one entry per error line."""
        shown = [self.action] if self.action else []
        shown.append(self.prefix + self.detail)
        return shown


def code(error: StorageError | type[StorageError]) -> str:
    """Return what programs know an error, or a class of errors, by: `pool-not-found`."""
    if error.code:
        return error.code
    name = error.__name__ if isinstance(error, type) else type(error).__name__
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).removeprefix("-")


class ClientError(StorageError):
    """An error that virsh itself reports, in one line, without asking libvirt."""

    def __init__(self, detail: str, *, hint: str = "", mistyped: Mistyped | None = None) -> None:
        super().__init__(detail, action="", hint=hint, mistyped=mistyped)


class UsageError(ClientError):
    """The command line could not be understood; nothing has run."""

    def __init__(self, *details: str, mistyped: Mistyped | None = None) -> None:
        super().__init__("\n".join(details), mistyped=mistyped)
        self.details = details

    def lines(self) -> list[str]:
        return list(self.details)


class SystemFailure(StorageError):
    """The operating system refused: the detail ends with its words."""


class InternalError(StorageError):
    prefix = "internal error: "


class XmlError(StorageError):
    prefix = "XML error: "


class XmlSyntaxError(StorageError):
    """Not well-formed: the detail has the place, the line and a caret."""


class SchemaError(StorageError):
    """Not what the schema allows: the detail ends with a newline, as virsh prints it."""

    prefix = "XML document failed to validate against schema: "


class DocumentError(StorageError):
    """A file for `apply` says what no pool and no volume has; the action tells where."""


class ConfigFileError(StorageError):
    prefix = "configuration file syntax error: "


class ConfigUnsupported(StorageError):
    prefix = "unsupported configuration: "


class OperationInvalid(StorageError):
    prefix = "Requested operation is not valid: "


class PoolActive(OperationInvalid):
    """A pool runs that must not."""


class PoolInactive(OperationInvalid):
    """A pool does not run that must."""


class OperationFailed(StorageError):
    prefix = "operation failed: "


class PoolExists(OperationFailed):
    """A pool has the name or the UUID that another is to have."""


class SourceConflict(OperationFailed):
    """A pool has the storage that another is to have."""


class OperationDenied(StorageError):
    prefix = "operation forbidden: "


class OperationTimeout(StorageError):
    prefix = "Timed out during operation: "


class OperationUnsupported(StorageError):
    prefix = "Operation not supported: "


class ArgumentUnsupported(StorageError):
    prefix = "argument unsupported: "


class InvalidArgument(StorageError):
    prefix = "invalid argument: "


class Overflow(StorageError):
    prefix = "numerical overflow: "


class NoSupport(StorageError):
    prefix = "this function is not supported by the connection driver: "


class PoolNotFound(StorageError):
    prefix = "Storage pool not found: "


class SecretNotFound(StorageError):
    prefix = "Secret not found: "


class SecretInvalid(StorageError):
    prefix = "Invalid secret: "


class VolumeNotFound(StorageError):
    prefix = "Storage volume not found: "


class VolumesInactive(ClientError):
    """The pool that a volume is looked for in does not run: virsh's own words for PoolInactive."""

    code = "pool-inactive"


class VolumeElsewhere(ClientError):
    """A volume was found, in another pool than the one that was named."""


class VolumeExists(StorageError):
    """A volume has the name that another is to have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"storage volume '{name}' exists already")


class VolumeNameTaken(InternalError):
    """What libvirt says in place of VolumeExists where content comes from another volume."""

    def __init__(self, name: str) -> None:
        super().__init__(f"storage volume name '{name}' already in use.")


class ProbeFailed(StorageError):
    prefix = "Storage pool probe failed: "


class PoolBuilt(StorageError):
    prefix = "Storage pool already built: "


class ResourceBusy(StorageError):
    """Another process holds what is needed, or a device is in use."""

    prefix = "resource busy: "


class Inaccessible(OperationFailed):
    """A pool runs, and where its volumes are does not answer."""


class ToolMissing(StorageError):
    """A host tool is not installed.  `hint` names the packages that bring it."""


class ToolFailed(InternalError):
    """A host tool ended with a status that is not success."""

    def __init__(self, argv: list[str], status: int, stderr: str) -> None:
        import shlex

        how = (
            f"unexpected exit status {status}"
            if status >= 0
            else f"unexpected fatal signal {-status}"
        )
        said = f": {stderr}" if stderr else ""
        super().__init__(f"Child process ({shlex.join(argv)}) {how}{said}")
        self.argv = argv
        self.status = status
        self.stderr = stderr


class ToolTimeout(InternalError):
    """A host tool was ended because it took too long."""

    def __init__(self, argv: list[str], limit_s: float) -> None:
        import shlex

        super().__init__(f"Child process ({shlex.join(argv)}) did not end within {limit_s:.0f} s")


class ToolTalkative(InternalError):
    """A host tool was ended because it printed too much."""

    def __init__(self, argv: list[str], most: int) -> None:
        import shlex

        super().__init__(f"Child process ({shlex.join(argv)}) printed more than {most >> 20} MiB")
