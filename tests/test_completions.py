"""The completions in real shells, with names that must neither be run nor be split."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from completionshell import SHELLS, Shell

import storagectl
from storagectl import completing

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "$(touch canary)"
ACTIVE = {HOSTILE, "two words", "it's", "end'\"", 'quote"`touch canary`!', "*", "~", "a:b=c"}
INACTIVE = {"off"}
VOLUMES = {"$(touch canary).img", "two  blanks", "unit:0:0:1", "plain"}

# Prints what is offered for the command line $1, as the shell would read it back.
BASH = """
source "$FILE"
line=$1
read -r -a COMP_WORDS <<<''
COMP_LINE=$line COMP_POINT=${#line}
mapfile -t COMP_WORDS < <(python3 "$SPLIT" "$line")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_storagectl storagectl
for word in "${COMPREPLY[@]}"; do printf '%s\\n' "$word"; done
"""

# Splits a line as readline does: at blanks, and before and after runs of = and :.
SPLIT = r"""
import re, sys
line = sys.argv[1]
pattern = r'''(?:\\.|'[^']*'?|"(?:\\.|[^"\\])*"?|[^\s=:'"\\])+|[=:]+'''
words = re.findall(pattern, line)
if not words or re.search(r"(?<!\\)\s$", line):
    words.append("")
print("\n".join(words))
"""

FISH = 'source "$FILE"; complete -C "$LINE"'


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make pools and volumes with hostile names, and a `storagectl` first in the path."""
    top = tmp_path_factory.mktemp("completions")
    (top / "bin").mkdir()
    package = os.path.dirname(os.path.dirname(storagectl.__file__))
    program = top / "bin/storagectl"
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(package)} exec {shlex.quote(sys.executable)}"
        ' -m storagectl "$@"\n'
    )
    program.chmod(0o755)
    (top / "split.py").write_text(SPLIT)
    environment = {
        **os.environ,
        "PATH": f"{top / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "STORAGECTL_ROOT": str(top / "state"),
        "HOME": str(top),
        "SPLIT": str(top / "split.py"),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }

    def run(*words: str) -> None:
        subprocess.run([program, "-q", *words], env=environment, check=True, cwd=top)

    for number, name in enumerate(sorted(ACTIVE | INACTIVE)):
        target = top / f"pool{number}"
        run("pool-define-as", name, "dir", "--target", str(target))
        if name in ACTIVE:
            run("pool-start", name, "--build")
        if name == HOSTILE:
            for volume in VOLUMES:
                (target / volume).touch()
    return environment


