"""Operations as they are answered, over HTTP and on the command line: plain JSON members, one place for both.

Credits and USD are decimal strings, instants RFC 3339 in UTC, ids as `ledger.operation_ids` writes them. The same
operation sent again has the same answer, to the byte: nothing here says whether it was written now or before.
"""

from __future__ import annotations

import math

from tallystick.app.answer_parts import (
    Members,
    budget_members,
    decision_members,
    entry_members,
    lot_members,
    override_members,
    pico_to_credits,
    receipt_members,
    sum_credits,
    terms_members,
    total,
    wallet_change,
)
from tallystick.contract.decision import Decision
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import (
    Authorize,
    Denied,
    Grant,
    Granted,
    Held,
    Recorded,
    Refund,
    ReleaseHold,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    Settled,
)


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
            "credits": sum_credits(result.lots),
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


def seconds_until_reset(recorded: Recorded, decision: Decision) -> int:
    """How long after its denial all that was in its way has begun anew."""
    resets = [one.resets_at for one in decision.limits if one.exceeded and one.kind == "hard"]
    seconds = [(reset - recorded.recorded_at).total_seconds() for reset in resets]
    return max(1, math.ceil(max(seconds, default=1)))


def settle_answer(recorded: Recorded) -> Members:
    """Of a settlement: what was charged and why, what went back, the events' receipts, and the wallet."""
    result, request = recorded.result, recorded.request
    assert isinstance(result, Settled)  # noqa: S101
    assert isinstance(request, Settle)  # noqa: S101
    charged_pico = total(result.charged) + total(result.overage) + result.receivable_pico
    return {
        "org_id": recorded.org_id,
        "settlement_id": operation_id("settlement", recorded.seq),
        "hold_id": operation_id("hold", request.hold_seq),
        "outcome": request.outcome,
        "charged_credits": pico_to_credits(charged_pico),
        "overage_credits": sum_credits(result.overage),
        "owed_credits": pico_to_credits(result.receivable_pico),
        "rounding_credits": pico_to_credits(result.rounding_pico),
        "returned_credits": sum_credits(result.returned),
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
        "returned_credits": sum_credits(result.returned),
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
        "refunded_credits": pico_to_credits(total(result.returned) + result.receivable_pico),
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
