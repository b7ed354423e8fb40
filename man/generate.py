"""Write what the manual page and the README say about commands, options and pool types.

man/storagectl.1 is man/storagectl.1.in with the generated parts put in; in README.md the
table of pool types is replaced between its markers.  `--check` writes nothing and fails
when a file is not what it would be.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from storagectl import __version__
from storagectl.commands import COMMANDS, Flag, Value, find, option_name
from storagectl.commands.options import OPTIONS
from storagectl.pooltypes import POOL_TYPES, PoolType

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "man/storagectl.1"
TEMPLATE = ROOT / "man/storagectl.1.in"
INTENDED = (
    ROOT / "tests/oracle/intended.toml",
    ROOT / "tests/oracle/corpus/intended.toml",
    *sorted(ROOT.glob("tests/lab/oracle/*.toml")),
)
README = ROOT / "README.md"
README_START = "<!-- pool types: written by man/generate.py -->\n"
README_END = "<!-- end of pool types -->\n"

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
    dots = "..." if param.multiple else ""
    return f"[\\fB{name}\\fR \\fI{param.value_name}\\fR]{dots}"


def option_lines(param: Flag | Value) -> list[str]:
    """Return an option and its help as a tagged paragraph."""
    names = f"\\fB{roff('--' + option_name(param))}\\fR"
    if isinstance(param, Value):
        names += f" \\fI{param.value_name}\\fR"
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


def differences_text() -> str:
    """Return the differences from virsh that the oracle's list allows, one paragraph each."""
    tables = [tomllib.loads(path.read_text()) for path in INTENDED]
    entries = [entry for table in tables for entry in table.get("intended", [])]
    seen = dict.fromkeys(entry.get("title") or entry["reason"] for entry in entries)
    lines: list[str] = []
    for words in seen:
        lines += [".IP \\(bu 2", *(roff(line) for line in sentence(words.strip()).splitlines())]
    return "\n".join(lines)


def page() -> str:
    """Return the manual page."""
    text = TEMPLATE.read_text()
    for marker, part in (
        ("@VERSION@", __version__),
        ("@OPTIONS@", global_options_text()),
        ("@COMMANDS@", commands_text()),
        ("@DIFFERENCES@", differences_text()),
    ):
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
    """Return the README with today's table."""
    before, start, rest = README.read_text().partition(README_START)
    _, end, after = rest.partition(README_END)
    assert start, f"{README} has no line {README_START}"
    assert end, f"{README} has no line {README_END}"
    return before + start + readme_table() + end + after


def outputs() -> dict[Path, str]:
    """Return each generated file with the text it should have."""
    return {PAGE: page(), README: readme()}


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
