"""Any entry of the ledger in plain words: what it is, who asked for it, what it moved, and why."""

from __future__ import annotations

from typing import Any

from tallystick.app.answer_parts import (
    budget_members,
    decision_members,
    lot_members,
    override_members,
    pico_to_credits,
    terms_members,
    wallet_change,
)
from tallystick.app.dispute_words import dispute_members
from tallystick.app.invoice_words import invoice_members
from tallystick.app.money_credit_words import credit_members
from tallystick.app.operation_words import sentence, why
from tallystick.core.instants import format_instant
from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.credit_operations import GiveCredit, RedeemPromo
from tallystick.ledger.dispute_operations import StepDispute, Stepped
from tallystick.ledger.entry import Entry
from tallystick.ledger.invoice_operations import CreditInvoice, IssueInvoice, Pay, VoidInvoice
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import (
    Authorize,
    Denied,
    Ended,
    Expire,
    Grant,
    Granted,
    Held,
    Refund,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    Settled,
    WalletState,
)


def operation_summary(entry: Entry) -> dict[str, Any]:
    """One line of an account's history: what it was, by whom, what it moved, and a sentence."""
    request, result = read_body(entry.kind, entry.body or "")
    before, after = _wallets(result)
    moved = after is not None and before is not None
    return {
        "entry_id": operation_id(entry.kind, entry.seq),
        "seq": entry.seq,
        "kind": entry.kind,
        "request_id": entry.request_id,
        "recorded_at": format_instant(entry.recorded_at),
        "refers_to": _refers_to(entry, request),
        "by": _author(entry, request),
        "action": entry.action,
        "available_change": pico_to_credits(after.available_pico - before.available_pico) if after and before else "0",
        "held_change": pico_to_credits(after.held_pico - before.held_pico) if after and before else "0",
        "available": pico_to_credits(after.available_pico) if after and moved else None,
        "held": pico_to_credits(after.held_pico) if after and moved else None,
        "what": sentence(request, result),
        "why": why(request, result),
    }


def operation_members(entry: Entry) -> dict[str, Any]:
    """The whole of an operation as plain JSON members: its summary, the decision, and everything that it moved."""
    request, result = read_body(entry.kind, entry.body or "")
    before, after = _wallets(result)
    members = operation_summary(entry) | {
        "user_id": entry.user_id,
        "session_id": entry.session_id,
        "attributes": dict(entry.attributes or {}),
        "erased": entry.salt is None,
        "rate_version": entry.rate_version,
        "fingerprint": None if entry.fingerprint is None else entry.fingerprint.hex(),
        "leaf": entry.leaf.hex(),
        "wallet": None if before is None or after is None else wallet_change(before, after),
    }
    match request, result:
        case Authorize(), Held() | Denied():
            members |= {
                "feature": request.feature,
                "environment": request.environment,
                "model": request.model,
                "provider": request.provider,
                "work_key": request.work_key,
                "meters": dict(request.meters),
                "decision": decision_members(result.decision),
            }
            if isinstance(result, Held):
                members |= {"expires_at": format_instant(result.expires_at), "held_from": lot_members(result.lots)}
        case Settle(), Settled():
            members |= {
                "outcome": request.outcome,
                "events": list(request.events),
                "charged_from": lot_members((*result.charged, *result.overage)),
                "owed_credits": pico_to_credits(result.receivable_pico),
                "rounding_credits": pico_to_credits(result.rounding_pico),
                "returned_to": lot_members(result.returned),
                "cost_usd": pico_to_credits(result.cost_pico),
                "priced": result.priced,
                "terms": terms_members(result),
            }
        case _, Returned():
            members |= {"returned_to": lot_members(result.returned)}
        case Grant(), _:
            members |= {
                "source": request.source,
                "credits": pico_to_credits(request.amount_pico),
                "priority": request.priority,
                "expires_at": None if request.expires_at is None else format_instant(request.expires_at),
            }
        case SetBudget(), _:
            members |= {"budget": None if request.budget is None else budget_members(request.budget)}
        case SetOverride(), _:
            members |= {"override": override_members(request, entry.seq)}
        case Adjust(), _:
            members |= {
                "feature": request.feature,
                "environment": request.environment,
                "provider": request.provider,
                "model": request.model,
                "outcome": request.outcome,
                "payer": request.payer,
                "time": format_instant(entry.time),
                "adjusted": [
                    {"meter": line.meter, "quantity": line.quantity, "cost_usd": pico_to_credits(line.cost_pico)}
                    for line in request.lines
                ],
                "cost_usd": pico_to_credits(request.cost_pico),
                "source": request.source,
                "source_sha256": request.source_sha256,
            }
        case IssueInvoice() | Pay() | CreditInvoice() | VoidInvoice(), _:
            members |= {"invoice": invoice_members(request, result)}
        case StepDispute(), Stepped():
            members |= {"dispute": dispute_members(request, result)}
        case GiveCredit() | RedeemPromo(), _:
            members |= {"credit": credit_members(request, result)}
        case SetStanding(), _:
            members |= {"suspended": request.suspended, "enforcement": request.enforcement, "keep": list(request.keep)}
    return members


def _wallets(result: Any) -> tuple[WalletState | None, WalletState | None]:
    match result:
        case Denied():
            return result.wallet, result.wallet
        case Held() | Settled() | Returned() | Ended() | Granted():
            return result.before, result.after
    return None, None


def _author(entry: Entry, request: Any) -> str | None:
    match request:
        case Grant() | Refund() | SetBudget() | SetStanding() | Adjust() | Pay() | CreditInvoice() | VoidInvoice():
            return request.author
        case GiveCredit() | RedeemPromo():
            return request.author
        case StepDispute():
            return request.author
        case SetOverride():
            return request.override.author
    return entry.user_id


def _refers_to(entry: Entry, request: Any) -> str | None:
    if entry.refers_to_seq is None:
        return operation_id("grant", request.of_seq) if isinstance(request, Grant) and request.of_seq else None
    kind = "hold"
    match request:
        case Adjust():
            return str(entry.refers_to_seq)
        case StepDispute():
            kind = "dispute"
        case Refund():
            kind = "settlement"
        case Pay() | CreditInvoice() | VoidInvoice():
            kind = "invoice"
        case Expire():
            kind = request.what
    return operation_id(kind, entry.refers_to_seq)
