"""`tally retention run`: old entries leave the database once it is certain that a block has them."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, say
from tallystick.core.instants import format_instant

retention_app = typer.Typer(
    name="retention", help="How long entries stay in the database.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add `tally retention …`."""
    app.add_typer(retention_app)


@retention_app.callback()
def _group() -> None:
    # A callback keeps it a group of one command.
    return


@retention_app.command()
def run(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Let entries leave the database that are older than TALLY_RETENTION_DAYS, sealed, and the same in their block.

    Exit code 1: some are old enough and stayed, because their block is not as it should be.
    """
    from tallystick.app.retention import run_retention
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        done = run_retention(runtime)
    if as_json:
        print_json(
            {
                "recorded_before": format_instant(done.recorded_before),
                "entries": done.entries,
                "orgs": done.orgs,
                "blocks": done.blocks,
                "refused": [error.as_dict() for error in done.refused],
            }
        )
    else:
        print_text(
            f"{done.entries:,} entries of {done.orgs:,} orgs left the database; {done.blocks:,} blocks were verified"
        )
    for error in done.refused:
        say(f"error: {error} [{error.code}]")
        say(f"next: {error.next_step}")
    if done.refused:
        raise typer.Exit(EXIT_NO)