@pytest.fixture
def bash(environment: dict[str, str], tmp_path: Path) -> Callable[[str], list[str]]:
    """Return what completes a command line in bash, before readline reads it."""

    def complete(line: str) -> list[str]:
        done = subprocess.run(
            [tool("bash"), "--norc", "-c", BASH, "bash", line],
            env={**environment, "FILE": str(ROOT / "completions/storagectl.bash")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []
        return done.stdout.splitlines()

    return complete


@pytest.fixture
def fish(environment: dict[str, str], tmp_path: Path) -> Callable[[str], list[str]]:
    """Return what completes a command line in fish, as plain text: fish quotes it later."""

    def complete(line: str) -> list[str]:
        done = subprocess.run(
            [tool("fish"), "--no-config", "-c", FISH],
            env={
                **environment,
                "FILE": str(ROOT / "completions/storagectl.fish"),
                "LINE": line,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []
        return [shown.split("\t")[0] for shown in done.stdout.splitlines()]

    return complete


def read_back(words: list[str]) -> set[str]:
    """Return the words that bash reads on a command line with these; each must be one."""
    for word in words:
        assert len(shlex.split(word)) == 1, word
    return {shlex.split(word)[0] for word in words}


POOL_COMMANDS = [
    ("pool-start", INACTIVE),
    ("pool-undefine", INACTIVE),
    ("pool-delete", INACTIVE),
    ("pool-build", INACTIVE),
    ("pool-destroy", ACTIVE),
    ("pool-refresh", ACTIVE),
    ("vol-list", ACTIVE),
    ("vol-create-as", ACTIVE),
    ("pool-info", ACTIVE | INACTIVE),
    ("pool-uuid", ACTIVE | INACTIVE),
]


@pytest.mark.parametrize(("command", "expected"), POOL_COMMANDS)
@pytest.mark.parametrize("given", ["", "--pool ", "--pool="])
def test_bash_offers_pools(
    bash: Callable[[str], list[str]], command: str, expected: set[str], given: str
) -> None:
    assert read_back(bash(f"storagectl {command} {given}")) == expected


@pytest.mark.parametrize(("command", "expected"), POOL_COMMANDS)
@pytest.mark.parametrize("given", ["", "--pool ", "--pool="])
def test_fish_offers_pools(
    fish: Callable[[str], list[str]], command: str, expected: set[str], given: str
) -> None:
    prefix = given if given.endswith("=") else ""
    assert set(fish(f"storagectl {command} {given}")) == {prefix + name for name in expected}


@pytest.mark.parametrize("quoted", [r"\$\(touch\ canary\)", "'$(touch canary)'"])
@pytest.mark.parametrize("given", ["--pool ", "--pool="])
def test_volumes_of_the_pool_that_was_typed(
    bash: Callable[[str], list[str]],
    fish: Callable[[str], list[str]],
    quoted: str,
    given: str,
) -> None:
    line = f"storagectl vol-info {given}{quoted} "
    assert read_back(bash(line)) == VOLUMES
    assert set(fish(line)) == VOLUMES
    assert read_back(bash(f"{line}--vol=")) == VOLUMES


def test_bash_completes_a_part_of_a_name(bash: Callable[[str], list[str]]) -> None:
    pool = r"storagectl vol-info --pool \$\(touch\ canary\) "
    assert bash(r"storagectl pool-info two\ w") == [r"two\ words"]
    assert bash("storagectl pool-info 'two w") == ["two words"]
    assert bash("storagectl pool-info it\\'") == [r"it\'s"]
    assert bash("storagectl pool-info 'it") == [r"it'\''s"]
    assert bash(r'storagectl pool-info "\$') == [r"\$(touch canary)"]
    assert bash("storagectl pool-info '$") == ["$(touch canary)"]
    assert bash('storagectl pool-info "quo') == ['quote\\"\\`touch canary\\`"\'!\'""']
    assert bash("storagectl pool-info a:b") == ["b=c"]
    assert bash("storagectl pool-info --pool=a:b=") == ["c"]
    assert bash(f"{pool}unit:0:") == ["0:1"]
    assert bash(f"{pool}pl") == ["plain"]


@pytest.mark.parametrize(
    "typed", ["$", '"$', "$(touch canary", "`touch canary`", '"$(touch canary)']
)
def test_bash_offers_nothing_for_what_it_would_have_to_run(
    bash: Callable[[str], list[str]], typed: str
) -> None:
    assert bash(f"storagectl pool-info {typed}") == []
    assert bash(f"storagectl vol-info --pool {typed} x") == []


def test_commands_and_options(
    bash: Callable[[str], list[str]], fish: Callable[[str], list[str]]
) -> None:
    for complete in (bash, fish):
        assert complete("storagectl pool-unde") == ["pool-undefine"]
        assert complete("storagectl --ro") == ["--root"]
        common = {"--help", "--json", "--verbose"}
        assert set(complete("storagectl pool-info off --")) == {"--bytes", *common}
        assert set(complete("storagectl pool-define-as new ")) == {
            "dir", "disk", "fs", "iscsi", "logical", "mpath", "netfs", "scsi",
        }  # fmt: skip
        assert set(complete("storagectl vol-create-as off new 1G --prea")) == {
            "--prealloc-metadata"
        }
        assert set(complete("storagectl vol-wipe x --algorithm pf")) == {"pfitzner7", "pfitzner33"}
        assert complete("storagectl pool-define-as new fs --source-format xf") == ["xfs"]
        assert complete("storagectl pool-define-as new fs --source-dev /dev/x --source-de") == [
            "--source-dev"
        ]
        assert complete("storagectl --root /nonexistent pool-info o") == []
        assert complete("storagectl nosuchcommand x") == []


def test_fish_completes_files(fish: Callable[[str], list[str]]) -> None:
    assert fish("storagectl pool-define /etc/hostn") == ["/etc/hostname"]
    assert fish("storagectl pool-define --file=/etc/hostn") == ["--file=/etc/hostname"]


KEYS = {
    HOSTILE: ["\\$", "'$", "--pool=\\$", '"\\$'],
    "two words": ["tw", "'tw", "--pool=tw", "two\\ "],
    "it's": ["it", "it\\'", '"it'],
    'quote"`touch canary`!': ["quo", '"quo', "'quo"],
    "end'\"": ["end", "'end", '"end'],
    "a:b=c": ["a:", "--pool a:b", "--pool=a:b="],
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", KEYS)
def test_tab_and_enter_on_a_terminal(
    environment: dict[str, str], tmp_path: Path, shell: str, name: str
) -> None:
    tool(shell)
    with Shell(shell, environment, tmp_path) as terminal:
        for keys in KEYS[name]:
            terminal.type(f"storagectl pool-info {keys}\t\n")
            terminal.wait_for(f"Name:           {name}\r\n")
    assert terminal.left_behind() == []


# What is typed, and the last word that the program gets.
TYPED = {
    "pool-unde\t": "pool-undefine",
    "--readonl\t": "--readonly",
    "--connect storage:///sy\t": "storage:///system",
    "help vol-resi\t": "vol-resize",
    "pool-list --persis\t": "--persistent",
    "pool-start of\t": "off",
    "pool-destroy of\t": "of",
    "vol-list of\t": "of",
    "pool-autostart of\t": "off",
    "vol-list tw\t": "two words",
    "vol-info --pool \\$\t two\t": "two  blanks",
    "vol-info --pool \\$\t unit\t": "unit:0:0:1",
    "vol-info pla\t": "plain",
    "vol-info plain \\\t": HOSTILE,
    "vol-info plain --pool tw\t": "tw",
    "vol-clone plain new --pool \\$\t": HOSTILE,
    "vol-create-as two\\ words new 1G --format vmd\t": "vmdk",
    "vol-create-as two\\ words new 1G --format linux-sw\t": "linux-sw",
    "pool-define-as new fs --source-format xf\t": "xfs",
    "pool-define-as new disk --source-format xf\t": "xf",
    "pool-define-as new disk --source-format gp\t": "gpt",
    "pool-define-as new iscs\t": "iscsi",
    "find-storage-pool-sources netf\t": "netfs",
    "find-storage-pool-sources dis\t": "dis",
    "pool-define /etc/hostna\t": "/etc/hostname",
    "vol-upload plain --file /etc/hostna\t": "/etc/hostname",
    "vol-info /etc/hostna\t": "/etc/hostname",
    "vol-wipe plain --algorithm pfitzner3\t": "pfitzner33",
    "pool-event --event life\t": "lifecycle",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_what_tab_makes_of_a_line(environment: dict[str, str], tmp_path: Path, shell: str) -> None:
    """The shell itself says which words it understands."""
    tool(shell)
    node, start = block_device()
    with Shell(shell, environment, tmp_path) as terminal:
        terminal.tell_words()
        for keys, word in {**TYPED, f"pool-define-as x fs --source-dev {start}\t": node}.items():
            terminal.type(f"storagectl {keys}\n")
            assert (keys, terminal.last_word()) == (keys, word)
    assert terminal.left_behind() == []


def block_device() -> tuple[str, str]:
    """Return a device, and how its name begins and no other's."""
    nodes = list(completing.devices())
    for node in nodes:
        for length in range(len("/dev/x"), len(node)):
            if [other for other in nodes if other.startswith(node[:length])] == [node]:
                return node, node[:length]
    pytest.fail(f"no device has a name of its own: {nodes}")


def test_zsh_has_no_syntax_errors() -> None:
    subprocess.run([tool("zsh"), "-n", ROOT / "completions/storagectl.zsh"], check=True)
