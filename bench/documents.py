"""Documents: the time of a PDF of one page, each another invoice, of one over many pages, and of the first."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from statistics import median
from time import process_time

from msgspec import structs

from bench.report import Row
from tallystick.app.invoice_documents import document_pdf
from tallystick.core.periods import month_period
from tallystick.invoice.documents.html import document_html
from tallystick.invoice.documents.issue import Issue, Party
from tallystick.invoice.documents.view import document_view
from tallystick.invoice.model import (
    CustomerPaid,
    Internal,
    Invoice,
    InvoiceContract,
    InvoiceLine,
    InvoicePeriod,
    InvoiceSection,
    InvoiceTier,
    LedgerPin,
    NotCharged,
    Totals,
)

PAGES, LINES = 200, 500
AIM_MS = 100
ISSUED = datetime(2026, 11, 2, tzinfo=UTC)
FIRST = "from bench.documents import first_ms; print(first_ms())"


def run() -> list[Row]:
    first_ms()
    before = _resident_bytes()
    taken = sorted(_pdf_ms(sample(number, 6), number) for number in range(PAGES))
    grown = _resident_bytes() - before
    html = median(_html_ms(sample(number, 6), number) for number in range(PAGES))
    long = _pdf_ms(sample(0, LINES), PAGES + 1)
    start = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    return [
        Row("PDF of an invoice, median CPU", f"{median(taken):.1f} ms", "", f"< {AIM_MS} ms", median(taken) < AIM_MS),
        Row(f"PDF, slowest of {PAGES}", f"{taken[-1]:.1f} ms", "", f"< {AIM_MS} ms", taken[-1] < AIM_MS),
        Row("PDF, the first of a process", f"{float(start.stdout):.0f} ms"),
        Row(f"PDF of {LINES} lines with tiers", f"{long:.0f} ms"),
        Row("HTML of an invoice, median CPU", f"{html:.2f} ms"),
        Row(f"memory after {PAGES} PDFs", f"{grown / 1e6:+.1f} MB"),
    ]


def first_ms() -> float:
    """The time of the first PDF of this process, with the fonts read."""
    return _pdf_ms(sample(0, 6), 0)


def sample(number: int, lines: int) -> Invoice:
    """An invoice with two tiers on each line; no two have the same quantities."""
    period = month_period("2026-10", "UTC")
    tier = InvoiceTier(
        tier=1, quantity="1000000", basis="units", billed="1000000", up_to="1000000", unit_usd="10", per="1000000",
        flat_usd="0", amount_usd="10",
    )  # fmt: skip
    more = str(1_000_000 + 17 * number)
    second = structs.replace(tier, tier=2, quantity=more, billed=more, up_to=None, unit_usd="7", amount_usd="7")
    line = InvoiceLine(
        number=1, section=1, plan="pro", kind="usage", meter="tokens_in", quantity=more, price="graduated", metered=(),
        tiers=(tier, second), amount_usd="17.00", exact_usd="17", residue_usd="0", description="Input tokens",
    )  # fmt: skip
    total = f"{17 * lines}.00"
    section = InvoiceSection(
        number=1, contract="acme", version="1", sha256="ab" * 32, plan="pro", kind="usage", days=31, days_of_month=31,
        in_force=(),
    )  # fmt: skip
    return Invoice(
        invoice_id=f"inv_{number:032x}",
        org_id=f"org-{number}",
        currency="USD",
        period=InvoicePeriod(
            label="2026-10", start=f"{period.start:%FT%TZ}", end=f"{period.end:%FT%TZ}", time_zone="UTC"
        ),
        contract=InvoiceContract(
            name="acme", version="1", sha256="ab" * 32, plan="pro", subscription=1, subscriptions_known=1,
            in_force_at=f"{period.start:%FT%TZ}",
        ),
        sections=(section,),
        rates=(),
        ledger=LedgerPin(
            first_seq=1, through_seq=number + 1, billed_through_seq=0, events=number, entries_sha256="cd" * 32,
            tree_size=number + 1, root="ef" * 32,
        ),
        adjustments=(),
        lines=tuple(structs.replace(line, number=place + 1) for place in range(lines)),
        not_charged=NotCharged(meters=(), events=()),
        customer_paid=CustomerPaid(events=0, cost_usd="0", unpriced_events=0, models=()),
        wallet=None,
        totals=Totals(total_usd=total, exact_total_usd=total, residue_usd="0"),
        internal_sha256="12" * 32,
        internal=Internal(cost_usd="0", unpriced_events=0, models=(), adjustments=()),
        digest=f"sha256:{number:064x}",
    )  # fmt: skip


def _issue(number: int) -> Issue:
    return Issue(
        bill_to=Party(f"Customer {number} Ltd.", ("1 Main Street", f"Account org-{number}")),
        number=f"ACME-2026-{number:06d}",
        issued_at=ISSUED,
        due_at=datetime(2026, 11, 16, tzinfo=UTC),
        entry_seq=number + 1,
        seller=Party("Acme Analytics Inc.", ("548 Market Street", "San Francisco")),
        how_to_pay=("Bank transfer to First Bank", "IBAN DE02 1203 0000 0000 2020 51"),
    )


def _pdf_ms(invoice: Invoice, number: int) -> float:
    begun = process_time()
    document_pdf(document_view(invoice, _issue(number)), ISSUED)
    return (process_time() - begun) * 1000


def _html_ms(invoice: Invoice, number: int) -> float:
    begun = process_time()
    document_html(document_view(invoice, _issue(number)))
    return (process_time() - begun) * 1000


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
