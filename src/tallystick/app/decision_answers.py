"""Operations as they are answered, over HTTP and on the command line: plain JSON members, one place for both.

Credits and USD are decimal strings, instants RFC 3339 in UTC, ids as `ledger.operation_ids` writes them. The same
operation sent again has the same answer, to the byte: nothing here says whether it was written now or before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tallystick.contract.decision import Decision, LimitLooked, NextStep, Quote, Verdict
from tallystick.core.instants import format_instant
from tallystick.core.money import format_decimal, pico_to_usd
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import (
    Authorize,
    Denied,
    Grant,
    Granted,
    Held,
    Lot,
    Recorded,
    Refund,
    ReleaseHold,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    Settled,
    WalletState,
)
from tallystick.ledger.receipt import Receipt

pico_to_credits = pico_to_usd
"""Credits as the shortest plain decimal string: a credit has as many pico-credits as a USD pico-USD."""

Members = dict[str, Any]


def answer_of(recorded: Recorded) -> Members:
    """The answer to an operation, whatever it is."""
    result = recorded.result
    match result:
        case Held() | Denied():
            return authorize_answer(recorded)
        case Settled():
            return settle_answer(recorded)
        case Returned() if isinstance(recorded.request, Refund):
            return refund_answer(recorded)
        case Returned():
            return release_answer(recorded)
        case Granted():
            return grant_answer(recorded)
        case _:
            return noted_answer(recorded)


def authorize_answer(recorded: Recorded) -> Members:
    """Of a hold or a denial: the decision, the hold (None for a denial), and the wallet before and after."""
    result, request = recorded.result, recorded.request
    assert isinstance(request, Authorize)  # noqa: S101 - what an authorize request is
    if isinstance(result, Held):
        hold: Members | None = {
            "hold_id": operation_id("hold", recorded.seq),
            "expires_at": format_instant(result.expires_at),
            "credits": _sum(result.lots),
        }
        decision, before, after = result.decision, result.before, result.after
    else:
        assert isinstance(result, Denied)  # noqa: S101 - a request is allowed or denied
        hold, decision, before, after = None, result.decision, result.wallet, result.wallet
    return {
        "org_id": recorded.org_id,
        "request_id": recorded.request_id,
        "decision": decision_members(decision),
        "hold": hold,
        "wallet": wallet_change(before, after),
        "versions": {**terms_members(decision), "rate_version": recorded.rate_version},
        "entry": entry_members(recorded),
    }


def settle_answer(recorded: Recorded) -> Members:
    """Of a settlement: what was charged and why, what went back, the events' receipts, and the wallet."""
    result, request = recorded.result, recorded.request
    assert isinstance(result, Settled)  # noqa: S101
    assert isinstance(request, Settle)  # noqa: S101
    charged_pico = _total(result.charged) + _total(result.overage) + result.receivable_pico
    return {
        "org_id": recorded.org_id,
        "settlement_id": operation_id("settlement", recorded.seq),
        "hold_id": operation_id("hold", request.hold_seq),
        "outcome": request.outcome,
        "charged_credits": pico_to_credits(charged_pico),
        "overage_credits": _sum(result.overage),
        "owed_credits": pico_to_credits(result.receivable_pico),
        "rounding_credits": pico_to_credits(result.rounding_pico),
        "returned_credits": _sum(result.returned),
        "why": result.why,
        "cost_usd": pico_to_usd(result.cost_pico),
        "priced": result.priced,
        "charged_from": lot_members((*result.charged, *result.overage)),
        "wallet": wallet_change(result.before, result.after),
        "events": [receipt_members(receipt) for receipt in recorded.usage],
        "versions": {**terms_members(result), "rate_version": recorded.rate_version},
        "entry": entry_members(recorded),
    }


def release_answer(recorded: Recorded) -> Members:
    """Of a release or the expiry of a hold: what went back, and the wallet."""
    result, request = recorded.result, recorded.request
    assert isinstance(result, Returned)  # noqa: S101
    return {
        "org_id": recorded.org_id,
        "hold_id": None if recorded.refers_to_seq is None else operation_id("hold", recorded.refers_to_seq),
        "returned_credits": _sum(result.returned),
        "reason": request.reason if isinstance(request, ReleaseHold) else None,
        "wallet": wallet_change(result.before, result.after),
        "versions": {"rate_version": recorded.rate_version},
        "entry": entry_members(recorded),
    }


