"""The safe next step after a denial: something that would help, and that the asker is free to do."""

from __future__ import annotations

import math
from datetime import datetime
from difflib import get_close_matches

import msgspec

from tallystick.contract.charging import PICO_PER_CREDIT, credits_text
from tallystick.contract.decision import LimitUse, NextStep, OrgState, ReasonCode, Request
from tallystick.contract.model import Plan
from tallystick.contract.policy_limits import free_again_at
from tallystick.contract.policy_reasons import Finding, find_reason
from tallystick.contract.policy_terms import Terms, plain_models, terms_of
from tallystick.core.instants import format_instant

NONE = NextStep(kind="none", text="Nothing; go on.")
_FIXED: dict[ReasonCode, NextStep] = {
    "allowed": NONE,
    "unknown_plan": NextStep(kind="contact", text="Ask whoever runs this service to put the org on one of its plans."),
    "org_suspended": NextStep(kind="contact", text="Ask whoever runs this service why, and to take the org up again."),
    "unpriced_model": NextStep(
        kind="use_model",
        text="Use a model whose price is known, or ask for this one's rate to be added to the rate card.",
    ),
}
NAMED_MAX = 10
"""How many names a sentence lists."""


def next_step(terms: Terms, state: OrgState, request: Request, found: Finding) -> NextStep:
    """What to do now, for the reason that was found."""
    plan = terms.plan
    step = _FIXED.get(found.code)
    if plan is None or step is not None:
        return step or _FIXED["unknown_plan"]
    match found.code:
        case "unknown_action":
            step = _named_action(terms, request)
        case "action_not_in_plan":
            step = _upgrade(terms, plan, state, request) or _another_action(terms)
        case "model_not_in_plan":
            step = _plain_model(plan) or _upgrade(terms, plan, state, request) or _another_model(plan)
        case "hard_limit_reached":
            step = _limit(terms, plan, state, request, found)
        case "budget_exceeded":
            step = _budget(found)
        case _:
            step = _credits(terms, plan, state, request, found)
    return step


def _named_action(terms: Terms, request: Request) -> NextStep:
    offered = _offered(terms)
    close = get_close_matches((request.action or "")[:100], offered, n=1)
    hint = f"probably {close[0]!r}." if close else f"there are: {_names(offered)}."
    return NextStep(kind="fix_request", text=f"Name one of the contract's actions; {hint}")


def _another_action(terms: Terms) -> NextStep:
    offered = _offered(terms)
    if not offered:
        return NextStep(kind="contact", text="Ask for the action to be added to the plan.")
    return NextStep(kind="use_action", text=f"Use one of the plan's actions: {_names(offered)}.")


def _offered(terms: Terms) -> list[str]:
    names = terms.contract.actions if terms.plan is None or terms.plan.actions is None else terms.plan.actions
    return list(names)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return (", ".join(names[:NAMED_MAX]) or "none") + more


def _plain_model(plan: Plan) -> NextStep | None:
    plain = plain_models(plan.models)
    return NextStep(kind="use_model", text=f"Use the model {plain[0]}.", model=plain[0]) if plain else None


def _another_model(plan: Plan) -> NextStep:
    rules = plan.models
    allowed = f"Use a model whose name fits {' or '.join(rules.allow[:NAMED_MAX])}" if rules.allow else "Use a model"
    denied = f"{',' if rules.allow else ' whose name fits'} none of {', '.join(rules.deny[:NAMED_MAX])}"
    return NextStep(kind="use_model", text=f"{allowed}{denied if rules.deny else ''}.")


def _limit(terms: Terms, plan: Plan, state: OrgState, request: Request, found: Finding) -> NextStep:
    again_at = free_again_at(found.looked)
    wait = "" if again_at is None else f"wait until {format_instant(again_at)}"
    upgrade = _upgrade(terms, plan, state, request, until=again_at, otherwise=wait)
    if upgrade is not None:
        return upgrade
    if again_at is not None:
        return NextStep(kind="wait", text=f"{wait[0].upper()}{wait[1:]}.", until=again_at)
    passed = found.passed
    if passed is None or passed.max <= 0:
        return NextStep(kind="contact", text="Ask for the limit to be raised; the plan has none of this.")
    text = f"Ask for at most {passed.max:,} in one request, or ask for the limit to be raised."
    return NextStep(kind="fix_request", text=text)


