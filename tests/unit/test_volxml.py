"""Volume XML against what virsh -c test:///default (libvirt 9.0.0) answered.

golden/volume-TYPE*.in.xml was created in a pool of that type, .out.xml is what
vol-dumpxml then showed.  `python tests/unit/test_volxml.py` records them again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagectl import model
from storagectl.errors import StorageError
from storagectl.pooltypes import POOL_TYPES, PoolType
from storagectl.volxml import FEATURES, format_volume, parse_volume

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name.removesuffix(".in.xml") for path in GOLDEN.glob("volume-*.in.xml"))
UUID = "6d0ce2b1-1a3e-4c59-9f39-0b5a1c2d3e4f"
DIR = POOL_TYPES["dir"]
POOLS = {
    "dir": "<pool type='dir'><name>p</name><target><path>/t</path></target></pool>",
    "disk": "<pool type='disk'><name>p</name><source><device path='/dev/sdb'/></source>"
    "<target><path>/t</path></target></pool>",
    "logical": "<pool type='logical'><name>p</name></pool>",
}
TARGETS = {"dir": "/t", "disk": "/t", "logical": "/dev/p"}
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def need_virsh() -> None:
    """Skip where libvirt 9.0.0 is not there to ask; never in CI."""
    found = shutil.which("virsh")
    if found and subprocess.run([found, "-v"], capture_output=True).stdout.strip() == b"9.0.0":
        return
    if os.environ.get("STORAGECTL_CI") == "1":
        pytest.fail("virsh 9.0.0 is not installed")
    pytest.skip("virsh 9.0.0 is not installed")


def virsh(kind: str, document: Path, folder: Path, name: str = "") -> tuple[str, str]:
    """Create a volume in a new pool of libvirt's test driver; return its XML and errors."""
    pool = folder / "pool.xml"
    pool.write_text(POOLS[kind])
    commands = [f"pool-define '{pool}'", "pool-start p", f"vol-create p '{document}'"]
    if name:
        commands.append(f"vol-dumpxml --pool p '{name}'")
    done = subprocess.run(
        ["virsh", "-c", "test:///default", "; ".join(commands)], capture_output=True, text=True
    )
    shown = re.search(r"^<.*>$", done.stdout, re.MULTILINE | re.DOTALL)
    return shown.group() + "\n" if shown else "", done.stderr


def recorded(case: str) -> tuple[str, bytes, str]:
    return (
        case.split("-")[1],
        (GOLDEN / f"{case}.in.xml").read_bytes(),
        (GOLDEN / f"{case}.out.xml").read_text(encoding="utf-8"),
    )


def read(document: str | bytes, row: PoolType = DIR) -> model.Volume:
    return parse_volume(document, row, capacity_optional=False)


def refusal(document: str | bytes, row: PoolType = DIR) -> str:
    with pytest.raises(StorageError) as caught:
        read(document, row)
    return "\n".join(caught.value.lines())


def volume(
    target: str = "", capacity: str = "<capacity>1</capacity>", rest: str = "", kind: str = ""
) -> str:
    return f"<volume{kind}><name>x</name>{capacity}{rest}<target>{target}</target></volume>"


def encryption(inside: str, kind: str = "format='luks'") -> str:
    return volume(f"<encryption {kind}>{inside}</encryption>")


def secret(attributes: str) -> str:
    return encryption(f"<secret {attributes}/>", "format='qcow'")