def refund_answer(recorded: Recorded) -> Members:
    """Of a refund: what went back to which grants, and the wallet."""
    result, request = recorded.result, recorded.request
    assert isinstance(result, Returned)  # noqa: S101
    assert isinstance(request, Refund)  # noqa: S101
    return {
        "org_id": recorded.org_id,
        "request_id": recorded.request_id,
        "refund_id": operation_id("refund", recorded.seq),
        "settlement_id": operation_id("settlement", request.settlement_seq),
        "refunded_credits": pico_to_credits(_total(result.returned) + result.receivable_pico),
        "no_longer_owed_credits": pico_to_credits(result.receivable_pico),
        "returned_to": lot_members(result.returned),
        "author": request.author,
        "reason": request.reason,
        "wallet": wallet_change(result.before, result.after),
        "versions": {"rate_version": recorded.rate_version},
        "entry": entry_members(recorded),
    }


def grant_answer(recorded: Recorded) -> Members:
    """Of a grant: its id, what came in, and the wallet."""
    result, request = recorded.result, recorded.request
    assert isinstance(result, Granted)  # noqa: S101
    assert isinstance(request, Grant)  # noqa: S101
    return {
        "org_id": recorded.org_id,
        "request_id": recorded.request_id,
        "grant_id": operation_id("grant", recorded.seq),
        "source": request.source,
        "credits": pico_to_credits(request.amount_pico),
        "priority": request.priority,
        "expires_at": None if request.expires_at is None else format_instant(request.expires_at),
        "author": request.author,
        "reason": request.reason,
        "wallet": wallet_change(result.before, result.after),
        "versions": {"rate_version": recorded.rate_version},
        "entry": entry_members(recorded),
    }


def noted_answer(recorded: Recorded) -> Members:
    """Of a budget, an override or a standing: what was said."""
    answer: Members = {
        "org_id": recorded.org_id,
        "request_id": recorded.request_id,
        "versions": {"rate_version": recorded.rate_version},
        "entry": entry_members(recorded),
    }
    request = recorded.request
    match request:
        case SetBudget():
            budget = None if request.budget is None else budget_members(request.budget)
            return answer | {"name": request.name, "budget": budget, "author": request.author}
        case SetOverride():
            seq = recorded.seq
            return answer | {"override": override_members(request, seq)}
        case SetStanding():
            return answer | {
                "suspended": request.suspended,
                "enforcement": request.enforcement,
                "keep": list(request.keep),
                "author": request.author,
            }
        case _:
            raise AssertionError(f"{type(request).__name__} is noted nowhere")


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def decision_members(decision: Decision) -> Members:
    """A decision: what was decided, why, what was looked at, what it would cost, and under which terms."""
    looked = decision.limits
    return {
        "allow": decision.allow,
        "code": decision.code,
        "message": decision.message,
        "next_step": _step(decision.next_step),
        "limits": [limit_members(one) for one in looked if one.what == "limit"],
        "budgets": [limit_members(one) for one in looked if one.what == "budget"],
        "quote": _quote(decision.quote),
        "shadow": decision.shadow,
        "enforced": None if decision.enforced is None else _verdict(decision.enforced),
        "overrides": [operation_id("override", seq) for seq in decision.overrides],
        **terms_members(decision),
    }


def limit_members(one: LimitLooked) -> Members:
    """A limit, in the meters' units, or a budget, in USD: how far it is used and held, and when it begins anew."""
    members: Members = {"name": one.name, "kind": one.kind, "per": one.per}
    if one.what == "limit":
        unlimited = one.max < 0
        members |= {"used": one.used, "held": one.held, "requested": one.requested}
        members["max"] = None if unlimited else one.max
    else:
        members |= {
            "used_usd": pico_to_usd(one.used),
            "held_usd": pico_to_usd(one.held),
            "requested_usd": pico_to_usd(one.requested),
            "max_usd": None if one.max < 0 else pico_to_usd(one.max),
        }
    return members | {
        "exceeded": one.exceeded,
        "resets_at": format_instant(one.resets_at),
        "warned_at": None if one.warned_at is None else format_decimal(one.warned_at),
    }


