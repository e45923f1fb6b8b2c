"""What became of an invoice, in a sentence, and as plain members: for histories and explanations."""

from __future__ import annotations

from typing import Any

from tallystick.app.money_credit_words import applied_members
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.ledger.invoice_operations import (
    Credited,
    CreditInvoice,
    InvoiceBalance,
    InvoiceRequest,
    InvoiceResult,
    Issued,
    IssueInvoice,
    Pay,
    Voided,
    VoidInvoice,
)


def invoice_sentence(request: InvoiceRequest, result: InvoiceResult) -> str:
    """What the operation was."""
    match request, result:
        case IssueInvoice(), Issued():
            due = f"due {format_instant(result.due_at)}"
            by = f", {_usd(_covered(result.balance))} of it by credits" if result.applied else ""
            return f"invoice {result.number} for {request.period} over {_usd(request.total_cents)} issued{by}, {due}"
        case Pay(), _:
            what = f"{_usd(request.amount_cents)} {'went back for' if request.returned else 'came in for'} invoice"
            return f"{what} {request.invoice_id}, by {request.source}{_left(result)}"
        case CreditInvoice(), Credited():
            line = "" if request.line is None else f", line {request.line}"
            note = f"credit note {result.number} over {_usd(request.amount_cents)}"
            return f"{note} on invoice {request.invoice_id}{line}{_left(result)}"
        case VoidInvoice(), Voided():
            had_cents = sum(one.amount_cents for one in result.returned)
            back = f", {_usd(had_cents)} of credits given back" if had_cents else ""
            return f"invoice {request.invoice_id} voided: {_usd(result.amount_cents)} taken back{back}"
    raise TypeError(f"{type(request).__name__} has no result of the type {type(result).__name__}")


def invoice_members(request: InvoiceRequest, result: InvoiceResult) -> dict[str, Any]:
    """All that its entry says, as plain JSON members; amounts are decimal strings of USD."""
    members: dict[str, Any] = {"invoice_id": request.invoice_id, "after": balance_members(result.balance)}
    match request, result:
        case IssueInvoice(), Issued():
            members |= {
                "number": result.number,
                "month": request.period,
                "digest": request.digest,
                "total_usd": cents_to_usd(request.total_cents),
                "due_at": format_instant(result.due_at),
                "applied": applied_members(result.applied),
                "contract": request.contract,
                "contract_version": request.contract_version,
                "contract_sha256": request.contract_sha256,
                "seller_sha256": request.seller_sha256,
                "bill_to": request.bill_to,
                "bill_to_sha256": request.bill_to_sha256,
                "test": request.is_test,
            }
        case Pay(), _:
            members |= {
                "provider": request.source,
                "amount_usd": cents_to_usd(request.amount_cents),
                "returned": request.returned,
                "reference": request.reference,
            }
        case CreditInvoice(), Credited():
            members |= {
                "number": result.number,
                "amount_usd": cents_to_usd(request.amount_cents),
                "account": request.account,
                "line": request.line,
            }
        case VoidInvoice(), Voided():
            members |= {
                "amount_usd": cents_to_usd(result.amount_cents),
                "returned": applied_members(result.returned),
            }
    return members


def balance_members(balance: InvoiceBalance) -> dict[str, str]:
    """What an invoice comes to."""
    return {
        "total_usd": cents_to_usd(balance.total_cents),
        "applied_usd": cents_to_usd(balance.applied_cents),
        "carried_usd": cents_to_usd(balance.carried_cents),
        "paid_usd": cents_to_usd(balance.paid_cents),
        "credited_usd": cents_to_usd(balance.credited_cents),
        "due_usd": cents_to_usd(balance.due_cents),
    }


def _covered(balance: InvoiceBalance) -> int:
    return balance.applied_cents + balance.carried_cents


def _left(result: InvoiceResult) -> str:
    due_cents = result.balance.due_cents
    return f"; {_usd(due_cents)} still due" if due_cents > 0 else "; nothing is due any more"


def _usd(cents: int) -> str:
    return f"{cents_to_usd(cents)} USD"
