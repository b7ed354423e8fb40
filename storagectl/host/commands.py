"""The host's commands: every process is started here.

`query` reads, `change` alters; the caller says which it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import (
    StorageError,
    SystemFailure,
    ToolFailed,
    ToolMissing,
    ToolTalkative,
    ToolTimeout,
)
from storagectl.host.files import system_errors

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from storagectl.host.asking import Question

# Where the host's tools are, whatever the caller's PATH says.
TOOL_PATH = (
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
)  # fmt: skip

# Debian's package of each tool; other distributions use the same or a similar name.
PACKAGES = {
    "blockdev": "util-linux",
    "dmsetup": "dmsetup",
    "iscsiadm": "open-iscsi",
    "lvcreate": "lvm2",
    "lvextend": "lvm2",
    "lvreduce": "lvm2",
    "lvremove": "lvm2",
    "lvrename": "lvm2",
    "lvs": "lvm2",
    "mkfs": "util-linux",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext2": "e2fsprogs",
    "mkfs.ext3": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.gfs2": "gfs2-utils",
    "mkfs.hfsplus": "hfsprogs",
    "mkfs.ocfs2": "ocfs2-tools",
    "mkfs.udf": "udftools",
    "mkfs.ufs": "ufsutils",
    "mkfs.vfat": "dosfstools",
    "mkfs.xfs": "xfsprogs",
    "mount": "mount",
    "mount.cifs": "cifs-utils",
    "mount.glusterfs": "glusterfs-client",
    "mount.nfs": "nfs-common",
    "parted": "parted",
    "pvcreate": "lvm2",
    "pvremove": "lvm2",
    "pvs": "lvm2",
    "qemu-img": "qemu-utils",
    "scrub": "scrub",
    "showmount": "nfs-common",
    "udevadm": "udev",
    "umount": "mount",
    "vgchange": "lvm2",
    "vgcreate": "lvm2",
    "vgremove": "lvm2",
    "vgs": "lvm2",
    "wipefs": "util-linux",
}

# The devices that may be changed, where it is set: see `permitted`.
TEST_DEVICES = "STORAGECTL_TEST_DEVICES"

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Seconds, by the names of config.TIME_LIMITS: nothing that works takes as long.
QUERY_LIMIT_S = 120.0

LIMITS = {"query": QUERY_LIMIT_S, "command": 1800.0, "format": 86_400.0, "copy": 604_800.0}

# What takes its time with the size of a volume.
KINDS = {"mkfs": "format", "qemu-img": "copy", "scrub": "copy"}

END_S = 3.0

END_POLL_S = 0.02


class Bounds(NamedTuple):
    """What a tool may use that reads what somebody else has made: bytes of memory, CPU seconds."""

    memory: int
    cpu_s: int

    def enforce(self) -> None:
        """Bind this process and all it starts.  Source: setrlimit(2)."""
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (self.memory, self.memory))
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_s, self.cpu_s + 1))


class CommandHost:
    """The commands of the machine that storagectl runs on, and what a dry run is told of them."""

    plans = False

    """Whether changes are only planned, as in a dry run."""

    device_access = os.O_RDWR

    def __init__(
        self,
        limits: Mapping[str, float] | None = None,
        tool_path: Sequence[str] = TOOL_PATH,
    ) -> None:
        # seconds that the user has configured, by the names of config.TIME_LIMITS
        self.limits = limits or {}
        self.tool_path = tool_path
        self.questions: dict[str, Question] = {}
        self.mounts_asked = ""
        self.foreseen: Iterable[str] = ()
        # folders, and when each was swept, by time.monotonic()
        self.swept: dict[str, float] = {}
        self.inherited: set[int] = set()
        self.heed: Callable[[list[str]], None] | None = None
        """heed(argv): told of each command before it runs."""
        self.warn: Callable[[str], None] = lambda text: None
        """warn(text): told of what is wrong and keeps nothing from being done."""

    def query(
        self,
        argv: Sequence[str],
        *,
        ok: Sequence[int] = (0,),
        limit_s: float | None = None,
        bounds: Bounds | None = None,
    ) -> str:
        """Run a tool that only reads, within `bounds`, and return its stdout.

        Raises: ToolMissing, ToolFailed when the exit status is not in `ok`, ToolTimeout
        when it has not ended within `limit_s`, by default that of its kind.
        """
        limit_s = limit_s or self._limit_of(argv[0], "query")
        return self._run(list(argv), ok, limit_s, bounds=bounds)

    def change(
        self,
        argv: Sequence[str],
        *,
        ok: Sequence[int] = (0,),
        limit_s: float | None = None,
        heard: Callable[[bytes], None] | None = None,
        bounds: Bounds | None = None,
    ) -> str:
        """Run a tool that alters the machine, within `bounds`, and return its stdout.

        With `heard` what it prints is told at once instead.
        Raises: ToolMissing, ToolFailed when the exit status is not in `ok`, ToolTimeout
        when it has not ended within `limit_s`, by default that of its kind.
        """
        if TEST_DEVICES in os.environ:
            from storagectl.host import permitted

            permitted.require_all(argv, self.query)
        limit_s = limit_s or self._limit_of(argv[0], "command")
        return self._run(list(argv), ok, limit_s, heard, bounds)

    def _limit_of(self, tool: str, kind: str) -> float:
        """Return how many seconds a tool may take by default, for what it is run for."""
        kind = KINDS.get(os.path.basename(tool).partition(".")[0], kind)
        return self.limits.get(kind, LIMITS[kind])

    def try_change(self, argv: Sequence[str], *, limit_s: float | None = None) -> None:
        """Run a tool that alters the machine; that it fails is no error."""
        with contextlib.suppress(StorageError):
            self.change(argv, limit_s=limit_s)

    def expect(self, what: str) -> bool:
        """In a dry run, note that what has been planned makes a folder, a device or the like.

        Returns: whether it is a dry run, where nothing of it can be looked at.
        """
        return False

    def expects(self, what: str) -> bool:
        """Tell whether a dry run has planned to make something, or the folder that it is in."""
        return False

    def expected_at(self, name: str) -> str:
        """Return the path of what a dry run has planned under a name."""
        raise NotImplementedError

    def planned(self, name: str) -> str:
        """Return what a dry run has planned, as a script; `name` is that of the command."""
        raise NotImplementedError

    def plan_tries(self, argv: Sequence[str], tries: int) -> None:
        """In a dry run, plan a command that makes a file and may succeed only later."""
        raise NotImplementedError

    def plan_with_secret(self, what: str, lines: Sequence[str]) -> None:
        """In a dry run, plan lines of bash that use a secret as "$secret"."""
        raise NotImplementedError

    def attempt(self) -> contextlib.AbstractContextManager[None]:
        """In a dry run, plan nothing of a block that fails."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def secret_file(self, value: bytes, what: str = "a secret") -> Iterator[str]:
        """Give the path of a file in memory that only the tools run meanwhile have.

        `what` tells people which secret it is.
        """
        fd = os.memfd_create("secret")
        try:
            with open(fd, "wb", closefd=False) as stream:
                stream.write(value)
            self.inherited.add(fd)
            yield f"/proc/self/fd/{fd}"
        finally:
            self.inherited.discard(fd)
            os.close(fd)

    @contextlib.contextmanager
    def lent(self, fd: int, path: str) -> Iterator[str]:
        """Give a name of an open file that leads the tools run meanwhile to no other file.

        Its own, `path`, may be that of a link by now.
        """
        self.inherited.add(fd)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            self.inherited.discard(fd)

    def converse(self, argv: Sequence[str]) -> None:
        """Run a program that talks to the user on the terminal, such as an editor.

        It is the user's own choice, found by the user's PATH, and has the user's environment.
        Raises: ToolMissing, ToolFailed.
        """
        import shutil
        import subprocess

        program = argv[0] if "/" in argv[0] else shutil.which(argv[0])
        if program is None or "/" not in program:
            raise missing(argv[0])
        if self.heed is not None:
            self.heed([program, *argv[1:]])
        with system_errors(f"cannot execute binary {program}"):
            status = subprocess.run([program, *argv[1:]], check=False).returncode
        if status != 0:
            raise ToolFailed(list(argv), status, "")

    def find_tool(self, name: str) -> str:
        """Return the absolute path of a host tool.  Raises: ToolMissing."""
        if "/" in name:
            return name
        for folder in self.tool_path:
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
        raise missing(name)

    def is_root(self) -> bool:
        """Tell whether we may do what the kernel reserves to root."""
        return os.geteuid() == 0

    def has_tool(self, name: str) -> bool:
        """Tell whether a host tool is installed."""
        try:
            self.find_tool(name)
        except ToolMissing:
            return False
        return True

    def _run(
        self,
        argv: list[str],
        ok: Sequence[int],
        limit_s: float,
        heard: Callable[[bytes], None] | None = None,
        bounds: Bounds | None = None,
    ) -> str:
        argv[0] = self.find_tool(argv[0])
        status, stdout, stderr = self._spawn(argv, limit_s, heard, bounds)
        if status not in ok:
            raise ToolFailed(argv, status, stderr)
        return stdout

    def _spawn(
        self,
        argv: list[str],
        limit_s: float | None = None,
        heard: Callable[[bytes], None] | None = None,
        bounds: Bounds | None = None,
    ) -> tuple[int, str, str]:
        """Run argv, the only place that does; return exit status, stdout and stderr.

        The child has the C locale, no stdin, no terminal, nothing of our environment and
        none of our descriptors but those of secret files.
        An exception that arrives meanwhile (Ctrl-C), or `limit_s`, first ends it and what
        it has started.
        """
        import subprocess

        from storagectl.host import child

        if self.heed is not None:
            self.heed(argv)
        environment = {"PATH": os.pathsep.join(self.tool_path), "LC_ALL": "C"}
        arrived: list[int] = []
        try:
            with signals_kept(arrived):
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environment,
                    start_new_session=True,
                    pass_fds=tuple(self.inherited),
                    preexec_fn=bounds.enforce if bounds else None,
                )
        except OSError as error:
            raise SystemFailure(f"cannot run '{argv[0]}': {error.strerror}") from error
        try:
            for number in arrived:
                os.kill(os.getpid(), number)
            if heard is not None:
                tell_at_once(process, heard)
            stdout, stderr = child.gather(process, limit_s)
        except BaseException as error:
            end_group(process)
            child.close([stream for stream in (process.stdout, process.stderr) if stream])
            if isinstance(error, TimeoutError) and limit_s is not None:
                raise ToolTimeout(argv, limit_s) from None
            if isinstance(error, child.TooMuch):
                raise ToolTalkative(argv, child.MOST_OUTPUT) from None
            raise
        return process.returncode, stdout, stderr


