"""Write what the manual pages and the README say about commands, options, pool types and XML.

Each page in man/ is its template with the generated parts put in; in README.md the tables
of pool types and of differences from virsh are replaced between their markers.  `--check` writes
nothing and fails when a file is not what it would be.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import formats

from storagectl import __version__
from storagectl.commands import COMMANDS, find
from storagectl.commands.command import Flag, Value, option_name
from storagectl.commands.lists import COLUMNS
from storagectl.commands.options import OPTIONS
from storagectl.errors import StorageError, code
from storagectl.pooltypes import POOL_TYPES, PoolType

ROOT = Path(__file__).resolve().parent.parent
DIFFERENCES = ROOT / "man/differences.toml"
README = ROOT / "README.md"

GROUPS = (
    ("Commands on pools", ("pool-", "find-")),
    ("Commands on volumes", ("vol-",)),
    ("Commands on secrets", ("secret-",)),
    ("Other commands", ("",)),
)


def roff(text: str) -> str:
    """Return text as roff takes it; a line never begins with what roff reads as a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + text if text.startswith(".") else text


def synopsis_words(param: Flag | Value) -> str:
    """Return an option as the synopsis has it."""
    name = roff(f"--{option_name(param)}")
    if isinstance(param, Flag):
        return f"[\\fB{name}\\fR]"
    if param.rest:
        return f"[\\fI{roff(option_name(param))}\\fR]..."
    if param.required:
        return f"\\fI{roff(option_name(param))}\\fR"
    if param.otherwise is not None:
        return f"[\\fB{name}\\fR [\\fI{param.value_name}\\fR]]"
    dots = "..." if param.multiple else ""
    return f"[\\fB{name}\\fR \\fI{param.value_name}\\fR]{dots}"


def option_lines(param: Flag | Value) -> list[str]:
    """Return an option and its help as a tagged paragraph."""
    names = f"\\fB{roff('--' + option_name(param))}\\fR"
    if isinstance(param, Value):
        shown = f"\\fI{param.value_name}\\fR"
        names += f" {shown}" if param.otherwise is None else f" [{shown}]"
    return [".TP", names, roff(sentence(param.help or ""))]


def sentence(words: str) -> str:
    """Return words with a capital and a full stop."""
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def command_lines(name: str) -> list[str]:
    """Return the section of one command."""
    found = find(name)
    assert found is not None
    params = [param for param in found.params if isinstance(param, Flag | Value)]
    lines = [f".SS {roff(name)}", f"\\fB{roff(name)}\\fR"]
    lines += [synopsis_words(param) for param in params]
    lines += [".PP", roff(sentence(max(COMMANDS[name].summary, found.help or "", key=len)))]
    for param in params:
        lines += option_lines(param)
    return lines


def commands_text() -> str:
    """Return all commands, in groups."""
    left = list(COMMANDS)
    lines: list[str] = []
    for title, prefixes in GROUPS:
        names = [name for name in left if name.startswith(prefixes)]
        left = [name for name in left if name not in names]
        if names:
            lines += [f".SH {title.upper()}"]
            for name in names:
                lines += command_lines(name)
    return "\n".join(lines)


def global_options_text() -> str:
    """Return the options that stand before the command."""
    lines: list[str] = []
    for row in OPTIONS:
        names = [f"-{row.short}"] * bool(row.short) + [f"--{row.long}"] * bool(row.long)
        text = ", ".join(f"\\fB{roff(name)}\\fR" for name in names)
        if row.value:
            text += row.value[0] if row.value[0] == "[" else " "
            text += (
                f"\\fI{row.value.strip('=<>')}\\fR"
                if row.value[0] != "["
                else (f"=\\fI{row.value.strip('[=]')}\\fR]")
            )
        lines += [".TP", text, roff(sentence(row.help))]
    return "\n".join(lines)


def errors_text() -> str:
    """Return the codes of errors, with what their messages begin with or stand for."""
    lines = [".TP", "\\fBinterrupted\\fR", "The command was ended by a signal."]
    for kind in error_classes():
        if kind.prefix and "prefix" in vars(kind):
            words = f'its message begins with "{kind.prefix.strip()}".'
        else:
            words = (kind.__doc__ or "").partition("\n")[0]
        lines += [".TP", f"\\fB{roff(code(kind))}\\fR", roff(sentence(words))]
    return "\n".join(lines)


def columns_text() -> str:
    """Return the columns that each list has."""
    lines: list[str] = []
    for of, columns in COLUMNS.items():
        names = ", ".join(column.name for column in columns)
        lines += [".TP", f"of {of}", roff(names) + "."]
    return "\n".join(lines)


