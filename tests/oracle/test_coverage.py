"""Every command and every option is compared with virsh, where it succeeds and where it fails.

What must be compared comes from the command table; what is compared are the records of
all jobs and the single commands of tests/cli/calls.txt.
"""

from __future__ import annotations

import json
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from storagectl.commands import COMMANDS, find
from storagectl.commands.command import DRY_RUN, option_name
from storagectl.commands.options import OPTIONS, read_options
from storagectl.commands.reader import read, split
from storagectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import oracle  # noqa: E402  (the folder isn't a package)

CALLS = HERE.parent / "cli/calls.json"
PROGRAM = "storagectl"


class Case(NamedTuple):
    """A command, or an option of it, that succeeds or fails."""

    words: str
    succeeds: bool

    def __str__(self) -> str:
        return f"{self.words} {'succeeds' if self.succeeds else 'fails'}"


OWN = "virsh has no such thing"
ENDS = "answers at once, whatever comes after it"
OWN_OPTIONS = {
    "vol-clone": "progress no-progress verify",
    "vol-create-from": "progress no-progress verify",
    "vol-download": "progress no-progress verify",
    "vol-upload": "progress no-progress verify",
    "vol-wipe": "progress no-progress",
}
# Where virsh 9.0.0 can't be asked on the machine that builds this.
NOT_COMPARED = {
    "autostart succeeds": OWN,
    "autostart fails": OWN,
    "autostart --timing succeeds": OWN,
    "autostart --timing fails": OWN,
    "cd succeeds": "only in the shell: calls.txt has it with STDIN",
    "cd --dir succeeds": "only in the shell: calls.txt has it with STDIN",
    "vol-create --validate succeeds": "never succeeds before libvirt 11.3: corpus.py",
    "vol-create-from --validate succeeds": "never succeeds before libvirt 11.3: corpus.py",
    "vol-delete --delete-snapshots succeeds": "only in rbd pools",
    "pool-event --list fails": ENDS,
    "import succeeds": OWN,
    "import fails": OWN,
    "import --folder succeeds": OWN,
    "import --folder fails": OWN,
    **{
        f"{command} --{option} {outcome}": OWN
        for command, options in OWN_OPTIONS.items()
        for option in options.split()
        for outcome in ("succeeds", "fails")
    },
    **{f"doctor{option} {how}": OWN for option in ("", " --pool") for how in ("succeeds", "fails")},
    **{
        f"status{option} {how}": OWN
        for option in ("", " --pool", " --volumes", " --watch")
        for how in ("succeeds", "fails")
    },
    **{
        f"apply{option} {how}": OWN
        for option in (
            "",
            " --file",
            " --diff",
            " --detailed-exitcode",
            " --build",
            " --overwrite",
            " --resize",
            " --prune",
            " --keep-going",
        )
        for how in ("succeeds", "fails")
    },
    **{
        f"vol-rename{option} {how}": OWN
        for option in ("", " --vol", " --newname", " --pool")
        for how in ("succeeds", "fails")
    },
    "storagectl --help succeeds": "the words are this program's own: test_shell.py",
    "storagectl --help fails": ENDS,
    "storagectl --json succeeds": OWN,
    "storagectl --json fails": OWN,
    "storagectl --no-pkttyagent succeeds": "new in libvirt 11.4",
    "storagectl --no-pkttyagent fails": "new in libvirt 11.4",
    "storagectl --root succeeds": OWN,
    "storagectl --root fails": OWN,
    "storagectl -v succeeds": "the version is this program's own",
    "storagectl -V succeeds": "the version is this program's own",
    "storagectl -V fails": ENDS,
    "storagectl --version succeeds": "the version is this program's own",
    "storagectl --version fails": ENDS,
}

