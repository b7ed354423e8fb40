"""Arguments are read as virsh reads them, over the real commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from inprocess import Answer, storagectl

from storagectl.commands import COMMANDS, find
from storagectl.commands.command import Command, Flag, Value, option_name
from storagectl.commands.reader import named
from storagectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EMPTY = " Name   State   Autostart\n---------------------------\n\n"


def command(name: str) -> Command:
    found = find(name)
    assert found is not None
    return found


def usage(*args: str) -> list[str]:
    """Run what is not understood and return the lines of the error."""
    status, out, err = storagectl("/nowhere", *args)
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


def run_time(*args: str) -> str:
    """Run what is understood and then refused in one line; a blank line follows on stdout."""
    status, out, err = storagectl("/nowhere", *args)
    assert (status, out) == (1, "\n")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


# What virsh 9.0.0 says, each tried with it


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("nosuch-command", "unknown command: 'nosuch-command'"),
        ("nosuch-command --opt x", "unknown command: 'nosuch-command'"),
        ("pool-inf d", "unknown command: 'pool-inf'"),
        ("pool-info --nosuch x", "command 'pool-info' doesn't support option --nosuch"),
        ("pool-info --poo d", "command 'pool-info' doesn't support option --poo"),
        ("pool-info d surplus", "unexpected data 'surplus'"),
        ("pool-info -- d --bytes", "unexpected data '--bytes'"),
        ("pool-info --pool", "expected syntax: --pool <string>"),
        ("vol-download a b --offset", "expected syntax: --offset <number>"),
        ("pool-info d --pool d", "option --pool already seen"),
        ("pool-info --pool d --pool e", "option --pool already seen"),
        ("pool-info --bytes --bytes d", "option --bytes already seen"),
        ("pool-info --bytes=yes d", "invalid '=' after option --bytes"),
        ("pool-define-as x dir --target /a --target /b", "option --target already seen"),
        ("vol-name a --pool d", "command 'vol-name' doesn't support option --pool"),
        ("pool-capabilities surplus", "unexpected data 'surplus'"),
        ("vol-dumpxml a d //name", "unexpected data '//name'"),
        ("pool-dumpxml d //name", "unexpected data '//name'"),
        ("pool-info --help=x", "invalid '=' after option --help"),
        ("pool-info --help --bogus", "command 'pool-info' doesn't support option --bogus"),
        ("--nosuchoption pool-list", "unsupported option '--nosuchoption'. See --help."),
    ],
)
def test_usage_errors(args: str, words: str) -> None:
    assert usage(*args.split()) == [words]


@pytest.mark.parametrize(
    ("args", "missing"),
    [
        ("pool-info", ["pool"]),
        ("pool-define-as", ["name", "type"]),
        ("pool-define-as x", ["type"]),
        ("vol-create-as", ["pool", "name", "capacity"]),
        ("vol-create-as --name x", ["pool", "capacity"]),
        ("vol-create-from p", ["file", "vol"]),
        ("vol-clone", ["vol", "newname"]),
        ("vol-resize --capacity 1", ["vol"]),
        ("pool-autostart --disable", ["pool"]),
        ("pool-info --", ["pool"]),
    ],
)
def test_every_missing_option_is_named(args: str, missing: list[str]) -> None:
    name, *rest = args.split()
    expected = [f"command '{name}' requires <{option}> option" for option in missing]
    assert usage(name, *rest) == expected


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("pool-info", "--pool="), "Failed to get option 'pool': Option argument is empty"),
        (("pool-info", ""), "Failed to get option 'pool': Option argument is empty"),
        (("vol-path", "a", ""), "Failed to get option 'pool': Option argument is empty"),
        (("pool-list", "surplus"), "Invalid pool type 'surplus'"),
        (("pool-list", "--type", "dir,bogus"), "Invalid pool type 'bogus'"),
        (("pool-list", "--type", "dir,,fs"), "Invalid pool type 'dir,fs'"),
        (
            ("pool-list", "--all", "--inactive"),
            "Options --all and --inactive are mutually exclusive",
        ),
        (
            ("pool-list", "--details", "--name"),
            "Options --details and --name are mutually exclusive",
        ),
        (
            ("pool-list", "--uuid", "--details"),
            "Options --details and --uuid are mutually exclusive",
        ),
        (
            ("pool-create-as", "x", "dir", "--no-overwrite", "--overwrite"),
            "Options --overwrite and --no-overwrite are mutually exclusive",
        ),
        (
            ("pool-define-as", "x", "fs", "--secret-uuid", "u", "--secret-usage", "v"),
            "Options --secret-usage and --secret-uuid are mutually exclusive",
        ),
        (("pool-name", "x"), "failed to get pool 'x'"),
    ],
)
def test_what_is_refused_at_run_time(args: tuple[str, ...], words: str) -> None:
    assert run_time(*args) == words


@pytest.mark.parametrize(
    ("number", "fine"),
    [
        ("0", True), ("+5", True), (" 5", True), ("\t5", True), ("18446744073709551615", True),
        ("18446744073709551616", False), ("-1", False), ("abc", False), ("5 ", False),
        ("1K", False), ("0x10", False), ("1_000", False), ("\u0665", False), ("\u00a05", False),
        ("9" * 5000, False), ("+", False), ("1.0", False), ("+-5", False),
    ],
)  # fmt: skip
def test_s09_numbers(number: str, fine: bool) -> None:
    status, out, err = storagectl("/nowhere", "vol-download", "a", "b", f"--offset={number}")
    assert (status, out) == (1, "\n")
    if fine:
        assert err.startswith("error: failed to get vol 'a'")
    else:
        assert err == (
            f"error: Numeric value '{number}' for <offset> option is malformed or out of range\n"
        )


def test_length_may_be_negative_for_all() -> None:
    for number in ("-1", "-18446744073709551615", "5"):
        error = storagectl("/nowhere", "vol-download", "a", "b", f"--length={number}").stderr
        assert error.startswith("error: failed to get vol 'a'")
    error = storagectl("/nowhere", "vol-download", "a", "b", "--length=-18446744073709551616")
    assert "malformed or out of range" in error.stderr


# How words become options


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("pool-define-as x dir - - - - /t",
         "--name=x --type=dir --source-host=- --source-path=- --source-dev=- --source-name=-"
         " --target=/t"),
        ("pool-define-as --type dir x --target /t -", "--type=dir --name=x --target=/t"
         " --source-host=-"),
        ("vol-info a d", "--vol=a --pool=d"),
        ("vol-info --pool d a", "--pool=d --vol=a"),
        ("vol-resize a -5M d --shrink", "--vol=a --capacity=-5M --pool=d --shrink"),
        ("vol-create-as d a 1M 2M raw", "--pool=d --name=a --capacity=1M --allocation=2M"
         " --format=raw"),
        ("pool-info --pool --bytes", "--pool=--bytes"),
        ("pool-info --pool=--bytes --bytes", "--pool=--bytes --bytes"),
        ("pool-info --pool=a=b", "--pool=a=b"),
        ("pool-info -- --bytes", "--pool=--bytes"),
        ("pool-info -- --", "--pool=--"),
        ("pool-info --bytes -- -x", "--bytes --pool=-x"),
        ("pool-info ---x", "--pool=---x"),
        ("pool-info --=x", "--pool=--=x"),
        ("pool-info --_", "--pool=--_"),
        ("pool-info --é", "--pool=--é"),
        ("pool-info -b", "--pool=-b"),
        ("pool-dumpxml d --xpath //name --wrap", "--pool=d --xpath=//name --wrap"),
        ("pool-define-as v fs --source-dev /a --source-dev /b",
         "--name=v --type=fs --source-dev=/a --source-dev=/b"),
    ],
)  # fmt: skip
def test_named(args: str, expected: str) -> None:
    name, *rest = args.split()
    assert named(command(name), rest) == expected.split()


def test_dash_as_a_value_is_passed_on() -> None:
    words = ("pool-define-as", "x", "dir", "-", "-", "-", "-", "/t", "--print-xml")
    _, out, _ = storagectl("/nowhere", *words)
    assert "<host name='-'/>" in out
    assert "<device path='-'/>" in out
    assert "<path>/t</path>" in out


WWN = ("--adapter-wwnn", "1", "--adapter-wwpn", "2")
WWNS = "wwnn='1' wwpn='2'/>"


@pytest.mark.parametrize(
    ("args", "source"),
    [
        (("--auth-type", "a", "--auth-username", "u", "--secret-usage", "s"), []),
        (("--source-protocol-ver", "4", "--source-initiator", "i"),
         ["<initiator>", "  <iqn name='i'/>", "</initiator>", "<protocol ver='4'/>"]),
        (("--source-name", "n", "--auth-type", "a", "--auth-username", "u", "--secret-uuid", "s"),
         ["<auth type='a' username='u'>", "  <secret uuid='s'/>", "</auth>", "<name>n</name>"]),
        (("--adapter-name", "a", "--source-initiator", "i"),
         ["<initiator>", "  <iqn name='i'/>", "</initiator>",
          "<adapter type='scsi_host' name='a'/>"]),
        ((*WWN, "--adapter-parent-wwnn", "3"), [f"<adapter type='fc_host' {WWNS}"]),
        ((*WWN, "--adapter-parent-wwnn", "3", "--adapter-parent-fabric-wwn", "5"),
         [f"<adapter type='fc_host' parent_fabric_wwn='5' {WWNS}"]),
        ((*WWN, "--adapter-parent-wwnn", "3", "--adapter-parent-wwpn", "4",
          "--adapter-parent-fabric-wwn", "5"),
         [f"<adapter type='fc_host' parent_wwnn='3' parent_wwpn='4' {WWNS}"]),
        ((*WWN, "--adapter-parent", "p", "--adapter-parent-fabric-wwn", "5"),
         [f"<adapter type='fc_host' parent='p' {WWNS}"]),
    ],
)  # fmt: skip
def test_the_source_that_virsh_makes_of_options(args: tuple[str, ...], source: list[str]) -> None:
    _, out, _ = storagectl("/nowhere", "pool-define-as", "x", "dir", *args, "--print-xml")
    between = ["  <source>", *(f"    {line}" for line in source), "  </source>"] if source else []
    assert out.splitlines() == ["<pool type='dir'>", "  <name>x</name>", *between, "</pool>", ""]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str) -> None:
    for args in ((name, "--help"), (name, "--help", "--")):
        status, out, err = storagectl("/nowhere", *args)
        assert (status, err) == (0, "")
        assert out.startswith(f"  NAME\n    {name} - {COMMANDS[name].summary}\n\n  SYNOPSIS\n")
        for param in command(name).params:
            assert isinstance(param, Flag | Value)
            assert f"--{option_name(param)}" in out or f"<{option_name(param)}>" in out


def test_the_programs_own_options() -> None:
    status, out, _ = storagectl(None, "--help")
    assert status == 0
    assert all(name in out for name in COMMANDS)
    assert storagectl(None, "-h").stdout == out
    status, version, _ = storagectl(None, "--version")
    assert (status, version.count("."), version[-1]) == (0, 2, "\n")
    assert storagectl(None, "-v").stdout == version


@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
@settings(max_examples=15)
def test_position_and_name_mean_the_same(name: str, data: st.DataObject) -> None:
    made = command(name)
    values = [p for p in made.params if isinstance(p, Value) and not p.named_only]
    words = [data.draw(st.text(min_size=1, max_size=5)) for _ in values]
    by_name = [f"--{option_name(p)}={word}" for p, word in zip(values, words, strict=True)]
    assert named(made, by_name) == by_name
    assert set(named(made, data.draw(st.permutations(by_name)))) == set(by_name)
    # An option that may be repeated takes all that follows.
    if not any(p.multiple for p in values):
        assert named(made, ["--", *words]) == by_name


SPECIAL = ["--", "--help", "--json", "--pool=x", "-"]


@pytest.mark.parametrize("name", COMMANDS)
@given(words=st.lists(st.text(max_size=6) | st.sampled_from(SPECIAL)))
@settings(max_examples=20)
def test_any_words_are_read_or_refused(name: str, words: list[str]) -> None:
    made = command(name)
    try:
        given_words = named(made, words)
    except UsageError:
        return
    if "--help" not in given_words:
        names = [word.partition("=")[0] for word in given_words]
        assert set(names) <= {f"--{known}" for known in made.options}
        assert {f"--{option_name(p)}" for p in made.params if p.required} <= set(names)


# Names and sizes that no pool or volume can have


@pytest.mark.parametrize("name", ["../x", "a/b", "/abs", ".", "..", "a\nb", "\x1b[31m", "x" * 300])
def test_s01_s02_pool_names(tmp_path: Path, name: str) -> None:
    status, out, err = storagectl(tmp_path, "pool-define-as", name, "dir", "--target", "/x")
    assert (status, out) == (1, "\n")
    assert err.startswith("error: Failed to define pool ")
    assert storagectl(tmp_path, "-q", "pool-list", "--all") == (0, "", "")
    assert list(tmp_path.rglob("*.xml")) == []


@pytest.mark.parametrize("name", ["--help", "-f", "$(id)", "a b", "*", "autostart", ".registry"])
def test_s04_s05_odd_pool_names(tmp_path: Path, name: str) -> None:
    target = str(tmp_path / "pool")
    for args in (
        ("pool-define-as", "--target", target, "--type", "dir", f"--name={name}"),
        ("pool-start", "--build", "--", name),
        ("-q", "pool-list", "--name"),
        ("pool-destroy", "--", name),
        ("pool-undefine", "--", name),
    ):
        status, out, err = storagectl(tmp_path / "state", *args)
        assert (status, err) == (0, "")
        assert name in out
    assert storagectl(tmp_path / "state", "pool-list", "--all").stdout == EMPTY


@pytest.mark.parametrize("size", ["9E", "15E", "8E", "9" * 30, "9" * 5000, "1e3", "-1", "0x10"])
def test_s09_absurd_sizes(tmp_path: Path, size: str) -> None:
    target = tmp_path / "pool"
    target.mkdir()
    state = tmp_path / "state"
    assert storagectl(state, "pool-create-as", "d", "dir", "--target", str(target)).status == 0
    assert storagectl(state, "vol-create-as", "d", "a", "1M", "--allocation", "0").status == 0
    for args in (("vol-create-as", "d", "b", size), ("vol-resize", "a", size, "d")):
        status, out, err = storagectl(state, *args)
        assert (status, out) == (1, "\n")
        assert err.startswith("error: ")
    assert os.listdir(target) == ["a"]
    assert (target / "a").stat().st_size == 1 << 20


# Against virsh itself

OUR_OWN = {
    "apply", "autostart", "doctor", "import", "pool-exists", "pool-stop", "pool-used-by", "status",
    "vol-exists", "vol-rename", "vol-used-by",
}  # fmt: skip
WORDS = [
    "--pool", "--pool=a", "--pool=", "--vol", "--bytes", "--bytes=1", "--details", "--", "-", "-x",
    "---x", "--=", "--_", "--9", "--bogus", "--help", "a", "b", "", "--type", "dir", "--name",
    "--uuid", "--all", "--inactive", "--offset", "--offset=x", "--capacity", "1M", "--target=/x",
]  # fmt: skip


def virsh(*args: str) -> Answer:
    done = subprocess.run(
        ["virsh", "-c", "test:///default", *args],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


def is_usage(answer: Answer) -> bool:
    """Tell a usage error: nothing has run, so that stdout has not even an empty line."""
    return answer.status == 1 and answer.stdout == ""


def same_usage(args: Sequence[str]) -> None:
    theirs, ours = virsh(*args), storagectl("/nowhere", *args)
    assert is_usage(ours) == is_usage(theirs), (args, ours, theirs)
    if is_usage(theirs):
        assert ours.stderr == theirs.stderr, args


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("virsh") is None, reason="needs virsh")
@given(
    st.sampled_from([
        "pool-info", "pool-list", "vol-info", "vol-list", "vol-resize", "vol-path", "vol-name",
        "pool-dumpxml", "vol-clone", "vol-dumpxml", "pool-name",
    ]),
    st.lists(st.sampled_from(WORDS), max_size=5),
)  # fmt: skip
@example("pool-info", ["--help", "x", "y"])
@example("pool-info", ["--help", "--help"])
@example("pool-info", ["--help", "--pool"])
@example("vol-clone", ["--", "--", "--"])
@example("pool-info", ["--pool", "--"])
@example("pool-info", ["--9"])
@settings(max_examples=40, deadline=None)
def test_usage_errors_are_virshs(name: str, words: list[str]) -> None:
    # --bytes of lists is our own
    assume(not (name.endswith("-list") and {"--bytes", "--bytes=1"}.intersection(words)))
    same_usage([name, *words])


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("virsh") is None, reason="needs virsh")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OUR_OWN])
def test_each_command_without_arguments_answers_as_virsh(name: str) -> None:
    if any(param.required for param in command(name).params):
        same_usage([name])
    else:
        same_usage([name, "--bogus"])
