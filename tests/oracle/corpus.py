"""The corpus: pool and volume definitions, each defined and dumped by virsh and by storagectl.

`python tests/oracle/corpus.py record` writes what virsh answers, `compare` runs storagectl in
this process and compares it with a live virsh, or with the recording where there is none.

corpus/*.xml hold documents, each below a line `=== NAME FLAG...`.  In a document \\xNN is a byte
and {run} the scratch directory.  Those of volumes.xml are volumes of a running dir pool, `vols`,
all others are pools.  A document is defined with --validate, and without; what comes of that is
dumped, defined again from its dump, and removed.  Flags, which mean without --validate:
  keep    it stays, for the documents below it in its file
  start   it stays, and runs

`exchange` has both programs at once: each dump is defined, and dumped in turn, by the other one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import oracle  # noqa: E402  (the folder isn't a package)
from inprocess import Answer, storagectl  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = HERE / "corpus"
INTENDED = FOLDER / "intended.toml"
VOLUMES = "volumes"
SCRATCH = "/dev/shm"  # a tmpfs: sizes on it are the same everywhere
ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
MARKER = re.compile(rb"^=== (.*)\n", re.MULTILINE)
# libxml2's words below this line tell how the schema is written, which is not the same.
SCHEMA = re.compile(r"(Unable to validate doc against )\S*/(\w+\.rng)\n.*", re.DOTALL)
VALIDATE_BUG = "error: unsupported flags (0x4) in function virStorageVolDefParseXML\n"
DAEMON = """
mount --make-rprivate /
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p "$folder" && mount -t tmpfs oracle "$folder" || exit
done
mkdir -p /run/libvirt && mount --bind "$1" /run/libvirt || exit
exec libvirtd --pid-file /run/libvirt/corpus.pid
"""

Program = Callable[[list[list[str]]], Answer]


class Document(NamedTuple):
    """A document: `group` is its file, `text` what stands there."""

    group: str
    name: str
    flags: list[str]
    text: bytes


def documents() -> list[Document]:
    found = []
    for path in sorted(FOLDER.glob("*.xml")):
        _, *parts = MARKER.split(path.read_bytes())
        for head, text in zip(parts[::2], parts[1::2], strict=True):
            name, *flags = head.decode().split()
            found.append(Document(path.stem, name, flags, text))
    return found


def digest() -> str:
    return oracle.digest_of(*sorted(FOLDER.glob("*.xml")))


# --- the two programs --------------------------------------------------------------------------


ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "dumb"}
DONE = "corpus-done"


@contextlib.contextmanager
def virsh(base: Path) -> Iterator[Program]:
    """Give virsh with a libvirtd of its own, a process for each command."""
    with daemon(base) as uri:
        yield functools.partial(virsh_once, uri)


def virsh_once(uri: str, commands: list[list[str]]) -> Answer:
    text = "; ".join(shlex.join(command) for command in commands)
    words = commands[0] if len(commands) == 1 else [text]
    argv = ["virsh", "-c", uri, *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT)
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    return Answer(done.returncode, out, err)


@contextlib.contextmanager
def virsh_shell(base: Path) -> Iterator[Program]:
    """Give virsh as one interactive process, which is several times as fast.

    It has no exit status for each command: a command with an error on stderr is one that failed.
    What its line editor would change goes to a process of its own.
    """
    errors = base / "virsh.stderr"
    with contextlib.ExitStack() as stack:
        uri = stack.enter_context(daemon(base))
        shell = stack.enter_context(
            subprocess.Popen(
                ["virsh", "-c", uri],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(errors.open("wb")),
                env=ENVIRONMENT,
            )
        )
        assert shell.stdin
        assert shell.stdout
        stack.callback(shell.stdin.close)
        seen = 0

        def one(command: list[str]) -> Answer:
            nonlocal seen
            line = shlex.join(command)
            if len(line) > 200 or not (line.isascii() and line.isprintable()):
                return virsh_once(uri, [command])
            shell.stdin.write(f"{line}\necho {DONE}\n".encode())
            shell.stdin.flush()
            out = b""
            while not out.endswith(f"\n{DONE}\n".encode()):
                part = shell.stdout.readline()
                if not part:
                    raise oracle.OracleError(f"virsh has ended at: {line}")
                out += part
            echoed = f"virsh # {line}\n", f"virsh # echo {DONE}\n{DONE}\n"
            text = out.decode("utf-8", "surrogateescape")
            text = text[text.index(echoed[0]) + len(echoed[0]) :].removesuffix(echoed[1])
            err = errors.read_bytes()[seen:]
            seen += len(err)
            return Answer(int(b"error: " in err), text, err.decode("utf-8", "surrogateescape"))

        def ask(commands: list[list[str]]) -> Answer:
            return joined([one(command) for command in commands])

        yield ask


@contextlib.contextmanager
def daemon(base: Path) -> Iterator[str]:
    """Run a libvirtd in name spaces of its own, and give the URI that leads to it."""
    run = base / "daemon"
    run.mkdir()
    uri = f"qemu:///system?socket={run}/libvirt-sock"
    argv = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
    argv += ["bash", "-c", DAEMON, "bash", str(run)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while virsh_once(uri, [["pool-list"]]).status:
            if process.poll() is not None or time.monotonic() > deadline:
                raise oracle.OracleError("libvirtd does not start")
            time.sleep(0.1)
        yield uri
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def ours(base: Path) -> Iterator[Program]:
    """Give storagectl, in this process."""

    def ask(commands: list[list[str]]) -> Answer:
        return joined([storagectl(base / "root", *command) for command in commands])

    yield ask


def joined(answers: list[Answer]) -> Answer:
    """Return the answers to several commands as one, as virsh's own is."""
    return Answer(
        answers[-1].status,
        "".join(answer.stdout for answer in answers),
        "".join(answer.stderr for answer in answers),
    )


