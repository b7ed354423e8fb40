"""The whole program in this process: for many runs where a new process each would be slow."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from typing import NamedTuple
from unittest import mock

from storagectl.__main__ import run
from storagectl.host.commands import TOOL_PATH


class Answer(NamedTuple):
    status: int
    stdout: str
    stderr: str


def put_on_tool_path(root: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Have tools found in a folder first, by the configuration below `root`."""
    file = os.path.join(root, "etc/storagectl/config.toml")
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "w") as stream:
        stream.write(f"tool-path = {json.dumps([os.fspath(folder), *TOOL_PATH])}\n")
    os.chmod(file, 0o644)


class Captured(io.TextIOWrapper):
    """A text stream as sys.stdout is one, into memory."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="surrogateescape")

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode("utf-8", "surrogateescape")


def storagectl(root: str | os.PathLike[str] | None, *args: str, hints: bool = False) -> Answer:
    """Run `storagectl --root ROOT ARGS`; with `hints` errors have them, as on a terminal."""
    variables = {"STORAGECTL_HINTS": "always"} if hints else {}
    with mock.patch.dict(os.environ, variables):
        return _run(root, *args)


def _run(root: str | os.PathLike[str] | None, *args: str) -> Answer:
    given = [*(["--root", os.fspath(root)] if root is not None else []), *args]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    out, err = Captured(), Captured()
    before = sys.stdout, sys.stderr
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = run(given)
            except SystemExit as end:
                status = int(end.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert (sys.stdout, sys.stderr) == before
    return Answer(status, out.text(), err.text())
