"""What several files of unit tests begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from folders import Lab

from storagectl.host import Host
from storagectl.pools import Pools
from storagectl.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def pools(tmp_path: Path) -> Pools:
    host = Host()
    return Pools(Store(host, str(tmp_path / "state")), host)