# --- the run -----------------------------------------------------------------------------------


class Kind(NamedTuple):
    """The commands for a kind of object; they get its name last."""

    define: list[str]
    dump: list[list[str]]
    remove: list[str]
    defined: str


POOL = Kind(
    ["pool-define"],
    [["pool-dumpxml", "--inactive", "--pool"]],
    ["pool-undefine", "--pool"],
    "Pool (.*) defined from ",
)
# refreshed, since right after its creation virsh shows what the document has said
VOLUME = Kind(
    ["vol-create", "vols"],
    [["pool-refresh", "vols"], ["vol-dumpxml", "--pool", "vols", "--vol"]],
    ["vol-delete", "--pool", "vols", "--vol"],
    "Vol (.*) created from ",
)


def named(commands: list[list[str]], name: str) -> list[list[str]]:
    return [*commands[:-1], [*commands[-1], name]]


class Taken(NamedTuple):
    """What one program dumped of a document, and what the other one made of that."""

    document: str
    dump: str
    again: str


class Run:
    """All documents with one program; `other` is one that gets its dumps."""

    def __init__(self, ask: Program, base: Path, other: Program | None = None) -> None:
        self.ask = ask
        self.other = other
        self.base = base
        self.taken: list[Taken] = []
        self.records: list[oracle.Record] = []
        self.kept: dict[str, Kind] = {}
        self.running: list[str] = []

    def play(self) -> list[oracle.Record]:
        target = self.base / "vols"
        target.mkdir()
        for ask in filter(None, (self.ask, self.other)):
            self.must(
                ["pool-define-as", "vols", "dir", "--target", str(target)],
                ["pool-start", "vols"],
                ask=ask,
            )
        for _, group in itertools.groupby(documents(), key=lambda document: document.group):
            for document in group:
                self.one(document)
            self.clear()
        return self.records

    def clear(self) -> None:
        for name in self.running:
            self.must(["pool-destroy", name])
        for name, kind in self.kept.items():
            self.must([*kind.remove, name])
        self.kept, self.running = {}, []

    def one(self, document: Document) -> None:
        kind = VOLUME if document.group == VOLUMES else POOL
        path = self.base / "document.xml"
        text = ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), document.text)
        path.write_bytes(text.replace(b"{run}", str(self.base).encode()))

        if not document.flags:
            answer = self.ask([[*kind.define, str(path), "--validate"]])
            self.record(document, ["--validate"], answer)
            if answer.status == 0:
                self.must([*kind.remove, self.name_in(kind, answer)])

        answer = self.ask([[*kind.define, str(path)]])
        if answer.status == 0:
            answer = self.follow(document, kind, answer)
        self.record(document, [], answer)

    def follow(self, document: Document, kind: Kind, answer: Answer) -> Answer:
        """Return what was answered and the dump, of what has come of a document."""
        name = self.name_in(kind, answer)
        if document.flags:
            self.kept[name] = kind
        if "start" in document.flags:
            self.must(["pool-start", name])
            self.running.append(name)
            return answer
        dump = self.ask(named(kind.dump, name))
        path = self.base / "dump.xml"
        text = dump.stdout[max(dump.stdout.find("<"), 0) :]
        path.write_text(text, errors="surrogateescape")
        if kind is VOLUME:
            self.must([*kind.remove, name])
        if self.other:
            self.taken.append(self.pass_on(self.other, document, kind, path, text))
        again = self.ask([[*kind.define, str(path)], *named(kind.dump, name)])
        if not document.flags:
            self.must([*kind.remove, name])
        if normal(again.stdout[max(again.stdout.find("<"), 0) :]) == normal(text):
            again = Answer(0, "the same from its dump\n", again.stderr)
        return Answer(
            max(dump.status, again.status),
            answer.stdout + dump.stdout + again.stdout,
            answer.stderr + dump.stderr + again.stderr,
        )

    def pass_on(self, ask: Program, document: Document, kind: Kind, path: Path, dump: str) -> Taken:
        """Have the other program define a dump; it dumps it in turn, and removes it."""
        self.must(["pool-refresh", "vols"], ask=ask)
        answer = ask([[*kind.define, str(path)]])
        text = answer.stderr
        if answer.status == 0:
            name = self.name_in(kind, answer)
            answer = ask(named(kind.dump, name))
            text = answer.stdout[max(answer.stdout.find("<"), 0) :]
            self.must([*kind.remove, name], ask=ask)
        if kind is VOLUME:  # a file of its own, with times of its own
            dump, text = normal(dump), normal(text)
        return Taken(f"{document.group}/{document.name}", dump, text)

    def name_in(self, kind: Kind, answer: Answer) -> str:
        found = re.match(kind.defined, answer.stdout, re.DOTALL)
        assert found, answer
        return found[1]

    def must(self, *commands: list[str], ask: Program | None = None) -> None:
        answer = (ask or self.ask)(list(commands))
        if answer.status:
            raise oracle.OracleError(f"{commands}: {answer.stderr}")

    def record(self, document: Document, options: list[str], answer: Answer) -> None:
        command = "vol-create" if document.group == VOLUMES else "pool-define"
        stdout, stderr = (
            SCHEMA.sub(r"\1<schemas>/\2\n", text.replace(str(self.base), "<run>"))
            for text in (answer.stdout, answer.stderr)
        )
        n = len(self.records) + 1
        argv = [command, f"{document.group}/{document.name}", *options]
        record = oracle.Record(n, 0, "command", "", argv, answer.status, stdout, stderr)
        self.records.append(oracle.normalise(record))


