"""What endpoints are told of invoices: the events that follow from an entry, with the invoice as it stands then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tallystick.billing.machine import Change
from tallystick.billing.model import InvoiceAccount, InvoiceEvent
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.core.webhook_events import NewEvent
from tallystick.ledger.invoice_operations import CreditInvoice

_TYPES = {"invoice": "invoice.finalized", "credit_note": "invoice.credited", "void": "invoice.voided"}


def news_of(
    org_id: str, before: Mapping[str, InvoiceAccount], change: Change, payment_id: str | None = None
) -> list[NewEvent]:
    """What is to be told of a change: what has happened, and which invoices are paid by it.

    Args:
        before: the org's invoices as they stood, as far as the change is about them.
        payment_id: of a payment, the provider's name, a colon and its id of the payment.
    """
    event = change.event
    if event is None:
        return []
    seq, news = change.step.seq, []
    more = _of_event(event, change.step.request, payment_id)
    for place, account in enumerate(change.accounts):
        data = invoice_data(org_id, account, event.at) | {"entry_seq": seq}
        if place == 0:
            kind = _TYPES.get(event.kind) or ("payment.returned" if event.amount_cents < 0 else "payment.recorded")
            news.append(NewEvent(org_id, kind, str(seq), data | more, event.at))
        known = before.get(account.invoice_id)
        if account.state(event.at) == "paid" and (known is None or known.state(event.at) != "paid"):
            news.append(NewEvent(org_id, "invoice.paid", f"{seq} {account.invoice_id}", data, event.at))
    return news


def invoice_data(org_id: str, account: InvoiceAccount, at: datetime) -> dict[str, Any]:
    """An invoice as endpoints are told of it: nothing personal, and no more than its balance."""
    return {
        "org_id": org_id,
        "invoice_id": account.invoice_id,
        "number": account.number,
        "period": account.period,
        "state": account.state(at),
        "total_usd": cents_to_usd(account.total_cents),
        "applied_usd": cents_to_usd(account.applied_cents),
        "carried_usd": cents_to_usd(account.carried_cents),
        "paid_usd": cents_to_usd(account.paid_cents),
        "credited_usd": cents_to_usd(account.credited_cents),
        "due_usd": cents_to_usd(account.due_cents),
        "issued_at": format_instant(account.issued_at),
        "due_at": format_instant(account.due_at),
        "digest": account.digest,
        "is_test": account.is_test,
    }


def _of_event(event: InvoiceEvent, request: object, payment_id: str | None) -> dict[str, Any]:
    amount_usd = cents_to_usd(abs(event.amount_cents))
    if event.kind == "payment":
        return {"amount_usd": amount_usd, "payment_id": payment_id}
    if event.kind == "credit_note":
        line = request.line if isinstance(request, CreditInvoice) else None
        return {"amount_usd": amount_usd, "credit_note_number": event.number, "line": line}
    return {"amount_usd": cents_to_usd(event.amount_cents)} if event.kind == "void" else {}
