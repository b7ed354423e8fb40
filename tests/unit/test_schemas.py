"""The schemas of --validate: they accept what libvirt's accept.

The corpus (tests/oracle/corpus.py) asks virsh itself.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from inprocess import storagectl

from storagectl import volxml, xmltree
from storagectl.errors import SchemaError, StorageError, XmlError
from storagectl.pooltypes import FILE_FORMATS, PARTITION_FORMATS, POOL_TYPES, PoolType
from storagectl.poolxml import parse_pool
from storagectl.volxml import parse_volume

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path(xmltree.__file__).parent / "schemas"
RNG = "{http://relaxng.org/ns/structure/1.0}"
# What virsh --validate refuses too.
STRANGE = {
    "pool-dir.out.xml": "a <refresh>, which only rbd pools have",
    "pool-fs-mount-options.in.xml": "mount options before the source",
    "pool-fs.in.xml": "two devices",
    "pool-fs.out.xml": "two devices",
    "pool-iscsi-secret-uuid.in.xml": "no device",
    "pool-iscsi-secret-uuid.out.xml": "no device",
    "pool-iscsi.in.xml": "the type of a secret",
    "pool-iscsi.out.xml": "the type of a secret",
    "pool-logical-default.in.xml": "no target",
    "pool-logical-name-only.in.xml": "no source",
    "pool-mpath.out.xml": "an <auth>",
    "volume-dir-backing-default.in.xml": "a relative backing store",
    "volume-dir-backing-default.out.xml": "a relative backing store",
    "volume-dir-luks-cipher.in.xml": "a cipher, and no secret",
    "volume-dir-luks-cipher.out.xml": "a cipher, and no secret",
    "volume-dir-luks.in.xml": "an ivgen before its cipher",
    "volume-dir-minimal.in.xml": "blanks before a size",
    "volume-dir-qcow-encryption.out.xml": "two secrets",
    "pool-dir-first-wins.in.xml": "unknown and repeated elements",
    "pool-dir.in.xml": "a host, a folder and a name, which a dir pool has not",
    "pool-mpath.in.xml": "a device, which an mpath pool has not",
    "volume-dir-qcow-encryption.in.xml": "a cipher without a name",
    "volume-logical.in.xml": "a format that is none",
}
UUID = "6d0ce2b1-1a3e-4c59-9f39-0b5a1c2d3e4f"
WWN = "20000000c9831b4b"
NAME = "<name>x</name>"
TARGET = "<target><path>/t</path></target>"
DEVICE = "<device path='/d'/>"
HOST = "<host name='h'/>"
PORTAL = HOST + "<device path='iqn.2010-05.com.example:t'/>"
SECRET = f"<secret uuid='{UUID}'/>"
FS = "xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'"
RBD = "xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'"


def schema_of(name: str) -> str:
    return "storagepool" if name.startswith("pool") else "storagevol"


def is_valid(document: str | bytes, schema: str) -> bool:
    try:
        xmltree.validate(document, schema)
    except SchemaError as error:
        detail = error.detail
    else:
        return True
    assert detail.startswith(f"Unable to validate doc against {SCHEMAS}/{schema}.rng\n")
    assert detail.endswith("\n")
    assert len(detail.splitlines()) > 1
    return False


def pool(kind: str, source: str = "", rest: str = "", *, name: str = NAME, to: str = TARGET) -> str:
    inside = f"<source>{source}</source>" if source else ""
    return f"<pool type='{kind}' {FS} {RBD}>{name}{inside}{to}{rest}</pool>"


def target(inside: str) -> str:
    return pool("dir", to=f"<target><path>/t</path>{inside}</target>")


def auth(attributes: str = "type='chap' username='u'", secret: str = SECRET) -> str:
    return pool("iscsi", f"{PORTAL}<auth {attributes}>{secret}</auth>")


def adapter(attributes: str, inside: str = "") -> str:
    return pool("scsi", f"<adapter {attributes}>{inside}</adapter>")


def parent(address: str = "<address/>", unique_id: str = "unique_id='1'") -> str:
    inside = f"<parentaddr {unique_id}>{address}</parentaddr>"
    return adapter("type='scsi_host'", inside)


def volume(inside: str = "", rest: str = "", kind: str = "", name: str = NAME) -> str:
    return f"<volume{kind}>{name}{rest}<target>{inside}</target></volume>"


def encryption(kind: str, inside: str = "") -> str:
    return volume(f"<encryption {kind}>{inside}</encryption>")


MOUNT = "<fs:mount_opts><fs:option name='ro'/></fs:mount_opts>"
LUKS = "format='luks'"
CIPHER = "<cipher name='aes' size='256'/>"
PASSPHRASE = "<secret type='passphrase' usage='u'/>"

ACCEPTED = [
    pool("dir"),
    f"<pool type='dir'>{TARGET}{NAME}</pool>",
    pool("dir", rest="<uuid>6D0CE2B11A3E4C599F390B5A1C2D3E4F</uuid>"),
    pool("dir", rest="<features/>"),
    pool("fs", f"<format type='btrfs'/>{DEVICE}", MOUNT),
    pool("netfs", f"<dir path='/x'/>{HOST}{HOST}", MOUNT),
    pool("logical", name="", to="<target/>", source="<name>vg</name>"),
    pool("logical", f"{DEVICE}<name>vg</name>{DEVICE}<vendor name=''/>"),
    pool("logical", "<format type='lvm2'><product name='p'/></format>"),
    pool("disk", f"<format type='gpt'/>{DEVICE}", "<features/>"),
    pool("iscsi", PORTAL),
    pool("iscsi", PORTAL + "<initiator><iqn name=''/></initiator>"),
    *(
        pool("netfs", f"<host name='{name}' port='-1'/><dir path='x'/><format type='cifs'/>")
        for name in ("a.b-c", "192.0.2.1", "::", "::1", "2001:db8::a:1", "1:2:3:4:5:6:7:8")
    ),
    pool("netfs", HOST + "<protocol ver=''/><dir path='/'/>"),
    pool("mpath"),
    auth(),
    auth(secret="<secret usage=''/>"),
    auth("type='ceph' username='u'"),
    adapter("name='host1'"),
    adapter("type='scsi_host' name='host1'"),
    adapter(f"type='fc_host' wwnn='{WWN}' wwpn='{WWN}'"),
    parent(),
    parent("<address domain='0' bus='0x1F' slot='1' function='7' multifunction='on'/>"),
    *(target(f"<permissions><mode>{mode}</mode></permissions>") for mode in ("0", "755", "00644")),
    target("<permissions><owner>-1</owner><label/></permissions>"),
    pool(
        "rbd", "<name>p</name><host name='h'/>", to="",
        rest="<rbd:config_opts><rbd:option name='a' value='b'/></rbd:config_opts>",
    ),
    pool("zfs", "<name>tank</name>", to=""),
    "<volume><name>x</name></volume>",
    "<volume><target/><capacity>5</capacity><name>x</name></volume>",
    *(
        volume(rest=f"<capacity unit='{unit}'>1</capacity>")
        for unit in ("b", "Byte", "bytes", "k", "M", "gIb", "TB", "PiB", "e")
    ),
    encryption(LUKS),
    encryption(LUKS, PASSPHRASE),
    encryption(LUKS, f"{PASSPHRASE}{CIPHER}<ivgen name='plain'/>"),
    encryption("format='qcow'", f"{CIPHER}<ivgen name='plain'/>{PASSPHRASE}"),
    volume("<nocow/><features/>"),
]  # fmt: skip

# What only the reader refuses, as in virsh, where its words are clearer.
LEFT_TO_THE_READER = [
    (target("<permissions><mode>1777</mode></permissions>"), "malformed octal mode"),
    (pool("netfs", HOST + "<dir path='/x'/><protocol ver='3,4'/>"), "must not contain ','"),
    (parent(unique_id=""), "Missing or invalid scsi adapter 'unique_id' value"),
    (
        pool("disk", DEVICE, "<features><cow state='no'/></features>"),
        "cow feature may only be used",
    ),
    (auth("type='chap' username=''"), "missing username for auth"),
    (auth(secret="<secret uuid='1'/>"), "invalid secret uuid '1'"),
    (
        adapter(f"type='fc_host' wwnn='{WWN}' wwpn='{WWN}' parent_wwnn='{WWN}'"),
        "the parent_wwpn must also be provided",
    ),
]

REFUSED_POOLS = [
    "<foo/>",
    f"<pool>{NAME}{TARGET}</pool>",
    f"<pool xmlns='u' type='dir'>{NAME}{TARGET}</pool>",
    f"<pool type='dir' id='5'>{NAME}{TARGET}</pool>",
    f"<pool type='dir'>words{NAME}{TARGET}</pool>",
    pool("bogus"),
    pool("DIR"),
    pool("dir", name=""),
    pool("dir", name="<name/>"),
    pool("dir", name="<name>a/b</name>"),
    pool("dir", name="<name>a\nb</name>"),
    pool("dir", name=NAME + NAME),
    pool("dir", rest="<foo/>"),
    pool("dir", rest=TARGET),
    pool("dir", rest=MOUNT),
    pool("dir", DEVICE),
    pool("dir", HOST),
    pool("dir", "<format type='auto'/>"),
    pool("dir", to=""),
    pool("dir", to="<target/>"),
    pool("dir", to="<target><path>t</path></target>"),
    *(
        pool("dir", rest=f"<uuid>{uuid}</uuid>")
        for uuid in ("", UUID[1:], UUID + "0", UUID[:-1] + "g")
    ),
    pool("dir", rest="<capacity unit='zz'>5</capacity>"),
    pool("dir", rest="<capacity unit=''>5</capacity>"),
    pool("dir", rest="<capacity>5G</capacity>"),
    pool("dir", rest="<features><cow state='maybe'/></features>"),
    pool("dir", rest="<features><cow/></features>"),
    pool("dir", rest="<refresh/>"),
    pool("dir", rest="<refresh><volume allocation='default'/></refresh>"),
    pool("dir", "<auth type='chap' username='u'><secret usage='s'/></auth>"),
    pool("dir", "<protocol ver='3'/>"),
    pool("dir", to="<target><path>/</path></target>"),
    pool("dir", rest=f"<capacity>{2**64}</capacity>"),
    *(
        target(f"<permissions>{inside}</permissions>")
        for inside in (
            "<mode/>", "<mode>999</mode>", "<mode>rw</mode>",
            "<owner>-2</owner>", "<owner>root</owner>", "<group/>", "<acl/>",
            "<mode>0</mode><mode>0</mode>",
        )
    ),
    target("<encryption format='qcow'/>"),
    pool("fs"),
    pool("fs", "<format type='ext4'/>"),
    pool("fs", "<device/>"),
    pool("fs", "<device path=''/>"),
    pool("fs", "<device path='/d' part_separator='maybe'/>"),
    pool("fs", DEVICE + "<format/>"),
    pool("fs", DEVICE + "<format type='zzz'/>"),
    pool("fs", DEVICE + "<format type='gpt'/>"),
    pool("fs", DEVICE, "<mount_opts><option name='ro'/></mount_opts>"),
    pool("fs", DEVICE + DEVICE),
    pool("fs", DEVICE, MOUNT + "<features/>"),
    pool("fs", DEVICE, "<fs:mount_opts><fs:option/></fs:mount_opts>"),
    pool("fs", DEVICE, "<fs:mount_opts><option name='ro'/></fs:mount_opts>"),
    pool("netfs", HOST),
    pool("netfs", "<dir path='/x'/>"),
    pool("netfs", "<host/><dir path='/x'/>"),
    pool("netfs", "<host name=''/><dir path='/x'/>"),
    *(
        pool("netfs", f"<host name='h' port='{port}'/><dir path='/x'/>")
        for port in ("abc", "", "-2", "65536")
    ),
    *(
        pool("netfs", f"<host name='{name}'/><dir path='/x'/>")
        for name in ("a_b", "a b", "[::1]", "1:2", "1::2::3", ":::")
    ),
    pool("netfs", HOST + "<dir path='x'/>"),
    pool("netfs", HOST + "<dir path='/x'/><format type='cifs'/><protocol ver='3'/>"),
    pool("netfs", HOST + "<dir path=''/>"),
    pool("netfs", HOST + "<dir path='/x'/><format type='ext4'/>"),
    pool("logical", "<format type='zzz'/>"),
    pool("logical", HOST),
    pool("disk"),
    pool("disk", DEVICE + "<format type='ext4'/>"),
    pool("disk", "<device path='/d'><freeExtent start='a' end='2'/></device>"),
    pool("disk", DEVICE + DEVICE),
    pool("disk", "<device path='a b'/>"),
    pool("logical", to=""),
    pool("logical", "<name>vg</name>", to=""),
    pool("iscsi", DEVICE),
    pool("iscsi", HOST),
    pool("iscsi", PORTAL + DEVICE),
    pool("iscsi", HOST + "<device path='iqn.2010-13.com.example:t'/>"),
    pool("iscsi", PORTAL + "<initiator/>"),
    pool("iscsi", PORTAL + "<initiator><iqn/></initiator>"),
    auth("username='u'"),
    auth("type='zzz' username='u'"),
    auth("type='chap'"),
    auth(secret=""),
    auth(secret="<secret/>"),
    auth(secret="<secret type='iscsi' usage='u'/>"),
    auth(secret=f"<secret uuid='{UUID}' usage='u'/>"),
    pool("scsi"),
    pool("scsi", DEVICE),
    adapter(""),
    adapter("type='scsi_host'"),
    adapter("type='bad' name='x'"),
    adapter("type='scsi_host' name='x'", "<parentaddr unique_id='1'><address/></parentaddr>"),
    parent(""),
    parent(unique_id="unique_id='x'"),
    parent(unique_id="unique_id='0'"),
    parent("<address bus='zz'/>"),
    parent("<address bus='0x100'/>"),
    parent("<address slot='32'/>"),
    parent("<address function='8'/>"),
    parent("<address domain='0x100000000'/>"),
    adapter("type='fc_host'"),
    adapter("type='fc_host' wwnn='1' wwpn='2'"),
    adapter(f"type='fc_host' wwnn='{WWN}' wwpn='{WWN}' managed='maybe'"),
    adapter(f"wwnn='{WWN}' wwpn='{WWN}'"),
    pool("mpath", DEVICE),
    pool("mpath", "<vendor name='v'/>"),
    pool("mpath", to=""),
    pool("rbd", rest="<rbd:config_opts><rbd:option name='a'/></rbd:config_opts>"),
    pool("zfs", rest="<foo/>"),
]  # fmt: skip

REFUSED_VOLUMES = [
    "<pool/>",
    "<volume/>",
    volume(name="<name/>"),
    volume(rest=NAME),
    volume(rest="<foo/>"),
    volume(rest="<target/>"),
    *(volume(name=f"<name>{name}</name>") for name in (".", "..", "a/b")),
    volume(kind=" type='zz'"),
    volume(kind=" type='ploop'"),
    volume(kind=" id='1'"),
    *(
        volume(rest=f"<capacity>{size}</capacity>")
        for size in ("", "-1", "1.5", "0x10", "10G", "5 ", " 5", "x", 2**64)
    ),
    volume(rest="<allocation unit='zz'>1</allocation>"),
    volume(rest="<allocation unit='kbit'>1</allocation>"),
    volume("<foo/>"),
    volume("<format type='zzz'/>"),
    volume("<format type='QCOW2'/>"),
    volume("<format/>"),
    volume("<permissions><mode>8</mode></permissions>"),
    volume("<timestamps><atime>now</atime></timestamps>"),
    *(volume(f"<compat>{text}</compat>") for text in ("", "1", "1.1.1", "a.b", "v3")),
    volume("<nocow>yes</nocow>"),
    volume("<clusterSize>x</clusterSize>"),
    volume("<features><zz/></features>"),
    volume(rest="<backingStore/>"),
    volume(rest="<backingStore><path>b</path></backingStore>"),
    volume(rest="<backingStore><path>/b</path><format type='zzz'/></backingStore>"),
    volume(rest="<backingStore><path>/b</path><compat>1.1</compat></backingStore>"),
    volume(rest="<source><device/></source>"),
    encryption(""),
    encryption("format='zz'"),
    encryption("format='qcow' engine='zz'"),
    encryption("format='qcow'", CIPHER),
    encryption(LUKS, PASSPHRASE + PASSPHRASE),
    encryption(LUKS, PASSPHRASE + CIPHER),
    encryption(LUKS, PASSPHRASE + "<ivgen name='plain'/>" + CIPHER),
    encryption("format='qcow'", "<secret type='zz' usage='u'/>"),
    encryption("format='qcow'", "<secret usage='u'/>"),
    encryption("format='qcow'", "<secret type='passphrase'/>"),
    encryption(LUKS, "<ivgen name='plain'/>"),
    encryption(LUKS, CIPHER + CIPHER),
    encryption(LUKS, "<cipher name='aes' size='x'/>"),
    encryption(LUKS, "<cipher size='256'/>"),
    encryption(LUKS, CIPHER + "<ivgen/>"),
]


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.xml")))
def test_golden(name: str) -> None:
    assert is_valid((GOLDEN / name).read_bytes(), schema_of(name)) == (name not in STRANGE)


def test_strange_documents_are_there() -> None:
    assert all((GOLDEN / name).exists() for name in STRANGE)


@pytest.mark.parametrize("document", ACCEPTED)
def test_accepted(document: str) -> None:
    schema = schema_of(document[1:])
    assert is_valid(document, schema)
    if schema == "storagepool":
        parse_pool(document, validated=True)
    else:
        parse_volume(document, POOL_TYPES["dir"], capacity_optional=True, validated=True)


@pytest.mark.parametrize(("document", "words"), LEFT_TO_THE_READER)
def test_left_to_the_reader(document: str, words: str) -> None:
    assert is_valid(document, "storagepool")
    with pytest.raises(StorageError, match=words):
        parse_pool(document, validated=True)


@pytest.mark.parametrize("document", REFUSED_POOLS)
def test_refused_pools(document: str) -> None:
    assert not is_valid(document, "storagepool")


@pytest.mark.parametrize("document", REFUSED_VOLUMES)
def test_refused_volumes(document: str) -> None:
    assert not is_valid(document, "storagevol")


def values(schema: str, name: str) -> tuple[str, ...]:
    """Return the values that a pattern of a schema lists."""
    grammar = ET.parse(SCHEMAS / f"{schema}.rng").getroot()
    (found,) = [node for node in grammar.iter(f"{RNG}define") if node.get("name") == name]
    return tuple(value.text or "" for value in found.iter(f"{RNG}value"))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("fs", ["fs"]),
        ("netfs", ["nfs", "share"]),
        ("logical", ["logical"]),
        ("disk", ["disk"]),
    ],
)
def test_pool_formats_are_those_of_the_type(kind: str, names: list[str]) -> None:
    row = POOL_TYPES[kind]
    listed = sum((values("storagepool", f"{name}-format") for name in names), ())
    assert listed == row.pool_formats + row.extra_pool_formats


def test_every_type_with_formats_has_them_in_the_schema() -> None:
    assert {row.name for row in POOL_TYPES.values() if row.pool_formats} == {
        "fs", "netfs", "logical", "disk",
    }  # fmt: skip


def test_volume_formats_are_those_of_the_types() -> None:
    assert values("storagevol", "file-format") == FILE_FORMATS
    assert values("storagevol", "partition-format") == PARTITION_FORMATS
    listed = {name for row in POOL_TYPES.values() for name in row.volume_formats}
    assert listed == {*FILE_FORMATS, *PARTITION_FORMATS}
    for name in values("storagevol", "other-format"):
        assert is_valid(volume(f"<format type='{name}'/>"), "storagevol")
        assert name not in listed


def test_volume_words_are_those_of_the_reader() -> None:
    assert (*values("storagevol", "volume-type"), "ploop") == volxml.VOLUME_TYPES
    for kind in volxml.ENCRYPTION_FORMATS:
        assert is_valid(encryption(f"format='{kind}'"), "storagevol")
    for name in volxml.FEATURES:
        assert is_valid(volume(f"<features><{name}/></features>"), "storagevol")


@pytest.mark.parametrize("row", POOL_TYPES.values(), ids=POOL_TYPES)
def test_pool_types_and_what_they_have(row: PoolType) -> None:
    """Mount options are where the table has them."""
    sources = {
        "fs": DEVICE, "netfs": HOST + "<dir path='/x'/>", "disk": DEVICE, "iscsi": PORTAL,
        "logical": DEVICE, "scsi": "<adapter name='host1'/>",
    }  # fmt: skip
    source = sources.get(row.name, "")
    assert is_valid(pool(row.name, source), "storagepool")
    assert is_valid(pool(row.name, source, MOUNT), "storagepool") == row.mount_options


def test_a_prefix_without_a_declaration_is_unknown() -> None:
    assert not is_valid(f"<pool type='dir'>{NAME}{TARGET}<p:foo/></pool>", "storagepool")


def test_declared_encoding_is_passed_over() -> None:
    document = f"<?xml version='1.0' encoding='latin1'?>{pool('dir', name='<name>ü</name>')}"
    assert parse_pool(document, validated=True).name == "ü"


def test_many_elements() -> None:
    assert is_valid(pool("logical", DEVICE * 20_000), "storagepool")
    assert not is_valid(pool("logical", DEVICE * 20_000 + "<foo/>"), "storagepool")


def test_deep_elements() -> None:
    assert is_valid(pool("zfs", "<a>" * 200 + "</a>" * 200), "storagepool")


def test_doctypes_are_refused_first() -> None:
    document = f"<!DOCTYPE pool [<!ENTITY n 'x'>]>{pool('dir', name='<name>&n;</name>')}"
    with pytest.raises(XmlError, match="document type declarations are not allowed"):
        parse_pool(document, validated=True)


def test_schemas_are_found_at_an_odd_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a b%20ü#"
    place.mkdir()
    shutil.copytree(SCHEMAS, place / "schemas")
    monkeypatch.setattr(xmltree, "__file__", str(place / "xmltree.py"))
    xmltree.validate(pool("dir"), "storagepool")
    with pytest.raises(SchemaError, match="a b%20ü#/schemas/storagepool.rng"):
        xmltree.validate(pool("bogus"), "storagepool")


def test_pool_define(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_text(pool("dir"))
    bad.write_text(pool("dir", rest="<foo/>"))
    refused = storagectl(tmp_path, "pool-define", "--validate", str(bad), hints=True)
    assert refused == (
        1,
        "\n",
        f"error: Failed to define pool from {bad}\n"
        "error: XML document failed to validate against schema: "
        f"Unable to validate doc against {SCHEMAS}/storagepool.rng\n"
        "Element pool has extra content: foo\n\n"
        "hint: line 1: /pool/foo\n",
    )
    assert "x" not in storagectl(tmp_path, "pool-list", "--all", "--name").stdout.split()
    defined = storagectl(tmp_path, "pool-define", str(good), "--validate")
    assert defined == (0, f"Pool x defined from {good}\n\n", "")
    bad.write_text(bad.read_text().replace(NAME, "<name>y</name>").replace("/t<", "/u<"))
    assert storagectl(tmp_path, "pool-define", str(bad)).status == 0


def test_another_root_element_is_told_first(tmp_path: Path) -> None:
    file = tmp_path / "f.xml"
    file.write_text("<volume/>")
    assert storagectl(tmp_path, "pool-define", "--validate", str(file)).stderr == (
        f"error: Failed to define pool from {file}\n"
        "error: XML error: expecting root element of 'pool', not 'volume'\n"
    )


@pytest.mark.parametrize(
    ("inside", "place"),
    [
        ("<name>p</name>\n<foo/>\n<target><path>/t</path></target>", "line 3: /pool/foo"),
        ("<name>p</name>\n<target>\n<path>t</path></target>", "line 4: /pool/target/path"),
        ("<name>p</name>\n<uuid>1</uuid><target><path>/t</path></target>", "line 3: /pool/uuid"),
        (
            "<name>p</name><target><path>/t</path>\n\n<permissions><mode>9</mode></permissions>"
            "</target>",
            "line 4: /pool/target/permissions",
        ),
        ("<name>p</name>\n<target><path>/t</path></target>\n<x:y/>", "line 4: /pool/x:y"),
        # two of that name: the place is that of the element around them
        ("<name>p</name>\n<uuid>1</uuid>\n<uuid>2</uuid>", "line 1: /pool"),
        ("<name>p</name>", "line 1: /pool"),
        ("<name>p</name><x:y/><target><path>/t</path></target>", "line 2: /pool/x:y"),
    ],
)
def test_the_line_of_what_is_wrong(tmp_path: Path, inside: str, place: str) -> None:
    file = tmp_path / "p.xml"
    file.write_text(f"<pool type='dir'>\n{inside}\n</pool>\n")
    done = storagectl(tmp_path, "pool-define", "--validate", str(file), hints=True)
    assert done.status == 1
    assert done.stderr.endswith(f"\n\nhint: {place}\n")


def test_vol_create(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    at = str(tmp_path / "t")
    assert storagectl(tmp_path, "pool-define-as", "d", "dir", "--target", at).status == 0
    assert storagectl(tmp_path, "pool-start", "d").status == 0
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_text("<volume><name>v</name><capacity>4096</capacity></volume>")
    bad.write_text(volume(rest="<capacity>5</capacity><foo/>"))
    words = (
        f"error: Failed to create vol from {bad}\n"
        "error: XML document failed to validate against schema: "
        f"Unable to validate doc against {SCHEMAS}/storagevol.rng\n"
        "Element volume has extra content: foo\n\n"
        "hint: line 1: /volume/foo\n"
    )
    create = ["vol-create", "d", "--validate"]
    assert storagectl(tmp_path, *create, str(bad), hints=True) == (1, "\n", words)
    made = storagectl(tmp_path, *create, str(good))
    assert made == (0, f"Vol v created from {good}\n\n", "")
    copy = ["vol-create-from", "--inputpool", "d", "--validate", "d"]
    assert storagectl(tmp_path, *copy, str(bad), "v", hints=True) == (1, "\n", words)
    assert not (tmp_path / "t" / "x").exists()
    good.write_text("<volume><name>w</name></volume>")
    copied = storagectl(tmp_path, *copy, str(good), "v")
    assert copied == (0, "Vol w created from input vol v\n\n", "")
