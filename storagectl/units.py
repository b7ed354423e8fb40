"""Sizes: from virsh's suffixes to bytes, and from bytes to virsh's words."""

from __future__ import annotations

from storagectl.errors import ClientError, InvalidArgument, Overflow, StorageError

LETTERS = "kmgtpe"
XML_LIMIT = 2**63 - 1
COMMAND_LIMIT = 2**64 - 1
LONGEST_NUMBER = 100


def scale(number: int, suffix: str, limit: int) -> int:
    """Return `number` times what the suffix says, in bytes.

    K and KiB are 1024, KB is 1000, and so on to E; no suffix or b, byte, bytes is 1;
    upper and lower case are the same.

    Raises: InvalidArgument for another suffix, Overflow above `limit`.
    Source: libvirt 9.0.0 virScaleInteger.
    """
    unit = suffix.lower() if suffix.isascii() else suffix
    if unit in ("", "b", "byte", "bytes"):
        factor = 1
    elif unit[0] in LETTERS and unit[1:] in ("", "ib", "b"):
        base = 1000 if unit[1:] == "b" else 1024
        factor = base ** (LETTERS.index(unit[0]) + 1)
    else:
        raise InvalidArgument(f"unknown suffix '{suffix}'")
    if number * factor > limit:
        raise Overflow(f"value too large: {number}{suffix}")
    return number * factor


def pretty(size: int) -> tuple[float, str]:
    """Return a size in bytes as the number and the unit that virsh shows it in."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1024:
            return number, unit
        number /= 1024
    return number, "EiB"


def parse(text: str, limit: int) -> int:
    """Return a size as typed on the command line (`10M`) in bytes.

    Raises: ClientError for what is no number; InvalidArgument or Overflow, whose first
    line says which size, for the rest.
    Source: libvirt 9.0.0 vshCommandOptScaledInt in tools/vsh.c.
    """
    digits = len(text) - len(text.lstrip("0123456789"))
    if not 0 < digits <= LONGEST_NUMBER or int(text[:digits]) > COMMAND_LIMIT:
        raise ClientError(f"Malformed size {text}")
    try:
        return scale(int(text[:digits]), text[digits:], limit)
    except StorageError as error:
        error.action = f"Malformed size {text}"
        raise
