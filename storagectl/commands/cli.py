"""The program's own options."""

from __future__ import annotations

import click

from storagectl import __version__
from storagectl.commands import Commands, Flag, Option, output
from storagectl.commands.session import Session


def version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        output.write(__version__ + "\n")
        ctx.exit()


def show_help(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        output.write(ctx.get_help() + "\n")
        ctx.exit()


@click.group(cls=Commands, no_args_is_help=True, add_help_option=False)
@click.option("-q", "--quiet", cls=Flag, help="leave out what only people read")
@click.option(
    "--root", cls=Option, metavar="DIR", envvar="STORAGECTL_ROOT",
    help="keep definitions and state below DIR instead of /etc and /run",
)  # fmt: skip
@click.option(
    "-v", "--version", cls=Flag, help="show the version and exit",
    is_eager=True, expose_value=False, callback=version,
)  # fmt: skip
@click.option(
    "-h", "--help", cls=Flag, help="show this page and exit",
    is_eager=True, expose_value=False, callback=show_help,
)  # fmt: skip
@click.pass_context
def cli(ctx: click.Context, quiet: bool, root: str | None) -> None:
    """Storage pools and volumes for virtual machines.

    The commands, their output and their exit status are those of virsh.
    """
    ctx.obj = Session(root=root, quiet=quiet)
