"""`tally invoice`: preview, close, show, explain, export and replay a month's invoice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.app.settings import Settings
from tallystick.cli.invoice_output import (
    explanation_json,
    heading,
    late_json,
    print_requests,
    print_section,
    print_table,
    request_json,
    result_cells,
    result_json,
    row_cells,
    row_json,
)
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar, say
from tallystick.core.errors import BadInput, cannot_write
from tallystick.core.instants import format_instant

if TYPE_CHECKING:
    from tallystick.app.runtime import Runtime

invoice_app = typer.Typer(
    name="invoice",
    help="A month's invoices: close, explain, export, replay.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reference = Annotated[str, typer.Argument(metavar="ID", help="An invoice id, or ORG/MONTH such as globex/2026-10.")]
Month = Annotated[str, typer.Argument(metavar="MONTH", help="A calendar month, such as 2026-10.")]


def register(app: typer.Typer) -> None:
    """Add `tally invoice …`."""
    app.add_typer(invoice_app)


@invoice_app.command("preview")
def preview_command(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The org.")], month: Month, as_json: JsonOption = False
) -> None:
    """Show what the invoice would be from what the ledger holds now; nothing is stored."""
    from tallystick.app.close_month import preview_invoice
    from tallystick.invoice.text import invoice_text

    with _open_runtime() as runtime:
        invoice = preview_invoice(runtime, org, month)
    if as_json:
        print_json(invoice.document())
    else:
        print_text(invoice_text(invoice))
    say("a preview: nothing was stored")


@invoice_app.command("close")
def close_command(
    month: Month,
    org: Annotated[list[str] | None, typer.Option("--org", help="Only this org; may be given again.")] = None,
    before_late_window: Annotated[
        bool, typer.Option("--before-late-window", help="Do not wait for late usage: it is for the next invoice.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Close the month of every org, or of some: one invoice each, stored once and never changed.

    Closing again changes nothing. With --json, one object a line for each org. Exit code 1 when an org
    could not be closed; the others are.
    """
    from tallystick.app.close_month import close_month, orgs_to_close

    with _open_runtime() as runtime:
        orgs = list(dict.fromkeys(org)) if org else orgs_to_close(runtime, month)
        with progress_bar(f"closing {month}", len(orgs)) as advance:
            results = close_month(runtime, month, orgs, before_late_window=before_late_window, progress=advance)
    if before_late_window:
        say("late usage was not waited for: what comes later is for the next invoice")
    if as_json:
        for result in results:
            print_json(result_json(result))
    elif results:
        print_table(("org", "invoice", "plan", "requests", "amount USD", "status"), map(result_cells, results))
    failed = [result for result in results if result.error is not None]
    for result in failed:
        if result.error is not None:
            say(f"error: {result.error} [{result.error.code}]")
            say(f"next: {result.error.next_step}")
    if not results:
        say(f"nobody is to be billed for {month}: no org has a plan in it, and none used anything")
    if failed:
        raise typer.Exit(EXIT_NO)


