"""What an action is charged, in credits: the quote before it, and the charge once its outcome is known.

Both follow the same rules, so that what was promised is what is charged. Credits are integers of pico-credits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import assert_never

import msgspec

from tallystick.contract.decision import OrgState, Quote, Request
from tallystick.contract.model import Action, Contract, Plan
from tallystick.contract.shapes import CostPlus, Graduated, Package, PerUnit, Shape, Volume
from tallystick.contract.words import duration, percent
from tallystick.core.money import PICO_PER_USD
from tallystick.usage.event import Outcome

PICO_PER_CREDIT = 10**12


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a settlement charges.

    Attributes:
        charged_pico: all of it.
        beyond_pico: how much of that exceeds the hold; more than nothing only where the plan allows overage.
        rounding_pico: how much of it is only the rounding up to whole credits.
        why: a sentence for the customer.
    """

    charged_pico: int
    beyond_pico: int
    rounding_pico: int
    why: str


def credits_text(pico: int) -> str:
    """Pico-credits for a person: `5 credits`, `1 credit`, `0.5 credits`."""
    whole, rest = divmod(abs(pico), PICO_PER_CREDIT)
    decimals = f".{rest:012d}".rstrip("0") if rest else ""
    noun = "credit" if whole == 1 and not rest else "credits"
    return f"{'-' if pico < 0 else ''}{whole:,}{decimals} {noun}"


def is_repeat(action: Action, state: OrgState, request: Request) -> bool:
    """Whether the request is for the same finished work again."""
    return request.work_key is not None and is_repeat_of(action, state.finished_at, state.now)


def is_repeat_of(action: Action | None, finished_at: datetime | None, now: datetime) -> bool:
    """Whether work that was finished then is done again within the time in which the contract prices that apart."""
    if action is None or action.repeat is None or finished_at is None:
        return False
    return now - finished_at < action.repeat.within


def quote(contract: Contract, plan: Plan | None, state: OrgState, request: Request) -> Quote:
    """What the request would be charged, and what is held for it.

    Nothing where no wallet pays: on a plan without one, in an environment that is not charged, without an action.
    Of a `cost_plus` action the worst case is held: the price of what the request says it costs us at most, or
    `max_credits` when that is less, or when the request says nothing.
    """
    ours = request.payer == "seller"
    worst_cost_pico = request.worst_cost_pico if ours else 0
    action = None if request.action is None or plan is None else contract.actions.get(request.action)
    if action is None or plan is None or not plan.has_wallet or not contract.charges(request.environment):
        return Quote(
            credits_pico=0,
            reserve_pico=0,
            worst_cost_pico=worst_cost_pico,
            shows=None if action is None else action.shows,
        )
    repeat = is_repeat(action, state, request)
    if repeat and action.repeat is not None:
        credits_pico = action.repeat.credits * PICO_PER_CREDIT
    elif action.cost_plus is None:
        credits_pico = (action.credits or 0) * PICO_PER_CREDIT
    elif not ours:
        credits_pico = 0
    else:
        credits_pico = (action.max_credits or 0) * PICO_PER_CREDIT
        if worst_cost_pico:
            credits_pico = min(
                credits_pico, _whole_credits_pico(_cost_plus_pico(contract, action.name, worst_cost_pico))
            )
    return Quote(
        credits_pico=credits_pico,
        reserve_pico=credits_pico,
        worst_cost_pico=worst_cost_pico,
        repeat=repeat,
        shows=action.shows,
    )


def charge_credits(
    contract: Contract,
    plan: str,
    action: str | None,
    *,
    outcome: Outcome,
    environment: str,
    cost_pico: int,
    priced: bool,
    repeat: bool,
    held_pico: int,
) -> Charge:
    """What settling a hold charges; never more than the hold, but for overage that the plan allows.

    Args:
        plan: the plan under which the hold was made.
        action: the hold's action.
        outcome: what became of the work; what `charge_on` does not name is not charged.
        environment: the hold's; one that is not charged is not charged here either.
        cost_pico: what the work cost us, in pico-USD: its priced usage that we pay for.
        priced: whether all of that usage has a price. What has none is not charged: its price is not known, and
            a customer is charged what can be shown.
        repeat: whether the same work was finished before, within the action's `repeat.within`.
        held_pico: what the hold reserved.
    """
    terms = contract.plans.get(plan)
    known = None if action is None else contract.actions.get(action)
    if known is None or terms is None:
        return _nothing("Nothing is charged in credits: no action of the contract was used.")
    why_free = _why_free(contract, terms, known, outcome, environment)
    if why_free is not None:
        return _nothing(why_free)
    if repeat and known.repeat is not None:
        price_pico = known.repeat.credits * PICO_PER_CREDIT
        again = f"the same {known.repeat.key} again within {duration(known.repeat.within)}"
        return _capped(price_pico, held_pico, f"{credits_text(min(price_pico, held_pico))}: {again}.")
    if known.cost_plus is None:
        price_pico = (known.credits or 0) * PICO_PER_CREDIT
        return _capped(price_pico, held_pico, f"{credits_text(min(price_pico, held_pico))} for {known.title!r}.")
    return _charge_cost_plus(contract, known, cost_pico, priced, held_pico, terms.overage)


