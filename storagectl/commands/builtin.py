"""Commands about the program itself: where it works, what it is connected to, its end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storagectl.commands import output
from storagectl.commands.command import command, flag, value
from storagectl.commands.connection import canonical, effective, serves_system
from storagectl.commands.session import exclusive
from storagectl.errors import ClientError

if TYPE_CHECKING:
    from storagectl.commands.session import Session

SHELL_SPECIAL = frozenset("\r\t\n !\"#$&'()*;<>?[\\]^`{|}~")
XML_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
)  # fmt: skip


@command("cd", "Change the current directory.", connects=False)
@value("dir", "directory to switch to (default: home or else root)", empty=True)
def cd(session: Session, dir: str | None) -> None:
    if not session.settings.interactive:
        raise ClientError("cd: command valid only in interactive mode")
    if dir is None:
        home = os.path.expanduser("~")
        dir = home if home.startswith("/") else "/"
    try:
        os.chdir(dir)
    except OSError as error:
        raise ClientError(f"cd: {error.strerror}: {dir}") from error
    session.done_silently("changed", folder=os.getcwd())


@command("pwd", "Print the current directory.", connects=False)
def pwd(session: Session) -> None:
    try:
        folder = os.getcwd()
    except OSError as error:
        raise ClientError(f"pwd: cannot get current directory: {error.strerror}") from error
    output.write(folder + "\n")
    session.result({"folder": folder})


@command(
    "echo", "Echo back arguments, possibly with quoting. Used for internal testing.", connects=False
)
@flag("shell", "escape for shell use")
@flag("xml", "escape for XML use")
@flag("split", "split each argument on ','; ',,' is an escape sequence")
@flag("err", "output to stderr")
@value("string", "arguments to echo", rest=True, empty=True)
def echo(
    session: Session, shell: bool, xml: bool, split: bool, err: bool, string: tuple[str, ...]
) -> None:
    exclusive(shell=shell, xml=xml)
    exclusive(shell=shell, split=split)
    exclusive(xml=xml, split=split)
    shown = []
    for word in string:
        if shell:
            word = shell_quoted(word)
        elif xml:
            word = word.translate(XML_ESCAPES)
        elif split:
            parts = word.replace(",,", "\0").split(",")
            word = "".join(part.replace("\0", ",") + "\n" for part in parts)
        shown.append(word)
    if err:
        if shown:
            output.error(" ".join(shown))
    else:
        output.write(" ".join(shown))


def shell_quoted(word: str) -> str:
    """Return a word in single quotes where a shell would not take it as it is."""
    if word and SHELL_SPECIAL.isdisjoint(word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


@command("quit", "", connects=False)
def quit(session: Session) -> None:
    session.settings.ended = True
    session.done_silently("ended")


@command("exit", "", connects=False)
def exit(session: Session) -> None:
    session.settings.ended = True
    session.done_silently("ended")


@command(
    "connect",
    "Connect to local hypervisor. This is built-in command after shell start up.",
    connects=False,
)
@value("name", "hypervisor connection URI", empty=True)
@flag("readonly", "read-only connection")
def connect(session: Session, name: str | None, readonly: bool) -> None:
    settings = session.settings
    uri = settings.connected_to if name is None else effective(name)
    serves_system(uri)
    settings.uri = uri
    settings.readonly = readonly or (name is None and settings.readonly)
    session.done_silently("connected", uri=canonical(uri), readonly=settings.readonly)


@command("uri", "")
def uri(session: Session) -> None:
    found = canonical(session.settings.connected_to)
    output.write(found + "\n")
    session.result({"uri": found})
