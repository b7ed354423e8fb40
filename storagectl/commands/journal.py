"""Who changed what: a line for each command in the system's log and in that of --log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.store import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKET = "/dev/log"
WAIT_S = 1.0  # for a log that takes nothing
INFO_OF_DAEMON = 3 << 3 | 6  # Source: syslog(3), LOG_DAEMON and LOG_INFO
# Of a command line; what is longer than the socket's buffer would be in no log at all.
LONGEST = 4096
# Options whose values nobody may read later.
SECRET = ("--base64=",)
NOBODY = 0xFFFFFFFF  # of a process that no login began; see pam_loginuid(8)


def record(
    command: str,
    named: Sequence[str],
    *,
    options: Sequence[str],
    pools: Sequence[str],
    outcome: str,
    seconds: float,
) -> None:
    """Tell the logs that the machine and the user have of a command that has ended.

    `options` say whose pools are meant, `pools` are those that it was about; of `outcome`, what it
    came to, the first line counts.  That a log can't be written is only told.
    Source: syslog(3); `journalctl -t storagectl` shows them.
    """
    to_system = os.path.exists(SOCKET)
    if not to_system and output.log_path is None:
        return
    from storagectl.host.script import join, quote

    line = join(["storagectl", *options, command, *map(hidden, named)])
    if len(line) > LONGEST:
        line = f"{line[:LONGEST]}... ({len(line)} characters)"
    about = f"pool{'s' * (len(pools) > 1)} {', '.join(map(quote, pools))}: " if pools else ""
    came_to = output.visible(output.without_password(outcome.partition("\n")[0][:LONGEST]))
    text = f"{user()}: {about}{line}: {came_to} ({seconds:.3f} s)"
    output.log("INFO", text)
    if to_system:
        try:
            tell_system(text)
        except OSError as error:
            warn(f"cannot write to the system's log: {error.strerror or error}")


def tell_system(text: str) -> None:
    """Send a line to the system's log, which is waited for WAIT_S at most.  Raises: OSError.

    syslog(3) would wait for ever for a log that takes nothing, and tell of no failure.
    Source: RFC 3164, section 4.1, as the C library has it.
    """
    import time
    from _socket import AF_UNIX, SOCK_DGRAM, SOCK_STREAM, socket  # the rest costs 3 ms

    stamp = time.strftime("%b %e %H:%M:%S")
    line = f"<{INFO_OF_DAEMON}>{stamp} storagectl[{os.getpid()}]: {text}"
    data = line.encode("utf-8", "surrogateescape")
    for kind, end in ((SOCK_DGRAM, b""), (SOCK_STREAM, b"\0")):
        log = socket(AF_UNIX, kind)
        try:
            log.settimeout(WAIT_S)
            try:
                log.connect(SOCKET)
            except OSError:
                if kind == SOCK_STREAM:
                    raise
                continue
            log.sendall(data + end)
            return
        finally:
            log.close()


def hidden(word: str) -> str:
    """Return an option without its value where that is a secret."""
    for option in SECRET:
        if word.startswith(option):
            return option + "***"
    return word


def user() -> str:
    """Return who runs the command, by number, and who that is by login and for sudo.

    The kernel keeps the first; the second is what the environment says.
    """
    try:
        with open("/proc/self/loginuid") as stream:
            login = int(stream.read())
    except (OSError, ValueError):
        login = NOBODY
    mine = os.getuid()
    others = [] if login in (mine, NOBODY) else [f"logged in as {login}"]
    if os.environ.get("SUDO_USER"):
        from storagectl.host.script import quote

        others.append(f"sudo by {quote(os.environ['SUDO_USER'][:64])}")
    return f"user {mine}" + (f" ({', '.join(others)})" if others else "")
