"""What an operation was, and why, in a sentence each: for histories and explanations."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import Any

from tallystick.app.answer_parts import pico_to_credits
from tallystick.app.dispute_words import dispute_sentence
from tallystick.app.invoice_words import invoice_sentence
from tallystick.app.money_credit_words import credit_sentence
from tallystick.contract.decision import Decision
from tallystick.core.instants import format_instant
from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.credit_operations import CreditRequest, GiveCredit, RedeemPromo
from tallystick.ledger.dispute_operations import StepDispute, Stepped
from tallystick.ledger.invoice_operations import CreditInvoice, InvoiceRequest, IssueInvoice, Pay, VoidInvoice
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Denied,
    Ended,
    Expire,
    Grant,
    Held,
    Lot,
    Refund,
    ReleaseHold,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    Settled,
)

_SOURCES = {
    "top_up": "bought",
    "included": "included in the plan",
    "promo": "given as a promotion",
    "sla": "given because service fell short",
    "dispute": "given to settle a dispute",
    "goodwill": "given as goodwill",
    "refund": "given back",
}


def why(request: Any, result: Any) -> str | None:
    """The reason that was given, or what the decision or the settlement says; None where there is none."""
    reason: str | None = None
    match request:
        case Authorize():
            reason = result.decision.message
        case Settle():
            reason = result.why
        case (
            Grant()
            | Refund()
            | ReleaseHold()
            | Adjust()
            | CreditInvoice()
            | VoidInvoice()
            | GiveCredit()
            | StepDispute()
        ):
            reason = request.reason
        case SetOverride():
            reason = request.override.reason
        case SetStanding():
            reason = request.suspended
    return reason


@singledispatch
def sentence(request: Any, result: Any) -> str:
    """What the operation was. `request` and `result` are those of its body."""
    raise TypeError(f"{type(request).__name__} is no request of an operation")


@sentence.register
def _(request: Authorize, result: Held | Denied) -> str:
    asked = f"action {request.action}" if request.action else f"use of {request.feature}"
    asked += f" with {request.model}" if request.model else ""
    asked += f" for {request.work_key}" if request.work_key else ""
    if isinstance(result, Denied):
        return f"{asked} was denied: {result.decision.code}"
    reserved = f"{_sum(result.lots)} reserved until {format_instant(result.expires_at)}"
    shadow = " (shadow mode: enforcement would have refused it)" if _would_deny(result.decision) else ""
    return f"{asked} was allowed; {reserved}{shadow}"


@sentence.register
def _(request: Settle, result: Settled) -> str:
    charged_pico = _total(result.charged) + _total(result.overage) + result.receivable_pico
    owed = f", {credits_words(result.receivable_pico)} of it owed" if result.receivable_pico else ""
    back = f", {_sum(result.returned)} given back" if result.returned else ""
    hold = operation_id("hold", request.hold_seq)
    return f"hold {hold} ended in {request.outcome}: {credits_words(charged_pico)} charged{owed}{back}"


@sentence.register
def _(request: ReleaseHold, result: Returned) -> str:
    return f"hold {operation_id('hold', request.hold_seq)} was released: {_sum(result.returned)} given back"


@sentence.register
def _(request: Expire, result: Returned | Ended) -> str:
    what = f"{request.what} {operation_id(request.what, request.seq)} came to its end"
    if isinstance(result, Ended):
        return f"{what}: {_sum(result.lots)} gone"
    return f"{what}: {_sum(result.returned)} given back"


@sentence.register
def _(request: Refund, result: Returned) -> str:
    refunded = credits_words(_total(result.returned) + result.receivable_pico)
    return f"{refunded} of settlement {operation_id('settlement', request.settlement_seq)} given back"


@sentence.register
def _(request: Grant, _result: Any) -> str:
    until = "" if request.expires_at is None else f", until {format_instant(request.expires_at)}"
    return f"{credits_words(request.amount_pico)} {_SOURCES[request.source]}{until}"


@sentence.register
def _(request: SetOverride, _result: Any) -> str:
    override = request.override
    bends = [
        f"limit {index + 1} of the plan is {'lifted' if most < 0 else f'{most:,}'}"
        for index, most in sorted(override.limits.items())
    ]
    bends += [f"actions {', '.join(override.allow_actions)}"] if override.allow_actions else []
    bends += [f"models {', '.join(override.allow_models)}"] if override.allow_models else []
    bends += ["hard budgets are let pass"] if override.allow_overspend else []
    bends += [] if request.credits_pico is None else [credits_words(request.credits_pico)]
    return (
        f"an exception until {format_instant(override.expires_at)}, asked for by {override.author} and signed off by "
        f"{request.approved_by}: {'; '.join(bends)}"
    )


@sentence.register
def _(request: SetBudget, _result: Any) -> str:
    budget = request.budget
    if budget is None:
        return f"budget {request.name} was taken away"
    whose = {"org": "the org", "user": "user", "api_key": "API key", "feature": "feature"}[budget.scope]
    whom = "" if budget.scope == "org" else f" {budget.subject}" if budget.subject else ", each one by itself"
    of = "our cost" if budget.of == "cost" else "charges"
    most = f"{pico_to_credits(budget.max_pico)} USD of {of} a {budget.per}"
    return f"budget {request.name}: {most} for {whose}{whom}, {budget.kind}"


@sentence.register
def _(request: SetStanding, _result: Any) -> str:
    said = []
    if "suspended" not in request.keep:
        said.append("the org is in good standing" if request.suspended is None else "the org is suspended")
    if "enforcement" not in request.keep:
        mode = "that of its plan" if request.enforcement is None else request.enforcement
        said.append(f"its mode of enforcement is {mode}")
    return "; ".join(said) or "its standing stays as it is"


@sentence.register
def _(request: Adjust, _result: Any) -> str:
    changes = ", ".join(f"{line.quantity:+,} {line.meter}" for line in request.lines if line.quantity)
    of = f"entry {request.of_seq}" if request.of_seq is not None else f"use of {request.provider}/{request.model}"
    return f"{of} was adjusted: {changes or 'no quantity'}, at {pico_to_credits(request.cost_pico)} USD of cost"


@sentence.register(IssueInvoice)
@sentence.register(Pay)
@sentence.register(CreditInvoice)
@sentence.register(VoidInvoice)
def _(request: InvoiceRequest, result: Any) -> str:
    return invoice_sentence(request, result)


@sentence.register(GiveCredit)
@sentence.register(RedeemPromo)
def _(request: CreditRequest, result: Any) -> str:
    return credit_sentence(request, result)


@sentence.register
def _(request: StepDispute, result: Stepped) -> str:
    return dispute_sentence(request, result)


def credits_words(pico: int) -> str:
    """Pico-credits for a person, such as 5 credits."""
    return f"{pico_to_credits(pico)} credit{'' if pico == CREDIT else 's'}"


def _would_deny(decision: Decision) -> bool:
    return decision.enforced is not None and not decision.enforced.allow


def _total(lots: Iterable[Lot]) -> int:
    return sum([lot.amount_pico for lot in lots])


def _sum(lots: Iterable[Lot]) -> str:
    return credits_words(_total(lots))
