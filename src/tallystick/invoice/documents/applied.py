"""What an issued invoice uses of credits, as it stands on paper: under the total, down to what is to be paid."""

from __future__ import annotations

from tallystick.core.money import cents_to_usd
from tallystick.invoice.documents.issue import Issue
from tallystick.invoice.documents.locales import Writer
from tallystick.invoice.model import Invoice
from tallystick.ledger.invoice_operations import Applied

_LABELS = {
    "promo": "Promotional credit",
    "sla": "Service credit",
    "dispute": "Credit from a dispute",
    "goodwill": "Goodwill credit",
}


def due_cents(invoice: Invoice, issue: Issue) -> int:
    """What was to be paid when the invoice was issued; below nothing where it is in the customer's favour."""
    return invoice.total_cents - sum([one.amount_cents for one in issue.applied])


def applied_rows(issue: Issue, writer: Writer) -> list[dict[str, str]]:
    """A row for each credit that was used, in the order in which they were."""
    return [
        {"label": applied_label(one, writer), "amount": writer.amount(cents_to_usd(-one.amount_cents))}
        for one in issue.applied
    ]


def applied_label(used: Applied, writer: Writer | None = None) -> str:
    """What it is called, such as `Promo code SPRING24, 20 %`."""
    if used.source == "carried":
        return f"Your money from invoice {used.label}"
    if used.source != "promo" or used.label is None:
        return _LABELS[used.source]
    share = ""
    if used.percent_bp is not None:
        percent = cents_to_usd(used.percent_bp).rstrip("0").rstrip(".")
        share = f", {percent if writer is None else writer.number(percent)} %"
    return f"Promo code {used.label}{share}"
