"""Errors say what libvirt says."""

from __future__ import annotations

import sys

import pytest

from storagectl import errors
from storagectl.commands import output

PREFIXES = {
    "InternalError": "internal error: ",
    "XmlError": "XML error: ",
    "XmlSyntaxError": "",
    "ConfigUnsupported": "unsupported configuration: ",
    "OperationInvalid": "Requested operation is not valid: ",
    "OperationFailed": "operation failed: ",
    "OperationUnsupported": "Operation not supported: ",
    "ArgumentUnsupported": "argument unsupported: ",
    "InvalidArgument": "invalid argument: ",
    "Overflow": "numerical overflow: ",
    "NoSupport": "this function is not supported by the connection driver: ",
    "PoolNotFound": "Storage pool not found: ",
    "VolumeNotFound": "Storage volume not found: ",
    "ProbeFailed": "Storage pool probe failed: ",
    "PoolBuilt": "Storage pool already built: ",
    "SystemFailure": "",
}


@pytest.mark.parametrize(("name", "prefix"), PREFIXES.items())
def test_prefixes_are_libvirts(name: str, prefix: str) -> None:
    error = getattr(errors, name)("the detail", action="Failed to act")
    assert error.lines() == ["Failed to act", f"{prefix}the detail"]
    assert isinstance(error, errors.StorageError)


def test_no_first_line_unless_somebody_gives_one() -> None:
    assert errors.OperationFailed("x").lines() == ["operation failed: x"]
    assert errors.OperationFailed("x", action="").lines() == ["operation failed: x"]
    assert errors.OperationFailed("x").action is None


def test_client_errors_are_one_line_whatever_the_command() -> None:
    error = errors.ClientError("pool 'x' is not active")
    assert error.action == ""
    assert error.lines() == ["pool 'x' is not active"]


def test_usage_errors_may_be_several() -> None:
    assert errors.UsageError("a", "b").lines() == ["a", "b"]


def test_volume_exists() -> None:
    assert errors.VolumeExists("a b").lines() == ["storage volume 'a b' exists already"]


@pytest.mark.parametrize(
    ("status", "how"),
    [(32, "unexpected exit status 32"), (-9, "unexpected fatal signal 9")],
)
def test_tool_failed(status: int, how: str) -> None:
    error = errors.ToolFailed(["/bin/mount", "a b", "-o$(id)"], status, "no\nway\n")
    expected = f"internal error: Child process (/bin/mount 'a b' '-o$(id)') {how}: no\nway\n"
    assert error.lines() == [expected]


@pytest.mark.parametrize("wanted", [None, "always", "never", "1"])
@pytest.mark.parametrize("terminal", [True, False])
def test_report_is_on_stderr_with_the_hint_last(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wanted: str | None,
    terminal: bool,
) -> None:
    monkeypatch.delenv("STORAGECTL_HINTS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("STORAGECTL_HINTS", wanted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    error = errors.ToolMissing("Cannot find 'x' in path", action="Failed", hint="install y")
    output.report(error)
    captured = capsys.readouterr()
    assert captured.out == ""
    shown = {"always": True, "never": False}.get(wanted or "", terminal)
    hint = "hint: install y\n" if shown else ""
    assert captured.err == f"error: Failed\nerror: Cannot find 'x' in path\n{hint}"
