"""What the policy needs of a contract and one of its plans, worked out once and kept."""

from __future__ import annotations

from functools import lru_cache

from tallystick.contract.model import Contract, Enforcement, Limit, ModelRules, Plan
from tallystick.contract.shapes import CostPlus

MODELS_KEPT = 4096
"""How many models' answers are kept for each pattern list; callers choose the names."""


class LimitTerms:
    """One limit of a plan, ready to be compared with what is used."""

    __slots__ = ("called", "hard", "limit", "max", "meters", "name", "warnings")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.meters = limit.meters
        self.max = limit.max
        self.hard = limit.kind == "hard"
        self.name = limit_name(limit)
        self.called = limit_called(limit)
        # Largest first: the first one that is reached is the one to tell of.
        self.warnings = tuple((share, share.numerator, share.denominator) for share in reversed(limit.warn_at))


class Terms:
    """A contract's plan as the policy reads it. `plan` is None when the contract has none of that name."""

    __slots__ = ("actions", "contract", "cost_priced", "enforcement", "limits", "name", "plan", "uncharged")

    def __init__(self, contract: Contract, name: str) -> None:
        plan = contract.plans.get(name)
        self.contract = contract
        self.name = name
        self.plan: Plan | None = plan
        self.actions: frozenset[str] | None = None
        self.limits: tuple[LimitTerms, ...] = ()
        self.enforcement: Enforcement = contract.enforcement
        self.uncharged = frozenset(name for name, terms in contract.environments.items() if not terms.charge)
        self.cost_priced: frozenset[str] = frozenset()
        if plan is not None:
            self.actions = None if plan.actions is None else frozenset(plan.actions)
            self.limits = tuple(LimitTerms(limit) for limit in plan.limits)
            self.enforcement = plan.enforcement or contract.enforcement
            shares = [(meter, price) for meter, price in plan.prices.items() if isinstance(price.shape, CostPlus)]
            self.cost_priced = frozenset(name for meter, price in shares for name in (meter, *price.includes))


@lru_cache(maxsize=1024)
def terms_of(contract: Contract, name: str) -> Terms:
    """The terms of that plan of the contract."""
    return Terms(contract, name)


def limit_name(limit: Limit) -> str:
    """What decisions call a limit: its meters and its window."""
    return f"{'+'.join(limit.meters)} per {limit.per}"


def limit_called(limit: Limit) -> str:
    """What tells a limit from the plan's others in whichever place it stands: its name, and whether it is hard."""
    return f"{limit_name(limit)}, {limit.kind}"


@lru_cache(maxsize=MODELS_KEPT)
def model_allowed(rules: ModelRules, model: str) -> bool:
    """Whether the rules allow the model; `deny` wins, and an empty `allow` allows all.

    `deny` does not tell capitals apart, and is compared with the name after its vendor (`vendor/name`), too: prices are
    found, and providers answer, however a name is written, and what is denied would be had for a capital letter.
    """
    if _is_denied(rules, model):
        return False
    return not rules.allow or matches(rules.allow, model)


def _is_denied(rules: ModelRules, model: str) -> bool:
    patterns, name = tuple([pattern.lower() for pattern in rules.deny]), model.lower()
    return matches(patterns, name) or ("/" in name and matches(patterns, name.rpartition("/")[2]))


def matches(patterns: tuple[str, ...], model: str) -> bool:
    """Whether the name fits one of the patterns: `*` is any run of characters, all else stands for itself."""
    return any(_fits(pattern.split("*"), model) for pattern in patterns)


def _fits(parts: list[str], model: str) -> bool:
    # Not a regular expression: callers choose the name, and one with many stars could be made to search for hours.
    if len(parts) == 1:
        return model == parts[0]
    first, *middle, last = parts
    if not model.startswith(first):
        return False
    at = len(first)
    for part in middle:
        at = model.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(model) - len(last) >= at and model.endswith(last)


def plain_models(rules: ModelRules) -> tuple[str, ...]:
    """The allowed models that the rules name outright."""
    return tuple(name for name in rules.allow if "*" not in name and not _is_denied(rules, name))
