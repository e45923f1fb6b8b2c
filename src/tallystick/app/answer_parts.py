"""The parts that answers about accounts are made of: decisions, limits, wallets, lots, receipts, as plain JSON members.

Credits and USD are decimal strings, instants RFC 3339 in UTC, ids as `ledger.operation_ids` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tallystick.contract.decision import Budget, Decision, LimitLooked, NextStep, Quote, Verdict
from tallystick.core.instants import format_instant
from tallystick.core.money import format_decimal, pico_to_usd
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Lot, Recorded, SetOverride, Settled, WalletState
from tallystick.ledger.receipt import Receipt

pico_to_credits = pico_to_usd
"""Credits as the shortest plain decimal string: a credit has as many pico-credits as a USD pico-USD."""

Members = dict[str, Any]


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
    resets_at = format_instant(one.resets_at)
    warned_at = None if one.warned_at is None else format_decimal(one.warned_at)
    if one.what == "limit":
        return {
            "name": one.name,
            "kind": one.kind,
            "per": one.per,
            "used": one.used,
            "held": one.held,
            "requested": one.requested,
            "max": None if one.max < 0 else one.max,
            "exceeded": one.exceeded,
            "resets_at": resets_at,
            "warned_at": warned_at,
        }
    return {
        "name": one.name,
        "kind": one.kind,
        "per": one.per,
        "used_usd": pico_to_usd(one.used),
        "held_usd": pico_to_usd(one.held),
        "requested_usd": pico_to_usd(one.requested),
        "max_usd": None if one.max < 0 else pico_to_usd(one.max),
        "exceeded": one.exceeded,
        "resets_at": resets_at,
        "warned_at": warned_at,
    }


def budget_members(budget: Budget) -> Members:
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
        "credits": None if request.credits_pico is None else pico_to_credits(request.credits_pico),
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
        "status": receipt.status,
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


def total(lots: Iterable[Lot]) -> int:
    """The sum of the lots, in pico-credits."""
    return sum([lot.amount_pico for lot in lots])


def sum_credits(lots: Iterable[Lot]) -> str:
    """The same as a decimal string of credits."""
    return pico_to_credits(total(lots))
