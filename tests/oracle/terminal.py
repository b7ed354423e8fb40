"""Run a command on a terminal and answer its questions: terminal.py KEYS WORD...

What the terminal shows goes to stdout; each question (`...]:` and a blank) gets the next of KEYS.
A command that then stays silent is ended, with the status of timeout(1).
"""

from __future__ import annotations

import os
import pty
import select
import signal
import sys

SILENCE_S = 10
TIMED_OUT = 124


def main() -> int:
    keys, argv = list(sys.argv[1]), sys.argv[2:]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["STORAGECTL_HINTS"] = "never"  # virsh has none
        os.execvp(argv[0], argv)
    shown = b""
    asked = 0
    silent = False
    while not silent:
        silent = not select.select([terminal], [], [], SILENCE_S)[0]
        try:
            data = b"" if silent else os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
        if keys and shown.count(b"]: ") > asked:
            asked += 1
            os.write(terminal, keys.pop(0).encode())
    if silent:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
    return TIMED_OUT if silent else status


if __name__ == "__main__":
    sys.exit(main())
