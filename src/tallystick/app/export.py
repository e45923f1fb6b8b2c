"""An invoice as a file: the document, a page for a person, its lines, or every request behind it.

Each export is an iterator of text, so that a file of any size is written with little memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

from tallystick.app.invoices import CoveredMonth, find_invoice, months_of
from tallystick.app.period_source import open_period
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.invoice.line_rows import lines_csv
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.request_rows import request_header, request_row
from tallystick.invoice.tables import csv_table
from tallystick.invoice.text import invoice_text
from tallystick.journal.period_scope import begin_reading
from tallystick.usage.meters import meter_order

ExportFormat = Literal["csv", "lines-csv", "json", "text"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
MEDIA_TYPES: dict[ExportFormat, str] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "lines-csv": "text/csv; charset=utf-8; header=present",
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
}
_CHUNK_RECORDS = 500


def export_invoice(
    runtime: Runtime,
    reference: str,
    export_format: str = "csv",
    *,
    for_customer: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Iterator[str]:
    """The invoice in one of `FORMATS`, as pieces of text in UTF-8.

    `csv` has one row for each request, read from the ledger and never made from totals; `lines-csv` one for each
    line; `json` is the document; `text` a page. Errors are raised here, before the first piece.

    Args:
        runtime: the running system.
        reference: an invoice id, or ORG/MONTH.
        export_format: one of `FORMATS`.
        for_customer: leave out what the requests cost us; the document's digest still covers its hash.
        progress: called with the number of requests written since the last call.

    Raises:
        NotFound: `unknown_invoice`.
        BadInput: `unknown_format`.
        Unavailable: `database_unreachable`.
    """
    if export_format not in FORMATS:
        raise BadInput(
            "unknown_format",
            f"{export_format!r} is not a format of an invoice",
            next_step=f"choose one of {', '.join(FORMATS)}",
            where="format",
        )
    stored = find_invoice(runtime, reference)
    invoice = parse_invoice(stored.document)
    if export_format == "csv":
        with runtime.database.org(stored.row.org_id) as connection:
            months = months_of(connection, stored.row, invoice)
        return _requests_csv(runtime, stored.row.org_id, months, with_cost=not for_customer, progress=progress)
    if export_format == "lines-csv":
        return lines_csv(invoice)
    if export_format == "json":
        return iter([document_json(invoice, for_customer=for_customer)])
    return iter([invoice_text(invoice)])


def document_json(invoice: Invoice, *, for_customer: bool = False) -> str:
    """The document, indented for reading; for a customer without the internal section."""
    document = invoice.document()
    if for_customer:
        del document["internal"]
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _requests_csv(
    runtime: Runtime,
    org_id: str,
    months: Sequence[CoveredMonth],
    *,
    with_cost: bool,
    progress: Callable[[int], object] | None,
) -> Iterator[str]:
    """Every request of the invoice's month, then what came late for each month that it adjusts."""
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        sources = [open_period(runtime, connection, one.scope, one.first_seq) for one in months]
        meters = sorted({meter for source in sources for meter in source.meters()}, key=meter_order)
        rows = (
            request_row(fact, meters, month.terms, with_cost=with_cost)
            for month, source in zip(months, sources, strict=True)
            for fact in source.facts(None, (), None, month.after_seq)
        )
        batch: list[str] = []
        for record in csv_table(request_header(meters, with_cost=with_cost), rows):
            batch.append(record)
            if len(batch) == _CHUNK_RECORDS:
                yield "".join(batch)
                if progress is not None:
                    progress(len(batch))
                batch.clear()
        yield "".join(batch)
