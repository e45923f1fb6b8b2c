"""The price list of an org's plan, as its customer sees it: each action, what it costs, and whether the plan has it."""

from __future__ import annotations

from typing import Any

from tallystick.app.account_terms import account_terms
from tallystick.app.answer_parts import pico_to_credits
from tallystick.app.runtime import Runtime
from tallystick.contract.customer_view import ActionView, action_views
from tallystick.core.money import format_decimal


def list_actions(runtime: Runtime, org_id: str) -> dict[str, Any]:
    """Every action of the contract as the org's plan has it, in the contract's order, and under which terms.

    Raises:
        BadInput: the id cannot be one.
        NotFound: `unknown_org`, `no_plan_in_force`.
    """
    terms = account_terms(runtime, org_id)
    contract, plan = terms.contract, terms.plan
    credit = contract.credit
    return {
        "org_id": org_id,
        "contract": contract.name,
        "contract_version": contract.version,
        "contract_sha256": contract.sha256,
        "plan": plan.name,
        "plan_title": plan.title,
        "credit": None if credit is None else {"name": credit.name, "usd": format_decimal(credit.usd)},
        "actions": [_members(view) for view in action_views(contract, plan.name)],
    }


def _members(view: ActionView) -> dict[str, Any]:
    return {
        "action": view.action,
        "title": view.title,
        "price": view.price,
        "credits": None if view.credits_pico is None else pico_to_credits(view.credits_pico),
        "max_credits": pico_to_credits(view.max_credits_pico),
        "charge_on": list(view.charge_on),
        "repeat": view.repeat,
        "shows": view.shows,
        "in_plan": view.in_plan,
        "upgrade_to": view.upgrade_to,
    }