def normal(text: str) -> str:
    return oracle.normalise(oracle.Record(0, 0, "", "", [], 0, text, "")).stdout


def run(
    program: Callable[[Path], contextlib.AbstractContextManager[Program]],
) -> list[oracle.Record]:
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="corpus-", dir=SCRATCH))
        base = Path(name)
        return Run(stack.enter_context(program(base)), base).play()


def exchange(
    giver: Callable[[Path], contextlib.AbstractContextManager[Program]],
    taker: Callable[[Path], contextlib.AbstractContextManager[Program]],
) -> list[Taken]:
    """Give each definition that one program accepts, as it dumps it, to the other."""
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="corpus-", dir=SCRATCH))
        base = Path(name)
        ask, other = (stack.enter_context(program(base)) for program in (giver, taker))
        run = Run(ask, base, other)
        run.play()
        return run.taken


def recording(version: str) -> Path:
    return FOLDER / f"recorded-virsh-{version}.jsonl"


def reference(*, recorded: bool = False) -> tuple[str, list[oracle.Record]]:
    """What virsh answers, and a word for where that comes from."""
    version = None if recorded else oracle.virsh_version()
    if version is not None:
        return f"live virsh {version}", run(virsh_shell)
    version, records = oracle.load(sorted(FOLDER.glob("recorded-virsh-*.jsonl"))[-1], digest())
    return f"recorded virsh {version}", records


def repaired(records: list[oracle.Record]) -> list[oracle.Record]:
    """What virsh answers where --validate of volumes works.

    In 9.0.0 it fails with these words for each volume that is as its schema says (mended in
    11.3): the answer is then that to the same document without --validate, which comes next.
    """
    found = []
    for record, plain in zip(records, [*records[1:], *records[:1]], strict=True):
        if VALIDATE_BUG in record.stderr:
            stdout = plain.stdout.partition("\n\n")[0] + "\n\n" if not plain.status else "\n"
            record = dataclasses.replace(
                record, status=plain.status, stdout=stdout, stderr=plain.stderr
            )
        found.append(record)
    return found


def compare(expected: list[oracle.Record]) -> oracle.Report:
    return oracle.compare(repaired(expected), run(ours), oracle.load_intended(INTENDED))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("act", choices=("record", "compare"))
    parser.add_argument("--recorded", action="store_true", help="don't ask a live virsh")
    parser.add_argument("--suggest", metavar="FILE", help="write drafts for intended.toml")
    options = parser.parse_args()
    if options.act == "record":
        version = oracle.virsh_version()
        if version is None:
            raise oracle.OracleError("no virsh and libvirtd of the same version")
        oracle.save(recording(version), version, run(virsh), digest())
        return 0
    source, expected = reference(recorded=options.recorded)
    report = compare(expected)
    report.source = source
    print(report.text())
    if options.suggest:
        drafts = [oracle.as_entry(theirs, mine) for theirs, mine in report.open]
        Path(options.suggest).write_text("\n".join(drafts))
    return 0 if report.good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except oracle.OracleError as error:
        print(f"corpus: {error}", file=sys.stderr)
        sys.exit(2)
