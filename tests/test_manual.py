"""What the manual pages of section 5 say about XML is what the schemas and the readers know."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import manual
import pytest

from storagectl import poolxml, secrets, volxml
from storagectl.errors import StorageError
from storagectl.pooltypes import POOL_TYPES
from storagectl.poolxml import parse_pool
from storagectl.secrets import parse_secret
from storagectl.volxml import parse_volume

FORMATS = manual.load("man/formats.py")
SERVED = list(FORMATS.SERVED)
ENTRIES = {
    kind: [entry for group in FORMATS.elements(kind).values() for entry in group]
    for kind in ("pool", "volume", "secret")
}
# Known to the readers alone: --validate refuses them.
READ_ONLY = {
    "refresh",
    "refresh/volume",
    "refresh/volume/@allocation",
    "source/auth/secret/@type",
}
# Accepted by --validate, and read by nobody.
UNREAD = r"source/format/(vendor|product)(/@name)?"
# Told of where the same elements of the target are.
ELSEWHERE = r"backingStore/(permissions|timestamps)/\w+"
FS = "http://libvirt.org/schemas/storagepool/fs/1.0"


def paths(kind: str) -> set[str]:
    return {entry["path"] for entry in ENTRIES[kind]}


def test_pool_page_has_what_the_schema_has() -> None:
    known = {path for path in FORMATS.pool_paths() if not re.fullmatch(UNREAD, path)}
    assert paths("pool") - READ_ONLY == known
    assert len(ENTRIES["pool"]) == len(paths("pool"))


def test_volume_page_has_what_the_schema_has() -> None:
    known = {
        path
        for path in FORMATS.paths_below("volume", "storagevol.rng")
        if not re.fullmatch(ELSEWHERE, path)
    }
    assert paths("volume") == known
    assert len(ENTRIES["volume"]) == len(paths("volume"))


def test_secret_page_has_what_the_schema_has() -> None:
    assert paths("secret") == set(FORMATS.paths_below("secret", "secret.rng"))
    assert len(ENTRIES["secret"]) == len(paths("secret"))
    assert {f"usage/{element}" for element, _ in secrets.USAGES.values()} <= paths("secret")
    (entry,) = (entry for entry in ENTRIES["secret"] if entry["path"] == "usage/@type")
    assert set(re.findall(r"`(\w+)`", entry["text"])) == set(secrets.USAGES)


def test_the_types_of_an_entry_are_types_that_have_it() -> None:
    having = FORMATS.pool_paths()
    for entry in ENTRIES["pool"]:
        if "types" in entry:
            assert set(entry["types"].split()) < set(having.get(entry["path"], SERVED))


@pytest.mark.parametrize(("part", "path"), FORMATS.PLACES.items())
def test_the_schema_and_the_table_of_pool_types_have_the_same_sources(part: str, path: str) -> None:
    having = {kind for kind, row in FORMATS.SERVED.items() if part in row.needs + row.reads}
    assert set(FORMATS.pool_paths()[path]) == having


def names_read(module: object) -> set[str]:
    """Return the names of elements and attributes that a reader asks a document for."""
    source = Path(str(getattr(module, "__file__", ""))).read_text()
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("find", "findall", "text_of", "get"):
            found = node.args[:1]
        elif name in ("_yes", "plain", "choice", "missing_attribute", "_format", "_size", "_owner"):
            found = node.args[1:2]
        else:
            continue
        for word in found:
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                names |= set(re.findall(r"[A-Za-z_]\w*", word.value))
    return names


@pytest.mark.parametrize(
    ("kind", "module"), [("pool", poolxml), ("volume", volxml), ("secret", secrets)]
)
def test_page_has_what_the_reader_asks_for(kind: str, module: object) -> None:
    known = {name.removeprefix("@") for path in paths(kind) for name in path.split("/")}
    read = names_read(module)
    assert len(read) > (20 if kind != "secret" else 3)
    # the reader of volumes borrows what it says of secrets from that of pools
    assert read - known <= ({"usage", "uuid"} if kind == "volume" else set())


@pytest.mark.parametrize("kind", ["pool", "volume", "secret"])
def test_page_shows_every_entry_with_its_types_and_needs(kind: str) -> None:
    shown = manual.section(f"storagectl-{kind}.5", "ELEMENTS", "SH")
    having = FORMATS.pool_paths()
    for entry in ENTRIES[kind]:
        path = entry["path"]
        types = entry["types"].split() if "types" in entry else having.get(path, SERVED)
        note = entry["need"]
        if kind == "pool" and len(types) < len(SERVED):
            words = "not mpath" if set(SERVED) - set(types) == {"mpath"} else ", ".join(types)
            note = f"{words}; {note}"
        assert f"\n{path} ({note})\n" in shown
        assert entry["text"].strip().endswith(".")


# A document of each kind with everything that can stand in one: what is required is tried on them.
WHOLE = {
    "pool": {
        "dir": f"""<pool type='dir' xmlns:fs='{FS}'><name>x</name>
            <uuid>6d0ce2b1-1a3e-4c59-9f39-0b5a1c2d3e4f</uuid>
            <capacity unit='bytes'>1</capacity><allocation unit='bytes'>1</allocation>
            <available unit='bytes'>1</available>
            <features><cow state='no'/></features>
            <source><vendor name='v'/><product name='p'/></source>
            <target><path>/t</path><permissions><mode>0700</mode><owner>1</owner><group>1</group>
            <label>l</label></permissions></target>
            <refresh><volume allocation='default'/></refresh></pool>""",
        "netfs": f"""<pool type='netfs' xmlns:fs='{FS}'><name>x</name>
            <source><host name='h' port='1'/><dir path='/d'/><format type='nfs'/>
            <protocol ver='4'/></source><target><path>/t</path></target>
            <fs:mount_opts><fs:option name='ro'/></fs:mount_opts></pool>""",
        "logical": """<pool type='logical'><name>x</name><source><device path='/d'/>
            <name>g</name></source><target><path>/dev/g</path></target></pool>""",
        "disk": """<pool type='disk'><name>x</name><source>
            <device path='/d' part_separator='yes'><freeExtent start='0' end='1'/></device>
            <format type='gpt'/></source><target><path>/dev</path></target></pool>""",
        "iscsi": """<pool type='iscsi'><name>x</name><source><host name='h'/>
            <device path='iqn.2026-11.example:x'/>
            <initiator><iqn name='iqn.2026-11.example:y'/></initiator>
            <auth type='chap' username='u'><secret type='iscsi' usage='s'/></auth></source>
            <target><path>/dev</path></target></pool>""",
        "scsi": """<pool type='scsi'><name>x</name><source><adapter type='scsi_host'>
            <parentaddr unique_id='1'><address domain='0' bus='0' slot='1' function='2'
            multifunction='on'/></parentaddr></adapter></source>
            <target><path>/dev</path></target></pool>""",
        "fc": """<pool type='scsi'><name>x</name><source><adapter type='fc_host' managed='no'
            parent='host5' parent_wwnn='20000000c9831b4b' parent_wwpn='10000000c9831b4b'
            parent_fabric_wwn='20000000c9831b4c' wwnn='20000000c9831b4d' wwpn='10000000c9831b4d'/>
            </source><target><path>/dev</path></target></pool>""",
    },
    "volume": {
        "dir": """<volume type='file'><name>x</name><key>k</key>
            <source><device path='/d'><extent start='0' end='1'/></device></source>
            <capacity unit='B'>1</capacity><allocation unit='B'>1</allocation>
            <physical unit='B'>1</physical>
            <target><path>/p</path><format type='qcow2'/><permissions><mode>0600</mode>
            <owner>1</owner><group>1</group><label>l</label></permissions>
            <timestamps><atime>1</atime><mtime>1</mtime><ctime>1</ctime><btime>0</btime></timestamps>
            <encryption format='luks' engine='qemu'><secret type='passphrase' usage='u'/>
            <cipher name='aes' size='256' mode='xts' hash='sha256'/>
            <ivgen name='plain64' hash='sha256'/></encryption>
            <compat>1.1</compat><nocow/><clusterSize unit='KiB'>64</clusterSize>
            <features><lazy_refcounts/><extended_l2/></features></target></volume>""",
        "backing": """<volume><name>x</name><capacity>1</capacity><backingStore><path>/b</path>
            <format type='raw'/><permissions><mode>0600</mode></permissions>
            <timestamps><atime>1</atime></timestamps></backingStore></volume>""",
    },
    "secret": {
        kind: f"""<secret ephemeral='no' private='no'>
            <uuid>6d0ce2b1-1a3e-4c59-9f39-0b5a1c2d3e4f</uuid><description>d</description>
            <usage type='{kind}'><{element}>x</{element}></usage></secret>"""
        for kind, (element, _) in secrets.USAGES.items()
    },
}
# Required only where something else is not given: what the page says in words.
EITHER = {
    ("volume", "backing", "capacity"): "there is a backing store",
    ("volume", "backing", "backingStore/path"): "there is a capacity",
    ("pool", "logical", "name"): "there is the source's",
    ("pool", "logical", "target"): "it is made of the name",
    ("pool", "logical", "target/path"): "it is made of the name",
    ("pool", "scsi", "source"): "of the adapter in it",
    ("pool", "scsi", "source/adapter/parentaddr"): "the name is not given",
    ("pool", "scsi", "source/adapter/@type"): "there is more than a name",
    ("pool", "fc", "source"): "of the adapter in it",
    ("pool", "fc", "source/adapter/@type"): "there is more than a name",
    ("pool", "fc", "source/adapter/@wwnn"): "of the type fc_host",
    ("pool", "fc", "source/adapter/@wwpn"): "of the type fc_host",
    ("pool", "fc", "source/adapter/@parent_wwnn"): "both or none",
    ("pool", "fc", "source/adapter/@parent_wwpn"): "both or none",
    ("pool", "netfs", "source"): "of the host in it",
    ("pool", "iscsi", "source"): "of the host in it",
    ("pool", "iscsi", "source/auth/secret/@usage"): "uuid is not given",
    ("pool", "disk", "source"): "of the device in it",
    ("pool", "disk", "source/device"): "exactly one",
    ("volume", "dir", "target/encryption/secret/@usage"): "uuid is not given",
    ("volume", "dir", "target/encryption/cipher"): "there is an ivgen",
}


def without(document: str, path: str) -> str | None:
    """Return a document without what stands at a path; None where it is not in it."""
    root = ET.fromstring(document)
    steps = [step.replace("fs:", f"{{{FS}}}") for step in path.split("/")]
    node = root
    for step in steps[:-1]:
        found = node.find(step)
        if found is None:
            return None
        node = found
    last = steps[-1]
    if last.startswith("@"):
        if last[1:] not in node.attrib:
            return None
        del node.attrib[last[1:]]
    else:
        child = node.find(last)
        if child is None:
            return None
        node.remove(child)
    return ET.tostring(root, encoding="unicode")


CASES = [
    (kind, name, path)
    for kind, whole in WHOLE.items()
    for name, document in whole.items()
    for path in sorted(paths(kind))
    if without(document, path) is not None
]


def read(kind: str, document: str) -> object:
    if kind == "pool":
        return parse_pool(document)
    if kind == "secret":
        return parse_secret(document)
    return parse_volume(document, POOL_TYPES["dir"], capacity_optional=False)


def test_whole_documents_have_every_entry() -> None:
    for kind, whole in WHOLE.items():
        for document in whole.values():
            read(kind, document)
        missing = {
            path
            for path in paths(kind)
            if all(without(document, path) is None for document in whole.values())
        }
        # each excludes another one that is there
        assert missing <= {
            "source/adapter/@name",
            "source/auth/secret/@uuid",
            "target/encryption/secret/@uuid",
        }


@pytest.mark.parametrize(("kind", "name", "path"), CASES)
def test_needs_are_those_of_the_reader(kind: str, name: str, path: str) -> None:
    document = without(WHOLE[kind][name], path)
    assert document is not None
    (entry,) = (entry for entry in ENTRIES[kind] if entry["path"] == path)
    required = (entry["need"] == "required") != ((kind, name, path) in EITHER)
    if required:
        with pytest.raises(StorageError):
            read(kind, document)
    else:
        read(kind, document)


# Examples

# Sections whose commands another test runs: where, and the words that show it.
RUN_ELSEWHERE = {
    "STARTING AT BOOT": (
        "tests/lab/test_reboot.py",
        ('ctl("pool-autostart", name)', '"systemctl", "is-enabled", UNIT'),
    ),
}


@pytest.mark.parametrize("name", manual.PAGES)
def test_examples_are_valid(name: str) -> None:
    found = manual.documents("\n".join(manual.blocks(manual.page(name))))
    assert len(found) > 1
    for document in found:
        if document.startswith("<pool"):
            parse_pool(document, validated=True)
        elif document.startswith("<secret"):
            parse_secret(document, validated=True)
        else:
            row = POOL_TYPES["disk" if "linux-swap" in document else "dir"]
            parse_volume(document, row, capacity_optional=False, validated=True)


@pytest.mark.parametrize("type", SERVED)
def test_pool_page_has_an_example_of_each_type(type: str) -> None:
    text = manual.section("storagectl-pool.5", type)
    assert re.search(rf"^<pool type='{type}'", text, re.M)
    commands = re.findall(r"^storagectl (\S+)", text, re.M)
    assert commands[0] in ("pool-define", "find-storage-pool-sources-as", "secret-define")
    assert {"pool-define", "pool-start", "pool-destroy", "pool-undefine"} < set(commands)
    assert {"vol-list", "vol-create-as"} & set(commands)


def test_every_example_is_run() -> None:
    """Each section with commands is named by a test that runs them."""
    runners = ["tests/real/test_manual.py", "tests/lab/test_manual.py"]
    code = "".join((manual.ROOT / path).read_text() for path in runners)
    for name in manual.PAGES:
        for title, kind in titles(name):
            text = manual.section(name, title, kind)
            if kind == "SH":
                text = text.partition(".SS ")[0]
            if title in RUN_ELSEWHERE:
                path, words = RUN_ELSEWHERE[title]
                runner = (manual.ROOT / path).read_text()
                assert all(word in runner for word in words)
            elif any(map(manual.is_shell, manual.blocks(text))):
                assert f'"{title}"' in code, f"no test runs the example in {name}: {title}"


@pytest.mark.parametrize("name", manual.PAGES)
def test_what_is_set_as_typed_is_seen_by_the_tests(name: str) -> None:
    text = manual.page(name)
    assert len(manual.blocks(text)) == len(re.findall(r"^\.(?:nf|EX)$", text, re.M)) > 1


def titles(name: str) -> list[tuple[str, str]]:
    """Return all headings of a page, with their kinds."""
    found = re.findall(r"^\.(S[SH]) (.*)$", manual.page(name), re.M)
    return [(title, kind) for kind, title in found]


# What runs the commands of the README that no test runs: they run tests.
RUN_BY = {
    "bash tests/run": (".ci/run", "tests/run"),
    "bash tests/lab/run": ("tests/lab/all", "lab tests/lab "),
    "bash tests/lab/run --systemd --reboots 1 tests/lab/test_reboot.py": (
        "tests/lab/all",
        "lab --systemd --reboots 1 tests/lab/test_reboot.py",
    ),
    "bash tests/lab/run -k iscsi -x": ("tests/lab/host/lab.py", "parse_known_args"),
    "bash tests/lab/run --shell": ("tests/lab/host/lab.py", '"--shell"'),
}


def test_every_block_of_the_readme_is_run() -> None:
    """Each block of the README is one that a test names, or is run by something else."""
    code = (manual.ROOT / "tests/real/test_readme.py").read_text()
    named = re.findall(r'block\(\s*"([^"]*)"', code)
    assert len(named) > 5
    for text in manual.blocks((manual.ROOT / "README.md").read_text()):
        if any(text.startswith(first) for first in named):
            continue
        for line in text.splitlines():
            command = line.partition("#")[0].strip()
            assert command in RUN_BY, f"no test runs this of the README: {command}"
            path, words = RUN_BY[command]
            assert words in (manual.ROOT / path).read_text()


def test_numbers_are_those_of_the_code() -> None:
    from storagectl.backends import blocks, directory, files
    from storagectl.tools import iscsiadm, qemu_img

    for kind, path, words in (
        ("pool", "name", f"{poolxml.NAME_LIMIT} bytes"),
        ("pool", "source/host/@port", f"{iscsiadm.DEFAULT_PORT} as default"),
        ("pool", "target/permissions/mode", f"{directory.POOL_MODE:#05o}".replace("o", "")),
        ("pool", "fs:mount_opts", f"xmlns:fs='{poolxml.MOUNT_NAMESPACE}'"),
        ("volume", "target/permissions/mode", f"{files.VOLUME_MODE:#05o}".replace("o", "")),
        ("volume", "target/compat", f"default is {qemu_img.DEFAULT_COMPAT}"),
        ("volume", "target/encryption", f"{blocks.LUKS_ROOM >> 20} MiB more"),
        *(("volume", "@type", kind) for kind in volxml.VOLUME_TYPES),
        *(("volume", "target/encryption/@format", f"`{f}`") for f in volxml.ENCRYPTION_FORMATS),
    ):
        (entry,) = (entry for entry in ENTRIES[kind] if entry["path"] == path)
        assert words in entry["text"], (path, words)


def test_every_exception_to_the_needs_is_one() -> None:
    assert set(EITHER) <= set(CASES)
