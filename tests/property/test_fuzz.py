"""Readers of text that we have not written, given damaged text: the targets of tests/fuzz.

`python tests/fuzz/run.py` looks longer, guided by what it reaches; what it found is run again here.
STORAGECTL_FUZZ=N tries N damaged texts for each target instead of 200.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tally import counted

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "fuzz"
EXAMPLES = int(os.environ.get("STORAGECTL_FUZZ", "200"))
PIECES = (
    b"", b"\0", b"\n", b"\xff", b"\xed\xa0\x80", b"<", b">", b"&#0;", b"&a;", b"<!DOCTYPE a>",
    b"'", b'"', b"\\", b"{", b"[" * 2000, b"-1", b"1" * 5000, b"nan", b"1e999", b" - ", b"%", b"=",
    b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x80\0\0\0\0\0\0\0", b"\x1b[31m", b"null", b"*a", b"&a ",
)  # fmt: skip


def load() -> ModuleType:
    """Return tests/fuzz/targets.py, which is no package's."""
    specification = importlib.util.spec_from_file_location("fuzz_targets", FOLDER / "targets.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


targets = load()


@st.composite
def damaged(draw: Any, seeds: list[bytes]) -> bytes:
    """Return a text that was right, in which pieces are replaced by others or by rubbish."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            piece = draw(st.sampled_from(PIECES))
        elif kind == 1:
            piece = draw(st.binary(max_size=16))
        else:
            other = draw(st.sampled_from(seeds))
            at = draw(st.integers(0, len(other)))
            piece = other[at : at + draw(st.integers(0, 60))]
        text = text[:start] + piece + text[end:]
    return text


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damaged_text_is_read_or_refused(name: str) -> None:
    seeds = list(targets.TARGETS[name].seeds())

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(seeds) | st.binary(max_size=200))
    def survives(data: bytes) -> None:
        with counted("damaged texts"):
            targets.survives(name, data)

    survives()


def cases() -> list[Any]:
    return [
        pytest.param(folder.name, path, id=f"{folder.name}/{path.name}")
        for folder in sorted((FOLDER / "cases").iterdir())
        for path in sorted(folder.iterdir())
    ]


@pytest.mark.parametrize(("name", "path"), cases())
def test_what_has_crashed_once(name: str, path: Path) -> None:
    with counted("former crashes"):
        targets.survives(name, path.read_bytes())
