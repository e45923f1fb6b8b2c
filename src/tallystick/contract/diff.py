"""What changed between two contracts, in words: terms, not lines of text.

Plans are compared whole, with what they inherit, so that a change of a parent shows in each plan it reaches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from tallystick.contract.describe import action_terms, contract_terms, plan_terms
from tallystick.contract.model import Contract, Plan

Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One term that differs: where it stands, and what it said before and says after (None: nothing)."""

    path: str
    old: str | None
    new: str | None

    @property
    def kind(self) -> Kind:
        """Whether the term came, went or became another."""
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "changed"

    def sentence(self) -> str:
        """The change in one line."""
        if self.old is None:
            return f"{self.path}: added: {self.new}"
        if self.new is None:
            return f"{self.path}: removed; it was: {self.old}"
        return f"{self.path}: {self.old} → {self.new}"


def diff_contracts(old: Contract, new: Contract) -> tuple[Change, ...]:
    """Every term that differs, in the order of the file's parts. Nothing when they promise the same."""
    return (
        *_terms("", contract_terms(old), contract_terms(new)),
        *_group("actions", _actions(old), _actions(new)),
        *_group("plans", _plans(old), _plans(new)),
    )


def concerned(change: Change, old: Contract, new: Contract) -> tuple[str, ...]:
    """The plans whose customers a change is about, in the order of the contracts; none for a label, such as `version`.

    A plan that is in one of the two only is concerned by its own coming or going alone.
    """
    part, _, name = change.path.partition(".")
    term = ""
    if part == "plans":
        return (_named(name, {*old.plans, *new.plans}),)
    if part == "actions":
        path, name = name, _named(name, {*old.actions, *new.actions})
        term = path[len(name) + 1 :]
    both = [(name, old.plans[name], new.plans[name]) for name in old.plans if name in new.plans]
    return tuple(plan for plan, *terms in both if any(_is_about(part, name, term, one) for one in terms))


def _named(path: str, names: Collection[str]) -> str:
    """The one of the names that the path begins with; names may have dots, as paths have."""
    return max((name for name in names if path == name or path.startswith(f"{name}.")), key=len)


_OF_WALLETS = ("price", "charge_on", "repeat", "max_credits")
"""The terms of an action that say nothing where no credits are charged."""


def _is_about(part: str, name: str, term: str, plan: Plan) -> bool:
    """Whether a change of that part of the contract reaches the plan's customers."""
    match part:
        case "actions":
            offered = plan.actions is None or name in plan.actions
            return offered and (plan.has_wallet or term not in _OF_WALLETS)
        case "meters":
            counted = {meter for limit in plan.limits for meter in limit.meters}
            return name in counted or any(name in (meter, *price.includes) for meter, price in plan.prices.items())
        case "credit" | "refunds":
            return plan.has_wallet
        case "enforcement":
            return plan.enforcement is None
        case "environments" | "holds" | "currency" | "seller" | "invoicing" | "disputes":
            return True
    return False


def _actions(contract: Contract) -> dict[str, dict[str, str]]:
    return {name: action_terms(action) for name, action in contract.actions.items()}


def _plans(contract: Contract) -> dict[str, dict[str, str]]:
    return {name: plan_terms(plan) for name, plan in contract.plans.items()}


def _group(path: str, old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]) -> list[Change]:
    changes: list[Change] = []
    for name in [*old, *(name for name in new if name not in old)]:
        here = f"{path}.{name}"
        if name not in new:
            changes.append(Change(here, _summary(old[name]), None))
        elif name not in old:
            changes.append(Change(here, None, _summary(new[name])))
        else:
            changes.extend(_terms(f"{here}.", old[name], new[name]))
    return changes


def _terms(prefix: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    names = [*old, *(name for name in new if name not in old)]
    pairs = ((name, old.get(name), new.get(name)) for name in names)
    return [Change(f"{prefix}{name}", before, after) for name, before, after in pairs if before != after]


def _summary(terms: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {text}" for name, text in terms.items())
