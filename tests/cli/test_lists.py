"""Lists with --format, --sort, --filter, --no-header and --bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from inprocess import Answer, put_on_tool_path, storagectl

from storagectl.commands.lists import COLUMNS, Column
from storagectl.facts import of_pool, of_secret, of_volume
from storagectl.host import Host
from storagectl.model import Pool, SecretDefinition, Volume
from storagectl.pools import Entry
from storagectl.store import Store

SOURCES = Path(__file__).resolve().parents[2]
SIZES = {"a": 5000, "B": 1 << 20, "c d": 3 << 30, "e{x}": 0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pools `d`, with volumes, and `off`, and two secrets."""
    (tmp_path / "d").mkdir()
    for name, size in SIZES.items():
        with open(tmp_path / "d" / name, "wb") as stream:
            stream.truncate(size)
    (tmp_path / "d/a").chmod(0o600)
    os.utime(tmp_path / "d/a", (0, 0))
    run(tmp_path, "pool-create-as", "d", "dir", "--target", str(tmp_path / "d"))
    run(tmp_path, "pool-define-as", "off", "fs", "--source-dev", "/dev/x", "--target", "/off")
    for number, more in ((1, ""), (2, "<usage type='iscsi'><target>t</target></usage>")):
        definition = (
            f"<secret private='{'yes' if more else 'no'}'><uuid>{uuid(number)}</uuid>{more}"
        )
        (tmp_path / "s.xml").write_text(definition + "</secret>")
        run(tmp_path, "secret-define", str(tmp_path / "s.xml"))
    return tmp_path


def uuid(number: int) -> str:
    return f"{number:08}-0000-4000-8000-000000000000"


def run(root: Path, *args: str) -> str:
    answer = storagectl(root / "root", *args)
    assert (answer.status, answer.stderr) == (0, ""), answer
    return answer.stdout


def names(root: Path, *args: str) -> list[str]:
    return run(root, "vol-list", "d", "--format", "{name}", *args).splitlines()


def fails(root: Path, *args: str) -> list[str]:
    """Return the lines of the error."""
    answer: Answer = storagectl(root / "root", *args)
    assert (answer.status, answer.stdout) == (1, "\n"), answer
    return answer.stderr.splitlines()


def test_columns_make_a_table(root: Path) -> None:
    assert run(root, "vol-list", "d", "--format", "name,format,capacity") == (
        " Name   Format   Capacity\n"
        "---------------------------\n"
        " a      raw      4.88 KiB\n"
        " B      raw      1.00 MiB\n"
        " c d    raw      3.00 GiB\n"
        " e{x}   raw      0.00 B\n\n"
    )
    given = ("vol-list", "d", "--format", "capacity, name", "--bytes", "--no-header")
    assert run(root, *given) == (
        " 5000         a\n 1048576      B\n 3221225472   c d\n 0            e{x}\n"
    )
    assert run(root, "pool-list", "--all", "--format", "uuid,source-dev,active").startswith(" UUID")
    given = ("pool-list", "--all", "--filter", "active=no", "--format")
    out = run(root, "-q", *given, "name,source-dev,active,available,target")
    assert out == " off   /dev/x   no   -   /off\n"


def test_a_line_for_each_row(root: Path) -> None:
    target = root / "d"
    given = ("vol-list", "d", "--filter", "name=a", "--format")
    assert run(root, *given, r"{name}\t{path}") == f"a\t{target}/a\n"
    assert run(root, *given, r"{name}\n") == "a\n"
    assert run(root, *given, r"{{{name}}}\\{capacity}") == "{a}\\5000\n"
    assert run(root, *given, r"{name}\0") == "a\0"
    assert run(root, *given, r"\ttext") == "\ttext\n"
    assert run(root, *given, r"{ mode } {backing} {modified}") == (
        "0600 - 1970-01-01T00:00:00.000000000Z\n"
    )


def test_braces_in_names_stay(root: Path) -> None:
    assert names(root) == ["a", "B", "c d", "e{x}"]


