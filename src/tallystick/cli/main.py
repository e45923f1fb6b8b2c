"""`tally`: one command, one file each; this one only gathers them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_command_name, solve_typer_info_defaults

from tallystick import __version__
from tallystick.app.acting import Actor, act_as, login_name
from tallystick.cli import (
    alerts,
    audit,
    authorize,
    backup,
    books,
    budgets,
    checkpoint,
    clock,
    contract,
    cost,
    credits,
    demo,
    dispute,
    doctor,
    entry,
    erase,
    find,
    gate,
    holds,
    ingest,
    invoice,
    invoice_credits,
    invoice_life,
    jobs,
    keys,
    org_profile,
    org_terms,
    orgs,
    overrides,
    payments,
    promo,
    proof,
    rates,
    reconcile,
    replay,
    retention,
    rollup,
    seal,
    serve,
    settlements,
    sla,
    spool,
    standing,
    usage,
    verify,
    versions,
    webhooks,
    worker,
)
from tallystick.cli.output import errors_to_exit_codes, print_text
from tallystick.cli.sections import SECTIONS
from tallystick.core.errors import Unavailable


class _Commands(TyperGroup):
    def _named(self, ctx: Any) -> list[str]:
        """The names of the command that is called: nothing else of what was typed."""
        names: list[str] = []
        group: Any = self
        for word in (*ctx._protected_args, *ctx.args):
            group = getattr(group, "commands", {}).get(word)
            if group is None:
                break
            names.append(word)
        return names

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        for title, names in SECTIONS:
            rows = [
                (name.ljust(width), self.commands[name].get_short_help_str(formatter.width - 6 - width))
                for name in names
            ]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:  # Typer keeps the type of its context to itself
        # Here, and not around the app, because Click would take a closed pipe for a failure of ours.
        with errors_to_exit_codes():
            act_as(Actor("os_user", login_name(), " ".join(("tally", *self._named(ctx)))))
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise
            except OSError as error:
                place = f"{error.filename}: " if error.filename else ""
                raise Unavailable(
                    "io_failed",
                    f"reading or writing failed: {place}{error.strerror or error}",
                    next_step="see to the file or the disk, then run it again: nothing is counted twice",
                ) from None


app = typer.Typer(
    name="tally",
    cls=_Commands,
    help="Metering and billing for AI products: exact costs, versioned contracts, invoices anyone can recompute.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Each module has `register(app)`, which adds its commands.
for _module in (
    cost,
    rates,
    contract,
    orgs,
    standing,
    org_terms,
    org_profile,
    clock,
    ingest,
    authorize,
    credits,
    holds,
    budgets,
    overrides,
    keys,
    entry,
    reconcile,
    find,
    invoice,
    invoice_life,
    invoice_credits,
    promo,
    dispute,
    payments,
    books,
    sla,
    seal,
    erase,
    retention,
    backup,
    rollup,
    usage,
    checkpoint,
    proof,
    verify,
    replay,
    spool,
    settlements,
    serve,
    worker,
    alerts,
    jobs,
    audit,
    webhooks,
    versions,
    gate,
    doctor,
    demo,
):
    _module.register(app)


@app.callback()
def _root() -> None:
    # A callback keeps `tally` a group; a docstring here would replace the group's help.
    return


@app.command()
def version() -> None:
    """Print the version."""
    print_text(__version__)


def main() -> None:
    """The console script."""
    _open_closed_streams()
    command_for(sys.argv[1:])()


def command_for(arguments: Sequence[str]) -> Any:
    """The commands as far as these arguments can reach them: what is called alone, or all of them where help is asked
    for, a word is completed, or nothing has that name.
    """
    return (_command_named(arguments[0]) if arguments else None) or command()


@cache
def command() -> Any:
    """Every command with its options: made once, which takes longer than many a command itself."""
    return get_command(app)


@cache
def _command_named(name: str) -> Any:
    alone = copy(app)
    alone.registered_commands = [
        one
        for one in app.registered_commands
        if (one.name or get_command_name(str(getattr(one.callback, "__name__", "")))) == name
    ]
    alone.registered_groups = [one for one in app.registered_groups if solve_typer_info_defaults(one).name == name]
    return get_command(alone) if alone.registered_commands or alone.registered_groups else None


def _open_closed_streams() -> None:
    """What the caller has closed (`<&-`) is empty, or goes nowhere; Python would leave None in its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open as long as the process runs