def _budget(found: Finding) -> NextStep:
    again_at = free_again_at(found.looked)
    name = "" if found.passed is None else found.passed.name
    if again_at is None:
        return NextStep(
            kind="contact", text=f"Ask whoever set the budget {name!r} to raise it: it has no room for this."
        )
    text = f"Wait until {format_instant(again_at)}, or ask whoever set the budget {name!r} to raise it."
    return NextStep(kind="wait", text=text, until=again_at)


def _credits(terms: Terms, plan: Plan, state: OrgState, request: Request, found: Finding) -> NextStep:
    missing_pico = found.quote.reserve_pico - state.available_pico
    if plan.top_up:
        needed_pico = math.ceil(missing_pico / PICO_PER_CREDIT) * PICO_PER_CREDIT
        return NextStep(kind="top_up", text=f"Top up at least {credits_text(needed_pico)}.", credits_pico=needed_pico)
    enough = plan.included_credits * PICO_PER_CREDIT >= found.quote.reserve_pico
    again_at = state.next_grant_at if enough else None
    wait = "" if again_at is None else f"wait for the next included credits at {format_instant(again_at)}"
    upgrade = _upgrade(terms, plan, state, request, until=again_at, otherwise=wait)
    if upgrade is not None:
        return upgrade
    if again_at is not None:
        return NextStep(kind="wait", text=f"{wait[0].upper()}{wait[1:]}.", until=again_at)
    return NextStep(kind="contact", text="Ask for more credits; the plan cannot be topped up.")


def _upgrade(
    terms: Terms, plan: Plan, state: OrgState, request: Request, *, until: datetime | None = None, otherwise: str = ""
) -> NextStep | None:
    """The first plan up the chain of upgrades under which the request would be allowed."""
    seen = {plan.name}
    name = plan.upgrade_to
    while name is not None and name not in seen:
        seen.add(name)
        other = terms_of(terms.contract, name)
        if other.plan is None:
            return None
        code = find_reason(other, _moved(other, plan, state), request).code
        if code in {"allowed", "insufficient_credits"}:  # which a top-up there mends
            more = " and top up" if code == "insufficient_credits" else ""
            text = f"Upgrade to {other.plan.title}{more}{f', or {otherwise}' if otherwise else ''}."
            return NextStep(kind="upgrade", text=text, plan=name, until=until)
        name = other.plan.upgrade_to
    return None


def _moved(other: Terms, plan: Plan, state: OrgState) -> OrgState:
    """The org's state as far as it is known under another plan.

    What overrides say of the present plan's limits is left out. A limit of the other plan counts as used as the
    present plan's tightest one does that has its window and at least its meters; nothing when there is no such one.
    """
    limits: list[LimitUse] = []
    for index, terms in enumerate(other.limits):
        known = [
            use
            for use in state.limits
            if use.index < len(plan.limits)
            and plan.limits[use.index].per == terms.limit.per
            and set(terms.meters) <= set(plan.limits[use.index].meters)
        ]
        least = min(known, key=lambda use: use.used + use.held, default=None)
        now = state.now
        limits.append(
            LimitUse(index=index, used=0, held=0, starts_at=now, resets_at=now)
            if least is None
            else LimitUse(
                index=index, used=least.used, held=least.held, starts_at=least.starts_at, resets_at=least.resets_at
            )
        )
    available_pico = state.available_pico
    if other.plan is not None and other.plan.has_wallet and not plan.has_wallet:
        available_pico += other.plan.included_credits * PICO_PER_CREDIT
    return OrgState(
        now=state.now,
        suspended=state.suspended,
        available_pico=available_pico,
        held_pico=state.held_pico,
        limits=tuple(limits),
        budgets=state.budgets,
        overrides=tuple(msgspec.structs.replace(override, limits={}) for override in state.overrides),
        finished_at=state.finished_at,
    )
