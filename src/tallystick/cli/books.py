"""`tally export books`: what was moved between accounts, for an accountant's tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tallystick.app.settings import Settings
from tallystick.cli.invoice_life import export_app
from tallystick.cli.output import print_text, say
from tallystick.cli.rollup import read_day
from tallystick.core.errors import BadInput, cannot_write


def register(_app: typer.Typer) -> None:
    """The command is in the group `tally export`, which `cli.invoice_life` adds."""


@export_app.command("books")
def books_command(
    org: Annotated[str | None, typer.Option("--org", help="Only this org.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="The first day, such as 2026-10-01, in UTC.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day, in UTC.")] = None,
    export_format: Annotated[str, typer.Option("--format", help="hledger: its journal.")] = "hledger",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output if absent.")
    ] = None,
    tests: Annotated[bool, typer.Option("--test", help="Those of test orgs, too.")] = False,
) -> None:
    """Write every transfer of money and credits as a journal, with what the accounts have at the end.

    `hledger check -f FILE` takes it when transfers and balances agree to the last pico.
    """
    from tallystick.app.hledger import books_file, export_books
    from tallystick.app.runtime import open_runtime

    if export_format != "hledger":
        raise BadInput(
            "unknown_format", f"{export_format!r} is no format of it", next_step="say hledger", where="--format"
        )
    days = read_day(first, "--from"), read_day(last, "--to")
    with open_runtime(Settings()) as runtime:
        pieces = export_books(runtime, org, first=days[0], last=days[1], tests=tests)
        if output is None:
            for piece in pieces:
                if piece:
                    print_text(piece)
            return
        try:
            with books_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
        except OSError as error:
            raise cannot_write(output, error) from None
    say(f"wrote {output}")
