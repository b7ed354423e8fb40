"""The seam to the machine: every process is started here, every lasting change is made here.

`query` reads, `change` alters; the caller says which it is.  Data of volumes is
moved by `storagectl.host.bulk` on descriptors that were opened here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from storagectl.errors import (
    OperationFailed,
    ResourceBusy,
    StorageError,
    SystemFailure,
    ToolFailed,
    ToolMissing,
    ToolTalkative,
    ToolTimeout,
)
from storagectl.host import mounts
from storagectl.host.files import (
    FS_IOC_SETFLAGS,
    LABEL,
    NOCOW,
    STAGED_LOCK,
    VOLUME_LOCK,
    acting_as,
    attributes_of,
    content,
    flags_of,
    has_flag,
    holder_of,
    is_at,
    is_open_once,
    is_staged,
    lock_byte,
    locked,
    no_cow_flag,
    open_file,
    staged_path,
    system_errors,
    wiped,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from storagectl.host.asking import Question
    from storagectl.host.bulk import Mover

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

ANSWER_WAIT_S = 10.0
END_S = 3.0
END_POLL_S = 0.02

# How the names of file systems begin that a server, or a process, has to answer for.
SERVED = ("9p", "afs", "ceph", "cifs", "fuse", "lustre", "nfs", "smb")

# Source: linux/prctl.h.
PR_SET_DUMPABLE = 4

# How long udev may have a disk locked: while it looks for what is on it after a change.
# Source: systemd, "Locking Block Device Access".
UDEV_PATIENCE_S = 10.0
# Of a definition, in bytes.
LARGEST_FILE = 10 << 20


class Bounds(NamedTuple):
    """What a tool may use that reads what somebody else has made: bytes of memory, CPU seconds."""

    memory: int
    cpu_s: int

    def enforce(self) -> None:
        """Bind this process and all it starts.  Source: setrlimit(2)."""
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (self.memory, self.memory))
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_s, self.cpu_s + 1))


class Host:
    """The machine that storagectl runs on."""

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

    def scratch(self, parent: str) -> contextlib.AbstractContextManager[str]:
        """Give a new folder below `parent` for a file that such a program works on.

        Raises: SystemFailure.
        """
        from storagectl.host import scratch

        return scratch.scratch(parent)

    def sweep_scratch(self, parent: str) -> None:
        """Remove such folders of processes that were killed."""
        with contextlib.suppress(OSError):
            if any(map(is_staged, os.listdir(parent))):
                from storagectl.host import scratch

                scratch.sweep(parent)

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

    def asks_together(self, paths: Iterable[str]) -> None:
        """Foresee that `responds` is asked about these paths: with the first one all are.

        They are not looked at before that.
        """
        self.foreseen = paths

    def responds(self, path: str) -> bool:
        """Tell whether the file system at a path answers within ANSWER_WAIT_S.

        That of a server which is gone may never, and whoever asks waits with it, deaf to
        Ctrl-C.  Where nothing is mounted from a server nothing is asked, and what has not
        answered not again, until something else is mounted or unmounted.
        """
        mounts = self.mounts()
        if mounts != self.mounts_asked:
            self.mounts_asked = mounts
            self.questions.clear()
        if not any_served(mounts):
            return True
        from storagectl.host.asking import Question

        limit = self.limits.get("answer", ANSWER_WAIT_S)
        for place in {path, *self.foreseen}:
            if place not in self.questions:
                self.questions[place] = Question(partial(os.statvfs, place), limit)
        self.foreseen = ()
        answers = self.questions[path].is_answered()
        if answers:
            del self.questions[path]
        return answers

    def mounts(self) -> str:
        """Return what is mounted, as /proc/self/mountinfo tells it; stray bytes are surrogates."""
        try:
            return mounts.mounts()
        except OSError as error:
            raise SystemFailure(f"cannot read '{mounts.PATH}': {error.strerror}") from error

    def read_text(self, path: str) -> str:
        """Return the content of a file of the kernel's; stray bytes are surrogates."""
        with (
            system_errors(f"cannot read '{path}'"),
            open(path, encoding="utf-8", errors="surrogateescape") as stream,
        ):
            return stream.read()

    def read_file(self, path: str) -> bytes:
        """Return the content of a file of ours.  Raises: OSError.

        Nothing is waited for, and nothing without end is read: a pipe or a device is none, nor is
        what others than its owner and root may have written.
        """
        return content(path, require_ours)

    def list_folder(self, path: str) -> list[str]:
        """Return the names in a folder of ours.  Raises: OSError."""
        return os.listdir(path)

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder at a path."""
        return os.path.isdir(path)

    def addresses(self, name: str) -> set[str]:
        """Return the addresses of a host by name, none where it is not known."""
        import socket

        with contextlib.suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            return {str(entry[4][0]) for entry in found}
        return set()

    def require_reachable(self, name: str, port: int, seconds: float) -> None:
        """Raise OperationFailed unless a TCP port of a host answers within that time."""
        import socket

        try:
            socket.create_connection((name, port), timeout=seconds).close()
        except (OSError, UnicodeError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise OperationFailed(f"cannot reach '{name}' at port {port}: {cause}") from error

    def unreachable(
        self, ports: Iterable[tuple[str, int]], seconds: float
    ) -> dict[tuple[str, int], str]:
        """Return why ports of hosts do not answer within that time, all asked at once."""
        from storagectl.host.asking import Question

        asked = {
            port: Question(partial(self.require_reachable, *port, seconds), seconds)
            for port in ports
        }
        found = {}
        for (name, port), question in asked.items():
            if not question.is_answered():
                found[name, port] = f"cannot reach '{name}' at port {port}: timed out"
            elif isinstance(question.error, StorageError):
                found[name, port] = question.error.detail
        return found

    def tell_kernel(self, path: str, text: str, failure: str) -> None:
        """Write to a file of the kernel's; `failure` is what the error says before the cause."""
        with system_errors(failure):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)

    def write_atomic(self, path: str, text: str, mode: int = 0o600) -> None:
        """Write a whole file so that after a crash it is the old one or the new one.

        Source: rename(2) with fsync(2) of the file before and of its folder after.
        """
        with (
            system_errors(f"cannot write '{path}'"),
            self._staging(os.path.dirname(path), mode) as (temporary, fd),
        ):
            os.fchmod(fd, mode)
            with open(fd, "w", encoding="utf-8", errors="surrogateescape", closefd=False) as stream:
                stream.write(text)
            os.fsync(fd)
            self._put(temporary, path)

    def write_secret(self, path: str, value: bytes, what: str, *, old: str | None = None) -> None:
        """Write a secret's value, in base64; `what` tells people which, `old` where it is kept."""
        import base64

        with wiped(path):
            self.write_atomic(path, base64.b64encode(value).decode())

    def remove_secret(self, *paths: str) -> None:
        """Overwrite and unlink the files of a secret that are there, all or none."""
        from storagectl.host import lasting

        with (
            contextlib.ExitStack() as stack,
            system_errors(f"cannot unlink file '{paths[0]}'"),
            uninterrupted(),
        ):
            for path in paths:
                stack.enter_context(wiped(path))
            lasting.remove(list(paths), self.warn)

    def keep_out_of_core_dumps(self) -> None:
        """Have no dump of our memory, or of that of the tools run from now on, written.

        A limit of 0 does not hold where dumps go to a program, one of 1 does.
        Source: core(5); Linux fs/coredump.c; linux/prctl.h, PR_SET_DUMPABLE.
        """
        import resource

        from storagectl.host import libc

        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        libc.function("prctl")(PR_SET_DUMPABLE, 0, 0, 0, 0)

    def make_folder(self, path: str, mode: int) -> bool:
        """Make a folder with exactly `mode`; False where it stood already."""
        with system_errors(f"cannot create directory '{path}'"):
            try:
                os.mkdir(path, mode)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise
                return False
            try:
                if stat.S_IMODE(os.stat(path).st_mode) != mode:
                    os.chmod(path, mode)  # what the umask has taken
            except BaseException:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                raise
            return True

    def make_parents(self, path: str) -> list[str]:
        """Make the folders above `path`, for all to look into whatever the umask is, or none.

        Returns: those that were missing, the deepest first.
        """
        wanted: list[str] = []
        folder = os.path.dirname(path)
        while not os.path.isdir(folder) and not (wanted and os.path.lexists(folder)):
            wanted.append(folder)
            folder = os.path.dirname(folder)
        try:
            with system_errors(f"cannot create path '{path}'"):
                for folder in reversed(wanted):
                    try:
                        os.mkdir(folder, 0o755)
                    except FileExistsError:
                        if not os.path.isdir(folder):
                            raise
                    else:
                        os.chmod(folder, 0o755)
        except BaseException:
            self.unmake(wanted)
            raise
        return wanted

    def unmake(self, folders: Sequence[str]) -> None:
        """Remove folders that were made for something that failed; what is in use stays."""
        for path in folders:
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def set_owner_and_mode(
        self, path: str, owner: int | None, group: int | None, mode: int | None
    ) -> None:
        """Change what is given of a file's owner, group and mode, never through a symlink.

        Nor those of a file that has another name too: who may write to the folder could have
        put a link to somebody else's there.
        """
        with system_errors(f"cannot change permissions of '{path}'"):
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            try:
                status = os.fstat(fd)
                if stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
                    raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
                place = f"/proc/self/fd/{fd}"
                if owner is not None or group is not None:
                    os.chown(place, -1 if owner is None else owner, -1 if group is None else group)
                if mode is not None:
                    os.chmod(place, mode)
            finally:
                os.close(fd)

    def set_label(self, path: str, label: str) -> None:
        """Give a file its security label, never through a symlink.

        It keeps the one it has where the file system has none or the user may not.
        Source: selinux(8), the attribute security.selinux of xattr(7).
        """
        with system_errors(f"cannot change the security label of '{path}'"):
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            try:
                os.setxattr(f"/proc/self/fd/{fd}", LABEL, os.fsencode(label) + b"\0")
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
                    raise
            finally:
                os.close(fd)

    def set_nocow(self, path: str, cow: str | None) -> None:
        """Set a folder's no-copy-on-write flag as a pool's <cow state=> says.

        "no" sets it, "yes" clears it, None sets it where the file system has it.
        Source: libvirt 9.0.0 virFileSetCOW in src/util/virfile.c.
        """
        with system_errors(f"cannot open directory '{path}'"):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._change_flag(fd, NOCOW, wanted=True)
            if cow == "yes":
                self._change_flag(fd, NOCOW, wanted=False)
        except OSError as error:
            if cow is not None:
                raise no_cow_flag(path) from error
        finally:
            os.close(fd)

    def set_nocow_of(self, fd: int, path: str) -> None:
        """Set the no-copy-on-write flag of an empty file, which is to be called `path`."""
        try:
            self._change_flag(fd, NOCOW, wanted=True)
        except OSError as error:
            raise no_cow_flag(path) from error

    def _make_alike(self, fd: int, other: str | int, status: os.stat_result) -> None:
        """Give an empty file of ours what can be given of another's owner, mode and attributes."""
        with contextlib.suppress(PermissionError):
            os.fchown(fd, status.st_uid, status.st_gid)
        for name in attributes_of(other):
            with contextlib.suppress(OSError):
                os.setxattr(fd, name, os.getxattr(other, name))
        if has_flag(other, NOCOW):
            self._change_flag(fd, NOCOW, wanted=True)
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, stat.S_IMODE(status.st_mode))

    def _change_flag(self, fd: int, flag: int, *, wanted: bool) -> None:
        import fcntl
        import struct

        flags = flags_of(fd)
        changed = flags | flag if wanted else flags & ~flag
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", changed))

    def rename(self, path: str, new: str) -> None:
        """Give a file or folder another name in its folder, as its owner where root may not.

        Raises: FileExistsError where something has the name: that is never replaced.
        """
        from storagectl.host import lasting

        with (
            system_errors(f"cannot rename '{path}' to '{new}'", passing=(FileExistsError,)),
            uninterrupted(),
        ):
            try:
                lasting.rename(path, new, self.warn)
            except PermissionError:
                status = os.lstat(path)
                with acting_as(status.st_uid, status.st_gid):
                    lasting.rename(path, new, self.warn)

    def remove(self, path: str, *, missing_ok: bool = False, lasts: bool = False) -> None:
        """Unlink a file, so that it does not come back when the power goes off where it `lasts`."""
        with system_errors(f"cannot unlink file '{path}'"), uninterrupted():
            try:
                if lasts:
                    from storagectl.host import lasting

                    os.lstat(path)
                    lasting.remove([path], self.warn)
                else:
                    os.unlink(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def remove_folder(self, path: str, failure: str) -> None:
        """Remove an empty folder; `failure` is what the error says before the cause."""
        with system_errors(failure):
            os.rmdir(path)

    def link(self, target: str, path: str) -> None:
        """Make a symbolic link, also in place of one that leads elsewhere."""
        from storagectl.host import lasting

        with system_errors(f"Failed to create symlink '{path}' to '{target}'"), uninterrupted():
            lasting.link(target, path, self.warn)

    @contextlib.contextmanager
    def opened(self, path: str, *, write: bool = False, follow: bool = False) -> Iterator[int]:
        """Open a volume and lock it, shared for reading and alone for writing.

        For writing nothing is opened through a symlink, but with `follow`, which is for
        the stable links of devices, and no block device that is mounted or held otherwise.

        Raises: OSError; ResourceBusy when another process is working on it.
        """
        import fcntl

        flags = os.O_RDONLY | os.O_CLOEXEC
        is_block = False
        if write:
            path = os.path.realpath(path) if follow else path
            is_block = stat.S_ISBLK(os.lstat(path).st_mode)
            require_permitted(path)
            access = self.device_access | os.O_EXCL if is_block else os.O_RDWR
            flags = access | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = open_file(path, flags | os.O_NONBLOCK)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISBLK(mode) and (is_block or not stat.S_ISREG(mode)):
                raise OSError(errno.EINVAL, "not a regular file or block device")
            if stat.S_ISBLK(mode):
                free = locked(fd, fcntl.LOCK_EX if write else fcntl.LOCK_SH, UDEV_PATIENCE_S)
            else:
                free = lock_byte(fd, VOLUME_LOCK, fcntl.F_WRLCK if write else fcntl.F_RDLCK)
            if not free:
                raise ResourceBusy(f"'{path}' is being worked on by {holder_of(fd)}")
            if not is_at(fd, path):
                raise ResourceBusy(f"'{path}' has just been replaced by another process")
            yield fd
        finally:
            os.close(fd)

    # Data of volumes, on descriptors that were opened here

    def mover(self, mover: Mover) -> Mover:
        """Return what moves data on this host, as `mover` would."""
        return mover

    @contextlib.contextmanager
    def open_staged(self, path: str) -> Iterator[int]:
        """Open a file that `staged` has made, for writing; not one that has another name too."""
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_nlink != 1:
                raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
            yield fd
        finally:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Set a file's size.  Raises: OSError, also for more than the system call can say."""
        try:
            os.ftruncate(fd, size)
        except OverflowError as error:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from error

    def allocate(self, fd: int, length: int, *, keep_size: bool = False) -> None:
        """Reserve disk space for the first bytes of a file.  Raises: OSError."""
        from storagectl.host import bulk

        bulk.allocate(fd, 0, length, keep_size=keep_size)

    def reflink(self, source: int, target: int, *, required: bool) -> bool:
        """Make a file share all blocks of another one.

        Returns: whether it does; where that is `required` it is an OSError if not.
        """
        from storagectl.host import bulk

        try:
            bulk.reflink(source, target)
        except OSError:
            if required:
                raise
            return False
        return True

    def complete(self, old: int, new: int, start: int) -> None:
        """Give a file that has `start` bytes the rest of an old one, and make it last."""
        from storagectl.host import bulk

        bulk.complete(old, new, start)
        os.fsync(new)

    def sync(self, fd: int) -> None:
        """Make what was written to a file last.  Raises: OSError."""
        os.fsync(fd)

    @contextlib.contextmanager
    def disk_locked(self, path: str) -> Iterator[str]:
        """Lock a disk against udev; yields who has it alone where that is another process.

        Source: systemd, "Locking Block Device Access".
        """
        import fcntl

        with system_errors(f"cannot open '{path}'"):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield "" if locked(fd, fcntl.LOCK_SH, UDEV_PATIENCE_S) else holder_of(fd)
        finally:
            os.close(fd)

    def may_replace(self, path: str, fd: int, length: int) -> bool:
        """Tell whether `replacing` suits an open file that `length` new bytes are for.

        Not where it has another name too, somebody else has it open, or its folder is not ours
        to write to; nor where there is room only in the blocks that it has already.
        """
        folder = os.path.dirname(path)
        if os.fstat(fd).st_nlink > 1:
            self.sweep(folder)  # a name may be left of who was killed
        status, space = os.fstat(fd), os.statvfs(folder)
        blocks = status.st_blocks * 512
        return (
            status.st_nlink == 1
            and (space.f_bavail * space.f_frsize > max(length, blocks) or length > blocks)
            and os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
            and is_open_once(fd)
        )

    @contextlib.contextmanager
    def replacing(self, path: str, old: int | None = None) -> Iterator[int]:
        """Open an empty file that takes the place of `path`, which is complete or as before.

        It gets the owner, mode and attributes of what was there.  What is no regular file,
        such as a pipe, is written in place, a device only when nobody uses it.  Links are
        followed, but not where an open file `old` is what is to be replaced.

        Raises: OSError; ResourceBusy when `old` is not what is at `path` any more.
        """
        try:
            status = os.stat(path) if old is None else os.fstat(old)
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            require_permitted(path)
            alone = os.O_EXCL if stat.S_ISBLK(status.st_mode) else 0
            fd = os.open(path, os.O_WRONLY | alone)
            try:
                yield fd
            finally:
                os.close(fd)
            return
        path = os.path.realpath(path) if old is None else path
        self.sweep(os.path.dirname(path))
        mode = 0o666 if status is None else 0o600
        with self._staging(os.path.dirname(path), mode) as (temporary, fd):
            if status is not None:
                self._make_alike(fd, path if old is None else old, status)
            yield fd
            if old is not None and not is_at(old, path, follow=False):
                raise ResourceBusy(f"'{path}' has just been replaced by another process")
            self._put(temporary, path)

    def zero_ranges(self, device: str, ranges: Sequence[tuple[int, int]]) -> None:
        """Write zeros over ranges (offset, length in bytes) of a device that nobody uses."""
        from storagectl.host import bulk

        with (
            system_errors(f"cannot zero '{device}'"),
            self.opened(device, write=True, follow=True) as fd,
        ):
            for offset, length in ranges:
                bulk.Mover().zero(fd, offset, length)

    @contextlib.contextmanager
    def staged(self, path: str, mode: int = 0o600) -> Iterator[str]:
        """Give a hidden empty file to fill; it becomes `path` when the block ends well.

        Whatever stands at `path` by then stays and FileExistsError is raised; after
        any other exception nothing is left.  The file is locked meanwhile, so that
        `sweep` knows what a killed process left behind.
        """
        from storagectl.host import lasting

        with self._staging(os.path.dirname(path), mode) as (temporary, fd):
            try:
                os.fchmod(fd, mode)
            except PermissionError:
                if os.fstat(fd).st_uid != os.geteuid():
                    raise
                # it is ours: the file system, such as vfat, has no modes to change
            yield temporary
            with uninterrupted():
                lasting.publish_new(temporary, path, self.warn)

    def _put(self, temporary: str, path: str) -> None:
        from storagectl.host import lasting

        with uninterrupted():
            lasting.put(temporary, path, self.warn)

    @contextlib.contextmanager
    def _staging(self, folder: str, mode: int) -> Iterator[tuple[str, int]]:
        """Give a hidden file and its descriptor; it goes unless it has got another name."""
        made = None
        try:
            with uninterrupted():
                made = self._stage(folder, mode)
            yield made
        except BaseException:
            if made is not None:
                with contextlib.suppress(OSError):
                    os.unlink(made[0])
            raise
        finally:
            if made is not None:
                os.close(made[1])

    def _stage(self, folder: str, mode: int) -> tuple[str, int]:
        """Make and lock a hidden file; return its path and descriptor.

        One that a sweep took for left over, before it was locked, is made anew.
        """
        import fcntl

        while True:
            temporary = staged_path(folder)
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            try:
                lock_byte(fd, STAGED_LOCK, fcntl.F_WRLCK, wait=True)
                if os.fstat(fd).st_nlink:
                    return temporary, fd
            except BaseException:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            os.close(fd)

    def sweep(self, folder: str, *, secret: bool = False) -> None:
        """Remove staged files of processes that were killed; what is `secret` is overwritten."""
        import fcntl

        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if not is_staged(name):
                    continue
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.path.islink(path):
                        os.unlink(path)
                        continue
                    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                    try:
                        if lock_byte(fd, STAGED_LOCK, fcntl.F_WRLCK):
                            with wiped(path) if secret else contextlib.nullcontext():
                                os.unlink(path)
                    finally:
                        os.close(fd)


def require_permitted(path: str) -> None:
    """Refuse a block device that STORAGECTL_TEST_DEVICES, where that is set, does not name."""
    if TEST_DEVICES in os.environ:
        from storagectl.host import permitted

        permitted.require(path)


def require_ours(status: os.stat_result) -> None:
    """Raise OSError for what is no file of ours, or may be somebody else's."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > LARGEST_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    of_another = status.st_uid and status.st_uid != os.geteuid()
    if of_another or status.st_mode & stat.S_IWOTH:
        mode = stat.S_IMODE(status.st_mode)
        raise OSError(
            errno.EPERM, f"others may have written it (owner {status.st_uid}, mode {mode:04o})"
        )


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


@lru_cache(maxsize=1)
def any_served(mounts: str) -> bool:
    """Tell whether something is mounted that a server, or a process, has to answer for."""
    return any(f" - {kind}" in mounts for kind in SERVED)
