"""Help in virsh's layout: of the program, of a group of commands, of one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from storagectl.commands import COMMANDS, find, output
from storagectl.commands.command import Command, Flag, Value, command, option_name
from storagectl.commands.command import value as option
from storagectl.errors import ClientError, Mistyped

if TYPE_CHECKING:
    from storagectl.commands.session import Session


class Group(NamedTuple):
    """Commands that help shows together, in virsh's order."""

    title: str
    keyword: str
    commands: tuple[str, ...]


GROUPS = (
    Group("Host and Hypervisor", "host", ("uri",)),
    Group(
        "Secret", "secret",
        (
            "secret-define", "secret-dumpxml", "secret-get-value", "secret-list",
            "secret-set-value", "secret-undefine",
        ),
    ),
    Group(
        "Storage Pool", "pool",
        (
            "find-storage-pool-sources-as", "find-storage-pool-sources", "pool-autostart",
            "pool-build", "pool-create-as", "pool-create", "pool-define-as", "pool-define",
            "pool-delete", "pool-destroy", "pool-dumpxml", "pool-edit", "pool-info", "pool-list",
            "pool-name", "pool-refresh", "pool-start", "pool-undefine", "pool-uuid", "pool-event",
            "pool-capabilities", "pool-exists", "pool-stop", "pool-used-by",
        ),
    ),
    Group(
        "Storage Volume", "volume",
        (
            "vol-clone", "vol-create-as", "vol-create", "vol-create-from", "vol-delete",
            "vol-download", "vol-dumpxml", "vol-info", "vol-key", "vol-list", "vol-name",
            "vol-path", "vol-pool", "vol-rename", "vol-resize", "vol-upload", "vol-wipe",
            "vol-exists", "vol-used-by",
        ),
    ),
    Group(
        "Storagectl itself", "storagectl",
        ("cd", "echo", "exit", "help", "pwd", "quit", "connect", "apply", "autostart",
         "doctor", "import", "status"),
    ),
)  # fmt: skip

DESCRIPTION = "Prints global help, command specific help, or help for a group of related commands"


@command("help", DESCRIPTION.replace("a group", "a\n    group"), connects=False, lenient=True)
@option("command", DESCRIPTION, empty=True)
def help(session: Session, command: str | None) -> None:
    if not command:
        output.write("Grouped commands:\n\n")
        for group in GROUPS:
            output.write(group_help(group) + "\n")
        return
    for group in GROUPS:
        if command in (group.title, group.keyword):
            output.write(group_help(group))
            return
    found = find(command)
    if found is None:
        raise ClientError(
            f"command or command group '{command}' doesn't exist",
            mistyped=Mistyped(command, lambda: [*COMMANDS, *(group.keyword for group in GROUPS)]),
        )
    output.write(command_help(found))


def program_help() -> str:
    """Return the program's options, and all commands."""
    from storagectl.commands.options import OPTIONS

    rows = []
    for row in OPTIONS:
        label = f"    {row.label()}"
        rows.append(f"{label}\n{'':<28}{row.help}" if len(label) > 26 else f"{label:<28}{row.help}")
    text = (
        "\nstoragectl [options]... [<command_string>]\n"
        "storagectl [options]... <command> [args...]\n\n  options:\n"
        + "\n".join(rows)
        + "\n  commands (non interactive mode):\n\n"
    )
    for group in GROUPS:
        text += group_help(group, "") + "\n"
    return text + (
        "\n  (specify help <group> for details about the commands in the group)\n"
        "\n  (specify help <command> for details about the command)\n\n"
    )


def group_help(group: Group, colon: str = ":") -> str:
    """Return the commands of a group with their summaries."""
    lines = [f" {group.title} (help keyword '{group.keyword}'){colon}"]
    lines += [f"    {name:<30} {COMMANDS[name].summary}" for name in group.commands]
    return "\n".join(lines) + "\n"


def command_help(command: Command) -> str:
    """Return what a command does and takes."""
    assert command.name is not None
    words = [command.name]
    rows = []
    for param in command.params:
        assert isinstance(param, Flag | Value)
        name = option_name(param)
        label = f"--{name}"
        if isinstance(param, Flag):
            words.append(f"[--{name}]")
        elif param.rest:
            words.append(f"[<{name}>]...")
            label = f"<{name}>"
        elif param.required:
            words.append(f"<{name}>")
            label = f"[--{name}] <{param.value_name}>"
        elif param.otherwise is not None:
            words.append(f"[--{name} [<{param.value_name}>]]")
            label = f"--{name} [<{param.value_name}>]"
        else:
            words.append(f"[--{name} <{param.value_name}>]")
            label = f"--{name} <{param.value_name}>"
        rows.append(f"    {label:<15}  {param.help}\n")
    text = (
        f"  NAME\n    {command.name} - {COMMANDS[command.name].summary}\n\n"
        f"  SYNOPSIS\n    {' '.join(words)}\n"
    )
    if command.help:
        text += f"\n  DESCRIPTION\n    {command.help}\n"
    if rows:
        text += "\n  OPTIONS\n" + "".join(rows)
    return text + "\n"
