"""`tally`: one command, one file each; this one only gathers them."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from tallystick import __version__
from tallystick.cli import contract, cost, demo, ingest, invoice, orgs, rates, serve
from tallystick.cli.output import errors_to_exit_codes, print_text


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:  # Typer keeps the type of its context to itself
        # Here, and not around the app, because Click would take a closed pipe for a failure of ours.
        with errors_to_exit_codes():
            return super().invoke(ctx)


app = typer.Typer(
    name="tally",
    cls=_Commands,
    help="Metering and billing for AI products: exact costs, versioned contracts, invoices anyone can recompute.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Each module has `register(app)`, which adds its commands.
for _module in (cost, rates, contract, orgs, ingest, invoice, serve, demo):
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
    app()
