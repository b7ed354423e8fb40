"""Record a first hour with storagectl: python tests/recording/record.py [--to FOLDER]

The lines of each file in scenes/ are typed into bash on a pseudo-terminal, in a home folder of its
own.  Without --to the text of all scenes goes to stdout; with it each scene becomes SCENE.txt, what
is on the screen at the end, and SCENE.cast, which `asciinema play` shows as it happened.

A scene is typed line by line.  `<TAB>`, `<ENTER>` and `<C-c>` stand for keys, `<WAIT 2>` for
seconds; after `<C-c>` there is no Enter at the end of the line.  Lines that begin with `>` are not
typed: they say what the command before must have printed, `> !` what not, and `> status N` its exit
status, which else is 0.  A scene that breaks its word ends the program with status 1.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from screen import Screen  # noqa: E402

# What a shell tells a terminal of its prompts, OSC 133: unseen, and known to many terminals.
PROMPT = "\x1b]133;A\x07"
DONE = re.compile(r"\x1b\]133;D;(\d+)\x07")
RC = r"""
PROMPT_COMMAND='printf "\033]133;D;%s\007" "$?"'
PS1='\[\033]133;A\007\]$ ' PS2='\[\033]133;A\007\]> '
bind 'set enable-bracketed-paste off'; bind 'set bell-style none'
bind 'set completion-query-items 0'; bind 'set page-completions off'
HISTFILE=
"""
KEYS = {"TAB": "\t", "ENTER": "\n", "C-c": "\x03"}
KEY = re.compile(r"<(TAB|ENTER|C-c|WAIT [\d.]+)>")
PATIENCE_S = 300.0
QUIET_S = 1.0


class Broken(Exception):
    """A scene did not go as its file says."""


class Terminal:
    """bash on a pseudo-terminal; all that it prints is kept with its time."""

    def __init__(
        self, home: Path, environment: dict[str, str], size: tuple[int, int], typing_s: float
    ) -> None:
        self.typing_s = typing_s
        self.began = time.monotonic()
        self.events: list[tuple[float, str]] = []
        (home / ".bashrc").write_text(RC)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            os.execvpe("bash", ["bash", "--rcfile", str(home / ".bashrc"), "-i"], environment)
        rows, columns = size
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.until_prompt(0)

    def text(self) -> str:
        return "".join(data for _, data in self.events)

    def listen(self, limit_s: float) -> bool:
        """Take in what is printed within a time; tell whether there was anything."""
        ready, _, _ = select.select([self.fd], [], [], limit_s)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        if not data:
            raise Broken("the shell has ended")
        self.events.append((time.monotonic() - self.began, data.decode("utf-8", "replace")))
        return True

    def until_prompt(self, start: int) -> str:
        """Wait for the prompt; return what was printed before it, from `start` on."""
        deadline = time.monotonic() + PATIENCE_S
        while PROMPT not in self.text()[start:]:
            if not self.listen(1.0) and time.monotonic() > deadline:
                raise Broken(f"no prompt within {PATIENCE_S:.0f} s")
        self.until_quiet(0.05)
        return self.text()[start:]

    def until_quiet(self, quiet_s: float) -> None:
        while self.listen(quiet_s):
            pass

    def press(self, keys: str) -> None:
        for key in keys:
            os.write(self.fd, key.encode())
            self.until_quiet(self.typing_s or 0.002)

    def type(self, line: str) -> tuple[str, int]:
        """Type a line and Enter; return what it printed and its exit status."""
        start = len(self.text())
        *parts, last = KEY.split(line)
        for text, key in zip(parts[::2], parts[1::2], strict=True):
            self.press(text)
            if key.startswith("WAIT"):
                end = time.monotonic() + float(key.split()[1])
                while time.monotonic() < end:
                    self.listen(max(0.01, end - time.monotonic()))
            else:
                self.press(KEYS[key])
                self.until_quiet(QUIET_S if key == "TAB" else 0.2)
        self.press(last)
        before = len(self.text())
        if "<C-c>" not in line:
            self.press("\n")
        else:
            before = start
        printed = self.until_prompt(before)
        # a line that goes on has none yet, and a comment leaves that of the command before
        found = [] if line.startswith("#") else DONE.findall(printed)
        return self.text()[start:], int(found[-1]) if found else 0

    def close(self) -> None:
        os.close(self.fd)
        os.kill(self.pid, signal.SIGHUP)
        os.waitpid(self.pid, 0)


def play(terminal: Terminal, scene: str) -> None:
    """Type a scene, and check what it is to show.  Raises: Broken."""
    typed, shown, status, promised = "", "", 0, False
    for line in [*scene.splitlines(), ""]:
        if not line.startswith(">"):
            if status and not promised:
                raise Broken(f"{typed}: status {status}\n{shown}")
            promised = False
            if line.strip():
                typed = line
                shown, status = terminal.type(line)
                shown = Screen.plain(shown)
            continue
        words = line.removeprefix(">").strip()
        if words.startswith("status "):
            promised = True
            if status != int(words.split()[1]):
                raise Broken(f"{typed}: status {status}, not {words}\n{shown}")
        elif words.startswith("!"):
            if words[1:].strip() in shown:
                raise Broken(f"{typed}: shows '{words[1:].strip()}'\n{shown}")
        elif words not in shown:
            raise Broken(f"{typed}: does not show '{words}'\n{shown}")


def cast(events: list[tuple[float, str]], size: tuple[int, int], title: str) -> str:
    """Return a recording in asciinema's format, version 2."""
    rows, columns = size
    head = {"version": 2, "width": columns, "height": rows, "title": title}
    lines = [json.dumps(head)]
    lines += [json.dumps([round(moment, 3), "o", data]) for moment, data in events]
    return "\n".join(lines) + "\n"


