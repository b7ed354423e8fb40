"""Random commands on dir pools, in this process, against a small model of what must hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from inprocess import Answer, storagectl

NAMES = st.sampled_from(["a", "B", "b c", "-d"])
FOLDERS = st.sampled_from(["one", "two", "three"])
INVALID = "error: Requested operation is not valid: storage pool"


class PoolState:
    """What the model knows of a pool: targets of its definition and of its running self."""

    def __init__(self) -> None:
        self.uuid = ""
        self.defined: str | None = None
        self.started: str | None = None
        self.autostart = False


class Pools(RuleBasedStateMachine):
    """The model follows the program's own answer only for UUIDs, which are random."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="h6-state-"))
        self.model: dict[str, PoolState] = {}
        self.folders: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def run(self, *args: str) -> Answer:
        answer = storagectl(self.root / "state", *args)
        if answer.status:
            assert answer.status == 1
            assert answer.stdout == "\n"
            assert answer.stderr.startswith("error: ")
        else:
            assert answer.stderr == ""
        return answer

    def path(self, folder: str) -> str:
        return str(self.root / folder)

    # The model's view

    def active(self, name: str) -> bool:
        known = self.model.get(name)
        return bool(known and known.started in self.folders)

    def exists(self, name: str) -> bool:
        known = self.model.get(name)
        return bool(known and (known.defined or self.active(name)))

    def in_force(self, name: str) -> str | None:
        known = self.model[name]
        return known.started if self.active(name) else known.defined

    def conflicts(self, name: str, folder: str) -> bool:
        return any(
            other != name and self.exists(other) and self.in_force(other) == folder
            for other in self.model
        )

    def forget(self, name: str) -> None:
        known = self.model[name]
        if known.defined is None and known.started is None:
            del self.model[name]

    # Definitions

    def document(self, name: str, folder: str, uuid: str) -> str:
        path = self.root / "pool.xml"
        path.write_text(
            f"<pool type='dir'><name>{name}</name>{f'<uuid>{uuid}</uuid>' if uuid else ''}"
            f"<target><path>{self.path(folder)}</path></target></pool>"
        )
        return str(path)

    @rule(name=NAMES, folder=FOLDERS, same_uuid=st.booleans())
    def define(self, name: str, folder: str, same_uuid: bool) -> None:
        known = self.model.get(name) if self.exists(name) else None
        uuid = known.uuid if known and same_uuid else ""
        answer = self.run("pool-define", self.document(name, folder, uuid))
        if self.conflicts(name, folder):
            assert "Storage source conflict with pool: " in answer.stderr
        elif known and not uuid:
            assert f"pool '{name}' already exists with uuid {known.uuid}" in answer.stderr
        else:
            assert answer.stdout.startswith(f"Pool {name} defined from ")
            self.model.setdefault(name, PoolState()).defined = folder
            self.model[name].uuid = self.run("-q", "pool-uuid", "--", name).stdout.strip()

    @rule(name=NAMES, folder=FOLDERS, build=st.booleans())
    def create(self, name: str, folder: str, build: bool) -> None:
        known = self.model.get(name) if self.exists(name) else None
        words = ["--build"] if build else []
        target = self.path(folder)
        answer = self.run("pool-create-as", *words, "--target", target, "--", name, "dir")
        if self.conflicts(name, folder):
            assert "Storage source conflict with pool: " in answer.stderr
        elif known:
            assert f"pool '{name}' already exists with uuid {known.uuid}" in answer.stderr
        elif not build and folder not in self.folders:
            assert f"cannot open directory '{target}': No such file" in answer.stderr
            self.model.pop(name, None)
        else:
            assert answer.stdout == f"Pool {name} created\n\n"
            self.folders.add(folder)
            self.model[name] = PoolState()
            self.model[name].started = folder
            self.model[name].uuid = self.run("-q", "pool-uuid", "--", name).stdout.strip()

    @rule(name=NAMES)
    def undefine(self, name: str) -> None:
        answer = self.run("pool-undefine", "--", name)
        if not self.exists(name):
            self.refused_unknown(name, answer)
        elif self.active(name):
            assert f"{INVALID} '{name}' is still active" in answer.stderr
        else:
            assert answer.stdout == f"Pool {name} has been undefined\n\n"
            del self.model[name]

    # Life

    @rule(name=NAMES, build=st.booleans(), by_uuid=st.booleans())
    def start(self, name: str, build: bool, by_uuid: bool) -> None:
        key = self.model[name].uuid if by_uuid and self.exists(name) else name
        answer = self.run("pool-start", *(["--build"] if build else []), "--", key)
        if not self.exists(name):
            self.refused_unknown(name, answer)
            return
        known = self.model[name]
        if self.active(name):
            assert f"{INVALID} '{name}' is already active" in answer.stderr
        elif not build and known.defined not in self.folders:
            assert "No such file or directory" in answer.stderr
            known.started = None
        else:
            assert answer.stdout == f"Pool {key} started\n\n"
            assert known.defined is not None
            self.folders.add(known.defined)
            known.started = known.defined

    @rule(name=NAMES)
    def destroy(self, name: str) -> None:
        answer = self.run("pool-destroy", "--", name)
        if not self.exists(name):
            self.refused_unknown(name, answer)
        elif not self.active(name):
            assert f"{INVALID} '{name}' is not active" in answer.stderr
        else:
            assert answer.stdout == f"Pool {name} destroyed\n\n"
            self.model[name].started = None
            self.forget(name)

    @rule(name=NAMES)
    def refresh(self, name: str) -> None:
        answer = self.run("pool-refresh", "--", name)
        if not self.exists(name):
            self.refused_unknown(name, answer)
        elif not self.active(name):
            assert f"{INVALID} '{name}' is not active" in answer.stderr
        else:
            assert answer.stdout == f"Pool {name} refreshed\n\n"

    @rule(name=NAMES, disable=st.booleans())
    def autostart(self, name: str, disable: bool) -> None:
        words = ["--disable"] if disable else []
        answer = self.run("pool-autostart", *words, "--", name)
        if not self.exists(name):
            self.refused_unknown(name, answer)
        elif self.model[name].defined is None:
            assert "internal error: pool has no config file" in answer.stderr
        else:
            how = "unmarked" if disable else "marked"
            assert answer.stdout == f"Pool {name} {how} as autostarted\n\n"
            self.model[name].autostart = not disable

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        answer = self.run("pool-delete", "--", name)
        if not self.exists(name):
            self.refused_unknown(name, answer)
        elif self.active(name):
            assert f"{INVALID} '{name}' is still active" in answer.stderr
        elif self.model[name].defined not in self.folders:
            assert "No such file or directory" in answer.stderr
        else:
            assert answer.stdout == f"Pool {name} deleted\n\n"
            self.folders.discard(self.model[name].defined or "")

    @rule(folder=FOLDERS)
    def somebody_removes_a_folder(self, folder: str) -> None:
        if folder in self.folders:
            os.rmdir(self.path(folder))
            self.folders.discard(folder)

    @rule()
    def reboot(self) -> None:
        shutil.rmtree(self.root / "state" / "run", ignore_errors=True)
        for name, known in list(self.model.items()):
            known.started = None
            self.forget(name)

    @rule()
    def boot(self) -> None:
        """Start what is marked, one failure not keeping the others from starting."""
        wanted = [
            name for name in self.model
            if self.exists(name) and self.model[name].autostart and not self.active(name)
        ]  # fmt: skip
        answer = storagectl(self.root / "state", "autostart")
        for name in wanted:
            known = self.model[name]
            if known.defined in self.folders:
                assert f"Pool {name} started\n" in answer.stdout
                known.started = known.defined
            else:
                assert f"error: Failed to autostart storage pool '{name}'\n" in answer.stderr
                known.started = None
        assert answer.status == int("error: " in answer.stderr)

    def refused_unknown(self, name: str, answer: Answer) -> None:
        assert answer.stderr == (
            f"error: failed to get pool '{name}'\n"
            f"error: Storage pool not found: no storage pool with matching name '{name}'\n"
        )

    # What must hold after every step

    @invariant()
    def the_list_is_the_model(self) -> None:
        expected = sorted((name for name in self.model if self.exists(name)), key=str.lower)
        rows = []
        for name in expected:
            known = self.model[name]
            active = self.active(name)
            marked = "yes" if known.autostart else "no"
            kept = "yes" if known.defined else "no"
            rows.append((name, "running" if active else "inactive", marked, kept))
        table = self.run("-q", "pool-list", "--all", "--details").stdout
        assert [tuple(line.split("   ")[:4]) for line in cells(table)] == rows

    @invariant()
    def dumps_have_the_definition_in_force(self) -> None:
        for name, known in self.model.items():
            if not self.exists(name):
                continue
            dump = self.run("pool-dumpxml", "--", name).stdout
            assert f"<path>{self.path(self.in_force(name) or '')}</path>" in dump
            assert f"<uuid>{known.uuid}</uuid>" in dump
            later = self.run("pool-dumpxml", "--inactive", "--", name).stdout
            target = known.defined or known.started
            assert f"<path>{self.path(target or '')}</path>" in later

    @invariant()
    def nothing_unfinished_is_left(self) -> None:
        assert list(self.root.rglob(".storagectl-*.part")) == []


def cells(table: str) -> list[str]:
    """The rows of a table, each with exactly three blanks between two cells."""
    import re

    return [re.sub(" {3,}", "   ", line[1:]) for line in table.splitlines()]


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
