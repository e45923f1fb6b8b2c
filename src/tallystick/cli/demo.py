"""`tally demo`: from the first event to a replayed invoice, in under a minute."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, new_progress, print_json, print_text, say, stdout

if TYPE_CHECKING:
    from tallystick.app.demo import DemoReport


def demo(
    events: Annotated[int, typer.Option(help="How many events to simulate.")] = 50_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same month.")] = 7,
    month: Annotated[str, typer.Option(help="Which month to simulate, as YYYY-MM.")] = "2026-10",
    output: Annotated[Path, typer.Option(help="Folder to write the invoices to.")] = Path("demo-output"),
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Simulate a month of traffic, bill it, and replay an invoice.

    The month goes through the embedded PostgreSQL in a data directory of its own, which starts empty each time.
    """
    from tallystick.app.demo import run_demo

    started = time.monotonic()
    with new_progress(transient=False) as progress:

        def step(name: str, total: int | None) -> Callable[[int], object]:
            if progress.disable:
                say(f"{name} …")
            task = progress.add_task(name, total=total or 1)
            return lambda count: progress.advance(task, count)

        report = run_demo(Settings(), output, month=month, seed=seed, events=events, step=step)
    seconds = time.monotonic() - started
    if json:
        print_json(report.as_dict())
    else:
        stdout.print(_invoices(report))
        print_text(_summary(report, seconds))
    if not report.replayed.identical:
        raise typer.Exit(EXIT_NO)


def _invoices(report: DemoReport) -> Table:
    table = Table(title=f"Invoices of {report.month}, amounts in USD", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("customer", "plan"):
        table.add_column(name, no_wrap=True)
    for name in ("requests", "late", "our cost", "usage", "due"):
        table.add_column(name, justify="right", no_wrap=True)
    for customer, invoice, late in report.invoices:
        usage = sum(Decimal(line.amount_usd) for line in invoice.lines if line.kind == "usage")
        due, cost = Decimal(invoice.total_cents) / 100, Decimal(invoice.internal.cost_usd)
        numbers = (f"{invoice.ledger.events:,}", f"{late:,}", f"{cost:,.2f}", f"{usage:,.2f}", f"{due:,.2f}")
        table.add_row(customer.org_id, customer.plan, *numbers)
    return table


def _summary(report: DemoReport, seconds: float) -> str:
    sent, replayed = sum(report.results.values()), report.replayed
    became = ", ".join(f"{count:,} {status}" for status, count in sorted(report.results.items()))
    tally = "tally" if shutil.which("tally") else sys.argv[0]
    verdict = "identical" if replayed.identical else f"{replayed.difference_count:,} differences"
    return f"""
{sent:,} messages sent: {became}; {report.unpriced:,} unpriced
replayed {replayed.org_id}/{replayed.period}: {verdict}, digest {replayed.recomputed_digest}
{len(report.files)} files in {report.output_dir}
{seconds:.1f} s

Look around:
  export TALLY_DATA_DIR={report.data_dir}
  {tally} invoice list
  {tally} invoice explain {replayed.org_id}/{replayed.period}
  {tally} invoice replay {replayed.org_id}/{replayed.period}
"""


def register(app: typer.Typer) -> None:
    """Add `tally demo`."""
    app.command()(demo)
