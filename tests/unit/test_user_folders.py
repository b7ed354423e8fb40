"""Where an ordinary user's pools are kept when the environment says little."""

from __future__ import annotations

import os

import pytest

from storagectl.errors import SystemFailure
from storagectl.store import folders


def test_s26_without_a_home_nothing_is_written_into_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "relative")
    with pytest.raises(SystemFailure, match="XDG_CONFIG_HOME"):
        folders(None)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    with pytest.raises(SystemFailure, match="XDG_CACHE_HOME"):
        folders(None)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    assert folders(None) == ("/c/storagectl/storage", "/r/storagectl")
