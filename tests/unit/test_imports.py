"""What scripts call in loops imports only what it needs: a list of modules, not a stopwatch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from inprocess import storagectl

SOURCES = Path(__file__).resolve().parents[2]

# Runs the program as installed and prints, at the end, what has been imported.
TRACKED = """
import atexit, os, sys
known = set(sys.modules)
def show():
    names = {name for name, module in sys.modules.items()
             if type(module).__name__ != "Deferred"} - known
    os.write(int(os.environ["H6_FD"]), "\\n".join(sorted(names)).encode())
atexit.register(show)
from storagectl.__main__ import main
main()
"""

COSTLY = (
    "rich", "lxml", "subprocess", "inspect", "json", "argparse", "asyncio", "logging", "pathlib",
    "tempfile", "dataclasses", "typing_extensions", "importlib.metadata", "xml", "ctypes",
    "difflib", "shlex", "hashlib", "random", "socket", "urllib", "email", "ast", "dis", "decimal",
    "readline",
)  # fmt: skip


def imported(root: Path, *args: str, before: tuple[str, ...] = ()) -> tuple[set[str], str]:
    """Run a command and return the modules that it imported, and its stdout."""
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {paths()!r}\n{TRACKED}",
         *before, "--root", str(root), *args],
        pass_fds=[writing], env={"H6_FD": str(writing), "PATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    with open(reading) as stream:
        names = set(stream.read().split())
    assert (done.returncode, done.stderr) == (0, "")
    return names, done.stdout


def paths() -> list[str]:
    return [str(SOURCES), *(path for path in sys.path if path.endswith("-packages"))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    target = tmp_path / "pool"
    target.mkdir()
    for name in ("a", "b"):
        (target / name).write_bytes(b"x" * 5000)
    assert storagectl(tmp_path, "pool-define-as", "d", "dir", "--target", str(target)).status == 0
    assert storagectl(tmp_path, "pool-start", "d").status == 0
    return tmp_path


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("pool-list", "active"),
        ("pool-list --all --details", "running"),
        ("pool-list --name", "d"),
        ("pool-uuid d", "-"),
        ("pool-info d", "Capacity:"),
        ("pool-dumpxml d", "<pool type='dir'>"),
        ("pool-refresh d", "refreshed"),
        ("pool-exists d", ""),
        ("vol-exists a d", ""),
        ("vol-path a d", "/pool/a"),
        ("vol-list d", "/pool/b"),
        ("vol-list d --details", "4.88 KiB"),
        ("vol-info a d", "4.88 KiB"),
        ("vol-dumpxml a d", "<volume type='file'>"),
        ("--quiet vol-name POOL/a", "a"),
        ("-q vol-pool POOL/a", "d"),
    ],
)
def test_no_costly_imports(root: Path, args: str, words: str) -> None:
    given = args.replace("POOL", str(root / "pool")).split()
    names, out = imported(root, *given)
    assert words in out
    assert {"click", "storagectl.store"} <= names
    costly = {name for name in names if name.partition(".")[0] in COSTLY or name in COSTLY}
    assert costly == set()


# What a plain command may import: a module more is time that each command takes.
PLAIN_STANDARD = (
    "__future__", "_collections", "_datetime", "_functools", "_operator", "_sre", "_struct",
    "_typing", "_uuid", "_weakrefset", "collections", "collections.abc", "contextlib",
    "copyreg", "datetime", "enum", "errno", "functools", "gc", "importlib",
    "importlib._bootstrap", "importlib._bootstrap_external", "itertools", "keyword", "math",
    "operator", "pyexpat", "pyexpat.errors", "pyexpat.model", "re", "re._casefix",
    "re._compiler", "re._constants", "re._parser", "reprlib", "select", "signal", "struct",
    "threading", "types", "typing", "typing.io", "typing.re", "uuid", "warnings", "weakref",
)  # fmt: skip
PLAIN = (
    "__main__", "backends", "backends.attributes", "backends.directory", "commands",
    "commands.cli", "commands.clientconf", "commands.command", "commands.connection",
    "commands.list_options", "commands.options", "commands.output", "commands.reader",
    "commands.session", "config", "errors", "events", "host", "host.changes", "host.commands",
    "host.files", "host.mounts",
    "model", "pools", "pooltypes", "poolxml", "record", "store", "units", "xmltree",
)  # fmt: skip
OF_VOLUMES = ("backends.images", "commands.vol_show", "tools", "tools.imageheader", "volumes")


@pytest.mark.parametrize(
    ("args", "more"),
    [
        ("pool-list", ["commands.pool_show"]),
        ("pool-info d", ["commands.pool_show"]),
        ("vol-list d", ["commands.vol_show", "volumes"]),
        ("vol-path a d", OF_VOLUMES),
        ("vol-info a d", OF_VOLUMES),
    ],
)
def test_a_plain_command_imports_these_modules(root: Path, args: str, more: list[str]) -> None:
    names, _ = imported(root, *args.split())
    ours = {name.removeprefix("storagectl.") for name in names if name.startswith("storagectl.")}
    assert ours == {*PLAIN, *more}
    others = {name for name in names if name.partition(".")[0] not in ("storagectl", "click")}
    assert others <= set(PLAIN_STANDARD)


def test_what_is_deferred_is_loaded_when_it_is_used(root: Path) -> None:
    program = (
        "import sys\nfrom storagectl.__main__ import run, SELDOM_NEEDED, Deferred\n"
        "sys.modules.update({n: Deferred(n, known) for n, known in SELDOM_NEEDED.items()})\n"
        f"run(['--root', {str(root)!r}, '-q', 'pool-uuid', 'd'])\n"
        "import gettext, inspect, platform\n"
        "assert gettext.find('storagectl') is None and gettext.gettext('a') == 'a'\n"
        "assert inspect.signature(run).parameters and platform.machine()\n"
        "assert platform.system() == __import__('os').uname().sysname\n"
        "assert not any(isinstance(sys.modules[name], Deferred) for name in SELDOM_NEEDED)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths()!r}\n{program}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_to_be_done_at_the_end_is_done(root: Path) -> None:
    """Python is not taken apart, but what registered itself runs, and nothing printed is lost."""
    program = (
        "import atexit, tempfile\nfrom storagectl.__main__ import main\n"
        "folder = tempfile.TemporaryDirectory()\n"
        "atexit.register(lambda: print('the end', folder.name))\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths()!r}\n{program}",
         "--root", str(root), "pool-uuid", "nosuch"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    end, _, folder = done.stdout.strip().rpartition(" ")
    assert end.endswith("the end")
    assert not os.path.exists(folder)


def test_only_the_own_backend_and_commands_are_imported(root: Path) -> None:
    names, _ = imported(root, "vol-list", "d")
    ours = {name for name in names if name.startswith("storagectl.")}
    assert "storagectl.backends.directory" in ours
    assert "storagectl.commands.vol_show" in ours
    assert ours & {
        "storagectl.backends.disk", "storagectl.backends.devices", "storagectl.backends.files",
        "storagectl.backends.filesystem",
        "storagectl.commands.pool_define", "storagectl.commands.vol_create",
        "storagectl.capabilities", "storagectl.volxml", "storagectl.host.bulk",
        "storagectl.tools.parted", "storagectl.tools.qemu_img",
    } == set()  # fmt: skip


@pytest.mark.parametrize(("args", "word"), [("volume d", "b"), ("pool-active", "d")])
def test_a_tab_imports_neither_click_nor_commands(root: Path, args: str, word: str) -> None:
    names, out = imported(root, *args.split(), before=("--complete",))
    assert word in out.splitlines()
    assert "storagectl.completing" in names
    assert {name for name in names if name.startswith(("click", "storagectl.commands"))} == set()
    assert {name for name in names if name.partition(".")[0] in COSTLY} == set()


def test_help_imports_no_command(root: Path) -> None:
    names, out = imported(root, "--help")
    assert "pool-list" in out
    assert {name for name in names if name.startswith("storagectl.commands.")} == {
        "storagectl.commands.cli",
        "storagectl.commands.clientconf",
        "storagectl.commands.command",
        "storagectl.commands.connection",
        "storagectl.commands.help",
        "storagectl.commands.options",
        "storagectl.commands.output",
        "storagectl.commands.reader",
        "storagectl.commands.session",
    }


def test_the_net_catches(root: Path) -> None:
    """Commands that do need lxml and json are seen to import them."""
    names, _ = imported(root, "pool-dumpxml", "d", "--xpath", "//name")
    assert "lxml.etree" in names
    names, _ = imported(root, "pool-list", "--json")
    assert "json" in names