LIST_OPTIONS = "format no-header sort filter bytes"
OWN_OPTIONS = {
    "pool-list": LIST_OPTIONS,
    "secret-list": LIST_OPTIONS,
    "vol-list": LIST_OPTIONS,
    "pool-build": "if-inactive",
    "pool-create": "if-inactive",
    "pool-create-as": "if-inactive",
    "pool-define": "if-missing",
    "pool-define-as": "if-missing",
    "pool-delete": "if-exists",
    "pool-destroy": "if-active",
    "pool-refresh": "if-active",
    "pool-start": "if-inactive",
    "pool-undefine": "if-exists forget",
    "vol-clone": "capacity owner group mode linked keep-backing allow-backing if-missing",
    "secret-undefine": "if-exists",
    "vol-create": "allow-backing if-missing",
    "vol-create-as": "owner group mode allow-backing if-missing",
    "vol-delete": "if-exists",
    "vol-create-from": "capacity owner group mode keep-backing allow-backing if-missing",
    "vol-resize": "allow-backing",
}
OWN_COMMANDS = {
    "pool-exists": "--pool",
    "pool-stop": "--pool --if-active",
    "pool-used-by": "--pool",
    "vol-exists": "--vol --pool",
    "vol-used-by": "--vol --pool",
}
NOT_COMPARED |= {
    f"{command} --{option} {how}": OWN
    for command, options in OWN_OPTIONS.items()
    for option in options.split()
    for how in ("succeeds", "fails")
}

NOT_COMPARED |= {
    f"{words} {how}": OWN
    for command, options in OWN_COMMANDS.items()
    for words in (command, *(f"{command} {option}" for option in options.split()))
    for how in ("succeeds", "fails")
}


NOT_COMPARED |= {
    f"{command} --{DRY_RUN} {how}": OWN for command in COMMANDS for how in ("succeeds", "fails")
    if any(option_name(param) == DRY_RUN for param in getattr(find(command), "params", []))
}  # fmt: skip
NOT_COMPARED |= {
    f"{PROGRAM} --{option} {how}": OWN
    for option in (DRY_RUN, "verbose")
    for how in ("succeeds", "fails")
}


def required() -> Iterator[Case]:
    """Yield what the tables of commands and options ask for."""
    words = [f"{PROGRAM} {label(option.short, option.long)}" for option in OPTIONS]
    for name in COMMANDS:
        command = find(name)
        assert command is not None
        words += [name, *(f"{name} --{option_name(param)}" for param in command.params)]
    for each in words:
        yield Case(each, True)
        yield Case(each, False)


def label(short: str, long: str) -> str:
    return f"--{long}" if long else f"-{short}"


def compared() -> Iterator[tuple[list[str], int]]:
    """Yield the arguments of each single call that is compared, and virsh's exit status."""
    for job in oracle.JOBS.values():
        _, records = oracle.load(job.recordings()[-1], job.digest())
        for record in records:
            if record.kind != "state":
                yield record.argv, record.status
    for line, (status, _, _) in json.loads(CALLS.read_text()).items():
        if "STDIN" not in line and "$'" not in line:
            yield shlex.split(line), status


def shown(argv: list[str], status: int) -> Iterator[Case]:
    """Yield what a call shows; words that can't be read show no option of a command."""
    succeeds = status == 0
    try:
        *options, words = read_options(argv)
    except UsageError:
        return
    for option, _, _ in options:
        yield Case(f"{PROGRAM} {label(option.short, option.long)}", succeeds)
    try:
        calls = read(split(words[0]) if len(words) == 1 else words)
    except UsageError:
        yield Case(words[0].partition(" ")[0], succeeds)
        return
    if len(calls) != 1 or "--help" in calls[0].named:
        return
    name = calls[0].command.name
    yield Case(str(name), succeeds)
    for word in calls[0].named:
        yield Case(f"{name} {word.partition('=')[0]}", succeeds)


@cache
def covered() -> frozenset[Case]:
    return frozenset(case for argv, status in compared() for case in shown(argv, status))


@pytest.mark.parametrize("case", list(required()), ids=str)
def test_is_compared_with_virsh(case: Case) -> None:
    if str(case) in NOT_COMPARED:
        assert case not in covered(), "is compared: the exception is stale"
    else:
        assert case in covered(), "no call of main-job.sh or calls.txt shows it"


def test_no_exception_is_of_something_unknown() -> None:
    assert set(NOT_COMPARED) <= set(map(str, required()))


@pytest.mark.parametrize(
    ("line", "cases"),
    [
        ("-q vol-info a d", "storagectl --quiet, vol-info, vol-info --vol, vol-info --pool"),
        ("'pool-info d'", "pool-info, pool-info --pool"),
        ("pool-info d surplus", "pool-info"),
        ("pool-info --help", ""),
        ("'pool-info d; pwd'", ""),
        ("-t 'echo a; pwd'", "storagectl --timing"),
        ("--bogus pwd", ""),
    ],
)
def test_what_a_call_shows(line: str, cases: str) -> None:
    found = list(shown(shlex.split(line), 1))
    assert ", ".join(case.words for case in found) == cases
    assert not any(case.succeeds for case in found)