def error_classes() -> list[type[StorageError]]:
    """Return the classes of errors, in the order of their codes."""
    kinds, left = [], [StorageError]
    while left:
        kinds.append(left.pop())
        left += kinds[-1].__subclasses__()
    return sorted({code(kind): kind for kind in kinds}.values(), key=code)


def differences() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the table of differences, by their group."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in tomllib.loads(DIFFERENCES.read_text())["difference"]:
        groups.setdefault(row["group"], []).append(row)
    return groups


def differences_text() -> str:
    """Return the differences from virsh as tagged paragraphs."""
    lines: list[str] = []
    for group, rows in differences().items():
        lines += [".PP", f"\\fB{roff(group)}\\fR"]
        for row in rows:
            words = (
                f"virsh: {row['virsh']}.\nstoragectl: {row['storagectl']}.\n{sentence(row['why'])}"
            )
            lines += [".TP", *(with_code(roff(line)) for line in (row["what"], *words.split("\n")))]
    return "\n".join(lines)


def with_code(text: str) -> str:
    """Return text with what stands in backquotes in bold."""
    return re.sub("`([^`]*)`", r"\\fB\1\\fR", text)


def differences_table() -> str:
    """Return the table of differences for the README."""
    lines = ["| | virsh | storagectl | why |", "|---|---|---|---|"]
    for group, rows in differences().items():
        lines.append(f"| **{group}** | | | |")
        lines += [
            f"| {row['what']} | {row['virsh']} | {row['storagectl']} | {row['why']} |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, dict[str, str]]:
    """Return what stands for the markers of each manual page, by the page's name."""
    version = {"@VERSION@": __version__}
    return {
        "storagectl.1": version
        | {
            "@OPTIONS@": global_options_text(),
            "@COMMANDS@": commands_text(),
            "@COLUMNS@": columns_text(),
            "@ERRORS@": errors_text(),
            "@DIFFERENCES@": differences_text(),
        },
        "storagectl-pool.5": version
        | {
            "@ELEMENTS@": formats.elements_text("pool", plain),
            "@SOURCES@": formats.sources_table(),
            "@FORMATS@": formats.pool_formats_text(roff),
        },
        "storagectl-volume.5": version
        | {
            "@ELEMENTS@": formats.elements_text("volume", plain),
            "@OPERATIONS@": formats.operations_table(),
            "@FORMATS@": formats.volume_formats_text(roff),
        },
        "storagectl-secret.5": version | {"@ELEMENTS@": formats.elements_text("secret", plain)},
    }


def plain(text: str) -> str:
    """Return text as roff takes it, with what stands in backquotes in bold."""
    return with_code(roff(text))


def page(name: str, parts: dict[str, str]) -> str:
    """Return a manual page."""
    text = (ROOT / f"man/{name}.in").read_text()
    for marker, part in parts.items():
        assert marker in text, marker
        text = text.replace(marker + "\n", part + "\n" if part else "").replace(marker, part)
    return text


def source_words(row: PoolType) -> str:
    """Return what the source of a pool type must and may have."""
    words = list(row.needs) + [f"{part} (optional)" for part in row.reads]
    return ", ".join(words) or "-"


def readme_table() -> str:
    """Return the table of pool types."""
    lines = ["| type | source | source formats | served |", "|---|---|---|---|"]
    for row in POOL_TYPES.values():
        if not row.conflict:
            continue  # libvirt's types that storagectl is not for
        formats = ", ".join((*row.pool_formats, *row.extra_pool_formats)) or "-"
        served = "yes" if row.module else "not yet"
        lines.append(f"| {row.name} | {source_words(row)} | {formats} | {served} |")
    return "\n".join(lines) + "\n"


def readme() -> str:
    """Return the README with today's tables."""
    text = README.read_text()
    for what, table in (("pool types", readme_table()), ("differences", differences_table())):
        start, end = f"<!-- {what}: written by man/generate.py -->\n", f"<!-- end of {what} -->\n"
        before, found, rest = text.partition(start)
        _, ends, after = rest.partition(end)
        assert found and ends, f"{README} lacks {start if not found else end}"  # noqa: PT018
        text = before + start + table + end + after
    return text


def outputs() -> dict[Path, str]:
    """Return each generated file with the text it should have."""
    made = {ROOT / f"man/{name}": page(name, parts) for name, parts in pages().items()}
    return made | {README: readme()}


def stale() -> list[Path]:
    """Return the generated files that are not up to date."""
    return [
        path for path, text in outputs().items() if not path.exists() or path.read_text() != text
    ]


def main() -> int:
    behind = stale()
    if "--check" in sys.argv[1:]:
        for path in behind:
            print(f"not up to date: {path}; run python man/generate.py", file=sys.stderr)
        return 1 if behind else 0
    for path, text in outputs().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
