"""What holds for every test: no host tool by accident, no skip unseen on CI."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import tally
from hypothesis import settings

from storagectl.host import Host
from storagectl.host.commands import TEST_DEVICES

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell that starts the tests in the background has SIGINT ignored, by us and so by what we run.
signal.signal(signal.SIGINT, signal.default_int_handler)

ON_CI = os.environ.get("STORAGECTL_CI") == "1"

# A busy machine is no failure, and CI runs the same examples each time.
settings.register_profile("storagectl", deadline=None, derandomize=ON_CI)
settings.load_profile("storagectl")


class NoRealCommands(BaseException):
    """A unit test ran a host tool.  No `except Exception` can hide it."""


@pytest.fixture(autouse=True)
def _no_real_commands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(request.node.get_closest_marker(name) for name in ("tools", "root", "oracle")):
        return

    def refuse(self: Host, argv: list[str], *_: object) -> Any:
        raise NoRealCommands(argv)

    monkeypatch.setattr(Host, "_spawn", refuse)
    monkeypatch.delenv(TEST_DEVICES, raising=False)


@pytest.fixture(autouse=True)
def _dumped_as_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program does to its own process is not done to that of the tests."""
    monkeypatch.setattr(Host, "keep_out_of_core_dumps", lambda self: None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn every skip into a failure on CI, where everything must run."""
    report = yield
    if ON_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped on CI: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how much was tried, for the table in CONTRIBUTING.md."""
    for line in tally.lines():
        terminalreporter.write_line(line)
