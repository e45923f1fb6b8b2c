"""The lines of an invoice as a table: one row each, amounts as exact decimals.

Only a share of a month may have no finite decimal: its exact amount and residue are cut to 18 decimals here, since a
spreadsheet takes a fraction for a date; the document has the fraction.
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.invoice.model import Invoice
from tallystick.invoice.tables import csv_table, text_cell
from tallystick.invoice.wording import cut

_PLACES = 18
LINE_COLUMNS = (
    "invoice_id", "org_id", "period", "month", "contract", "contract_version", "plan", "line", "kind", "meter",
    "quantity", "price", "amount_usd", "exact_usd", "residue_usd", "description",
)  # fmt: skip


def lines_csv(invoice: Invoice) -> Iterator[str]:
    """The table as RFC 4180 text, record by record. `month` is what a line charges for: adjustments name theirs."""
    yield from csv_table(
        LINE_COLUMNS,
        (
            (
                invoice.invoice_id,
                text_cell(invoice.org_id),
                invoice.period.label,
                invoice.month_of(line),
                text_cell(invoice.section_of(line).contract),
                text_cell(invoice.section_of(line).version),
                text_cell(line.plan),
                str(line.number),
                line.kind,
                text_cell(line.meter),
                line.quantity,
                text_cell(line.price),
                line.amount_usd,
                cut(line.exact_usd, _PLACES),
                cut(line.residue_usd, _PLACES),
                text_cell(line.description),
            )
            for line in invoice.lines
        ),
    )
