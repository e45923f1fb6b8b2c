"""Warnings: what a contract may say, and probably does not mean. None of them stops a contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tallystick.contract.model import COST_ADJUSTMENT, Contract, Plan, Price
from tallystick.contract.shapes import CostPlus, Graduated, Volume
from tallystick.contract.words import number
from tallystick.usage.meters import METERS

_USUAL_TOKENS = (
    "tokens_in", "tokens_out", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip
_NAMED_MAX = 5

AdviceCode = Literal[
    "unused_meter", "unused_action", "nothing_shown", "tokens_not_charged", "never_applies", "upgrade_circle",
    "cost_left_out", "overage_never_applies", "repeat_costs_more",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Advice:
    """One warning: `keys` lead to what it is about, `code` is for programs, `sentence` for people."""

    keys: tuple[str, ...]
    code: AdviceCode
    sentence: str

    @property
    def path(self) -> str:
        """The keys as errors write them."""
        return ".".join(self.keys)


def advise(contract: Contract) -> tuple[Advice, ...]:
    """Every warning about the contract, in the order of its parts."""
    return (
        *_unused_meters(contract),
        *_actions(contract),
        *(advice for plan in contract.plans.values() for advice in _plan(plan, contract)),
    )


def _unused_meters(contract: Contract) -> Iterator[Advice]:
    used = {meter for plan in contract.plans.values() for limit in plan.limits for meter in limit.meters}
    used = used.union(*(_charged(plan) for plan in contract.plans.values()))
    for meter in contract.meters:
        if meter not in used:
            yield Advice(("meters", meter), "unused_meter", f"no plan prices or limits {meter}; it is only counted")


def _actions(contract: Contract) -> Iterator[Advice]:
    # A plan that names no actions offers all of them, when it has a wallet to pay for them.
    wallets = [plan for plan in contract.plans.values() if plan.kind != "usage" or plan.actions is not None]
    offered = {name for plan in wallets for name in (contract.actions if plan.actions is None else plan.actions)}
    for name, action in contract.actions.items():
        if name not in offered:
            yield Advice(("actions", name), "unused_action", f"no plan offers {name}, so that nobody may use it")
        if action.shows is None:
            yield Advice(("actions", name), "nothing_shown", f"{name} has no `shows`: customers cannot read its price")
        price = action.credits if action.max_credits is None else action.max_credits
        if action.repeat is not None and action.repeat.credits > (price or 0):
            sentence = f"doing the same work again costs {number(action.repeat.credits)} credits, more than at first"
            yield Advice(("actions", name, "repeat", "credits"), "repeat_costs_more", sentence)


def _plan(plan: Plan, contract: Contract) -> Iterator[Advice]:
    keys = ("plans", plan.name)
    parent = None if plan.extends is None else contract.plans[plan.extends]
    # A plan that only passes its parent's gap on would repeat its parent's warning.
    if parent is None or _uncharged_tokens(parent) != _uncharged_tokens(plan):
        yield from _tokens(plan, keys)
    if parent is None or (parent.prices, parent.limits) != (plan.prices, plan.limits):
        for meter, price in plan.prices.items():
            yield from _out_of_reach(plan, meter, price, keys)
    if parent is None or parent.prices != plan.prices:
        yield from _cost_left_out(plan, keys)
    yield from _overage(plan, contract, keys)
    yield from _upgrades(plan, contract, keys)


def _cost_left_out(plan: Plan, keys: tuple[str, ...]) -> Iterator[Advice]:
    """Prices that are a share of our cost, and miss the part of it that is on no meter."""
    shares = [meter for meter, price in plan.prices.items() if isinstance(price.shape, CostPlus)]
    if shares and COST_ADJUSTMENT not in _charged(plan):
        sentence = (
            f"where a provider states its own cost, what it adds to the list prices is {COST_ADJUSTMENT}; "
            "name it in one `includes` to charge it too"
        )
        yield Advice((*keys, "prices", shares[0]), "cost_left_out", sentence)


def _overage(plan: Plan, contract: Contract, keys: tuple[str, ...]) -> Iterator[Advice]:
    """Only what a `cost_plus` action costs can exceed what was held for it."""
    offered = contract.actions if plan.actions is None else plan.actions
    if plan.overage and all(contract.actions[name].cost_plus is None for name in offered):
        sentence = "none of the plan's actions is priced by its cost, so that nothing can exceed what is held for it"
        yield Advice((*keys, "overage"), "overage_never_applies", sentence)


def _upgrades(plan: Plan, contract: Contract, keys: tuple[str, ...]) -> Iterator[Advice]:
    chain = {plan.name: None}  # a dict, because it keeps the order and finds a name at once
    following = plan.upgrade_to
    while following is not None and following not in chain:
        chain[following] = None
        following = contract.plans[following].upgrade_to
    if following == plan.name:
        circle = " → ".join([*chain, plan.name])
        yield Advice((*keys, "upgrade_to"), "upgrade_circle", f"upgrades lead back to where they began: {circle}")


def _charged(plan: Plan) -> set[str]:
    return {name for meter, price in plan.prices.items() for name in (meter, *price.includes)}


def _uncharged_tokens(plan: Plan) -> list[str]:
    """The classes of tokens that a plan which charges for tokens leaves out, the most usual ones first."""
    charged = _charged(plan)
    tokens = [name for name, meter in METERS.items() if meter.unit == "token"]
    if not charged.intersection(tokens):
        return []
    ordered = [*_USUAL_TOKENS, *(name for name in tokens if name not in _USUAL_TOKENS)]
    return [name for name in ordered if name not in charged]


def _tokens(plan: Plan, keys: tuple[str, ...]) -> Iterator[Advice]:
    left = _uncharged_tokens(plan)
    if left:
        more = f" and {len(left) - _NAMED_MAX} more classes" if len(left) > _NAMED_MAX else ""
        sentence = (
            f"providers report {', '.join(left[:_NAMED_MAX])}{more} apart from the priced tokens; without a price they "
            "are shown and not charged. Name them in a price's `includes` to charge them"
        )
        yield Advice((*keys, "prices"), "tokens_not_charged", sentence)


def _out_of_reach(plan: Plan, meter: str, price: Price, keys: tuple[str, ...]) -> Iterator[Advice]:
    """A price, or a tier of it, that a hard limit keeps from ever applying."""
    ceilings = [limit for limit in plan.limits if limit.kind == "hard" and meter in limit.meters]
    if price.includes:  # what is folded in may reach the price although the meter itself cannot
        return
    if any(limit.max == 0 for limit in ceilings):
        yield Advice((*keys, "prices", meter), "never_applies", f"a hard limit of 0 keeps {meter} from ever being used")
        return
    monthly = min((limit.max for limit in ceilings if limit.per == "month"), default=None)
    if monthly is None or not isinstance(price.shape, Graduated | Volume):
        return
    for position, tier in enumerate(price.shape.tiers[:-1], start=2):
        if tier.up_to is not None and tier.up_to >= monthly:
            sentence = f"tier {position} is above the hard limit of {number(monthly)} a month, and never applies"
            yield Advice((*keys, "prices", meter), "never_applies", sentence)
            return
