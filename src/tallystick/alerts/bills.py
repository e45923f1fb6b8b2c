"""Invoices that are overdue: told after so many days, and again after more."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from tallystick.alerts.model import Condition, counted
from tallystick.alerts.preferences import Preferences
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd

_DAY = timedelta(days=1)


class OverdueInvoice(NamedTuple):
    """An issued invoice of which something is left to be paid."""

    org_id: str
    invoice_id: str
    number: str
    due_at: datetime
    left_cents: int
    is_test: bool = False


def unpaid_condition(invoice: OverdueInvoice, now: datetime, wanted: Preferences) -> Condition | None:
    """How long it is overdue."""
    days = (now - invoice.due_at) // _DAY
    level = sum(days >= one for one in wanted.unpaid_days) if now >= invoice.due_at else 0
    if not level or invoice.left_cents < wanted.unpaid_cents:
        return None
    last = level == len(wanted.unpaid_days) and level > 1
    left = cents_to_usd(invoice.left_cents)
    return Condition(
        org_id=invoice.org_id,
        rule="unpaid_invoice",
        subject=invoice.number,
        level=level,
        severity="critical" if last else "warning",
        summary=f"of invoice {invoice.number}, {left} USD are overdue"
        + (f" for {counted(days, 'day')}" if days else " since today"),
        figures={
            "invoice_id": invoice.invoice_id,
            "number": invoice.number,
            "left_usd": left,
            "due_at": format_instant(invoice.due_at),
            "overdue_days": days,
        },
        next_step="ask for it, or record what came in: tally invoice pay, or POST /v1/invoices/{invoice}/payments",
        is_test=invoice.is_test,
    )
