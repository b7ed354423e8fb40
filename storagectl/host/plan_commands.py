"""What a dry run makes of the host's commands: a script, and what is remembered of it.

What has been planned is remembered where a later step of the same command asks for it:
files of ours, and by `expect` what tools would make.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from storagectl.host import Host
from storagectl.host.commands import TOOL_PATH
from storagectl.host.files import system_errors
from storagectl.host.script import Script, join, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from storagectl.host.commands import Bounds

# What only makes sense after the changes before it, and whether it must succeed.
AFTERWARDS: dict[tuple[str, ...], bool] = {
    ("udevadm", "settle"): False,
    ("qemu-img", "compare"): True,
}


class CommandPlanner(Host):
    """Makes a script of the changes."""

    plans = True

    def __init__(
        self,
        limits: Mapping[str, float] | None = None,
        tool_path: Sequence[str] = TOOL_PATH,
    ) -> None:
        super().__init__(limits, tool_path)
        self.user = os.geteuid()
        self.files: dict[str, bytes | None] = {}
        self.expected: list[str] = []
        self.anew()

    def planned(self, name: str) -> str:
        return self.script.text(name)

    def query(
        self,
        argv: Sequence[str],
        *,
        ok: Sequence[int] = (0,),
        limit_s: float | None = None,
        bounds: Bounds | None = None,
    ) -> str:
        needed = AFTERWARDS.get((argv[0], *argv[1:2]))
        if needed is not None and self.script.lines:
            self.find_tool(argv[0])
            self.script.command(argv, needed=needed)
            return ""
        return super().query(argv, ok=ok, limit_s=limit_s, bounds=bounds)

    def change(
        self,
        argv: Sequence[str],
        *,
        ok: Sequence[int] = (0,),
        limit_s: float | None = None,
        heard: Callable[[bytes], None] | None = None,
        bounds: Bounds | None = None,
    ) -> str:
        self.find_tool(argv[0])
        self.record(argv, limit_s=limit_s)
        return ""

    def try_change(self, argv: Sequence[str], *, limit_s: float | None = None) -> None:
        if self.has_tool(argv[0]):
            self.record(argv, limit_s=limit_s, needed=False)

    def record(
        self, argv: Sequence[str], *, limit_s: float | None = None, needed: bool = True
    ) -> None:
        """Add a command to the script, to be run as whom we act as now."""
        limit = [] if limit_s is None else ["timeout", f"{limit_s:.0f}"]
        self.script.command([*self._as_user(), *limit, *argv], needed=needed)

    def _as_user(self) -> list[str]:
        """Return what makes a command run as the user that we act as now."""
        if os.geteuid() == self.user:
            return []
        groups = ",".join(map(str, os.getgroups()))
        return [
            "setpriv", f"--reuid={os.geteuid()}", f"--regid={os.getegid()}",
            f"--groups={groups}" if groups else "--clear-groups",
        ]  # fmt: skip

    def expect(self, what: str) -> bool:
        if what.startswith("/dev/") and not os.path.exists(what):
            self.script.wait_for_device(what)
        self.expected.append(what)
        return True

    def expects(self, what: str) -> bool:
        return any(what == made or what.startswith(f"{made}/") for made in self.expected)

    def expected_at(self, name: str) -> str:
        return next(made for made in self.expected if os.path.basename(made) == name)

    def anew(self) -> None:
        """Begin a script of its own that comes after what is planned already."""
        self.script = Script(self.tool_path)
        self.before = self._state()

    def forget(self) -> None:
        """Forget what was planned since `anew`."""
        self._restore(self.before)

    def _state(self) -> tuple[list[str], list[str], dict[str, bytes | None], list[str]]:
        script = self.script
        return [*script.lines], [*script.secrets], dict(self.files), [*self.expected]

    def _restore(
        self, state: tuple[list[str], list[str], dict[str, bytes | None], list[str]]
    ) -> None:
        self.script.lines, self.script.secrets, self.files, self.expected = state

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        before = self._state()
        try:
            yield
        except BaseException:
            self._restore(before)
            raise

    @contextlib.contextmanager
    def secret_file(self, value: bytes, what: str = "a secret") -> Iterator[str]:
        yield f"/proc/self/fd/{self.script.secret(what)}"

    @contextlib.contextmanager
    def lent(self, fd: int, path: str) -> Iterator[str]:
        yield path

    def tell_kernel(self, path: str, text: str, failure: str) -> None:
        with system_errors(failure):
            os.stat(path)
        self.script.add(f"printf %s {quote(text)} >{quote(path)}")

    def plan_tries(self, argv: Sequence[str], tries: int) -> None:
        self.find_tool(argv[0])
        command = join([*self._as_user(), *argv])
        self.script.add(
            f"(umask 077; for try in {{1..{tries}}}; do {command} && break;"
            f" [ $try -lt {tries} ]; done)"
        )

    def plan_with_secret(self, what: str, lines: Sequence[str]) -> None:
        self.script.add(f"secret=$(cat <&{self.script.secret(what)})")
        for line in lines:
            self.script.add(line)
