"""YAML of pools and volumes says what their XML says."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import pytest

from storagectl.documents import File, Wanted, read
from storagectl.pooltypes import POOL_TYPES
from storagectl.poolxml import format_pool, parse_pool
from storagectl.volxml import format_volume, parse_volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable

UUID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def wanted() -> Callable[[str | bytes], Wanted]:
    pytest.importorskip("yaml")

    def reading(text: str | bytes) -> Wanted:
        data = text.encode() if isinstance(text, str) else text
        return read([File("f.yaml")], lambda path: data)

    return reading


@pytest.fixture
def errors(wanted: Callable[[str | bytes], Wanted]) -> Callable[[str | bytes], list[list[str]]]:
    return lambda text: [error.lines() for error in wanted(text).errors]


POOLS = {
    "everything of a dir pool": (
        """
        pool:
          type: dir
          name: on
          uuid: %s
          features: {cow: no}
          target:
            path: /srv/x
            permissions: {mode: 0711, owner: 1, group: '2', label: l}
          refresh: {volume: capacity}
        """,
        """<pool type='dir'><name>on</name><uuid>%s</uuid><features><cow state='no'/></features>
        <target><path>/srv/x</path><permissions><mode>0711</mode><owner>1</owner><group>2</group>
        <label>l</label></permissions></target><refresh><volume allocation='capacity'/></refresh>
        </pool>""",
    ),
    "fs": (
        """
        pools:
        - type: fs
          name: data
          uuid: %s
          source: {device: /dev/sdb1, format: ext4}
          target: {path: /srv/data}
          mount_opts: [noatime, nodev]
        """,
        """<pool type='fs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>
        <name>data</name><uuid>%s</uuid><source><device path='/dev/sdb1'/><format type='ext4'/>
        </source><target><path>/srv/data</path></target><fs:mount_opts><fs:option name='noatime'/>
        <fs:option name='nodev'/></fs:mount_opts></pool>""",
    ),
    "netfs": (
        """
        pool:
          type: netfs
          name: share
          uuid: %s
          source: {host: nas, dir: /export, protocol: 4.10}
          target: {path: /srv/share}
        """,
        """<pool type='netfs'><name>share</name><uuid>%s</uuid><source><host name='nas'/>
        <dir path='/export'/><protocol ver='4.10'/></source>
        <target><path>/srv/share</path></target></pool>""",
    ),
    "logical": (
        """
        pool:
          type: logical
          name: vms
          uuid: %s
          source:
            device:
            - /dev/sdb
            - {path: /dev/sdc, part_separator: yes}
        """,
        """<pool type='logical'><name>vms</name><uuid>%s</uuid><source><device path='/dev/sdb'/>
        <device path='/dev/sdc' part_separator='yes'/></source></pool>""",
    ),
    "iscsi": (
        """
        pool:
          type: iscsi
          name: san
          uuid: %s
          source:
            host: {name: 192.0.2.1, port: 3260}
            device: iqn.2026-11.example:disks
            initiator: {iqn: iqn.2026-11.example:me}
            auth: {type: chap, username: joe, secret: {usage: disks}}
            vendor: v
          target: {path: /dev/disk/by-path}
        """,
        """<pool type='iscsi'><name>san</name><uuid>%s</uuid><source>
        <host name='192.0.2.1' port='3260'/><device path='iqn.2026-11.example:disks'/>
        <initiator><iqn name='iqn.2026-11.example:me'/></initiator>
        <auth type='chap' username='joe'><secret usage='disks'/></auth><vendor name='v'/></source>
        <target><path>/dev/disk/by-path</path></target></pool>""",
    ),
    "scsi": (
        """
        pool:
          type: scsi
          name: hba
          uuid: %s
          source:
            adapter:
              type: scsi_host
              parentaddr:
                unique_id: 1
                address: {domain: 0x0000, bus: 0x00, slot: 0x1f, function: 0x2}
          target: {path: /dev/disk/by-path}
        """,
        """<pool type='scsi'><name>hba</name><uuid>%s</uuid><source><adapter type='scsi_host'>
        <parentaddr unique_id='1'><address domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/>
        </parentaddr></adapter></source><target><path>/dev/disk/by-path</path></target></pool>""",
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str, wanted: Callable[[str], Wanted]) -> None:
    yaml, xml = (text % UUID for text in POOLS[name])
    found = wanted(yaml)
    assert found.errors == []
    assert format_pool(found.pools[0].pool) == format_pool(parse_pool(xml))


VOLUMES = {
    "size with a unit": (
        "{name: 1.10, capacity: 20 GiB, allocation: 1000}",
        "<volume><name>1.10</name><capacity unit='GiB'>20</capacity><allocation>1000</allocation>"
        "</volume>",
    ),
    "size in two keys": (
        "{name: a, capacity: {unit: M, value: 5}}",
        "<volume><name>a</name><capacity unit='M'>5</capacity></volume>",
    ),
    "image": (
        "{name: a, capacity: 5G, target: {format: qcow2, compat: 1.1, nocow: true, clusterSize:"
        " 64K, features: {lazy_refcounts: true, extended_l2: false}},"
        " backingStore: {path: /srv/b, format: raw}}",
        "<volume><name>a</name><capacity unit='G'>5</capacity><target><format type='qcow2'/>"
        "<compat>1.1</compat><nocow/><clusterSize unit='K'>64</clusterSize><features>"
        "<lazy_refcounts/></features></target><backingStore><path>/srv/b</path>"
        "<format type='raw'/></backingStore></volume>",
    ),
    "encrypted": (
        "{name: a, capacity: 5G, target: {encryption: {format: luks, secret: {type: passphrase,"
        f" uuid: {UUID}}}, cipher: {{name: aes, size: 256, mode: xts, hash: sha512}},"
        " ivgen: {name: plain64}}}}",
        "<volume><name>a</name><capacity unit='G'>5</capacity><target><encryption format='luks'>"
        f"<secret type='passphrase' uuid='{UUID}'/>"
        "<cipher name='aes' size='256' mode='xts' hash='sha512'/><ivgen name='plain64'/>"
        "</encryption></target></volume>",
    ),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(name: str, wanted: Callable[[str], Wanted]) -> None:
    yaml, xml = VOLUMES[name]
    row = POOL_TYPES["dir"]
    (found,) = wanted(f"pool: p\nvolumes: [{yaml}]").volumes
    read = read_volume(found.node, row, capacity_optional=False)
    expected = parse_volume(xml, row, capacity_optional=False)
    assert format_volume(read, row) == format_volume(expected, row)
    assert read.nocow == expected.nocow


def test_switches_and_volumes_of_a_pool(wanted: Callable[[str], Wanted]) -> None:
    found = wanted("""\
