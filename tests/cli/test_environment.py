"""The caller's variables, umask, streams and folder change nothing of what is done."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tally
from inprocess import put_on_tool_path

from storagectl.host.commands import PACKAGES, TOOL_PATH

SOURCES = Path(__file__).resolve().parents[2]
UUID = "11111111-1111-4111-8111-111111111111"
VALUE = "seen-nowhere-Hunter2"

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img"),
]


class Caller:
    """Somebody who runs storagectl on a pool `p` below a folder, in an environment of his own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.root = folder / "root"
        self.pool = folder / "above/pool"
        self.variables = {"PATH": os.defpath, "PYTHONPATH": str(SOURCES)}
        self.before = ""
        self.prefix: list[str] = []

    def run(self, *args: str, status: int = 0) -> tuple[str, str]:
        words = [*self.prefix, sys.executable, "-m", "storagectl", "--root", str(self.root), *args]
        done = subprocess.run(
            ["/bin/sh", "-c", f'{self.before}\nexec "$@"', "sh", *words],
            env=self.variables, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode == status, done
        return done.stdout, done.stderr

    def use_everything(self) -> None:
        """Make a file of each kind that there is."""
        secret = self.folder / "secret.xml"
        secret.write_text(
            f"<secret private='no'><uuid>{UUID}</uuid>"
            "<usage type='iscsi'><target>t</target></usage></secret>"
        )
        value = self.folder / "value"
        value.write_text(VALUE)
        lines = (
            f"pool-define-as p dir --target {self.pool}",
            "pool-build p",
            "pool-start p",
            "pool-autostart p",
            "vol-create-as p raw 1M",
            "vol-create-as p cow 1M --format qcow2",
            "vol-clone cow copy p",
            "vol-resize copy 2M p",
            f"secret-define {secret}",
            f"secret-set-value {UUID} --plain --file {value}",
        )
        assert "error" not in self.run("; ".join(lines))[1]

    def modes(self) -> dict[str, str]:
        """Return the modes of all that was made."""
        return {
            str(path.relative_to(self.folder)): f"{stat.S_IMODE(path.lstat().st_mode):04o}"
            for top in (self.root, self.folder / "above")
            for path in (top, *top.rglob("*"))
            if not path.is_symlink() and path.name != "config.toml"
        }


def evil(folder: Path) -> dict[str, str]:
    """Return the environment of somebody who wants to have his own programs run.

    Each leaves a file `ran`; LD_* are for tests where our own start does not count.
    """
    ran = folder / "ran"
    tools = folder / "evil"
    tools.mkdir()
    program = f"#!/bin/sh\necho \"$0 $*\" >>'{ran}'\n"
    for name in {*PACKAGES, "sh", "bash", "env", "sensible-editor", "modprobe", "udevadm"}:
        (tools / name).write_text(program)
        (tools / name).chmod(0o755)
    (tools / "startup").write_text(f"echo startup >>'{ran}'\n")
    return {
        "PATH": str(tools),
        "BASH_ENV": str(tools / "startup"),
        "ENV": str(tools / "startup"),
        "PYTHONSTARTUP": str(tools / "startup"),
        "IFS": "/",
        "CDPATH": str(tools),
        "LVM_SYSTEM_DIR": str(tools),
        "LC_ALL": "xx_XX.nosuch",
        "LANGUAGE": "tlh",
        "TMPDIR": str(folder / "nowhere"),
        "HOME": "relative",
        "XDG_CONFIG_HOME": str(tools),
        "GLIBC_TUNABLES": "glibc.malloc.check=3",
        "MALLOC_CHECK_": "3",
        "QEMU_MODULE_DIR": str(tools),
    }


def test_s26_nothing_of_the_callers_environment_reaches_a_tool(tmp_path: Path) -> None:
    caller = Caller(tmp_path / "there")
    caller.variables |= evil(tmp_path)
    with tally.counted("hostile variables", len(caller.variables)):
        caller.use_everything()
        assert not (tmp_path / "ran").exists()
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    (stubs / "qemu-img").write_text(
        f"#!/bin/sh\ncat /proc/$$/environ >>'{tmp_path}/environ'\n"
        f'exec {shutil.which("qemu-img")} "$@"\n'
    )
    (stubs / "qemu-img").chmod(0o755)
    put_on_tool_path(caller.root, stubs)
    caller.run("vol-create-as", "p", "more", "1M", "--format", "qcow2")
    given = set((tmp_path / "environ").read_bytes().split(b"\0")) - {b""}
    path = ":".join((str(stubs), *TOOL_PATH)).encode()
    assert given == {b"PATH=" + path, b"LC_ALL=C"}


def test_s26_answers_are_the_same_in_a_hostile_environment(tmp_path: Path) -> None:
    plain, hostile = Caller(tmp_path / "a"), Caller(tmp_path / "b")
    hostile.variables |= evil(tmp_path)
    said = []
    for caller in (plain, hostile):
        caller.use_everything()
        answers = [
            caller.run(*line.split())
            for line in ("pool-list --all", "vol-list p --details", "vol-info cow p",
                         "pool-dumpxml p --xpath //path", "secret-list")
        ]  # fmt: skip
        said.append(re.sub(f"{tmp_path}/[ab]", "", repr(answers)))
    assert said[0] == said[1]
    assert plain.modes() == hostile.modes()


def test_s26_the_editor_is_the_users_own(tmp_path: Path) -> None:
    """It is found by the user's PATH, and has the user's environment."""
    caller = Caller(tmp_path / "there")
    caller.use_everything()
    (tmp_path / "bin").mkdir()
    editor = tmp_path / "bin/my-editor"
    editor.write_text(f"#!/bin/sh\n/usr/bin/env >{tmp_path}/environ\n")
    editor.chmod(0o755)
    caller.variables |= {"PATH": f"{tmp_path}/bin:/bin", "EDITOR": "my-editor", "THEME": "dark"}
    caller.run("pool-edit", "p")
    assert "THEME=dark" in (tmp_path / "environ").read_text().splitlines()


@pytest.mark.parametrize("umask", ["000", "027", "077"])
def test_s25_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: str) -> None:
    caller = Caller(tmp_path / "there")
    caller.before = f"umask {umask}"
    caller.use_everything()
    found = caller.modes()
    with tally.counted("modes under a hostile umask", len(found)):
        require_modes(caller, found)


