"""Argument lists of qemu-img(1).  Formats are always named, so nothing is ever guessed.

Source: qemu-img 7.2; option order as libvirt 9.0.0 storageBackendCreateQemuImgOpts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from storagectl.host.bulk import Meter
    from storagectl.model import BackingStore, Volume

# libvirt's names where qemu-img has others.
DRIVERS = {"iso": "raw", "ploop": "parallels"}
NO_FORMAT = (None, "none")
DEFAULT_COMPAT = "0.10"
PROGRESS = re.compile(rb"\(([0-9]{1,3}(?:\.[0-9]{1,9})?)/100%\)")
# What the secrets are called on a command line.
KEY = "key"
SOURCE_KEY = "source-key"
# What QEMU before 9.1 says now and then of a fast processor: to try again helps.
COARSE_CLOCK = "Unable to get accurate CPU usage"
# What is enough to read any image, in bytes of address space, which the stacks of 64 threads
# and their arenas of malloc(3) count for, and in seconds of the processor's, also a slow one's
# that encrypts.
# Source: QEMU_IMG_LIMITS in nova/virt/images.py of OpenStack, for `info` alone; block/vdi.c of
# QEMU: a map of 4 bytes for each MiB.
MEMORY = 8 << 30
LEAST_CPU_S = 300
BYTES_PER_CPU_S = 5 << 20

# What an image can be based on.
BASES = ("raw", "iso", "qcow", "qcow2", "qed", "vmdk", "vdi", "vpc")


def driver(volume_format: str | None) -> str:
    """Return qemu-img's name of a volume format; block devices without one are raw."""
    if volume_format in NO_FORMAT:
        return "raw"
    return DRIVERS.get(volume_format, volume_format)


def driver_of(volume: Volume) -> str:
    """Return qemu-img's name of what a volume is: an encrypted raw one is a format of its own."""
    name = "raw" if volume.type == "block" else driver(volume.format)
    return "luks" if volume.encryption is not None and name == "raw" else name


def seconds_for(capacity: int) -> int:
    """Return how many seconds of the processor's all the data of an image may take to read."""
    return LEAST_CPU_S + capacity // BYTES_PER_CPU_S


def secret(name: str, path: str | None) -> list[str]:
    """Return the arguments that make a secret out of a file; none without one."""
    return [] if path is None else ["--object", f"secret,id={name},file={path}"]


def escaped(text: str) -> str:
    """Return a value for a list of options, which has commas between."""
    return text.replace(",", ",,")


def encryption_options(volume: Volume) -> list[str]:
    """Return the options that encrypt a new image."""
    encryption = volume.encryption
    if encryption is None:
        return []
    prefix = key_prefix(volume)
    words = ["encrypt.format=luks"] if prefix else []
    words.append(f"{prefix}key-secret={KEY}")
    cipher = encryption.cipher
    if cipher is not None:
        given = {
            "cipher-alg": f"{cipher.name}-{cipher.size}",
            "cipher-mode": cipher.mode,
            "hash-alg": cipher.hash,
            "ivgen-alg": cipher.ivgen,
            "ivgen-hash-alg": cipher.ivgen_hash,
        }
        words += [f"{prefix}{name}={escaped(text)}" for name, text in given.items() if text]
    return words


def key_prefix(volume: Volume) -> str:
    return "" if driver_of(volume) == "luks" else "encrypt."


def image_options(volume: Volume, key: str, *, size: int | None = None) -> str:
    """Return an image as --image-opts has it, opened with the secret `key` if encrypted.

    `size` cuts it off after that many bytes, a multiple of 512.
    """
    words, layer = [], ""
    if size is not None:
        words, layer = ["driver=raw", f"size={size}"], "file."
    words.append(f"{layer}driver={driver_of(volume)}")
    words.append(f"{layer}file.filename={escaped(volume.path)}")
    if volume.encryption is not None:
        words.append(f"{layer}{key_prefix(volume)}key-secret={key}")
    return ",".join(words)


