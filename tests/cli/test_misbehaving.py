"""S63, S54, S48: each host command of each changing command misbehaves, for all pool types.

The machine is one of files (`fakemachine`); what misbehaves is a process of its own.  The command
ends with an error in words and all is as before, or all is done, and the same command mends what
there is to mend.
STORAGECTL_FAULTS=all tries everything, otherwise each host command misbehaves in one way.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import crashing
import faults
import pytest
import tally
from inprocess import put_on_tool_path, storagectl
from waiting import wait_for

from storagectl.backends import devices
from storagectl.host import Host, child

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

spec = importlib.util.spec_from_file_location(
    "crash_scenes", Path(__file__).with_name("test_crash.py")
)
assert spec is not None
assert spec.loader is not None
scenes: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scenes)

pytestmark = pytest.mark.tools

ALL = os.environ.get("STORAGECTL_FAULTS") == "all"
# Some more lines than two: virsh has none of what it tried in pool-edit.
LINES = {"pool-edit": (1, 2), "vol-download": (1, 2), "apply": (2, 3), "import": (2, 3),
         "autostart": (2, 3)}  # fmt: skip

# What a tool does in place of what it should do: a script, with what it would have printed as $1.
SCRIPTS = {
    "rubbish": r"printf '\377\000\033[31m{{[[%%s\n\n' ; head -c 3000 /dev/urandom",
    "nesting": "head -c 200000 /dev/zero | tr '\\0' '['",
    "zero bytes": ":",
    "fails": "echo 'something is wrong' >&2; exit 5",
    "dies": "kill -SEGV $$",
    "hangs": "sleep 300 & echo $$ $! >pids; wait",
    "floods": "yes",
}
# These do what they should, and more or less than that.
AND_MORE = {
    "half a line": lambda text: (0, text[: len(text) // 2], ""),
    "warnings": lambda text: (0, f"  WARNING: Device /dev/x not found.\n{text}", ""),
    "complains": lambda text: (0, text, "  WARNING: never mind\n"),
    "fails when done": lambda text: (5, "", "  Internal error.\n"),
}
gather = child.gather
WAYS = ("missing", *SCRIPTS, *AND_MORE)


class Faulty:
    """Stands in the place of Host._spawn: the Nth command misbehaves."""

    def __init__(self, machine: Any, real: Callable[..., Any], folder: Path) -> None:
        self.machine = machine
        self.real = real
        self.folder = folder
        self.number: int | None = None
        self.way = ""
        self.count = 0
        self.log = folder / "commands"
        self.limit = folder / "limit"
        self.pids = folder / "pids"

    def __call__(
        self, host: Host, argv: list[str], limit_s: float | None = None, *_: object
    ) -> tuple[int, str, str]:
        number = self.count
        self.count += 1
        with self.log.open("a") as stream:
            stream.write(" ".join(argv).replace("\n", " ") + "\n")
        if number != self.number:
            answer: tuple[int, str, str] = self.machine.spawn(argv)
            return answer
        if self.way == "missing":
            Host.find_tool = self.find_tool  # type: ignore[method-assign]
            host.find_tool("no-such-tool")
        if self.way in AND_MORE:
            status, stdout, stderr = self.machine.spawn(argv)
            return AND_MORE[self.way](stdout) if status == 0 else (status, stdout, stderr)
        script = f"cd {self.folder}; {SCRIPTS[self.way]}"
        if self.way == "hangs":
            self.limit.write_text(f"{limit_s}")
            child.gather = self.gather_what_hangs
        answer = self.real(host, ["/bin/sh", "-c", script, *argv], 60)
        assert isinstance(answer, tuple)
        return answer

    def gather_what_hangs(self, process: subprocess.Popen[bytes], _: object) -> tuple[str, str]:
        """Have its time be up at once, but not before it hangs."""
        wait_for(self.pids.read_text, "it hangs", process)
        return gather(process, 0.05)

    def check_that_it_has_ended(self) -> None:
        """What hung had a limit, and is gone with its child."""
        assert self.limit.read_text() not in ("", "None"), "it may take for ever"
        pids = self.pids.read_text().split()
        assert len(pids) == 2
        wait_for(lambda: all(state(pid) == "Z" for pid in pids), f"processes {pids} stay")


@pytest.fixture
def scene_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], tuple[Any, Faulty]]]:
    folders: list[str] = []

    def make(kind: str) -> tuple[Any, Faulty]:
        monkeypatch.undo()
        monkeypatch.setenv("EDITOR", "sed -i s/0711/0751/")
        folders.append(tempfile.mkdtemp(prefix="faults-", dir=scenes.MEMORY))
        scene = scenes.Scene(Path(folders[-1]), kind)
        faulty = Faulty(scene.machine, Host._spawn, Path(folders[-1]))
        faulty.find_tool = Host.find_tool
        scene.machine.install(monkeypatch)
        monkeypatch.setattr(scenes.Multipath, "is_active", lambda self: True)
        monkeypatch.setattr(devices, "PATIENCE_S", 0.05)
        monkeypatch.setattr(Host, "_spawn", lambda *words: faulty(*words))
        return scene, faulty

    yield make
    for folder in folders:
        shutil.rmtree(folder)


def run(faulty: Faulty, scene: Any, words: list[str], number: int | None, way: str = "") -> Any:
    """Run a command in a process of its own.  Returns: its outcome, and the host's commands."""
    faulty.number, faulty.way = number, way
    faulty.count = 0
    for path in (faulty.log, faulty.limit, faulty.pids):
        path.write_text("")
    outcome = faults.forked(scene.root, *words)
    faulty.number = None
    return outcome, faulty.log.read_text().splitlines()


