"""`tally`: one command, one file each; this one only gathers them."""

from __future__ import annotations

import importlib

import typer

from tallystick import __version__
from tallystick.cli.output import errors_to_exit_codes, print_text

app = typer.Typer(
    name="tally",
    help="Metering and billing for AI products: exact costs, versioned contracts, invoices anyone can recompute.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Each module has `register(app)`, which adds its commands.
_MODULES = ("cost", "rates", "contract", "orgs", "ingest", "invoice", "serve", "demo")
for _name in _MODULES:
    try:
        importlib.import_module(f"tallystick.cli.{_name}").register(app)
    except ModuleNotFoundError as error:
        if error.name != f"tallystick.cli.{_name}":
            raise


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
    with errors_to_exit_codes():
        app()
