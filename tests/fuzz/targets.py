"""What is fuzzed: a function of bytes for each reader of text that we have not written.

Anything that a target raises, other than StorageError, is a crash.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

from storagectl import config, documents, poolxml, secrets, units, volxml, yamltree
from storagectl.commands import connection, options, output, reader, virconf
from storagectl.commands.session import Settings
from storagectl.errors import StorageError
from storagectl.host.bulk import Meter
from storagectl.pooltypes import POOL_TYPES
from storagectl.tools import (
    blkid,
    blockdev,
    dmsetup,
    imageheader,
    iscsiadm,
    lvm,
    parted,
    qemu_img,
    scrub,
    scsi_id,
    showmount,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).resolve().parents[1]
UUID = "11111111-1111-4111-8111-000000000001"
CASES = TESTS / "fuzz/cases"
ROWS = [row for row in POOL_TYPES.values() if row.module]


class Target(NamedTuple):
    """A function to be called with bytes, and what such bytes look like when they are right."""

    run: Callable[[bytes], object]
    seeds: Callable[[], Iterator[bytes]]


def text_of(data: bytes) -> str:
    """Return bytes as the host gives a tool's output."""
    return data.decode("utf-8", "surrogateescape")


def pool_xml(data: bytes) -> None:
    """What pool-dumpxml shows can be defined, and is shown the same then."""
    pool = poolxml.parse_pool(data, new_uuid=lambda: UUID)
    shown = poolxml.format_pool(pool)
    again = poolxml.format_pool(poolxml.parse_pool(shown))
    assert again == shown, (shown, again)


def volume_xml(data: bytes) -> None:
    row = ROWS[sum(data[-8:]) % len(ROWS)]
    volume = volxml.parse_volume(data, row, capacity_optional=True)
    shown = volxml.format_volume(volume, row)
    again = volxml.format_volume(volxml.parse_volume(shown, row, capacity_optional=True), row)
    assert again == shown, (shown, again)


def secret_xml(data: bytes) -> None:
    secret = secrets.parse_secret(data, new_uuid=lambda: UUID)
    shown = secrets.format_secret(secret)
    again = secrets.format_secret(secrets.parse_secret(shown))
    assert again == shown, (shown, again)


def source_xml(data: bytes) -> None:
    for row in ROWS:
        try:
            source = poolxml.parse_source(data, row)
        except StorageError:
            continue
        poolxml.format_sources([source], row)


def validated_xml(data: bytes) -> None:
    poolxml.parse_pool(data, new_uuid=lambda: UUID, validated=True)


def apply_xml(data: bytes) -> None:
    documents.read([documents.File("a.xml")], lambda _: data)


def apply_yaml(data: bytes) -> None:
    documents.read([documents.File("a.yaml"), documents.File("b.yaml", "p")], lambda _: data)


def yaml_only(data: bytes) -> None:
    for document in yamltree.load(data, "a.yaml"):
        yamltree.Reader("a.yaml").document(document)


def command_line(data: bytes) -> None:
    """Words as main() gets them; nothing runs."""
    words = [text_of(word) for word in data.split(b"\0")]
    with mock.patch.object(output, "open_log"), mock.patch.object(output, "kept", []):
        left = options.apply(Settings(), words)
    for call in reader.read(left or []):
        call.command.values(call.named)


def shell_line(data: bytes) -> None:
    for call in reader.read(reader.split(text_of(data))):
        call.command.values(call.named)