REFUSED = [
    ("<foo/>", "XML error: expecting root element of 'volume', not 'foo'"),
    (
        "<volume",
        "(storage_volume_definition):1: Couldn't find end of Start Tag volume line 1\n"
        "<volume\n-------^",
    ),
    ("<volume/>", "XML error: missing volume name element"),
    ("<volume><name/></volume>", "XML error: missing volume name element"),
    (volume(capacity=""), "XML error: missing capacity element"),
    (volume(capacity="<capacity unit='G'/>"), "XML error: missing capacity element"),
    *(
        (volume(capacity=f"<capacity>{number}</capacity>"), "XML error: malformed capacity element")
        for number in (
            "-1", "-0", "12 ", "1.5", "1e3", "0x10", "10G", "x", "9" * 20, "9" * 5000,
            "\N{ARABIC-INDIC DIGIT THREE}", "\N{NO-BREAK SPACE}1",
        )
    ),
    (volume(rest="<allocation>x</allocation>"), "XML error: malformed capacity element"),
    *(
        (volume(capacity=f"<capacity unit='{unit}'>{number}</capacity>"), words)
        for number, unit, words in (
            ("1", "zz", "invalid argument: unknown suffix 'zz'"),
            ("9", "E", "numerical overflow: value too large: 9E"),
            ("8", "EiB", "numerical overflow: value too large: 8EiB"),
            ("9223372036854775808", "", "numerical overflow: value too large: 9223372036854775808"),
        )
    ),
    (volume(rest="<allocation unit='q'>1</allocation>"), "invalid argument: unknown suffix 'q'"),
    (volume(kind=" type='zz'"), "unsupported configuration: unknown volume type 'zz'"),
    *(
        (document, f"unsupported configuration: unknown volume format type {name}")
        for name in ("zz", "none", "luks")
        for document in (
            volume(f"<format type='{name}'/>"),
            volume(rest=f"<backingStore><path>/b</path><format type='{name}'/></backingStore>"),
        )
    ),
    (volume("<permissions><mode>01777</mode></permissions>"), "XML error: malformed octal mode"),
    (volume("<permissions><owner>x</owner></permissions>"), "XML error: malformed owner element"),
    (volume("<permissions><group/></permissions>"), "XML error: malformed group element"),
    (
        volume(
            rest="<backingStore><path>/b</path><permissions><mode>9</mode></permissions></backingStore>"
        ),
        "XML error: malformed octal mode",
    ),
    *(
        (
            volume(f"<compat>{text}</compat>"),
            "XML error: forbidden characters in 'compat' attribute",
        )
        for text in ("1", "1.", ".1", "1.1.1", "a.b", "1.1 ", "1.99999999999")
    ),
    *(
        (
            volume(f"<clusterSize>{text}</clusterSize>"),
            f"XML error: Invalid value '{text}' for element or attribute './target/clusterSize'",
        )
        for text in ("x", "-1", "1k")
    ),
    (volume("<clusterSize unit='q'>1</clusterSize>"), "invalid argument: unknown suffix 'q'"),
    (volume("<clusterSize unit='E'>16</clusterSize>"), "numerical overflow: value too large: 16E"),
    (volume("<features><zz/></features>"), "unsupported configuration: unsupported feature zz"),
    (encryption("", ""), "XML error: unknown volume encryption format"),
    (
        encryption("", "format='zz'"),
        "unsupported configuration: unknown volume encryption format type zz",
    ),
    *(
        (
            encryption("", f"format='luks' engine='{engine}'"),
            f"XML error: Invalid value for attribute 'engine' in element 'encryption': '{engine}'.",
        )
        for engine in ("zz", "", "default")
    ),
    (secret(""), "XML error: unknown volume encryption secret type"),
    (secret("type=''"), "XML error: unknown volume encryption secret type"),
    (
        secret("type='zz'"),
        "unsupported configuration: unknown volume encryption secret type zz",
    ),
    (secret("type='passphrase'"), "XML error: missing secret uuid or usage attribute"),
    (
        secret("type='passphrase' usage='a' uuid='b'"),
        "XML error: either secret uuid or usage expected",
    ),
    (secret("type='passphrase' uuid='b'"), "XML error: invalid secret uuid 'b'"),
    (encryption("<cipher/>"), "XML error: cipher info missing 'name' attribute"),
    (
        encryption("<cipher name='a'/>"),
        "XML error: Missing required attribute 'size' in element 'cipher'",
    ),
    *(
        (
            encryption(f"<cipher name='a' size='{size}'/>"),
            f"XML error: Invalid value for attribute 'size' in element 'cipher': '{size}'."
            " Expected non-negative integer value",
        )
        for size in ("x", "", "-1", "99999999999")
    ),
    (encryption("<ivgen name='a'/>"), "XML error: ivgen element found, but cipher is missing"),
    (
        encryption("<cipher name='a' size='1'/><ivgen/>"),
        "XML error: missing ivgen info name string",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    kind, document, shown = recorded(case)
    found = read(document, POOL_TYPES[kind])
    found.key = found.path = f"{TARGETS[kind]}/{found.name}"
    assert format_volume(found, POOL_TYPES[kind]) == shown


@pytest.mark.parametrize("case", CASES)
def test_golden_is_a_fixpoint(case: str) -> None:
    kind, _, shown = recorded(case)
    assert format_volume(read(shown, POOL_TYPES[kind]), POOL_TYPES[kind]) == shown


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_golden_live(case: str, tmp_path: Path) -> None:
    need_virsh()
    kind, document, shown = recorded(case)
    name = read(document, POOL_TYPES[kind]).name
    assert virsh(kind, GOLDEN / f"{case}.in.xml", tmp_path, name) == (shown, "")


@pytest.mark.parametrize(("document", "words"), REFUSED)
def test_refused(document: str, words: str) -> None:
    assert refusal(document) == words


@pytest.mark.oracle
@pytest.mark.parametrize(("document", "words"), REFUSED)
def test_refused_live(document: str, words: str, tmp_path: Path) -> None:
    need_virsh()
    file = tmp_path / "volume.xml"
    file.write_text(document, encoding="utf-8")
    _, errors = virsh("dir", file, tmp_path)
    assert errors == f"error: Failed to create vol from {file}\nerror: {words}\n"


@pytest.mark.parametrize("text", ["-1.1", " 1. 1", "+1.1", "1.1,data_file=/etc/shadow"])
def test_compat_is_digits(text: str) -> None:
    """It becomes part of an option of qemu-img; libvirt lets signs and blanks pass."""
    words = refusal(volume(f"<compat>{text}</compat>"))
    assert words == "XML error: forbidden characters in 'compat' attribute"


def test_missing_capacity() -> None:
    backed = volume(capacity="", rest="<backingStore><path>/b</path></backingStore>")
    assert read(backed).capacity == 0
    plain = parse_volume(volume(capacity=""), DIR, capacity_optional=True)
    assert (plain.capacity, plain.allocation) == (0, 0)


def test_allocation_is_capacity_unless_given() -> None:
    assert read(volume()).allocation == 1
    assert read(volume(rest="<allocation>0</allocation>")).allocation == 0


def test_nocow_is_read_but_never_shown() -> None:
    found = read(volume("<nocow/>"))
    assert found.nocow
    assert "nocow" not in format_volume(found, DIR)


# From libvirtd 9.0.0, with numbers instead of normalised times.
SHOWN_PARTITION = """\
<volume type='block'>
  <name>loop1p1</name>
  <key>/dev/loop1p1</key>
  <source>
    <device path='/dev/loop1'>
      <extent start='17408' end='16794624'/>
    </device>
  </source>
  <capacity unit='bytes'>16777216</capacity>
  <allocation unit='bytes'>16777216</allocation>
  <physical unit='bytes'>16777216</physical>
  <target>
    <path>/dev/loop1p1</path>
    <format type='none'/>
    <permissions>
      <mode>0600</mode>
      <owner>0</owner>
      <group>6</group>
    </permissions>
    <timestamps>
      <atime>1795445495.353940252</atime>
      <mtime>1795445495.000000009</mtime>
      <ctime>1795445495</ctime>
      <btime>0</btime>
    </timestamps>
  </target>
</volume>
"""


def test_what_only_the_host_knows_is_shown() -> None:
    found = model.Volume(
        "loop1p1", "/dev/loop1p1", "/dev/loop1p1", "block", 16777216, 16777216, 16777216, "none",
        model.Permissions(0o600, 0, 6),
        model.Timestamps(1795445495353940252, 1795445495000000009, 1795445495000000000),
        extents=[model.SourceExtent("/dev/loop1", 17408, 16794624)],
    )  # fmt: skip
    assert format_volume(found, POOL_TYPES["disk"]) == SHOWN_PARTITION


def test_extents_are_grouped_by_device_in_their_order() -> None:
    extents = [("/a", 0, 1), ("/a", 4, 5), ("/b", 0, 2), ("/a", 2, 3)]
    found = model.Volume("v", extents=[model.SourceExtent(*each) for each in extents])
    source = format_volume(found, POOL_TYPES["logical"]).split("  <source>\n")[1]
    assert (
        source.split("  </source>")[0]
        == """\
    <device path='/a'>
      <extent start='0' end='1'/>
      <extent start='4' end='5'/>
    </device>
    <device path='/b'>
      <extent start='0' end='2'/>
    </device>
    <device path='/a'>
      <extent start='2' end='3'/>
    </device>
"""
    )


def test_times_of_a_backing_store_are_shown() -> None:
    """As libvirtd 9.0.0 does after a refresh."""
    found = model.Volume(
        "v", backing=model.BackingStore("/b", "raw", timestamps=model.Timestamps(1, 10**9, 0))
    )
    assert (
        format_volume(found, DIR).split("<backingStore>\n")[1]
        == """\
    <path>/b</path>
    <format type='raw'/>
    <timestamps>
      <atime>0.000000001</atime>
      <mtime>1</mtime>
      <ctime>0</ctime>
      <btime>0</btime>
    </timestamps>
  </backingStore>
</volume>
"""
    )


TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1
)
BLANKS = st.sampled_from(["", " ", "\n", "\t", "\r"])
ANY = st.builds("".join, st.tuples(BLANKS, TEXT, BLANKS, TEXT))
SIZES = st.integers(0, 2**63 - 1)
PERMISSIONS = st.builds(
    model.Permissions,
    mode=st.none() | st.integers(0, 0o777),
    owner=st.none() | st.integers(0, 2**32 - 2),
    group=st.none() | st.integers(0, 2**32 - 2),
    label=st.none() | ANY,
)
SECRETS = st.builds(model.Secret, type=st.just("passphrase"), uuid=st.uuids().map(str)) | st.builds(
    model.Secret, type=st.just("passphrase"), usage=TEXT
)


@st.composite
def ciphers(draw: st.DrawFn) -> model.Cipher:
    ivgen = draw(st.none() | ANY)
    return model.Cipher(
        draw(ANY), draw(st.integers(0, 2**32 - 1)), draw(st.none() | ANY), draw(st.none() | ANY),
        ivgen, draw(st.none() | ANY) if ivgen is not None else None,
    )  # fmt: skip


@st.composite
def encryptions(draw: st.DrawFn) -> model.Encryption:
    kind = draw(st.sampled_from(["default", "qcow", "luks", "luks2"]))
    return model.Encryption(
        kind,
        draw(st.sampled_from([None, "qemu", "librbd"])),
        draw(st.lists(SECRETS, max_size=3)),
        draw(st.none() | ciphers()) if kind == "luks" else None,
    )


@st.composite
def volumes(draw: st.DrawFn) -> tuple[PoolType, model.Volume]:
    """Volumes with everything that is read, and the type of their pool."""
    row = POOL_TYPES[draw(st.sampled_from(["dir", "fs", "netfs", "logical", "disk", "scsi"]))]
    allowed = [name for name in row.volume_formats if name != "none" or name == row.volume_default]
    formats = st.sampled_from(allowed) if allowed else st.none()
    features = draw(st.none() | st.sets(st.sampled_from(FEATURES)))
    compat = st.sampled_from(["0.10", "1.1", "999999999.0"])
    return row, model.Volume(
        draw(TEXT), draw(ANY), draw(ANY), draw(st.sampled_from(["file", "block", "dir"])),
        capacity=draw(SIZES),
        allocation=draw(SIZES),
        format=draw(formats),
        permissions=draw(PERMISSIONS),
        backing=draw(st.none() | st.builds(model.BackingStore, ANY, formats, PERMISSIONS)),
        encryption=draw(st.none() | encryptions()),
        compat=draw(compat if features is not None else st.none() | compat),
        cluster_size=draw(st.none() | st.integers(1, 2**64 - 1)),
        features=None if features is None else tuple(f for f in FEATURES if f in features),
    )  # fmt: skip


@PATIENT
@given(volumes())
def test_written_volumes_are_read_back(case: tuple[PoolType, model.Volume]) -> None:
    row, made = case
    shown = format_volume(made, row)
    assert read(shown, row) == made
    assert format_volume(read(shown, row), row) == shown


@PATIENT
@given(volumes(), st.data())
def test_damaged_volumes_are_read_or_refused(
    case: tuple[PoolType, model.Volume], data: st.DataObject
) -> None:
    row, made = case
    document = bytearray(format_volume(made, row).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StorageError):
        read(bytes(document), row)


def record() -> None:
    import tempfile

    for case in CASES:
        kind = case.split("-")[1]
        file = GOLDEN / f"{case}.in.xml"
        name = read(file.read_bytes(), POOL_TYPES[kind]).name
        with tempfile.TemporaryDirectory() as folder:
            shown, errors = virsh(kind, file, Path(folder), name)
        assert not errors, errors
        (GOLDEN / f"{case}.out.xml").write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    record()
