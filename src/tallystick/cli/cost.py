"""`tally cost`: what an answer of a provider cost, from its body or its recorded stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, BinaryIO

import typer
from rich.table import Table
from rich.text import Text

from tallystick.app.answers import Terms, read_blocks
from tallystick.app.cost import FileResults, PricedAnswer, latest_pricer, price_file
from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar, say, stdout
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.money import pico_to_usd


def register(app: typer.Typer) -> None:
    """Add `tally cost`."""
    app.command("cost")(cost_command)


def cost_command(
    file: Annotated[str, typer.Argument(help="One answer, or JSON Lines of them; - for standard input.")],
    provider: Annotated[str | None, typer.Option(help="Who answered; found out from the answer by default.")] = None,
    flavor: Annotated[str | None, typer.Option(help="Which of its APIs; the one that fits by default.")] = None,
    model: Annotated[str | None, typer.Option(help="The model, for answers that do not name it.")] = None,
    at: Annotated[str | None, typer.Option(help="The instant whose prices apply (RFC 3339); now by default.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="The file is one recorded event stream.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a single answer too.")] = False,
) -> None:
    """Read the usage of a provider's answer and price it: meters, lines, sum, rate card version, status.

    One answer prints a table, JSON Lines of answers print JSON Lines, in order. Exit code 0 when everything
    was read (unpriced answers too), 1 when a line was not, 2 when nothing could be.
    """
    terms = Terms(provider, flavor, model, parse_instant(at, where="--at") if at else None)
    pricer = latest_pricer(Settings().data_dir, lambda: datetime.now(UTC))
    pricer.check_terms(terms)
    with _open(file) as opened:
        binary, size = opened
        with progress_bar("pricing", size) as advance:
            priced = price_file(pricer, read_blocks(binary, advance), terms, is_stream=stream)
            failed = _print_lines(priced) if as_json or not priced.is_single else _print_one(priced)
    if failed:
        raise typer.Exit(EXIT_NO)


def _print_lines(priced: FileResults) -> int:
    """Every result as one JSON object a line; gives how many could not be read."""
    failed = 0
    for one in priced.results:
        failed += isinstance(one.result, BadInput)
        print_json(one.as_dict())
    if failed:
        say(f"{failed} of the answers could not be read; each says why in its place")
    return failed


def _print_one(priced: FileResults) -> int:
    """The one result, for a person."""
    for one in priced.results:
        if isinstance(one.result, BadInput):
            raise one.result
        _print_table(one.result)
    return 0


def _print_table(answer: PricedAnswer) -> None:
    used, cost = answer.used, answer.cost
    terms = "".join(f", {name} {value}" for name, value in sorted(used.price_context.items()))
    print_text(_plain(f"{used.provider}/{used.flavor}  {used.model or 'model not named'}{terms}") + "\n")
    table = Table("meter", box=None, pad_edge=False, header_style="bold")
    for title in ("quantity", "rate", "amount"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in cost.lines:
        name = line.meter if line.model is None else f"{line.meter} ({line.model})"
        rate = "no rate" if line.price_pico is None else f"${pico_to_usd(line.price_pico)} / {line.per:,}"
        amount = "unpriced" if line.amount_pico is None else f"${pico_to_usd(line.amount_pico)}"
        table.add_row(Text(_plain(name)), f"{line.quantity:,}", rate, amount)
    total = "unpriced" if cost.total_pico is None else f"${pico_to_usd(cost.total_pico)}"
    table.add_row("total", "", "", total, style="bold")
    stdout.print(table)
    print_text(f"\nrates   {cost.rate_version}, as of {format_instant(answer.at)}\nstatus  {cost.status}")
    if cost.reason is not None:
        print_text(_plain(f"reason  {cost.reason}"))


def _plain(text: str) -> str:
    """Text without characters that would command the terminal; names of models come from outside."""
    return "".join(character if character.isprintable() else "�" for character in text)


@contextmanager
def _open(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file and its size in bytes; standard input has no size."""
    if file == "-":
        yield sys.stdin.buffer, None
        return
    try:
        opened = open(file, "rb")  # noqa: SIM115 - closed below; only opening it is ours to explain
    except OSError as error:
        raise BadInput(
            "unreadable_file",
            f"{file} cannot be opened: {error.strerror}",
            next_step="name a file, or - for standard input",
        ) from None
    with opened:
        yield opened, os.fstat(opened.fileno()).st_size