@invoice_app.command("list")
def list_command(
    org: Annotated[str | None, typer.Option("--org", help="Only this org.")] = None,
    month: Annotated[str | None, typer.Option("--month", help="Only this month.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="draft, final, open, partly_paid, paid, overdue or void.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List closed invoices, newest month first, or with --state those that stand so. With --json, one object a line."""
    from tallystick.app.invoices import list_invoices

    if state is not None:
        from tallystick.cli.invoice_life import print_lives

        print_lives(org, month, state, as_json=as_json)
        return

    with _open_runtime() as runtime:
        rows = list_invoices(runtime, org_id=org, month=month)
    if as_json:
        for row in rows:
            print_json(row_json(row))
    elif rows:
        print_table(("month", "org", "invoice", "plan", "amount USD", "closed at"), map(row_cells, rows))
    else:
        say("there are no closed invoices")


@invoice_app.command("show")
def show_command(invoice_id: Reference, as_json: JsonOption = False) -> None:
    """Show a closed invoice as a page, and how many requests of its month came too late for it."""
    from tallystick.app.invoices import show_invoice
    from tallystick.invoice.text import invoice_text

    with _open_runtime() as runtime:
        shown = show_invoice(runtime, invoice_id)
    late = late_json(shown.late)
    if as_json:
        closed_at = format_instant(shown.row.closed_at)
        extra = {"closed_at": closed_at, "late_events": shown.late_events, "unbilled_events": shown.unbilled_events}
        extra["late"] = late
        print_json({**extra, "invoice": shown.invoice.document()})
        return
    print_text(invoice_text(shown.invoice))
    print_text(f"\nClosed at {format_instant(shown.row.closed_at)}.")
    sentence = shown.late_sentence()
    if sentence is not None:
        print_text(sentence)
        rows = ([str(value or "the next invoice") for value in one.values()] for one in late)
        print_table(("entry", "request", "time", "recorded at", "billed on"), rows)
        if shown.late_events > len(late):
            print_text(f"… and {shown.late_events - len(late):,} more")


@invoice_app.command("explain")
def explain_command(
    invoice_id: Reference,
    line: Annotated[int | None, typer.Option("--line", help="Only this line.")] = None,
    requests: Annotated[
        bool, typer.Option("--requests/--no-requests", help="List the requests behind each line, or leave them out.")
    ] = True,
    limit: Annotated[int, typer.Option("--limit", help="At most so many requests for a line.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Say in plain sentences how each line came about, and list the requests behind it."""
    from tallystick.app.invoices import explain_invoice, requests_behind

    with _open_runtime() as runtime:
        invoice, explanation = explain_invoice(runtime, invoice_id)
        numbers = [one.number for one in invoice.lines] if line is None else [invoice.line(line).number]
        behind: dict[int, list[dict[str, Any]]] = {}
        for number in numbers if requests else []:
            found = requests_behind(runtime, invoice.invoice_id, number, limit=limit)
            behind[number] = [request_json(fact, invoice.line(number)) for fact in found]
    if as_json:
        print_json(explanation_json(invoice, explanation, numbers, behind))
        return
    if line is None:
        print_section("Terms", explanation.terms)
    for one in explanation.lines:
        if one.number in numbers:
            print_section(heading(invoice, one), one.sentences)
            if one.number in behind:
                print_requests(invoice, invoice.line(one.number), behind[one.number], limit)
    if line is None:
        print_section("Total", explanation.total)
        print_section("Not charged", explanation.not_charged)
        if explanation.wallet:
            print_section("Credits", explanation.wallet)
        print_section("Evidence", explanation.evidence)


@invoice_app.command("export")
def export_command(
    invoice_id: Reference,
    export_format: Annotated[
        str,
        typer.Option(
            "--format", help="csv (one row a request), lines-csv, json, text, pdf, html, or focus (cost and usage)."
        ),
    ] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output if absent.")
    ] = None,
    for_customer: Annotated[bool, typer.Option("--for-customer", help="Leave out what it cost us.")] = False,
) -> None:
    """Write the invoice as a file: requests, lines, the document, a page as text, HTML or PDF, or rows of FOCUS."""
    from tallystick.app.invoice_documents import render_document
    from tallystick.app.invoices import find_invoice
    from tallystick.invoice.model import parse_invoice

    if export_format == "pdf" and output is None and sys.stdout.isatty():
        raise BadInput(
            "pdf_to_terminal",
            "a terminal cannot show a PDF",
            next_step="name a file with --output FILE, or send it to a program",
            where="--output",
        )
    with _open_runtime() as runtime:
        events = parse_invoice(find_invoice(runtime, invoice_id).document).ledger.events
        with progress_bar("exporting", events if export_format == "csv" else None) as advance:
            pieces = render_document(runtime, invoice_id, export_format, for_customer=for_customer, progress=advance)
            _write(pieces, output)
    if output is not None:
        say(f"wrote {output}")


@invoice_app.command("replay")
def replay_command(invoice_id: Reference, as_json: JsonOption = False) -> None:
    """Compute the invoice again from raw facts and versions: `identical`, or every difference (exit code 1)."""
    from tallystick.app.invoices import find_invoice
    from tallystick.app.replay import replay_invoice
    from tallystick.invoice.model import parse_invoice

    with _open_runtime() as runtime:
        events = parse_invoice(find_invoice(runtime, invoice_id).document).ledger.events
        with progress_bar("replaying", events) as advance:
            report = replay_invoice(runtime, invoice_id, progress=advance)
    if as_json:
        print_json(report.as_dict())
    elif report.identical:
        erased = f" ({report.erased:,} erased)" if report.erased else ""
        print_text(f"identical: {report.invoice_id}, {report.events:,} requests{erased}, {report.digest}")
    else:
        for difference in report.differences:
            print_text(difference.sentence())
        if report.difference_count > len(report.differences):
            print_text(f"… and {report.difference_count - len(report.differences):,} more differences")
        what = "1 difference" if report.difference_count == 1 else f"{report.difference_count:,} differences"
        say(f"not identical: {what} in {report.invoice_id}")
    if not report.identical:
        raise typer.Exit(EXIT_NO)


def _open_runtime() -> AbstractContextManager[Runtime]:
    from tallystick.app.runtime import open_runtime

    return open_runtime(Settings())


def _write(pieces: Iterator[bytes], output: Path | None) -> None:
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.writelines(pieces)
        return
    try:
        with output.open("wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise cannot_write(output, error) from None
