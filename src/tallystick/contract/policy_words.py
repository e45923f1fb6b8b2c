"""The sentence of a decision, for a person; it tells only of the org that asks."""

from __future__ import annotations

from tallystick.contract.charging import credits_text
from tallystick.contract.decision import LimitLooked, OrgState, Request
from tallystick.contract.policy_reasons import Finding
from tallystick.contract.policy_terms import Terms
from tallystick.core.money import pico_to_usd

QUOTED_MAX = 100
"""How many characters of what a caller sent are repeated."""


def allowed_message(terms: Terms, request: Request, found: Finding) -> str:
    """What an allowed request is charged."""
    if request.environment in terms.uncharged:
        return f"Allowed; {quoted(request.environment)} is metered, and never billed."
    if terms.plan is None or not terms.plan.has_wallet:
        return "Allowed."
    if found.quote.repeat:
        return f"Allowed; the same work again: {credits_text(found.quote.credits_pico)}."
    return f"Allowed; {credits_text(found.quote.credits_pico)}{_at_most(terms, request)}."


def message(terms: Terms, state: OrgState, request: Request, found: Finding) -> str:
    """Why the request is denied."""
    plan = terms.plan
    if plan is None:
        return f"The contract has no plan {quoted(terms.name)}." if terms.name else "The org is on no plan."
    match found.code:
        case "org_suspended":
            said = f"The org is suspended: {quoted(state.suspended or '')}."
        case "unknown_action":
            said = f"The contract has no action {quoted(request.action or '')}."
        case "action_not_in_plan":
            title = terms.contract.actions[request.action or ""].title
            said = f"The plan {plan.title} does not include the action {title!r}."
        case "model_not_in_plan":
            said = f"The plan {plan.title} does not include the model {quoted(request.model or '')}."
        case "unpriced_model":
            said = f"The price of {_model(request)} is not known, and what this would cost must be."
        case "hard_limit_reached" | "budget_exceeded":
            said = _passed(plan.title, found.passed) if found.passed is not None else "A limit is reached."
        case _:
            needed, available = found.quote.reserve_pico, state.available_pico
            held = f", and {credits_text(state.held_pico)} held for work that is under way" if state.held_pico else ""
            which = "" if plan.top_up else ", and the plan cannot be topped up"
            said = f"This needs {credits_text(needed)}; available: {credits_text(available)}{held}{which}."
    return said


def quoted(text: str) -> str:
    """What a caller sent, quoted, and no longer than a sentence bears."""
    return repr(text if len(text) <= QUOTED_MAX else f"{text[:QUOTED_MAX]}…")


def _model(request: Request) -> str:
    return "this" if request.model is None else f"the model {quoted(request.model)}"


def _at_most(terms: Terms, request: Request) -> str:
    action = None if request.action is None else terms.contract.actions.get(request.action)
    return " at most" if action is not None and action.cost_plus is not None else ""


def _passed(plan_title: str, one: LimitLooked) -> str:
    money = one.what == "budget"
    used, most = _amount(one.used, money), _amount(one.max, money)
    held = f" and {_amount(one.held, money)} held" if one.held else ""
    asked = f"; this asks for {_amount(one.requested, money)}" if one.requested else ""
    whose = f"The budget {quoted(one.name)} allows" if money else f"The plan {plan_title} allows"
    what = f" per {one.per}" if money else f" {one.name.replace('+', ' + ')}"
    return f"{whose} {most}{what}: {used} are used{held}{asked}."


def _amount(value: int, money: bool) -> str:
    return f"{pico_to_usd(value)} USD" if money else f"{value:,}"