def require_permitted(path: str) -> None:
    """Refuse a block device that STORAGECTL_TEST_DEVICES, where that is set, does not name."""
    if TEST_DEVICES in os.environ:
        from storagectl.host import permitted

        permitted.require(path)


def missing(tool: str) -> ToolMissing:
    """Return the error for a tool that is not installed; the hint names its package."""
    package = PACKAGES.get(tool)
    return ToolMissing(
        f"Cannot find '{tool}' in path: No such file or directory",
        hint=f"install the package {package}" if package else "",
    )


@contextlib.contextmanager
def signals_kept(arrived: list[int]) -> Iterator[None]:
    """Only note the signals that end the program: what nobody knows of yet can't be cleaned up."""

    def note(number: int, frame: object) -> None:
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    ours = {number: handler for number, handler in before.items() if callable(handler)}
    for number in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off the signals that end the program until the block is over."""
    arrived: list[int] = []
    try:
        with signals_kept(arrived):
            yield
    finally:
        for number in arrived:
            os.kill(os.getpid(), number)


def tell_at_once(process: subprocess.Popen[bytes], heard: Callable[[bytes], None]) -> None:
    """Have a thread tell what a child prints, in the child's own pieces."""
    import threading

    stream, process.stdout = process.stdout, None
    assert stream is not None

    def listen() -> None:
        with stream:
            while chunk := os.read(stream.fileno(), 4096):
                heard(chunk)

    threading.Thread(target=listen, daemon=True).start()


def end_group(leader: subprocess.Popen[bytes]) -> None:
    """End a child and all it has started, such as mount(8) its helper, and wait for that.

    TERM comes first: LVM's tools finish what must not be cut.  What hangs in the kernel
    is left to itself after a while.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + END_S
        try:
            os.killpg(leader.pid, number)
            while time.monotonic() < deadline:
                leader.poll()
                time.sleep(END_POLL_S)
                os.killpg(leader.pid, 0)
        except (ProcessLookupError, PermissionError):
            return
