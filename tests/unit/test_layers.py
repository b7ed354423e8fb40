"""Imports only point down, also those inside functions and those for types."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "storagectl"
# Modules of the package itself are rules, but for these.
LAYERS = ("host", "tools", "backends", "rules", "commands")
PROGRAM = ("__main__", "completing")
# What all layers know; they know nothing but each other.
SHARED = ("__init__", "errors", "model", "pooltypes", "record", "xmltree")
SOURCES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def layer(module: str) -> int:
    """Return how far up the module of a dotted name is, -1 for what all may import."""
    head = module.split(".")[0]
    if head in SHARED:
        return -1
    return LAYERS.index("commands" if head in PROGRAM else head if head in LAYERS else "rules")


def imports(source: str) -> Iterator[str]:
    """Yield the modules of ours that one of them imports, by their names below the package."""
    for node in ast.walk(ast.parse((PACKAGE / source).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not looked at"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "storagectl":
                first = rest.split(".")[0]
                there = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").exists()
                yield rest if first and there else "__init__"


@pytest.mark.parametrize("source", SOURCES)
def test_imports_point_down(source: str) -> None:
    own = layer(source.removesuffix(".py").replace("/", "."))
    assert [name for name in imports(source) if layer(name) > own] == []


def test_all_layers_are_there() -> None:
    found = {layer(source.removesuffix(".py").replace("/", ".")) for source in SOURCES}
    assert found == {-1, *range(len(LAYERS))}
    assert any(name.startswith("commands.") for name in imports("completing.py"))
