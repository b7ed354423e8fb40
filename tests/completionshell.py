"""bash, zsh and fish on a terminal of their own, with storagectl's completions."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 30.0
# argv, how it is set up, and what makes `storagectl` tell its last word instead of running
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "source completion",
        "storagectl() { printf '<%s>\\n' \"${@: -1}\"; }",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -D",
        "storagectl() { printf '<%s>\\n' \"${@[-1]}\" }",
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        "source completion",
        "function storagectl; printf '<%s>\\n' $argv[-1]; end",
    ),
}


def take_terminal() -> None:
    """Make the terminal the one that controls the process: fish does not start without."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Shell:
    """A shell in `folder`/work, with what it shows."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        import pty

        argv, setup, self.teller = SHELLS[name]
        self.work = folder / "work"
        setting = folder / "setting"
        (setting / "functions").mkdir(parents=True)
        self.work.mkdir()
        source = ROOT / f"completions/storagectl.{name}"
        shutil.copy(source, setting / "functions/_storagectl")
        shutil.copy(source, setting / "completion")
        self.fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.seen = ""
        self.process = subprocess.Popen(
            argv, stdin=inner, stdout=inner, stderr=inner, env=environment, cwd=setting,
            start_new_session=True, preexec_fn=take_terminal,
        )  # fmt: skip
        os.close(inner)
        self.setup = setup

    def __enter__(self) -> Shell:
        self.type(f"{self.setup}; cd {self.work}; echo rea''dy\n")
        try:
            self.wait_for("ready\r\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)

    def left_behind(self) -> list[Path]:
        """Return what has been made in the folder where the shell was."""
        return list(self.work.iterdir())

    def tell_words(self) -> None:
        """Have storagectl tell its last word; completions still ask the program."""
        self.type(f"{self.teller}\n")

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def last_word(self) -> str:
        """Return the last word of the line that was entered."""
        self.wait_for("\n<")
        return self.wait_for(">\r\n")

    def read_all(self) -> None:
        """Forget what the shell has shown up to now."""
        while select.select([self.fd], [], [], 0)[0]:
            os.read(self.fd, 4096)
        self.seen = ""

    def wait_for(self, text: str) -> str:
        """Read until the shell has shown `text`.  Returns: what came before it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before