def image_header(data: bytes) -> None:
    """The first 4 bytes choose a size that may lie."""
    size = (len(data), 1 << 63, 0, 1 << 40)[data[0] & 3] if data else 0
    reads = 0

    def read(at: int, count: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 12, "reads too often"
        assert at >= 0, "reads before the start"
        assert 0 <= count <= imageheader.LONGEST_READ, "reads too much"
        return data[1:][at : at + count]

    info = imageheader.probe(read, size)
    assert info.capacity is None or 0 < info.capacity <= imageheader.CAPACITY_MAX


def uri(data: bytes) -> None:
    connection.serves_system(text_of(data))


def size(data: bytes) -> None:
    units.pretty(units.parse(text_of(data), units.XML_LIMIT))


def client_configuration(data: bytes) -> None:
    virconf.Reader("libvirt.conf", text_of(data)).settings()


def own_configuration(data: bytes) -> None:
    config.Config()._apply(config.parsed(data))


def lvm_report(data: bytes) -> None:
    text = text_of(data)
    for parse in (lvm.parse_groups, lvm.parse_physical, lvm.parse_segments, volumes):
        try:
            parse(text)
        except StorageError:
            continue


def volumes(text: str) -> list[int]:
    return [volume.used for volume in lvm.parse_volumes(text)]


def parted_table(data: bytes) -> None:
    table = parted.parse_table(text_of(data))
    table.numbers(parted.PRIMARY)


def tool_lines(data: bytes) -> None:
    """The parsers of what is lines of words: they never fail, or only in our words."""
    text = text_of(data)
    blockdev.parse_mountinfo(text)
    blockdev.parse_targets(text, ("nfs",))
    blockdev.parse_swaps(text)
    iscsiadm.parse_targets(text)
    iscsiadm.parse_interfaces(text)
    iscsiadm.parse_initiator(text)
    iscsiadm.with_chap(text, "user", "password")
    showmount.parse_exports(text)
    scsi_id.parse_serial(text, export=True)
    scsi_id.parse_serial(text, export=False)
    dmsetup.parse_maps(text)
    for parse in (dmsetup.parse_status, parted.parse_cylinder_sectors, blkid.parse_signatures):
        try:
            parse(text)
        except StorageError:
            continue


def progress(data: bytes) -> None:
    meter = Meter()
    meter.visible = True
    meter.begin(1 << 30)
    scrub.hearing(meter, 1 << 20)(data)
    heard = qemu_img.hearing(meter)
    assert heard is not None
    heard(data)


def files(*patterns: str) -> Iterator[bytes]:
    for pattern in patterns:
        for path in sorted(TESTS.glob(pattern)):
            yield path.read_bytes()


def corpus(*names: str) -> Iterator[bytes]:
    r"""Yield the documents of the oracle's corpus, where \xNN is a byte."""
    for name in names:
        text = (TESTS / f"oracle/corpus/{name}.xml").read_bytes()
        for part in re.split(rb"(?m)^=== .*\n", text)[1:]:
            yield re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), part)


def pools() -> Iterator[bytes]:
    names = ("dir", "fs", "netfs", "logical", "disk", "iscsi", "scsi", "mpath", "others")
    yield from files("unit/golden/pool-*.in.xml")
    yield from corpus(*names)


def recorded(*folders: str) -> Iterator[bytes]:
    """Yield what tools have printed: fixtures, and the samples in the parsers' docstrings."""
    for folder in folders:
        yield from files(f"unit/tools/fixtures/{folder}/*")
    for module in (blkid, blockdev, dmsetup, iscsiadm, lvm, parted, scrub, scsi_id, showmount):
        for function in vars(module).values():
            if callable(function) and getattr(function, "__module__", "") == module.__name__:
                for part in (function.__doc__ or "").split("\n\n")[1:]:
                    yield re.sub(r"(?m)^    ", "", part).encode()


def lines() -> Iterator[bytes]:
    found = (TESTS / "oracle/main-job.sh").read_bytes().splitlines()
    yield from (line.partition(b" ")[2] for line in found if line.startswith((b"t ", b"v ")))
    yield from (TESTS / "cli/calls.txt").read_bytes().splitlines()


def words() -> Iterator[bytes]:
    yield from (line.replace(b" ", b"\0") for line in lines())


