"""The differential oracle: a job, a script of commands, run with virsh and with storagectl.

`python tests/oracle/oracle.py record` writes what virsh answers (recorded-virsh-VERSION.jsonl),
`python tests/oracle/oracle.py compare` runs storagectl and compares it with a live virsh, or with
the recording where there is no libvirtd. An answer is the same, intended (intended.toml) or open.
Every run gets fresh devices and name spaces of its own (sandbox.sh), so it needs root.
`--job scripts` and such take the job of that folder instead of main-job.sh.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
SANDBOX = HERE / "sandbox.sh"
LIBVIRTD = HERE / "libvirtd.sh"
QEMU_IMG = HERE / "qemu-img.sh"
RECORD = HERE / "record.sh"
TERMINAL = HERE / "terminal.py"
STREAMS = ("status", "stdout", "stderr")
TIMEOUT_S = 1800
# What runs in name spaces of its own, and ends when its parent does.
NAMESPACES = (
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip
MIB = 1024 * 1024
# name in the script's environment, name after normalising (as long as a real name: tables keep
# their widths), size; mkfs.xfs refuses less than 300 MiB
DEVICES = (
    ("LOOPWORK", "loopWK", 512 * MIB),
    ("LOOPFS", "loopFS", 320 * MIB),
    ("LOOPDISK1", "loopD1", 256 * MIB),
    ("LOOPDISK2", "loopD2", 256 * MIB),
)
WORK = "/media/oracle"
# Spelled out, so that the scratch file system's sizes don't follow the version of mke2fs.
MKFS_WORK = "mkfs.ext4 -q -F -b 4096 -I 256 -i 16384 -m 5 -J size=8 -O none,has_journal,ext_attr,"
MKFS_WORK += "resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,"
MKFS_WORK += "huge_file,dir_nlink,extra_isize,metadata_csum"
LOOP_CTL_ADD = 0x4C80
LOOP_CTL_REMOVE = 0x4C81


class OracleError(Exception):
    """The oracle itself can't work: no root, a script that broke off, a stale entry."""


@dataclass(frozen=True)
class Job:
    """A script; in its folder are what virsh answered to it and what may differ."""

    script: Path
    more: tuple[Path, ...] = ()  # what else it runs

    @property
    def folder(self) -> Path:
        return self.script.parent

    @property
    def intended(self) -> Path:
        return self.folder / "intended.toml"

    def recording(self, version: str) -> Path:
        return self.folder / f"recorded-virsh-{version}.jsonl"

    def recordings(self) -> list[Path]:
        return sorted(self.folder.glob("recorded-virsh-*.jsonl"))

    def digest(self) -> str:
        return digest_of(self.script, *self.more)


MAIN = Job(HERE / "main-job.sh")
JOBS = {
    "main": MAIN,
    "scripts": Job(HERE / "scripts/job.sh", tuple(sorted(HERE.glob("scripts/*-*.sh")))),
    "artefacts": Job(HERE / "artefacts/job.sh"),
    "events": Job(HERE / "events/job.sh"),
}


@dataclass(frozen=True)
class Record:
    """What one command did; kind is `command`, `asked` (on a terminal) or `state` (the host)."""

    n: int
    line: int
    kind: str
    label: str
    argv: list[str]
    status: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        """The command line as one would type it."""
        return self.argv[0] if self.kind == "state" else shlex.join(self.argv)

    def answer(self) -> tuple[int, str, str]:
        return self.status, self.stdout, self.stderr


@dataclass
class Intended:
    """One entry of intended.toml: where storagectl may differ, why, and what it must print."""

    reason: str
    match: str = ""
    label: str = ""
    numbers: list[int] = field(default_factory=list)
    status: int | None = None
    stdout: str | None = None
    stderr: str | None = None

    def covers(self, record: Record) -> bool:
        """Every condition that is given must hold."""
        conditions = []
        if self.match:
            conditions.append(re.search(self.match, record.command) is not None)
        if self.label:
            conditions.append(record.label == self.label)
        if self.numbers:
            conditions.append(record.n in self.numbers)
        return bool(conditions) and all(conditions)

    def golden(self, expected: Record) -> tuple[int, str, str]:
        """The answer storagectl must give: the streams named here, virsh's for the others."""
        pinned = (self.status, self.stdout, self.stderr)
        return tuple(  # type: ignore[return-value]
            theirs if mine is None else mine
            for mine, theirs in zip(pinned, expected.answer(), strict=True)
        )


