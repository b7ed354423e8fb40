"""Hostile input: names, and what a folder holds before and after."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from inprocess import Answer

STAGED = ".storagectl-0123456789abcdef.part"
# What each name would do if it were taken for more than a name is in what it is called.
NAMES = {
    "empty": "",
    "this folder": ".",
    "the folder above": "..",
    "slash": "/",
    "absolute": "/absolute",
    "beside": "../beside",
    "far away": "../../../../etc/far",
    "below": "a/b",
    "ends in a slash": "a/",
    "250 bytes": "n" * 250,
    "251 bytes": "n" * 251,
    "255 bytes": "n" * 255,
    "256 bytes": "n" * 256,
    "255 bytes of two-byte letters": "\xe9" * 127 + "n",
    "4096 bytes": "n" * 4096,
    "newline": "a\nb",
    "ends in a newline": "a\n",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "bell": "a\ab",
    "red": "\x1b[31mred\x1b[0m",
    "title of the window": "\x1b]0;owned\a",
    "C1 red": "\x9b31mred",
    "delete": "a\x7fb",
    "help": "--help",
    "force": "-f",
    "yes": "-y",
    "configuration": "--config=x",
    "mount option": "-oexec",
    "end of options": "--",
    "dash": "-",
    "format string": "%s%n%x{}{0}",
    "command": "$(touch canary)",
    "old command": "`touch canary`",
    "next command": "a;touch canary",
    "ampersand": "a&touch canary&",
    "quotes": "a'b\"c",
    "backslash": "a\\b",
    "variable": "$HOME",
    "home": "~root",
    "space": "a b",
    "space in front": " a",
    "space behind": "a ",
    "only a space": " ",
    "invalid UTF-8": "a\udcff\udcfe",
    "truncated UTF-8": "a\udce2\udc82",
    "overlong UTF-8": "\udcc0\udcaf",
    "right to left": "a\u202egnp.exe",
    "isolate": "a\u2066b",
    "zero width": "a\u200bb",
    "line separator": "a\u2028b",
    "composed": "\xe9",
    "decomposed": "e\u0301",
    "upper case": "A",
    "lower case": "a",
    "wildcard": "*.xml",
    "like a definition": "a.xml",
    "like an old file": "a.new",
    "like an unfinished file": STAGED,
    "like the lock of all pools": ".storagectl-registry",
    "like the folder of locks": ".storagectl-layout",
    "like the autostart folder": "autostart",
    "like the lock folder": "lock",
    "hidden": ".hidden",
    "element": "a</name><name>b",
    "entity": "&lt;a",
    "undefined entity": "&a;",
    "comment": "a<!-- b",
    "JSON pseudo-protocol": 'json:{"driver":"nbd"}',
    "NBD pseudo-protocol": "nbd:127.0.0.1:1",
    "comma": "a,b=c",
    "emoji": "\U0001f4be",
    "no character": "a\ufffe",
}


def snapshot(*roots: Path) -> dict[str, object]:
    """Return what is below folders: mode, owner, and content or link of each thing.

    Our own folders below `root`, and the locks in them, are left out: they hold nothing.
    """
    found: dict[str, object] = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = os.path.join(folder, name)
                ours = "/root/run" in path or "/root/etc" in path
                if not (ours and (os.path.isdir(path) or "/storagectl/lock/" in path)):
                    found[path] = described(path)
    return found


def described(path: str) -> tuple[object, ...]:
    status = os.lstat(path)
    what: object = None
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as stream:
            what = status.st_nlink, hashlib.sha256(stream.read()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        what = os.readlink(path)
    return status.st_mode, status.st_uid, status.st_gid, what


def require_refusal(answer: Answer, words: object) -> None:
    """An error is one of ours: status 1, `error: ` lines, no traceback, nothing else printed."""
    assert answer.status == 1, (words, answer)
    assert answer.stderr.startswith("error: "), (words, answer)
    assert "Traceback" not in answer.stdout + answer.stderr, (words, answer)
    assert answer.stdout.strip() == "", (words, answer)
