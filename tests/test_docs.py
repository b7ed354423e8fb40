"""The manual page, the README and the help say what the program has, all of it and nothing else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import manual
import pytest
from inprocess import storagectl

from storagectl.commands import COMMANDS, find
from storagectl.commands.command import COMMON, Flag, Value, option_name
from storagectl.commands.help import GROUPS
from storagectl.commands.options import OPTIONS
from storagectl.pooltypes import POOL_TYPES

ROOT = Path(__file__).resolve().parent.parent
PAGE = "storagectl.1"
SERVED = [row.name for row in POOL_TYPES.values() if row.module]


def options(name: str) -> list[str]:
    """Return the names of a command's options."""
    found = find(name)
    assert found is not None
    return [option_name(param) for param in found.params if isinstance(param, Flag | Value)]


@pytest.mark.parametrize("script", ["man/generate.py", "completions/generate.py"])
def test_generated_files_are_up_to_date(script: str) -> None:
    assert manual.load(script).stale() == [], f"run python {script}"


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_manual_page_with_every_option(name: str) -> None:
    lines = manual.section(PAGE, name).splitlines()
    for option in options(name):
        assert any(re.match(rf"--{option}( |$)", line) for line in lines), option


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_command_is_in_the_completion_with_every_option(name: str, shell: str) -> None:
    text = (ROOT / f"completions/storagectl.{shell}").read_text()
    row = {
        "bash": rf"^        {name}\) options='(.*)' ;;$",
        "zsh": rf"^        {name} '(.*)'$",
        "fish": rf"^        case {name}\n +printf '%s\\n' (.*)$",
    }[shell]
    found = re.search(row, text, re.M)
    words = found[1].split() if found else []
    common = [option for option in COMMON if option != "help"]
    assert [word.split(":")[0] for word in words] == [*options(name), *common]
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str) -> None:
    shown = storagectl(None, name, "--help").stdout
    assert f"{name} - {COMMANDS[name].summary}" in shown
    for option in options(name):
        assert f"--{option}" in shown or f"<{option}>" in shown


def test_help_lists_every_command() -> None:
    for shown in (storagectl(None, "--help").stdout, storagectl(None, "help").stdout):
        lines = shown.splitlines()
        for name, info in COMMANDS.items():
            assert lines.count(f"    {name:<30} {info.summary}") == 1


def test_every_command_is_in_one_group() -> None:
    names = [name for group in GROUPS for name in group.commands]
    assert len(names) == len(set(names))
    assert set(COMMANDS) <= set(names)


def test_every_option_of_the_program_is_in_the_help_and_the_manual_page() -> None:
    shown = storagectl(None, "--help").stdout
    lines = manual.section(PAGE, "OPTIONS", "SH").splitlines()
    for row in OPTIONS:
        assert f"{row.label()}" in shown
        for name in filter(None, (row.short and f"-{row.short}", row.long and f"--{row.long}")):
            assert any(re.search(rf"(^|, ){name}($|[ ,\[])", line) for line in lines), name


@pytest.mark.parametrize("type", SERVED)
def test_manual_page_has_an_example_of_each_pool_type(type: str) -> None:
    assert re.search(rf"^storagectl pool-define-as \S+ {type} ", manual.section(PAGE, type), re.M)


def test_every_intended_difference_is_in_one_row_of_the_table() -> None:
    import tomllib

    lists = [*(ROOT / "tests/oracle").rglob("*.toml"), *(ROOT / "tests/lab/oracle").glob("*.toml")]
    tables = [tomllib.loads(path.read_text()) for path in lists]
    given = {entry["reason"] for table in tables for entry in table.get("intended", [])}
    rows = tomllib.loads((ROOT / "man/differences.toml").read_text())["difference"]
    known = [reason for row in rows for reason in row.get("reasons", [])]
    assert len(known) == len(set(known))
    assert set(known) == given, "add the reason to a row of man/differences.toml"


def test_the_table_of_differences_is_in_the_readme_and_the_manual_page() -> None:
    differences = manual.load("man/generate.py").differences()
    table = (ROOT / "README.md").read_text().partition("<!-- differences:")[2].splitlines()
    shown = re.sub(r"\s+", " ", manual.section(PAGE, "DIFFERENCES FROM VIRSH", "SH"))
    rows = [row for group in differences.values() for row in group]
    assert len({row["what"] for row in rows}) == len(rows) > 40
    for row in rows:
        cells = [row[column] for column in ("what", "virsh", "storagectl", "why")]
        assert all(cells)
        assert not any("|" in cell or cell.endswith(".") for cell in cells)
        assert table.count(f"| {' | '.join(cells)} |") == 1
        assert row["what"].replace("`", "") in shown
    whole = "\n".join(table[: table.index("<!-- end of differences -->")])
    assert whole.count("**") == 2 * len(differences)


def test_manual_page_has_every_variable_and_folder() -> None:
    from storagectl.store import folders

    source = "".join(path.read_text() for path in (ROOT / "storagectl").rglob("*.py"))
    variables = set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', source))
    variables |= set(re.findall(r'envvar="(\w+)"', source))
    shown = manual.section(PAGE, "ENVIRONMENT", "SH")
    for name in variables:
        assert name in shown
        assert name in (ROOT / "README.md").read_text()
    for folder in folders("/"):
        assert folder in manual.section(PAGE, "FILES", "SH")


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", *manual.PAGES])
def test_commands_in_examples_exist(path: str) -> None:
    text = (ROOT / path).read_text() if path.endswith(".md") else manual.page(path)
    text = "\n".join(manual.blocks(text)).replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line) if re.match(r"(storagectl [pva]|bash )", line) else []
        if words[:1] == ["bash"]:
            assert (ROOT / words[1]).is_file(), line
        if words[:1] == ["storagectl"]:
            assert words[1] in COMMANDS, line
            for word in words[2:]:
                if word.startswith("--"):
                    assert word[2:] in {*options(words[1]), *COMMON}, line


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(path: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / path).read_text()):
        assert (ROOT / target).exists(), target


def test_ci_runs_what_the_readme_says() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[0].startswith("#!")
    assert [line for line in lines[1:] if line] == [
        "set -eu",
        'exec bash "$(dirname "$0")/../tests/run"',
    ]


@pytest.mark.parametrize("name", manual.PAGES)
@pytest.mark.parametrize(
    "argv",
    [["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings", "-E", "UTF-8", "-l"]],
    ids=["mandoc", "man"],
)
def test_manual_page_has_no_errors(argv: list[str], name: str) -> None:
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is not installed")
    done = subprocess.run(
        [*argv, str(ROOT / "man" / name)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    if argv[0] == "mandoc":
        assert done.stdout == ""
