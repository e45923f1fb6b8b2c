"""What a step is answered, as members to compare with what is expected (`case_expect.MEMBERS`)."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.contract.decision import Decision, NextStep
from tallystick.core.instants import format_instant
from tallystick.core.money import format_decimal
from tallystick.ledger.operations import Lot, Returned, Settled, WalletState
from tallystick.simulate.case_amounts import UNKNOWN, credits
from tallystick.simulate.case_model import Value


def held_members(decision: Decision, lots: Iterable[Lot]) -> dict[str, Value]:
    """Of a decision, and what is reserved for it."""
    quote, enforced = decision.quote, decision.enforced
    members: dict[str, Value] = {
        **_verdict("", decision.allow, decision.code, decision.next_step),
        "says": decision.message,
        "quoted": credits(quote.credits_pico),
        "reserved": credits(_sum(lots)),
        "worst_cost_usd": UNKNOWN if quote.worst_cost_pico is None else credits(quote.worst_cost_pico),
        "repeat": quote.repeat,
        "exceeded": tuple(one.name for one in decision.limits if one.exceeded),
        "warned": tuple(
            f"{one.name}: {format_decimal(one.warned_at)}" for one in decision.limits if one.warned_at is not None
        ),
        "overridden": bool(decision.overrides),
        "shadow": decision.shadow,
    }
    if enforced is not None:
        members |= _verdict("enforced.", enforced.allow, enforced.code, enforced.next_step)
    return members


def _verdict(prefix: str, allow: bool, code: str, step: NextStep) -> dict[str, Value]:
    return {
        f"{prefix}decision": "allow" if allow else "deny",
        f"{prefix}code": code,
        f"{prefix}next_step.kind": step.kind,
        f"{prefix}next_step.plan": step.plan or "none",
        f"{prefix}next_step.model": step.model or "none",
        f"{prefix}next_step.until": "none" if step.until is None else format_instant(step.until),
        f"{prefix}next_step.credits": credits(step.credits_pico or 0),
    }


def settled_members(settled: Settled) -> dict[str, Value]:
    """Of a settlement."""
    overage_pico = _sum(settled.overage)
    charged_pico = _sum(settled.charged) + overage_pico + settled.receivable_pico
    return {
        "says": settled.why,
        "charged": credits(charged_pico),
        "rounding": credits(settled.rounding_pico),
        "overage": credits(overage_pico),
        "owed": credits(settled.receivable_pico),
        "returned": credits(_sum(settled.returned)),
        "expired": credits(settled.expired_pico),
        "finished": settled.finished,
        "cost_usd": credits(settled.cost_pico),
    }


def returned_members(returned: Returned, *, refunded_pico: int | None = None) -> dict[str, Value]:
    """Of a release, and of a refund of so much."""
    members: dict[str, Value] = {
        "returned": credits(_sum(returned.returned)),
        "expired": credits(returned.expired_pico),
    }
    if refunded_pico is not None:
        members |= {"refunded": credits(refunded_pico), "no_longer_owed": credits(returned.receivable_pico)}
    return members


def wallet_members(wallet: WalletState) -> dict[str, Value]:
    """Of the wallet after a step."""
    return {"wallet.available": credits(wallet.available_pico), "wallet.held": credits(wallet.held_pico)}


def _sum(lots: Iterable[Lot]) -> int:
    return sum(lot.amount_pico for lot in lots)
