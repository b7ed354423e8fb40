"""The secret commands, word for word as virsh 9.0.0 answers."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

import pytest
from inprocess import Answer, storagectl

from storagectl.errors import InvalidArgument, SecretNotFound
from storagectl.host import Host
from storagectl.model import Auth, Encryption, Secret
from storagectl.secrets import Secrets
from storagectl.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UUID = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"


class Shell:
    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *args: str) -> Answer:
        return storagectl(self.root, *args)

    def ok(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.status, done.stderr) == (0, ""), done
        return done.stdout

    def fails(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.status, done.stdout) == (1, "\n"), done
        return done.stderr

    def file(self, content: str | bytes) -> str:
        path = self.root / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def define(self, uuid: str = UUID, usage: str = "t", attributes: str = "") -> str:
        return self.file(
            f"<secret {attributes}><uuid>{uuid}</uuid>"
            f"<usage type='iscsi'><target>{usage}</target></usage></secret>"
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    yield Shell(tmp_path)
    for path in tmp_path.rglob("secrets/*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_life(shell: Shell) -> None:
    assert shell.ok("secret-define", shell.define()) == f"Secret {UUID} created\n\n"
    assert shell.ok("secret-dumpxml", UUID) == (
        "<secret ephemeral='no' private='no'>\n"
        f"  <uuid>{UUID}</uuid>\n"
        "  <usage type='iscsi'>\n"
        "    <target>t</target>\n"
        "  </usage>\n"
        "</secret>\n\n"
    )
    assert shell.fails("secret-get-value", UUID) == (
        f"error: Secret not found: secret '{UUID}' does not have a value\n"
    )
    done = shell.run("secret-set-value", UUID, "--base64", "YWJj")
    assert done.stdout == "Secret value set\n\n"
    assert done.stderr == "error: Passing secret value as command-line argument is insecure!\n"
    assert shell.ok("secret-get-value", UUID) == "YWJj\n"
    assert shell.ok("secret-get-value", UUID, "--plain") == "abc\n"
    assert shell.ok("secret-undefine", UUID) == f"Secret {UUID} deleted\n\n"
    assert shell.fails("secret-undefine", UUID) == (
        f"error: failed to get secret '{UUID}'\n"
        f"error: Secret not found: no secret with matching uuid '{UUID}'\n"
    )
    assert list(shell.root.rglob("secrets/*")) == []


def test_values_from_files(shell: Shell) -> None:
    shell.ok("secret-define", shell.define())
    shell.ok("secret-set-value", UUID, "--file", shell.file("YWJj\n"))
    assert shell.ok("secret-get-value", UUID) == "YWJj\n"
    shell.ok("secret-set-value", UUID, "--plain", "--file", shell.file("ab\nc"))
    assert shell.ok("secret-get-value", UUID) == "YWIKYw==\n"
    assert shell.fails("secret-set-value", UUID, "--file", "/nonexistent") == (
        "error: Failed to open file '/nonexistent': No such file or directory\n"
    )


def test_private_and_ephemeral(shell: Shell) -> None:
    shell.ok("secret-define", shell.define(attributes="private='yes' ephemeral='yes'"))
    shell.ok("secret-set-value", UUID, "--plain", "--file", shell.file("abc"))
    assert shell.fails("secret-get-value", UUID) == "error: Invalid secret: secret is private\n"
    assert not list(shell.root.glob("etc/storagectl/secrets/*"))
    assert len(list(shell.root.glob("run/storagectl/secrets/*"))) == 2

    shell.ok("secret-define", shell.define(attributes="private='yes'"))
    assert len(list(shell.root.glob("etc/storagectl/secrets/*"))) == 2
    assert not list(shell.root.glob("run/storagectl/secrets/*"))


def test_list(shell: Shell) -> None:
    shell.ok("secret-define", shell.define(OTHER, "b", "ephemeral='yes'"))
    shell.ok("secret-define", shell.file(f"<secret private='yes'><uuid>{UUID}</uuid></secret>"))
    both = shell.ok("secret-list")
    assert both == (
        " UUID                                   Usage\n"
        "-------------------------------------------------\n"
        f" {UUID}   Unused\n"
        f" {OTHER}   iscsi b\n\n"
    )
    for options, uuids in (
        (["--ephemeral"], [OTHER]),
        (["--no-ephemeral"], [UUID]),
        (["--private"], [UUID]),
        (["--no-private"], [OTHER]),
        (["--private", "--no-private"], [UUID, OTHER]),
        (["--private", "--ephemeral"], []),
    ):
        assert re.findall(r"\S{36}", shell.ok("-q", "secret-list", *options)) == uuids


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("<secret ephemeral='maybe'/>", "XML error: invalid value of 'ephemeral'"),
        ("<secret private=''/>", "XML error: invalid value of 'private'"),
        ("<pool/>", "XML error: expecting root element of 'secret', not 'pool'"),
        ("<secret><uuid>zz</uuid></secret>", "internal error: malformed uuid element"),
        ("<secret><usage/></secret>", "XML error: unknown secret usage type"),
        (
            "<secret><usage type='foo'/></secret>",
            "unsupported configuration: unknown secret usage type foo",
        ),
        (
            "<secret><usage type='iscsi'/></secret>",
            "internal error: iSCSI usage specified, but target is missing",
        ),
        (
            "<secret><usage type='volume'/></secret>",
            "internal error: volume usage specified, but volume path is missing",
        ),
        (
            "<secret><usage type='ceph'/></secret>",
            "internal error: Ceph usage specified, but name is missing",
        ),
    ],
)
def test_documents_that_are_wrong(shell: Shell, document: str, words: str) -> None:
    path = shell.file(document)
    assert shell.fails("secret-define", path) == (
        f"error: Failed to set attributes from {path}\nerror: {words}\n"
    )


@pytest.mark.parametrize(
    ("uuid", "usage", "attributes", "words"),
    [
        (OTHER, "t", "", f"a secret with UUID {UUID} already defined for use with t"),
        (UUID, "x", "", f"a secret with UUID {UUID} is already defined for use with t"),
        (UUID, "t", "private='no'", "cannot change private flag on existing secret"),
    ],
)
def test_definitions_that_collide(
    shell: Shell, uuid: str, usage: str, attributes: str, words: str
) -> None:
    shell.ok("secret-define", shell.define(attributes="private='yes'"))
    path = shell.define(uuid, usage, attributes)
    assert shell.fails("secret-define", path).endswith(f"error: internal error: {words}\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["secret-define"], "error: command 'secret-define' requires <file> option\n"),
        (
            ["secret-dumpxml", "foo"],
            "error: failed to get secret 'foo'\n"
            "error: uuidstr in virSecretLookupByUUIDString must be a valid UUID\n",
        ),
        (["secret-set-value", UUID], "error: Input secret value is missing\n"),
        (["secret-set-value", UUID, "--plain"], "error: Input secret value is missing\n"),
        (
            ["secret-set-value", UUID, "--plain", "--interactive"],
            "error: Options --interactive and --plain are mutually exclusive\n",
        ),
        (
            ["secret-set-value", UUID, "--file", "f", "--base64", "YWJj"],
            "error: Options --file and --base64 are mutually exclusive\n",
        ),
        (
            ["secret-set-value", UUID, "--plain", "--base64", "YWJj"],
            "error: Options --plain and --base64 are mutually exclusive\n",
        ),
    ],
)
def test_bad_use(shell: Shell, args: list[str], words: str) -> None:
    shell.ok("secret-define", shell.define())
    done = shell.run(*args)
    assert done.status == 1
    assert done.stderr == words


@pytest.mark.parametrize("value", ["!!!", "YWJ"])
def test_values_that_are_no_base64(shell: Shell, value: str) -> None:
    shell.ok("secret-define", shell.define())
    done = shell.run("secret-set-value", UUID, "--base64", value)
    assert done.status == 1
    assert done.stderr.startswith(
        "error: Passing secret value as command-line argument is insecure!\n"
        "error: Failed to set secret value\n"
        "error: value in virSecretSetValue must not be NULL\n"
    )
    assert "does not have a value" in shell.fails("secret-get-value", UUID)


def test_values_that_are_asked_for(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.ok("secret-define", shell.define())
    reading, writing = os.pipe()
    os.write(writing, b"abc\n")
    os.close(writing)
    with open(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        first = shell.run("secret-set-value", UUID, "--interactive")
        second = shell.run("secret-set-value", UUID, "--interactive")
    assert (first.status, first.stdout) == (0, "Enter new value for secret:Secret value set\n\n")
    assert shell.ok("secret-get-value", UUID) == "YWJj\n"
    assert (second.status, second.stdout) == (1, "Enter new value for secret:\n")
    assert second.stderr == (
        "error: Failed to set secret value\nerror: value in virSecretSetValue must not be NULL\n"
    )


def test_schema(shell: Shell) -> None:
    shell.ok("secret-define", "--validate", shell.define())
    path = shell.file("<secret><usage type='iscsi'><name>t</name></usage></secret>")
    assert "failed to validate against schema" in shell.fails("secret-define", "--validate", path)


def test_secrets_that_pools_name(shell: Shell) -> None:
    host = Host()
    secrets = Secrets(Store(host, str(shell.root)), host)
    by_uuid = Auth("chap", "joe", secret_uuid=UUID)
    by_usage = Auth("chap", "joe", secret_usage="t")
    with pytest.raises(SecretNotFound, match="no secret with matching uuid"):
        secrets.value_for(by_uuid)
    with pytest.raises(SecretNotFound, match="no secret with matching usage 't'"):
        secrets.value_for(by_usage)
    shell.ok("secret-define", shell.define(attributes="private='yes'"))
    with pytest.raises(SecretNotFound, match="does not have a value"):
        secrets.value_for(by_usage)
    shell.ok("secret-set-value", UUID, "--plain", "--file", shell.file("s3cret"))
    assert secrets.value_for(by_uuid) == secrets.value_for(by_usage) == "s3cret"
    with pytest.raises(InvalidArgument) as caught:
        secrets.passphrase(Encryption("luks", secrets=[Secret("passphrase", uuid=UUID)]))
    assert caught.value.detail == (
        f"secret with uuid {UUID} is of type 'iscsi' not expected 'volume' type"
    )


def test_secrets_that_volumes_name(shell: Shell) -> None:
    host = Host()
    secrets = Secrets(Store(host, str(shell.root)), host)
    assert secrets.of_volume("/a") is None
    shell.ok("secret-define", shell.file(f"<secret private='yes'><uuid>{UUID}</uuid></secret>"))
    usage = "<usage type='volume'><volume>/a</volume></usage>"
    shell.ok("secret-define", shell.file(f"<secret><uuid>{OTHER}</uuid>{usage}</secret>"))
    for uuid in (UUID, OTHER):
        shell.ok("secret-set-value", uuid, "--plain", "--file", shell.file(f"of {uuid}"))
    by_uuid, by_usage = Secret("passphrase", uuid=UUID), Secret("passphrase", usage="/a")
    assert secrets.passphrase(Encryption("luks", secrets=[by_uuid])) == f"of {UUID}".encode()
    assert secrets.passphrase(Encryption("luks", secrets=[by_usage])) == f"of {OTHER}".encode()
    assert secrets.of_volume("/a") == Secret("passphrase", uuid=OTHER)
    for several in ([], [by_uuid, by_usage]):
        with pytest.raises(InvalidArgument, match="A single <secret"):
            secrets.passphrase(Encryption("luks", secrets=several))