def options(volume: Volume, *, metadata: bool, backing: BackingStore | None = None) -> list[str]:
    """Return the `-o` argument for what a volume's definition asks for, if anything."""
    words = [f"backing_fmt={driver(backing.format)}"] if backing else []
    words += encryption_options(volume)
    if metadata:
        full = volume.allocation >= volume.capacity
        words.append("preallocation=" + ("falloc" if full else "metadata"))
    if volume.nocow:
        words.append("nocow=on")
    if volume.format == "qcow2":
        words.append(f"compat={volume.compat or DEFAULT_COMPAT}")
    if volume.cluster_size:
        words.append(f"cluster_size={volume.cluster_size}")
    words += [
        {"lazy_refcounts": "lazy_refcounts", "extended_l2": "extended_l2=on"}[feature]
        for feature in volume.features or ()
    ]
    return ["-o", ",".join(words)] if words else []


def create(volume: Volume, path: str, *, metadata: bool, key: str | None = None) -> list[str]:
    """Create an empty image of the volume's capacity, rounded up to KiB, at `path`.

    `key` is a file with the passphrase of an encrypted volume, here as below.
    """
    argv = ["qemu-img", "create", "-f", driver_of(volume)]
    if volume.backing:
        argv += ["-b", volume.backing.path]
    argv += secret(KEY, key)
    argv += [*options(volume, metadata=metadata, backing=volume.backing), path]
    if volume.capacity or not volume.backing:
        argv.append(f"{-(-volume.capacity // 1024)}K")
    return argv


def convert(
    source: Volume, volume: Volume, path: str, *, metadata: bool, progress: bool
) -> list[str]:
    """Copy the content of one volume into a new image at `path`, that of its backing store
    included unless it keeps it."""
    backing = source.backing if volume.keeps_backing else None
    return [
        "qemu-img", "convert", *(["-p"] if progress else []),
        "-f", driver(source.format), "-O", driver(volume.format),
        *(["-B", backing.path] if backing else []),
        *options(volume, metadata=metadata, backing=backing), source.path, path,
    ]  # fmt: skip


def fill(
    source: Volume, volume: Volume, *, source_key: str | None, key: str | None, progress: bool
) -> list[str]:
    """Write the content of one volume into another one, any of them encrypted."""
    return [
        "qemu-img", "convert", *(["-p"] if progress else []),
        "--image-opts", "-n", "--target-image-opts",
        *secret(SOURCE_KEY, source_key), *secret(KEY, key),
        image_options(source, SOURCE_KEY), image_options(volume, KEY),
    ]  # fmt: skip


def compare(
    source: Volume, volume: Volume, *, source_key: str | None, key: str | None
) -> list[str]:
    """Compare what guests see of two volumes.

    One may be longer, with zeros; the unused rest of an encrypted one is anything.
    """
    size = None if volume.encryption is None else -(-source.capacity // 512) * 512
    return [
        "qemu-img", "compare", "--image-opts",
        *secret(SOURCE_KEY, source_key), *secret(KEY, key),
        image_options(source, SOURCE_KEY), image_options(volume, KEY, size=size),
    ]  # fmt: skip


def hearing(meter: Meter) -> Callable[[bytes], None] | None:
    """Return what hears how far qemu-img is, `    (12.34/100%)\\r`, and tells a visible meter."""
    if not meter.visible:
        return None

    def heard(chunk: bytes) -> None:
        found = PROGRESS.findall(chunk)
        if found and meter.total is not None:
            meter.advance(int(float(found[-1]) / 100 * meter.total) - meter.done)

    return heard


def resize(volume: Volume, capacity: int, *, shrink: bool, key: str | None = None) -> list[str]:
    """Change the virtual size of an image; bytes, rounded up to a multiple of 512."""
    if volume.encryption is None:
        image = ["-f", driver(volume.format)]
        path = volume.path
    else:
        image = [*secret(KEY, key), "--image-opts"]
        path = image_options(volume, KEY)
    shrinking = ["--shrink"] if shrink else []
    return ["qemu-img", "resize", *image, *shrinking, path, str(rounded(capacity))]


def rounded(capacity: int) -> int:
    """Return the virtual size that `resize` asks for."""
    return -(-capacity // 512) * 512
