"""Who changed what, for the system's log: a line for each command, whatever it came to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKET = "/dev/log"
# Options whose values nobody may read later.
SECRET = ("--base64=",)
NOBODY = 0xFFFFFFFF  # of a process that no login began; see pam_loginuid(8)


def record(
    command: str, named: Sequence[str], *, root: str | None, outcome: str, seconds: float
) -> None:
    """Tell the system's log of a command that has ended, where the machine has such a log.

    Of `outcome`, what it came to, the first line counts; `root` is where definitions are that
    are not the machine's.
    Source: syslog(3); `journalctl -t storagectl` shows them.
    """
    if not os.path.exists(SOCKET):
        return
    import syslog

    from storagectl.host.script import join, visible

    words = ["storagectl", *([] if root is None else ["--root", root]), command]
    words += [hidden(word) for word in named]
    first_line = outcome.partition("\n")[0]
    syslog.openlog("storagectl", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(f"{user()}: {join(words)}: {visible(first_line)} ({seconds:.3f} s)")
    syslog.closelog()


def hidden(word: str) -> str:
    """Return an option without its value where that is a secret."""
    for option in SECRET:
        if word.startswith(option):
            return option + "***"
    return word


def user() -> str:
    """Return who runs the command, by number, and who logged in where that is another."""
    try:
        with open("/proc/self/loginuid") as stream:
            login = int(stream.read())
    except (OSError, ValueError):
        login = NOBODY
    mine = os.getuid()
    return f"user {mine}" + ("" if login in (mine, NOBODY) else f" (logged in as {login})")
