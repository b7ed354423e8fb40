"""A host whose tools answer from a script."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from storagectl.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self


class WrongCommand(BaseException):
    """What ran is not what the script says.  No `except Exception` can hide it."""


class FakeHost(Host):
    """Answers each command from a script of (argv, stdout, status), used up in order.

    Only the bottom, `_spawn`, is replaced (and the look-up of the tool's path and the names
    of open files, so that scripts have bare names and paths): wording of errors and
    everything on files is the real code.
    A status that is not 0 gives the text as stderr.  As a context manager it fails when
    entries are left over.
    """

    def __init__(
        self,
        *script: tuple[Sequence[str], str, int],
        files: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.script = [(list(argv), text, status) for argv, text, status in script]
        self.calls: list[list[str]] = []
        self.files = files or {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self.script:
            raise WrongCommand(f"not run: {self.script}")

    def is_root(self) -> bool:
        return True

    def find_tool(self, name: str) -> str:
        return name

    @contextlib.contextmanager
    def lent(self, fd: int, path: str) -> Iterator[str]:
        yield path

    def _spawn(self, argv: list[str], *_: object) -> tuple[int, str, str]:
        self.calls.append(list(argv))
        if not self.script:
            raise WrongCommand(f"unexpected: {argv}")
        expected, text, status = self.script.pop(0)
        if argv != expected:
            raise WrongCommand(f"expected {expected}, not {argv}")
        return (status, text, "") if status == 0 else (status, "", text)

    def mounts(self) -> str:
        return self.files.get("/proc/self/mountinfo") or super().mounts()

    def read_text(self, path: str) -> str:
        """Files of the kernel's that a test has its own text for."""
        return self.files[path] if path in self.files else super().read_text(path)