@dataclass
class Report:
    """The outcome of one comparison; `open` and `stale` must be empty."""

    commands: int
    states: int
    same: int
    intended: list[tuple[Record, Record, Intended]]
    open: list[tuple[Record, Record]]
    stale: list[str]
    source: str = ""

    @property
    def good(self) -> bool:
        return not self.open and not self.stale

    def summary(self) -> str:
        total = self.commands + self.states
        text = f"compared with {self.source}: " if self.source else ""
        return (
            f"{text}{total} compared ({self.commands} commands, {self.states} looks at the host): "
            f"{self.same} same, {len(self.intended)} intended, {len(self.open)} open"
        )

    def text(self) -> str:
        """Everything that isn't right, readable, and the summary as the last line."""
        parts = [difference(expected, actual) for expected, actual in self.open]
        parts += [f"stale entry in intended.toml: {problem}" for problem in self.stale]
        return "\n".join([*parts, self.summary()])


def difference(expected: Record, actual: Record) -> str:
    label = f" [{expected.label}]" if expected.label else ""
    lines = [f"--- {expected.n} (line {expected.line}){label}: {expected.command}"]
    if expected.status != actual.status:
        lines.append(f"  status: virsh {expected.status}, storagectl {actual.status}")
    for stream in ("stdout", "stderr"):
        theirs, mine = getattr(expected, stream), getattr(actual, stream)
        if theirs != mine:
            lines.append(f"  {stream}: (- virsh, + storagectl)")
            diff = difflib.unified_diff(
                theirs.splitlines(keepends=True), mine.splitlines(keepends=True), n=1
            )
            for line in list(diff)[2:]:
                if not line.startswith("@@"):
                    newline = "" if line.endswith("\n") else "  (no newline)"
                    lines.append("    " + line.rstrip("\n") + newline)
    return "\n".join(lines)


# --- devices and the run ---------------------------------------------------------------------


