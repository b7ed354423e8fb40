"""Definitions, markers and autostart links on disk, and the locks around them."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagectl import store as store_module
from storagectl.errors import InternalError, ResourceBusy, StorageError, SystemFailure
from storagectl.host import Host
from storagectl.host.files import staged_path
from storagectl.model import Pool
from storagectl.poolxml import check_name, format_pool, parse_pool
from storagectl.store import REGISTRY, Store, folders

if TYPE_CHECKING:
    from collections.abc import Iterator

UUID = "11111111-1111-4111-8111-{:012d}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Host(), str(tmp_path))


def pool(name: str = "d1", number: int = 1, target: str = "/srv/d1") -> Pool:
    return Pool("dir", name, UUID.format(number), target=target)


# Where things are


def test_a_warning_does_not_act_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "etc/storagectl/storage"
    folder.mkdir(parents=True)
    (folder / "e\x1b[31m\x9bvil.xml").write_text("<pool")
    assert Store(Host(), str(tmp_path)).definition("e\x1b[31m\x9bvil") is None
    shown = capsys.readouterr().err
    assert r"e\x1b[31m\x9bvil.xml" in shown
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)


def test_folders_below_a_root() -> None:
    assert folders("/r") == ("/r/etc/storagectl/storage", "/r/run/storagectl")


def test_folders_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    assert folders(None) == ("/etc/storagectl/storage", "/run/storagectl")


def test_folders_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert folders(None) == ("/c/storagectl/storage", "/run/user/1000/storagectl")
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert folders(None)[0] == "/home/u/.config/storagectl/storage"


def test_a_user_without_runtime_folder_still_forgets_at_boot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert folders(None)[1] == f"/home/u/.cache/storagectl/{boot}"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert folders(None)[1] == f"/cache/storagectl/{boot}"


# Definitions


def test_nothing_is_made_by_looking(store: Store, tmp_path: Path) -> None:
    assert store.names() == set()
    assert store.autostarted() == set()
    assert store.definition("d1") is None
    assert store.marker("d1") is None
    assert not store.is_autostarted("d1")
    assert os.listdir(tmp_path) == []


def test_define_read_replace_undefine(store: Store) -> None:
    store.define(pool())
    assert store.definition("d1") == pool()
    assert store.marker("d1") is None
    store.define(pool(target="/srv/other"))
    assert store.definition("d1") == pool(target="/srv/other")
    assert store.names() == {"d1"}
    store.undefine("d1")
    assert store.names() == set()


def test_markers_are_apart_from_definitions(store: Store) -> None:
    store.define(pool())
    store.mark_started(pool(target="/running"))
    store.mark_started(pool("t", 2))
    assert store.names() == {"d1", "t"}
    assert store.definition("d1") == pool()
    assert store.marker("d1") == pool(target="/running")
    store.mark_stopped("d1")
    store.mark_stopped("t")
    store.mark_stopped("t")
    assert store.names() == {"d1"}


def test_s51_a_link_that_is_left_does_not_have_the_next_pool_of_that_name_start(
    store: Store,
) -> None:
    """Killed in the midst of undefine: the definition goes first."""
    store.define(pool())
    store.set_autostart("d1", True)
    os.unlink(store.definition_path("d1"))
    assert store.autostarted() == set()
    store.define(pool())
    assert store.autostarted() == set()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_s25_modes(store: Store, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with store.lock("d1"), store.registry():
            store.define(pool())
            store.mark_started(pool())
            store.set_autostart("d1", True)
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE(path.lstat().st_mode)
        for path in tmp_path.rglob("*")
        if not path.is_symlink()
    }
    assert len(modes) > 8
    assert {path: oct(mode) for path, mode in modes.items()} == {
        path: oct(0o700 if path.is_dir() else 0o600) for path in modes
    }


def test_the_notice_names_the_command_and_is_no_broken_comment(store: Store) -> None:
    store.define(pool("a--b-"))
    text = Path(store.definition_path("a--b-")).read_text()
    assert text.startswith("<!--\nWritten by storagectl")
    assert "pool-edit a- -b-\n" in text
    assert store.definition("a--b-") == pool("a--b-")


NAMES = [
    "a b", " a", "a ", "*.xml", "x.xml", ".xml", "-f", "--help", "$(id)", "`id`", "a;b", "a'\"b",
    "autostart", "storage", "lock", "layout", "ü", "u\u0308", "\u65e5\u672c", "d1.new", ".hidden",
    ".registry", "x" * 250, "\u00fc" * 125, "{name}", "a&b<c>", "%s", "d1~", "D1", "d1",
]  # fmt: skip


def test_s02_odd_names_stand_side_by_side(store: Store) -> None:
    for number, name in enumerate(NAMES):
        made = pool(name, number, f"/srv/{number}")
        check_name(name)
        with store.lock(name), store.registry():
            store.define(made)
            store.mark_started(made)
            store.set_autostart(name, True)
    for number, name in enumerate(NAMES):
        assert store.definition(name) == pool(name, number, f"/srv/{number}")
        assert store.marker(name) == pool(name, number, f"/srv/{number}")
    assert store.names() == store.autostarted() == set(NAMES)
    for name in NAMES:
        store.undefine(name)
        store.mark_stopped(name)
    assert store.names() == store.autostarted() == set()


def test_s02_no_pool_can_take_the_name_of_another_lock(store: Store) -> None:
    for name in (REGISTRY, store_module.LAYOUTS):
        with pytest.raises(StorageError):
            check_name(name)
    with store.layout("d1"), store.lock("layout"), store.lock(".registry"), store.registry():
        pass


@given(st.text(min_size=1, max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
def test_s01_s02_any_name_is_refused_or_kept(tmp_path: Path, name: str) -> None:
    store = Store(Host(), str(tmp_path))
    try:
        check_name(name)
    except (StorageError, UnicodeEncodeError):
        assert store.definition(name) is None or "/" in name
        return
    store.define(pool(name))
    assert os.listdir(store.config) == [name + ".xml"]
    assert store.definition(name) == pool(name)
    assert store.names() == {name}
    store.undefine(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 300, "a\0b", "\udcff", "\u00fc" * 126])
def test_s02_names_that_no_file_has_are_not_found(store: Store, name: str) -> None:
    store.define(pool())
    assert store.definition(name) is None
    assert store.marker(name) is None
    assert not store.is_autostarted(name)


# Files that somebody else put there


def broken(store: Store, name: str, text: str | bytes) -> Path:
    path = Path(store.config, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Document is empty"),
        ("<pool", "Couldn't find end of Start Tag pool"),
        ("<network/>", "expecting root element of 'pool', not 'network'"),
        ("<pool type='bogus'/>", "Invalid value for attribute 'type'"),
        (b"\xff\xfe<\0", "NUL bytes"),
        ("<!DOCTYPE pool [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><pool/>", "document type"),
    ],
)  # fmt: skip
def test_a_broken_definition_is_left_out_with_a_warning(
    store: Store, capsys: pytest.CaptureFixture[str], text: str | bytes, words: str
) -> None:
    import re

    store.define(pool())
    path = broken(store, "bad.xml", text)
    assert store.definition("bad") is None
    shown = capsys.readouterr().err
    assert shown.startswith(f"warning: ignoring {path}: ")
    assert re.search(words, shown)
    assert store.definition("d1") == pool()


def test_a_file_with_another_pools_name_is_left_out_with_a_warning(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken(store, "copy.xml", format_pool(pool()))
    assert store.definition("copy") is None
    assert capsys.readouterr().err == (
        f"warning: Storage pool config filename '{path}' does not match pool name 'd1'\n"
    )


def test_other_files_are_no_pools(store: Store) -> None:
    store.define(pool())
    for name in ("d2", "d2.xml~", "d2.xml.new", ".d2.xml.swp", "d2.XML"):
        broken(store, name, format_pool(pool("d2", 2)))
    broken(store, os.path.basename(staged_path("")), "half")
    assert store.names() == {"d1"}


def test_s51_unfinished_files_are_swept_with_the_next_change(store: Store) -> None:
    store.define(pool())
    left = broken(store, os.path.basename(staged_path("")), "half")
    with store.lock("d2"):
        assert not left.exists()


def test_a_state_folder_that_is_a_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("")
    with pytest.raises(SystemFailure, match="cannot open directory .*: Not a directory"):
        store.names()
    with pytest.raises(SystemFailure, match=r"cannot create directory .*: (Not a|File ex)"):
        store.define(pool())


# Autostart


def test_autostart_is_a_relative_link(store: Store) -> None:
    store.define(pool())
    store.set_autostart("d1", True)
    store.set_autostart("d1", True)
    path = Path(store.autostart, "d1.xml")
    assert os.readlink(path) == "../d1.xml"
    assert store.autostarted() == {"d1"}
    assert store.is_autostarted("d1")
    store.set_autostart("d1", False)
    store.set_autostart("d1", False)
    assert store.autostarted() == set()


def test_undefine_removes_the_link(store: Store) -> None:
    store.define(pool())
    store.set_autostart("d1", True)
    store.undefine("d1")
    assert os.listdir(store.autostart) == []


def test_a_link_to_nothing_starts_nothing(store: Store) -> None:
    store.define(pool())
    store.set_autostart("d1", True)
    os.unlink(store.definition_path("d1"))
    assert store.autostarted() == set()
    assert not store.is_autostarted("d1")


# Locks, with real other processes

HOLDER = """
import sys, time
from storagectl.host import Host
from storagectl.store import Store
store = Store(Host(), sys.argv[1])
with getattr(store, sys.argv[2])(*sys.argv[3:]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(store: Store, method: str, *names: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock."""
    root = store.config.removesuffix("/etc/storagectl/storage")
    argv = [sys.executable, "-c", HOLDER, root, method, *names]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAIT_S", 0.1)


@pytest.mark.usefixtures("short_wait")
def test_s57_a_change_waits_and_then_names_who_holds_the_pool(store: Store) -> None:
    with held(store, "lock", "d1") as other:
        for lock in (store.lock, store.lock_for_volumes):
            start = time.monotonic()
            with pytest.raises(ResourceBusy) as caught, lock("d1"):
                pass
            assert time.monotonic() - start >= 0.1
            comm = Path(f"/proc/{other.pid}/comm").read_text().strip()
            assert caught.value.lines() == [
                f"resource busy: pool 'd1' is being changed by process {other.pid} ({comm})"
            ]
            assert caught.value.hint.startswith("waited 0.1 s, ")
        with store.lock("d2"), store.registry():
            pass


def test_s57_a_change_is_refused_at_once_while_volumes_are_worked_on(store: Store) -> None:
    with held(store, "lock_for_volumes", "d1") as other:
        start = time.monotonic()
        with pytest.raises(InternalError) as caught, store.lock("d1"):
            pass
        assert time.monotonic() - start < 5
        assert caught.value.lines() == ["internal error: pool 'd1' has asynchronous jobs running."]
        assert caught.value.hint.startswith(f"held by process {other.pid} (")
        with store.lock_for_volumes("d1"):
            pass


def test_s59_a_killed_holder_blocks_nobody(store: Store) -> None:
    with held(store, "lock", "d1") as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with store.lock("d1"):
            pass


def test_a_change_goes_on_when_the_other_has_ended(store: Store) -> None:
    with held(store, "lock", "d1") as other:
        subprocess.Popen(["sh", "-c", f"sleep 0.2; kill {other.pid}"]).wait()
        with store.lock("d1"):
            assert other.wait(1) == -signal.SIGTERM


@pytest.mark.usefixtures("short_wait")
def test_a_lock_is_given_back_after_an_error(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), store.lock("d1"):
            raise ZeroDivisionError


def test_readers_never_wait(store: Store) -> None:
    store.define(pool())
    with held(store, "lock", "d1"), held(store, "registry"):
        assert store.definition("d1") == pool()
        assert store.names() == {"d1"}


def test_s24_a_lock_file_that_is_a_link_is_refused(store: Store, tmp_path: Path) -> None:
    with store.lock("other"):
        pass
    os.symlink(tmp_path / "victim", os.path.join(store.locks, "d1"))
    with pytest.raises(SystemFailure, match="cannot open '.*/lock/d1'"), store.lock("d1"):
        pass
    assert not (tmp_path / "victim").exists()


@pytest.mark.tools
def test_children_do_not_inherit_a_lock(store: Store) -> None:
    with store.lock("d1"):
        shown = Host().query(["sh", "-c", "ls -l /proc/$$/fd"])
    assert "/lock/d1" not in shown


def test_s57_parallel_starts_do_not_sweep_each_others_files(store: Store, tmp_path: Path) -> None:
    """Every pool's marker is written while others sweep the same folder."""
    program = (
        "import sys\n"
        "from storagectl.host import Host\n"
        "from storagectl.model import Pool\n"
        "from storagectl.store import Store\n"
        "store = Store(Host(), sys.argv[1])\n"
        "for turn in range(60):\n"
        "    store.mark_started(Pool('dir', sys.argv[2], sys.argv[3], target='/x'))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), f"p{n}", UUID.format(n)])
        for n in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    assert store.names() == {"p0", "p1", "p2", "p3"}
    assert sorted(os.listdir(store.markers)) == ["p0.xml", "p1.xml", "p2.xml", "p3.xml"]


def test_what_is_written_is_what_a_dump_says(store: Store) -> None:
    store.define(pool())
    text = Path(store.definition_path("d1")).read_text()
    assert text.endswith(format_pool(pool()))
    assert parse_pool(text) == pool()