pool:
  type: dir
  name: p
  build: true
  start: off
  autostart: false
  target: {path: /srv/p}
  volumes:
  - {name: a, capacity: 1}
---
pool: q
volume: {name: b, capacity: 1}
---
# nothing in this one
---
volumes:
- pool: r
  name: c
  capacity: 1
""")
    (pool,) = found.pools
    assert (pool.build, pool.start, pool.autostart) == (True, False, False)
    assert [(each.pool, each.name, each.place.line) for each in found.volumes] == [
        ("p", "a", 9), ("q", "b", 12), ("r", "c", 17)
    ]  # fmt: skip
    assert found.listed == {"p"}
    assert found.errors == []
    assert wanted("pool: q\nvolumes: []").listed == {"q"}


def test_what_is_said_once_counts_for_others(wanted: Callable[[str], Wanted]) -> None:
    found = wanted("""\
pool: p
volumes:
- &small {name: a, capacity: 1G, target: {format: qcow2}}
- {<<: *small, name: b}
- {<<: [{capacity: 2G}, *small], name: c}
""")
    volumes = [
        read_volume(each.node, POOL_TYPES["dir"], capacity_optional=False) for each in found.volumes
    ]
    assert [(each.name, each.capacity >> 30, each.format) for each in volumes] == [
        ("a", 1, "qcow2"), ("b", 1, "qcow2"), ("c", 2, "qcow2")
    ]  # fmt: skip


WRONG: list[tuple[str | bytes, int, str]] = [
    ("pool: [a\nb: c", 2, "expected ',' or ']', but got ':'"),
    (b"pool:\n  name: \xff", 2, "it is not UTF-8 text"),
    ("pool: \x07", 0, "special characters are not allowed"),
    ("- a", 1, "'a document' is a mapping, not a list"),
    ("pols: []", 1, "'pols' is none of pool, pools, volume, volumes"),
    ("pool:\n  type: dir\n  tagret: {}", 3, "'pool' has no key 'tagret'"),
    ("pool: {type: dir}\npool: {type: dir}", 2, "the key 'pool' is there twice"),
    ("pool:\n  ? [a]\n  : b", 2, "'a key' is a value, not a list"),
    ("pool:\n  type: {a: b}", 2, "'type' is a value, not a mapping"),
    ("pool:\n  type: !!python/name:os.system x", 2,
     "'type' has the tag 'tag:yaml.org,2002:python/name:os.system', which means nothing here"),
    ("volume:\n  pool: p\n  target: raw", 3, "'target' is a mapping, not a value"),
    ("volume: {pool: p, target: {nocow: maybe}}", 1, "'nocow' is true or false"),
    ("pool: p", 1, "'pool: p' needs volumes, and no pools"),
    ("pool: p\npools: []\nvolumes: []", 1, "'pool: p' needs volumes, and no pools"),
    ("pool: &a\n  volumes: *a", 2, "'volumes' has no key 'volumes'"),
    ("pool: &a\n  <<: *a", 1,
     "the file has more than 100000 elements, or nests too deeply"),
    ("pool:\n  <<: 1", 2, "'<<' is a mapping, not a value"),
    ("pool:\n  type: dir\n  name: p", 2, "XML error: missing storage pool target path"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), WRONG)
def test_errors(
    text: str | bytes, line: int, words: str, errors: Callable[[str | bytes], list[list[str]]]
) -> None:
    where = f"Failed to read f.yaml, line {line}" if line else "Failed to read f.yaml"
    assert errors(text) == [[where, words]]


def test_aliases_do_not_make_much_of_little(errors: Callable[[str], list[list[str]]]) -> None:
    (found,) = errors(
        "pool: p\nvolumes:\n- &a [" + ", ".join(["{name: x}"] * 400) + "]\n- &b ["
        + ", ".join(["*a"] * 400) + "]\n"
    )  # fmt: skip
    assert "more than 100000 elements" in found[1]
    (found,) = errors(
        "pool:\n  target:\n    path: {<<: &b {<<: [" + ", ".join(["&a {<<: [{}, {}, {}]}"]
        + ["*a"] * 400) + "]}}\n  source: {<<: [" + ", ".join(["*b"] * 400) + "]}\n"
    )  # fmt: skip
    assert "more than 100000 elements" in found[1]
    (found,) = errors("pool: " + "[" * 3000)
    assert found == ["Failed to read f.yaml", "it is nested too deeply"]


def test_without_pyyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **named: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    (error,) = read([File("f.yaml")], lambda path: b"pool: {}").errors
    assert error.lines() == [
        "Failed to read f.yaml",
        "the package 'python3-yaml' (PyYAML) is not installed: pip install 'storagectl[yaml]'",
    ]
    assert read([File("-")], lambda path: b" <storage/>").errors == []
