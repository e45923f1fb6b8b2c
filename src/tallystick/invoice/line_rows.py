"""The lines of an invoice as a table: one row each, amounts as exact decimals."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.invoice.model import Invoice
from tallystick.invoice.tables import csv_table, text_cell

LINE_COLUMNS = (
    "invoice_id", "org_id", "period", "contract", "contract_version", "plan", "line", "kind", "meter", "quantity",
    "price", "amount_usd", "exact_usd", "residue_usd", "description",
)  # fmt: skip


def lines_csv(invoice: Invoice) -> Iterator[str]:
    """The table as RFC 4180 text, record by record."""
    yield from csv_table(
        LINE_COLUMNS,
        (
            (
                invoice.invoice_id,
                text_cell(invoice.org_id),
                invoice.period.label,
                text_cell(invoice.contract.name),
                text_cell(invoice.contract.version),
                text_cell(invoice.contract.plan),
                str(line.number),
                line.kind,
                text_cell(line.meter),
                line.quantity,
                text_cell(line.price),
                line.amount_usd,
                line.exact_usd,
                line.residue_usd,
                text_cell(line.description),
            )
            for line in invoice.lines
        ),
    )