def test_lines_work_in_a_shell(root: Path) -> None:
    script = (
        f"'{sys.executable}' -m storagectl --root '{root}/root' vol-list d"
        " --format '{name}\\t{capacity}' |"
        " while IFS=$'\\t' read -r name size; do echo \"$size of $name.\"; done"
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    assert done.stdout == "".join(f"{size} of {name}.\n" for name, size in SIZES.items())


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["format=raw"], "a,B,c d,e{x}"),
        (["format!=raw"], ""),
        (["capacity>10K"], "B,c d"),
        (["capacity>=1M"], "B,c d"),
        (["capacity>1M"], "c d"),
        (["capacity<5000"], "e{x}"),
        (["capacity<=5000"], "a,e{x}"),
        (["capacity=1MiB"], "B"),
        (["capacity != 1M"], "a,c d,e{x}"),
        (["capacity<10G", "capacity>1M"], "c d"),
        (["name~*[ad]"], "a,c d"),
        (["name~A"], ""),
        (["name=c d"], "c d"),
        (["backing=-", "name=a"], "a"),
        (["backing~-", "name=a"], "a"),
        (["backing!=-"], ""),
        (["mode=0600"], "a"),
        (["modified<1970-01-02"], "a"),
        (["modified>1970-01-02"], "B,c d,e{x}"),
        (["owner>=0", "owner<4294967295", "name=a"], "a"),
    ],
)
def test_filters(root: Path, filters: list[str], expected: str) -> None:
    given = [word for text in filters for word in ("--filter", text)]
    assert ",".join(names(root, *given)) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("name", "a,B,c d,e{x}"),
        ("-name", "e{x},c d,B,a"),
        ("capacity", "e{x},a,B,c d"),
        ("-capacity", "c d,B,a,e{x}"),
        ("backing", "a,B,c d,e{x}"),
    ],
)
def test_order(root: Path, key: str, expected: str) -> None:
    assert ",".join(names(root, "--sort", key)) == expected
    assert ",".join(names(root, f"--sort={key}")) == expected


def test_what_is_not_known_is_last(root: Path) -> None:
    for key in ("capacity", "-capacity"):
        out = run(root, "pool-list", "--all", "--format", "{name} {capacity}", "--sort", key)
        assert out.splitlines()[1] == "off -"
    assert run(root, "pool-list", "--all", "--filter", "capacity<1", "--format", "{name}") == ""
    assert run(root, "pool-list", "--all", "--filter", "capacity!=1", "--format", "{name}") == (
        "d\noff\n"
    )


def test_virshs_lists_can_be_filtered_and_sorted_too(root: Path) -> None:
    plain = run(root, "pool-list", "--all")
    assert run(root, "pool-list", "--all", "--sort", "name") == plain
    rows = plain.splitlines()
    out = run(root, "pool-list", "--all", "--sort", "-name").splitlines()
    assert out == [*rows[:2], rows[3], rows[2], ""]
    assert run(root, "pool-list", "--all", "--no-header") == (
        " d     active     no\n off   inactive   no\n"
    )
    out = run(root, "vol-list", "d", "--details", "--bytes", "--filter", "name=a")
    assert out.splitlines()[2].split()[:4] == ["a", f"{root}/d/a", "file", "5000"]
    assert run(root, "pool-list", "--all", "--name", "--filter", "type=fs").strip() == "off"
    out = run(root, "pool-list", "--all", "--details", "--bytes", "--filter", "name=d")
    assert out.splitlines()[2].split()[4].isdecimal()


def test_secrets(root: Path) -> None:
    given = ("secret-list", "--format", "{uuid} {usage-type} {usage} {private}")
    assert run(root, *given) == f"{uuid(1)} - - no\n{uuid(2)} iscsi t yes\n"
    assert run(root, *given, "--filter", "private=yes") == f"{uuid(2)} iscsi t yes\n"
    out = run(root, "secret-list", "--sort", "-uuid", "--no-header")
    assert out == f" {uuid(2)}   iscsi t\n {uuid(1)}   Unused\n"


def test_json_is_filtered_and_sorted(root: Path) -> None:
    out = run(root, "vol-list", "d", "--json", "--filter", "capacity>0", "--sort", "-capacity")
    found = [volume["name"] for volume in json.loads(out)["result"]["volumes"]]
    assert found == ["c d", "B", "a"]


