"""The actions as a customer on a plan sees them: what each costs there, and whether the plan has it."""

from __future__ import annotations

import msgspec

from tallystick.contract.charging import PICO_PER_CREDIT
from tallystick.contract.describe import action_price, repeat_words
from tallystick.contract.model import Action, Contract, Plan
from tallystick.contract.price_list import find_plan
from tallystick.usage.event import Outcome


class ActionView(msgspec.Struct, frozen=True, kw_only=True):
    """One action, for a customer.

    Attributes:
        price: what it costs on this plan, in words.
        credits_pico: its price when that is known beforehand; None for one that follows the cost of the work.
        max_credits_pico: the most that it ever takes of the wallet.
        charge_on: the outcomes that are charged; any other gives the credits back. None are on a plan without a wallet.
        repeat: what doing the same work again costs, in words; None where that is not priced apart.
        shows: the contract's own sentence about it.
        in_plan: whether the plan has it.
        upgrade_to: the nearest plan up the chain of upgrades that has it, when this one does not.
    """

    action: str
    title: str
    price: str
    credits_pico: int | None
    max_credits_pico: int
    charge_on: tuple[Outcome, ...]
    repeat: str | None
    shows: str | None
    in_plan: bool
    upgrade_to: str | None


def action_views(contract: Contract, plan: str) -> tuple[ActionView, ...]:
    """Every action of the contract as the plan has it, in the contract's order.

    Raises:
        BadInput: `unknown_plan`.
    """
    terms = find_plan(contract, plan)
    return tuple(_view(contract, terms, action) for action in contract.actions.values())


def _view(contract: Contract, plan: Plan, action: Action) -> ActionView:
    in_plan = _has(plan, action.name)
    paid = plan.has_wallet
    fixed = action.cost_plus is None
    most = (action.credits if fixed else action.max_credits) or 0
    return ActionView(
        action=action.name,
        title=action.title,
        price=action_price(action) if paid else "no credits; the plan's own prices hold for what it uses",
        credits_pico=((action.credits or 0) * PICO_PER_CREDIT if fixed else None) if paid else 0,
        max_credits_pico=most * PICO_PER_CREDIT if paid else 0,
        charge_on=action.charge_on if paid else (),
        repeat=repeat_words(action.repeat) if paid and action.repeat is not None else None,
        shows=action.shows,
        in_plan=in_plan,
        upgrade_to=None if in_plan else _upgrade_with(contract, plan, action.name),
    )


def _has(plan: Plan, action: str) -> bool:
    return plan.actions is None or action in plan.actions


def _upgrade_with(contract: Contract, plan: Plan, action: str) -> str | None:
    seen = {plan.name}
    name = plan.upgrade_to
    while name is not None and name not in seen:
        seen.add(name)
        other = contract.plans[name]
        if _has(other, action):
            return name
        name = other.upgrade_to
    return None