def check(scene: Any, case: Any, way: str, outcome: Any, before: Any, after: Any) -> None:
    words = scene.words(case)
    now = scene.picture()
    if outcome.status != 0:
        assert outcome.status == 1
        said = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
        least, most = LINES.get(words[0], (2, 2))
        assert least <= len(said) <= most
    if outcome.status == 0:
        assert now == after, scenes.changed(now, before, after)
    elif not case.between and way != "fails when done":
        assert now == before, scenes.changed(now, before, after)
    assert not crashing.unfinished(scene.place)
    if now != after:
        crashing.repeat(scene.run, words)
        done = scene.picture()
        assert done == after, scenes.changed(done, after)


def state(pid: str) -> str:
    """Return the letter of a process's state, Z also when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.parametrize("kind", scenes.POOLS)
def test_s63_a_host_command_misbehaves(kind: str, scene_of: Any) -> None:
    wrong = []
    turn = list(scenes.POOLS).index(kind)
    for case in scenes.CASES:
        if kind not in case.types:
            continue
        scene, faulty = scene_of(kind)
        scene.prepare(case)
        scene.save()
        words = scene.words(case)
        before = scene.picture()
        usual, commands = run(faulty, scene, words, None)
        assert (usual.status, usual.stderr) == (0, ""), (case, usual)
        after = scene.picture()
        for number, command in enumerate(commands):
            for way in WAYS if ALL else [WAYS[turn % len(WAYS)]]:
                turn += 1
                scene.restore()
                outcome, _ = run(faulty, scene, words, number, way)
                try:
                    with tally.counted(f"host command {way}"):
                        check(scene, case, way, outcome, before, after)
                        if way == "hangs":
                            faulty.check_that_it_has_ended()
                except AssertionError as error:
                    wrong.append(
                        f"{case.words} ({case.stage}): {way}: {command[:120]}\n"
                        f"    {outcome.status} {outcome.stderr[:600]!r}\n    {str(error)[:900]}"
                    )
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong)


# What qemu-img makes has a header that tells whether it did.
IDLE = [
    "vol-create-as p new 1M --format qcow2", "vol-create-as p new 1M --format vdi",
    "vol-create-as p new 1M --format qcow2 --backing-vol image", "vol-clone image new p",
    "vol-clone image new p --linked", "vol-clone image new p --verify",
    "vol-create-from p NEW raw p", "vol-resize image 2M p", "vol-resize image 512K p --shrink",
]  # fmt: skip


@pytest.mark.parametrize("words", IDLE)
def test_s63_qemu_img_ends_well_and_has_done_nothing(tmp_path: Path, words: str) -> None:
    root, pool, tools, new = (tmp_path / name for name in ("root", "pool", "tools", "new.xml"))
    for folder in (pool, tools):
        folder.mkdir()
    (pool / "raw").write_bytes(b"x" * 1_000_000)
    # version 2, clusters of 64 KiB, 1 MiB
    header = b"QFI\xfb" + (2).to_bytes(4, "big") + bytes(12) + (16).to_bytes(4, "big")
    (pool / "image").write_bytes((header[:24] + (1 << 20).to_bytes(8, "big")).ljust(512, b"\0"))
    (tools / "qemu-img").write_text("#!/bin/sh\nexit 0\n")
    (tools / "qemu-img").chmod(0o755)
    new.write_text(
        "<volume><name>new</name><capacity>1000000</capacity>"
        "<target><format type='qcow2'/></target></volume>"
    )
    for line in (f"pool-define-as p dir --target {pool}", "pool-start p"):
        assert storagectl(root, *line.split()).status == 0
    put_on_tool_path(root, tools)
    before = {path.name: path.read_bytes() for path in pool.iterdir()}
    with tally.counted("qemu-img that does nothing"):
        done = storagectl(root, *words.replace("NEW", str(new)).split())
        assert done.status == 1
        assert len(done.stderr.splitlines()) == 2
        assert done.stderr.splitlines()[1].startswith(
            "error: operation failed: qemu-img did not fail, and "
        )
        assert {path.name: path.read_bytes() for path in pool.iterdir()} == before