def environment(home: Path, program: Path | None) -> dict[str, str]:
    """Return a user's environment with nothing in it that is this machine's."""
    paths = [str(home / "bin"), os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"]
    if program is not None:
        (home / "bin").mkdir(exist_ok=True)
        link = home / "bin/storagectl"
        given = os.environ.get("PYTHONPATH", "")
        link.write_text(
            f'#!/bin/sh\nexport PYTHONPATH="{ROOT}:{given}"\nexec "{program}" -m storagectl "$@"\n'
        )
        link.chmod(0o755)
    return {
        "HOME": str(home), "PATH": ":".join(paths), "TERM": "xterm-256color", "LANG": "C.UTF-8",
        "USER": "you", "CHECKOUT": str(ROOT), "PYTHON": sys.executable,
        "LIBVIRT_DEFAULT_URI": "storage:///session",  # below the home folder, also for root
    }  # fmt: skip


def scenes() -> list[Path]:
    return sorted((HERE / "scenes").iterdir())


def record(
    names: list[Path], home: Path, *, size: tuple[int, int], typing_s: float, program: Path | None
) -> dict[str, tuple[str, str]]:
    """Play scenes one after the other; return text and cast of each by its name."""
    found = {}
    for path in names:
        terminal = Terminal(home, environment(home, program), size, typing_s)
        try:
            play(terminal, path.read_text())
        except Broken as problem:
            raise Broken(f"{path.name}: {problem}") from problem
        finally:
            terminal.close()
        text = Screen.plain(terminal.text().rpartition(PROMPT)[0])
        found[path.stem] = (text, cast(terminal.events, size, path.stem))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the recordings go")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--typing", type=float, default=0.0, help="seconds for each key")
    parser.add_argument(
        "--checkout", action="store_true", help="do not install: the program of this checkout"
    )
    given = parser.parse_args()
    # each goes on where the one before has ended
    wanted = [path for path in scenes() if not (given.checkout and "install" in path.name)]
    program = Path(sys.executable) if given.checkout else None
    with tempfile.TemporaryDirectory(prefix="first-hour-") as home:
        try:
            found = record(
                wanted, Path(home), size=(given.rows, given.columns), typing_s=given.typing,
                program=program,
            )  # fmt: skip
        except Broken as problem:
            print(problem, file=sys.stderr)
            return 1
    for name, (text, played) in found.items():
        if given.to is None:
            print(f"--- {name}\n{text}")
            continue
        given.to.mkdir(parents=True, exist_ok=True)
        (given.to / f"{name}.txt").write_text(text)
        (given.to / f"{name}.cast").write_text(played)
    return 0


if __name__ == "__main__":
    sys.exit(main())
