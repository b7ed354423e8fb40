"""Many runs of the program at the same moment, each in a forked process of its own."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import inprocess

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

LIMIT_S = 120  # a run that has not ended by then is a deadlock


class Run(NamedTuple):
    """A run that has begun; `said` is where its answer comes from."""

    words: Sequence[object]
    pid: int
    said: int

    def answer(self) -> inprocess.Answer:
        """Wait for the end.  What was killed, also by its alarm, has minus the signal as status."""
        with open(self.said, "rb") as stream:
            text = stream.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if status < 0:
            return inprocess.Answer(status, "", "")
        assert status == 0, (self.words, text)
        answer = inprocess.Answer(*json.loads(text))
        assert "Traceback" not in answer.stderr, (self.words, answer.stderr)
        return answer


def begin(root: Path, *words: object, gate: tuple[int, int] | None = None) -> Run:
    """Start a command; with a gate, a pipe, it runs when no other process has its end open."""
    said, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        work(root, [str(word) for word in words], writer, gate)
    os.close(writer)
    return Run(words, pid, said)


def work(root: Path, words: list[str], writer: int, gate: tuple[int, int] | None) -> NoReturn:
    """Be the forked process."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(LIMIT_S)
        if gate is not None:
            os.close(gate[1])
            os.read(gate[0], 1)
        told = json.dumps(inprocess.storagectl(root, *words)).encode()
        status = 0
    except BaseException as error:
        told = repr(error).encode()
    try:
        with open(writer, "wb") as stream:
            stream.write(told)
    finally:
        os._exit(status)


def together(root: Path, lines: Iterable[Sequence[object]]) -> list[inprocess.Answer]:
    """Run commands at the same moment.  Returns: their answers in this order."""
    gate = os.pipe()
    runs = [begin(root, *words, gate=gate) for words in lines]
    os.close(gate[1])
    try:
        return [run.answer() for run in runs]
    finally:
        os.close(gate[0])