def headers() -> Iterator[bytes]:
    """Yield the start of an image of each kind: the magic, numbers, and a descriptor."""
    for magic in imageheader.PARSERS:
        for version in (b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\3", b"\1\0\0\0", b"\xba\xbe\0\1"):
            yield b"\0" + magic + version + bytes(5) + b"\x70\0\0\0\x08" + bytes(500)
    yield b'\0# Disk DescriptorFile\nversion=1\nparentFileNameHint="b"\nRW 16 FLAT "/x" 0\n'
    yield b"\0" + bytes(64) + b"\x7f\x10\xda\xbe\x01\x00\x01\x00" + bytes(400)
    yield b"\0conectix" + bytes(504)
    yield b"\0vhdxfile" + bytes(504)
    yield b"\0WithoutFreeSpace" + bytes(504)
    yield b"\0" + bytes(512) + b"koly" + bytes(508)


def manifests() -> Iterator[bytes]:
    manual = (TESTS.parent / "README.md").read_text() + (
        TESTS.parent / "man/storagectl.1.in"
    ).read_text()
    yield from (part.encode() for part in re.findall(r"(?s)```yaml\n(.*?)```", manual))
    yield b"pools:\n- name: p\n  type: dir\n  target: {path: /t}\n  volumes:\n  - {name: v}\n"
    yield b"pool: p\nvolumes:\n- &a {name: v, capacity: {value: 1}}\n- <<: *a\n  name: w\n"


def plain(*seeds: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(seeds)


TARGETS = {
    "pool-xml": Target(pool_xml, pools),
    "volume-xml": Target(
        volume_xml, lambda: (*files("unit/golden/volume-*.in.xml"), *corpus("volumes"))
    ),
    "secret-xml": Target(
        secret_xml,
        plain(
            b"<secret ephemeral='no' private='yes'><uuid>" + UUID.encode() + b"</uuid>"
            b"<description>d</description>"
            b"<usage type='volume'><volume>/v</volume></usage></secret>",
            b"<secret><usage type='iscsi'><target>t</target></usage></secret>",
        ),
    ),
    "source-xml": Target(
        source_xml,
        lambda: (
            b"<source>" + part.partition(b"<source>")[2].partition(b"</source>")[0] + b"</source>"
            for part in files("unit/golden/pool-*.out.xml")
        ),
    ),
    "validated-xml": Target(validated_xml, pools),
    "apply-xml": Target(
        apply_xml, lambda: (b"<storage>" + seed + b"</storage>" for seed in pools())
    ),
    "apply-yaml": Target(apply_yaml, manifests),
    "command-line": Target(command_line, words),
    "shell-line": Target(shell_line, lines),
    "image-header": Target(image_header, headers),
    "uri": Target(
        uri, plain(b"qemu:///system", b"test:///default", b"qemu+ssh://root@host/system?x=y")
    ),
    "size": Target(size, plain(b"10M", b"1KB", b"18446744073709551615E", b"0x10")),
    "libvirt-conf": Target(
        client_configuration, plain(b'uri_default = "x"\nuri_aliases = [\n "a=b",\n]\n# c\n')
    ),
    "config-toml": Target(
        own_configuration, plain(b"confirm = true\n[time-limits]\ncommand = 5\n")
    ),
    "lvm-report": Target(lvm_report, lambda: recorded("lvm")),
    "parted-table": Target(parted_table, lambda: recorded("parted")),
    "tool-lines": Target(tool_lines, lambda: recorded("showmount", "wipefs", "lvm")),
    "progress": Target(progress, plain(b"scrub: random  |.....|\n", b"    (12.34/100%)\r")),
}


def survives(name: str, data: bytes) -> None:
    """Run a target: it comes to an end, or to an error in our words."""
    words: list[str] | None = None
    try:
        TARGETS[name].run(data)
    except StorageError as error:
        words = error.lines()
    assert words is None or (words and all(isinstance(line, str) for line in words)), words
