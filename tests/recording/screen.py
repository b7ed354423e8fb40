"""What a terminal shows after all that was written to it, as lines of plain text."""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"\x1b\[(?P<params>[0-9;?]*)(?P<final>[@-~])"  # CSI
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC
    r"|\x1b[()][0-9A-B]|\x1b[=>78]"
    r"|(?P<char>.)",
    re.S,
)


class Screen:
    """Lines without end, a cursor, and the control sequences that programs here use."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = [[]]
        self.row = self.column = 0

    @classmethod
    def plain(cls, data: str) -> str:
        """Return the text that is seen in the end."""
        screen = cls()
        for token in TOKEN.finditer(data):
            if token["final"]:
                screen.control(token["params"], token["final"])
            elif token["char"]:
                screen.put(token["char"])
        lines = ["".join(line).rstrip() for line in screen.lines]
        return "\n".join(lines).rstrip("\n") + "\n"

    def put(self, char: str) -> None:
        if char == "\n":
            self.move(1)
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char >= " ":
            line = self.lines[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = char
            self.column += 1

    def move(self, rows: int) -> None:
        self.row = max(0, self.row + rows)
        while len(self.lines) <= self.row:
            self.lines.append([])

    def control(self, params: str, final: str) -> None:
        """Obey a control sequence.  Source: ECMA-48; colours and modes are not seen here."""
        number = int(params) if params.isdecimal() else 0
        if final == "A":
            self.move(-max(1, number))
        elif final == "B":
            self.move(max(1, number))
        elif final == "C":
            self.column += max(1, number)
        elif final == "D":
            self.column = max(0, self.column - max(1, number))
        elif final == "G":
            self.column = max(0, number - 1)
        elif final == "K":
            line = self.lines[self.row]
            if number == 0:
                del line[self.column :]
            elif number == 2:
                line.clear()
        elif final == "J" and number == 0:
            del self.lines[self.row][self.column :]
            del self.lines[self.row + 1 :]
        elif final == "P":
            del self.lines[self.row][self.column : self.column + max(1, number)]
        elif final == "@":
            self.lines[self.row][self.column : self.column] = " " * max(1, number)