def require_modes(caller: Caller, found: dict[str, str]) -> None:
    own = {path: mode for path, mode in found.items() if path.startswith("root/")}
    folders = {path for path in own if (caller.folder / path).is_dir()}
    assert {own[path] for path in folders} == {"0700"}
    assert {own[path] for path in own.keys() - folders} == {"0600"}
    assert {path.rpartition("/")[2] for path in own} >= {
        "p.xml", f"{UUID}.xml", f"{UUID}.base64", "lock", "p",
    }  # fmt: skip
    pool = {path: mode for path, mode in found.items() if path.startswith("above")}
    assert pool == {
        "above": "0755",
        "above/pool": "0711",
        "above/pool/raw": "0600",
        "above/pool/cow": "0600",
        "above/pool/copy": "0600",
    }


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_s25_files_are_private_from_the_first_moment(tmp_path: Path) -> None:
    """Each is made with the mode that it keeps: nobody can open it in between.

    Tools are not looked at: they fill files that were made for them.
    """
    caller = Caller(tmp_path / "there")
    trace = tmp_path / "trace"
    caller.before = "umask 000"
    caller.prefix = [
        "strace", "-qq", "-A", "-s", "4096", "-o", str(trace),
        "-e", "trace=open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat",
    ]  # fmt: skip
    caller.use_everything()
    made = re.findall(
        rf'"{re.escape(str(caller.folder))}/((?:root|above/pool/)[^"]*)", (?:[^,]*O_CREAT[^,]*, )?'
        r"0?(0\d+)\) = \d",
        trace.read_text(),
    )
    assert len({path for path, _ in made}) > 15, made
    wrong = [(path, mode) for path, mode in made if int(mode, 8) & 0o077]
    with tally.counted("files private from the first moment", len(made)):
        assert wrong == []


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "cwd"])
def test_s26_without_streams_or_a_folder_to_be_in(tmp_path: Path, closed: str) -> None:
    caller = Caller(tmp_path / "there")
    caller.use_everything()
    gone = tmp_path / "gone"
    caller.before = f"exec {closed}"
    if closed == "cwd":
        gone.mkdir()
        caller.before = f"cd '{gone}' && rmdir '{gone}'"
    with tally.counted("closed streams and missing folders"):
        caller.run("vol-create-as", "p", "new", "1M", "--format", "qcow2")
        caller.run("secret-get-value", UUID)
    assert (caller.pool / "new").read_bytes()[:4] == b"QFI\xfb"
    for path in caller.root.rglob("*"):
        # no output has gone into a file that took the place of a stream
        assert not path.is_file() or b"Vol new created" not in path.read_bytes()
    before = caller.modes()
    caller.run("vol-delete", "new", "p")
    assert caller.modes() == {p: m for p, m in before.items() if p != "above/pool/new"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_s26_root_trusts_no_configuration_of_others(tmp_path: Path) -> None:
    """It says which programs run."""
    caller = Caller(tmp_path / "there")
    caller.use_everything()
    put_on_tool_path(caller.root, "/nowhere")
    file = caller.root / "etc/storagectl/config.toml"
    first = f"error: failed to read the configuration '{file}'\n"
    for change, cause in (
        (lambda: file.chmod(0o664), f"others may write to it (mode 0664): chmod go-w '{file}'"),
        (lambda: file.chmod(0o602), f"others may write to it (mode 0602): chmod go-w '{file}'"),
        (lambda: os.chown(file, 65534, 0), f"it belongs to user 65534: chown root '{file}'"),
    ):
        file.chmod(0o644)
        change()
        for command in (("pool-list",), ("vol-delete", "cow", "p")):
            said = caller.run(*command, status=1)[1]
            assert said == f"{first}error: operation forbidden: {cause}\n"
    os.chown(file, 0, 0)
    file.chmod(0o644)
    assert (caller.pool / "cow").exists()
    caller.run("pool-list")
