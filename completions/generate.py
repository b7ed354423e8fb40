"""Write the tables of commands and options into the completions for bash, zsh and fish.

Each file is written by hand but for what stands between its two marker lines.  An option
is `name:kind`; the kinds are in VALUES.  `--check` writes nothing and fails when a file
is not what it would be.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from storagectl import backends, events
from storagectl.commands import COMMANDS, find
from storagectl.commands.command import COMMON, Flag, Value, option_name
from storagectl.commands.help import GROUPS
from storagectl.commands.lists import COLUMNS
from storagectl.commands.options import OPTIONS
from storagectl.plan import PRUNABLE
from storagectl.pooltypes import POOL_TYPES
from storagectl.volumedata import WIPE_ALGORITHMS

ROOT = Path(__file__).resolve().parent.parent
FILES = {name: ROOT / f"completions/storagectl.{name}" for name in ("bash", "zsh", "fish")}
START = "# Written by completions/generate.py.\n"
END = "# End of what completions/generate.py writes.\n"

# What an option's value can be: `text`, of which nothing is known; `file` or `folder`; a kind of
# WORDS, with `pool-format` those of the pool type that was typed; a kind of storagectl.completing;
# `pool-with`, the pools that have the volume that was typed; `volume-OPTION` and `format-OPTION`,
# the volumes, and the formats of volumes, of the pool that OPTION names.
VALUES = {
    "algorithm": "wipe-algorithm",
    "auth-type": "auth-type",
    "backing-vol": "volume-pool",
    "backing-vol-format": "format-pool",
    "file": "file",
    "folder": "folder",
    "format": "format-pool",
    "group": "group",
    "owner": "user",
    "srcSpec": "file",
    "prune": "prune",
    "inputpool": "pool-active",
    "command": "command",
    "connect": "uri",
    "dir": "folder",
    "event": "event",
    "log": "file",
    "root": "folder",
    "secret": "secret",
    "secret-uuid": "secret",
    "source-dev": "device",
    "source-format": "pool-format",
    "target": "folder",
    "type": "pool-type",
    "vol": "volume-pool",
}
SPECIAL = {
    ("pool-list", "format"): "column-pool",
    ("pool-list", "sort"): "column-pool",
    ("vol-list", "format"): "column-volume",
    ("vol-list", "sort"): "column-volume",
    ("secret-list", "format"): "column-secret",
    ("secret-list", "sort"): "column-secret",
    ("connect", "name"): "uri",
    ("find-storage-pool-sources", "type"): "source-type",
    ("find-storage-pool-sources-as", "type"): "source-type",
    ("pool-autostart", "pool"): "pool-persistent",
    ("pool-name", "pool"): "pool-uuid",
    ("vol-create-from", "vol"): "volume-inputpool",
    ("vol-name", "vol"): "file",
    ("vol-pool", "vol"): "file",
}
NEEDS_INACTIVE = ("pool-start", "pool-undefine", "pool-delete", "pool-build")
NEEDS_ACTIVE = ("pool-destroy", "pool-refresh", "pool-stop")


def words() -> dict[str, list[str]]:
    """Return the words that an option of each kind can be."""
    served = {row.name: [*row.pool_formats, *row.extra_pool_formats]
              for row in POOL_TYPES.values() if row.module}  # fmt: skip
    searched = [name for name in served if backends.of_type(name).find_sources is not None]
    found = {
        "auth-type": ["chap"],
        "uri": ["storage:///system", "storage:///session"],
        "command": [*COMMANDS, *(group.keyword for group in GROUPS)],
        "event": [*events.TYPES, *events.OWN_TYPES],
        "pool-type": list(served),
        "source-type": searched,
        "pool-format": unique(word for formats in served.values() for word in formats),
        "volume-format": unique(
            word for name in served for word in POOL_TYPES[name].volume_formats
        ),
        "wipe-algorithm": list(WIPE_ALGORITHMS),
        "prune": list(PRUNABLE),
        "column-pool": [column.name for column in COLUMNS["pools"]],
        "column-volume": [column.name for column in COLUMNS["volumes"]],
        "column-secret": [column.name for column in COLUMNS["secrets"]],
    }
    return found | {f"pool-format-{name}": formats for name, formats in served.items() if formats}


def unique(found: Iterable[str]) -> list[str]:
    """Return words without repetitions, in their order."""
    return list(dict.fromkeys(found))


def kind(command: str, param: Flag | Value) -> str:
    """Return what the value of an option can be; flag where it has none."""
    name = option_name(param)
    if isinstance(param, Flag) or param.otherwise is not None:
        return "flag"
    if (command, name) in SPECIAL:
        return SPECIAL[command, name]
    if name == "pool":
        if command in NEEDS_INACTIVE:
            return "pool-inactive"
        if command[:4] == "vol-" and takes_volume(command):
            return "pool-with"
        return "pool-active" if command in NEEDS_ACTIVE or command[:4] == "vol-" else "pool-all"
    return VALUES.get(name, "text")


def takes_volume(command: str) -> bool:
    """Tell whether a command is given a volume of the pool that it is given."""
    found = find(command)
    assert found is not None
    return any(option_name(param) == "vol" for param in found.params) and (
        SPECIAL.get((command, "vol"), "volume-pool") == "volume-pool"
    )


def options(command: str) -> list[str]:
    """Return the options of a command in order, as `name:kind`, then those of all but --help.

    `=` after the kind: may not be given by position; `+`: may be given again.
    """
    found = find(command)
    assert found is not None
    return [
        f"{option_name(param)}:{kind(command, param)}"
        + ("=" if isinstance(param, Value) and param.named_only else "")
        + ("+" if param.multiple else "")
        for param in (*found.params, *COMMON.values())
        if isinstance(param, Flag | Value) and param is not COMMON["help"]
    ]


def program_options() -> list[str]:
    """Return the options before the command: `--name:kind`, the short ones as well."""
    kinds = [
        (row, VALUES.get(row.long, "text") if row.value[:1] not in ("", "[") else "flag")
        for row in OPTIONS
    ]
    return [f"-{row.short}:{kind}" for row, kind in kinds if row.short] + [
        f"--{row.long}:{kind}" for row, kind in kinds if row.long
    ]


def bash() -> str:
    lines = [
        f"_storagectl_commands='{' '.join(COMMANDS)}'",
        f"_storagectl_program_options='{' '.join(program_options())}'",
        "_storagectl_options() { # COMMAND: sets options",
        "    case $1 in",
        *(f"        {name}) options='{' '.join(options(name))}' ;;" for name in COMMANDS),
        "        *) options='' ;;",
        "    esac",
        "}",
        "_storagectl_words() { # KIND: prints the words that are known beforehand",
        "    case $1 in",
        *(f"        {name}) echo '{' '.join(found)}' ;;" for name, found in words().items()),
        "    esac",
        "}",
    ]
    return "\n".join(lines) + "\n"


def zsh() -> str:
    lines = [
        "_storagectl_tables() {",
        "    command_list=(",
        *(f"        '{name}:{quoted(info.summary)}'" for name, info in COMMANDS.items()),
        "    )",
        f"    program_options=({' '.join(program_options())})",
        "    options_of=(",
        *(f"        {name} '{' '.join(options(name))}'" for name in COMMANDS),
        "    )",
        "    words_of=(",
        *(f"        {name} '{' '.join(found)}'" for name, found in words().items()),
        "    )",
        "}",
    ]
    return "\n".join(lines) + "\n"


def fish() -> str:
    lines = [
        "function __storagectl_commands",
        *(f"    printf '%s\\t%s\\n' {name} '{fish_quoted(info.summary)}'"
          for name, info in COMMANDS.items()),
        "end",
        "function __storagectl_program_options",
        f"    printf '%s\\n' {' '.join(program_options())}",
        "end",
        "function __storagectl_options --argument-names command",
        "    switch $command",
        *(f"        case {name}\n            printf '%s\\n' {' '.join(options(name))}"
          for name in COMMANDS if options(name)),
        "    end",
        "end",
        "function __storagectl_words --argument-names kind",
        "    switch $kind",
        *(f"        case {name}\n            printf '%s\\n' {' '.join(found)}"
          for name, found in words().items()),
        "    end",
        "end",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return text for inside '' in bash and zsh."""
    return text.replace("'", "'\\''")


def fish_quoted(text: str) -> str:
    """Return text for inside '' in fish."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def outputs() -> dict[Path, str]:
    """Return each file with the text it should have."""
    tables = {"bash": bash(), "zsh": zsh(), "fish": fish()}
    texts = {}
    for name, path in FILES.items():
        before, start, rest = path.read_text().partition(START)
        _, end, after = rest.partition(END)
        assert start, f"{path} has no line {START}"
        assert end, f"{path} has no line {END}"
        texts[path] = before + start + tables[name] + end + after
    return texts


def stale() -> list[Path]:
    """Return the files that are not up to date."""
    return [path for path, text in outputs().items() if path.read_text() != text]


def main() -> int:
    behind = stale()
    if "--check" in sys.argv[1:]:
        for path in behind:
            print(f"not up to date: {path}; run python completions/generate.py", file=sys.stderr)
        return 1 if behind else 0
    for path, text in outputs().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
