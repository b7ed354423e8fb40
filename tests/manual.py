"""The examples of the manual pages and the README: their text, their XML, and how they are run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ".programs"
PAGES = ("storagectl.1", "storagectl-pool.5", "storagectl-volume.5", "storagectl-secret.5")


def load(path: str) -> ModuleType:
    """Import a script of the checkout by its path."""
    name = path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    """Return a manual page with the escapes of roff undone."""
    text = (ROOT / "man" / name).read_text()
    text = re.sub(r"\\f[BIR]", "", text)
    return text.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\").replace("\\&", "")


def section(name: str, title: str, kind: str = "SS") -> str:
    """Return one section of a page; one of kind SH has its subsections with it."""
    end = r"^\.S[SH] " if kind == "SS" else r"^\.SH "
    found = re.search(rf"^\.{kind} {re.escape(title)}\n(.*?)(?={end}|\Z)", page(name), re.M | re.S)
    assert found, f"{name} has no section {title}"
    return found[1]


def blocks(text: str) -> list[str]:
    """Return what is set as it is typed, in a page or in a Markdown file."""
    return [
        roff or code
        for roff, code in re.findall(
            r"^\.nf\n\.RS 4\n(.*?)^\.RE\n\.fi$|^```sh\n(.*?)^```$", text, re.M | re.S
        )
    ]


def is_shell(block: str) -> bool:
    """Tell whether a block is for a shell; others are documents or configuration."""
    return not re.match(r"[<\[#]|[\w-]+ = ", block)


def documents(text: str) -> list[str]:
    """Return the XML documents in a text; those with an ellipsis are only parts of one."""
    found = re.findall(r"^<(pool|volume|secret)\b(.*?)^</\1>$", text, re.M | re.S)
    whole = [f"<{name}{rest}</{name}>\n" for name, rest in found]
    one_line = re.findall(r"^<(?:pool|volume|secret)\b.*</(?:pool|volume|secret)>\n", text, re.M)
    return [document for document in whole + one_line if "..." not in document]


def filled_in(script: str, places: Mapping[str, str]) -> str:
    """Return a script with names of this machine in place of those of the example."""
    if not places:
        return script
    words = "|".join(re.escape(word) for word in sorted(places, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.-])({words})(?![\w-])")
    seen = set(pattern.findall(script))
    assert seen == set(places), f"not in the example: {set(places) - seen}"
    return pattern.sub(lambda match: places[match[1]], script)


def run(
    scripts: Iterable[str], places: Mapping[str, str], folder: Path, root: Path
) -> subprocess.CompletedProcess[str]:
    """Run examples one after the other in a shell that ends with the first command that fails.

    They work in `folder`, with storagectl's definitions below `root`.
    """
    script = filled_in("\n".join(scripts), places)
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=folder, env=environment(folder, root), capture_output=True, text=True,
        timeout=1200, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "error:" not in done.stderr, done.stderr
    return done


def heard(script: str, folder: Path, root: Path, happen: Callable[[], None]) -> str:
    """Run an example that hands each event to `logger`, let things happen until it has some.

    Returns: what the logger was given.
    """
    place = folder / "heard"
    place.write_text("")
    waiting = subprocess.Popen(
        ["bash", "-c", filled_in(script, {"logger": f"echo >>{place}"})],
        env=environment(folder, root), start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not place.read_text() and time.monotonic() < deadline:
            happen()
            time.sleep(0.2)
        return place.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(waiting.pid, signal.SIGTERM)
        waiting.wait(30)


def environment(folder: Path, root: Path) -> dict[str, str]:
    """Return an environment in which `storagectl` is the one under test, with its own state."""
    programs = folder / PROGRAMS
    if not programs.exists():
        programs.mkdir(parents=True)
        program = programs / "storagectl"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m storagectl "$@"\n')
        program.chmod(0o755)
    paths = [str(programs), os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"]
    given = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    checkout = {"PYTHONPATH": ":".join([str(ROOT), *given])}
    place = checkout if shutil.which("storagectl") is None else {}
    return os.environ | place | {"PATH": ":".join(paths), "STORAGECTL_ROOT": str(root)}
