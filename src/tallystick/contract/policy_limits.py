"""Limits and budgets: how far each is used, and whether the request would pass it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction

from tallystick.contract.charging import credits_charge_pico, usage_charge_pico
from tallystick.contract.decision import BudgetUse, LimitLooked, LimitUse, OrgState, Override, Quote, Request
from tallystick.contract.policy_terms import LimitTerms, Terms

LIFTED = -1
"""The `max` of a limit that an override has lifted."""
_ALL = Fraction(1)


class Looked:
    """What the look at limits or budgets found: each of them, the first hard one passed, the overrides that helped."""

    __slots__ = ("all", "helped", "passed")

    def __init__(self) -> None:
        self.all: list[LimitLooked] = []
        self.passed: LimitLooked | None = None
        self.helped: list[int] = []


def look_at_limits(terms: Terms, state: OrgState, request: Request) -> Looked:
    """Every limit that the request touches: those of a meter that it names; all of them when it names none.

    A hard one is passed when the request is known to take more than is left, or names no meters and nothing is
    left. An override that raises a limit never lowers it.
    """
    looked = Looked()
    meters = request.meters
    count = len(terms.limits)
    for use in state.limits:
        if use.index >= count:
            continue
        limit = terms.limits[use.index]
        requested = 0
        if meters:
            named = [meters[meter] for meter in limit.meters if meter in meters]
            if not named:
                continue
            requested = sum(named)
        most, seq = limit.max, None
        if state.overrides:
            most, seq = _raised(terms.name, state, use.index, limit)
        one = _look(limit, use, requested, most, bool(meters))
        looked.all.append(one)
        if not limit.hard:
            continue
        if one.exceeded:
            looked.passed = looked.passed or one
        elif seq is not None and _passes(use.used + use.held, requested, limit.max, bool(meters)):
            looked.helped.append(seq)
    return looked


def raised_to(override: Override, plan: str, index: int, called: str) -> int | None:
    """What the override says of a limit of that plan, by its place and `limit_called`; None when it says nothing."""
    if override.plan not in {None, plan}:
        return None
    if not override.limit_names:
        return override.limits.get(index)
    return next((most for place, most in override.limits.items() if override.limit_names.get(place) == called), None)


def _raised(plan: str, state: OrgState, index: int, limit: LimitTerms) -> tuple[int, int | None]:
    """The most generous of the plan's figure and what the overrides say, and the override's sequence."""
    most = limit.max
    seq: int | None = None
    for override in state.overrides:
        raised = raised_to(override, plan, index, limit.called)
        if raised is None or most == LIFTED:
            continue
        if raised == LIFTED or raised > most:
            most, seq = raised, override.seq
    return most, seq


def _passes(taken: int, requested: int, most: int, known: bool) -> bool:
    if most == LIFTED:
        return False
    if known:
        return requested > 0 and taken + requested > most
    return taken >= most > 0


def _look(limit: LimitTerms, use: LimitUse, requested: int, most: int, known: bool) -> LimitLooked:
    taken = use.used + use.held
    after = taken + requested
    warned: Fraction | None = None
    if limit.warnings and after > 0 and most >= 0:
        for share, numerator, denominator in limit.warnings:
            if after * denominator >= most * numerator:
                warned = share
                break
    return LimitLooked(
        name=limit.name,
        what="limit",
        kind="hard" if limit.hard else "soft",
        per=limit.limit.per,
        used=use.used,
        held=use.held,
        requested=requested,
        max=most,
        exceeded=_passes(taken, requested, most, known),
        resets_at=use.resets_at,
        warned_at=warned,
    )


def look_at_budgets(terms: Terms, state: OrgState, request: Request, quoted: Quote) -> Looked:
    """Every budget of the state; where the environment is not charged, only those of our cost.

    A hard one is passed as a limit is. What the request takes of a budget is not known when a model may be called
    and no quantities are named; a budget of nothing then lets nothing pass.
    """
    looked = Looked()
    cost_pico, charge_pico = reserved_amounts(terms, request, quoted)
    for use in state.budgets:
        budget = use.budget
        if budget.of == "charge":
            if request.environment in terms.uncharged:
                continue
            known = bool(request.meters) or (terms.plan is not None and terms.plan.has_wallet)
            one = _look_at_budget(use, charge_pico, known)
        else:
            known = bool(request.meters) or request.payer == "customer"
            one = _look_at_budget(use, cost_pico, known)
        looked.all.append(one)
        if one.exceeded and budget.kind == "hard":
            seq = next((override.seq for override in state.overrides if override.allow_overspend), None)
            if seq is None:
                looked.passed = looked.passed or one
            else:
                looked.helped.append(seq)
    return looked


def _look_at_budget(use: BudgetUse, requested: int, known: bool) -> LimitLooked:
    budget = use.budget
    taken = use.used_pico + use.held_pico
    after = taken + requested
    exceeded = (
        requested > 0 and after > budget.max_pico if known else after > budget.max_pico or taken >= budget.max_pico
    )
    return LimitLooked(
        name=budget.name,
        what="budget",
        kind=budget.kind,
        per=budget.per,
        used=use.used_pico,
        held=use.held_pico,
        requested=requested,
        max=budget.max_pico,
        exceeded=exceeded,
        resets_at=use.resets_at,
        warned_at=_ALL if after > 0 and after >= budget.max_pico else None,
    )


def reserved_amounts(terms: Terms, request: Request, quoted: Quote) -> tuple[int, int]:
    """What a hold reserves from budgets, in pico-USD: of our cost, and of the charge to the customer.

    The charge is what the reserved credits are worth; on a plan whose quantities have prices, what `usage_charge_pico`
    makes of the quantities that the request names. Nothing is charged in an environment that is not.
    """
    cost_pico = quoted.worst_cost_pico or 0
    plan = terms.plan
    if plan is None or request.environment in terms.uncharged:
        return cost_pico, 0
    charge_pico = credits_charge_pico(terms.contract, quoted.reserve_pico) if quoted.reserve_pico else 0
    if plan.prices and request.meters:
        charge_pico += usage_charge_pico(plan, dict(request.meters), cost_pico)
    return cost_pico, charge_pico


def hard_passed(looked: tuple[LimitLooked, ...]) -> Iterator[LimitLooked]:
    """The hard limits and budgets among these that the request would pass."""
    return (one for one in looked if one.exceeded and one.kind == "hard")


def free_again_at(looked: tuple[LimitLooked, ...]) -> datetime | None:
    """When every hard limit and budget that is passed has begun anew.

    None when none is passed, or when no wait helps: one has no room for the request even when nothing of it is used.
    """
    passed = list(hard_passed(looked))
    if not passed or any(one.requested > one.max or one.max == 0 for one in passed):
        return None
    return max(one.resets_at for one in passed)