def _tool(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise OracleError(f"{shlex.join(argv)}: {done.stderr.strip()}")


def _attach(image: Path) -> int:
    """Attach to a loop device with two digits (so that all tables have the same widths)."""
    failure = ""
    for number in range(99, 9, -1):
        device = f"/dev/loop{number}"
        _loop_control(LOOP_CTL_ADD, number)
        with contextlib.suppress(FileExistsError):
            os.mknod(device, 0o60600, os.makedev(7, number))
        argv = ["losetup", "-P", device, str(image)]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode == 0:
            return number
        failure = done.stderr.strip()
    raise OracleError(f"no free loop device from loop10 to loop99: {failure}")


def _loop_control(request: int, number: int) -> int:
    """0 or the error number: EEXIST, ENODEV, EBUSY."""
    control = os.open("/dev/loop-control", os.O_RDWR)
    try:
        fcntl.ioctl(control, request, number)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(control)
    return 0


def _remove_loop(number: int, image: Path) -> None:
    """Remove it once it is free; name spaces go away a moment after their last process."""
    backing = Path(f"/sys/block/loop{number}/loop/backing_file")
    for _ in range(50):
        if _loop_control(LOOP_CTL_REMOVE, number) in (0, errno.ENODEV):
            return
        with contextlib.suppress(OSError):
            if backing.read_text().strip() != str(image):
                return  # somebody else has it by now
        time.sleep(0.1)
    raise OracleError(f"can't remove /dev/loop{number}")


@contextlib.contextmanager
def _loop(image: Path, size: int) -> Iterator[str]:
    """A loop device over a new sparse file, with partitions switched on."""
    image.touch()
    os.truncate(image, size)
    number = _attach(image)
    device = f"/dev/loop{number}"
    try:
        with open(device, "rb"):
            # Detached while open: it goes by itself when the last user goes, us included.
            _tool("losetup", "-d", device)
            yield device
    finally:
        _remove_loop(number, image)


def run(
    program: list[str], workdir: Path | str, *, job: Job = MAIN, libvirtd: bool | None = None
) -> list[Record]:
    """Run the job's script with `program` on fresh devices; the records are as they came.

    libvirtd: start a private one for it (default: when the program is virsh).
    """
    if os.geteuid() != 0:
        raise OracleError("the oracle needs root")
    if libvirtd is None:
        libvirtd = os.path.basename(program[0]) == "virsh"
    base = Path(tempfile.mkdtemp(prefix="run-", dir=workdir))
    out = base / "out"
    out.mkdir()
    copies = base / "job"  # bash reads a script while it runs it
    copies.mkdir()
    for part in (job.script, *job.more, SANDBOX, LIBVIRTD, QEMU_IMG, RECORD, TERMINAL):
        shutil.copy(part, copies)
    words = [word.replace("{state}", str(base / "state")) for word in program]
    env = {**os.environ, "V": " ".join(words), "OUT": str(out), "LIBVIRTD": str(int(libvirtd))}
    env["JOB"] = str(copies / job.script.name)
    env["PYTHONSAFEPATH"] = "1"  # not the scratch directory's modules
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), env.get("PYTHONPATH"))))
    names: dict[str, str] = {}
    try:
        with contextlib.ExitStack() as stack:
            for variable, neutral, size in DEVICES:
                device = stack.enter_context(_loop(base / f"{variable}.img", size))
                env[variable] = device
                names[os.path.basename(device)] = neutral
            _tool(*MKFS_WORK.split(), env["LOOPWORK"])
            _sandboxed(copies / SANDBOX.name, env)
        if (out / "job.status").read_text().strip() != "0":
            raise OracleError(f"the script broke off: {(out / 'job.stderr').read_text()}")
        records = _read(out)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return [_neutral_names(record, names, str(base)) for record in records]