def _why_free(contract: Contract, plan: Plan, action: Action, outcome: Outcome, environment: str) -> str | None:
    if not plan.has_wallet:
        return f"Nothing is charged in credits: the plan {plan.title} has no wallet."
    if not contract.charges(environment):
        return f"Nothing is charged: {environment} is metered, and never billed."
    if outcome not in action.charge_on:
        return f"Nothing is charged: the outcome is {outcome}, and that is not charged for."
    return None


def _charge_cost_plus(
    contract: Contract, action: Action, cost_pico: int, priced: bool, held_pico: int, overage: bool
) -> Charge:
    exact_pico = _cost_plus_pico(contract, action.name, cost_pico)
    ceiling_pico = (action.max_credits or 0) * PICO_PER_CREDIT
    most_pico = ceiling_pico if overage else min(ceiling_pico, held_pico)
    whole_pico = _whole_credits_pico(exact_pico)
    charged_pico = min(whole_pico, most_pico)
    share = percent(action.cost_plus or Fraction(0))
    why = f"{credits_text(charged_pico)}: the cost of the work and {share}, in whole credits"
    if charged_pico < whole_pico:
        bound = "the most that the action is ever charged" if charged_pico == ceiling_pico else "what was reserved"
        why += f", and never more than {bound}"
    if not priced:
        why += "; some of it has no price yet, and is not charged"
    return Charge(
        charged_pico=charged_pico,
        beyond_pico=max(0, charged_pico - held_pico),
        rounding_pico=max(0, charged_pico - exact_pico),
        why=why + ".",
    )


def _nothing(why: str) -> Charge:
    return Charge(charged_pico=0, beyond_pico=0, rounding_pico=0, why=why)


def _capped(price_pico: int, held_pico: int, why: str) -> Charge:
    return Charge(charged_pico=min(price_pico, held_pico), beyond_pico=0, rounding_pico=0, why=why)


def _cost_plus_pico(contract: Contract, action: str, cost_pico: int) -> int:
    """Our cost and the action's share of it, in pico-credits; a fraction of one is rounded up."""
    numerator, denominator = _credits_per_usd(contract, action)
    return -(-cost_pico * numerator // denominator)


@lru_cache(maxsize=4096)
def _credits_per_usd(contract: Contract, action: str) -> tuple[int, int]:
    """How many credits a `cost_plus` action takes for each USD that it costs us, as a ratio of integers."""
    share = contract.actions[action].cost_plus
    if contract.credit is None or share is None:
        return 0, 1
    return ((1 + share) / contract.credit.usd).as_integer_ratio()


def _whole_credits_pico(exact_pico: int) -> int:
    return -(-exact_pico // PICO_PER_CREDIT) * PICO_PER_CREDIT


def credits_charge_pico(contract: Contract, credits_pico: int) -> int:
    """What so many pico-credits are worth in pico-USD, rounded up: what budgets of charges count of them."""
    if contract.credit is None:
        return 0
    worth = contract.credit.usd
    return -(-credits_pico * worth.numerator // worth.denominator)


def usage_charge_pico(plan: Plan, quantities: dict[str, int], cost_pico: int) -> int:
    """What one entry's usage counts towards budgets of charges, in pico-USD: a guard's figure, not an invoice's.

    Each meter counts at the dearest unit price of its tiers, rounded up to whole pico-USD a unit, without free units
    and flat fees, so that the figure is the same in whatever order entries come and never less than what tiers charge.
    Where a meter of the entry is priced as a share of its cost, the entry's whole cost and that share counts.
    """
    total = 0
    share: Fraction | None = None
    for meter, rate in unit_charges(plan).items():
        if quantity := quantities.get(meter, 0):
            if isinstance(rate, int):
                total += quantity * rate
            else:
                share = rate if share is None else max(share, rate)
    return total if share is None else total + math.ceil(cost_pico * (1 + share))


def cost_charge_pico(plan: Plan, meters: Iterable[str], cost_pico: int) -> int:
    """What a change of the cost of an entry with these meters changes of `usage_charge_pico`, in pico-USD."""
    rates = unit_charges(plan)
    shares = [rate for meter in meters if isinstance(rate := rates.get(meter), Fraction)]
    return math.ceil(cost_pico * (1 + max(shares))) if shares else 0


def unit_charges(plan: Plan) -> dict[str, int | Fraction]:
    """By meter, what `usage_charge_pico` counts: whole pico-USD a unit, or the share on top of our cost."""
    return {
        name: _unit_charge(price.shape) for meter, price in plan.prices.items() for name in (meter, *price.includes)
    }


def _unit_charge(shape: Shape) -> int | Fraction:
    match shape:
        case PerUnit(unit_usd, per):
            dearest = unit_usd / per
        case Package(size, price_usd, _):
            dearest = price_usd / size
        case Graduated(tiers) | Volume(tiers):
            dearest = max(tier.unit_usd / tier.per for tier in tiers)
        case CostPlus(share):
            return share
        case unknown:
            assert_never(unknown)
    return math.ceil(dearest * PICO_PER_USD)
