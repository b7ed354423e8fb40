"""The commands of the README, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import manual
import pytest
import tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scratch import Program, Scratch

pytestmark = pytest.mark.root
BLOCKS = manual.blocks((manual.ROOT / "README.md").read_text())
MIB = 1 << 20


def block(first: str) -> str:
    """Return the block that begins with these words."""
    (found,) = [text for text in BLOCKS if text.startswith(first)]
    return found


@pytest.fixture
def work(scratch: Scratch) -> Path:
    folder = scratch.folder / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def images(scratch: Scratch, ctl: Program) -> Iterator[Path]:
    """A running dir pool `images`."""
    folder = scratch.folder / "images"
    ctl.ok("pool-create-as", "images", "dir", "--target", folder, "--build")
    yield folder
    ctl.ok("pool-destroy", "images")


@pytest.mark.slow
def test_quickstart(scratch: Scratch, work: Path) -> None:
    """`bash tests/quickstart` leaves an environment in its cache, and nothing else."""
    script = block("bash tests/quickstart").replace("tests/", f"{manual.ROOT}/tests/")
    cache = scratch.folder / "cache"
    environment = os.environ | {
        "XDG_CACHE_HOME": str(cache), "PYTHON": sys._base_executable,  # type: ignore[attr-defined]
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euc", script], cwd=work, env=environment, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("quickstart: all of it worked\n")
    assert os.listdir(cache) == ["storagectl-quickstart"]
    assert os.listdir(work) == []


@pytest.mark.slow
def test_installation(scratch: Scratch, work: Path) -> None:
    """All of what is installed comes to its place, and works there."""
    root = scratch.folder
    (root / "usr/local/bin").mkdir(parents=True)
    source = work / "checkout"
    shutil.copytree(
        manual.ROOT, source, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache")
    )
    first = block("python3 -m venv /opt/storagectl")
    second = block("cd /opt/storagectl")
    script = (first + second).replace("systemctl ", f"systemctl --root={root} ")
    script = script.replace("python3 ", f"{sys._base_executable} ")  # type: ignore[attr-defined]
    script = re.sub(r"(?<![\w./=])/(opt|usr/local|usr/share|etc)/", rf"{root}/\1/", script)
    done = subprocess.run(
        ["bash", "-euxc", script], cwd=source, capture_output=True, text=True, timeout=600,
        check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    program = root / "usr/local/bin/storagectl"
    shown = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True, env={"PATH": ""}
    )
    assert re.match(r"\d", shown.stdout)
    nothing_of_the_callers_python(program, work)
    for page in manual.PAGES:
        name, number = page.rsplit(".", 1)
        assert (root / f"usr/local/share/man/man{number}/{page}").is_file(), name
    for path in (
        "usr/share/bash-completion/completions/storagectl",
        "usr/local/share/zsh/site-functions/_storagectl",
        "usr/share/fish/vendor_completions.d/storagectl.fish",
        "etc/systemd/system/storagectl-autostart.service",
        "etc/systemd/system/multi-user.target.wants/storagectl-autostart.service",
    ):
        assert os.path.lexists(root / path), path


def nothing_of_the_callers_python(program: Path, work: Path) -> None:
    """S26: the installed program runs no module of the caller's."""
    evil = work / "evil"
    evil.mkdir()
    for name in ("sitecustomize", "usercustomize", "storagectl", "re", "click", "signal"):
        (evil / f"{name}.py").write_text(f"open({str(work / 'ran')!r}, 'a').write({name!r})\n")
    variables = {
        "PYTHONPATH": str(evil), "PYTHONHOME": str(evil), "PYTHONUSERBASE": str(evil),
        "PYTHONSTARTUP": str(evil / "re.py"), "PYTHONINSPECT": "1", "PYTHONBREAKPOINT": "re",
        "PYTHONPLATLIBDIR": str(evil), "LC_ALL": "POSIX", "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }  # fmt: skip
    with tally.counted("hostile variables", len(variables)):
        shown = subprocess.run(
            [program, "--root", work / "root", "pool-list"], capture_output=True, text=True,
            check=False, env=variables, cwd=evil, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (shown.returncode, shown.stderr) == (0, "")
        assert not (work / "ran").exists()


def test_tour(scratch: Scratch, ctl: Program, work: Path) -> None:
    script = block("storagectl pool-define-as images")
    places = {"/srv/images": str(scratch.folder / "images")}
    done = manual.run([script], places, work, ctl.root)
    assert "db.qcow2" in done.stdout
    assert ctl.names("images") == ["web.qcow2"]
    done = manual.run([block("storagectl status")], WATCH, work, ctl.root)
    assert "web.qcow2" in done.stdout
    done = manual.run([block("storagectl doctor")], {}, work, ctl.root)
    assert done.stdout.count("Nothing is wrong with 1 pool\n") == 2
    done = manual.run([block("storagectl vol-list images --filter")], {}, work, ctl.root)
    assert f"{scratch.folder}/images/web.qcow2\n" in done.stdout
    ctl.ok("pool-destroy", "images")


watch = "storagectl status --watch"
WATCH = {watch: f"timeout --signal=INT 5 {watch} || test $? = 124"}


def test_beyond_virsh(ctl: Program, work: Path, images: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    content = os.urandom(MIB)
    (work / "web.img").write_bytes(content)
    subprocess.run(["zstd", "-q", "--rm", "web.img"], cwd=work, check=True)
    ctl.ok("vol-create-as", "images", "web.img", "1M")
    ctl.ok("vol-create-as", "images", "base.qcow2", "1M", "--format", "qcow2")
    owner = {"libvirt-qemu": "daemon", "> web": ">| web"}
    done = manual.run([block("zstdcat web.img.zst")], owner, work, ctl.root)
    assert '"verified": true' in done.stdout
    assert (images / "web.img").read_bytes() == content == (images / "db.img").read_bytes()
    unpacked = subprocess.run(["zstdcat", "web.img.zst"], cwd=work, stdout=-1, check=True)
    assert unpacked.stdout == content
    names = ["base.qcow2", "db.img", "vm1.qcow2", "vm3.qcow2", "web.img"]
    assert ctl.names("images") == names


def test_scripts(scratch: Scratch, ctl: Program, work: Path) -> None:
    places = {"/srv/images": str(scratch.folder / "images")}
    done = manual.run([block("storagectl pool-exists")], places, work, ctl.root)
    assert "no such pool" in done.stdout
    assert ctl.ok("-q", "pool-list", "--all").strip() == ""


def test_events(ctl: Program, work: Path, images: Path) -> None:
    def happen() -> None:
        (images / "by-hand").touch()
        ctl.ok("pool-refresh", "images")
        (images / "by-hand").unlink()

    text = manual.heard(block("storagectl pool-event"), work, ctl.root, happen)
    assert json.loads(text.splitlines()[0])["event"]["pool"]["name"] == "images"


def test_json(ctl: Program, work: Path, images: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    ctl.ok("pool-define-as", "other", "dir", "--target", "/nowhere")
    script = block("storagectl vol-create-as images web.img 20G --json")
    done = manual.run([script], {}, work, ctl.root)
    assert done.stdout == f"{images}/web.img\nother\n"


def test_dry_run(ctl: Program, work: Path, images: Path) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed")
    ctl.ok("vol-create-as", "images", "web.img", "1M")
    content = os.urandom(MIB)
    (images / "web.img").write_bytes(content)
    done = manual.run([block("storagectl vol-clone web.img copy.img")], {}, work, ctl.root)
    assert "What vol-clone would do" in done.stdout
    assert (images / "copy.img").read_bytes() == content
    assert re.search(r"^\+ \S*/qemu-img create -f qcow2 ", done.stderr, re.M)
    assert ctl.names("images") == ["copy.img", "new.qcow2", "web.img"]


def test_several_commands(ctl: Program, work: Path, images: Path) -> None:
    for name in ("a.img", "b.img"):
        ctl.ok("vol-create-as", "images", name, "1M")
    done = manual.run([block("storagectl 'pool-refresh images")], {}, work, ctl.root)
    documents = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [each["result"]["volume"]["capacity"] for each in documents] == [MIB, MIB]


def test_import(scratch: Scratch, ctl: Program, work: Path) -> None:
    folder = scratch.folder / "libvirt"
    folder.mkdir()
    (folder / "images.xml").write_text(
        ctl.ok("pool-define-as", "images", "dir", "--target", "/srv/images", "--print-xml")
    )
    places = {"storagectl import": f"storagectl import --folder {folder}"}
    done = manual.run([block("storagectl import")], places, work, ctl.root)
    assert done.stdout.startswith("Pool images imported")


def test_apply(scratch: Scratch, ctl: Program, work: Path) -> None:
    pytest.importorskip("yaml")
    (work / "storage").mkdir()
    (work / "storage/images.yaml").write_text(
        "pool: {type: dir, name: images, build: true,"
        f" target: {{path: {scratch.folder}/images}}}}\n"
    )
    done = manual.run([block("storagectl apply")], {}, work, ctl.root)
    assert done.stdout.endswith("\nNothing to change\n\nNothing would be changed\n\n")
    assert ctl.state("images") == "running"