def play(
    script: Path, program: list[str], env: dict[str, str], names: dict[str, str]
) -> list[Record]:
    """Run a script on devices that `env` names; `names` are the kernel's and their neutral ones.

    No sandbox: the caller has made the devices, and a libvirtd where the program is virsh.
    """
    with tempfile.TemporaryDirectory(prefix="storagectl-oracle-") as base:
        env = {**os.environ, **env, "V": " ".join(program).replace("{state}", base), "OUT": base}
        # on a terminal virsh would start polkit's agent, which only complains
        done = subprocess.run(
            ["setsid", "--wait", "bash", str(script)],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode:
            raise OracleError(f"{script.name} broke off ({done.returncode}): {done.stderr}")
        records = _read(Path(base))
    return [normalise(_neutral_names(record, names, base)) for record in records]


def _sandboxed(sandbox: Path, env: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*NAMESPACES, "bash", str(sandbox)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise OracleError(f"sandbox failed ({process.returncode}): {output}")


def _read(out: Path) -> list[Record]:
    records: list[Record] = []

    def text(name: str) -> str:
        return (out / name).read_bytes().decode("utf-8", "surrogateescape")

    while (out / f"{len(records) + 1}.status").exists():
        n = len(records) + 1
        kind, line, label = text(f"{n}.meta").split()
        argv = text(f"{n}.argv").split("\0")[:-1]
        label = "" if label == "-" else label
        status = int(text(f"{n}.status"))
        records.append(
            Record(
                n, int(line), kind, label, argv, status, text(f"{n}.stdout"), text(f"{n}.stderr")
            )
        )
    return records


def _neutral_names(record: Record, names: dict[str, str], base: str) -> Record:
    def clean(value: str) -> str:
        for real, neutral in names.items():
            more = "0-9" if real[-1].isdigit() else "a-z"
            value = re.sub(rf"{re.escape(real)}(?![{more}])", neutral, value)
        return value.replace(base, "<run>")

    return replace(
        record,
        argv=[clean(word) for word in record.argv],
        stdout=clean(record.stdout),
        stderr=clean(record.stderr),
    )


# --- normalising and comparing -------------------------------------------------------------------

_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_LVM_UUID = re.compile(r"\b\w{6}(?:-\w{4}){5}-\w{6}\b")
_FIXED_UUID = "11111111-1111-4111-8111-"
_TIME = re.compile(r"<(atime|mtime|ctime|btime)>[0-9]{6,}(?:\.[0-9]{9})?</")
_PROCESS = re.compile(r"\bprocess [0-9]+\b")
_TIMING = re.compile(r"\(Time: \d+\.\d{3} ms\)")
_NOW = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000", re.MULTILINE)
_TEMPORARY = re.compile(
    r"(?:/tmp/virsh[A-Za-z0-9_.-]{6,}?|[^\s']*/\.storagectl-[0-9a-f]{16}\.part/[^\s']+)\.xml"
)


def normalise(record: Record) -> Record:
    """Neutral words for what can't be the same twice: random UUIDs, times, process numbers."""

    def clean(value: str) -> str:
        value = value.replace(WORK, "<work>")
        value = _UUID.sub(lambda m: m[0] if m[0].startswith(_FIXED_UUID) else "<uuid>", value)
        value = _LVM_UUID.sub("<lvm uuid>", value)
        value = _TIME.sub(r"<\1>T</", value)
        value = _PROCESS.sub("process <pid>", value)
        value = _TIMING.sub("(Time: T ms)", value)
        value = _NOW.sub("<now>", value)
        return _TEMPORARY.sub("<temporary>", value)

    return replace(
        record,
        argv=[clean(word) for word in record.argv],
        stdout=clean(record.stdout),
        stderr=clean(record.stderr),
    )


def compare(expected: list[Record], actual: list[Record], intended: list[Intended]) -> Report:
    """Compare normalised records one by one; an entry of `intended` must be needed."""
    if [record.argv for record in expected] != [record.argv for record in actual]:
        raise OracleError("the two runs aren't of the same script; record again")
    report = Report(0, 0, 0, [], [], [])
    used = [0] * len(intended)
    for theirs, mine in zip(expected, actual, strict=True):
        if theirs.kind != "state":
            report.commands += 1
        else:
            report.states += 1
        if theirs.answer() == mine.answer():
            report.same += 1
            continue
        for index, entry in enumerate(intended):
            if entry.covers(theirs) and entry.golden(theirs) == mine.answer():
                used[index] += 1
                report.intended.append((theirs, mine, entry))
                break
        else:
            report.open.append((theirs, mine))
    for count, entry in zip(used, intended, strict=True):
        if not count:
            where = entry.label or entry.match or entry.numbers
            report.stale.append(f"{where}: {entry.reason}")
    return report


def load_intended(path: Path = MAIN.intended) -> list[Intended]:
    """Read intended.toml, where there is one; an entry needs a reason, a place and an answer."""
    if not path.exists():
        return []
    entries = [Intended(**table) for table in tomllib.loads(path.read_text()).get("intended", [])]
    for entry in entries:
        if not entry.reason.strip() or not (entry.match or entry.label or entry.numbers):
            raise OracleError(f"{path}: an entry without reason or place: {entry}")
        if entry.status is None and entry.stdout is None and entry.stderr is None:
            raise OracleError(f"{path}: an entry that pins nothing: {entry}")
    return entries


def as_entry(expected: Record, actual: Record) -> str:
    """A draft for intended.toml out of one open difference."""

    def quoted(value: str) -> str:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"""\n' + value + '"""' if "\n" in value else f'"{value}"'

    lines = ["[[intended]]"]
    if expected.label:
        lines.append(f'label = "{expected.label}"')
    lines.append(f"match = '''^{re.escape(expected.command)}$'''".replace(r"\ ", " "))
    lines.append('reason = ""')
    if expected.status != actual.status:
        lines.append(f"status = {actual.status}")
    for stream in ("stdout", "stderr"):
        if getattr(expected, stream) != getattr(actual, stream):
            lines.append(f"{stream} = {quoted(getattr(actual, stream))}")
    return "\n".join(lines) + "\n"


# --- virsh, live or recorded -------------------------------------------------------------------


def digest_of(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def virsh_version() -> str | None:
    """The version of the virsh and libvirtd on this machine, None without them."""
    if not (shutil.which("virsh") and shutil.which("libvirtd")):
        return None
    versions = []
    for program in ("virsh", "libvirtd"):
        done = subprocess.run([program, "--version"], capture_output=True, text=True)
        versions.append(done.stdout.split()[-1] if done.stdout.strip() else "")
    return versions[0] if versions[0] and versions[0] == versions[1] else None


def save(path: Path, version: str, records: list[Record], digest: str) -> None:
    """One JSON object a line; the first one says what the rest is.  digest: of what was run."""
    head = {"program": "virsh", "version": version, "script": digest}
    lines = [json.dumps(head)] + [json.dumps(asdict(record)) for record in records]
    path.write_text("\n".join(lines) + "\n")


def load(path: Path, digest: str) -> tuple[str, list[Record]]:
    """The version and the records of a recording of the present script."""
    first, *rest = path.read_text().splitlines()
    head = json.loads(first)
    if head["script"] != digest:
        raise OracleError(f"{path} is of another script: record again")
    return head["version"], [Record(**json.loads(line)) for line in rest]


def run_normalised(program: list[str], job: Job = MAIN) -> list[Record]:
    with tempfile.TemporaryDirectory(prefix="storagectl-oracle-") as workdir:
        return [normalise(record) for record in run(program, workdir, job=job)]


def reference(job: Job = MAIN, *, recorded: bool = False) -> tuple[str, list[Record]]:
    """What virsh answers, and a word for where that comes from.

    recorded: don't ask a live virsh.
    """
    version = None if recorded else virsh_version()
    if version is not None:
        return f"live virsh {version}", run_normalised(["virsh"], job)
    if not job.recordings():
        raise OracleError("neither virsh and libvirtd nor a recording")
    version, records = load(job.recordings()[-1], job.digest())
    return f"recorded virsh {version}", records


def recording_differences(version: str, live: list[Record], job: Job = MAIN) -> list[str]:
    """Where a live virsh and the recording of the same version disagree."""
    path = job.recording(version)
    if not path.exists():
        return []
    _, recorded = load(path, job.digest())
    return [
        difference(old, new)
        for old, new in zip(recorded, live, strict=True)
        if old.answer() != new.answer()
    ]


def _record(options: argparse.Namespace) -> int:
    version = virsh_version()
    if version is None:
        raise OracleError("no virsh and libvirtd of the same version")
    job = JOBS[options.job]
    records = run_normalised(["virsh"], job)
    path = job.recording(version)
    save(path, version, records, job.digest())
    commands = sum(record.kind != "state" for record in records)
    print(f"{path}: {len(records)} records, {commands} commands")
    return 0


def _compare(options: argparse.Namespace) -> int:
    job = JOBS[options.job]
    source, expected = reference(job, recorded=options.recorded)
    actual = run_normalised(shlex.split(options.program), job)
    report = compare(expected, actual, load_intended(job.intended))
    report.source = source
    print(report.text())
    if options.suggest:
        drafts = [as_entry(theirs, mine) for theirs, mine in report.open]
        Path(options.suggest).write_text("\n".join(drafts))
    return 0 if report.good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    record = commands.add_parser("record", help="write what virsh answers")
    record.set_defaults(act=_record)
    comparing = commands.add_parser("compare", help="run the program and compare it with virsh")
    comparing.add_argument(
        "--program",
        default=f"{sys.executable} -m storagectl --root {{state}}",
        help="words of the program; {state} is a fresh directory (default: %(default)s)",
    )
    comparing.add_argument("--recorded", action="store_true", help="don't ask a live virsh")
    comparing.add_argument("--suggest", metavar="FILE", help="write drafts for intended.toml")
    comparing.set_defaults(act=_compare)
    for command in (record, comparing):
        command.add_argument("--job", choices=JOBS, default="main")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return options.act(options)
    except OracleError as error:
        print(f"oracle: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