def budget_members(budget: Any) -> Members:
    """A cost guard as it is set."""
    return {
        "name": budget.name,
        "scope": budget.scope,
        "subject": budget.subject,
        "of": budget.of,
        "per": budget.per,
        "kind": budget.kind,
        "max_usd": pico_to_usd(budget.max_pico),
    }


def override_members(request: SetOverride, seq: int) -> Members:
    """A signed-off exception; limits by their number in the plan, from 1, null for none at all."""
    override = request.override
    return {
        "override_id": operation_id("override", seq),
        "author": override.author,
        "approved_by": request.approved_by,
        "reason": override.reason,
        "expires_at": format_instant(override.expires_at),
        "plan": override.plan,
        "limits": {str(index + 1): None if most < 0 else most for index, most in sorted(override.limits.items())},
        "allow_actions": list(override.allow_actions),
        "allow_models": list(override.allow_models),
        "allow_overspend": override.allow_overspend,
    }


def wallet_change(before: WalletState, after: WalletState) -> Members:
    """The wallet before and after."""
    return {"before": wallet_members(before), "after": wallet_members(after)}


def wallet_members(wallet: WalletState) -> Members:
    """What is available and what is held, in credits."""
    return {"available": pico_to_credits(wallet.available_pico), "held": pico_to_credits(wallet.held_pico)}


def lot_members(lots: Iterable[Lot]) -> list[Members]:
    """Amounts by grant."""
    return [
        {"grant_id": operation_id("grant", lot.grant_seq), "credits": pico_to_credits(lot.amount_pico)} for lot in lots
    ]


def entry_members(recorded: Recorded) -> Members:
    """Where the operation stands in the ledger."""
    return {
        "seq": recorded.seq,
        "kind": recorded.kind,
        "recorded_at": format_instant(recorded.recorded_at),
        "fingerprint": recorded.fingerprint,
        "leaf": recorded.leaf,
    }


def receipt_members(receipt: Receipt) -> Members:
    """A usage event of a settlement as it stands in the ledger."""
    return {
        "request_id": receipt.request_id,
        "seq": receipt.seq,
        "recorded_at": None if receipt.recorded_at is None else format_instant(receipt.recorded_at),
        "cost_usd": None if receipt.cost_pico is None else pico_to_usd(receipt.cost_pico),
        "cost_status": receipt.cost_status,
        "rate_version": receipt.rate_version,
        "fingerprint": receipt.fingerprint,
        "leaf": receipt.leaf,
    }


def _step(step: NextStep) -> Members:
    members: Members = {"kind": step.kind, "text": step.text}
    if step.plan is not None:
        members["plan"] = step.plan
    if step.model is not None:
        members["model"] = step.model
    if step.until is not None:
        members["until"] = format_instant(step.until)
    if step.credits_pico is not None:
        members["credits"] = pico_to_credits(step.credits_pico)
    return members


def _verdict(verdict: Verdict) -> Members:
    return {
        "allow": verdict.allow,
        "code": verdict.code,
        "message": verdict.message,
        "next_step": _step(verdict.next_step),
    }


def _quote(quote: Quote) -> Members:
    worst = quote.worst_cost_pico
    return {
        "credits": pico_to_credits(quote.credits_pico),
        "reserve_credits": pico_to_credits(quote.reserve_pico),
        "worst_cost_usd": None if worst is None else pico_to_usd(worst),
        "repeat": quote.repeat,
        "shows": quote.shows,
    }


def terms_members(of: Decision | Settled) -> Members:
    """Under which terms it was decided or charged."""
    return {
        "contract": of.contract,
        "contract_version": of.contract_version,
        "contract_sha256": of.contract_sha256,
        "plan": of.plan,
    }


def _total(lots: Iterable[Lot]) -> int:
    return sum([lot.amount_pico for lot in lots])


def _sum(lots: Iterable[Lot]) -> str:
    return pico_to_credits(_total(lots))
