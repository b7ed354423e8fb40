"""The lab's tests: collected in its guest only; each must leave nothing behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import devices
import pytest

from storagectl.host.commands import TEST_DEVICES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traps import Trap

# Elsewhere there is nothing to collect, so nothing is skipped either.
collect_ignore_glob = [] if devices.IN_GUEST else ["test_*"]
# all but the guest's own disk
PERMITTED = "/dev/loop*:/dev/sd*:/dev/vd[b-z]*:/dev/nvme*:/dev/mapper/*:/dev/dm-*:/dev/md*"
if devices.IN_GUEST:
    os.environ.setdefault(TEST_DEVICES, PERMITTED)
if os.environ.get("LAB_REBOOTS", "0") == "0":
    collect_ignore_glob += ["test_reboot.py", "test_power.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: runs in the lab's guest only (tests/lab/run)")
    if devices.IN_GUEST:
        config.pluginmanager.register(AtOnce(config))


class AtOnce:
    """Shows a failure at once: in the guest the end of the run is many minutes away."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and reporter is not None:
            reporter.write_line(f"\n{report.nodeid}: {report.longreprtext[-2000:]}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker("lab")
            # they run the host's tools, and those are the guest's
            item.add_marker("root")


@pytest.fixture(scope="session", autouse=True)
def _only_in_the_guest() -> None:
    if not devices.IN_GUEST:
        pytest.exit("tests/lab is for the lab's guest: bash tests/lab/run", 2)


@pytest.fixture(autouse=True)
def _nothing_left(_only_in_the_guest: None) -> Iterator[None]:
    """Prove that a test took down what it made."""
    before = devices.snapshot()
    yield
    devices.settle()
    after = devices.snapshot()
    assert after == before


@pytest.fixture(scope="session", autouse=True)
def _no_physical_volumes_left(_only_in_the_guest: None) -> Iterator[None]:
    before = devices.pvs()
    yield
    assert devices.pvs() == before


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    from traps import Trap

    return Trap(tmp_path / "root")