@pytest.mark.parametrize(
    ("args", "cause"),
    [
        (["--format", "nam"], "unknown column 'nam': volumes have name, path, key, "),
        (["--format", "name,,path"], "unknown column '': volumes have name"),
        (["--format", "{}"], "unknown column '': volumes have name"),
        (["--format", "{nosuch}"], "unknown column 'nosuch': volumes have name"),
        (["--format", "{name"], "'{' in a format is none of {COLUMN} {{ }} \\t \\n \\0 \\\\"),
        (["--format", "name}"], "'}' in a format is none of "),
        (["--format", "\\x"], "'\\x' in a format is none of "),
        (["--format", "{name}\\"], "'\\' in a format is none of "),
        (["--sort", "--name"], "unknown column '-name': volumes have name"),
        (["--filter", "name"], "filter 'name' is not COLUMN=VALUE, or with != > < >= <= ~"),
        (["--filter", "nosuch=1"], "unknown column 'nosuch': volumes have name"),
        (["--filter", "name>a"], "filter 'name>a': name has no order, only = != and ~"),
        (["--filter", "capacity>-"], "filter 'capacity>-': '-' is no size"),
        (["--filter", "capacity>1Q"], "unknown suffix 'Q'"),
        (["--filter", "owner=root"], "owner 'root' is no number"),
    ],
)
def test_refused(root: Path, args: list[str], cause: str) -> None:
    action, shown = fails(root, "vol-list", "d", *args)
    assert action == "error: Failed to list volumes" or "1Q" in action
    assert shown.startswith(f"error: invalid argument: {cause}")


def test_refused_of_the_other_lists(root: Path) -> None:
    assert fails(root, "pool-list", "--sort", "x")[0] == "error: Failed to list pools"
    assert fails(root, "secret-list", "--sort", "x")[0] == "error: Failed to list secrets"
    cause = "error: invalid argument: active 'maybe' is neither yes nor no"
    assert fails(root, "pool-list", "--filter", "active=maybe")[1] == cause
    assert fails(root, "vol-list", "d", "--filter", "capacity>x") == ["error: Malformed size x"]
    for given in (("--details",), ("--name",), ("--uuid",)):
        (line,) = fails(root, "pool-list", "--format", "name", *given)
        assert line == f"error: Options {given[0]} and --format are mutually exclusive"
    for given, name in ((("--format", "name"), "format"), (("--no-header",), "no-header")):
        answer = storagectl(root / "root", "vol-list", "d", "--json", *given)
        assert answer.stderr == f"error: Options --json and --{name} are mutually exclusive\n"


def test_a_hint_names_the_column_that_is_meant(root: Path) -> None:
    answer = storagectl(root / "root", "vol-list", "d", "--sort", "capasity", hints=True)
    assert answer.stderr.endswith("hint: did you mean 'capacity'?\n")


def test_every_column_is_in_the_facts() -> None:
    pool = Pool("dir", "d", uuid(1), target="/d")
    entry = Entry(Host(), pool, None, False)
    facts = {
        "pools": of_pool(entry),
        "volumes": of_volume(Volume("a"), entry),
        "secrets": of_secret(SecretDefinition(uuid(1))),
    }
    for of, columns in COLUMNS.items():
        for column in columns:
            column.of(facts[of])
        assert columns[0].of(facts[of]) in ("d", "a", uuid(1))
    with pytest.raises(KeyError):
        Column("x", "nosuch").of(facts["pools"])


def test_cheap_columns_need_no_look_at_the_volumes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storagectl.volumes import Volumes

    asked = []
    listed = Volumes.all

    def spy(self: Volumes, key: str, *, details: bool) -> list[Volume]:
        asked.append(details)
        return listed(self, key, details=details)

    monkeypatch.setattr(Volumes, "all", spy)
    run(root, "vol-list", "d", "--format", "name,path")
    run(root, "vol-list", "d", "--format", "name", "--sort", "capacity")
    run(root, "vol-list", "d", "--filter", "mode=0600")
    run(root, "vol-list", "d")  # which needs no more than the names
    assert asked == [False, True, True]


@pytest.mark.tools
@pytest.mark.parametrize("words", ["", "--all"])
def test_s48_a_pool_is_told_of_when_the_host_does_not_say_whether_it_runs(
    root: Path, tmp_path: Path, words: str
) -> None:
    """What LVM waits for may be a device that is suspended."""
    state = root / "root"
    run(root, "pool-define-as", "held", "logical", "--source-name", "vg")
    store = Store(Host(), str(state))
    store.mark_started(store.definition("held"))
    (tools := tmp_path / "tools").mkdir()
    (tools / "vgs").write_text("#!/bin/sh\nexec sleep 60\n")
    (tools / "vgs").chmod(0o755)
    put_on_tool_path(state, tools)
    with (state / "etc/storagectl/config.toml").open("a") as stream:
        stream.write("[time-limits]\nquery = 1\n")
    answer = storagectl(state, "pool-list", *words.split())
    assert answer.status == 0
    assert "d" in answer.stdout.split()
    assert ("held" in answer.stdout) == ("--all" in words)
    said = answer.stderr.splitlines()
    assert len(said) == 1
    assert said[0].startswith("warning: pool 'held': internal error: Child process (")
    assert said[0].endswith(") did not end within 1 s")
