"""An exec tracer: looks at the arguments and the environment of every program that starts.

    python tests/lab/tracer.py REPORT -- COMMAND...

runs the command, and writes to REPORT what of the machine's processes had a registered secret
in its arguments or environment meanwhile, and how many were looked at.  Its exit status is the
command's, or 70 where a secret was seen.

The kernel tells of each exec over a netlink socket, before the new program runs its first
instruction; with real-time priority we have looked at it before it can end.
Source: linux/cn_proc.h, linux/connector.h, proc(5).
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from typing import NamedTuple

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN = 1
PROC_EVENT_EXEC = 2
NLMSG_DONE = 3
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
NLMSG_HEADER = "=IHHII"
CN_MSG = "=IIIIHH"
EVENT_HEADER = "=IIQ"

SEEN = 70
# These get a password as an argument from tests that set up a server.
SERVERS = (b"tgtadm", b"targetcli")
SECRETS_FILE = os.environ.get("STORAGECTL_TEST_SECRETS", "/run/storagectl-test-secrets")


def register(secret: str) -> str:
    """Have the tracer, if one runs, look out for a secret.  Returns: the secret."""
    if os.path.exists(SECRETS_FILE):
        with open(SECRETS_FILE, "a") as stream:
            stream.write(secret + "\n")
    return secret


class Seen(NamedTuple):
    """A program that was started: what /proc told of it, nothing where it had ended by then."""

    pid: int
    arguments: bytes
    environment: bytes


class Tracer:
    """Collects what starts from now on, until `stop`."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.missed = 0
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.bind((0, CN_IDX_PROC))
        self._ask(PROC_CN_MCAST_LISTEN)
        self.ending = False
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _ask(self, operation: int) -> None:
        body = struct.pack(CN_MSG, CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0)
        body += struct.pack("=I", operation)
        size = struct.calcsize(NLMSG_HEADER) + len(body)
        self.socket.send(struct.pack(NLMSG_HEADER, size, NLMSG_DONE, 0, 0, os.getpid()) + body)

    def _listen(self) -> None:
        # the lowest of the real-time priorities is above that of all that is traced
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        start = struct.calcsize(NLMSG_HEADER) + struct.calcsize(CN_MSG)
        self.socket.settimeout(0.2)
        while True:
            try:
                message = self.socket.recv(4096)
            except TimeoutError:
                if self.ending:
                    return
                continue
            what, _, _ = struct.unpack_from(EVENT_HEADER, message, start)
            if what == PROC_EVENT_EXEC:
                offset = start + struct.calcsize(EVENT_HEADER)
                self._look(struct.unpack_from("=II", message, offset)[1])

    def _look(self, pid: int) -> None:
        try:
            found = Seen(pid, read(f"/proc/{pid}/cmdline"), read(f"/proc/{pid}/environ"))
        except OSError:
            self.missed += 1
        else:
            self.seen.append(found)

    def stop(self) -> None:
        """Look at what is still in the socket, and end."""
        self.ending = True
        self.thread.join()
        self.socket.close()

    def leaks(self, secrets: set[str]) -> list[str]:
        """Return a line for each program that had a secret where others could see it."""
        found = []
        for seen in self.seen:
            if any(name in seen.arguments for name in SERVERS):
                continue
            for secret in secrets:
                for what in ("arguments", "environment"):
                    if secret.encode() in getattr(seen, what):
                        shown = seen.arguments.replace(b"\0", b" ").decode(errors="replace")
                        found.append(f"{secret} in the {what} of {seen.pid}: {shown}")
        return found


def read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def logged(secrets: set[str]) -> list[str]:
    """Return a line for each line of the journal since the boot that has a secret."""
    if not os.path.isdir("/run/systemd/system"):
        return []
    lines = subprocess.run(["journalctl", "-b", "-o", "cat"], capture_output=True, check=True)
    return [
        f"{secret} in the journal: {line.decode(errors='replace')}"
        for line in lines.stdout.splitlines()
        for secret in secrets
        if secret.encode() in line
    ]


def main(report: str, command: list[str]) -> int:
    with open(SECRETS_FILE, "w"):
        pass
    os.chmod(SECRETS_FILE, 0o600)
    tracer = Tracer()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the command gets it too, and decides
    try:
        status = subprocess.run(command, check=False).returncode
    finally:
        tracer.stop()
        secrets = set(read(SECRETS_FILE).decode().split("\n")) - {""}
        os.unlink(SECRETS_FILE)
    leaks = tracer.leaks(secrets) + logged(secrets)
    with open(report, "w") as stream:
        stream.write(
            f"S28: {len(secrets)} secrets looked for in {len(tracer.seen)} programs that started"
            f" ({tracer.missed} had ended before they could be looked at): {len(leaks)} seen\n"
        )
        stream.writelines(f"{leak}\n" for leak in leaks)
    return SEEN if leaks and status == 0 else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[3:]))
